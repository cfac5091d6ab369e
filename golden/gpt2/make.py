"""GPT-2: learned positions, fused query, key and value stored input-first."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import PLAIN, golden
from transformers import GPT2Config

golden(__file__, GPT2Config(**PLAIN, n_inner=56), seed=19, also=torch.bfloat16)
