"""A repository whose projector is code, in the structure of HPT's: a Q-Former with its files beside the weights."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

CONFIGURATION = """
from transformers import PretrainedConfig


class HformerConfig(PretrainedConfig):
    model_type = "hformer"

    def __init__(self, visual_hidden_size=32, llm_hidden_size=48, num_query_token=4, bert="bert", **kwargs):
        self.visual_hidden_size = visual_hidden_size
        self.llm_hidden_size = llm_hidden_size
        self.num_query_token = num_query_token
        self.bert = bert
        super().__init__(**kwargs)
"""
QFORMER = """
from torch import nn
from transformers.modeling_utils import (
    PreTrainedModel,
    apply_chunking_to_forward,
    find_pruneable_heads_and_indices,
    prune_linear_layer,
)
from transformers.models.bert.configuration_bert import BertConfig


class QFormer(PreTrainedModel):
    config_class = BertConfig

    def __init__(self, config):
        super().__init__(config)
        width = config.hidden_size
        self.cross = nn.MultiheadAttention(width, config.num_attention_heads, batch_first=True)
        self.inner = nn.Linear(width, width)
        self.post_init()

    def forward(self, tokens, queries):
        seen, _ = self.cross(tokens, queries, queries)
        return apply_chunking_to_forward(self.feed_forward_chunk, 0, 1, tokens + seen)

    def feed_forward_chunk(self, tokens):
        return self.inner(tokens)
"""
MODELING = """
import torch
from torch import nn
from transformers import PreTrainedModel

from .configuration_hformer import HformerConfig
from .qformer_src import BertConfig, QFormer


class HformerModel(PreTrainedModel):
    config_class = HformerConfig

    def __init__(self, config):
        super().__init__(config)
        self.qformer = QFormer.from_pretrained(config.bert)
        width = self.qformer.config.hidden_size
        self.query = nn.Parameter(torch.zeros(1, config.num_query_token, width))
        self.proj_in = nn.Linear(config.visual_hidden_size, width)
        self.proj_out = nn.Linear(width, config.llm_hidden_size)
        self.post_init()

    def forward(self, features):
        queries = self.query.expand(len(features), -1, -1)
        return self.proj_out(self.qformer(self.proj_in(features), queries))
"""


def write_remote_projector(folder: Path, visual: int, llm: int) -> dict[str, torch.Tensor]:
    """Writes the code, its configs and random weights; returns the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {
        "configuration_hformer": CONFIGURATION,
        "qformer_src": QFORMER,
        "modeling_hformer": MODELING,
    }.items():
        (folder / f"{name}.py").write_text(text)
    code = {
        "AutoConfig": "configuration_hformer.HformerConfig",
        "AutoModel": "modeling_hformer.HformerModel",
    }
    config = {
        "model_type": "hformer",
        "architectures": ["HformerModel"],
        "auto_map": code,
        "bert": str(folder / "bert"),
    }
    config |= {"visual_hidden_size": visual, "llm_hidden_size": llm, "num_query_token": 4}
    (folder / "config.json").write_text(json.dumps(config))
    bert = {"model_type": "bert", "hidden_size": 24, "num_attention_heads": 2}
    shapes = {
        "cross.in_proj_weight": (72, 24),
        "cross.in_proj_bias": (72,),
        "cross.out_proj.weight": (24, 24),
        "cross.out_proj.bias": (24,),
        "inner.weight": (24, 24),
        "inner.bias": (24,),
    }
    generator = torch.Generator().manual_seed(0)
    inner = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    (folder / "bert").mkdir(exist_ok=True)
    (folder / "bert/config.json").write_text(json.dumps(bert))
    zeros = {name: torch.zeros_like(value) for name, value in inner.items()}
    save_file(zeros, folder / "bert/model.safetensors", metadata={"format": "pt"})
    outer = {
        "query": (1, 4, 24),
        "proj_in.weight": (24, visual),
        "proj_in.bias": (24,),
        "proj_out.weight": (llm, 24),
        "proj_out.bias": (llm,),
    }
    weights = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in outer.items()}
    weights |= {f"qformer.{name}": value for name, value in inner.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return weights
