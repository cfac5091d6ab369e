"""What every golden case shares: a tiny random model and the numbers Hugging Face transformers computes with it.

A case is a folder with a `make.py` of a few lines: a configuration, a seed, the way the folder is saved. `golden` builds
the model, saves it as a Hugging Face folder (`model/`), loads that folder again, and writes what the loaded model
computes to `expected.safetensors`. `README.md` beside this file lists the tensors.

Everything runs in float32 with eager attention, the plainest code there is in transformers: no fused kernel, softmax in
float32. A case can also state a second run dtype.
"""

import argparse
import json
import math
import shutil
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from edits import blocks, edited_head
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

logging.disable_progress_bar()
torch.set_num_threads(1)
torch.set_grad_enabled(False)

# The bound of a tiny model's f32 run, the same as in lm-testkit: |found - expected| <= ABSOLUTE + RELATIVE * |expected|.
ABSOLUTE, RELATIVE = 1e-5, 1e-4
# A greedy step counts only where the best token leads the second by at least this much.
GREEDY_MARGIN = 1e-2

# Small enough for git, and every size differs from every other, so that a swapped axis can't go unnoticed. `PLAIN` is
# what every family has.
PLAIN = dict(
    vocab_size=96,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=128,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=None,
)
LLAMA = PLAIN | dict(
    intermediate_size=56,
    num_hidden_layers=3,
    num_key_value_heads=2,
    rms_norm_eps=1e-5,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
)
# The families that differ from Llama in a few places.
LIKE_LLAMA = LLAMA | {"num_hidden_layers": 2}
# Llama 3.1's scheme at a size where 8-wide heads have a kept (6, 30 positions a turn), a blended (140) and a slowed
# frequency (664); shared by two cases that must agree.
LLAMA3 = {
    "max_position_embeddings": 512,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    },
}


