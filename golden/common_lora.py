"""What the LoRA cases share: an adapter on the model of another case, saved by PEFT, and the logits under it."""

import math
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from common import check_close, load, out_dir, run_padded, write_expected
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

GOLDEN = Path(__file__).resolve().parent
LLAMA_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# What leaving out one matrix, one of the parts fused in it, or a scaling must move a logit by.
MOVES = 0.05
# Rows of a fused matrix, by module and part.
Fused = dict[str, dict[str, slice | torch.Tensor]]


def base_folder(case: str) -> Path:
    """The model of another case: its weights are not stored twice."""
    return GOLDEN / case / "model"


def notes(case: str) -> dict[str, str]:
    """Metadata of `expected.safetensors`: the base model, from the folder of the file."""
    return {"peft": version("peft"), "base": f"../{case}/model"}


def save_adapter(model: PeftModel, folder: Path, case: str) -> None:
    """The folder as PEFT saves it, less its model card."""
    config = model.peft_config["default"]
    config.base_model_name_or_path = f"../{case}/model"
    if not isinstance(config.target_modules, str):
        # A set until here; its order differs from run to run.
        config.target_modules = sorted(config.target_modules)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()


def make_adapter(folder: Path, case: str, seed: int, *, a: float = 1.0, b: float = 0.05, **settings) -> None:
    """Saves an adapter of seeded normal numbers: A with the deviation `a / sqrt(inputs)`, B with `b`."""
    config = LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **settings)
    model = get_peft_model(load(base_folder(case)), config)
    stream = np.random.Generator(np.random.PCG64(seed))
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            noise = torch.from_numpy(stream.standard_normal(tuple(parameter.shape), dtype=np.float32))
            scale = a / math.sqrt(parameter.shape[1]) if "lora_A" in name else b
            parameter.copy_(scale * noise if scale else torch.zeros_like(noise))
    save_adapter(model, folder, case)


def with_adapter(case: str, folder: Path, dtype: torch.dtype = torch.float32, trainable: bool = False) -> PeftModel:
    """The saved adapter on the saved base model, as a user would load them."""
    model = PeftModel.from_pretrained(load(base_folder(case), dtype), folder, is_trainable=trainable)
    # PEFT holds an adapter in float32 whatever the model is in.
    return model.to(dtype).eval()


