"""LoRA on GPT-2: `Conv1D` weights, which are stored input-first, and a fused query, key and value."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common_lora import golden_lora

golden_lora(
    __file__,
    "gpt2",
    seed=1,
    fused={"c_attn": {"query": slice(0, 32), "key": slice(32, 64), "value": slice(64, 96)}},
    r=3,
    lora_alpha=4,
    target_modules=["c_attn", "c_proj", "c_fc"],
    fan_in_fan_out=True,
)
