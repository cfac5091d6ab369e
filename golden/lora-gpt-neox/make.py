"""LoRA on GPT-NeoX: one pair of matrices over query, key and value, which take turns head by head."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common_lora import golden_lora

# 4 heads, in each 8 rows of query, 8 of key and 8 of value.
query, key, value = torch.arange(96).view(4, 3, 8).transpose(0, 1).reshape(3, 32)

golden_lora(
    __file__,
    "gpt-neox",
    seed=3,
    fused={"query_key_value": {"query": query, "key": key, "value": value}},
    r=6,
    lora_alpha=10,
    target_modules=["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"],
)
