"""LoRA on Phi-3: one pair of matrices over the fused query, key and value, one over the fused gate and up."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common_lora import golden_lora

golden_lora(
    __file__,
    "phi3",
    seed=2,
    fused={
        "qkv_proj": {"query": slice(0, 32), "key": slice(32, 48), "value": slice(48, 64)},
        "gate_up_proj": {"gate": slice(0, 56), "up": slice(56, 112)},
    },
    r=5,
    lora_alpha=9,
    target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"],
)
