"""Falcon 7B's kind: one KV head, attention and MLP side by side after one norm, no biases."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden
from transformers import FalconConfig

golden(__file__, FalconConfig(**PLAIN, ffn_hidden_size=56), seed=1, also=torch.bfloat16)
