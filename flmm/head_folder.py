"""A trained head as a folder, on a disk or on the hub. Nothing in it is run.

`head.safetensors` has the trained parameters, `config.json` what builds the model and its samples, as data
(`flmm.config_data`), `metrics.json` what was measured, where it is known. `README.md` is the card that the hub shows,
and `example.png` its picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from flmm.hub import HubName, check_contents, fetch, hub_name, upload
from flmm.paths import locate

if TYPE_CHECKING:
    from flmm.api import GroundingModel
    from flmm.grounding import Grounding

WEIGHTS, CONFIG, METRICS = "head.safetensors", "config.json", "metrics.json"
PICTURE, CARD = "example.png", "README.md"
LICENSE = "apache-2.0"
RELEASED = "checkpoints/README.md says where they are"
EXAMPLE_SEED = 5_000_000  # a scene of shapes that no training reads


def find_head(name: str | os.PathLike, revision: str | None = None) -> Path | None:
    """Return the folder of a head; one on the hub is downloaded into the hub's cache and its checksums compared.

    Args:
        name: A folder, or a name on the hub: `user/head`, `hf://user/head`, both with `@revision`.
        revision: Branch, tag or commit, when the name has none.

    Returns:
        The folder, or nothing for a path that is no folder of a head.

    Raises:
        FileNotFoundError: When the hub has no such repository, or it is neither in the cache nor to be reached.
        ConnectionError: When the transfer broke.
        ValueError: When the repository holds no head, or a file was damaged on the way.
    """
    repository = hub_name(name, revision)
    if repository is None:
        folder = Path(locate(os.fspath(name)))
        return folder if (folder / WEIGHTS).is_file() else None
    folder = fetch(repository, allow=[WEIGHTS, CONFIG, METRICS])
    check_contents(folder)
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{repository} holds no head of F-LMM: it has no {WEIGHTS}")
    return folder


def head_file(name: str | os.PathLike, revision: str | None = None) -> Path:
    """Return where a trained head is on this disk: its file, or the folder of a DeepSpeed checkpoint.

    Args:
        name: A file or folder, or a name as in `find_head`.
        revision: As there.

    Raises:
        FileNotFoundError: When there is no such file; else, like ConnectionError and ValueError, as in `find_head`.
    """
    folder = find_head(name, revision)
    file = folder / WEIGHTS if folder else Path(locate(os.fspath(name)))
    if not file.exists():
        raise FileNotFoundError(
            f"checkpoint {name} does not exist: `flmm train` saves one, and some are released ({RELEASED})"
        )
    return file


def head_config(folder: Path) -> Any:
    """Read the config of a head's folder, as an mmengine Config.

    Raises:
        FileNotFoundError: When the folder has none.
        ValueError: When it is no JSON, or names what no head needs.
    """
    from flmm.config_data import from_data

    file = folder / CONFIG
    if not file.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}: name the config of the head, and the folder as checkpoint")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no JSON ({error}): copy it again") from error
    return from_data(data, folder)


def save_head(
    model: GroundingModel,
    folder: str | os.PathLike,
    license: str = LICENSE,
    metrics: Mapping[str, Any] | None = None,
    example: Grounding | None = None,
    name: str | None = None,
) -> Path:
    """Write the folder of a head; an earlier head there is replaced, other files stay.

    Args:
        model: The model.
        folder: Made when it does not exist.
        license: Of the head, as the hub names licenses.
        metrics: What was measured: numbers by name, mappings inside mappings. By default what the evaluations below
            work_dirs say of the checkpoint that the model was loaded from.
        example: A grounding for the card; by default that of a drawn scene.
        name: What the card tells the reader to load; by default the folder.

    Returns:
        The folder.

    Raises:
        FileExistsError: When files of the same names there are not those of a head.
        ValueError: When the model has no config, or one with values that are no data.
    """
    from safetensors.torch import save_file

    from flmm.checkpoint import trainable
    from flmm.config_data import to_data
    from flmm.model_card import card

    if model.config is None:
        raise ValueError("the model has no config: load it with flmm.load, or pass config= to GroundingModel")
    _check_free(Path(folder))
    data = to_data(model.config)
    if "pretrained" in data["model"]:
        data["model"]["pretrained"] = None  # the parameters are beside it
    metrics = measured(model.checkpoint) if metrics is None else metrics
    drawing = (example or drawn_example(model)).draw()
    head = {key: value.detach().cpu().contiguous() for key, value in trainable(model.model).items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _put(folder / WEIGHTS, lambda part: save_file(head, part, metadata={"format": "pt"}))
    _put(folder / CONFIG, lambda part: part.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n"))
    _put(folder / PICTURE, lambda part: drawing.save(part, "PNG"))
    (folder / METRICS).unlink(missing_ok=True)  # those of an earlier head
    if metrics:
        _put(folder / METRICS, lambda part: part.write_text(json.dumps(metrics, indent=1) + "\n"))
    parameters = sum(value.numel() for value in head.values())
    text = card(name or os.fspath(folder), data, metrics, license, parameters, drawn=example is None)
    _put(folder / CARD, lambda part: part.write_text(text, encoding="utf-8"))
    return folder


def _check_free(folder: Path) -> None:
    """Check that writing a head replaces nothing but an earlier head."""
    from flmm.model_card import is_card

    card = folder / CARD
    if (folder / WEIGHTS).is_file() and (not card.exists() or is_card(card)):
        return
    if foreign := [name for name in (CARD, CONFIG, METRICS, PICTURE, WEIGHTS) if (folder / name).exists()]:
        raise FileExistsError(
            f"{folder} holds no head that was saved, and saving one would replace {', '.join(foreign)} there: name "
            "another folder"
        )


def push_head(model: GroundingModel, name: str, private: bool = False, message: str = "", **options: Any) -> str:
    """Write the folder of a head and upload it; see `save_head` and `flmm.hub.upload`.

    Args:
        model: The model.
        name: `user/head`, or `user/head@branch`.
        private: Whether a new repository can be seen by its owner alone.
        message: What the commit says.
        **options: Of `save_head`.

    Returns:
        The address of the repository.

    Raises:
        ValueError: When the name is none of the hub's.
        FileNotFoundError: When the hub cannot be reached, or does not let this user write.
        ConnectionError: When the transfer broke.
    """
    repository: HubName | None = hub_name(f"hf://{name.removeprefix('hf://')}")
    assert repository is not None
    with TemporaryDirectory() as folder:
        save_head(model, folder, name=str(repository), **options)
        return upload(Path(folder), repository, private, message or "Upload a grounding head")


def measured(checkpoint: str | os.PathLike | None, root: Path = Path("work_dirs")) -> dict[str, Any]:
    """Collect what evaluations of whole splits measured with a checkpoint of this content.

    Args:
        checkpoint: The checkpoint, if any.
        root: Where evaluations write.

    Returns:
        Figures of splits by benchmark.
    """
    from flmm.training.fingerprint import file_digest

    if checkpoint is None or not Path(checkpoint).is_file():
        return {}
    weights, found = file_digest(Path(checkpoint)), {}
    for file in sorted(root.glob("*/eval/*/*.json")):
        content = json.loads(file.read_text())
        if isinstance(content, dict) and content.get("weights") == weights and content.get("limit") is None:
            found[file.stem] = content.get("splits", {})
    return found


def drawn_example(model: GroundingModel) -> Grounding:
    """Ground the caption of a drawn scene: a picture that any model can be shown, and whose license is ours."""
    from PIL import Image

    from flmm.datasets.shapes.captions import caption, text_of
    from flmm.datasets.shapes.drawing import render
    from flmm.datasets.shapes.scene import sample_scene

    scene = sample_scene(EXAMPLE_SEED)
    segments = caption(scene)
    phrases = [segment.utterance for segment in segments if segment.regions]
    return model.ground(Image.fromarray(render(scene)[0]), text_of(segments), phrases)


def _put(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file under a temporary name, then rename it."""
    from flmm.checkpoint import part_name, publish

    part = part_name(path)
    try:
        write(part)
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)
