"""Qwen3 as GGUF: norms of query and key, heads with a width of their own, tied."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA
from common_gguf import TOKENS, golden_gguf
from transformers import Qwen3Config

config = Qwen3Config(**LIKE_LLAMA | TOKENS | dict(intermediate_size=40, head_dim=12, tie_word_embeddings=True))
golden_gguf(__file__, config, seed=1)