def out_dir(script: str) -> Path:
    """The folder to write to: `--out DIR`, else the script's own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path(script).resolve().parent, help="folder to write to")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    return out


def random_weights(model: PreTrainedModel, seed: int) -> None:
    """Fills every parameter, in order of its name, so that activations stay near 1 and no bias or norm weight is trivial.

    numpy's generator: unlike torch's, its stream is fixed across versions.
    """
    stream = np.random.Generator(np.random.PCG64(seed))
    modules = dict(model.named_modules())
    # Gemma multiplies by one more than the norm weight it stores, and its embeddings by the square root of the width.
    gemma = model.config.model_type.startswith("gemma")
    norm_centre, embedding_scale = (0.0, 0.15) if gemma else (1.0, 0.4)
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.from_numpy(stream.standard_normal(tuple(parameter.shape), dtype=np.float32))
        owner = modules[name.rpartition(".")[0]]
        if parameter.dim() == 1:
            parameter.copy_(0.3 * noise if name.endswith("bias") else norm_centre + 0.3 * noise)
        elif owner is model.get_input_embeddings():
            parameter.copy_(embedding_scale * noise)
        elif isinstance(owner, torch.nn.Embedding):  # learned positions
            parameter.copy_(0.2 * noise)
        else:
            inputs = parameter.shape[0 if isinstance(owner, Conv1D) else -1]
            parameter.copy_(1.2 / math.sqrt(inputs) * noise)


def old_dialect(config: dict, rope_key: str = "rope_type") -> dict:
    """`config.json` as transformers wrote it before version 5: `rope_theta`, `rope_scaling`, `torch_dtype`."""
    config = dict(config)
    rope = dict(config.pop("rope_parameters"))
    for key in ("rope_theta", "partial_rotary_factor"):
        if key in rope:
            config[key] = rope.pop(key)
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {rope_key: kind, **rope}
    config["torch_dtype"] = config.pop("dtype")
    config["transformers_version"] = "4.31.0" if rope_key == "type" else "4.43.0"
    return dict(sorted(config.items()))


@contextmanager
def captured(model: PreTrainedModel):
    """Collects the residual stream: the first block's input, each block's output, the unembedding's input."""
    seen = {"hidden": [], "final_norm": None}

    def first(_, args, kwargs):
        seen["hidden"].append((args[0] if args else kwargs["hidden_states"]).clone())

    def after(_, args, output):
        seen["hidden"].append((output[0] if isinstance(output, tuple) else output).clone())

    def last(_, args):
        seen["final_norm"] = args[0].clone()

    stack = blocks(model)
    handles = [stack[0].register_forward_pre_hook(first, with_kwargs=True)]
    handles += [block.register_forward_hook(after) for block in stack]
    handles += [model.get_output_embeddings().register_forward_pre_hook(last)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def run(model: PreTrainedModel, ids: torch.Tensor, **inputs) -> dict[str, torch.Tensor]:
    """One forward pass over `ids` [batch, position]: logits, residual stream [block + 1, …], output of the final norm."""
    with captured(model) as seen:
        logits = model(input_ids=ids, **inputs).logits
    return {"logits": logits, "hidden": torch.stack(seen["hidden"]), "final_norm": seen["final_norm"]}


def run_in_parts(model: PreTrainedModel, ids: torch.Tensor, cuts: list[int]) -> dict[str, torch.Tensor]:
    """The same through the KV cache, cut before the positions `cuts`; results joined along the positions."""
    cache = DynamicCache(config=model.config)
    parts = [run(model, part, past_key_values=cache, use_cache=True) for part in torch.tensor_split(ids, cuts, dim=1)]
    return {name: torch.cat([part[name] for part in parts], dim=-2) for name in parts[0]}


def run_padded(model: PreTrainedModel, rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """A left-padded batch of unequal rows. Values at padding are set to zero: no engine has to agree on them."""
    longest = max(len(row) for row in rows)
    # The padding id is an ordinary token of the vocabulary: a mask that leaks shows.
    ids = torch.full((len(rows), longest), 3)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = row
        mask[i, longest - len(row) :] = 1
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    result = run(model, ids, attention_mask=mask, position_ids=positions)
    real = mask.bool()[..., None]
    result = {name: torch.where(real, value, 0.0) for name, value in result.items()}
    for i, row in enumerate(rows):
        alone = run(model, row[None])
        check_close(f"row {i} of the padded batch", result["logits"][i, longest - len(row) :], alone["logits"][0])
    return {"input_ids": ids, "lengths": mask.sum(-1), **result}


def greedy(model: PreTrainedModel, ids: torch.Tensor, count: int = 16) -> torch.Tensor:
    """`count` greedy tokens by `generate`; the end-of-sequence id must not come up, and no step may be near a tie."""
    out = model.generate(
        ids, max_new_tokens=count, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    tokens = out.sequences[0, ids.shape[1] :]
    assert len(tokens) == count, "an end-of-sequence id came up: choose another seed"
    best = torch.stack(out.logits)[:, 0].float().topk(2).values
    margin = (best[:, 0] - best[:, 1]).min().item()
    assert margin > GREEDY_MARGIN, f"a greedy step is nearly a tie ({margin:.1e}): choose another seed"
    assert len(tokens.unique()) > 3, "the greedy tokens only repeat: choose another seed"
    return tokens


def check_close(what: str, found: torch.Tensor, expected: torch.Tensor, share: float = 1.0) -> None:
    """transformers must agree with itself, within a `share` of the bound, before anyone is asked to agree with it."""
    used = ((found - expected).abs() / (ABSOLUTE + RELATIVE * expected.abs())).max()
    assert used <= share, f"{what} uses {used:.2f} of the bound, {share} allowed: choose another seed"


def load(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The saved folder, as a user would load it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def expectations(model: PreTrainedModel, seed: int, length: int = 16, parts_agree: bool = True) -> dict[str, torch.Tensor]:
    """Every run of a case, by the names of the README."""
    # A model with dynamic rotary scaling remembers the longest text it saw: every run starts from a copy that saw none.
    fresh = partial(deepcopy, model)
    stream = np.random.Generator(np.random.PCG64([seed, 1]))
    ids = torch.from_numpy(stream.integers(3, model.config.vocab_size, (1, length)))
    whole = run(fresh(), ids)
    split = run_in_parts(fresh(), ids, [length * 3 // 8])
    steps = run_in_parts(fresh(), ids, list(range(1, length)))
    if parts_agree:
        check_close("the split run", split["logits"], whole["logits"])
        check_close("the run by single tokens", steps["logits"], whole["logits"])

    # Heads that are neither the first of the model nor, with grouped queries, of the same KV head.
    layer, head, factor, eps = model.config.num_hidden_layers - 1, model.config.num_attention_heads - 1, 0.25, 1e-2
    with edited_head(edited := fresh(), 0, head, output=factor):
        scaled = run(edited, ids)
    with edited_head(edited := fresh(), 0, head, query=0.0):
        uniform = run(edited, ids)
    with edited_head(edited := fresh(), layer, head - 1, query=eps):
        near_uniform = run(edited, ids)
    for name, changed in (("head_scaled", scaled), ("head_uniform", uniform), ("head_near_uniform", near_uniform)):
        moved = (changed["logits"] - whole["logits"]).abs().max()
        assert moved > 0.05, f"{name} moves the logits by {moved:.1e} only: the case would not notice its absence"

    rows = [torch.from_numpy(stream.integers(3, model.config.vocab_size, n)) for n in (5, 11, 8)]
    runs = {
        "whole": {"input_ids": ids, **whole},
        "padded": run_padded(fresh(), rows),
        "split": {"at": torch.tensor([length * 3 // 8]), **split},
        "steps": steps,
        "head_scaled": {"head": torch.tensor([0, head]), "factor": torch.tensor([factor]), **scaled},
        "head_uniform": {"head": torch.tensor([0, head]), "eps": torch.tensor([0.0]), **uniform},
        "head_near_uniform": {"head": torch.tensor([layer, head - 1]), "eps": torch.tensor([eps]), **near_uniform},
        "greedy": {"tokens": greedy(fresh(), ids)},
    }
    return {f"{name}.{part}": value for name, values in runs.items() for part, value in values.items()}


def write_expected(path: Path, tensors: dict[str, torch.Tensor], **notes: str) -> None:
    """Integers as i64, the rest as f32. The file's metadata says what computed it."""
    arrays = {}
    for name, value in tensors.items():
        value = value.detach().contiguous()
        arrays[name] = (value.float() if value.is_floating_point() else value.long()).numpy()
    made_by = {name: version(name) for name in ("torch", "transformers", "numpy")}
    save_file(arrays, path, metadata={**made_by, "attention": "eager", "dtype": "float32", **notes})


def save_model(
    config: PreTrainedConfig,
    seed: int,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    shard_size: str = "5GB",
    edit_config=None,
) -> None:
    """A tiny random model of `config`, saved as a Hugging Face folder; `edit_config` rewrites the saved `config.json`."""
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    random_weights(model, seed)
    shutil.rmtree(folder, ignore_errors=True)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard_size)
    if edit_config is not None:
        path = folder / "config.json"
        path.write_text(json.dumps(edit_config(json.loads(path.read_text())), indent=2) + "\n")


def check_matters(model: PreTrainedModel, what: str, changes: dict, ids: torch.Tensor, logits: torch.Tensor) -> None:
    """The weights under a configuration without `what` must lead elsewhere: else the case proves nothing of it."""
    config = deepcopy(model.config)
    for key, value in changes.items():
        setattr(config, key, value)
    without = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    # Not strict: what is left out may own weights. None may be missing.
    missing = without.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert not missing, f"without {what} there are new weights: {missing}"
    moved = (run(without, ids)["logits"] - logits).abs().max()
    assert moved > 0.05, f"{what} moves the logits by {moved:.1e} only: the case would not notice its absence"
    print(f"{what} moves the logits by {moved:.2f}")


def golden(
    script: str,
    config: PreTrainedConfig,
    seed: int,
    *,
    also: torch.dtype | None = None,
    parts_agree: bool = True,
    matters: dict[str, dict] | None = None,
    **saving,
) -> None:
    """Writes one case. `also` adds a run of the whole prompt in that dtype, under the dtype's name.

    `parts_agree=False`: the model itself computes something else when the prompt comes in parts. `matters` names what
    the case is about, with the settings that leave it out: the logits must then be others.
    """
    out = out_dir(script)
    save_model(config, seed, out / "model", **saving)
    tensors = expectations(load(out / "model"), seed, parts_agree=parts_agree)
    for what, changes in (matters or {}).items():
        check_matters(load(out / "model"), what, changes, tensors["whole.input_ids"], tensors["whole.logits"])
    exact = run(load(out / "model", torch.float64), tensors["whole.input_ids"])
    for part, value in exact.items():
        check_close(f"the float32 {part} against float64", tensors[f"whole.{part}"], value, share=0.5)
    if also is not None:
        name = str(also).removeprefix("torch.")
        rounded = run(load(out / "model", also), tensors["whole.input_ids"])
        tensors |= {f"{name}.{part}": value for part, value in rounded.items()}
        drift = (rounded["logits"].float() - tensors["whole.logits"]).abs().max()
        print(f"{name} differs from float32 by at most {drift:.2e} in the logits")
    write_expected(out / "expected.safetensors", tensors)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out.name}: {len(tensors)} tensors, {size / 1000:.0f} kB, greedy {tensors['greedy.tokens'].tolist()}")
