"""Reading one prompt, and writing after it, by `generate`.

No end-of-text token ends a generation early: the other side, too, writes exactly the tokens asked for.
"""

import torch

from . import Base

GRADIENTS = False
WARM_UP_TOKENS = 4


class Work(Base):
    def __init__(self, model, task: dict) -> None:
        self.model = model
        self.ids = torch.tensor([task["prompt"]])
        self.mask = torch.ones_like(self.ids)
        self.new_tokens = task["new_tokens"]
        self.written: list[list[int]] = []
        model.generation_config.eos_token_id = None
        self.choosing: dict = {"do_sample": False}
        if task["sampled"]:
            self.choosing = {
                "do_sample": True,
                "temperature": 1.0,
                "top_p": task["top_p"],
                "top_k": 0,
                "num_return_sequences": task["rows"],
            }

    def call(self, warm_up: bool) -> None:
        if self.new_tokens == 0:
            self.model(self.ids, attention_mask=self.mask, use_cache=True, logits_to_keep=1)
            return
        count = min(WARM_UP_TOKENS, self.new_tokens) if warm_up else self.new_tokens
        out = self.model.generate(
            self.ids, attention_mask=self.mask, max_new_tokens=count, pad_token_id=0, **self.choosing
        )
        self.written = out[:, self.ids.shape[1] :].tolist()

    def found(self) -> dict:
        return {"tokens": self.written}
