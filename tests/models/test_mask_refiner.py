import itertools
import json

import pytest
import torch
from golden_cases import GOLDEN, load_recorded, register_golden_sam, relative_error
from PIL import Image

from flmm.models.mask_head import mask_refiner
from flmm.models.mask_head.mask_refiner import SAMWrapper, coarse_boxes, group_by_length

CASE = GOLDEN / "comp_samwrapper"
SWITCHES = [s for s in itertools.product([True, False], repeat=4) if any(s[:3]) or not s[3]]


@pytest.fixture(scope="module")
def recorded():
    return load_recorded(CASE / "tensors.safetensors"), json.loads((CASE / "case.json").read_text())


@pytest.fixture(scope="module")
def wrapper():
    register_golden_sam()
    return SAMWrapper("golden", str(GOLDEN / "_sam/sam_tiny.safetensors"))


@pytest.mark.parametrize(("box", "mask", "text", "multi"), SWITCHES)
def test_every_combination_of_prompts(wrapper, recorded, box, mask, text, multi):
    tensors, _ = recorded
    wrapper.use_box, wrapper.use_mask, wrapper.use_text, wrapper.multimask_output = box, mask, text, multi
    with torch.no_grad():
        refined = wrapper(
            Image.fromarray(tensors["image"].numpy()),
            tensors["pred_masks"],
            [tensors[f"text_embeds/{m}"] for m in range(3)],
        )
    expected = tensors[f"box{box:d}_mask{mask:d}_text{text:d}_multi{multi:d}/sam_masks"]
    error = relative_error(refined, expected)
    print(f"box {box:d} mask {mask:d} text {text:d} multi {multi:d}: {error:.1e}")
    assert error < 1e-4


def test_a_picture_that_several_texts_share_is_encoded_once(wrapper, monkeypatch):
    seen = []
    hook = wrapper.model.image_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    monkeypatch.setattr(mask_refiner, "AT_ONCE", 2)  # phrases of a pass of the decoder
    one, other = (Image.new("RGB", size, colour) for size, colour in (((60, 40), "red"), ((40, 60), "blue")))
    masks = [torch.randn(number, 8, 8, generator=torch.Generator().manual_seed(number)) for number in (1, 2, 3)]
    texts = [[torch.randn(4, wrapper.embed_dim)] * len(own) for own in masks]
    with torch.no_grad():
        refined = wrapper.refine(wrapper.encode([one, other, one]), masks, texts)
        hook.remove()
        assert seen == [2]
        for image, own, text, found in zip([one, other, one], masks, texts, refined, strict=True):
            assert relative_error(found, wrapper(image, own, text)) < 1e-4


def test_names_and_what_is_trained(wrapper, recorded):
    _, case = recorded
    keys = [key for key in wrapper.state_dict() if not key.startswith("model.image_encoder.")]
    assert sorted(keys) == sorted(case["state_dict_keys"])
    assert sorted(n for n, p in wrapper.named_parameters() if p.requires_grad) == sorted(case["trainable"])


def test_the_image_encoder_stays_in_eval_mode(wrapper):
    wrapper.train()
    assert wrapper.model.mask_decoder.training
    assert not any(module.training for module in wrapper.model.image_encoder.modules())
    wrapper.eval()


def test_boxes_enclose_the_mask_and_an_empty_mask_gives_the_image():
    logits = torch.full((2, 4, 6), -5.0)
    logits[0, 1:3, 2:5] = 5.0
    boxes, binary = coarse_boxes(logits, (4, 6))
    assert boxes.tolist() == [[2, 1, 5, 3], [0, 0, 6, 4]]
    assert binary.flatten(1).sum(1).tolist() == [6, 0]


def test_phrases_are_grouped_by_length():
    embeds = [torch.zeros(n, 8) for n in (2, 1, 2, 4)]
    assert group_by_length(embeds) == [[0, 2], [1], [3]]
