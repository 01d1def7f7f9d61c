"""From a config file to a model and the test data it is evaluated on; shared by evaluation and use."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flmm.constants import REFCOCO
from flmm.head_folder import RELEASED, WEIGHTS, head_config, head_file
from flmm.paths import ROOT, children, locate, locate_all

TINY_CONFIG = "configs/tiny/frozen_tiny_llava_unet_sam_nano_shapes.py"
TINY_CHECKPOINT = "checkpoints/frozen_tiny_llava_unet_sam_nano_shapes.pth"

RES_SPLITS = tuple(f"{name}_{split}" for name, (_, splits) in REFCOCO.items() for split in splits)


def read_config(path: str | Path) -> Any:
    """An mmengine Config; files of the repository are found from any folder.

    Raises:
        FileNotFoundError: When there is no such file; names what is near.
        ValueError: When it cannot be read as a config, or has no model.
    """
    from mmengine import Config

    path = config_file(path)
    try:
        config = Config.fromfile(path)
    except SyntaxError as error:
        raise ValueError(f"config {path} has a syntax error in line {error.lineno}: {error.msg}") from error
    except (OSError, ValueError) as error:  # mmengine's words for another ending, or bytes that are no text
        raise ValueError(f"{path} cannot be read as a config ({error}): name a .py file of configs/") from error
    except (ImportError, NameError, AttributeError, TypeError, LookupError, RuntimeError) as error:
        raise ValueError(f"config {path} cannot be run ({type(error).__name__}: {error}): correct it") from error
    if not isinstance(config.get("model"), Mapping):
        raise ValueError(f"config {path} has no `model`: name a config such as {TINY_CONFIG}")
    locate_all(config._cfg_dict)
    return config


def config_file(path: str | Path) -> str:
    """Find the file of a config, in the repository too.

    Raises:
        FileNotFoundError: When there is none; names what is near.
        ValueError: When it is no config by its name.
    """
    path = locate(str(path))
    if not Path(path).is_file():
        known = [str(file.relative_to(ROOT)) for file in ROOT.glob("configs/**/frozen_*.py")]
        near = difflib.get_close_matches(path, known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"name one of {ROOT / 'configs'}, or the path of yours"
        raise FileNotFoundError(f"config {path} does not exist: {hint}")
    if Path(path).suffix not in (".py", ".json", ".yaml", ".yml"):
        raise ValueError(f"{path} is no config: its name has to end in .py, .json or .yaml")
    return path


def checkpoint_config(path: str | Path) -> Any:
    """Read the config that a checkpoint of ours carries, as an mmengine Config for `build_model` and the data.

    Args:
        path: The checkpoint, or a head: its folder or its name on the hub.

    Raises:
        FileNotFoundError: When there is no such checkpoint.
        ValueError: When it carries none, as released heads and checkpoints of earlier versions do.
    """
    from flmm.checkpoint import read_meta
    from flmm.config_data import from_data

    path = head_file(path)
    if path.name == WEIGHTS:
        return head_config(path.parent)
    # not `config`: MMEngine takes that for the text of a config file, and runs it
    text = None if path.suffix == ".safetensors" else read_meta(path).get("flmm_config")
    if text is None:
        raise ValueError(
            f"{path} carries no config (it is a released head, or of an earlier version): name the config that it was "
            "trained with, too: --config CONFIG, or flmm.load(CONFIG, CHECKPOINT)"
        )
    return from_data(json.loads(text), path.parent)


def find_config(config: str | Path | None, checkpoint: str | Path | None) -> Any:
    """Read a config from its file, else from the checkpoint.

    Raises:
        FileNotFoundError: When the file does not exist.
        ValueError: When neither is given, or the checkpoint carries no config.
    """
    if config is not None:
        return read_config(config)
    if checkpoint is None:
        raise ValueError("name a config, or a checkpoint that carries one")
    return read_config(TINY_CONFIG) if _is_tiny(checkpoint) else checkpoint_config(checkpoint)


def named_model(
    config: str | Path | None = None, checkpoint: str | Path | None = None, revision: str | None = None
) -> tuple[Any, Path | None]:
    """Find the config and the trained head that `flmm.load` and the commands name.

    Args:
        config: Config file, or a checkpoint that carries its config. By default that of `checkpoint`; without
            both, the tiny model.
        checkpoint: Trained head: a file, a folder or a name on the hub.
        revision: Branch, tag or commit of a head on the hub.

    Returns:
        The config, and the file of the head, None where the config's `pretrained` names it.

    Raises:
        FileNotFoundError: When there is no such config, or the hub has no such head.
        ValueError: When no head is named.
    """
    if checkpoint is None and config is not None and Path(config).suffix != ".py":
        config, checkpoint = None, config
    if checkpoint is None and (config is None or Path(config).name == Path(TINY_CONFIG).name):
        checkpoint = TINY_CHECKPOINT
    file = None if checkpoint is None else head_file(checkpoint, revision)
    settings = find_config(config, file)
    if file is None and not settings.model.get("pretrained"):
        raise ValueError(
            f"no checkpoint for {config}: an untrained head grounds nothing. Name the one that `flmm train` saved, or "
            f"one that was released ({RELEASED})"
        )
    return settings, file


def _is_tiny(checkpoint: str | Path) -> bool:
    return locate(str(checkpoint)) == locate(TINY_CHECKPOINT)


def build_model(config: Any, checkpoint: str | Path | None = None, device: Any = "cpu") -> Any:
    """The model of a config, with its trained head, in eval mode.

    Args:
        config: An mmengine Config.
        checkpoint: Trained head, a file, a folder or a name on the hub; without it the head is the one that the
            config builds.
        device: Where the model goes.

    Raises:
        FileNotFoundError: When the checkpoint, or weights that the config names, do not exist.
        ValueError: When the checkpoint does not fit the model.
    """
    from xtuner.registry import BUILDER

    from flmm.checkpoint import load_head
    from flmm.training.named_files import check_files

    file = None if checkpoint is None else head_file(checkpoint)
    settings = dict(config.model)
    if file is not None and "pretrained" in settings:
        settings["pretrained"] = None  # would be overwritten; its file need not be here
    check_files(settings)
    model = BUILDER.build(settings)
    if file is not None:
        load_head(model, file)
    return model.to(device).eval()


READING = (
    "image_processor",
    "tokenizer",
    "prompt_template",
    "prompt",
    "image2tensor",
    "add_image_token",
    "image_token",
)


def sample_settings(config: Any) -> dict[str, Any]:
    """How a config reads pictures and texts, as arguments of `SampleBuilder`.

    They are those of its training data, in a `sample_builder` or in the data sets themselves, else its top-level
    variables.

    Raises:
        ValueError: When a config names no tokenizer, image processor or template.
    """
    training = config.get("train_dataloader", {})
    found = next(with_key(training, "image_processor"), config)
    if missing := [name for name in READING[:3] if found.get(name) is None]:
        raise ValueError(f"the config sets no {', '.join(missing)}: samples cannot be built without")
    return {name: found[name] for name in READING if found.get(name) is not None}


def with_key(node: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """The mappings inside a config that have a key, outermost first."""
    if isinstance(node, Mapping) and key in node:
        yield node
    for child in children(node):
        yield from with_key(child, key)


def evaluation_settings(config: Any) -> dict[str, Any]:
    """How the data that a config is evaluated on are read: samples and empty masks as in its training data."""
    found = with_key(_training(config), "allow_empty_masks")
    return sample_settings(config) | {"allow_empty_masks": any(node["allow_empty_masks"] for node in found)}


def _training(config: Any) -> Mapping[str, Any]:
    """The training data of a config; of a checkpoint's config, which names none, all of it."""
    return config.get("train_dataloader") or getattr(config, "_cfg_dict", config)  # a Config is no mapping


