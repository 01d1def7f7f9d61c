"""The projector of HPT, so that its repository's own code need not be run."""

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN

from flmm.models.loading import CheckedLoading


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

    def forward(self, features: Tensor) -> Tensor:
        """Features of the vision tower [..., visual_hidden_size] as inputs of the language model [..., D]."""
        return self.model(features)
