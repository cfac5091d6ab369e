"""Phi with LayerNorms on query and key, and grouped queries."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden
from transformers import PhiConfig

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}

config = PhiConfig(
    **PLAIN,
    intermediate_size=56,
    num_key_value_heads=2,
    qk_layernorm=True,
    rope_parameters=ROPE,
)
golden(
    __file__,
    config,
    seed=2,
    also=torch.bfloat16,
    matters={"the norm of query and key": {"qk_layernorm": False}},
)
