"""OLMo 2: norms after attention and MLP only, norms over the whole width of query and key."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common import LIKE_LLAMA, golden
from transformers import Olmo2Config

golden(__file__, Olmo2Config(**LIKE_LLAMA), seed=1, also=torch.bfloat16)
