"""Gemma 3 as GGUF: five local blocks and a global one, whose rotary positions are scaled."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA
from common_gguf import TOKENS, golden_gguf
from transformers import Gemma3TextConfig

ROPE = {
    "full_attention": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
}

config = Gemma3TextConfig(
    **LIKE_LLAMA
    | TOKENS
    | dict(
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=40,
        head_dim=12,
        query_pre_attn_scalar=12,
        sliding_window=6,
        layer_types=["sliding_attention"] * 5 + ["full_attention"],
        rope_parameters=ROPE,
    )
)
golden_gguf(
    __file__,
    config,
    seed=1,
    matters={
        "the sliding window": {"sliding_window": 99},
        "the scaling": {"rope_parameters": ROPE | {"full_attention": ROPE["full_attention"] | {"factor": 1.0}}},
        "the local base": {"rope_parameters": ROPE | {"sliding_attention": ROPE["full_attention"]}},
    },
)
