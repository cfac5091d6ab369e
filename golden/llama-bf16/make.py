"""Llama stored in bfloat16, run in float32 and in bfloat16."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, golden
from transformers import LlamaConfig

golden(__file__, LlamaConfig(**LLAMA), seed=1, dtype=torch.bfloat16, also=torch.bfloat16)
