"""Falcon with attention before the MLP, a KV head for each head, biases."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden
from transformers import FalconConfig

config = FalconConfig(**PLAIN, ffn_hidden_size=56, multi_query=False, parallel_attn=False, bias=True)
golden(__file__, config, seed=2, also=torch.bfloat16)
