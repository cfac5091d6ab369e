"""The weights of `llama-rope-llama3` in several files with an index, `config.json` of transformers 5."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, LLAMA3, golden
from transformers import LlamaConfig

golden(__file__, LlamaConfig(**LLAMA | LLAMA3), seed=1, shard_size="50KB")
