"""Hidden states of all layers at the last position, as the code of the weak-classifiers paper takes them: one prompt at a
time through `output_hidden_states=True`, which keeps every position of every layer, and the last position stored.

With the lens, as that code does it: the final norm and the unembedding on every position of every layer, of which the last is
read. One slip of it is not repeated: what transformers returns for the last layer has been through the norm, and is not
normed again.
"""

import os
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from . import Base

GRADIENTS = False
WARM_UP = 4
TOP = 5


class Work(Base):
    def __init__(self, model, task: dict) -> None:
        self.model = model
        self.prompts = [(prompt["number"], torch.tensor([prompt["tokens"]])) for prompt in task["prompts"]]
        self.lens = task["lens"]
        self.checked = set(task["checked"])
        self.file = Path(tempfile.gettempdir()) / f"versus-hidden-{os.getpid()}.safetensors"
        self.states: dict[int, torch.Tensor] = {}
        self.top: dict[int, torch.return_types.topk] = {}

    def call(self, warm_up: bool) -> None:
        self.states.clear()
        for number, ids in self.prompts[: WARM_UP if warm_up else None]:
            hidden = self.model(ids, output_hidden_states=True).hidden_states
            self.states[number] = torch.stack([state[0, -1] for state in hidden])
            if self.lens:
                normed = [self.model.model.norm(state) for state in hidden[:-1]] + [hidden[-1]]
                logits = [self.model.lm_head(state)[0, -1] for state in normed]
                self.top[number] = torch.stack(logits).topk(TOP)
        save_file({"states": torch.stack(list(self.states.values()))}, self.file)

    def found(self) -> dict:
        self.file.unlink()
        numbers = {}
        for number in self.checked & self.states.keys():
            numbers[f"states of prompt {number}"] = self.states[number].flatten().tolist()
            if self.lens:
                top = self.top[number]
                numbers[f"lens ids of prompt {number}"] = top.indices.flatten().tolist()
                numbers[f"lens logits of prompt {number}"] = top.values.flatten().tolist()
        return {"numbers": numbers}
