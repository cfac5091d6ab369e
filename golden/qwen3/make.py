"""Qwen3: norms on each head's query and key, heads wider than `hidden_size / num_attention_heads`, tied, transformers
4.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden, old_dialect
from transformers import Qwen3Config

config = Qwen3Config(**LIKE_LLAMA, head_dim=12, tie_word_embeddings=True)
golden(
    __file__,
    config,
    seed=3,
    also=torch.bfloat16,
    edit_config=old_dialect,
)
