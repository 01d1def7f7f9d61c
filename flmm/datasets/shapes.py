"""Writes the shapes data set in the files of COCO, COCO panoptic, Panoptic Narrative Grounding and RefCOCO.

The layout is that of `data/coco`, so every data set class, check and script reads it like the real thing.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from tqdm import tqdm

from flmm.datasets.shapes_scene import LOWER, SHAPES, UPPER, Scene, caption, expressions, render, sample_scene

MANIFEST = "manifest.json"
FORMAT = 1  # of the scenes and files; raise it when either changes, so that old data sets are made anew
THINGS = {name: 1 + index for index, name in enumerate(SHAPES)}
STUFFS = {name: 101 + index for index, name in enumerate((*UPPER, *LOWER))}
_SEEDS_PER_DATASET = 20_000_000  # the tiny models are trained on seeds from 1,000,000 upwards
_VAL_OFFSET = 500_000
# Which sentences each RefCOCO variant keeps, and how its held-out images (halves of val) are named.
_REFCOCO = {
    "refcoco": ("refs(unc).p", ("val", "testA", "testB")),
    "refcoco+": ("refs(unc).p", ("val", "testA", "testB")),
    "refcocog": ("refs(umd).p", ("val", "test")),
}


@dataclass
class _Records:
    """What the annotation files say of one image."""

    image: dict
    panoptic: dict
    narrative: dict
    instances: list[dict]
    sentences: dict[str, list[list[str]]]  # per RefCOCO variant, per instance


def make_shapes(
    out: str | Path = "data/shapes",
    train: int = 2000,
    val: int = 100,
    seed: int = 0,
    workers: int | None = None,
) -> Path:
    """Make the shapes data set, or keep it when it is there already with the same parameters.

    Args:
        out: folder to make. It appears only when complete.
        train: number of training images.
        val: number of validation images; RefCOCO's held-out splits share them out.
        seed: other seeds give other scenes; the same seed gives the same files.
        workers: processes, by default one per CPU core.

    Returns:
        `out` as a path.

    Raises:
        ValueError: there are fewer than one training or three validation images, or too many.
        FileExistsError: `out` exists and was not made by this function.
    """
    out = Path(out)
    if not (1 <= train <= _VAL_OFFSET and 3 <= val <= _VAL_OFFSET):
        raise ValueError(f"shapes needs 1 to {_VAL_OFFSET} training and 3 to {_VAL_OFFSET} val images: {train}, {val}")
    manifest = {"format": FORMAT, "train": train, "val": val, "seed": seed}
    if _is_complete(out, manifest):
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as folder:
        root = Path(folder) / out.name
        _write(root, manifest, workers)
        if out.exists():
            shutil.rmtree(out)
        os.replace(root, out)
    return out


def _is_complete(out: Path, manifest: dict) -> bool:
    if not out.exists() or not any(out.iterdir()):
        return False
    path = out / MANIFEST
    if not path.is_file():
        raise FileExistsError(f"{out} exists and holds no {MANIFEST}: not a shapes data set. Choose another folder.")
    return json.loads(path.read_text()) == manifest


def _write(root: Path, manifest: dict, workers: int | None) -> None:
    base = manifest["seed"] * _SEEDS_PER_DATASET
    with ProcessPoolExecutor(workers or os.cpu_count()) as executor:
        splits = {
            split: _write_split(root, split, base + offset, manifest[split], executor)
            for split, offset in (("train", 0), ("val", _VAL_OFFSET))
        }
    for variant in _REFCOCO:
        _write_refcoco(root, variant, splits)
    _write_train2014(root, splits)
    _dump(root / MANIFEST, manifest)


def _write_split(root: Path, split: str, first_seed: int, count: int, executor: ProcessPoolExecutor) -> list[_Records]:
    """Images, panoptic PNGs and the three annotation files of one split."""
    for folder in (f"{split}2017", f"annotations/panoptic_{split}2017"):
        (root / folder).mkdir(parents=True)
    work = executor.map(partial(_write_scene, root, split), range(first_seed, first_seed + count), chunksize=16)
    records = list(tqdm(work, total=count, desc=f"shapes {split}", disable=None))
    images = [r.image for r in records]
    files = {
        f"instances_{split}2017": {
            "images": images,
            "annotations": [a for r in records for a in r.instances],
            "categories": _categories(stuff=False),
        },
        f"panoptic_{split}2017": {
            "images": images,
            "annotations": [r.panoptic for r in records],
            "categories": _categories(stuff=True),
        },
        f"png_coco_{split}2017": [r.narrative for r in records],
    }
    for name, content in files.items():
        _dump(root / "annotations" / f"{name}.json", content)
    return records


def _categories(stuff: bool) -> list[dict]:
    things = [{"id": i, "name": n, "supercategory": "shape", "isthing": 1} for n, i in THINGS.items()]
    stuffs = [{"id": i, "name": n, "supercategory": "stuff", "isthing": 0} for n, i in STUFFS.items()]
    return things + stuffs if stuff else things


def _write_scene(root: Path, split: str, seed: int) -> _Records:
    """Draw one scene, write its picture and panoptic PNG, and return what the annotation files say of it."""
    scene, name = sample_scene(seed), f"{seed + 1:012d}"
    image, regions = render(scene)
    ids = _segment_ids(seed, 2 + len(scene.shapes))
    Image.fromarray(image).save(root / f"{split}2017" / f"{name}.jpg", quality=95)
    colours = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    panoptic_png = root / "annotations" / f"panoptic_{split}2017" / f"{name}.png"
    Image.fromarray(colours[regions]).save(panoptic_png)
    info = {"id": seed + 1, "file_name": f"{name}.jpg", "height": scene.height, "width": scene.width}
    panoptic = {"image_id": seed + 1, "file_name": panoptic_png.name}
    panoptic["segments_info"] = _segments_info(scene, regions, ids)
    return _Records(info, panoptic, _narrative(scene, ids), _instances(scene, regions), _sentences(scene))


def _segment_ids(seed: int, count: int) -> np.ndarray:
    """Distinct non-zero 24-bit ids, spread like COCO's."""
    return 1 + np.random.default_rng([seed, 2]).choice(2**24 - 1, size=count, replace=False)


