"""Fetches weights: SAM's, and LMMs and heads from the Hugging Face hub. Compares checksums, resumes what broke off."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from flmm.cli.data_get import Source, get
from flmm.download import file_sha256
from flmm.hub import HubName, check_contents, fetch, file_names, hub_name

_SAM = "https://dl.fbaipublicfiles.com/segment_anything"
_MOBILE = "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights"
WEIGHTS = {
    name: Source(file, f"{folder}/{file}", ".", (file,), sha256)
    for name, folder, file, sha256 in (
        ("sam_vit_b", _SAM, "sam_vit_b_01ec64.pth", "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
        ("sam_vit_l", _SAM, "sam_vit_l_0b3195.pth", "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
        ("sam_vit_h", _SAM, "sam_vit_h_4b8939.pth", "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
        (
            "mobile_sam",
            _MOBILE,
            "mobile_sam.pt",
            "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        ),
    )
}
# The same weights for other programs.
OTHER_FORMATS = ["*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.ot", "original/*", "consolidated.*"]
TORCH = (".bin", ".pt", ".pth")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `flmm download`."""
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help=f"{', '.join(WEIGHTS)}; an LMM or head on the hub (user/name, user/name@revision); or a config, for all "
        "weights that it names",
    )
    parser.add_argument("--root", type=Path, default=Path("checkpoints"), help="folder of SAM's weights [%(default)s]")
    parser.add_argument("--dry-run", action="store_true", help="say what would be fetched; fetch nothing")


def run(args: argparse.Namespace) -> int:
    """Fetches; returns 1 when something could not be fetched.

    Raises:
        ValueError: A name that is neither known, nor one of the hub, nor a config.
        FileNotFoundError: The hub has no such repository, or cannot be reached.
    """
    wanted = list(dict.fromkeys(item for name in args.names for item in _meant(name)))
    failed = 0
    for item in wanted:
        if isinstance(item, Source):
            failed |= _weights(item, args.root, args.dry_run)
        else:
            _repository(item, args.dry_run)
    return failed


def _meant(name: str) -> Iterator[Source | HubName]:
    """What a word of the command line stands for."""
    if name in WEIGHTS:
        yield WEIGHTS[name]
    elif name.endswith(".py"):
        yield from _named_by(name)
    elif repository := hub_name(name):
        yield repository
    else:
        raise ValueError(
            f"{name}: name one of {', '.join(WEIGHTS)}, a repository of the hub as user/name, or a config (.py)"
        )


def _named_by(config: str) -> Iterator[Source | HubName]:
    """The weights that a config names and that can be fetched."""
    from flmm.config import read_config
    from flmm.training.named_files import named_paths, named_weights

    settings = read_config(config)._cfg_dict
    by_file = {source.name: source for source in WEIGHTS.values()}
    files = {path.name for _, path in named_paths(settings.model)}
    yield from (by_file[name] for name in sorted(files & by_file.keys()))
    names = sorted({name for name, *_ in named_weights(settings)})
    yield from (repository for name in names if (repository := hub_name(name)))


def _weights(source: Source, root: Path, dry_run: bool) -> int:
    """Fetches a file of SAM, or compares the checksum of the one that is there."""
    file = root / source.name
    if not file.exists():
        return get([source], root, dry_run)
    if (found := file_sha256(file)) != source.sha256:
        raise ValueError(f"{file} has SHA-256 {found}, published is {source.sha256}: delete it and run this again")
    print(f"{file} is there, and its checksum is right")
    return 0


def _repository(name: HubName, dry_run: bool) -> None:
    """Fetches a repository into the hub's cache, and compares what is there with the hub's digests."""
    from huggingface_hub import constants

    print(f"{name}: {constants.ENDPOINT}/{name.repository} -> {constants.HF_HUB_CACHE}")
    if dry_run:
        return
    names = [] if constants.HF_HUB_OFFLINE else file_names(name)
    folder = fetch(name, ignore=[*OTHER_FORMATS, *twice(names)])
    print(f"{folder}: {check_contents(folder)} files, and their checksums are right")


def twice(names: Iterable[str]) -> list[str]:
    """Files of torch beside which there are safetensors."""
    paths = [PurePosixPath(name) for name in names]
    safe = {path.parent for path in paths if path.suffix == ".safetensors"}
    return [str(path) for path in paths if path.suffix in TORCH and path.parent in safe]
