"""Llama 3.1's rotary frequencies: kept, blended and slowed ones are all present. `config.json` of transformers 4."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, LLAMA3, golden, old_dialect
from transformers import LlamaConfig

golden(__file__, LlamaConfig(**LLAMA | LLAMA3), seed=1, edit_config=old_dialect)
