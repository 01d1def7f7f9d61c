"""Predictor, resizing and the ONNX module against the official package."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from segment_anything import SamPredictor
from segment_anything.utils.onnx import SamOnnxModel
from segment_anything.utils.transforms import ResizeLongestSide

POINTS = {"point_coords": np.array([[60, 50], [10, 20]]), "point_labels": np.array([1, 0])}
BOX = {"box": np.array([20, 30, 110, 100])}


@pytest.fixture(scope="module")
def predictors(padded_pair, official, picture):
    ours, theirs = SamPredictor(padded_pair[0]), official.SamPredictor(padded_pair[1])
    for predictor in (ours, theirs):
        predictor.set_image(picture)
    return ours, theirs


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompt", [POINTS, BOX, POINTS | BOX], ids=["points", "box", "both"])
def test_predictions_equal_official(predictors, prompt, multimask):
    ours, theirs = (p.predict(**prompt, multimask_output=multimask, return_logits=True) for p in predictors)
    for our, their in zip(ours, theirs, strict=True):
        assert (our.shape, our.dtype) == (their.shape, their.dtype)
        np.testing.assert_allclose(our, their, rtol=0, atol=1e-5 * np.abs(their).max())


def test_a_mask_can_be_refined(predictors):
    outputs = []
    for predictor in predictors:
        _, _, low_res = predictor.predict(**BOX, multimask_output=False)
        outputs.append(predictor.predict(**POINTS, mask_input=low_res, multimask_output=False))
    masks, _, _ = outputs[0]
    assert masks.dtype == bool
    assert (masks != outputs[1][0]).mean() < 1e-3
    np.testing.assert_allclose(outputs[0][1], outputs[1][1], atol=1e-4)


def test_channel_order(predictors, picture):
    ours, _ = predictors
    rgb = ours.get_image_embedding()
    other = SamPredictor(ours.model)
    other.set_image(np.ascontiguousarray(picture[..., ::-1]), image_format="BGR")
    torch.testing.assert_close(other.get_image_embedding(), rgb, rtol=0, atol=0)


def test_text_prompts_change_the_mask(predictors):
    ours, _ = predictors
    boxes = torch.tensor([[20.0, 30.0, 100.0, 90.0]])
    text = torch.ones(1, 3, ours.model.prompt_encoder.embed_dim)
    plain, _, _ = ours.predict_torch(None, None, boxes, return_logits=True)
    told, _, _ = ours.predict_torch(None, None, boxes, return_logits=True, text_embeds=text)
    assert (plain - told).abs().max() > 1e-3


def test_a_bfloat16_model_predicts(padded_pair, picture):
    predictor = SamPredictor(copy.deepcopy(padded_pair[0]).bfloat16())
    predictor.set_image(picture)
    masks, iou, low_res = predictor.predict(**BOX, return_logits=True)
    assert {masks.dtype, iou.dtype, low_res.dtype} == {np.dtype("float32")}


def test_misuse_is_explained(padded_pair, picture):
    predictor = SamPredictor(padded_pair[0])
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.predict(**BOX)
    with pytest.raises(ValueError, match=r"uint8 \[120, 170\].*convert\('RGB'\)"):
        predictor.set_image(picture[..., 0])
    with pytest.raises(ValueError, match="'RGB' or 'BGR', got 'HSV'"):
        predictor.set_image(picture, image_format="HSV")
    predictor.set_image(picture)
    with pytest.raises(ValueError, match="one label per point"):
        predictor.predict(point_coords=POINTS["point_coords"])
    labels_only = predictor.predict(point_labels=np.array([1]), **BOX)[0]
    np.testing.assert_array_equal(labels_only, predictor.predict(**BOX)[0])  # as the official one
    predictor.reset_image()
    with pytest.raises(RuntimeError, match="set_image"):
        predictor.get_image_embedding()


@pytest.mark.parametrize("size", [(480, 640), (640, 427), (90, 121), (50, 50), (1200, 300)])
def test_pillow_and_tensors_resize_alike(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    transform = ResizeLongestSide(224)
    expected = transform.apply_image(image).astype(float)
    tensor = transform.apply_image_torch(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0)
    assert max(expected.shape[:2]) == 224
    assert np.abs(tensor.numpy() - expected).max() < 1.01  # Pillow rounds after each of its two passes
    assert np.abs(tensor.numpy() - expected).mean() < 0.4


def test_resizing_equals_official(official):
    ours, theirs = ResizeLongestSide(1024), official.utils.transforms.ResizeLongestSide(1024)
    image = np.random.default_rng(0).integers(0, 256, (333, 500, 3), dtype=np.uint8)
    np.testing.assert_array_equal(ours.apply_image(image), theirs.apply_image(image))
    boxes = np.array([[1, 2, 300, 400], [5.5, 6, 7, 8]])
    before = boxes.copy()
    np.testing.assert_allclose(ours.apply_boxes(boxes, (333, 500)), theirs.apply_boxes(boxes, (333, 500)))
    np.testing.assert_array_equal(boxes, before)
    tensor = torch.from_numpy(boxes)
    torch.testing.assert_close(ours.apply_boxes_torch(tensor, (333, 500)), theirs.apply_boxes_torch(tensor, (333, 500)))
    for height in range(1, 60):
        for width in (7, 500, 641):
            expected = theirs.get_preprocess_shape(height, width, 1024)
            assert ours.get_preprocess_shape(height, width, 1024) == tuple(max(1, side) for side in expected)


def onnx_inputs(predictor, mask):
    coords = predictor.transform.apply_coords(POINTS["point_coords"], predictor.original_size)
    corners = predictor.transform.apply_boxes(BOX["box"], predictor.original_size).reshape(2, 2)
    return (
        predictor.get_image_embedding(),
        torch.tensor(np.concatenate([coords, corners])[None], dtype=torch.float32),
        torch.tensor([[1.0, 0.0, 2.0, 3.0]]),
        mask,
        torch.ones(1),
        torch.tensor(predictor.original_size, dtype=torch.float32),
    )


@pytest.fixture
def mask_prompt(padded_pair):
    size = padded_pair[0].prompt_encoder.mask_input_size
    return torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(7))


def test_onnx_module_equals_predictor(predictors, mask_prompt):
    ours, _ = predictors
    masks, iou, low_res = SamOnnxModel(ours.model, return_single_mask=False)(*onnx_inputs(ours, mask_prompt))
    expected = ours.predict(**POINTS, **BOX, mask_input=mask_prompt[0].numpy(), return_logits=True)
    for our, their in zip((masks, iou, low_res), expected, strict=True):
        np.testing.assert_allclose(our[0, 1:], their, rtol=0, atol=1e-5 * np.abs(their).max())


@pytest.mark.parametrize("flags", [(True, False, True), (True, True, False), (False, True, True)])
@pytest.mark.parametrize("clicks", [1, 3])
def test_onnx_module_equals_official(predictors, official, mask_prompt, flags, clicks, close):
    ours, theirs = predictors
    embedding, coords, labels, mask, has_mask, size = onnx_inputs(ours, mask_prompt)
    inputs = (embedding, coords[:, :clicks], labels[:, :clicks], mask, has_mask, size)
    modules = SamOnnxModel(ours.model, *flags), official.utils.onnx.SamOnnxModel(theirs.model, *flags)
    for module in modules:
        module.stability_score_offset = 0.1
    (masks, scores, *others), (their_masks, their_scores, *theirs) = (module(*inputs) for module in modules)
    close(masks, their_masks)
    # a pixel at the threshold may round to either side: it counts in areas, and in ratios of areas
    torch.testing.assert_close(scores, their_scores, rtol=0, atol=1e-3 if flags[1] else 1e-5)
    for our, their in zip(others, theirs, strict=True):
        if our.is_floating_point():
            close(our, their)
        else:
            assert int((our - their).abs().max()) <= 2


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_onnx_module_traces_with_free_sizes(predictors, mask_prompt, close):
    ours, _ = predictors
    module = SamOnnxModel(ours.model, return_single_mask=True)
    embedding, coords, labels, mask, has_mask, size = onnx_inputs(ours, mask_prompt)
    traced = torch.jit.trace(module, (embedding, coords, labels, mask, has_mask, size))
    other = (embedding, coords[:, :2], labels[:, :2], mask, torch.zeros(1), torch.tensor([99.0, 64.0]))
    for our, their in zip(traced(*other), module(*other), strict=True):
        close(our, their)


@pytest.mark.parametrize("size", [(1, 600), (600, 1), (2, 5000)])
def test_onnx_module_takes_thin_pictures(predictors, mask_prompt, size):
    module = SamOnnxModel(predictors[0].model, return_single_mask=True)
    *inputs, _ = onnx_inputs(predictors[0], mask_prompt)
    assert module(*inputs, torch.tensor(size, dtype=torch.float32))[0].shape[-2:] == size


NO_IMAGES = [np.zeros((9, 9), np.uint8), np.zeros((9, 9, 3)), np.zeros((0, 9, 3), np.uint8), Image.new("RGB", (9, 9))]


@pytest.mark.parametrize("image", NO_IMAGES)
def test_what_is_no_image_is_refused(predictors, image):
    with pytest.raises(ValueError, match=r"image must be uint8 \[H, W, 3\], got (uint8|float64|Image)"):
        predictors[0].set_image(image)


def test_several_boxes_are_not_cut_to_the_first(predictors):
    """The official package uses the first of them, without a word."""
    box = np.array([5.0, 4, 30, 20])
    assert np.array_equal(predictors[0].predict(box=box)[0], predictors[0].predict(box=box[None])[0])
    with pytest.raises(ValueError, match=r"box is \[2, 4\]: give one of four numbers, or several to predict_torch"):
        predictors[0].predict(box=np.stack([box, box]))
