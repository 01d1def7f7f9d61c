from types import SimpleNamespace

import pytest
import torch
from golden_cases import LOSSES, GoldenCase, unet_config
from hf_tiny import FAMILIES
from PIL import Image, ImageDraw

from flmm.cli.check_backbone import SIZES
from flmm.datasets.sample import SampleBuilder
from flmm.models.frozen_hf import FrozenHF, HFBackbone, known_to, load_image_text_model
from flmm.models.grid_check import check_grid, prefill_difference
from flmm.models.grids import AnyresGrid, PatchGrid, SquareGrid, TileGrid
from flmm.models.hf_checks import check_mask, check_model

WORDS, PHRASES = "a ball on the grass", ["a ball", "grass"]


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request):
    tiny = FAMILIES[request.param]
    lmm, settings = tiny.build()
    text = lmm.config.get_text_config()
    channels = tiny.views * text.num_hidden_layers * text.num_attention_heads
    unet = {**GoldenCase("qwen25vl_a").case["unet"], "in_channels": channels}
    model = FrozenHF(model=lmm, grid=tiny.grid, mask_head=unet_config(unet), **tiny.head, **LOSSES)
    return SimpleNamespace(
        name=request.param, tiny=tiny, model=model, lmm=lmm, settings=settings, builder=SampleBuilder(**settings)
    )


def picture(size=(150, 110)):
    image = Image.new("RGB", size, (90, 120, 60))
    ImageDraw.Draw(image).ellipse((10, 10, size[0] // 2, size[1] // 2), fill=(220, 40, 30))
    return image


SHAPES = {"wide": (640, 416), "tall": (300, 500), "square": (500, 500), "a panorama": (900, 180)}


@pytest.mark.parametrize("size", SHAPES.values(), ids=SHAPES)
def test_views_lie_on_image_tokens(family, size):
    sample = family.builder.ground(picture(size), WORDS, PHRASES)
    tokens = family.model.backbone.tokens(sample)
    positions = torch.cat([view.flatten() for view in tokens.views])
    assert len(tokens.views) == family.tiny.views
    assert positions.unique().numel() == positions.numel()
    assert (sample["input_ids"][positions] == family.lmm.config.image_token_id).all()
    assert tokens.inputs["inputs_embeds"].shape == (1, len(sample["input_ids"]), 64)


@pytest.mark.parametrize("size", SHAPES.values(), ids=SHAPES)
def test_a_bright_square_lights_up_at_its_own_place_in_every_view(family, size):
    places = list(check_grid(family.model.backbone, family.builder, size))
    assert [place.agrees for place in places] == [True] * 5 * family.tiny.views, [place.score for place in places]
    fine = max((place.change for place in places), key=torch.Tensor.numel).shape
    if len(fine) == 2 and fine[0] != fine[1]:
        assert (fine[1] > fine[0]) == (size[0] > size[1])


def test_an_answer_reads_what_grounding_reads(family):
    assert prefill_difference(family.model.backbone, family.builder) < 1e-5


def test_a_padded_square_that_was_not_declared_is_found_out():
    """At the proportions of most pictures it would pass."""
    tiny = FAMILIES["deepseek_vl"]
    lmm, settings = tiny.build()
    backbone, builder = HFBackbone(lmm, tiny.grid), SampleBuilder(**settings)
    assert not all(place.agrees for size in SIZES for place in check_grid(backbone, builder, size))


def without_layout(inputs):
    return {key: value for key, value in inputs.items() if key != "layout"}


def test_the_decoder_reads_what_the_whole_model_reads(family):
    sample = family.builder.ground(picture(), WORDS, PHRASES)
    input_ids, labels = sample["input_ids"][None], sample["labels"][None]
    is_image = (input_ids == family.lmm.config.image_token_id).long()
    types = {
        "gemma3": {"token_type_ids": is_image},
        "paligemma": {"token_type_ids": (labels != -100).long(), "labels": labels},  # a training step's prefix mask
    }
    inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), **sample["lmm_inputs"]}
    inputs |= types.get(family.name, known_to(family.lmm, {"mm_token_type_ids": is_image}))
    with torch.no_grad():
        whole = family.lmm(pixel_values=sample["pixel_values"], **without_layout(inputs))
        inputs = family.model.backbone.tokens(sample).inputs
        hidden = family.model.backbone.decoder(**inputs, use_cache=False).last_hidden_state
        torch.testing.assert_close(family.lmm.lm_head(hidden), whole.logits)


def test_two_pictures_are_read_as_each_alone(family):
    samples = [family.builder.ground(picture(size), WORDS, PHRASES) for size in ((150, 110), (90, 200))]
    for sample, together in zip(samples, family.model.read(samples), strict=True):
        (alone,) = family.model.read([sample])
        torch.testing.assert_close(together.attention, alone.attention, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(together.hidden, alone.hidden, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(300, 20), (40, 41)])
def test_pictures_of_other_shapes(family, size):
    sample = family.builder.ground(picture(size), WORDS, PHRASES)
    assert family.model(sample, mode="tensor")["mask_attentions"].shape[0] == 2


