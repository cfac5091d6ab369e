"""Llama as GGUF with scaled rotary positions: `llama3` as the tensor `rope_freqs.weight`, `linear` as metadata."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, LLAMA3, out_dir, random_weights, run, write_expected
from common_gguf import VOCAB_SIZE, tiny_tokenizer, write_gguf
from transformers import AutoModelForCausalLM, LlamaConfig

SIZES = LLAMA | {"vocab_size": VOCAB_SIZE, "intermediate_size": 40, "num_hidden_layers": 2, "head_dim": 8}
SCALED = {
    "llama3": LLAMA3,
    "linear": {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}},
}

out, ids = out_dir(__file__), torch.arange(5, VOCAB_SIZE, 16)[None]
tensors = {"input_ids": ids}
for name, scaled in SCALED.items():
    config = LlamaConfig(**SIZES | scaled)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    random_weights(model, seed=1)
    write_gguf(out / f"{name}.gguf", model, tiny_tokenizer(), "F32")
    tensors |= {f"{name}.{part}": value for part, value in run(model, ids).items()}
    model.model.rotary_emb.inv_freq *= 1.01
    assert (run(model, ids)["logits"] - tensors[f"{name}.logits"]).abs().max() > 0.01, "the frequencies hardly matter"
write_expected(out / "expected.safetensors", tensors)
