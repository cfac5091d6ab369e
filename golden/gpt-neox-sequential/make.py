"""GPT-NeoX with attention before the MLP, tied, without attention biases."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden
from transformers import GPTNeoXConfig

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}

config = GPTNeoXConfig(
    **PLAIN,
    intermediate_size=56,
    rope_parameters=ROPE,
    use_parallel_residual=False,
    attention_bias=False,
    tie_word_embeddings=True,
)
golden(
    __file__,
    config,
    seed=2,
    also=torch.bfloat16,
    matters={"the sequential residual": {"use_parallel_residual": True}},
)
