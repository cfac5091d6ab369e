"""Falcon 7B's kind as GGUF: one KV head, one norm for attention and MLP."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN
from common_gguf import TOKENS, golden_gguf
from transformers import FalconConfig

golden_gguf(__file__, FalconConfig(**PLAIN | TOKENS), seed=1)
