"""Segment everything: prompt with a grid of points and keep the masks that are good and not duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .modeling import Sam
from .predictor import SamPredictor
from .utils.amg import (
    MaskData,
    area_from_rle,
    batch_iterator,
    batched_mask_to_box,
    box_xyxy_to_xywh,
    build_all_layer_point_grids,
    calculate_stability_score,
    coco_encode_rle,
    generate_crop_boxes,
    is_box_near_crop_edge,
    mask_to_rle_pytorch,
    remove_small_regions,
    rle_to_mask,
    uncrop_boxes_xyxy,
    uncrop_masks,
    uncrop_points,
)

_ENCODERS = {"binary_mask": rle_to_mask, "uncompressed_rle": lambda rle: rle, "coco_rle": coco_encode_rle}


class SamAutomaticMaskGenerator:
    """Masks of everything in an image.

    Args:
        model: the SAM.
        points_per_side: side of the grid of points; None if `point_grids` is given.
        points_per_batch: points decoded at once.
        pred_iou_thresh: least predicted IoU of a mask.
        stability_score_thresh: least stability under a change of the mask threshold.
        stability_score_offset: that change.
        box_nms_thresh: box IoU above which the worse of two masks of a crop is a duplicate.
        crop_n_layers: layers of crops that are segmented beside the whole image; layer i has 2^i x 2^i crops.
        crop_nms_thresh: the same between crops; the mask of the smaller crop stays.
        crop_overlap_ratio: overlap of the crops, see `generate_crop_boxes`.
        crop_n_points_downscale_factor: how much sparser the grid gets from layer to layer.
        point_grids: own grids in the unit square, one per layer.
        min_mask_region_area: holes and islands of fewer pixels are removed, if positive.
        output_mode: form of `segmentation`: "binary_mask", "uncompressed_rle" or "coco_rle".

    Raises:
        ValueError: if not exactly one of `points_per_side` and `point_grids` is given; for an unknown mode.
    """

    def __init__(
        self,
        model: Sam,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: list[np.ndarray] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        if (points_per_side is None) == (point_grids is None):
            raise ValueError("give exactly one of points_per_side and point_grids")
        if output_mode not in _ENCODERS:
            raise ValueError(f"output_mode must be one of {sorted(_ENCODERS)}, got {output_mode!r}")
        if point_grids is None:
            point_grids = build_all_layer_point_grids(points_per_side, crop_n_layers, crop_n_points_downscale_factor)
        self.predictor = SamPredictor(model)
        self.point_grids = point_grids
        self.points_per_batch = points_per_batch
        self.pred_iou_thresh = pred_iou_thresh
        self.stability_score_thresh = stability_score_thresh
        self.stability_score_offset = stability_score_offset
        self.box_nms_thresh = box_nms_thresh
        self.crop_n_layers = crop_n_layers
        self.crop_nms_thresh = crop_nms_thresh
        self.crop_overlap_ratio = crop_overlap_ratio
        self.crop_n_points_downscale_factor = crop_n_points_downscale_factor
        self.min_mask_region_area = min_mask_region_area
        self.output_mode = output_mode

    @torch.no_grad()
    def generate(self, image: np.ndarray) -> list[dict[str, Any]]:
        """Segment everything in an image.

        Args:
            image: uint8 [H, W, 3], RGB.

        Returns:
            A record per mask: `segmentation`, `area` in pixels, `bbox` xywh, `predicted_iou`,
            `stability_score`, `point_coords` (the point that asked for it, [[x, y]]) and `crop_box` xywh.
        """
        data = self._generate_masks(image)
        if self.min_mask_region_area > 0:
            nms_thresh = max(self.box_nms_thresh, self.crop_nms_thresh)
            data = self.postprocess_small_regions(data, self.min_mask_region_area, nms_thresh)
        return [self._record(data, row) for row in range(len(data["rles"]))]

    def _record(self, data: MaskData, row: int) -> dict[str, Any]:
        rle = data["rles"][row]
        return {
            "segmentation": _ENCODERS[self.output_mode](rle),
            "area": area_from_rle(rle),
            "bbox": box_xyxy_to_xywh(data["boxes"][row]).tolist(),
            "predicted_iou": data["iou_preds"][row].item(),
            "point_coords": [data["points"][row].tolist()],
            "stability_score": data["stability_score"][row].item(),
            "crop_box": box_xyxy_to_xywh(data["crop_boxes"][row]).tolist(),
        }

    def _generate_masks(self, image: np.ndarray) -> MaskData:
        size = image.shape[:2]
        data = MaskData()
        crops = generate_crop_boxes(size, self.crop_n_layers, self.crop_overlap_ratio)
        for crop_box, layer in zip(*crops, strict=True):
            data.cat(self._process_crop(image, crop_box, layer, size))
        if self.crop_n_layers > 0:
            x0, y0, x1, y1 = data["crop_boxes"].unbind(1)
            smaller_first = 1 / ((x1 - x0) * (y1 - y0))
            data.filter(_nms(data["boxes"], smaller_first, self.crop_nms_thresh))
        data.to_numpy()
        return data

    def _process_crop(
        self, image: np.ndarray, crop_box: list[int], crop_layer_idx: int, orig_size: tuple[int, ...]
    ) -> MaskData:
        x0, y0, x1, y1 = crop_box
        self.predictor.set_image(image[y0:y1, x0:x1])
        grid = self.point_grids[crop_layer_idx] * np.array([x1 - x0, y1 - y0])
        data = MaskData()
        for (points,) in batch_iterator(self.points_per_batch, grid):
            data.cat(self._process_batch(points, (y1 - y0, x1 - x0), crop_box, orig_size))
        self.predictor.reset_image()
        data.filter(_nms(data["boxes"], data["iou_preds"], self.box_nms_thresh))
        data["boxes"] = uncrop_boxes_xyxy(data["boxes"], crop_box)
        data["points"] = uncrop_points(data["points"], crop_box)
        data["crop_boxes"] = torch.tensor(crop_box, device=data["boxes"].device).expand(len(data["rles"]), 4)
        return data

    def _process_batch(
        self, points: np.ndarray, im_size: tuple[int, ...], crop_box: list[int], orig_size: tuple[int, ...]
    ) -> MaskData:
        data = self._decode(points, im_size)
        if self.pred_iou_thresh > 0.0:
            data.filter(data["iou_preds"] > self.pred_iou_thresh)
        self._upscale(data, im_size)
        if self.stability_score_thresh > 0.0:
            data.filter(data["stability_score"] >= self.stability_score_thresh)
        data["masks"] = data["masks"] > self.predictor.model.mask_threshold
        data["boxes"] = batched_mask_to_box(data["masks"])
        height, width = orig_size
        data.filter(~is_box_near_crop_edge(data["boxes"], crop_box, [0, 0, width, height]))
        data["rles"] = mask_to_rle_pytorch(uncrop_masks(data["masks"], crop_box, height, width))
        del data["masks"]
        return data

    def _decode(self, points: np.ndarray, im_size: tuple[int, ...]) -> MaskData:
        """Every candidate mask of every point, at the decoder's size."""
        coords = self.predictor.transform.apply_coords(points, im_size)[:, None]
        coords = torch.as_tensor(coords, dtype=torch.float32, device=self.predictor.device)
        labels = torch.ones(coords.shape[:2], dtype=torch.int, device=coords.device)
        low_res, iou = self.predictor.decode(coords, labels, multimask_output=True)
        return MaskData(
            masks=low_res.flatten(0, 1),
            iou_preds=iou.flatten(0, 1).float(),
            points=torch.as_tensor(points.repeat(low_res.shape[1], axis=0)),
        )

    def _upscale(self, data: MaskData, im_size: tuple[int, ...]) -> None:
        """Bring the masks to the crop's size; done after the first filter, which most of them fail."""
        model = self.predictor.model
        masks = model.postprocess_masks(data["masks"][:, None], self.predictor.input_size, im_size)[:, 0]
        stability = calculate_stability_score(masks, model.mask_threshold, self.stability_score_offset)
        data["masks"], data["stability_score"] = masks, stability

    @staticmethod
    def postprocess_small_regions(mask_data: MaskData, min_area: int, nms_thresh: float) -> MaskData:
        """Remove small holes and islands, then the duplicates that this made, preferring untouched masks.

        Args:
            mask_data: arrays with the columns `rles` and `boxes` (changed in place).
            min_area: regions of fewer pixels are small.
            nms_thresh: box IoU above which two masks are duplicates.

        Returns:
            `mask_data`.
        """
        if not mask_data["rles"]:
            return mask_data
        masks, untouched = _clean([rle_to_mask(rle) for rle in mask_data["rles"]], min_area)
        boxes = batched_mask_to_box(masks)
        for row in (~untouched).nonzero().flatten().tolist():
            mask_data["rles"][row] = mask_to_rle_pytorch(masks[row : row + 1])[0]
            mask_data["boxes"][row] = boxes[row]
        mask_data.filter(_nms(boxes, untouched, nms_thresh))
        return mask_data


def _nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Rows of the boxes that are no duplicates of a better one, best first."""
    from torchvision.ops import nms  # a second to import, and only needed here

    return nms(boxes.float(), scores.float(), iou_threshold)


def _clean(masks: list[np.ndarray], min_area: int) -> tuple[Tensor, Tensor]:
    """Masks [N, H, W] without small regions, and which of them [N] had none."""
    cleaned, untouched = [], []
    for mask in masks:
        mask, filled = remove_small_regions(mask, min_area, mode="holes")
        mask, dropped = remove_small_regions(mask, min_area, mode="islands")
        cleaned.append(torch.as_tensor(np.ascontiguousarray(mask)))
        untouched.append(not (filled or dropped))
    return torch.stack(cleaned), torch.tensor(untouched)
