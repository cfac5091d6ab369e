"""Llama whose heads are wider than `hidden_size / num_attention_heads`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, golden
from transformers import LlamaConfig

golden(__file__, LlamaConfig(**LLAMA, head_dim=12), seed=1)
