"""Annotation files of the real size: seconds and memory to read them. Then samples per second, and who waits for whom.

    python scripts/benchmark/data.py

The files are made for the occasion (annotation_files.py), as many and as large as the real ones; making them takes
a minute or two, `--folder` keeps them. Each way to read runs in a process of its own: time is its CPU time, memory
what it cannot give back (anonymous pages), watched from outside. "Worker" is what a loader's worker process takes for
itself while it reads 20,000 items at random and collects garbage once.
"""

import argparse
import gc
import json
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from annotation_files import Sizes, write_annotations, write_pictures
from measure import Ratio
from rich.console import Console
from rich.table import Table

from flmm import compat

TINY = "checkpoints/tiny_llava"
Case = tuple[int, Callable[[int], Any]]  # number of items, and what reads one of them


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="make the files here, or use those that are here already")
    parser.add_argument("--scale", type=float, default=1.0, help="part of the real files' size")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of loader processes")
    parser.add_argument("--step", type=float, default=0.2, help="seconds that a training step takes the device")
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def sample_settings() -> dict[str, Any]:
    """How LLaVA-1.5 reads samples, with a small vocabulary; as objects, so that their making is not timed."""
    from transformers import AutoTokenizer

    from flmm.datasets.llava_processors import CustomLlavaImageProcessor

    return {
        "tokenizer": AutoTokenizer.from_pretrained(TINY),
        "image_processor": CustomLlavaImageProcessor(size={"shortest_edge": 336}),
        "prompt": "<image>\nPlease give me a description of the image.",
        "prompt_template": {"INSTRUCTION": "USER: {input} ASSISTANT:"},
    }


def png_naive(root: Path) -> Callable[[], Case]:
    """Both files as Python objects, as `json.load` makes them."""
    without_patches("torch.utils.data._utils.worker")
    annotations = root / "annotations"

    def load() -> Case:
        captions = json.loads((annotations / "png_coco_train2017.json").read_text())
        panoptic = json.loads((annotations / "panoptic_train2017.json").read_text())
        images = {image["id"]: image for image in panoptic["images"]}
        segments = {annotation["image_id"]: annotation for annotation in panoptic["annotations"]}

        def read(index: int) -> Any:
            image = int(captions[index]["image_id"])
            return images[image]["file_name"], repr(captions[index]), repr(segments[image])

        return len(captions), read

    return load


def png_ours(root: Path) -> Callable[[], Case]:
    from flmm.datasets.png import PNGDataset

    settings, annotations = sample_settings(), root / "annotations"

    def load() -> Case:
        dataset = PNGDataset(
            str(annotations / "png_coco_train2017.json"),
            str(annotations / "panoptic_train2017.json"),
            str(annotations / "panoptic_train2017"),
            local_path=str(root / "train2017"),
            **settings,
        )
        return len(dataset), lambda index: repr(dataset.items[index])

    return load


def refcoco_mmdet(root: Path) -> Callable[[], Case]:
    """The class as mmdet publishes it."""
    without_patches("torch.utils.data._utils.worker", "mmdet.datasets.refcoco")
    return refcoco_ours(root)


def without_patches(*modules: str) -> None:
    compat.PATCHES[:] = [patch for patch in compat.PATCHES if patch[0] not in modules]


def refcoco_ours(root: Path) -> Callable[[], Case]:
    from mmdet.datasets import RefCocoDataset

    def load() -> Case:
        sets = [
            RefCocoDataset(f"{root}/", f"{name}/instances.json", f"{name}/{refs}", {"img_path": "train2014/"})
            for name, refs, *_ in Sizes().refcoco
        ]
        items = [(part, index) for part, data in enumerate(sets) for index in range(len(data))]
        return len(items), lambda index: repr(sets[items[index][0]].get_data_info(items[index][1]))

    return load


