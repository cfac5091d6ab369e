"""Llama with `longrope`: the prompt is longer than the original context, the padded rows are not."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden
from transformers import LlamaConfig

ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "short_factor": [1.0, 1.1, 1.3, 1.6],
    "long_factor": [1.2, 2.0, 3.5, 5.0],
    "original_max_position_embeddings": 12,
}

config = LlamaConfig(**LIKE_LLAMA | dict(max_position_embeddings=48, rope_parameters=ROPE))
golden(
    __file__,
    config,
    seed=1,
    also=torch.bfloat16,
    parts_agree=False,
    matters={
        "the long factor": {"rope_parameters": ROPE | {"long_factor": ROPE["short_factor"]}},
        "the attention factor": {"rope_parameters": ROPE | {"attention_factor": 1.0}},
    },
)
