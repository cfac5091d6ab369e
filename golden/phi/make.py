"""Phi: attention and MLP side by side, half-rotated heads, biases everywhere, `config.json` of transformers 4."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden, old_dialect
from transformers import PhiConfig

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}

config = PhiConfig(**PLAIN, intermediate_size=56, rope_parameters=ROPE)
golden(
    __file__,
    config,
    seed=1,
    also=torch.bfloat16,
    edit_config=old_dialect,
    matters={"the part that is not rotated": {"rope_parameters": ROPE | {"partial_rotary_factor": 1.0}}},
)
