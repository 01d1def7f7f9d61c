"""An evaluation's folder as `flmm.evaluation.run` leaves it, of pictures with two phrases each."""

import json

import torch
from PIL import Image

from flmm.evaluation.records import RecordStore, phrase_records, write_json

HEIGHT, WIDTH = 48, 64


def write_evaluation(root, run="run", pictures=8, gain=0):
    """Pictures below `root/data`, records of masks that are too low by (pictures - index - gain) rows.

    The first phrase of a picture is a thing of 32 x 24 pixels, the second one the rows below.

    Returns:
        The folder of the records.
    """
    images = root / "data/val2017"
    images.mkdir(parents=True, exist_ok=True)
    store = RecordStore(root / run / "png_val.teacher_forced")
    for index in range(pictures):
        Image.new("RGB", (WIDTH, HEIGHT), (200, 30 * index, 0)).save(images / f"{index}.png")
        content = phrase_records(*_pair(max(0, pictures - 1 - index - gain)))
        record = {"file_name": f"{index}.png", "height": HEIGHT, "width": WIDTH, "phrases": content}
        store.write(index, {"index": index, **record})
    write_json(root / run / "png.json", {"data_root": str(root / "data"), "splits": {"val": {}}})
    return store.folder


def _pair(shift):
    masks = torch.zeros(2, HEIGHT, WIDTH)
    masks[0, 8:32, 16:48] = masks[1, 32:] = 1
    found = torch.roll(masks, shift, 1)
    sample = {
        "gt_masks": masks,
        "phrases": ["a large red thing", "the ground"],
        "mask_infos": [{"plural": False, "isthing": True}, {"plural": False, "isthing": False}],
    }
    return sample, {"pred_masks": torch.roll(found, 2, 2) * 8 - 4, "sam_pred_masks": found * 8 - 4}


def damage(folder, change):
    """Changes the first record as `change` does."""
    file = folder / "samples/000000.json"
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))
