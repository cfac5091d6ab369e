"""GPT-J: attention and MLP side by side, interleaved rotary embedding of a part of each head."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden
from transformers import GPTJConfig

config = GPTJConfig(**PLAIN, n_inner=56, rotary_dim=4)
golden(
    __file__,
    config,
    seed=2,
    also=torch.bfloat16,
    matters={"the part that is not rotated": {"rotary_dim": 8}},
)
