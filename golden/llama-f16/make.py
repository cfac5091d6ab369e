"""Llama stored in float16, tied, run in float32."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, golden
from transformers import LlamaConfig

golden(__file__, LlamaConfig(**LLAMA, tie_word_embeddings=True), seed=2, dtype=torch.float16)
