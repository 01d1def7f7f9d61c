"""Encoders and decoder against the package segment-anything 1.0, and what they do beyond it."""

import copy
import importlib

import pytest
import torch

from segment_anything.modeling import image_encoder as image_encoder_module

# the package gives the name of this module to a function
build_sam_module = importlib.import_module("segment_anything.build_sam")


def make_prompts(sam, batch):
    generator = torch.Generator().manual_seed(2)
    side = sam.image_encoder.img_size

    def random(*shape):
        return torch.rand(*shape, generator=generator)

    labels = torch.tensor([1, 0, -1]).expand(batch, 3)
    return {
        "points": (random(batch, 3, 2) * side, labels),
        "boxes": random(batch, 4) * side,
        "masks": random(batch, 1, *sam.prompt_encoder.mask_input_size) * 8 - 4,
        "text_embeds": random(batch, 5, sam.prompt_encoder.embed_dim),
    }


def choose(prompts, given):
    return [prompts[name] if name in given else None for name in ("points", "boxes", "masks")]


def random_images(sam, batch=1):
    side = sam.image_encoder.img_size
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(3))


def random_embedding(sam, batch=1):
    size = sam.prompt_encoder.image_embedding_size
    generator = torch.Generator().manual_seed(4)
    return torch.randn(batch, sam.prompt_encoder.embed_dim, *size, generator=generator)


@torch.no_grad()
def test_image_encoder_equals_official(pair, close):
    ours, theirs = pair
    images = random_images(ours, batch=2)
    close(ours.image_encoder(images), theirs.image_encoder(images))


def test_image_encoder_gradients_equal_official(padded_pair, close):
    grads = []
    for sam in padded_pair:
        sam.image_encoder.zero_grad()
        sam.image_encoder(random_images(sam)).square().mean().backward()
        grads.append({name: p.grad.clone() for name, p in sam.image_encoder.named_parameters()})
        sam.image_encoder.zero_grad()
    for name, grad in grads[1].items():
        close(grads[0][name], grad)


@torch.no_grad()
def test_attention_is_the_same_in_slabs(pair, close, monkeypatch):
    encoder = pair[0].image_encoder
    images = random_images(pair[0])
    whole = encoder(images)
    monkeypatch.setattr(image_encoder_module, "MAX_BIAS_ELEMENTS", 50_000)
    close(encoder(images), whole)


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("given", [(), ("points",), ("boxes",), ("masks",), ("points", "boxes", "masks")], ids="+".join)
@torch.no_grad()
def test_prompts_and_decoder_equal_official(pair, close, given, multimask):
    prompts = choose(make_prompts(pair[0], batch=4 if given else 1), given)
    outputs = []
    for sam in pair:
        sparse, dense = sam.prompt_encoder(*prompts)
        pe = sam.prompt_encoder.get_dense_pe()
        masks = sam.mask_decoder(random_embedding(sam), pe, sparse, dense, multimask)
        outputs.append((sparse, dense, pe, *masks))
    for ours, theirs in zip(*outputs, strict=True):
        if theirs.numel():
            close(ours, theirs)
        else:
            assert ours.shape == theirs.shape


def test_head_gradients_equal_official(padded_pair):
    grads = []
    for sam in padded_pair:
        sam.zero_grad()
        sparse, dense = sam.prompt_encoder(*choose(make_prompts(sam, 3), ("boxes", "masks")))
        pe = sam.prompt_encoder.get_dense_pe()
        masks, _ = sam.mask_decoder(random_embedding(sam), pe, sparse, dense, False)
        masks.square().sum().backward()
        grads.append({name: p.grad for name, p in sam.named_parameters()})
    largest = max(float(grad.abs().max()) for grad in grads[1].values() if grad is not None)
    for name, grad in grads[1].items():  # equal as to which parameters have none, too
        if grad is None:
            assert grads[0][name] is None, name
        else:  # key biases have no true gradient, only rounding
            atol = max(1e-5 * float(grad.abs().max()), 1e-6 * largest)
            torch.testing.assert_close(grads[0][name], grad, rtol=0, atol=atol, msg=name)