def test_the_prefix_of_a_prefix_lm():
    """Picture and prompt see each other; no word sees a later one, and none of the prompt sees the text."""
    tiny = FAMILIES["paligemma"]
    lmm, settings = tiny.build()
    sample = SampleBuilder(**settings).ground(picture(), WORDS, PHRASES)
    tokens = HFBackbone(lmm, tiny.grid, prefix_lm=True).tokens(sample)
    visible, prefix = tokens.inputs["attention_mask"][0, 0], int((sample["labels"] == -100).sum())
    assert 0 < prefix < len(visible)
    assert visible[:, :prefix].all()
    assert not visible[:, prefix:].triu(1 - prefix).any()
    assert visible[prefix:, prefix:].tril().sum() == visible[prefix:, prefix:].sum() > 0
    with pytest.raises(ValueError, match="would see the words after them: declare prefix_lm=True"):
        HFBackbone(lmm, tiny.grid).tokens(sample)
    with pytest.raises(ValueError, match="the model made no mask"):
        check_mask(None, tokens.mask_ids, prefix_lm=True)


def test_square_grids():
    positions = torch.arange(20)
    assert SquareGrid(side=4)(positions, {})[0][0].tolist() == [0, 1, 2, 3]
    assert SquareGrid(side=4, at="last")(positions, {})[0][0].tolist() == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="20 image tokens in the input, needed a square number"):
        SquareGrid()(positions, {})
    with pytest.raises(ValueError, match="20 image tokens in the input, needed 5 x 5"):
        SquareGrid(side=5)(positions, {})
    with pytest.raises(ValueError, match="0 image tokens"):
        SquareGrid()(positions[:0], {})


def test_patch_grids():
    grid = {"image_grid_thw": torch.tensor([[1, 8, 10]])}
    (view,) = PatchGrid()(torch.arange(20), grid)
    assert view.shape == (4, 5)
    with pytest.raises(ValueError, match="19 image tokens in the input, but the picture has 8 x 10"):
        PatchGrid()(torch.arange(19), grid)
    with pytest.raises(ValueError, match="no 'image_grid_thw'"):
        PatchGrid()(torch.arange(20), {"pixel_values": None})


def test_tiles_are_put_together():
    coarse, fine = TileGrid(side=2)(torch.arange(100, 112), {"layout": (1, 2)})
    assert coarse.tolist() == [[108, 109], [110, 111]]
    assert fine.tolist() == [[100, 101, 104, 105], [102, 103, 106, 107]]
    coarse, fine = TileGrid(side=2, whole="first")(torch.arange(100, 112), {"layout": (1, 2)})
    assert coarse.tolist() == [[100, 101], [102, 103]]
    assert fine.tolist() == [[104, 105, 108, 109], [106, 107, 110, 111]]
    assert [view.tolist() for view in TileGrid(side=2)(torch.arange(4), {"layout": (1, 1)})] == [[[0, 1], [2, 3]]] * 2
    assert TileGrid(side=2)(torch.arange(8), {"layout": (1, 1)})[1].tolist() == [[0, 1], [2, 3]]
    for count, layout in ((12, (1, 3)), (12, (1, 1)), (6, (1, 1)), (4, (0, 0))):
        with pytest.raises(ValueError, match=f"{count} image tokens in the input, needed 2 x 2 for each of"):
            TileGrid(side=2)(torch.arange(count), {"layout": layout})
    with pytest.raises(ValueError, match="no 'layout': TileGrid"):
        TileGrid(side=2)(torch.arange(12), {})


def test_newlines_are_left_out():
    coarse, fine = AnyresGrid(side=2)(torch.arange(12), {"layout": (2, 3)})
    assert coarse.tolist() == [[0, 1], [2, 3]]
    assert fine.tolist() == [[4, 5, 6], [8, 9, 10]]
    for layout in ((3, 2), (0, 0)):
        with pytest.raises(ValueError, match="12 image tokens in the input, needed 2 x 2 and"):
            AnyresGrid(side=2)(torch.arange(12), {"layout": layout})


def test_a_wrong_grid_is_found_out():
    """Also when only the fine view is wrong."""
    tiny = FAMILIES["internvl3"]
    lmm, settings = tiny.build()
    builder = SampleBuilder(**settings)

    def fine_transposed(positions, inputs):
        coarse, fine = tiny.grid(positions, inputs)
        return [coarse, fine.T]

    places = list(check_grid(HFBackbone(lmm, fine_transposed), builder, (500, 500)))
    assert all(place.agrees for place in places if place.view == 0)
    assert not all(place.agrees for place in places if place.view == 1)


def test_models_that_would_be_read_wrongly():
    for setting, why in (("cross_attention_layers", "by cross-attention"), ("num_kv_shared_layers", "share keys")):
        config = SimpleNamespace(image_token_id=3, **{setting: [1]})
        with pytest.raises(ValueError, match=why):
            check_model(SimpleNamespace(config=config), SimpleNamespace(config=config))
    with pytest.raises(ValueError, match="no image_token_id"):
        check_model(SimpleNamespace(config=SimpleNamespace()), None)


def test_incomplete_weights_are_refused(tmp_path):
    lmm, _ = FAMILIES["internvl3"].build()
    kept = {name: value for name, value in lmm.state_dict().items() if "multi_modal_projector" not in name}
    lmm.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(ValueError, match="tensors have no value"):
        load_image_text_model(tmp_path)
    lmm.save_pretrained(tmp_path)
    assert load_image_text_model(tmp_path, dtype=torch.bfloat16).dtype == torch.bfloat16
