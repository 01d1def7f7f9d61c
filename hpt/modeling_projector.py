"""The projector of HPT: linear layers, or whatever the code in its repository makes."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from flmm.models.loading import (
    CheckedLoading,
    find_folder,
    load_into,
    named_files,
    read_weights,
    repository_config,
    where_in,
)


class ProjectorConfig(PretrainedConfig):
    """Sizes of the projector, under the names of its `config.json`.

    Args:
        visual_hidden_size: Width of the vision tower.
        llm_hidden_size: Width of the language model.
        depth: Number of linear layers.
        hidden_act: Activation between them.
        bias: Whether they have biases.
        **kwargs: Arguments of every transformers config.
    """

    model_type = "projector"

    def __init__(
        self,
        visual_hidden_size: int = 4096,
        llm_hidden_size: int = 4096,
        depth: int = 2,
        hidden_act: str = "gelu",
        bias: bool = True,
        **kwargs,
    ):
        self.visual_hidden_size = visual_hidden_size
        self.llm_hidden_size = llm_hidden_size
        self.depth = depth
        self.hidden_act = hidden_act
        self.bias = bias
        super().__init__(**kwargs)


class ProjectorModel(CheckedLoading, PreTrainedModel):
    """Linear layers with an activation between them, as xtuner wrote HPT's projector.

    xtuner's own class would do, but importing it takes 15 seconds.
    """

    config_class = ProjectorConfig

    def __init__(self, config: ProjectorConfig):
        super().__init__(config)
        layers: list[nn.Module] = [nn.Linear(config.visual_hidden_size, config.llm_hidden_size, bias=config.bias)]
        for _ in range(1, config.depth):
            layers.append(ACT2FN[config.hidden_act])
            layers.append(nn.Linear(config.llm_hidden_size, config.llm_hidden_size, bias=config.bias))
        self.model = nn.Sequential(*layers)
        self.post_init()

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str, *args: Any, trust_remote_code: bool = False, **kwargs: Any
    ) -> Any:
        """Loads a projector: one of this class, or another one by the code in its repository.

        Args:
            pretrained_model_name_or_path: Folder or repository on the hub.
            *args: As in transformers.
            trust_remote_code: Whether code of the repository may run. HyperGAI's projectors need it.
            **kwargs: As in transformers: subfolder, dtype, ...

        Raises:
            FileNotFoundError: When a folder or file is not there.
            ValueError: When weights are missing, or the projector needs code that may not run.
        """
        name, where = pretrained_model_name_or_path, where_in(kwargs)
        folder = find_folder(name, **where)
        found = repository_config(folder)
        if found.get("model_type") == cls.config_class.model_type or "AutoModel" not in found.get("auto_map", {}):
            return super().from_pretrained(name, *args, **kwargs)
        if not trust_remote_code:
            raise ValueError(
                f"{folder} holds a {found.get('model_type')!r}, which is code in that repository "
                f"({found['auto_map']['AutoModel']}): read it, and set trust_remote_code=True in the config's "
                "`projector` to run it"
            )
        return remote_projector(folder, kwargs.get("dtype", kwargs.get("torch_dtype")))

    def forward(self, features: Tensor) -> Tensor:
        """Features of the vision tower [..., visual_hidden_size] as inputs of the language model [..., D]."""
        return self.model(features)


def remote_projector(folder: Path, dtype: torch.dtype | None = None) -> nn.Module:
    """Builds the projector that the code in a folder describes, and loads its weights.

    It is built before its weights are read: such code may itself call `from_pretrained` for a part, which transformers
    refuses while it loads a model.

    Args:
        folder: With config.json, the files that its `auto_map` names, and weights.
        dtype: Of the parameters; None for float32.
    """
    with named_files(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
        projector = AutoModel.from_config(config, trust_remote_code=True)
    load_into(projector, read_weights(folder), name=f"{type(projector).__name__} from {folder}")
    return projector.to(dtype)
