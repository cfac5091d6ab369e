"""Qwen2: biases of query, key and value; a full block and one with a sliding window."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden
from transformers import Qwen2Config

config = Qwen2Config(**LIKE_LLAMA, use_sliding_window=True, sliding_window=6, max_window_layers=1)
golden(
    __file__,
    config,
    seed=1,
    also=torch.bfloat16,
    matters={"the sliding window": {"layer_types": ["full_attention"] * 2}},
)
