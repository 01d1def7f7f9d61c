import pytest
import torch
from families import TRAINED
from golden_cases import GoldenCase, build_llava, golden_names

from flmm.models.frozen_llava import FrozenLlava, FrozenLlavaSAM
from flmm.models.frozen_lmm import build
from flmm.models.losses import mask_losses

TERMS = {"loss_mask", "loss_dice", "accuracy", "aiou"}


@pytest.fixture(scope="module")
def case():
    return GoldenCase(golden_names("llava15")[0])


@pytest.fixture(scope="module")
def model(case):
    model = build_llava(case)
    case.load_head(model)
    return model


@pytest.fixture
def sample(case):
    return case.samples()[0]


def test_trainable_names_are_the_public_format(model):
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert names
    assert all(name.startswith(TRAINED) for name in names)
    assert all(any(name.startswith(prefix) for name in names) for prefix in TRAINED)


def test_the_lmm_and_sams_image_encoder_stay_in_eval_mode(model):
    model.train()
    assert model.training
    assert model.mask_head.training
    assert not any(m.training for m in model.backbone.modules())
    assert not any(m.training for m in model.sam.model.image_encoder.modules())
    model.eval()


def test_loss_terms_and_gradients(model, sample):
    model.zero_grad(set_to_none=True)
    losses = model([sample], mode="loss")
    assert set(losses) == TERMS | {f"sam_{term}" for term in TERMS}
    total, logged = model.parse_losses(losses)
    assert float(total) == pytest.approx(sum(float(v) for k, v in losses.items() if "loss" in k))
    total.backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert all(p.grad is None for p in model.sam.model.image_encoder.parameters())
    assert float(model.text_layer_weights.grad.norm()) > 0
    assert float(model.text_proj.weight.grad.norm()) > 0
    assert float(model.mask_head.conv_seg.weight.grad.norm()) > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_a_head_in_half_precision(model, dtype):
    """Dice sums over all pixels: in float16 such a sum overflows, and nothing would be learned."""
    targets = torch.zeros(2, 480, 640)
    targets[:, 100:400, 100:600] = 1
    logits = (targets * 6 - 3 + torch.randn(targets.shape)).to(dtype).requires_grad_()
    terms = mask_losses(logits, targets.to(dtype), model.loss_mask, model.loss_dice)
    expected = mask_losses(logits.detach().float(), targets, model.loss_mask, model.loss_dice)
    for key, value in terms.items():
        torch.testing.assert_close(value.detach(), expected[key], rtol=1e-6, atol=0)
    terms["loss_dice"].backward()
    assert logits.grad.abs().sum() > 0


def test_one_sample_or_a_list(model, sample):
    single = model(sample, mode="predict")
    (listed,) = model([sample], mode="predict")
    assert torch.equal(single, listed)
    assert single.shape == (len(sample["masks"]), sample["image"].height, sample["image"].width)
    assert torch.equal(model(sample, mode="tensor")["sam_pred_masks"], single)
    assert not single.requires_grad


def test_samples_are_weighted_with_their_masks(model, sample):
    one = {
        **sample,
        "masks": sample["masks"][:1],
        "mask_ids": sample["mask_ids"].clone().masked_fill_(sample["mask_ids"] > 0, -1),
    }
    with torch.no_grad():
        both = model([sample, one], mode="loss")
        first, second = model([sample], mode="loss"), model([one], mode="loss")
    count = len(sample["masks"])
    expected = (count * first["loss_mask"] + second["loss_mask"]) / (count + 1)
    torch.testing.assert_close(both["loss_mask"], expected)


def test_without_sam_the_coarse_masks_are_the_prediction(case, model, sample):
    config = {key: value for key, value in case.head_config().items() if key != "sam"}
    coarse = FrozenLlava(model=model.backbone.model, **config)
    coarse.load_state_dict(model.state_dict(), strict=False)
    assert not any(name.startswith("text") for name, _ in coarse.named_parameters())
    torch.testing.assert_close(coarse.predict(sample), model(sample, mode="tensor")["pred_masks"])
    assert set(coarse([sample], mode="loss")) == TERMS


def test_bfloat16_lmm_agrees_with_float32(case, model, sample):
    exact = model(sample, mode="tensor")
    model.backbone.bfloat16()
    rounded = model(sample, mode="tensor")
    model.backbone.float()
    maps = exact["mask_attentions"]
    assert float((rounded["mask_attentions"] - maps).abs().max() / maps.max()) < 0.1
    agreement = ((rounded["sam_pred_masks"] > 0) == (exact["sam_pred_masks"] > 0)).float().mean()
    assert float(agreement) > 0.97


def test_a_phrase_never_attends_to_the_future(model, sample):
    before = model(sample, mode="tensor")["mask_attentions"]
    last = int((sample["mask_ids"] >= 0).nonzero().max())
    longer = {**sample}
    for key, value in (("input_ids", 7), ("mask_ids", -1)):
        longer[key] = torch.cat([sample[key][: last + 1], torch.full((9,), value)])
    torch.testing.assert_close(model(longer, mode="tensor")["mask_attentions"], before)


@pytest.mark.parametrize(
    ("mask_ids", "message"),
    [
        (lambda m: torch.full_like(m, -1), "no token belongs to a phrase"),
        (lambda m: m.masked_fill(m == 0, -1), r"\[0\] have no token"),
    ],
)
def test_phrases_without_tokens_are_refused(model, sample, mask_ids, message):
    with pytest.raises(ValueError, match=message):
        model({**sample, "mask_ids": mask_ids(sample["mask_ids"])}, mode="predict")


@pytest.mark.parametrize("count", [0, 2])
def test_the_image_token_must_occur_once(model, sample, count):
    ids = sample["input_ids"]
    image = model.backbone.model.config.image_token_id
    text = ids[ids != image]
    ids = (
        torch.cat([torch.full((count,), image), text, text[: 1 - count]])
        if count < 2
        else torch.cat([torch.full((2,), image), text])
    )
    mask_ids = torch.full_like(ids, -1).index_fill(0, torch.tensor([len(ids) - 1]), 0)
    with pytest.raises(ValueError, match=f"{count} image tokens"):
        model({**sample, "input_ids": ids, "mask_ids": mask_ids}, mode="predict")


def test_the_lmm_decides_how_many_channels_a_configured_head_has(case, model):
    config = case.head_config()
    config["mask_head"]["in_channels"] = 2048  # as the reference's configs say for every LMM
    built = FrozenLlavaSAM(model=model.backbone.model, **config)
    assert built.mask_head.in_channels == model.backbone.num_channels == 12
    assert config["mask_head"]["in_channels"] == 2048


def test_a_finished_head_of_other_channels_names_both_numbers(case, model, sample):
    config = case.head_config()
    config["mask_head"] = build(config["mask_head"], in_channels=99)
    wrong = FrozenLlavaSAM(model=model.backbone.model, **config)
    with pytest.raises(ValueError, match="12 attention maps, but mask_head.in_channels is 99"):
        wrong.predict(sample)


def test_wrong_merge_and_mode_are_refused(case, model, sample):
    with pytest.raises(ValueError, match="merge='sum'"):
        FrozenLlavaSAM(model=model.backbone.model, **{**case.head_config(), "merge": "sum"})
    with pytest.raises(ValueError, match="mode='train'"):
        model(sample, mode="train")
