"""Llama with linearly interpolated rotary positions, `config.json` in the oldest dialect (`rope_scaling.type`)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LLAMA, golden, old_dialect
from transformers import LlamaConfig

rope = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
golden(
    __file__,
    LlamaConfig(**LLAMA | {"rope_parameters": rope}),
    seed=1,
    edit_config=lambda config: old_dialect(config, rope_key="type"),
)
