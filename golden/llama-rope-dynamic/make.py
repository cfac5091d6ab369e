"""Llama with dynamic NTK scaling: the prompt is longer than the context, the padded rows are not."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden, old_dialect
from transformers import LlamaConfig

ROPE = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 4.0}

config = LlamaConfig(**LIKE_LLAMA | dict(max_position_embeddings=12, rope_parameters=ROPE))
golden(
    __file__,
    config,
    seed=1,
    also=torch.bfloat16,
    parts_agree=False,
    edit_config=old_dialect,
    matters={"the scaling": {"rope_parameters": {"rope_type": "default", "rope_theta": 100.0}}},
)
