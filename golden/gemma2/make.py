"""Gemma 2: soft caps, norms around attention and MLP, alternating sliding windows, its own scale of the scores."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden
from transformers import Gemma2Config

config = Gemma2Config(
    **LIKE_LLAMA,
    head_dim=12,
    query_pre_attn_scalar=20,
    sliding_window=6,
    attn_logit_softcapping=5.0,
    final_logit_softcapping=4.0,
)
golden(
    __file__,
    config,
    seed=1,
    also=torch.bfloat16,
    matters={
        "the sliding window": {"layer_types": ["full_attention"] * 2},
        "the soft cap of the scores": {"attn_logit_softcapping": None},
        "the soft cap of the logits": {"final_logit_softcapping": None},
        "the scale of the scores": {"query_pre_attn_scalar": 12},
    },
)
