"""Gemma: scaled embeddings, norm weights as offsets of 1, tanh-approximated GELU, wide heads, `config.json` of
transformers 4.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden, old_dialect
from transformers import GemmaConfig

config = GemmaConfig(**LIKE_LLAMA, head_dim=12)
golden(
    __file__,
    config,
    seed=5,
    also=torch.bfloat16,
    edit_config=old_dialect,
)
