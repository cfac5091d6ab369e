"""Direct preference optimisation of a LoRA adapter on Llama: one loss and its gradient, in plain torch."""

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import check_close, out_dir, write_expected
from common_lora import (
    LLAMA_PROJECTIONS,
    examples,
    make_adapter,
    notes,
    report,
    target_log_probs,
    with_adapter,
    write_tensors,
)
from peft import PeftModel
from peft.utils import get_peft_model_state_dict

CASE = "llama-gqa-tied"
BETA = 0.1
LENGTH = 12


def sides(left: bool) -> dict[str, dict[str, torch.Tensor]]:
    """Four prompts, each with a reply that is preferred and one that is not."""
    stream = np.random.Generator(np.random.PCG64(2))
    chosen, rejected = [], []
    for _ in range(4):
        prompt = stream.integers(3, 96, stream.integers(1, 5)).tolist()
        for texts in (chosen, rejected):
            texts.append((prompt, stream.integers(3, 96, stream.integers(1, LENGTH - len(prompt) + 1)).tolist()))
    return {"chosen": examples(chosen, LENGTH, left), "rejected": examples(rejected, LENGTH, left)}


def dpo(model: PeftModel, batches: dict) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The numbers of the README, and the gradients by the names of the adapter's file."""
    found = {}
    for side, batch in batches.items():
        with model.disable_adapter():
            found[f"{side}.reference_log_probs"] = target_log_probs(model, batch)
        with torch.enable_grad():
            found[f"{side}.policy_log_probs"] = target_log_probs(model, batch)
    with torch.enable_grad():
        for side in batches:
            found[f"{side}.rewards"] = BETA * (
                found[f"{side}.policy_log_probs"] - found[f"{side}.reference_log_probs"]
            )
        found["margins"] = found["chosen.rewards"] - found["rejected.rewards"]
        found["losses"] = -torch.nn.functional.logsigmoid(found["margins"])
        found["loss"] = found["losses"].mean()
        found["loss"].backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if "lora_" in name}
    return found, get_peft_model_state_dict(model, state_dict=gradients, save_embedding_layers=False)


torch.use_deterministic_algorithms(True)
out = out_dir(__file__)
make_adapter(out / "adapter", CASE, seed=2, r=4, lora_alpha=8, target_modules=LLAMA_PROJECTIONS)
batches = sides(left=True)
found, gradients = dpo(with_adapter(CASE, out / "adapter", trainable=True), batches)

# In float64, padded on the other side.
exact, exact_gradients = dpo(with_adapter(CASE, out / "adapter", torch.float64, trainable=True), sides(left=False))
for name, value in (found | gradients).items():
    check_close(f"the float32 {name} against float64", value, (exact | exact_gradients)[name], share=0.5)
assert found["margins"].min() < -0.1 and found["margins"].max() > 0.1, "margins of both signs are wanted"
weakest = min(gradient.abs().max() for gradient in gradients.values())
assert weakest > 1e-3, f"a gradient of at most {weakest:.1e}: the case would not notice its absence"

tensors = {f"{side}.{name}": value for side, batch in batches.items() for name, value in batch.items()}
write_expected(out / "expected.safetensors", tensors | found, **notes(CASE))
write_tensors(out / "gradients.safetensors", gradients)
print(f"loss {found['loss']:.4f}, margins {[round(margin, 3) for margin in found['margins'].tolist()]}")
report(out)
