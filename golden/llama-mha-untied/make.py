"""Llama as it was first: as many KV heads as heads, its own unembedding, `config.json` of early transformers 4."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, golden, old_dialect
from transformers import LlamaConfig


def first_llama(config: dict) -> dict:
    """Leaves out what the first files lack: readers must know the defaults."""
    config = old_dialect(config)
    for key in ("head_dim", "attention_bias", "mlp_bias", "attention_dropout", "num_key_value_heads"):
        del config[key]
    return config


rope = {"rope_type": "default", "rope_theta": 500000.0}
config = LlamaConfig(**LLAMA | {"num_key_value_heads": 4, "rope_parameters": rope})
golden(__file__, config, seed=3, edit_config=first_llama)
