"""Image-text models of transformers that read their picture in an unusual way; the others: test_frozen_hf.py."""

import re
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from golden_cases import LOSSES, GoldenCase, unet_config
from hf_tiny import FAMILIES
from hf_unusual import CODEBOOKS, UNUSUAL
from PIL import Image, ImageDraw
from torch import nn

from flmm.datasets.hf_processors import HFImageProcessor, canvas_layout
from flmm.datasets.sample import SampleBuilder
from flmm.models.frozen_hf import FrozenHF, HFBackbone
from flmm.models.grid_check import check_grid, prefill_difference
from flmm.models.hf_checks import BlindError, check_model, find_decoder, seeing_pictures
from flmm.models.packing import pack
from flmm.models.reader import PADDABLE

WORDS, PHRASES = "a ball on the grass", ["a ball", "grass"]
SHAPES = {"wide": (640, 416), "tall": (300, 500), "a panorama": (900, 180)}
ALL = UNUSUAL | CODEBOOKS
# masks beside positions, or embeddings per layer, cannot be padded
READ_ALONE = ("gemma4", "qwen3_5", "glm46v", "minicpm_v", "molmo2", "granite4_vision", "ernie4_5_vl")


def picture(size=(150, 110)):
    image = Image.new("RGB", size, (90, 120, 60))
    ImageDraw.Draw(image).ellipse((10, 10, size[0] // 2, size[1] // 2), fill=(220, 40, 30))
    return image


@pytest.fixture(scope="module")
def built():
    """Builds each family once: its model without SAM and its SampleBuilder."""
    made = {}

    def build(name):
        if name not in made:
            tiny = ALL[name]
            lmm, settings = tiny.build()
            backbone = HFBackbone(lmm, tiny.grid)
            unet = {**GoldenCase("qwen25vl_a").case["unet"], "in_channels": backbone.num_channels}
            model = FrozenHF(model=lmm, grid=tiny.grid, mask_head=unet_config(unet), **tiny.head, **LOSSES)
            made[name] = SimpleNamespace(
                lmm=lmm, model=model, backbone=model.backbone, settings=settings, builder=SampleBuilder(**settings)
            )
        return made[name]

    return build


@pytest.mark.parametrize("size", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", UNUSUAL)
def test_a_bright_square_lights_up_at_its_own_place_in_every_view(built, name, size):
    family = built(name)
    places = list(check_grid(family.backbone, family.builder, size))
    assert [place.agrees for place in places] == [True] * 5 * UNUSUAL[name].views, [place.score for place in places]


@pytest.mark.parametrize("name", ALL)
def test_capture_gives_what_eager_attention_gives(built, name):
    family = built(name)
    sample = family.builder.ground(picture(), WORDS, PHRASES)
    (reading,) = family.model.read([sample])
    family.lmm.set_attn_implementation("eager")
    try:
        tokens = family.backbone.tokens(sample)  # with the masks that eager attention takes
        with torch.no_grad():
            eager = family.backbone.decoder(**tokens.inputs, use_cache=False, output_attentions=True)
    finally:
        family.lmm.set_attn_implementation("sdpa")
    layers = [maps for maps in eager.attentions if maps is not None]
    rows = [tokens.mask_ids == phrase for phrase in range(len(PHRASES))]
    assert reading.attention[0].shape[:3] == (len(family.backbone.attending), 4, len(PHRASES))
    assert reading.hidden.shape[0] == family.backbone.num_layers
    for view, positions in zip(reading.attention, tokens.views, strict=True):
        expected = torch.stack(
            [torch.stack([maps[0][:, own].mean(1)[:, positions] for own in rows], 1) for maps in layers]
        )
        torch.testing.assert_close(view, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(
        reading.hidden[-1], eager.last_hidden_state[0][tokens.mask_ids >= 0], atol=1e-5, rtol=1e-4
    )


# of transformers 5.24, Llama4ForConditionalGeneration asks its decoder's output for what it does not have
UNANSWERED = pytest.mark.xfail(
    hf.__version__.startswith("5.24"), raises=AttributeError, reason="transformers", strict=True
)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[UNANSWERED] * (name == "llama4")) for name in ALL])
def test_an_answer_reads_what_grounding_reads(built, name):
    assert prefill_difference(built(name).backbone, built(name).builder) < 1e-5


def test_an_answer_that_does_not_see_the_picture_is_refused(built):
    family = built("llava_next")
    ids = family.builder.build(picture(), [], [])["input_ids"]
    is_image = ids == family.lmm.config.image_token_id
    with (
        pytest.raises(BlindError, match="answers without looking at the picture"),
        seeing_pictures(family.lmm, family.backbone.first_reader, is_image),
    ):
        family.lmm.generate(ids[None], max_new_tokens=1)  # no pixels


@pytest.mark.parametrize("name", [name for name in UNUSUAL if name not in READ_ALONE])
def test_pictures_are_read_in_one_pass(built, name):
    """What says how to run, or that nothing is padded, is not handed on."""
    family = built(name)
    samples = [family.builder.ground(picture(size), WORDS, PHRASES) for size in ((150, 110), (90, 200))]
    assert all(set(family.backbone.tokens(sample).inputs) <= PADDABLE for sample in samples)
    for sample, together in zip(samples, family.model.read(samples), strict=True):
        (alone,) = family.model.read([sample])
        torch.testing.assert_close(together.attention, alone.attention, atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(together.hidden, alone.hidden, atol=1e-5, rtol=1e-4)


def test_texts_are_not_packed_where_a_layer_carries_one_into_the_next(built):
    family = built("lfm2_vl")
    assert (family.backbone.num_layers, family.backbone.attending) == (3, [1])
    first = family.builder.ground(picture(), WORDS, PHRASES)
    second = family.builder.ground(picture(), "grass under a ball", ["grass"])
    shared = {key: first[key] for key in ("pixel_values", "lmm_inputs")}
    samples = [first, second | shared]
    assert pack(family.backbone, samples) is None
    for sample, together in zip(samples, family.model.read(samples), strict=True):
        (alone,) = family.model.read([sample])
        torch.testing.assert_close(together.hidden, alone.hidden, atol=1e-5, rtol=1e-4)


def test_texts_are_not_packed_beyond_a_chunk(built):
    family = built("llama4")
    samples = [family.builder.ground(picture(), WORDS, [phrase]) for phrase in PHRASES]
    samples[1]["pixel_values"] = samples[0]["pixel_values"]
    assert pack(family.backbone, samples) is not None
    config = hf.Llama4TextConfig(**{**family.backbone.decoder.config.to_dict(), "attention_chunk_size": 8})
    decoder = SimpleNamespace(config=config, layers=family.backbone.decoder.layers)
    stand_in = SimpleNamespace(
        decoder=decoder, attending=[0, 1], num_layers=2, tokens=family.backbone.tokens, max_length=None
    )
    assert pack(stand_in, samples) is None


def test_what_stands_for_a_picture_may_be_a_word(built):
    """Ovis2 replaces <image>, which its tokenizer does not know."""
    family = built("ovis2")
    assert "<image>" not in family.settings["tokenizer"].get_vocab()
    ids = family.builder.ground(picture(), WORDS, PHRASES)["input_ids"]
    assert (ids == family.lmm.config.image_token_id).sum() % 16 == 0
    assert not (ids == family.builder.image_token_idx).any()


def test_a_word_that_the_processor_does_not_replace_is_refused(built):
    family = built("ovis2")
    processor = HFImageProcessor(family.settings["image_processor"].processor, "<picture>")
    settings = {**family.settings, "image_processor": processor, "image_token": "<picture>", "prompt": "<picture>Look."}
    with pytest.raises(
        ValueError, match="tokens is the image token .* set image_token|check the image token '<picture>'"
    ):
        family.backbone.tokens(SampleBuilder(**settings).ground(picture(), WORDS, PHRASES))


def test_the_start_that_a_processor_writes_is_cut_off(built):
    ids = built("emu3").builder.ground(picture(), WORDS, PHRASES)["input_ids"].tolist()
    tokenizer = built("emu3").settings["tokenizer"]
    assert tokenizer.convert_tokens_to_ids("<|extra_203|>") not in ids
    assert tokenizer.convert_tokens_to_ids("<|image start|>") in ids


@pytest.mark.parametrize("name", ["ovis2", "cohere2_vision"])
def test_a_picture_that_is_one_tile_is_both_views(built, name):
    family = built(name)
    settings = family.settings["image_processor"]
    processor = HFImageProcessor(settings.processor, settings.image_token, layout=canvas_layout, crop_to_patches=False)
    builder = SampleBuilder(**{**family.settings, "image_processor": processor})
    coarse, fine = family.backbone.tokens(builder.ground(picture(), WORDS, PHRASES)).views
    assert coarse.shape == (4, 4)
    assert torch.equal(coarse, fine)


def test_a_layout_of_another_image_processor_is_refused():
    with pytest.raises(ValueError, match="canvas_layout is not for Qwen2VLImageProcessor"):
        canvas_layout(SimpleNamespace(image_processor=hf.Qwen2VLImageProcessor()), (100, 100), {})


def test_keywords_that_nobody_reads_are_refused(built):
    processor = built("ovis2").settings["image_processor"].processor
    with pytest.raises(
        ValueError, match="Ovis2ImageProcessor.* does not know crop_to_patch; it knows .*crop_to_patches"
    ):
        HFImageProcessor(processor, "<image>", crop_to_patch=True)
    cut = HFImageProcessor(processor, "<image>", crop_to_patches=True, max_patches=6).preprocess(picture((900, 180)))
    whole = HFImageProcessor(processor, "<image>", crop_to_patches=False).preprocess(picture((900, 180)))
    assert len(cut["pixel_values"][0]) > len(whole["pixel_values"][0]) == 1


def test_what_a_processor_cannot_do_is_one_sentence():
    fine = FAMILIES["qwen2_vl"]
    processor = fine.processor(fine.tokenizer())
    with pytest.raises(ValueError, match=re.escape("Qwen2VLProcessor cannot read a picture of 3 x 900 pixels")):
        HFImageProcessor(processor, fine.image_token).preprocess(Image.new("RGB", (900, 3)))


REFUSED = {
    "mllama": (hf.MllamaConfig, "by cross-attention"),
    "gemma3n": (hf.Gemma3nConfig, "share keys and values"),
    "idefics2": (hf.Idefics2Config, "through a perceiver"),
    "aria": (hf.AriaConfig, "through learned queries"),
    "instructblip": (hf.InstructBlipConfig, "through a Q-Former"),
    "florence2": (hf.Florence2Config, "in its encoder"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_whose_tokens_show_no_place_are_refused_by_name(name):
    kind, why = REFUSED[name]
    config = kind()
    model = type(name, (), {"config": config})()
    with pytest.raises(ValueError, match=f"^{name} .*{why}"):
        check_model(model, SimpleNamespace(config=config.get_text_config()))


def test_altup_is_refused_where_nothing_is_shared():
    config = hf.Gemma3nConfig(text_config={"num_kv_shared_layers": 0, "num_hidden_layers": 5})
    with pytest.raises(ValueError, match="AltUp"):
        check_model(SimpleNamespace(config=config), SimpleNamespace(config=config.text_config))


def test_a_vision_tower_is_no_decoder():
    with pytest.raises(ValueError, match="has no language_model or text_model with layers and a final norm"):
        find_decoder(nn.Linear(1, 1))


def test_layers_that_hand_on_several_states_are_refused_by_name():
    decoder = SimpleNamespace(layers=[], config=SimpleNamespace(hc_count=4))
    with pytest.raises(ValueError, match=r"\(hc_count\): its layers hand on several states .*hyper-connections"):
        find_decoder(SimpleNamespace(language_model=decoder))


def test_what_a_processor_says_of_each_token_goes_to_its_place(built):
    """ERNIE 4.5 VL: the picture's tokens, with start and end, are read by experts of their own."""
    family = built("ernie4_5_vl")
    sample = family.builder.ground(picture(), WORDS, PHRASES)
    ids, image = sample["input_ids"], family.lmm.config.image_token_id
    kinds = family.backbone.tokens(sample).inputs["moe_mm_token_type_ids"][0]
    assert kinds.shape == ids.shape
    around = [getattr(family.lmm.config, f"image_{side}_token_id") for side in ("start", "end")]
    assert torch.equal(kinds.bool(), torch.isin(ids, torch.tensor([image, *around])))