def data_root(config: Any, benchmark: str = "") -> str:
    """Find the folder of a config's training data, which holds its validation data as well.

    Args:
        config: An mmengine Config.
        benchmark: Name of a data set that lies in that folder (as in data/shapes) or beside it (as in data).

    Returns:
        The folder; data/coco where the training data name none.
    """
    training = _training(config)
    roots = [node["data_root"] for node in with_key(training, "data_root") if node["data_root"]]
    captions = [Path(node["json_file"]).parent.parent for node in with_key(training, "json_file")]
    root = Path(next(iter([*roots, *captions]), "data/coco"))
    places = [root / benchmark, root.parent / benchmark] if benchmark else [root]
    return str(next((place for place in places if place.is_dir()), places[-1]))


def annotation_files(data_root: str | Path, split: str) -> tuple[Path, Path]:
    """What a split is read from: captions and panoptic segments ('png_val'), or objects and references ('refcoco_val').

    Raises:
        FileNotFoundError: When one of them is missing.
    """
    name, _, part = split.rpartition("_")
    if name == "png":
        annotations = Path(data_root, "annotations")
        files = annotations / f"png_coco_{part}2017.json", annotations / f"panoptic_{part}2017.json"
    else:
        files = Path(data_root, name, "instances.json"), Path(data_root, name, REFCOCO[name][0])
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"no annotation file {file}: `flmm data check {data_root}` names its source")
    return files


def png_files(data_root: str | Path, split: str) -> tuple[Path, Path]:
    """Return `annotation_files` of a split of PNG, 'train' or 'val'."""
    return annotation_files(data_root, f"png_{split}")


def picture_folders(data_root: str | Path, split: str) -> tuple[Path, ...]:
    """Where the pictures of a split are, and its segment maps."""
    name, _, part = split.rpartition("_")
    if name == "png":
        return Path(data_root, f"{part}2017"), Path(data_root, "annotations", f"panoptic_{part}2017")
    return (Path(data_root, "train2014"),)


def png_dataset(config: Any, data_root: str | Path, split: str = "val") -> Any:
    """Panoptic Narrative Grounding of a split ('train' or 'val') below a folder laid out like data/coco."""
    from flmm.datasets.png import PNGDataset

    captions, panoptic = png_files(data_root, split)
    return PNGDataset(
        json_file=str(captions),
        panoptic_json_file=str(panoptic),
        panoptic_png_path=str(panoptic.with_suffix("")),
        local_path=str(Path(data_root, f"{split}2017")),
        **evaluation_settings(config),
    )


def res_dataset(config: Any, data_root: str | Path, split: str, concat: bool) -> Any:
    """A split of RES_SPLITS, or `<variant>_train`; one item per picture.

    Args:
        config: The config of the model.
        data_root: Folder laid out like data/coco.
        split: e.g. 'refcoco+_testA'.
        concat: One sample with the first sentence of every object (the paper's protocol), else a list of
            samples, one for each sentence.
    """
    from flmm.datasets.res import RESDataset

    objects, references = (str(file.relative_to(data_root)) for file in annotation_files(data_root, split))
    return RESDataset(
        data_root=f"{data_root}/",
        ann_file=objects,
        split_file=references,
        split=split.rpartition("_")[2],
        text_mode="select_first" if concat else "original",
        concat=concat,
        **evaluation_settings(config),
    )
