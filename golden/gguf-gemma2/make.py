"""Gemma 2 as GGUF: soft caps, the window of every other block, from the first on."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA
from common_gguf import TOKENS, golden_gguf
from transformers import Gemma2Config

config = Gemma2Config(
    **LIKE_LLAMA
    | TOKENS
    | dict(
        intermediate_size=40,
        head_dim=12,
        query_pre_attn_scalar=12,
        sliding_window=6,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=4.0,
    )
)
golden_gguf(
    __file__,
    config,
    seed=1,
    matters={
        "the sliding window": {"layer_types": ["full_attention"] * 2},
        "the soft cap of the scores": {"attn_logit_softcapping": None},
        "the soft cap of the logits": {"final_logit_softcapping": None},
    },
)
