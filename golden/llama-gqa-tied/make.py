"""Llama with grouped queries (4 heads on 2 KV heads) and tied embeddings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, golden
from transformers import LlamaConfig

golden(__file__, LlamaConfig(**LLAMA, tie_word_embeddings=True), seed=3)
