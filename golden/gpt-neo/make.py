"""GPT-Neo: a global and a local block, scores that are not scaled."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden
from transformers import GPTNeoConfig

config = GPTNeoConfig(
    **PLAIN,
    intermediate_size=56,
    attention_types=[[["global", "local"], 1]],
    window_size=6,
)
golden(
    __file__,
    config,
    seed=1,
    also=torch.bfloat16,
    matters={"the window": {"attention_layers": ["global"] * 2}},
)