def _segments_info(scene: Scene, regions: np.ndarray, ids: np.ndarray) -> list[dict]:
    categories = [STUFFS[name] for name in scene.stuff] + [THINGS[s.kind] for s in scene.shapes]
    infos = []
    for region, (segment_id, category) in enumerate(zip(ids.tolist(), categories, strict=True)):
        rle = _encode(regions == region)
        box = [int(v) for v in coco_mask.toBbox(rle)]
        area = int(coco_mask.area(rle))
        infos.append({"id": segment_id, "category_id": category, "area": area, "bbox": box, "iscrowd": 0})
    return infos


def _encode(mask: np.ndarray) -> dict:
    """Compressed RLE that JSON can hold."""
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def _narrative(scene: Scene, ids: np.ndarray) -> dict:
    segments = [
        {
            "utterance": segment.utterance,
            "segment_ids": [str(ids[region]) for region in segment.regions],
            "plural": segment.plural,
            "noun_vector": [],
        }
        for segment in caption(scene)
    ]
    text = " ".join(segment.utterance for segment in caption(scene))
    return {"image_id": str(scene.seed + 1), "caption": text, "segments": segments}


def _instances(scene: Scene, regions: np.ndarray) -> list[dict]:
    instances = []
    for index, shape in enumerate(scene.shapes):
        rle = _encode(regions == 2 + index)
        instances.append(
            {
                "id": (scene.seed + 1) * 10 + index,
                "image_id": scene.seed + 1,
                "category_id": THINGS[shape.kind],
                "segmentation": rle,
                "area": float(coco_mask.area(rle)),
                "bbox": [float(v) for v in coco_mask.toBbox(rle)],
                "iscrowd": 0,
            }
        )
    return instances


def _sentences(scene: Scene) -> dict[str, list[list[str]]]:
    """Up to three expressions per shape: any, by looks only (RefCOCO+), the longest (RefCOCOg)."""
    rng = np.random.default_rng([scene.seed, 3])
    everything = [expressions(scene, i) for i in range(len(scene.shapes))]
    looks = [expressions(scene, i, locations=False) for i in range(len(scene.shapes))]

    def draw(choices: list[str]) -> list[str]:
        return [choices[i] for i in rng.permutation(len(choices))[:3]]

    return {
        "refcoco": [draw(e) for e in everything],
        "refcoco+": [draw(e) for e in looks],
        "refcocog": [sorted(e, key=len)[-2:] for e in everything],
    }


def _write_refcoco(root: Path, variant: str, splits: dict[str, list[_Records]]) -> None:
    """`instances.json` and the pickled references of one variant."""
    pickle_name, held_out = _REFCOCO[variant]
    (root / variant).mkdir()
    refs: list[dict] = []
    for split, records in splits.items():
        for position, record in enumerate(records):
            name = "train" if split == "train" else held_out[position * len(held_out) // len(records)]
            refs += _references(record, variant, name)
    sent_id = 0
    for ref_id, ref in enumerate(refs):
        ref["ref_id"] = ref_id
        for sentence in ref["sentences"]:
            sentence["sent_id"] = sent_id
            sent_id += 1
        ref["sent_ids"] = [sentence["sent_id"] for sentence in ref["sentences"]]
    (root / variant / pickle_name).write_bytes(pickle.dumps(refs, protocol=4))
    records = [record for split in splits.values() for record in split]
    instances = {
        "images": [{**r.image, "file_name": _name_2014(r.image)} for r in records],
        "annotations": [a for r in records for a in r.instances],
        "categories": _categories(stuff=False),
    }
    _dump(root / variant / "instances.json", instances)


def _references(record: _Records, variant: str, split: str) -> list[dict]:
    """One reference per shape that can be told apart; ids are given later."""
    return [
        {
            "ann_id": instance["id"],
            "image_id": record.image["id"],
            "category_id": instance["category_id"],
            "file_name": _name_2014(record.image),
            "split": split,
            "sentences": [{"raw": text, "sent": text, "tokens": text.split()} for text in sentences],
        }
        for instance, sentences in zip(record.instances, record.sentences[variant], strict=True)
        if sentences
    ]


def _write_train2014(root: Path, splits: dict[str, list[_Records]]) -> None:
    """RefCOCO's pictures: those of both splits under their names of 2014."""
    folder = root / "train2014"
    folder.mkdir()
    for split, records in splits.items():
        for record in records:
            source = root / f"{split}2017" / record.image["file_name"]
            shutil.copyfile(source, folder / _name_2014(record.image))


def _name_2014(image: dict) -> str:
    return f"COCO_train2014_{image['file_name']}"


def _dump(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))
