"""Llama with YaRN's rotary frequencies, all settings given."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden
from transformers import LlamaConfig

ROPE = {
    "rope_type": "yarn",
    "rope_theta": 500.0,
    "factor": 4.0,
    "original_max_position_embeddings": 256,
    "beta_fast": 12.0,
    "beta_slow": 1.5,
    "mscale": 2.0,
    "mscale_all_dim": 0.5,
    "truncate": False,
}
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 500.0}

config = LlamaConfig(**LIKE_LLAMA | dict(max_position_embeddings=1024, rope_parameters=ROPE))
golden(
    __file__,
    config,
    seed=1,
    also=torch.bfloat16,
    matters={
        "the scaling": {"rope_parameters": PLAIN_ROPE},
        "the mscale": {"rope_parameters": ROPE | {"mscale": None}},
        "the exact ramp": {"rope_parameters": ROPE | {"truncate": True}},
        "the betas": {"rope_parameters": ROPE | {"beta_fast": 32.0, "beta_slow": 1.0}},
    },
)
