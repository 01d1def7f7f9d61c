"""The loop of an evaluation: samples shared out to processes, records on disk, metrics of all of them.

Of the samples that have no record yet, each process takes the next one when it is ready for it, and writes one
file per sample. So slow samples and slow machines hold nobody up, nothing is padded, gathered or counted twice,
and an interrupted evaluation goes on where it stopped, with any number of processes. The processes share a file
system.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list, set_seed
from torch.distributed import HashStore, PrefixStore, Store
from torch.distributed.distributed_c10d import _get_default_store
from torch.utils.data import BatchSampler, DataLoader

from flmm.config import (
    annotation_files,
    build_model,
    data_root,
    evaluation_settings,
    find_config,
    picture_folders,
    png_dataset,
    res_dataset,
)
from flmm.console import progress
from flmm.datasets.annotations import share_with_workers
from flmm.evaluation import BoxMetric, PNGMetric, RESMetric
from flmm.evaluation.identity import data_identity, model_identity
from flmm.evaluation.records import KINDS, Record, RecordStore, phrase_records, write_json
from flmm.outputs import apart

Metrics = dict[str, Any]
Evaluate = Callable[[Sequence[Any]], list[Record]]
FilesOfSplit = Callable[[str, str], Iterable[Path]]


def arguments(description: str, splits: Sequence[str] = (), default: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line of scripts that run a model on data; with splits, on those below a folder."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("config", nargs="?", help="config file of the model; without it that of the checkpoint")
    add("--checkpoint", help="trained head; without it the head is the one the config builds")
    if splits:
        add("--data-root", help="folder of the data [that of the config's training data]")
        add("--split", nargs="+", choices=splits, default=list(default), metavar="SPLIT", help=", ".join(splits))
    add("--limit", type=_positive, help="evaluate only the first pictures (PNG: captions) of each split")
    add("--output", help="folder for what is found [work_dirs/CONFIG/eval/CHECKPOINT]")
    return parser


def evaluation_arguments(
    description: str, splits: Sequence[str] = (), default: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """The command line that all evaluations share."""
    parser = arguments(description, splits, default)
    add = parser.add_argument
    add("--overwrite", action="store_true", help="evaluate again what the output folder holds already")
    add("--batch-size", type=_positive, default=1, help="pictures (PNG: captions) that are read together")
    add("--workers", type=int, default=4 if torch.cuda.is_available() else 0, help="loader processes")
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} samples cannot be evaluated: give at least 1")
    return number


class Evaluation:
    """A model under evaluation on any number of processes.

    Args:
        args: What `arguments` parsed.
        files: Gives the annotation files of a split below a folder; all are looked for before the model is loaded.
        benchmark: Name of the data set's folder, see `flmm.config.data_root`.
        **defaults: Settings of the model, for configs that do not name them.

    Attributes:
        accelerator: The processes.
        args: `args`, with the folder of the data.
        folder: Where everything is written.

    Raises:
        FileNotFoundError: When data or weights are missing.
        ValueError: When the folder is that of the data.
    """

    def __init__(
        self, args: argparse.Namespace, files: FilesOfSplit | None = None, benchmark: str = "", **defaults: Any
    ):
        # Processes wait for the slowest one at the end of a split, which may take hours on real data.
        patience = InitProcessGroupKwargs(timeout=timedelta(days=2))
        # without a GPU accelerate would let each of torchrun's processes evaluate everything
        self.accelerator = Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[patience])
        self.accelerator.print(f"evaluating with {self.accelerator.num_processes} process(es)")
        self.config = find_config(args.config, args.checkpoint)
        self.config.model = {**defaults, **self.config.model}
        root = args.data_root or data_root(self.config, benchmark)
        self.args = argparse.Namespace(**{**vars(args), "data_root": root})
        if files is not None:
            _find(files, root, args.split)
        self.folder = Path(args.output or _default_output(args))
        apart([self.folder], [root])
        set_seed(0)  # a head without checkpoint must be the same in every process
        self.model = build_model(self.config, args.checkpoint, self.accelerator.device)
        self._queues = 0
        plain = self.config.to_dict()  # configs that say the same have the same hash
        head = args.checkpoint or plain["model"].get("pretrained")
        self._identity = model_identity(plain["model"], evaluation_settings(plain), head)
        if args.checkpoint is None:
            self.accelerator.print("no --checkpoint: evaluating the head as the config builds it")

    def records(
        self,
        split: str,
        protocol: str,
        build: Callable[[], Any],
        evaluate: Evaluate | None = None,
        files: Sequence[str | Path] | None = None,
        folders: Sequence[str | Path] = (),
        **about: Any,
    ) -> list[Record]:
        """Evaluates the samples of a split that have no record yet; returns the records of all, in order.

        Args:
            split: Name of the data.
            protocol: Name of the way they are evaluated in; both name the folder.
            build: Makes the data set.
            evaluate: Makes the records of some of its items; by default those of phrases and their masks.
            files: What the data set is read from; by default the annotation files and folders of the split.
            folders: Folders that it is read from.
            **about: What else the records depend on.

        Returns:
            The records without their masks, in the main process; nothing in the others.
        """
        store = RecordStore(self.folder / f"{split}.{protocol}")
        if self.accelerator.is_main_process:
            root = self.args.data_root
            if files is None:
                files, folders = annotation_files(root, split), picture_folders(root, split)
            data = data_identity(tuple(map(Path, files)), tuple(map(Path, folders)))
            about |= {"data_root": root, "split": split, "protocol": protocol}
            store.claim({**self._identity, **data, **about}, self.args.overwrite)
        dataset = build()
        count = min(len(dataset), self.args.limit or len(dataset))
        make = evaluate or partial(evaluate_items, self.model)
        self._evaluate(dataset, make, store, self._queue(store.missing(count)), f"{split} ({protocol})")
        self.accelerator.wait_for_everyone()
        return store.read(count) if self.accelerator.is_main_process else []

    def _queue(self, missing: list[int]) -> Queue:
        """What the main process found missing (others may be writing already), shared by all processes."""
        if self.accelerator.num_processes == 1:
            return Queue(missing, HashStore())
        self._queues += 1
        return Queue(broadcast_object_list([missing])[0], PrefixStore(f"queue{self._queues}", _get_default_store()))

    @torch.no_grad()
    def _evaluate(self, dataset: Any, evaluate: Evaluate, store: RecordStore, queue: Queue, title: str) -> None:
        if self.args.workers:
            share_with_workers()
        ahead = 1 if self.args.workers else None  # a worker that has taken many samples would keep them from others
        batches = DataLoader(
            dataset,
            batch_sampler=BatchSampler(queue, self.args.batch_size, drop_last=False),
            num_workers=self.args.workers,
            prefetch_factor=ahead,
            collate_fn=list,
        )
        hidden = not self.accelerator.is_main_process
        with progress(desc=title, unit="image", total=len(queue.indices), disable=hidden) as bar:
            for items in batches:
                for record in evaluate(items):
                    position = queue.taken.popleft()  # the loader keeps the order
                    index = queue.indices[position]
                    store.write(index, {"index": index, **record})
                bar.update(position + 1 - bar.n)  # of all processes: positions are given out in order

    def report(self, name: str, about: Metrics, splits: Metrics) -> None:
        """Writes `<name>.json` into the output folder, on the main process; splits that it has of this run stay."""
        if self.accelerator.is_main_process:
            path = self.folder / f"{name}.json"
            options = {key: getattr(self.args, key) for key in ("config", "checkpoint", "data_root", "limit")}
            head = {**options, **self._identity, **about}
            before = json.loads(path.read_text()) if path.is_file() else {}
            if all(before.get(key) == value for key, value in head.items()):
                splits = before["splits"] | splits
            write_json(path, {**head, "splits": splits})
            print(f"written: {path} and the records of each sample beside it")

    def close(self) -> None:
        """Ends the processes' group."""
        self.accelerator.end_training()


