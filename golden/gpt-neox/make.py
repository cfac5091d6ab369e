"""GPT-NeoX, Pythia's kind: attention and MLP side by side, each with its norm; `config.json` as the published files.
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden, old_dialect
from transformers import GPTNeoXConfig

ROPE = {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5}


def published(config: dict) -> dict:
    """The rotary settings under the names of GPT-NeoX."""
    config = old_dialect(config)
    config["rotary_emb_base"] = config.pop("rope_theta")
    config["rotary_pct"] = config.pop("partial_rotary_factor")
    return dict(sorted(config.items()))


config = GPTNeoXConfig(**PLAIN, intermediate_size=56, rope_parameters=ROPE)
golden(
    __file__,
    config,
    seed=3,
    also=torch.bfloat16,
    edit_config=published,
    matters={
        "the parallel residual": {"use_parallel_residual": False},
        "the part that is not rotated": {"rope_parameters": ROPE | {"partial_rotary_factor": 1.0}},
    },
)
