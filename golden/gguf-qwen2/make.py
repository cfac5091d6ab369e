"""Qwen2 as GGUF: biases of query, key and value."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA
from common_gguf import TOKENS, golden_gguf
from transformers import Qwen2Config

golden_gguf(__file__, Qwen2Config(**LIKE_LLAMA | TOKENS | dict(intermediate_size=40)), seed=1)
