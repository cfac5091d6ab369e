"""Twenty steps of LoRA training on Llama, written out in plain torch; transformers' Trainer must find the same."""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import ABSOLUTE, RELATIVE, check_close, out_dir, write_expected
from common_lora import (
    LLAMA_PROJECTIONS,
    examples,
    make_adapter,
    notes,
    positions,
    report,
    save_adapter,
    target_log_probs,
    with_adapter,
)
from peft import PeftModel
from transformers import PrinterCallback, Trainer, TrainingArguments, get_cosine_schedule_with_warmup

CASE = "llama-gqa-tied"
LENGTH = 12
SETTINGS = {
    "steps": 20,
    "micro_batches": 2,
    "rows": 3,
    "peak_learning_rate": 0.02,
    "warmup_steps": 4,
    "beta1": 0.9,
    "beta2": 0.999,
    "eps": 1e-8,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
}
STEPS, MICRO, ROWS = (SETTINGS[name] for name in ("steps", "micro_batches", "rows"))


def texts(stream: np.random.Generator, count: int) -> list[tuple[list[int], list[int]]]:
    """Prompts of any tokens; replies of eight tokens only, so that there is something to learn."""
    made = []
    for _ in range(count):
        prompt = stream.integers(3, 96, stream.integers(1, 6)).tolist()
        reply = (10 * stream.integers(1, 9, stream.integers(1, LENGTH - len(prompt) + 1))).tolist()
        made.append((prompt, reply))
    return made


def held_out_loss(model: PeftModel, rows: list, left: bool) -> torch.Tensor:
    batch = examples(rows, LENGTH, left)
    return -target_log_probs(model, batch).sum() / batch["target_mask"].sum()


def train(model: PeftModel, *, left: bool = True, token_mean: bool = True, **changed) -> dict[str, torch.Tensor]:
    """Trains `model`. `left` is the side of the padding; without `token_mean`, each micro-batch counts the same."""
    settings = SETTINGS | changed
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        weights,
        lr=settings["peak_learning_rate"],
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["eps"],
        weight_decay=settings["weight_decay"],
        foreach=False,
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, settings["warmup_steps"], STEPS)
    before = held_out_loss(model, HELD_OUT, left)
    losses, norms, rates = [], [], []
    for step in DATA:
        batches = [examples(rows, LENGTH, left) for rows in step]
        counts = [batch["target_mask"].sum() for batch in batches]
        loss = torch.tensor(0.0, dtype=torch.float64)
        for batch, own in zip(batches, counts, strict=True):
            with torch.enable_grad():
                part = -target_log_probs(model, batch).sum() / (sum(counts) if token_mean else MICRO * own)
                part.backward()
            loss += part.detach()
        losses.append(loss)
        norms.append(torch.nn.utils.clip_grad_norm_(weights, settings["max_grad_norm"]))
        rates.append(torch.tensor(schedule.get_last_lr()[0], dtype=torch.float64))
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return {
        "losses": torch.stack(losses),
        "grad_norms": torch.stack(norms),
        "learning_rates": torch.stack(rates),
        "held_out.loss_before": before,
        "held_out.loss_after": held_out_loss(model, HELD_OUT, left),
    }


def trained(model: PeftModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach() for name, weight in model.named_parameters() if "lora_" in name}


def trainers_numbers(model: PeftModel) -> dict[str, torch.Tensor]:
    """The same by transformers' Trainer."""
    rows = []
    for batch in (examples(batch, LENGTH) for step in DATA for batch in step):
        batch["position_ids"] = positions(batch["attention_mask"])
        batch["labels"] = batch["input_ids"].where(batch.pop("target_mask").bool(), -100)
        rows += [{name: value[i] for name, value in batch.items()} for i in range(ROWS)]
    with TemporaryDirectory() as folder, torch.enable_grad():
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            per_device_train_batch_size=ROWS,
            gradient_accumulation_steps=MICRO,
            train_sampling_strategy="sequential",
            optim="adamw_torch",
            learning_rate=SETTINGS["peak_learning_rate"],
            lr_scheduler_type="cosine",
            warmup_steps=SETTINGS["warmup_steps"],
            adam_beta1=SETTINGS["beta1"],
            adam_beta2=SETTINGS["beta2"],
            adam_epsilon=SETTINGS["eps"],
            weight_decay=SETTINGS["weight_decay"],
            max_grad_norm=SETTINGS["max_grad_norm"],
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        trainer = Trainer(model, arguments, train_dataset=rows)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    names = {"losses": "loss", "grad_norms": "grad_norm", "learning_rates": "learning_rate"}
    return {ours: torch.tensor([log[name] for log in logs]) for ours, name in names.items()}


torch.use_deterministic_algorithms(True)
stream = np.random.Generator(np.random.PCG64(2))
DATA = [[texts(stream, ROWS) for _ in range(MICRO)] for _ in range(STEPS)]
HELD_OUT = texts(stream, 6)

out = out_dir(__file__)
# As training starts: B is zero.
make_adapter(out / "start", CASE, seed=1, a=0.1, b=0.0, r=4, lora_alpha=8, target_modules=LLAMA_PROJECTIONS)


def start(dtype: torch.dtype = torch.float32) -> PeftModel:
    return with_adapter(CASE, out / "start", dtype, trainable=True)


numbers = train(model := start())
save_adapter(model, out / "final", CASE)
found = numbers | trained(model)

# In float64, padded on the other side.
exact = train(model := start(torch.float64), left=False) | trained(model)
for name, value in found.items():
    check_close(f"the float32 {name} against float64", value, exact[name], share=0.1)
for name, value in (trainers_numbers(model := start()) | trained(model)).items():
    check_close(f"the Trainer's {name}", value, found[name])

variants = {
    "weight decay": {"weight_decay": 0.0},
    "the clipping": {"max_grad_norm": float("inf")},
    "the mean over the tokens of a step": {"token_mean": False},
}
for what, change in variants.items():
    train(model := start(), **change)
    changed = trained(model)
    off = min(((found[n] - w).abs() / (ABSOLUTE + RELATIVE * w.abs())).max() for n, w in changed.items())
    print(f"without {what}, every matrix is off by {off:.0f} times the bound or more")
    assert off > 3, f"a matrix does not show {what}: choose another seed"
norms = numbers["grad_norms"]
assert (norms > 1.3).any() and (norms < 0.7).any(), f"some steps must be clipped and some not: {norms}"
assert numbers["held_out.loss_after"] < numbers["held_out.loss_before"] - 0.5

steps = [[examples(rows, LENGTH) for rows in step] for step in DATA]
tensors = {name: torch.stack([torch.stack([batch[name] for batch in step]) for step in steps]) for name in steps[0][0]}
tensors |= {f"held_out.{name}": value for name, value in examples(HELD_OUT, LENGTH).items()}
write_expected(out / "expected.safetensors", tensors | numbers, **notes(CASE))
(out / "settings.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")
print("losses", [round(loss, 2) for loss in numbers["losses"].tolist()])
print("norms", [round(norm, 2) for norm in norms.tolist()])
print(f"held out {numbers['held_out.loss_before']:.2f}, after {numbers['held_out.loss_after']:.2f}")
report(out)
