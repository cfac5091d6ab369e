"""Steps of training a LoRA adapter with PEFT and torch: the model's own loss, clipping, AdamW, a cosine schedule."""

from pathlib import Path

import peft
import torch
from transformers import get_cosine_schedule_with_warmup

from . import Base

GRADIENTS = True
WARM_UP_STEPS = 2
# What `labels` holds where nothing is learnt.
IGNORED = -100


class Work(Base):
    def __init__(self, model, task: dict) -> None:
        self.model = peft.PeftModel.from_pretrained(model, Path(task["adapter"]), is_trainable=True).train()
        self.weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        found = sum(weight.numel() for weight in self.weights)
        assert found == task["parameters"], f"{found} parameters are trained, not {task['parameters']}"
        # torch's decay is not 0 unless it is told.
        self.optimizer = torch.optim.AdamW(self.weights, lr=task["learning_rate"], weight_decay=0.0)
        self.schedule = get_cosine_schedule_with_warmup(self.optimizer, 0, task["steps"])
        self.max_grad_norm = task["max_grad_norm"]
        self.ids = torch.tensor(task["rows"])
        self.labels = self.ids.clone()
        self.labels[:, : task["given"]] = IGNORED
        self.losses: list[float] = []

    def call(self, warm_up: bool) -> None:
        for _ in range(WARM_UP_STEPS if warm_up else 1):
            loss = self.model(input_ids=self.ids, labels=self.labels, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.weights, self.max_grad_norm)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad()
            self.losses.append(loss.item())

    def found(self) -> dict:
        return {"numbers": {"loss of each step": self.losses}}

    def versions(self) -> dict[str, str]:
        return {"peft": peft.__version__}