@torch.no_grad()
def test_text_is_appended_to_the_sparse_prompts(padded_pair):
    sam, _ = padded_pair
    prompts = make_prompts(sam, 2)
    without, _ = sam.prompt_encoder(None, prompts["boxes"], None)
    sparse, dense = sam.prompt_encoder(None, prompts["boxes"], None, prompts["text_embeds"])
    torch.testing.assert_close(sparse, torch.cat([without, prompts["text_embeds"]], dim=1), rtol=0, atol=0)
    alone, _ = sam.prompt_encoder(None, None, None, prompts["text_embeds"])
    torch.testing.assert_close(alone, prompts["text_embeds"], rtol=0, atol=0)
    pe = sam.prompt_encoder.get_dense_pe()
    with_text, _ = sam.mask_decoder(random_embedding(sam), pe, sparse, dense, False)
    no_text, _ = sam.mask_decoder(random_embedding(sam), pe, without, dense, False)
    assert (with_text - no_text).abs().max() > 1e-2


def test_prompts_for_different_numbers_of_masks_are_refused(padded_pair):
    sam, _ = padded_pair
    two, three = make_prompts(sam, 2), make_prompts(sam, 3)
    with pytest.raises(ValueError, match="'boxes': 2, 'text_embeds': 3"):
        sam.prompt_encoder(None, two["boxes"], None, three["text_embeds"])
    with pytest.raises(ValueError, match="'boxes': 3, 'masks': 2"):
        sam.prompt_encoder(None, three["boxes"], two["masks"])


@torch.no_grad()
@pytest.mark.parametrize("given", ["points", "boxes"])
def test_one_mask_input_is_for_all_prompts(padded_pair, given):
    """The official prompt encoder leaves this to broadcasting in the decoder."""
    outputs = []
    for sam in padded_pair:
        prompts = make_prompts(sam, 3)
        sparse, dense = sam.prompt_encoder(*choose({**prompts, "masks": prompts["masks"][:1]}, (given, "masks")))
        image_pe = sam.prompt_encoder.get_dense_pe()
        outputs.append(sam.mask_decoder(random_embedding(sam), image_pe, sparse, dense, False)[0])
    assert len(outputs[0]) == 3
    torch.testing.assert_close(*outputs)


@torch.no_grad()
def test_many_phrases_are_decoded_as_one_by_one(padded_pair, close):
    sam, _ = padded_pair
    sparse, dense = sam.prompt_encoder(*choose(make_prompts(sam, 4), ("boxes", "masks")))
    pe, image = sam.prompt_encoder.get_dense_pe(), random_embedding(sam)
    masks, iou = sam.mask_decoder(image, pe, sparse, dense, True)
    for i in range(4):
        one, one_iou = sam.mask_decoder(image, pe, sparse[i : i + 1], dense[i : i + 1], True)
        close(masks[i : i + 1], one)
        close(iou[i : i + 1], one_iou)


@torch.no_grad()
def test_an_image_for_each_prompt(padded_pair, close):
    sam, _ = padded_pair
    sparse, dense = sam.prompt_encoder(*choose(make_prompts(sam, 3), ("boxes",)))
    pe, images = sam.prompt_encoder.get_dense_pe(), random_embedding(sam, batch=3)
    masks, _ = sam.mask_decoder(images, pe, sparse, dense, False)
    for i in range(3):
        one, _ = sam.mask_decoder(images[i : i + 1], pe, sparse[i : i + 1], dense[i : i + 1], False)
        close(masks[i : i + 1], one)
    with pytest.raises(ValueError, match="2 image embeddings for 3 prompts"):
        sam.mask_decoder(images[:2], pe, sparse, dense, False)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_other_dtypes_run_through(padded_pair, dtype):
    sam = copy.deepcopy(padded_pair[0])
    prompts = make_prompts(sam, 2)
    arguments = (prompts["points"], prompts["boxes"], prompts["masks"], prompts["text_embeds"])
    image = torch.randint(0, 256, (3, 100, 160), generator=torch.Generator().manual_seed(5), dtype=torch.uint8)

    def run():
        embedding = sam.image_encoder(sam.preprocess(image[None]))
        sparse, dense = sam.prompt_encoder(*arguments)
        masks, _ = sam.mask_decoder(embedding, sam.prompt_encoder.get_dense_pe(), sparse, dense, False)
        return sam.postprocess_masks(masks, (100, 160), (50, 80))

    exact = run()
    sam.to(dtype)
    rounded = run()
    assert rounded.dtype == dtype
    assert (rounded.float() - exact).std() < 0.05 * exact.std()


