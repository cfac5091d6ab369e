"""Llama with YaRN's rotary frequencies, everything else by default, `config.json` of transformers 4."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden, old_dialect
from transformers import LlamaConfig

ROPE = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 256,
}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 500.0}

config = LlamaConfig(**LIKE_LLAMA | dict(max_position_embeddings=1024, rope_parameters=ROPE))
golden(
    __file__,
    config,
    seed=1,
    also=torch.bfloat16,
    edit_config=old_dialect,
    matters={
        "the scaling": {"rope_parameters": PLAIN_ROPE},
        "the attention factor": {"rope_parameters": ROPE | {"attention_factor": 1.0}},
    },
)
