"""Annotation files of the real size: seconds and memory to read them. Then samples per second, and who waits for whom.

    python scripts/benchmark/data.py

The files are made for the occasion (annotation_files.py), as many and as large as the real ones; making them takes
a minute or two, `--folder` keeps them. Each way to read runs in a process of its own: time is its CPU time, memory
what it cannot give back (anonymous pages), watched from outside. "Worker" is what a loader's worker process takes for
itself while it reads 20,000 items at random and collects garbage once.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
from annotation_files import Sizes, write_annotations, write_pictures
from measure import Ratio, Report, Sheet, in_turn, options
from torch.utils.data import DataLoader, IterableDataset

from flmm.config import png_dataset
from flmm.constants import REFCOCO
from flmm.datasets.annotations import share_with_workers

# A way to read files below a folder imports what it needs, yields None, reads them, and yields the number of items
# and what reads one of them.
Way = Callable[[Path], Iterator[Any]]


def main() -> None:
    parser = options(__doc__, computes=False)
    parser.add_argument("--folder", type=Path, help="make the files here, or use those that are here already")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the real files' size")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of loader processes")
    parser.add_argument("--step", type=float, default=0.2, help="seconds that a training step takes the device")
    args = parser.parse_args()
    report = Report(
        "Reading annotation files",
        ("", "items", "CPU seconds", "ratio", "peak MB", "ratio", "kept MB", "ratio", "worker MB"),
    )
    with tempfile.TemporaryDirectory() as temporary:
        full, small = ((args.folder or Path(temporary)) / name for name in ("full", "small"))
        if not full.exists():
            write_annotations(full, Sizes().scaled(args.scale))
        if not small.exists():
            write_annotations(small, Sizes.small(64))
            write_pictures(small)
        add_reading(report, full, args.repeats)
        add_loading(report, small, args)
    report.show(args.json)


def add_reading(report: Report, root: Path, repeats: int) -> None:
    """A row for each way; ours, the second, takes less time and half the memory of the reference, the first."""
    data_sets: dict[str, dict[str, Way]] = {
        "PNG": {"json.load, kept": png_naive, "PNGDataset": png_ours},
        "RefCOCO, + and g": {"mmdet 3.3.0": refcoco_mmdet, "ours": refcoco_ours},
    }
    for data, ways in data_sets.items():
        figures = in_turn({name: partial(read_in_child, way, root) for name, way in ways.items()}, repeats)
        _, *reference, _ = next(iter(figures.values()))
        for name, (items, *costs, in_worker) in figures.items():
            ratios = [cost / first for cost, first in zip(costs, reference, strict=True)]
            with_ratios = (cell for pair in zip(costs, ratios, strict=True) for cell in pair)
            report.rows.append((f"{data}: {name}", items, *with_ratios, in_worker))
        seconds, _, kept = ratios
        report.ratios.append(Ratio(f"{data} annotations: CPU seconds / the reference's", seconds, 1))
        report.ratios.append(Ratio(f"{data} annotations: memory kept / the reference's", kept, 0.5))


def png_naive(root: Path) -> Iterator[Any]:
    """Both files as Python objects, as `json.load` makes them."""
    yield
    captions = json.loads((root / "annotations/png_coco_train2017.json").read_text())
    panoptic = json.loads((root / "annotations/panoptic_train2017.json").read_text())
    images = {image["id"]: image for image in panoptic["images"]}
    segments = {annotation["image_id"]: annotation for annotation in panoptic["annotations"]}
    del panoptic

    def read(index: int) -> Any:
        image = int(captions[index]["image_id"])
        return images[image]["file_name"], repr(captions[index]), repr(segments[image])

    yield len(captions), read


def png_ours(root: Path) -> Iterator[Any]:
    import flmm.datasets.png  # noqa: F401 - png_dataset's import, so that it is not timed

    settings = sample_settings()
    yield
    items = png_dataset(settings, root, "train").items
    yield len(items), lambda index: repr(items[index])


def refcoco_mmdet(root: Path) -> Iterator[Any]:
    """Mmdet's class."""
    from mmdet.datasets import RefCocoDataset

    yield
    yield refcoco_items(lambda name, refs: RefCocoDataset(*refcoco_files(root, name, refs), {"img_path": "train2014/"}))


def refcoco_ours(root: Path) -> Iterator[Any]:
    from flmm.datasets.res import RESDataset

    yield
    yield refcoco_items(lambda name, refs: RESDataset(*refcoco_files(root, name, refs), sample_builder=object()))


def refcoco_files(root: Path, name: str, refs: str) -> tuple[str, str, str]:
    """Data root, annotations and references of a RefCOCO variant."""
    return f"{root}/", f"{name}/instances.json", f"{name}/{refs}"


