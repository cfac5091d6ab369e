"""Phi-3 as GGUF: fused weights, `longrope` as two tensors, a prompt longer than the original context."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA
from common_gguf import TOKENS, golden_gguf
from transformers import Phi3Config

ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.3, 1.6],
    "long_factor": [1.2, 2.0, 3.5, 5.0],
    "original_max_position_embeddings": 12,
}

config = Phi3Config(
    **LIKE_LLAMA
    | TOKENS
    | dict(
        intermediate_size=40,
        original_max_position_embeddings=12,
        max_position_embeddings=48,
        rope_parameters=ROPE,
    )
)
golden_gguf(
    __file__,
    config,
    seed=1,
    matters={
        "the long factor": {"rope_parameters": ROPE | {"long_factor": ROPE["short_factor"]}},
        "the attention factor": {"rope_parameters": ROPE | {"attention_factor": 1.0}},
    },
)
