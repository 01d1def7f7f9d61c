"""A model and data of no meaning, for tests of the runners: one frozen and one trained layer."""

import time

import torch
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset


class ToyData(Dataset):
    """Sixteen numbered samples."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return {"x": torch.full((4,), float(index) / 16), "file_name": f"{index:03d}.jpg"}


def collate(instances):
    return {"data": instances, "data_samples": None}


class ToyModel(BaseModel):
    """y = head(dropout(frozen(x))); the loss depends on weights, data order and torch's random state.

    Args:
        poison: Name of the file whose loss is NaN.
        note: File to which every training step appends the names of its samples and its loss.
        pause: Seconds every step takes.
    """

    def __init__(self, poison=None, note=None, pause=0):
        super().__init__()
        self.frozen = nn.Linear(4, 8).requires_grad_(False)
        self.head = nn.Linear(8, 1)
        self.unused = nn.Parameter(torch.zeros(2))
        self.poison, self.note, self.pause = poison, note, pause
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter) * (number + 1) / 4)

    def forward(self, data, data_samples=None, mode="loss"):
        x = torch.stack([sample["x"] for sample in data]).to(self.head.weight)
        y = self.head(nn.functional.dropout(self.frozen(x), 0.3, training=True))
        loss = ((y - 1) ** 2).float().mean()
        if any(sample["file_name"] == self.poison for sample in data):
            loss = loss * float("nan")
        time.sleep(self.pause)
        if self.note:
            names = ",".join(sample["file_name"] for sample in data)
            with open(self.note, "a") as file:
                file.write(f"{names} {loss.item():.8f}\n")
        return {"loss_toy": loss}