CASES = {
    "PNG": {"json.load, kept": png_naive, "PNGDataset": png_ours},
    "RefCOCO, + and g": {"mmdet 3.3.0": refcoco_mmdet, "ours": refcoco_ours},
}


def run_case(prepare: Callable[[Path], Callable[[], Case]], root: Path, parent: Connection) -> None:
    """Runs in the child: tells when loading begins and ends, then what a forked worker takes."""
    load = prepare(root)
    gc.collect()
    parent.send("ready")
    parent.recv()
    start = time.process_time()
    items, read = load()
    seconds = time.process_time() - start
    parent.send({"items": items, "seconds": seconds})
    parent.recv()
    parent.send(worker_megabytes(items, read))


class Worked:
    """Stands for a data set: all items but the last are read, the last is what the worker takes for itself."""

    def __init__(self, read: Callable[[int], Any]):
        self.read = read
        self.before = 0.0

    def __getitem__(self, index: int) -> float:
        self.before = self.before or private_megabytes()
        if index >= 0:
            self.read(index)
            return 0.0
        gc.collect()
        return private_megabytes() - self.before


def worker_megabytes(items: int, read: Callable[[int], Any], count: int = 20_000) -> float:
    from torch.utils.data import DataLoader

    rng = random.Random(0)
    order = [*(rng.randrange(items) for _ in range(count)), -1]
    loader = DataLoader(Worked(read), batch_size=None, sampler=order, num_workers=1, multiprocessing_context="fork")
    return list(loader)[-1]


