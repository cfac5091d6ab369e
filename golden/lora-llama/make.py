"""LoRA on Llama: what an adapter's configuration can say, and two adapters at once."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import check_close, load, out_dir, run_padded, write_expected
from common_lora import (
    LLAMA_PROJECTIONS,
    adapter_run,
    base_folder,
    base_run,
    check_moves,
    make_adapter,
    notes,
    padded_rows,
    report,
    run_alone,
    with_adapter,
)

CASE = "llama-gqa-tied"
ADAPTERS = {
    "adapter": dict(r=3, lora_alpha=4, target_modules=LLAMA_PROJECTIONS),
    "qv": dict(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]),
    # The first pattern that matches counts, in the order of the saved file, where keys are sorted.
    "patterns": dict(
        r=4,
        lora_alpha=8,
        target_modules=LLAMA_PROJECTIONS,
        rank_pattern={"k_proj": 2, "v_proj": 3, "o_proj": 5, "gate_proj": 6, "up_proj": 7, "layers.0.mlp.down_proj": 1},
        alpha_pattern={
            "^model.layers.2.mlp.up_proj": 35,
            "k_proj": 6,
            "layers.1.self_attn.q_proj": 16,
            "q_proj": 2,
        },
    ),
    "rslora": dict(r=3, lora_alpha=3, target_modules=LLAMA_PROJECTIONS, use_rslora=True),
    "regex": dict(
        r=4,
        lora_alpha=8,
        target_modules=r"model\.layers\.[02]\.(self_attn\.[qo]_proj|mlp\.down_proj)",
        rank_pattern={r"layers\.0\..*": 2},
        alpha_pattern={r"self_attn\.(q|k)_proj": 12},
    ),
}


def one_adapter_a_row(out: Path, of_row: list[str | None]) -> torch.Tensor:
    """Each row by itself under its own adapter; PEFT's mixed batch must agree."""
    rows = padded_rows(CASE)
    longest = max(map(len, rows))
    models = [load(base_folder(CASE)) if name is None else with_adapter(CASE, out / name) for name in of_row]
    logits = torch.stack([run_alone(model, row, longest) for model, row in zip(models, rows, strict=True)])

    mixed = with_adapter(CASE, out / "adapter")
    mixed.load_adapter(out / "qv", "qv")
    names = [{None: "__base__", "adapter": "default"}.get(name, name) for name in of_row]
    mask = torch.stack([torch.arange(longest) >= longest - len(row) for row in rows])
    ids = torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0), value=3) for row in rows])
    found = mixed(input_ids=ids, attention_mask=mask.long(), adapter_names=names).logits
    check_close("PEFT's mixed batch", torch.where(mask[..., None], found, 0.0), logits)
    return logits


def both_at_once(out: Path) -> torch.Tensor:
    """`adapter` and `qv` on every row: what they add is added up."""
    model = with_adapter(CASE, out / "adapter")
    model.load_adapter(out / "qv", "qv")
    model.base_model.set_adapter(["default", "qv"])
    return run_padded(model.get_base_model(), padded_rows(CASE))["logits"]


out = out_dir(__file__)
tensors = base_run(CASE)
for seed, (name, settings) in enumerate(ADAPTERS.items()):
    make_adapter(out / name, CASE, seed, **settings)
    tensors |= adapter_run(CASE, out / name, tensors["base.logits"])

names = list(ADAPTERS)
of_row = ["adapter", "qv", None]
tensors["rows.adapter"] = torch.tensor([-1 if name is None else names.index(name) for name in of_row])
tensors["rows.logits"] = one_adapter_a_row(out, of_row)
tensors["both.logits"] = both_at_once(out)
for alone in ("adapter", "qv"):
    check_moves(f"both against {alone}", tensors["both.logits"], tensors[f"{alone}.logits"])
# The merged numbers of the other adapters say nothing new.
for name in names[1:]:
    del tensors[f"{name}.merged"]
write_expected(out / "expected.safetensors", tensors, **notes(CASE))
report(out)
