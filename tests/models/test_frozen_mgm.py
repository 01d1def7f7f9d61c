import json

import pytest
import torch
from golden_cases import GoldenCase, golden_names
from mmengine.config import Config
from parity import assert_parity
from PIL import Image

from flmm.datasets.pad2square_processor import Pad2Square
from flmm.models.frozen_mgm import FrozenMGMSAM, views_of
from mgm.constants import IMAGE_TOKEN_INDEX
from mgm.model import MGMGemmaForCausalLM, MGMLlamaForCausalLM

CLASSES = {"mgm": MGMLlamaForCausalLM, "mgm_gemma": MGMGemmaForCausalLM}


class MGMCase(GoldenCase):
    """Its `pixel_values` are padded pictures."""

    def samples(self):
        samples = super().samples()
        for sample in samples:
            sample["pixel_values"] = Image.fromarray(sample["pixel_values"].numpy())
        return samples


def build(case: MGMCase) -> FrozenMGMSAM:
    backbone = case.dir / "backbone"
    folder = backbone / "mgm" if (backbone / "mgm").is_dir() else backbone
    config = json.loads((folder / "config.json").read_text())
    towers = {key: str(backbone / config[key]) for key in ("mm_vision_tower", "mm_vision_tower_aux")}
    mgm = {
        "type": CLASSES[config["model_type"]].from_pretrained,
        "pretrained_model_name_or_path": str(folder),
        "dtype": torch.float32,
        **towers,
    }
    return FrozenMGMSAM(model=mgm, **case.head_config())


@pytest.mark.parametrize("name", golden_names("mgm"))
def test_parity(name):
    case = MGMCase(name)
    assert_parity(case, build(case))


@pytest.fixture(scope="module")
def hd():
    case = MGMCase("mgm_hd_a")
    return build(case), case.samples()[0]


def test_views_cover_each_picture_token_once_and_no_word(hd):
    model, sample = hd
    tokens = model.backbone.tokens(sample)
    whole, fine = tokens.views
    assert (whole.shape, fine.shape) == ((6, 6), (12, 12))
    start = int((sample["input_ids"] == IMAGE_TOKEN_INDEX).nonzero())
    positions = torch.cat([whole.flatten(), fine.flatten()])
    assert torch.equal(positions.sort().values, torch.arange(start, start + 180))
    assert (tokens.mask_ids[positions] == -1).all()


def test_tiles_lie_in_the_picture_where_they_were_cut():
    whole, fine = views_of(torch.arange(5 * 4), grid=2, has_global=True)
    assert whole.tolist() == [[0, 1], [2, 3]]
    assert fine.tolist() == [[4, 5, 8, 9], [6, 7, 10, 11], [12, 13, 16, 17], [14, 15, 18, 19]]
    (alone,) = views_of(torch.arange(4), grid=1, has_global=False)
    assert torch.equal(alone, whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_values": torch.zeros(3, 84, 84)}, "Tensor, but MGM reads a square PIL image"),
        ({"pixel_values": Image.new("RGB", (640, 1))}, "640 x 1, but MGM reads a square"),
        ({"input_ids": torch.tensor([1, 2, 3]), "mask_ids": torch.tensor([-1, -1, 0])}, "0 image tokens"),
    ],
)
def test_bad_samples_are_refused(hd, change, message):
    model, sample = hd
    with pytest.raises(ValueError, match=message):
        model.backbone.tokens({**sample, **change})


@pytest.mark.parametrize(
    ("name", "lmm"),
    [
        ("gemma_2b", MGMGemmaForCausalLM),
        ("vicuna_7b", MGMLlamaForCausalLM),
        ("vicuna_7b_hd", MGMLlamaForCausalLM),
    ],
)
def test_configs(name, lmm):
    config = Config.fromfile(f"configs/mgm/frozen_mgm_{name}_unet_sam_l_refcoco_png.py")
    assert config.model.type is FrozenMGMSAM
    assert config.model.model.type == lmm.from_pretrained
    builder = config.train_dataloader.dataset.shared.sample_builder
    assert (builder.image2tensor, builder.add_image_token) == (False, True)
    assert builder.image_processor.type is Pad2Square
