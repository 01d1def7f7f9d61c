"""The tables of backbones hold what the configs and the LMMs' architectures say."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lmm_architectures import LMMS
from torch import nn
from xtuner.registry import BUILDER

from flmm.config import read_config

ROOT = Path(__file__).parents[2]
END = "unet_sam_l_refcoco_png"
READMES = ("README.md", "README_zh-CN.md")
TABLE = "docs/backbones.md"


def rows(readme: str) -> dict[str, list[str]]:
    """Cells of the table, by config."""
    lines = (ROOT / readme).read_text().splitlines()
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if "/frozen_" in line and line[0] == "|"
    ]
    return {found.group(1): row for row in cells if (found := re.search(r"`(\S+)_\.\.\.`", row[1]))}


def test_every_config_has_its_row():
    """The page lists all; the two READMEs, and the architectures known from the hub, are those chosen to be shown."""
    configs = {str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").glob(f"*/*_{END}.py")}
    assert {f"{config}_{END}.py" for config in rows(TABLE)} == configs
    for readme in READMES:
        assert {f"{config}_{END}.py" for config in rows(readme)} == {f"{name}_{END}.py" for name in LMMS} < configs


@pytest.mark.parametrize("name", sorted(set(rows(TABLE)) - set(LMMS)))
def test_a_row_of_the_page_names_the_repository_of_its_config(name):
    config = read_config(ROOT / f"configs/{name}_{END}.py")
    assert rows(TABLE)[name][2] == config.model.model.pretrained_model_name_or_path


@pytest.mark.parametrize("name", LMMS)
def test_a_row_says_what_the_config_builds(name):
    """LMM and head are built on the meta device, the head by the config itself."""
    config = read_config(ROOT / f"configs/{name}_{END}.py")
    with torch.device("meta"):
        parts = LMMS[name]()
        config.model.sam.checkpoint = None
        tokenizer = {"tokenizer": FakeTokenizer(next(iter(parts.values())))} if "tokenizer" in config.model else {}
        model = BUILDER.build({**config.model, **parts, **tokenizer})
    hub = next(part["pretrained_model_name_or_path"] for part in (config.model[key] for key in parts))
    for table in (*READMES, TABLE):
        _, _, hub_name, views, channels, *_ = rows(table)[name]
        assert hub_name == hub
        counted = len(views.split("+")) * model.backbone.num_layers * model.backbone.num_heads
        assert int(channels.replace(",", "")) == counted == model.mask_head.in_channels == model.backbone.num_channels
    *_, trained, memory = rows(TABLE)[name]
    head = size(value for value in model.parameters() if value.requires_grad)
    assert trained == f"{head / 1e6:.1f} M"
    assert memory == " / ".join(f"{gigabytes(model, quantised):.1f}" for quantised in (False, True))


class FakeTokenizer(SimpleNamespace):
    """Knows the image token, and nothing else."""

    unk_token_id = None

    def __init__(self, lmm: nn.Module):
        super().__init__(lmm=lmm)

    def convert_tokens_to_ids(self, token: str) -> int:
        return self.lmm.config.image_token_id


def size(parameters) -> int:
    return sum(value.numel() for value in parameters)


def gigabytes(model: nn.Module, quantised: bool) -> float:
    """Weights in bf16, or the LMM's linear layers in nf4: 4 bits and a float32 for each 64 of them.

    A trained parameter takes 16 bytes: bf16 and its gradient, and AdamW's float32 copy with two moments.
    """
    frozen = 2 * size(value for value in model.parameters() if not value.requires_grad)
    trained = 16 * size(value for value in model.parameters() if value.requires_grad)
    lmm = model.backbone.model
    linear = {
        module.weight
        for name, module in getattr(lmm, "llm", lmm).named_modules()  # HPT's tower and projector stay as they are
        if isinstance(module, nn.Linear) and not name.endswith("lm_head")
    }
    saved = (2 - 0.5 - 4 / 64) * size(linear) if quantised else 0
    return (frozen + trained - saved) / 1e9
