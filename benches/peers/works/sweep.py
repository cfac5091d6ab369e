"""Query-level scores of every head: its queries times a number so small that its attention is uniform, then the divergence of
the next-token distributions at the last position, in nats.

Two ways that a user of transformers has. `forwards`: a hook on the layer's query projection that scales the columns of one
head, and a forward pass a head. `rows`: the heads of a layer as rows of one batch, the hook scaling another head in each row,
and a forward pass a layer. Both run the model as it is once a prompt, and ask for the last position's logits only.
"""

import torch

from . import Base

GRADIENTS = False
EPSILON = 1e-10


class Work(Base):
    def __init__(self, model, task: dict) -> None:
        self.model = model
        self.prompts = [(prompt["number"], torch.tensor([prompt["tokens"]])) for prompt in task["prompts"]]
        self.ways = {"forwards": self.forwards, "rows": self.rows}
        self.score = self.ways[task["heads"]]
        self.heads = model.config.num_attention_heads
        self.width = model.config.head_dim
        self.scores: dict[int, list[float]] = {}

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """At the last position, [row, vocab]."""
        return self.model(ids, use_cache=False, logits_to_keep=1).logits[:, -1]

    def without(self, ids: torch.Tensor, layer, heads: list[int]) -> torch.Tensor:
        """The logits of each row of `ids` with that row's head switched off."""

        def scale(_module, _inputs, queries: torch.Tensor) -> torch.Tensor:
            # The projection's result is nobody else's.
            for row, head in enumerate(heads):
                queries[row, :, head * self.width : (head + 1) * self.width] *= EPSILON
            return queries

        handle = layer.self_attn.q_proj.register_forward_hook(scale)
        try:
            return self.logits(ids)
        finally:
            handle.remove()

    def forwards(self, ids: torch.Tensor, layer) -> torch.Tensor:
        return torch.cat([self.without(ids, layer, [head]) for head in range(self.heads)])

    def rows(self, ids: torch.Tensor, layer) -> torch.Tensor:
        return self.without(ids.expand(self.heads, -1), layer, list(range(self.heads)))

    def call(self, warm_up: bool) -> None:
        layers = self.model.model.layers
        for number, ids in self.prompts[: 1 if warm_up else None]:
            base = self.logits(ids).double().log_softmax(-1)
            scores: list[float] = []
            for layer in layers[: 1 if warm_up else None]:
                changed = self.score(ids, layer).double().log_softmax(-1)
                scores += (base.exp() * (base - changed)).sum(-1).tolist()
            self.scores[number] = scores

    def found(self) -> dict:
        return {"numbers": {f"scores on prompt {number}": scores for number, scores in self.scores.items()}}
