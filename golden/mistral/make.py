"""Mistral: a sliding window shorter than the prompt, `config.json` of transformers 4."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden, old_dialect
from transformers import MistralConfig

config = MistralConfig(**LIKE_LLAMA, sliding_window=6)
golden(
    __file__,
    config,
    seed=4,
    also=torch.bfloat16,
    edit_config=old_dialect,
    matters={"the sliding window": {"sliding_window": None}},
)
