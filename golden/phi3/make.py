"""Phi-3: fused query, key and value, fused gate and up, a sliding window."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden
from transformers import Phi3Config

config = Phi3Config(**LIKE_LLAMA, sliding_window=6)
golden(
    __file__,
    config,
    seed=1,
    also=torch.bfloat16,
    matters={"the sliding window": {"sliding_window": None}},
)