def refcoco_items(build: Callable[[str, str], Any]) -> tuple[int, Callable[[int], str]]:
    """How many items the three sets have, and how one of them is read."""
    sets = [build(name, refs) for name, (refs, _) in REFCOCO.items()]
    items = [(part, index) for part, data in enumerate(sets) for index in range(len(data))]
    return len(items), lambda index: repr(sets[items[index][0]].get_data_info(items[index][1]))


def sample_settings() -> dict[str, Any]:
    """How LLaVA-1.5 reads samples, with a small vocabulary; as objects, so that their making is not timed."""
    from transformers import AutoTokenizer

    from flmm.datasets.llava_processors import CustomLlavaImageProcessor

    return {
        "tokenizer": AutoTokenizer.from_pretrained("checkpoints/tiny_llava"),
        "image_processor": CustomLlavaImageProcessor(size={"shortest_edge": 336}),
        "prompt": "<image>\nPlease give me a description of the image.",
        "prompt_template": {"INSTRUCTION": "USER: {input} ASSISTANT:"},
    }


def read_in_child(way: Way, root: Path) -> tuple[float, ...]:
    """Items, CPU seconds, and MB at the peak, after it, and in a loader's worker; above what the imports took."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe(duplex=False)
    child = spawn.Process(target=read_and_tell, args=(way, root, there))
    child.start()
    there.close()  # so that the end of the child ends the waiting
    start = peak = here.recv()
    process = psutil.Process(child.pid)
    while not here.poll(0.005):
        peak = max(peak, anonymous_megabytes(process))
    items, seconds, kept = here.recv()
    in_worker = here.recv()
    child.join()
    return items, seconds, max(peak, kept) - start, kept - start, in_worker


def read_and_tell(way: Way, root: Path, parent: Connection) -> None:
    """Runs in the child: tells its MB before reading; items, CPU seconds and MB after it; MB that a worker takes."""
    process, steps = psutil.Process(), way(root)
    next(steps)
    gc.collect()
    parent.send(anonymous_megabytes(process))
    start = time.process_time()
    items, read = next(steps)
    seconds = time.process_time() - start
    parent.send((items, seconds, anonymous_megabytes(process)))
    random_items = RandomItems(items, read)
    share_with_workers()
    parent.send(next(iter(DataLoader(random_items, batch_size=None, num_workers=1, multiprocessing_context="fork"))))


def anonymous_megabytes(process: psutil.Process) -> float:
    memory = process.memory_info()
    return (memory.rss - memory.shared) / 2**20


class RandomItems(IterableDataset):
    """Reads items at random and collects garbage once; yields the MB that this takes the process for itself."""

    def __init__(self, items: int, read: Callable[[int], Any]):
        self.items, self.read = items, read

    def __iter__(self) -> Iterator[float]:
        process, generator = psutil.Process(), random.Random(0)
        before = process.memory_full_info().uss
        for _ in range(20_000):
            self.read(generator.randrange(self.items))
        gc.collect()
        yield (process.memory_full_info().uss - before) / 2**20


def add_loading(report: Report, root: Path, args: Namespace) -> None:
    """Samples a second when nothing else is done, and how long a step waits for its data."""
    sheet = Sheet(
        f"The loader of configs/_base_/datasets.py; a step takes {args.step} s",
        ("workers", "samples per second", "wait per step ms", "longest wait ms", "wait / step"),
    )
    for workers in args.workers:
        rate = 100 / sum(waits_for_data(root, workers, 100))
        waits = waits_for_data(root, workers, 50, args.step)
        wait = statistics.mean(waits)
        sheet.rows.append((workers, rate, 1000 * wait, 1000 * max(waits), wait / args.step))
    report.more.append(sheet)
    workers, *_, share = max(sheet.rows)
    report.ratios.append(Ratio(f"{workers} loader processes: wait / step of {args.step} s", float(share), 0.1))


def waits_for_data(root: Path, workers: int, count: int, step: float = 0) -> list[float]:
    """Seconds that each of `count` training steps waits for its batch; the workers start before the first."""
    loader, waits = batches(root, workers), []
    next(loader)
    for _ in range(count):
        time.sleep(step)
        start = time.perf_counter()
        next(loader)
        waits.append(time.perf_counter() - start)
    return waits


def batches(root: Path, workers: int) -> Iterator[Any]:
    """Endless batches of the loader that the configs describe, of PNG captions and RefCOCO expressions."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    settings, loader = sample_settings(), Config.fromfile("configs/_base_/datasets.py").train_dataloader
    refcoco = loader.dataset.datasets_list[1]
    refcoco.update(data_root=f"{root}/")
    loader.dataset.shared.sample_builder.update(settings)
    loader.dataset.datasets_list = [png_dataset(settings, root, "train"), refcoco]
    loader.num_workers = workers
    loader = Runner.build_dataloader(loader, seed=0)
    while True:
        yield from loader


if __name__ == "__main__":
    main()
