import json

import pytest
import torch
from golden_cases import GOLDEN, load_recorded, relative_error, unet_config
from safetensors.torch import load_file

from flmm.models.frozen_lmm import build

RECORDED = GOLDEN / "comp_unet"
CASE = json.loads((RECORDED / "case.json").read_text())


@pytest.mark.parametrize("config", CASE["configs"])
def test_every_size_equals_the_recording(config):
    head = build(unet_config(CASE["configs"][config]))
    head.eval()  # not chained: mmseg's UNet.train returns nothing
    head.load_state_dict({key: value.float() for key, value in load_file(RECORDED / "weights.safetensors").items()})
    tensors = load_recorded(RECORDED / "tensors.safetensors")
    for height, width in CASE["sizes"]:
        with torch.no_grad():
            logits = head(tensors[f"input/{height}x{width}"])
        assert relative_error(logits, tensors[f"{config}/{height}x{width}"]) < 1e-5


def test_maps_outside_of_0_to_1_are_refused():
    head = build(unet_config(CASE["configs"]["full"]))
    with pytest.raises(ValueError, match=r"0\.\.1, found 0\.\.2"):
        head(torch.linspace(0, 2, 12 * 36).view(1, 12, 6, 6))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        head(torch.full((1, 12, 6, 6), float("nan")))