@torch.no_grad()
def test_positions_stay_exact_under_autocast(padded_pair):
    sam, _ = padded_pair
    layer = sam.prompt_encoder.pe_layer
    pixels = torch.tensor([[[1000.25, 3.5], [1001.25, 3.5]]])
    exact = layer.forward_with_coords(pixels, (1024, 1024))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(layer.forward_with_coords(pixels, (1024, 1024)), exact, rtol=0, atol=0)


@torch.no_grad()
def test_whole_model_equals_official(padded_pair, close):
    generator = torch.Generator().manual_seed(6)
    records = []
    for size in ((160, 90), (77, 160)):
        image = torch.rand(3, *size, generator=generator) * 255
        boxes = torch.rand(2, 4, generator=generator) * 90
        coords, labels = torch.rand(2, 1, 2, generator=generator) * 90, torch.ones(2, 1)
        records.append({"image": image, "original_size": (size[0] * 2, size[1] * 2), "boxes": boxes})
        records[-1] |= {"point_coords": coords, "point_labels": labels}
    ours, theirs = (sam(records, multimask_output=True) for sam in padded_pair)
    for our, their in zip(ours, theirs, strict=True):
        assert our.keys() == their.keys()
        assert (our["masks"] != their["masks"]).float().mean() < 1e-4
        close(our["iou_predictions"], their["iou_predictions"])
        close(our["low_res_logits"], their["low_res_logits"])


@pytest.mark.parametrize("size", [(14, 14), (20, 17), (3, 5)])
def test_windows_equal_official(official, size):
    theirs = importlib.import_module(f"{official.__name__}.modeling.image_encoder")
    x = torch.randn(2, *size, 8)
    ours, padded = image_encoder_module.window_partition(x, 7)
    expected, their_padded = theirs.window_partition(x, 7)
    assert padded == their_padded
    assert torch.equal(ours, expected)
    assert torch.equal(image_encoder_module.window_unpartition(ours, 7, padded, size), x)


@pytest.mark.parametrize(("q_size", "k_size", "length"), [(8, 8, 15), (8, 8, 27), (14, 14, 15), (4, 8, 15), (8, 4, 9)])
def test_relative_positions_equal_official(official, q_size, k_size, length):
    """The table is interpolated when it was made for another grid."""
    theirs = importlib.import_module(f"{official.__name__}.modeling.image_encoder")
    table, other = torch.randn(length, 16), torch.randn(length, 16)
    ours = image_encoder_module.get_rel_pos(q_size, k_size, table)
    torch.testing.assert_close(ours, theirs.get_rel_pos(q_size, k_size, table))
    maps, q = torch.randn(3, q_size**2, k_size**2), torch.randn(3, q_size**2, 16)
    arguments = (maps, q, table, other, (q_size, q_size), (k_size, k_size))
    torch.testing.assert_close(
        image_encoder_module.add_decomposed_rel_pos(*arguments), theirs.add_decomposed_rel_pos(*arguments)
    )


@torch.no_grad()
def test_attention_over_another_grid_equals_official(official):
    theirs = importlib.import_module(f"{official.__name__}.modeling.image_encoder")
    arguments = {"dim": 32, "num_heads": 2, "use_rel_pos": True, "rel_pos_zero_init": False, "input_size": (8, 8)}
    ours, expected = image_encoder_module.Attention(**arguments), theirs.Attention(**arguments)
    expected.load_state_dict(ours.state_dict())
    x = torch.randn(1, 5, 11, 32)
    torch.testing.assert_close(ours(x), expected(x))


def test_others_variants_are_built_by_the_official_arguments():
    with torch.device("meta"):
        sam = build_sam_module._build_sam(768, 1, 12, [0])
    assert sam.image_encoder.pos_embed.shape == (1, 64, 64, 768)
    assert sam.image_encoder.blocks[0].window_size == 0


def test_images_of_another_size_are_refused(padded_pair):
    sam, _ = padded_pair
    with pytest.raises(ValueError, match=r"\[B, C, 160, 160\], got \[1, 3, 160, 120\]"):
        sam.image_encoder(torch.zeros(1, 3, 160, 120))
    with pytest.raises(ValueError, match=r"161 x 20 .* ResizeLongestSide\(160\)"):
        sam.preprocess(torch.zeros(3, 161, 20))
