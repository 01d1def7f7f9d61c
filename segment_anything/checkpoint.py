"""Read SAM weights from a file and refuse those that do not fit, with a report."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_DOWNLOADS = {
    "vit_h": _META + "sam_vit_h_4b8939.pth",
    "vit_l": _META + "sam_vit_l_0b3195.pth",
    "vit_b": _META + "sam_vit_b_01ec64.pth",
    "vit_t": "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
}
# Where training programs put a state dict, and what wrappers put before its names.
_ENTRIES = ("state_dict", "model_state_dict", "model", "module")
_PREFIXES = ("module.", "_orig_mod.", "model.", "sam.")
_TORCH = (b"PK", b"\x80")  # its zip files, and pickles from before torch 1.6
# What torch raises for files that are cut, damaged or of another kind, in its zip and its older format.
UNREADABLE = (
    RuntimeError,
    EOFError,
    pickle.UnpicklingError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    struct.error,
)
_VARIANT_OF_WIDTH = {96: "vit_nano", 768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def load_weights(
    sam: nn.Module,
    path: str | Path,
    rename: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None,
) -> None:
    """Load all weights of a model from a file; a model that is refused its file stays as it was.

    Args:
        sam: the model. Values are converted to its dtype.
        path: a torch file (`.pth`, `.pt`) or `.safetensors`, see `read_state_dict`.
        rename: brings the file's keys to the model's.

    Raises:
        FileNotFoundError: if there is no such file; names where to download it.
        ValueError: if the file cannot be read, or keys are missing, unexpected or of another shape.
    """
    found = _without_pixel_statistics(sam, read_state_dict(path))
    if rename is not None:
        found = rename(found)
    expected = sam.state_dict()
    problems = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {list(found[key].shape)} instead of {list(expected[key].shape)}"
            for key in expected
            if key in found and found[key].shape != expected[key].shape
        ],
    }
    if any(problems.values()):
        raise ValueError(_report(path, found, len(expected), problems))
    if unusable := [f"{key} {problem}" for key in expected if (problem := tensor_problem(found[key]))]:
        raise ValueError(
            f"{path}: {len(unusable)} tensors hold no weights, the first: {unusable[0]}; download it again"
        )
    sam.load_state_dict(found, strict=True)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a torch or safetensors file onto the CPU.

    The state dict may be an entry of a training checkpoint, and its names may have what wrappers put before them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a readable file of named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(_where_to_get(path))
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    else:
        state = _read_torch(path)
    state = unwrapped(state)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} does not hold a plain state dict (names to tensors): save model.state_dict()")
    return state


def unwrapped(state: Any) -> Any:
    """Take the state dict out of a training checkpoint, and the prefixes of wrappers off its names."""
    while isinstance(state, dict) and (
        inner := next((key for key in _ENTRIES if isinstance(state.get(key), dict)), "")
    ):
        state = state[inner]
    while isinstance(state, dict) and state and (prefix := _common_prefix(state)):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def tensor_problem(value: Tensor) -> str:
    """Say why a tensor cannot be a weight; empty when it can."""
    if value.is_meta or value.layout != torch.strided:
        return "has no values" if value.is_meta else f"is stored as {value.layout}"
    if not value.is_floating_point():
        return f"is {value.dtype}, not floating point"
    if count := int((~value.isfinite()).sum()):
        return f"holds {count} of {value.numel()} values that are NaN or infinite"
    return ""


def _common_prefix(names: Iterable[Any]) -> str:
    names = [str(name) for name in names]
    return next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in names)), "")


def _without_pixel_statistics(sam: nn.Module, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the mean and deviation of pixels that old files hold, when they are the model's."""
    kept = dict(found)
    for name in ("pixel_mean", "pixel_std"):
        if name in found and torch.equal(found[name].flatten().float(), getattr(sam, name).flatten().float().cpu()):
            del kept[name]
    return kept


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(_unreadable(path)) from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise ValueError(_unreadable(path)) from error


def _unreadable(path: Path) -> str:
    fault = no_torch_file(path) or "it may be cut short or hold objects other than tensors"
    return f"{path} ({path.stat().st_size:,} bytes) is not a readable weight file: {fault}; download it again"


def no_torch_file(path: str | os.PathLike) -> str:
    """Say why a file cannot be one of torch, as far as its beginning tells; empty when it may be one."""
    with open(path, "rb") as file:
        head = file.read(48)
    if not head:
        return "it is empty"
    return "" if head.startswith(_TORCH) else f"it begins with {head!r}, as no file of torch does"


def _where_to_get(path: Path) -> str:
    known = "\n".join(f"  {name}: {url}" for name, url in _DOWNLOADS.items())
    return (
        f"no SAM weights at {path.absolute()}. Download them and give the path as checkpoint=...:\n{known}\n"
        "  vit_nano: comes with the repository as checkpoints/sam_vit_nano.pth"
    )


def _report(path: str | Path, found: dict[str, Tensor], expected: int, problems: dict[str, list[str]]) -> str:
    lines = [f"{path} does not fit this SAM ({len(found)} tensors in the file, {expected} in the model):"]
    lines += [
        f"  {len(names)} {what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for what, names in problems.items()
        if names
    ]
    variant = _recognise(found)
    lines.append(
        f"  The file looks like {variant!r}: use sam_model_registry[{variant!r}]."
        if variant
        else "  Give a whole SAM checkpoint of the model's own variant."
    )
    return "\n".join(lines)


def _recognise(found: dict[str, Tensor]) -> str | None:
    """Tell which variant a file is for, by its image encoder."""
    if any(key.startswith(("image_encoder.layers.", "image_encoder.stages.")) for key in found):
        return "vit_t"
    position = found.get("image_encoder.pos_embed")
    return None if position is None else _VARIANT_OF_WIDTH.get(position.shape[-1])
