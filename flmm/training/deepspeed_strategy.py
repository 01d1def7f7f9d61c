"""How DeepSpeed gets a model of which most is frozen."""

from __future__ import annotations

import os
import socket
from typing import Any

import deepspeed
import torch
from mmengine.device import get_device
from torch import nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from xtuner.engine import DeepSpeedStrategy
from xtuner.parallel.sequence import init_sequence_parallel

from flmm.checkpoint import load_head
from flmm.training import logs
from flmm.training.frozen_parts import check_alike, flatten, init_head


class HeadStrategy(DeepSpeedStrategy):
    """xtuner's strategy that hands DeepSpeed the head alone.

    The frozen parts are whole in every process, whatever the ZeRO stage: left to itself ZeRO-3 cuts them up too,
    and then sends every weight of the LMM to every process in each step.

    Attributes:
        head: Checkpoint to load into the model before DeepSpeed copies (ZeRO-3: cuts up) its parameters.
    """

    head: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        unset_hf_deepspeed_config()  # else transformers cuts up an LMM for ZeRO-3 while loading it

    def _setup_distributed(self, launcher: str | None = None, backend: str = "nccl", **kwargs: Any) -> None:
        if torch.cuda.is_available():
            super()._setup_distributed(launcher, backend, **kwargs)
            return
        deepspeed.init_distributed(dist_backend="gloo")  # mmengine 0.10.7 would ask CUDA for a device first
        init_sequence_parallel(self.sequence_parallel_size)

    def _init_model_weights(self, model: Any) -> nn.Module:
        init_head(model)
        return model

    def _wrap_model(self, model: nn.Module) -> Any:
        if getattr(model, "train_only", None):  # its optimizer would decay the weights that take no part
            raise ValueError("the keyword selector alone is trained without --deepspeed: leave it out")
        check_alike(model)
        if self.head is not None:
            load_head(model, self.head)
        if self._launcher == "none":
            name_single_process()
        flatten(model.to(get_device(), self._dtype()).train())
        return super()._wrap_model(model)

    def save_checkpoint(self, filename: str, *args: Any, extra_ckpt: dict | None = None, **kwargs: Any) -> None:
        """Save as MMEngine does, with plain values instead of its history buffers."""
        extra = dict(extra_ckpt or {})
        if "message_hub" in extra:
            extra["message_hub"] = logs.to_plain(extra["message_hub"])
        super().save_checkpoint(filename, *args, extra_ckpt=extra, **kwargs)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Resumes as MMEngine does; returns what was saved beside the model."""
        extra = super().resume(filename, *args, **kwargs)
        return {**extra, "message_hub": logs.from_plain(extra["message_hub"])}

    def _dtype(self) -> torch.dtype | None:
        """Return the dtype that DeepSpeed trains in; None for float32."""
        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return next((dtype for key, dtype in types.items() if self.config.get(key, {}).get("enabled") is True), None)


def name_single_process() -> None:
    """Set the variables by which torchrun names a process, unless MPI does.

    Without them deepspeed 0.18.9 asks MPI who it is, and fails where mpi4py is not installed.
    """
    if {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"} & os.environ.keys():
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in alone.items():
        os.environ.setdefault(name, value)
