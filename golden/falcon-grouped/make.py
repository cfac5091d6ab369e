"""Falcon 40B's kind: grouped queries and a norm for each branch."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden
from transformers import FalconConfig

config = FalconConfig(**PLAIN, ffn_hidden_size=56, new_decoder_architecture=True, num_kv_heads=2)
golden(__file__, config, seed=3, also=torch.bfloat16)
