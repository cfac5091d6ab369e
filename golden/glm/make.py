"""GLM: interleaved rotary embedding of half of each head, biases of query, key and value, fused gate and up."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden
from transformers import GlmConfig

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}

config = GlmConfig(**LIKE_LLAMA | dict(head_dim=12, rope_parameters=ROPE))
golden(
    __file__,
    config,
    seed=5,
    also=torch.bfloat16,
    matters={"the part that is not rotated": {"rope_parameters": ROPE | {"partial_rotary_factor": 1.0}}},
)
