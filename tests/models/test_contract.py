"""What every LMM family owes the pipeline, whatever its code: one contract for all."""

import pytest
import torch
from families import PHRASES
from PIL import Image

from flmm.models.functional import finest_size, fold_rows, merge_rows, rows_by_phrase, stack_maps, weigh_layers
from flmm.models.grid_check import check_grid

# Parts of SAM that the training cannot reach. The head that rates masks is not used, nor are point prompts, nor the
# embedding for "no mask"; of the four mask tokens only the first gives a mask.
UNUSED = (
    "sam.model.mask_decoder.iou_prediction_head.",
    "sam.model.prompt_encoder.point_embeddings.0.",
    "sam.model.prompt_encoder.point_embeddings.1.",
    "sam.model.prompt_encoder.not_a_point_embed.",
    "sam.model.prompt_encoder.no_mask_embed.",
)
OTHER_MASKS = tuple(f"sam.model.mask_decoder.output_hypernetworks_mlps.{i}." for i in (1, 2, 3))
# Softmax does not change when the same is added to all keys: the gradient is zero but for rounding.
BIAS_OF_KEYS = "k_proj.bias"


@pytest.fixture(scope="module")
def sample(built):
    return built.sample()


@pytest.fixture(scope="module")
def found(built, sample):
    """What the model makes of the sample."""
    return built.model(sample, mode="tensor")


def noise(seed):
    pixels = torch.randint(0, 256, (110, 150, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def test_views_are_disjoint_and_on_image_tokens_only(built):
    """Image tokens are those that another picture changes."""
    one, other = (built.model.backbone.tokens(built.sample(noise(seed))) for seed in (0, 1))
    embeds = one.inputs["inputs_embeds"][0]
    assert len(one.views) == built.family.views
    positions = torch.cat([view.flatten() for view in one.views])
    assert len(positions.unique()) == len(positions)
    assert positions.min() >= 0
    assert positions.max() < len(one.mask_ids) == len(embeds)
    assert (one.mask_ids[positions] == -1).all()
    changed = (embeds != other.inputs["inputs_embeds"][0]).any(-1)
    assert changed[positions].all()
    assert not changed[one.mask_ids >= 0].any()
    assert int(changed.sum()) == len(positions)


def test_a_bright_square_lights_up_at_its_own_place(built):
    for size in ((640, 416), (300, 500)):
        places = list(check_grid(built.model.backbone, built.builder, size))
        assert all(place.agrees for place in places), [place.score for place in places]


def test_channels_are_views_times_layers_times_heads(built, sample, found):
    backbone, maps = built.model.backbone, found["mask_attentions"]
    assert maps.shape[:2] == (len(PHRASES), built.family.channels)
    assert backbone.num_channels == built.model.mask_head.in_channels == built.family.channels
    assert maps.shape[-2:] == finest_size(backbone.tokens(sample).views)


@torch.no_grad()
def eager(backbone, sample):
    """What transformers itself returns for the sample in eager mode, and what was read."""
    config = backbone.decoder.config
    before, config._attn_implementation = config._attn_implementation, "eager"
    tokens = backbone.tokens(sample)
    output = backbone.decoder(**tokens.inputs, output_attentions=True, output_hidden_states=True, use_cache=False)
    config._attn_implementation = before
    return tokens, output


def test_capture_equals_eager_attention(built, sample, found):
    model, backbone = built.model, built.model.backbone
    tokens, output = eager(backbone, sample)
    rows = (tokens.mask_ids >= 0).nonzero().flatten()
    later = torch.arange(len(tokens.mask_ids)) > rows[:, None]
    size = finest_size(tokens.views) if backbone.resize_before_merge else None
    merge = built.config.model.get("merge", "mean")
    layers = []
    for attention in output.attentions:
        weights = attention[0, :, rows]
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
        assert not weights[:, later].any()
        views = fold_rows(weights, tokens.views, resize_to=size)
        layers.append([merge_rows(view, rows_by_phrase(tokens.mask_ids[rows]), merge) for view in views])
    expected = stack_maps([torch.stack(view) for view in zip(*layers, strict=True)], backbone.channel_order)
    torch.testing.assert_close(found["mask_attentions"], expected, atol=1e-6, rtol=1e-4)
    hidden = torch.stack([*output.hidden_states[1:-1], output.last_hidden_state])[:, 0, rows]
    hidden = weigh_layers(hidden, model.text_layer_weights)
    torch.testing.assert_close(found["hidden_states"], hidden, atol=1e-4, rtol=1e-4)


def test_maps_are_parts_of_a_softmax(built, found):
    """Over all keys, not over the image: the words and the prompt take their share."""
    maps = found["mask_attentions"]
    assert (maps >= 0).all()
    if built.family.views == 1:
        shares = maps.sum((-2, -1))
        assert 0 < shares.max() < 1


def test_frozen_and_in_eval_even_in_training(built):
    model = built.model.train()
    assert model.mask_head.training
    for frozen in (model.backbone, model.sam.model.image_encoder):
        assert not any(module.training for module in frozen.modules())
        assert not any(parameter.requires_grad for parameter in frozen.parameters())
    model.eval()


def test_gradients_reach_every_trainable_parameter_and_nothing_else(built, sample):
    model = built.model
    model.zero_grad(set_to_none=True)
    terms = model([sample], mode="loss")
    sum(value for key, value in terms.items() if "loss" in key).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    without = {name for name in trained if name.startswith(UNUSED)}
    assert {name for name, gradient in gradients.items() if gradient is not None} == trained - without
    zero = {name for name in trained - without if not gradients[name].any()}
    assert {name for name in zero if not name.endswith(BIAS_OF_KEYS)} == {
        name for name in trained if name.startswith(OTHER_MASKS)
    }
    model.zero_grad(set_to_none=True)


def test_bfloat16_stays_near_float32(built, sample, found):
    """Bounds and what was measured: docs/numerics.md."""
    rounded = built.load(torch.bfloat16)
    assert rounded.backbone.decoder.dtype == torch.bfloat16
    other = rounded(sample, mode="tensor")
    error = (other["mask_attentions"] - found["mask_attentions"]).abs().max() / found["mask_attentions"].max()
    difference = (other["pred_masks"].sigmoid() - found["pred_masks"].sigmoid()).abs().max()
    print(f"{built.name}: maps {float(error):.4f} of the largest value, coarse probabilities {float(difference):.4f}")
    assert other["mask_attentions"].isfinite().all()
    assert 1e-5 < error < (0.02 if built.family.config.startswith("hf.") else 0.1)
    assert difference < 0.05
