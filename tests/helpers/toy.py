"""A model and data of no meaning, for tests of the runners: one frozen and one trained layer."""

import resource
import time

import torch
from mmengine.model import BaseModel
from torch import nn
from torch.utils.data import Dataset, Subset


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
        dropout: Its probability; 0 for runs that draw different random numbers and must agree.
    """

    def __init__(self, poison=None, note=None, pause=0, dropout=0.3, init_cfg=None):
        super().__init__(init_cfg=init_cfg)
        self.frozen = nn.Linear(4, 8).requires_grad_(False)
        self.head = nn.Linear(8, 1)
        self.unused = nn.Parameter(torch.zeros(2))
        self.poison, self.note, self.pause, self.dropout = poison, note, pause, dropout
        with torch.no_grad():
            for number, parameter in enumerate(self.parameters()):
                parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view_as(parameter) * (number + 1) / 4)

    def forward(self, data, data_samples=None, mode="loss"):
        x = torch.stack([sample["x"] for sample in data]).to(self.head.weight)
        y = self.head(nn.functional.dropout(self.frozen(x), self.dropout, training=True))
        loss = ((y - 1) ** 2).float().mean()
        if any(sample["file_name"] == self.poison for sample in data):
            loss = loss * float("nan")
        time.sleep(self.pause)
        if self.note:
            names = ",".join(sample["file_name"] for sample in data)
            with open(self.note, "a") as file:
                file.write(f"{names} {loss.item():.8f}\n")
        return {"loss_toy": loss}


def captions_alike(dataset, size=8):
    """Samples of a data set with the usual number of masks; half of them have phrases of few lengths, half of many.

    SAM's decoder is called once for each length.
    """
    from xtuner.registry import BUILDER

    built = BUILDER.build(dataset)
    samples = [built[index] for index in range(min(len(built), 5 * size))]
    counts = [len(sample["masks"]) for sample in samples]
    usual = max(set(counts), key=counts.count)
    calls = {i: len(phrase_lengths(samples[i])) for i, count in enumerate(counts) if count == usual}
    order = sorted(calls, key=calls.__getitem__)
    chosen = [*order[: size // 2], *order[-size // 2 :]]
    assert calls[chosen[0]] < calls[chosen[-1]]
    return Subset(built, chosen)


def phrase_lengths(sample):
    return set(sample["mask_ids"][sample["mask_ids"] >= 0].bincount().tolist())


def fill_the_disk():
    """From iteration 6 on no file of a checkpoint may be larger than 3,000 bytes: a full disk looks the same."""
    from flmm.runner import DeepSpeedRunner

    save, limits = DeepSpeedRunner.save_checkpoint, resource.getrlimit(resource.RLIMIT_FSIZE)

    def save_on_a_disk_that_fills(self, *args, **kwargs):
        if self.iter > 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
        try:
            save(self, *args, **kwargs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    DeepSpeedRunner.save_checkpoint = save_on_a_disk_that_fills