class Queue:
    """Indices that several processes share: who asks gets the next one, and nobody gets it again.

    Args:
        indices: The same in all processes.
        store: Counts how many are taken; gone with the processes, so nothing is left of a run that was killed.

    Attributes:
        taken: Positions that this process got and has not worked off.
    """

    def __init__(self, indices: Sequence[int], store: Store):
        self.indices = indices
        self.taken: deque[int] = deque()
        self._store = store

    def __iter__(self) -> Iterator[int]:
        while (position := self._store.add("taken", 1) - 1) < len(self.indices):
            self.taken.append(position)
            yield self.indices[position]


def _find(files: FilesOfSplit, root: str, splits: Iterable[str]) -> None:
    """Look for the annotation files of splits: a model takes minutes to load, this takes none.

    Raises:
        FileNotFoundError: When one is missing.
    """
    for split in splits:
        for file in files(root, split):
            if not file.is_file():
                raise FileNotFoundError(f"no annotation file {file}: `flmm data check {root}` names its source")


def _default_output(args: argparse.Namespace) -> Path:
    head = Path(args.checkpoint).stem if args.checkpoint else "no_checkpoint"
    run = Path(args.config).stem if args.config else Path(args.checkpoint).absolute().parent.name
    return Path("work_dirs", run, "eval", head)


