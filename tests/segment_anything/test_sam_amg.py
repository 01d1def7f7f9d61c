"""Automatic masks and their bookkeeping against the official package."""

import numpy as np
import pytest
import torch
from torch import nn

from segment_anything import SamAutomaticMaskGenerator
from segment_anything.modeling import Sam
from segment_anything.utils import amg

GRID = {
    "points_per_side": 6,
    "points_per_batch": 7,
    "pred_iou_thresh": 0.4,
    "stability_score_thresh": 0.6,
    "box_nms_thresh": 0.7,
}
CROPS = GRID | {"crop_n_layers": 1, "crop_n_points_downscale_factor": 2, "crop_nms_thresh": 0.5}


class Encoder(nn.Module):
    img_size = 160

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 1, 8, 8)

    def forward(self, x):
        return self.patches(x)


class Prompts(nn.Module):
    def forward(self, points, boxes, masks, text_embeds=None):
        return points[0][:, 0].float(), None

    def get_dense_pe(self):
        return None


class Discs(nn.Module):
    """Three ragged discs around a point; random weights would scatter every mask over the image."""

    def forward(self, image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, multimask_output):
        centre = sparse_prompt_embeddings
        pixels = torch.arange(80.0) * 2 + 1
        x, y = pixels - centre[:, :1], pixels - centre[:, 1:]  # each [B, 80]
        distance = torch.hypot(x[:, None, :], y[:, :, None])[:, None]
        ragged = 5 * (1.7 * pixels).sin() * (1.3 * pixels[:, None]).sin()
        radii = torch.tensor([9.0, 21.0, 45.0]).view(1, 3, 1, 1)
        iou = 0.6 + 0.4 * torch.sin(centre[:, :1] + centre[:, 1:] * torch.tensor([1.0, 2.0, 3.0]))
        return radii - distance + ragged, iou


@pytest.fixture(scope="module")
def models(official):
    encoder = Encoder()
    return tuple(sam(encoder, Prompts(), Discs(), [120.0] * 3, [60.0] * 3) for sam in (Sam, official.modeling.Sam))


@pytest.mark.parametrize(
    ("options", "least"),
    [
        (GRID, 15),
        (CROPS, 20),
        (CROPS | {"min_mask_region_area": 60, "output_mode": "coco_rle"}, 20),
        (GRID | {"point_grids": [np.array([[0.3, 0.4], [0.8, 0.7]])], "points_per_side": None}, 2),
        (GRID | {"pred_iou_thresh": 99.0}, 0),
    ],
    ids=["grid", "crops", "clean", "own_grid", "none"],
)
def test_masks_equal_official(models, official, picture, options, least):
    ours = SamAutomaticMaskGenerator(models[0], **options).generate(picture)
    theirs = official.SamAutomaticMaskGenerator(models[1], **options).generate(picture)
    assert_same_records(ours, theirs, picture.shape[:2], least)


def test_masks_of_the_real_decoder_equal_official(padded_pair, official, picture):
    options = GRID | {"pred_iou_thresh": -9.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.01}
    ours = SamAutomaticMaskGenerator(padded_pair[0], **options).generate(picture)
    theirs = official.SamAutomaticMaskGenerator(padded_pair[1], **options).generate(picture)
    assert_same_records(ours, theirs, picture.shape[:2], 100)


def assert_same_records(ours, theirs, size, least):
    assert len(ours) == len(theirs) >= least
    for our, their in zip(ours, theirs, strict=True):
        assert our.keys() == their.keys()
        masks = [decode(record.pop("segmentation")) for record in (our, their)]
        assert masks[0].shape == size
        assert (masks[0] != masks[1]).sum() <= 2  # a logit may lie within rounding of the threshold
        assert our.pop("area") == masks[0].sum()
        for name, value in our.items():
            np.testing.assert_allclose(value, their[name], rtol=1e-3, err_msg=name)


def test_crops_without_any_mask(models, picture):
    options = CROPS | {"stability_score_thresh": 99.0, "min_mask_region_area": 10}
    assert SamAutomaticMaskGenerator(models[0], **options).generate(picture) == []


def decode(segmentation):
    if isinstance(segmentation, np.ndarray):
        return segmentation
    from pycocotools import mask as coco_mask

    return coco_mask.decode(segmentation).astype(bool)


def test_output_modes_hold_the_same_masks(models, picture):
    binary, runs, coco = (
        SamAutomaticMaskGenerator(models[0], **GRID, output_mode=mode).generate(picture)
        for mode in ("binary_mask", "uncompressed_rle", "coco_rle")
    )
    for a, b, c in zip(binary, runs, coco, strict=True):
        np.testing.assert_array_equal(a["segmentation"], amg.rle_to_mask(b["segmentation"]))
        np.testing.assert_array_equal(a["segmentation"], decode(c["segmentation"]))