def private_megabytes() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def anonymous_megabytes(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure_case(prepare: Callable[[Path], Callable[[], Case]], root: Path) -> dict[str, float]:
    """Seconds, and megabytes at the peak, after it, and in a worker; above what the imports took."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=run_case, args=(prepare, root, there))
    process.start()
    there.close()  # so that the end of the child ends the waiting
    here.recv()
    start = peak = anonymous_megabytes(process.pid)
    here.send("go")
    while not here.poll(0.005):
        peak = max(peak, anonymous_megabytes(process.pid))
    figures = here.recv()
    kept = anonymous_megabytes(process.pid)
    here.send("fork")
    worker = here.recv()
    process.join()
    return {**figures, "peak_mb": max(peak, kept) - start, "kept_mb": kept - start, "worker_mb": worker}


def measure_reading(root: Path, repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Medians of each way, ways in turn."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for data, ways in CASES.items():
        runs = [{way: measure_case(prepare, root) for way, prepare in ways.items()} for _ in range(repeats)]
        figures[data] = {
            way: {key: statistics.median(run[way][key] for run in runs) for key in runs[0][way]} for way in ways
        }
    return figures


def training_data(root: Path) -> Any:
    """PNG captions and RefCOCO expressions with their pictures, as a config joins them."""
    from mmdet.datasets import RefCocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    from flmm.datasets.png import PNGDataset, concat_datasets
    from flmm.datasets.transforms import PILLoadImageFromFile, RefCOCO2PNG

    settings, annotations = sample_settings(), root / "annotations"
    masks = LoadAnnotations(with_mask=True, with_bbox=False, with_seg=False, with_label=False)
    png = PNGDataset(
        str(annotations / "png_coco_train2017.json"),
        str(annotations / "panoptic_train2017.json"),
        str(annotations / "panoptic_train2017"),
        local_path=str(root / "train2017"),
        **settings,
    )
    refcoco = RefCocoDataset(
        f"{root}/",
        "refcoco/instances.json",
        "refcoco/refs(unc).p",
        {"img_path": "train2014/"},
        pipeline=[PILLoadImageFromFile(), masks, RefCOCO2PNG(**settings)],
    )
    return concat_datasets([png, refcoco])


def batches(dataset: Any, workers: int) -> Iterator[Any]:
    """Endless batches of the loader that the configs describe."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    settings = Config.fromfile("configs/_base_/datasets.py").train_dataloader
    settings.update(dataset=dataset, num_workers=workers)
    loader = Runner.build_dataloader(settings, seed=0)
    while True:
        yield from loader


def measure_loader(root: Path, workers: int, step: float, count: int = 100) -> dict[str, float]:
    """Samples a second when nothing else is done, and how long a step that takes `step` seconds waits for its data."""
    dataset = training_data(root)
    rates = batches(dataset, workers)
    next(rates)
    start = time.perf_counter()
    for _ in range(count):
        next(rates)
    rate = count / (time.perf_counter() - start)
    rates.close()
    waits, steps = [], batches(dataset, workers)
    for _ in range(count // 2):
        start = time.perf_counter()
        next(steps)
        waits.append(time.perf_counter() - start)
        time.sleep(step)
    waits = waits[1:]  # the workers start in the first
    return {
        "samples_per_second": rate,
        "wait_ms": 1000 * statistics.mean(waits),
        "longest_wait_ms": 1000 * max(waits),
    }


def show_reading(figures: dict[str, dict[str, dict[str, float]]]) -> Table:
    table = Table("", title="reading annotation files")
    for column in ("items", "CPU seconds", "ratio", "peak MB", "ratio", "kept MB", "ratio", "worker MB"):
        table.add_column(column, justify="right")
    for data, ways in figures.items():
        first = next(iter(ways.values()))
        for way, figure in ways.items():
            cells = [f"{data}: {way}", f"{figure['items']:,.0f}"]
            for key, digits in (("seconds", 1), ("peak_mb", 0), ("kept_mb", 0)):
                figure[f"{key}_ratio"] = figure[key] / first[key]
                cells += [f"{figure[key]:,.{digits}f}", f"{figure[f'{key}_ratio']:.3f}"]
            table.add_row(*cells, f"{figure['worker_mb']:.0f}")
    return table


def show_loader(figures: dict[int, dict[str, float]], step: float) -> Table:
    table = Table("workers", title=f"loader; a step takes {step} s")
    for column in ("samples/s", "wait per step ms", "longest wait ms", "wait / step"):
        table.add_column(column, justify="right")
    for workers, figure in figures.items():
        wait = figure["wait_ms"]
        table.add_row(
            str(workers),
            f"{figure['samples_per_second']:.1f}",
            f"{wait:.1f}",
            f"{figure['longest_wait_ms']:.1f}",
            f"{wait / 1000 / step:.3f}",
        )
    return table


def promised(
    reading: dict[str, dict[str, dict[str, float]]], loader: dict[int, dict[str, float]], step: float
) -> Iterator[Ratio]:
    """Less time and half the memory of `json.load`, and a device that hardly waits."""
    for data, ways in reading.items():
        ours = list(ways.values())[-1]
        yield Ratio(f"{data} annotations: CPU seconds / json.load's", ours["seconds_ratio"], 1)
        yield Ratio(f"{data} annotations: memory kept / json.load's", ours["kept_mb_ratio"], 0.5)
    workers, figure = max(loader.items())
    yield Ratio(f"{workers} loader processes: wait / step of {step} s", figure["wait_ms"] / 1000 / step, 0.1)


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = args.folder or Path(temporary)
        full, small = root / "full", root / "small"
        if not full.exists():
            write_annotations(full, Sizes().scaled(args.scale))
        if not small.exists():
            write_annotations(small, Sizes.small(64))
            write_pictures(small)
        reading = measure_reading(full, args.repeats)
        loader = {workers: measure_loader(small, workers, args.step) for workers in args.workers}
    console = Console(width=120)
    console.print(show_reading(reading))
    console.print(show_loader(loader, args.step))
    if args.json:
        ratios = [asdict(ratio) for ratio in promised(reading, loader, args.step)]
        figures = {"reading": reading, "loader": loader, "ratios": ratios}
        args.json.write_text(json.dumps({"arguments": vars(args), **figures}, indent=2, default=str))


if __name__ == "__main__":
    main()
