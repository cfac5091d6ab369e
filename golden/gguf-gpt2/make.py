"""GPT-2 as GGUF: input-first weights turned, query, key and value fused."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN
from common_gguf import TOKENS, golden_gguf
from transformers import GPT2Config

golden_gguf(__file__, GPT2Config(**PLAIN | TOKENS | dict(n_inner=128)), seed=1)
