"""`flmm ground FOLDER`: many pictures with the model loaded once; what is done is kept, so a run can go on."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from flmm.cli.model_options import load_model
from flmm.console import counted, progress
from flmm.head_folder import head_file

RESULTS = "results.jsonl"
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Task:
    """A text about a picture.

    Attributes:
        image: Path of the picture below the folder.
        text: The text.
        phrases: Words of it; the whole text when there are none.
        name: Of its files, different for each task.
    """

    image: str
    text: str
    phrases: tuple[str, ...]
    name: str


def ground_folder(args: argparse.Namespace) -> int:
    """Ground texts in the pictures of a folder.

    Args:
        args: Of `flmm ground`.

    Returns:
        0, or 1 when a picture could not be grounded.

    Raises:
        FileExistsError: When results would replace other files.
        FileNotFoundError: When pictures, config or checkpoint do not exist.
        ValueError: When a text or phrase cannot be used, or results cannot be written.
    """
    from flmm.api import usable_device
    from flmm.outputs import apart, in_folder

    usable_device(args.device)
    folder, out = Path(args.image), Path(args.out or "grounding")
    tasks = read_tasks(folder, args.text, args.phrase or [], args.text_file)
    read = [folder, *filter(None, [args.text_file]), *(folder / task.image for task in tasks)]
    apart([out, out / RESULTS, *filter(None, [args.masks, args.coco])], read)
    _claim(out, tasks)
    if args.coco:
        in_folder(args.coco)
    settings = _settings(args)
    found = {task.name: _entry(out, task, settings) for task in tasks}
    missing = [task for task in tasks if found[task.name] is None]
    print(f"{counted(len(tasks), 'text')}, {len(tasks) - len(missing)} of them are in {out} already", flush=True)
    if missing:
        _ground_all(load_model(args), folder, out, missing, settings)
        found |= {task.name: _entry(out, task, settings) for task in missing}
    entries = {name: entry for name, entry in found.items() if entry}
    _write(entries, out / RESULTS, args.masks, args.coco)
    failed = len(tasks) - len(entries)
    print(f"{counted(len(entries), 'text')} grounded, {failed} failed: drawings and {RESULTS} are in {out}")
    return int(failed > 0)


def _claim(out: Path, tasks: list[Task]) -> None:
    """Take a folder for results; its `records` say that it is one.

    Raises:
        FileExistsError: When it is none, and holds files with the names of results.
        ValueError: When it cannot be written.
    """
    from flmm.outputs import in_folder

    results = [out / RESULTS, *(out / f"{task.name}.png" for task in tasks)]
    if not (out / "records").is_dir() and (found := [file.name for file in results if file.exists()]):
        raise FileExistsError(f"{out} holds {found[0]}, which `flmm ground` did not write: name another --out")
    in_folder(out / "records/first.json")


def _ground_all(model: Any, folder: Path, out: Path, tasks: list[Task], settings: dict[str, Any]) -> None:
    """Ground tasks one by one; a record of each says that it is done."""
    from tqdm import tqdm

    from flmm.evaluation.drawings import save_picture
    from flmm.evaluation.records import write_json
    from flmm.export import as_entry

    for task in progress(tasks, desc=str(folder), unit="text"):
        try:
            grounding = model.ground(folder / task.image, task.text, task.phrases or None).at(settings["threshold"])
            save_picture(grounding.draw(), out / f"{task.name}.png")
        except (ValueError, OSError) as error:  # the others are not to wait for it
            tqdm.write(f"flmm ground: {task.image}: {error}", file=sys.stderr)
            continue
        record = {"task": asdict(task), "settings": settings, "entry": as_entry(grounding, task.image)}
        write_json(_record(out, task), record)


def _write(entries: dict[str, dict[str, Any]], results: Path, masks: str | None, coco: str | None) -> None:
    """Write what was found, by the names of its tasks, in the formats that are asked for."""
    from flmm.checkpoint import part_name, publish
    from flmm.evaluation.records import write_json
    from flmm.export import as_coco, save_masks

    part = part_name(results)
    lines = (f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in entries.values())
    part.write_text("".join(lines), encoding="utf-8")
    publish(part, results)
    for name, entry in entries.items() if masks else ():
        save_masks(entry, str(masks), name)
    if coco:
        write_json(Path(coco), as_coco(entries.values()))


def read_tasks(folder: Path, text: str | None, phrases: list[str], file: str | None) -> list[Task]:
    """Read what is to be grounded, and check it.

    Args:
        folder: Of the pictures.
        text: The same for all pictures, or none.
        phrases: Words of that text.
        file: Lines PICTURE, a tab, TEXT, and a tab and words for each phrase.

    Raises:
        FileNotFoundError: When there is no such file or picture.
        ValueError: When a line cannot be used; it names the line.
    """
    from flmm.datasets.phrases import find_phrases

    if (text is None) == (file is None):
        raise ValueError(
            f"{folder} is a folder: give one text for all of its pictures, or --text-file with one for each"
        )
    if text is not None:
        find_phrases(text, phrases or [text])
    named = _lines(folder, Path(file)) if file else ((image, str(text), phrases) for image in _pictures(folder))
    tasks: dict[str, Task] = {}
    for image, words, parts in named:
        stem = str(Path(image).with_suffix("")).replace("/", "_")
        names = chain([stem], (f"{stem}.{number}" for number in count(2)))
        name = next(name for name in names if name not in tasks)
        tasks[name] = Task(image, words, tuple(parts), name)
    return list(tasks.values())


def _pictures(folder: Path) -> list[str]:
    found = [path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in ENDINGS]
    if not found:
        raise FileNotFoundError(f"{folder} has no picture that ends in {', '.join(ENDINGS)}")
    return found


def _lines(folder: Path, file: Path) -> Iterator[tuple[str, str, list[str]]]:
    from flmm.datasets.phrases import find_phrases

    if not file.is_file():
        raise FileNotFoundError(f"no text file {file}: write one with lines PICTURE, a tab, TEXT, or give one text")
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        image, _, rest = line.partition("\t")
        text, *phrases = rest.split("\t")
        try:
            if not text.strip():
                raise ValueError(f"no text: write {image or 'PICTURE'}, a tab, and a text")
            if not (folder / image).is_file():
                raise ValueError(f"no picture {folder / image}")
            find_phrases(text, phrases or [text])
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error
        yield image, text, phrases


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text in UTF-8 ({error}): save it so") from error


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What else the results depend on: model, weights, way of reading, threshold."""
    from flmm.config import named_model, sample_settings
    from flmm.evaluation.identity import model_identity

    found, head = named_model(args.config, args.checkpoint)
    config = found.to_dict()
    head = head or head_file(config["model"]["pretrained"])
    return {**model_identity(config["model"], sample_settings(config), head), "threshold": args.threshold}


def _record(out: Path, task: Task) -> Path:
    return out / "records" / f"{task.name}.json"


def _entry(out: Path, task: Task, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The line of a task, where it was grounded with these settings."""
    file = _record(out, task)
    if not file.is_file():
        return None
    record = json.loads(file.read_text())
    same = [record["task"], record["settings"]] == json.loads(json.dumps([asdict(task), settings]))
    return record["entry"] if same else None
