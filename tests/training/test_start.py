"""What is settled before a run starts."""

import os

from mmengine.config import Config

from flmm.training.start import fit_workers


def test_there_are_no_more_workers_than_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    for asked, started in ((4, 2), (2, 2), (1, 1), (0, 0)):
        config = Config({"train_dataloader": {"num_workers": asked}})
        fit_workers(config)
        assert config.train_dataloader.num_workers == started
    fit_workers(Config({"model": {}}))
