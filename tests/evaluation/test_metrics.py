"""Accumulators against the recorded results of the benchmark's own code and against mmdet."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from flmm.evaluation import (
    BoxMetric,
    PNGMetric,
    RESMetric,
    average_recall,
    binary_masks,
    box_iou,
    masks_to_boxes,
    score_masks,
)
from flmm.utils import compute_mask_IoU, multi_apply

GOLDEN = Path(__file__).parents[1] / "golden" / "comp_metrics"
RECORDED = json.loads((GOLDEN / "case.json").read_text())


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN / "tensors.safetensors")


@pytest.mark.parametrize("name", RECORDED["average_accuracy"])
def test_average_recall_agrees_with_the_riemann_sum(golden, name):
    recorded, ious = RECORDED["average_accuracy"][name], golden[f"ious/{name}"]
    assert average_recall(ious) == pytest.approx(recorded["value"], abs=1.001e-5)
    assert average_recall(ious) == pytest.approx(recorded["mean"], abs=1e-7)


@pytest.mark.parametrize("name", RECORDED["average_accuracy"])
def test_accuracy_counts_ious_strictly_above_one_half(golden, name):
    ious = golden[f"ious/{name}"]
    metric = PNGMetric()
    metric.update(ious, ious, ious > 2, ious > 2)
    accuracy = metric.compute()["all"]["accuracy"]
    assert accuracy == pytest.approx(100 * RECORDED["average_accuracy"][name]["acc50"], rel=1e-6, abs=1e-9)


def test_masks_and_scores_are_those_of_the_reference(golden):
    gt = golden["png/gt_masks"].bool()
    masks = binary_masks(golden["png/logits"], gt.shape[-2:])
    scores = score_masks(masks, gt)
    assert torch.equal(masks, golden["png/pred_masks"].bool())
    assert torch.equal(scores.intersection.float(), golden["png/intersection"])
    assert torch.equal(scores.union.float(), golden["png/union"])
    torch.testing.assert_close(scores.iou.float(), golden["png/iou"])
    torch.testing.assert_close(scores.pixel_accuracy.float(), golden["png/pixel_acc"])
    torch.testing.assert_close(compute_mask_IoU(masks.float().flatten(1), gt.float().flatten(1))[2], golden["png/iou"])


@pytest.mark.parametrize("size", [(4, 4), (8, 8)])
def test_nan_is_no_pixel_outside(size):
    """An LMM that overflows in float16 would score like one that finds nothing."""
    logits = torch.full((2, 4, 4), -9.0)
    assert not binary_masks(logits, size).any()
    assert binary_masks(-logits / 0, size).all()  # infinity is sure
    logits[1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="1 of 32 mask logits are NaN: .*bfloat16"):
        binary_masks(logits, size)


def test_groups_of_phrases():
    metric = PNGMetric()
    metric.update([0.9, 0.2, 0.6], [1.0, 0.5, 0.9], [True, False, True], [False, False, True])
    result = metric.compute()
    assert [result[g]["phrases"] for g in ("all", "things", "stuff", "singulars", "plurals")] == [
        3,
        2,
        1,
        2,
        1,
    ]
    assert result["things"]["average_recall"] == pytest.approx(75)
    assert result["stuff"] == {"average_recall": 20, "accuracy": 0, "pixel_accuracy": 50, "phrases": 1}
    assert result["singulars"]["accuracy"] == 50
    assert result["plurals"]["pixel_accuracy"] == pytest.approx(90)


def test_merging_gives_the_same_bits_in_any_order():
    ious = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole, parts = PNGMetric(), [PNGMetric() for _ in range(3)]
    whole.update(ious, ious, ious > 0.3, ious > 0.7)
    for rank, part in enumerate(parts):
        part.update(*[c[rank::3] for c in (ious, ious, ious > 0.3, ious > 0.7)])
    merged = PNGMetric()
    for part in reversed(parts):
        merged.merge(part)
    assert merged.compute() == whole.compute()


def test_an_empty_group_has_no_value():
    metric = PNGMetric()
    metric.update([0.5], [0.5], [True], [False])
    assert metric.compute()["stuff"]["average_recall"] is None
    with pytest.raises(ValueError, match="no phrase"):
        average_recall([])


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one each per phrase"):
        PNGMetric().update([0.5, 0.1], [0.5], [True], [False])
    with pytest.raises(ValueError, match="2 intersections for 1 unions"):
        RESMetric().update([1, 2], [3])
    with pytest.raises(ValueError, match="picture's size"):
        score_masks(torch.ones(1, 4, 4), torch.ones(1, 4, 5))


def test_res_is_recorded_refsegmetric(golden):
    whole, last = RESMetric(), RESMetric()
    for i in range(4):
        scores = score_masks(golden[f"refseg/{i}/pred"], golden[f"refseg/{i}/gt"])
        assert scores.iou.sum() == pytest.approx(RECORDED["refseg_results"][i][2], rel=1e-6)
        (last if i == 3 else whole).update(scores.intersection, scores.union)
    whole.merge(last)
    result = whole.compute()
    assert result["masks"] == 8
    assert result["cIoU"] == pytest.approx(RECORDED["refseg"]["cIoU"], rel=1e-6)
    assert result["mIoU"] == pytest.approx(RECORDED["refseg"]["mIoU"], rel=1e-6)


def test_res_equals_mmdet_also_for_empty_masks():
    from mmdet.evaluation.metrics import RefSegMetric
    from mmdet.structures.mask import BitmapMasks

    import flmm  # noqa: F401  (mmdet needs the patches)

    masks = torch.rand(5, 3, 11, 13, generator=torch.Generator().manual_seed(1)) > 0.6
    targets = torch.rand(5, 3, 11, 13, generator=torch.Generator().manual_seed(2)) > 0.6
    masks[0, 0] = targets[0, 0] = masks[1, 1] = targets[2, 2] = False
    theirs, ours = RefSegMetric(), RESMetric()
    for mask, target in zip(masks, targets, strict=True):
        scores = score_masks(mask, target)
        ours.update(scores.intersection, scores.union)
        gt = BitmapMasks(target.numpy().astype("uint8"), 11, 13)
        theirs.process({}, [{"pred_instances": {"masks": mask}, "gt_masks": gt}])
    expected = {key: float(value) for key, value in theirs.compute_metrics(theirs.results).items()}
    result = ours.compute()
    assert {key: result[key] for key in expected} == pytest.approx(expected, rel=1e-6)


def test_boxes_of_masks():
    masks = torch.zeros(3, 6, 8, dtype=torch.bool)
    masks[0, 1:4, 2:7] = True
    masks[1, 5, 7] = True
    assert masks_to_boxes(masks).tolist() == [[2, 1, 7, 4], [7, 5, 8, 6], [0, 0, 0, 0]]


def test_box_metric():
    boxes = torch.tensor([[0, 0, 4, 4], [0, 0, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0.0]])
    targets = torch.tensor([[0, 0, 4, 3], [2, 2, 4, 4], [0, 0, 2, 2], [0, 0, 0, 0.0]])
    ious = box_iou(boxes, targets)
    assert ious.tolist() == [0.75, 0, 0, 0]
    metric, other = BoxMetric(), BoxMetric()
    metric.update(ious[:1])
    other.update(ious[1:])
    metric.merge(other)
    assert metric.compute() == {"box_mIoU": 18.75, "box_acc50": 25.0}
    assert BoxMetric().compute()["box_acc50"] is None


def test_multi_apply_regroups_results():
    assert multi_apply(lambda a, b, k: (a + b, a * b * k), [1, 2], [3, 4], k=10) == ([4, 6], [30, 80])
