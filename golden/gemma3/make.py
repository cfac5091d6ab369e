"""Gemma 3 (text): local and global blocks with rotary bases of their own, scaled positions in the global ones, q/k
norm.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden
from transformers import Gemma3TextConfig

LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}

config = Gemma3TextConfig(
    **LIKE_LLAMA
    | dict(
        num_hidden_layers=3,
        head_dim=12,
        query_pre_attn_scalar=20,
        sliding_window=6,
        layer_types=LAYERS,
        rope_parameters=ROPE,
    )
)
golden(
    __file__,
    config,
    seed=15,
    also=torch.bfloat16,
    matters={
        "the sliding window": {"sliding_window": 99},
        "the scaling": {"rope_parameters": ROPE | {"full_attention": ROPE["full_attention"] | {"factor": 1.0}}},
        "the local base": {"rope_parameters": ROPE | {"sliding_attention": ROPE["full_attention"]}},
        "the scale of the scores": {"query_pre_attn_scalar": 12},
    },
)
