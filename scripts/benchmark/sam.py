"""Our SAM and the package segment-anything 1.0 on the same weights: time, memory, and what half precision changes.

    python scripts/benchmark/sam.py --model vit_l

Each row runs in a fresh process, so that its peak memory is its own. Masks of bfloat16 and float32 are compared on
pictures of the shapes data with the embedded vit_nano, or with the weights that `--checkpoint` names.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from measure import Ratio, Report, options
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("encode image", "one global attention", "decode boxes", "automatic masks")
BOXES, POINTS = 32, 8  # how many are decoded, and how many a side; fewer for a try
TINY_BOXES, TINY_POINTS = 4, 2
# As small as both packages build one; its pictures have 1,024 pixels as all of theirs.
TINY = {
    "encoder_embed_dim": 32,
    "encoder_depth": 2,
    "encoder_num_heads": 2,
    "encoder_global_attn_indexes": [1],
}
BOUNDS = (1.0, 1.0, 1.0, 1.0)  # not slower than the package


def main() -> None:
    args = arguments().parse_args()
    if args.one:
        print(json.dumps(measure(args, *args.one)))
    else:
        measured(args).show(args.json)


def measured(args: argparse.Namespace) -> Report:
    """Each task of both packages."""
    report = Report(
        f"SAM {args.model}, {args.dtype}, {args.device}: segment-anything 1.0 and ours",
        ("", "1.0 s", "ours s", "ratio", "1.0 MB", "ours MB", "ratio"),
    )
    for task, bound in zip(TASKS, BOUNDS, strict=True):
        official, ours = (run(args, side, task) for side in ("official", "ours"))
        time_ratio, memory_ratio = (ours[unit] / official[unit] for unit in ("seconds", "mebibytes"))
        memory = (official["mebibytes"], ours["mebibytes"], memory_ratio)
        report.rows.append((task, official["seconds"], ours["seconds"], time_ratio, *memory))
        report.ratios.append(Ratio(f"SAM {args.model}, {task}: ours / 1.0, time", time_ratio, bound))
    pictures = 2 if args.model == "tiny" else 20
    same = half_precision(args, pictures)
    report.ratios.append(Ratio("SAM, bfloat16 encoder: IoU with float32's masks", same, 0.999, False))
    return report


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = options(__doc__)
    parser.set_defaults(dtype="float32")
    parser.add_argument("--model", default="vit_b", choices=["tiny", "vit_b", "vit_l", "vit_h"])
    parser.add_argument("--compile", action="store_true", help="compile our image encoder with torch.compile")
    embedded = ("vit_nano", "checkpoints/sam_vit_nano.pth")
    parser.add_argument("--checkpoint", nargs=2, default=embedded, metavar=("NAME", "FILE"))
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "TASK"), help="measure one row in this process")
    return parser


def run(args: argparse.Namespace, side: str, task: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", side, task, *["--compile"] * args.compile]
    for name in ("model", "device", "dtype", "threads", "repeats"):
        command += [f"--{name}", str(getattr(args, name))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{task} ({side}) failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


@torch.inference_mode()
def measure(args: argparse.Namespace, side: str, task: str) -> dict[str, float]:
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    package = load_official() if side == "official" else load_ours()
    sam = build(package, args.model).to(args.device)
    with torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=args.dtype == "bfloat16"):
        if args.compile and side == "ours":
            sam.image_encoder.compile()
        work = prepare(package, sam, task, *((TINY_BOXES, TINY_POINTS) if args.model == "tiny" else (BOXES, POINTS)))
        if args.compile:
            work()
        before = peak(args.device)
        seconds = min(timed(work, args.device) for _ in range(args.repeats))
    return {"seconds": seconds, "mebibytes": max(peak(args.device) - before, 1)}


def build(package: ModuleType, model: str) -> torch.nn.Module:
    """A SAM of a package with random weights."""
    if model == "tiny":
        return sys.modules[f"{package.__name__}.build_sam"]._build_sam(**TINY)
    return package.sam_model_registry[model]()


@torch.no_grad()
def half_precision(args: argparse.Namespace, pictures: int) -> float:
    """Mean IoU of the refined masks that a bfloat16 and a float32 image encoder lead to, from rough true masks."""
    from flmm.datasets.shapes.drawing import render
    from flmm.datasets.shapes.scene import sample_scene
    from flmm.models.mask_head.mask_refiner import SAMWrapper
    from flmm.utils import compute_mask_IoU

    exact, rough = (
        SAMWrapper(*args.checkpoint, use_text=False, encoder_dtype=dtype).to(args.device)
        for dtype in ("float32", "bfloat16")
    )
    ious = []
    for seed in range(10_000_000, 10_000_000 + pictures):
        picture, regions = render(sample_scene(seed))
        masks = torch.stack([torch.from_numpy(regions == region).float() for region in np.unique(regions)])
        coarse = 8 * torch.nn.functional.adaptive_avg_pool2d(masks, 48).to(args.device) - 4
        found = [wrapper(Image.fromarray(picture), coarse, []) > 0 for wrapper in (exact, rough)]
        ious.append(compute_mask_IoU(*(mask.flatten(1).float() for mask in found))[2])
    return float(torch.cat(ious).mean())


def load_ours() -> ModuleType:
    sys.path.insert(0, str(ROOT))
    import segment_anything

    return segment_anything


def load_official() -> ModuleType:
    """The installed package under another name, since ours bears its name."""
    if "official_sam" in sys.modules:
        return sys.modules["official_sam"]
    path = Path(str(metadata.distribution("segment-anything").locate_file("segment_anything")))
    spec = importlib.util.spec_from_file_location(
        "official_sam", path / "__init__.py", submodule_search_locations=[str(path)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["official_sam"] = module
    spec.loader.exec_module(module)
    return module


def prepare(package: ModuleType, sam: torch.nn.Module, task: str, count: int, points: int):
    """What is timed, as a function without arguments."""
    side = sam.image_encoder.img_size
    if task == TASKS[0]:
        image = torch.randn(1, 3, side, side, device=sam.device)
        return lambda: sam.image_encoder(image)
    if task == TASKS[1]:
        index = next(i for i, block in enumerate(sam.image_encoder.blocks) if not block.window_size)
        attention = sam.image_encoder.blocks[index].attn
        grid = torch.randn(1, side // 16, side // 16, attention.proj.in_features, device=sam.device)
        return lambda: attention(grid)
    if task == TASKS[2]:
        embedding = torch.randn(1, 256, side // 16, side // 16, device=sam.device)
        boxes = torch.rand(count, 4, device=sam.device) * side
        pe = sam.prompt_encoder.get_dense_pe()
        return lambda: sam.mask_decoder(embedding, pe, *sam.prompt_encoder(None, boxes, None), False)
    sam.image_encoder = Embedding(side)  # what is timed is the rest
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    generator = package.SamAutomaticMaskGenerator(sam, points_per_side=points)
    return lambda: generator.generate(image)


class Embedding(torch.nn.Module):
    """An image encoder that costs nothing."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.img_size = side
        self.embedding = torch.nn.Parameter(torch.randn(1, 256, side // 16, side // 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the same embedding for every image."""
        return self.embedding


def timed(work, device: str) -> float:
    """Seconds on a GPU; on a CPU those of this process, so that other programs do not count."""
    if not device.startswith("cuda"):
        start = time.process_time()
        work()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def peak(device: str) -> float:
    """Most memory so far, in MiB."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
