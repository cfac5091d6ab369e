"""Falcon 40B's kind as GGUF: query, key and value fused, all queries first."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN
from common_gguf import TOKENS, golden_gguf
from transformers import FalconConfig

config = FalconConfig(**PLAIN | TOKENS | dict(new_decoder_architecture=True, num_kv_heads=2))
golden_gguf(__file__, config, seed=1, readable=False)