def test_misuse_is_explained(models):
    with pytest.raises(ValueError, match="exactly one of points_per_side and point_grids"):
        SamAutomaticMaskGenerator(models[0], points_per_side=None)
    with pytest.raises(ValueError, match="got 'png'"):
        SamAutomaticMaskGenerator(models[0], output_mode="png")


@pytest.fixture(scope="module")
def masks():
    """Random, empty, full and single-pixel masks [8, 23, 31]."""
    masks = torch.rand(8, 23, 31, generator=torch.Generator().manual_seed(8)) > 0.6
    masks[1], masks[2], masks[3] = False, True, False
    masks[3, 0, 0] = masks[4, 0, 0] = True
    masks[5, -1, -1] = True
    masks[6, :4], masks[6, 20:], masks[6, :, :2] = False, False, False
    return masks


def test_run_lengths_equal_official(masks, official):
    runs = amg.mask_to_rle_pytorch(masks)
    assert runs == official.utils.amg.mask_to_rle_pytorch(masks)
    assert amg.mask_to_rle_pytorch(masks[:0]) == []
    for mask, rle in zip(masks.numpy(), runs, strict=True):
        np.testing.assert_array_equal(amg.rle_to_mask(rle), mask)
        assert amg.area_from_rle(rle) == mask.sum()
        assert amg.coco_encode_rle(rle) == official.utils.amg.coco_encode_rle(rle)


def test_boxes_equal_official(masks, official):
    assert torch.equal(amg.batched_mask_to_box(masks), official.utils.amg.batched_mask_to_box(masks))
    assert amg.batched_mask_to_box(masks[:0]).shape == (0, 4)
    assert amg.batched_mask_to_box(masks.view(2, 4, 23, 31)).shape == (2, 4, 4)
    box = torch.tensor([3, 4, 10, 20])
    assert amg.box_xyxy_to_xywh(box).tolist() == [3, 4, 7, 16]


def test_stability_equals_official(official):
    logits = torch.randn(5, 20, 30, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(
        amg.calculate_stability_score(logits, 0.1, 0.5),
        official.utils.amg.calculate_stability_score(logits, 0.1, 0.5),
    )


@pytest.mark.parametrize("size", [(480, 640), (641, 333), (100, 100)])
def test_crops_and_grids_equal_official(size, official):
    theirs = official.utils.amg
    for layers in range(4):
        assert amg.generate_crop_boxes(size, layers, 512 / 1500) == theirs.generate_crop_boxes(size, layers, 512 / 1500)
    for our, their in zip(
        amg.build_all_layer_point_grids(16, 2, 2), theirs.build_all_layer_point_grids(16, 2, 2), strict=True
    ):
        np.testing.assert_array_equal(our, their)
    boxes = torch.tensor([[0, 0, 50, 50], [25, 30, 60, 70], [60, 60, 99, 99]])
    for crop in ([0, 0, 100, 100], [0, 0, size[1], size[0]], [10, 10, 110, 110]):
        original = [0, 0, size[1], size[0]]
        near = amg.is_box_near_crop_edge(boxes, crop, original)
        assert torch.equal(near, theirs.is_box_near_crop_edge(boxes, crop, original))


def test_frames_of_crops(official):
    mask = torch.ones(2, 5, 6, dtype=torch.bool)
    crop = [3, 2, 9, 7]
    assert torch.equal(amg.uncrop_masks(mask, crop, 10, 12), official.utils.amg.uncrop_masks(mask, crop, 10, 12))
    assert amg.uncrop_points(torch.tensor([[1.0, 1.0]]), crop).tolist() == [[4.0, 3.0]]


@pytest.mark.parametrize("mode", ["holes", "islands"])
@pytest.mark.parametrize("threshold", [0, 3, 20, 10_000])
def test_small_regions_equal_official(masks, official, mode, threshold):
    for mask in masks.numpy():
        our, changed = amg.remove_small_regions(mask, threshold, mode)
        their, their_changed = official.utils.amg.remove_small_regions(mask, threshold, mode)
        assert changed == their_changed
        np.testing.assert_array_equal(our, their)


def test_table_keeps_its_columns_together():
    table = amg.MaskData(a=torch.arange(4), b=np.arange(4) * 2, c=list("wxyz"))
    table.filter(torch.tensor([True, False, True, True]))
    table.filter(torch.tensor([2, 0]))
    other = amg.MaskData()
    other.cat(table)
    other.cat(table)
    other.to_numpy()
    assert {name: list(column) for name, column in other.items()} == {
        "a": [3, 0, 3, 0],
        "b": [6, 0, 6, 0],
        "c": ["z", "w", "z", "w"],
    }
    assert table["c"] == ["z", "w"]
    with pytest.raises(TypeError, match="column 'd'"):
        table["d"] = 3
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        next(amg.batch_iterator(2, [1, 2], [1, 2, 3]))
