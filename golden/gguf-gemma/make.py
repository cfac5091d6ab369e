"""Gemma as GGUF: norm weights with the 1 already added."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA
from common_gguf import TOKENS, golden_gguf
from transformers import GemmaConfig

config = GemmaConfig(**LIKE_LLAMA | TOKENS | dict(intermediate_size=40, head_dim=12))
golden_gguf(__file__, config, seed=1, readable=False)