def evaluate_items(model: Any, items: Sequence[Any]) -> list[Record]:
    """The records of items of a data set, each a sample or a list of samples of one picture; all are read together.

    Raises:
        ValueError: When a sample cannot be grounded; names its file, or those of the items.
    """
    groups = [item if isinstance(item, list) else [item] for item in items]
    with naming_files(_names(groups)):
        outputs = iter(model([sample for group in groups for sample in group], mode="tensor"))
    return [_record(group, [next(outputs) for _ in group]) for group in groups]


def _record(samples: list[Any], outputs: list[Any]) -> Record:
    """The record of the samples of one picture."""
    height, width = samples[0]["gt_masks"].shape[-2:]
    with naming_files(_names([samples])):
        pairs = zip(samples, outputs, strict=True)
        phrases = [phrase for sample, output in pairs for phrase in phrase_records(sample, output)]
    return {"file_name": samples[0].get("file_name"), "height": height, "width": width, "phrases": phrases}


def _names(groups: Sequence[list[Any]]) -> list[str]:
    return [str(group[0].get("file_name")) for group in groups]


@contextmanager
def naming_files(names: Sequence[str]) -> Iterator[None]:
    """Puts the files that are worked on in front of what a ValueError says."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{', '.join(names)}: {error}") from error


def evaluate_png(evaluation: Evaluation, split: str) -> Metrics:
    """Metrics of Panoptic Narrative Grounding, per kind of mask."""
    root = evaluation.args.data_root
    records = evaluation.records(f"png_{split}", "teacher_forced", lambda: png_dataset(evaluation.config, root, split))
    return _per_kind(records, png_metrics)


def evaluate_res(evaluation: Evaluation, split: str, concat: bool) -> Metrics:
    """Metrics of referring expression segmentation, per kind of mask."""
    root, protocol = evaluation.args.data_root, "concat" if concat else "per_sentence"
    records = evaluation.records(split, protocol, lambda: res_dataset(evaluation.config, root, split, concat))
    return _per_kind(records, res_metrics)


def _per_kind(records: list[Record], metrics: Callable[[list[Record], str], Metrics]) -> Metrics:
    phrases = [phrase for record in records for phrase in record["phrases"]]
    kinds = [kind for kind in KINDS if phrases and kind in phrases[0]]
    return {"images": len(records), **{kind: metrics(phrases, kind) for kind in kinds}}


def png_metrics(phrases: list[Record], kind: str) -> Metrics:
    """Average recall and accuracies of phrases, and of their boxes."""
    metric = PNGMetric()
    metric.update(
        *([phrase[kind][key] for phrase in phrases] for key in ("iou", "pixel_accuracy")),
        *([phrase[key] for phrase in phrases] for key in ("isthing", "plural")),
    )
    return {**metric.compute(), **_box_metrics(phrases, kind)}


def res_metrics(phrases: list[Record], kind: str) -> Metrics:
    """Mean and cumulative IoU of phrases, and of their boxes."""
    metric = RESMetric()
    metric.update(*([phrase[kind][key] for phrase in phrases] for key in ("intersection", "union")))
    return {**metric.compute(), **_box_metrics(phrases, kind)}


def _box_metrics(phrases: list[Record], kind: str) -> Metrics:
    metric = BoxMetric()
    metric.update([phrase[kind]["box_iou"] for phrase in phrases])
    return metric.compute()