def lora_layers(model: PreTrainedModel) -> dict[str, LoraLayer]:
    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def check_moves(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    moved = (found - expected).abs().max()
    assert moved > MOVES, f"{what} moves the logits by {moved:.3f} only: the case would not notice its absence"


def check_parts(model: PeftModel, rows: list[torch.Tensor], logits: torch.Tensor, fused: Fused) -> None:
    """Each adapted matrix must matter, each part of a fused one, and each scaling that is not `lora_alpha / r`."""
    config, plain = model.peft_config["default"], model.get_base_model()
    for name, layer in lora_layers(plain).items():
        b, scaling = layer.lora_B["default"].weight, layer.scaling["default"]
        kept = b.clone()
        for part, of_part in {"all of it": slice(None), **fused.get(name.rpartition(".")[2], {})}.items():
            b[of_part] = 0.0
            check_moves(f"{name}, {part},", run_padded(plain, rows)["logits"], logits)
            b.copy_(kept)
        if scaling != config.lora_alpha / config.r:
            layer.scaling["default"] = config.lora_alpha / config.r
            check_moves(f"the scaling of {name}", run_padded(plain, rows)["logits"], logits)
            layer.scaling["default"] = scaling


def padded_rows(case: str) -> list[torch.Tensor]:
    """The rows of the base case's padded batch, without their padding."""
    expected = load_file(GOLDEN / case / "expected.safetensors")
    ids, lengths = expected["padded.input_ids"], expected["padded.lengths"]
    return [row[len(row) - n :] for row, n in zip(ids, lengths.tolist(), strict=True)]


def run_alone(model: PreTrainedModel, row: torch.Tensor, longest: int) -> torch.Tensor:
    """Logits of one row by itself, as they stand in the padded batch: zero at padding."""
    logits = model(input_ids=row[None]).logits[0]
    return torch.nn.functional.pad(logits, (0, 0, longest - len(row), 0))


def base_run(case: str) -> dict[str, torch.Tensor]:
    """`input_ids`, `lengths` and `base.logits`: those of the base case."""
    found = run_padded(load(base_folder(case)), padded_rows(case))
    expected = load_file(GOLDEN / case / "expected.safetensors")
    assert torch.equal(found["input_ids"], expected["padded.input_ids"])
    check_close("the base model against its own case", found["logits"], expected["padded.logits"])
    return {"input_ids": found["input_ids"], "lengths": found["lengths"], "base.logits": found["logits"]}


def adapter_run(case: str, folder: Path, base: torch.Tensor, fused: Fused | None = None) -> dict[str, torch.Tensor]:
    """`<folder's name>.logits` and `.merged`, after the checks that the README lists."""
    rows, name = padded_rows(case), folder.name
    model = with_adapter(case, folder)
    logits = run_padded(model.get_base_model(), rows)["logits"]
    check_moves(name, logits, base)
    check_parts(model, rows, logits, fused or {})
    merged = run_padded(model.merge_and_unload(), rows)["logits"]
    check_close(f"{name} merged", merged, logits)
    # Row by row: transformers' mask of a padded row is no number once its float64 meets the softmax in float32.
    double = with_adapter(case, folder, torch.float64)
    exact = torch.stack([run_alone(double, row, logits.shape[1]) for row in rows])
    for what, found in (("logits", logits), ("merged", merged)):
        check_close(f"the float32 {what} of {name} against float64", found, exact, share=0.5)
    print(f"{name} moves the logits by {(logits - base).abs().max():.2f}")
    return {f"{name}.logits": logits, f"{name}.merged": merged}


def write_tensors(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Tensors by the names of `adapter_model.safetensors`."""
    save_file({name: value.float().contiguous() for name, value in tensors.items()}, path, metadata={"format": "pt"})


def report(out: Path) -> None:
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert size < 300_000, f"{size} bytes: too large"
    print(f"{out.name}: {size / 1000:.0f} kB")


def golden_lora(script: str, case: str, seed: int, fused: Fused, **settings) -> None:
    """Writes a case of one adapter on the model of `case`."""
    out = out_dir(script)
    make_adapter(out / "adapter", case, seed, **settings)
    tensors = base_run(case)
    tensors |= adapter_run(case, out / "adapter", tensors["base.logits"], fused)
    write_expected(out / "expected.safetensors", tensors, **notes(case))
    report(out)


def padded(rows: list[list[int]], length: int, left: bool = True, fill: int = 0) -> torch.Tensor:
    """Rows side by side, [row, position]."""
    short = [[fill] * (length - len(row)) for row in rows]
    return torch.tensor([pad + row if left else row + pad for row, pad in zip(rows, short, strict=True)])


def examples(texts: list[tuple[list[int], list[int]]], length: int, left: bool = True) -> dict[str, torch.Tensor]:
    """Prompts and replies as `input_ids`, `attention_mask` and `target_mask`: 1 at the tokens of the replies."""
    return {
        # Padding is an ordinary token of the vocabulary: a mask that leaks shows.
        "input_ids": padded([prompt + reply for prompt, reply in texts], length, left, fill=3),
        "attention_mask": padded([[1] * len(prompt + reply) for prompt, reply in texts], length, left),
        "target_mask": padded([[0] * len(prompt) + [1] * len(reply) for prompt, reply in texts], length, left),
    }


def positions(mask: torch.Tensor) -> torch.Tensor:
    """From 0 at the first real token."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


def target_log_probs(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Log-probability of each row's target tokens, each given the tokens before it, summed: [row]."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions(mask)).logits
    of_next = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return (of_next * batch["target_mask"][:, 1:]).sum(-1)
