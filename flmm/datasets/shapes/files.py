"""Writes the shapes data set in the layout of `data/coco` and of the benchmarks that talk.

Every data set class, check and script reads it like the real thing: COCO, COCO panoptic, Panoptic Narrative
Grounding and RefCOCO (`coco_files`), questions, VisCoT, ReasonSeg and GranD-f (`talk_files`).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path

from flmm.console import progress
from flmm.datasets.shapes import coco_files, talk_files
from flmm.datasets.shapes.picture import Picture, draw_picture

MANIFEST = "manifest.json"
FORMAT = 4  # of the scenes and files; raise it when either changes, so that old data sets are made again
_SEEDS_PER_DATASET = 20_000_000  # the tiny models are trained on seeds from 1,000,000 upwards
_VAL_OFFSET = 500_000


def make_shapes(
    out: str | Path = "data/shapes",
    train: int = 2000,
    val: int = 100,
    seed: int = 0,
    workers: int | None = None,
) -> Path:
    """Make the shapes data set, or keep it when it is there already with the same parameters.

    One with other parameters is replaced; its manifest lists the files that may go.

    Args:
        out: Folder to make. It appears only when complete.
        train: Number of training pictures.
        val: Number of validation pictures; held-out splits of the other benchmarks share them out.
        seed: Other seeds give other scenes; the same seed gives the same files.
        workers: Processes, by default one per CPU core.

    Returns:
        `out` as a path.

    Raises:
        ValueError: There are fewer than one training or three validation pictures, or too many.
        FileExistsError: `out` holds files that this function did not write, or that were changed since.
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
    before = json.loads(path.read_text())
    written = before.pop("files", {})
    if before == manifest:
        return True
    kept = {name: size for name, size in _sizes(out).items() if written.get(name) != size}
    if foreign := sorted(kept.keys() - {MANIFEST}):
        raise FileExistsError(
            f"{out} holds a data set with other numbers ({_numbers(before)}; asked for: {_numbers(manifest)}), and it "
            f"cannot be replaced: {len(foreign)} files there were not written by `flmm data shapes`, or changed since "
            f"({', '.join(foreign[:3])}{', ...' if foreign[3:] else ''}). Move them away, or choose another folder"
        )
    return False


def _sizes(root: Path) -> dict[str, int]:
    """The bytes of each file, by its path below the root."""
    files = sorted(path for path in root.rglob("*") if not path.is_dir())
    return {path.relative_to(root).as_posix(): path.lstat().st_size for path in files}


def _numbers(manifest: dict) -> str:
    return ", ".join(f"{name} {manifest.get(name)}" for name in ("train", "val", "seed", "format"))


def _write(root: Path, manifest: dict, workers: int | None) -> None:
    base = manifest["seed"] * _SEEDS_PER_DATASET
    with ProcessPoolExecutor(workers or os.cpu_count()) as executor:
        splits = {
            split: _draw_split(root, split, base + offset, manifest[split], executor)
            for split, offset in (("train", 0), ("val", _VAL_OFFSET))
        }
    for split, pictures in splits.items():
        coco_files.write_split(root, split, pictures)
        talk_files.write_questions(root, split, pictures)
    coco_files.write_refcoco(root, splits)
    talk_files.write_viscot(root, splits["val"])
    talk_files.write_reasonseg(root, splits)
    talk_files.write_gcg(root, splits)
    (root / MANIFEST).write_text(json.dumps({**manifest, "files": _sizes(root)}))


def _draw_split(root: Path, split: str, first_seed: int, count: int, executor: Executor) -> list[Picture]:
    """The pictures and panoptic PNGs of one split."""
    folders = root / f"{split}2017", root / "annotations" / f"panoptic_{split}2017"
    for folder in folders:
        folder.mkdir(parents=True)
    seeds = range(first_seed, first_seed + count)
    work = executor.map(partial(draw_picture, *folders), seeds, chunksize=16)
    return list(progress(work, total=count, desc=f"shapes {split}"))
