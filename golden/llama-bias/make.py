"""Llama with biases in every projection of attention and MLP."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, golden
from transformers import LlamaConfig

golden(__file__, LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True), seed=1)
