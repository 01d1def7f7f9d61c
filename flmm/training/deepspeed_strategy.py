"""How DeepSpeed gets a model of which most is frozen."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.device import get_device
from torch import nn
from transformers.integrations.deepspeed import unset_hf_deepspeed_config
from xtuner.engine import DeepSpeedStrategy

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

    def _init_model_weights(self, model: Any) -> nn.Module:
        init_head(model)
        return model

    def _wrap_model(self, model: nn.Module) -> Any:
        if getattr(model, "train_only", None):  # its optimizer would decay the weights that take no part
            raise ValueError("the keyword selector alone is trained without --deepspeed: leave it out")
        check_alike(model)
        if self.head is not None:
            load_head(model, self.head)
        flatten(model.to(get_device(), self._dtype()).train())
        return super()._wrap_model(model)

    def save_checkpoint(self, filename: str, *args: Any, extra_ckpt: dict | None = None, **kwargs: Any) -> None:
        """Saves as MMEngine does, with plain values instead of its history buffers."""
        extra = dict(extra_ckpt or {})
        if "message_hub" in extra:
            extra["message_hub"] = logs.to_plain(extra["message_hub"])
        super().save_checkpoint(filename, *args, extra_ckpt=extra, **kwargs)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> dict:
        """Resumes as MMEngine does; returns what was saved beside the model."""
        extra = super().resume(filename, *args, **kwargs)
        return {**extra, "message_hub": logs.from_plain(extra["message_hub"])}

    def _dtype(self) -> torch.dtype | None:
        """What DeepSpeed is told to train in; None for float32."""
        types = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return next((dtype for key, dtype in types.items() if self.config.get(key, {}).get("enabled") is True), None)
