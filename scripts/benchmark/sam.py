"""Time and memory of our SAM and of the package segment-anything 1.0, on the same random weights.

    python scripts/benchmark/sam.py [--model vit_b] [--device cuda] [--threads 2] [--json sam.json]

Each row runs in a fresh process, so that its peak memory is its own.
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

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("encode image", "one global attention", "decode 32 boxes", "automatic masks 8 x 8")


def main() -> None:
    arguments = parse()
    if arguments.one:
        print(json.dumps(measure(arguments, *arguments.one)))
        return
    rows = {task: {side: run(arguments, side, task) for side in ("official", "ours")} for task in TASKS}
    clock = "seconds" if arguments.device.startswith("cuda") else "CPU seconds"
    print(f"{arguments.model}, float32, {arguments.device}, {arguments.threads} threads; official, ours, ratio")
    print(f"{'':24}{clock:>18}{'':8}{'extra MiB':>18}")
    for task, sides in rows.items():
        print(f"{task:24}" + compare(sides, "seconds", ".2f") + compare(sides, "mebibytes", ".0f"))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_b", choices=["vit_b", "vit_l", "vit_h"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=2, help="runs of which the fastest counts")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--one", nargs=2, metavar=("SIDE", "TASK"), help="measure one row in this process")
    return parser.parse_args()


def run(arguments: argparse.Namespace, side: str, task: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", side, task]
    for name in ("model", "device", "threads", "repeats"):
        command += [f"--{name}", str(getattr(arguments, name))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{task} ({side}) failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def compare(sides: dict[str, dict[str, float]], unit: str, form: str) -> str:
    official, ours = sides["official"][unit], sides["ours"][unit]
    return f"{official:>9{form}}{ours:>9{form}}{ours / official:>8.2f}"


@torch.inference_mode()
def measure(arguments: argparse.Namespace, side: str, task: str) -> dict[str, float]:
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    package = load_official() if side == "official" else load_ours()
    sam = package.sam_model_registry[arguments.model]().to(arguments.device)
    work = prepare(package, sam, task)
    before = peak(arguments.device)
    seconds = min(timed(work, arguments.device) for _ in range(arguments.repeats))
    return {"seconds": seconds, "mebibytes": peak(arguments.device) - before}


def load_ours() -> ModuleType:
    sys.path.insert(0, str(ROOT))
    import segment_anything

    return segment_anything


def load_official() -> ModuleType:
    """The installed package under another name, since ours bears its name."""
    path = Path(str(metadata.distribution("segment-anything").locate_file("segment_anything")))
    spec = importlib.util.spec_from_file_location(
        "official_sam", path / "__init__.py", submodule_search_locations=[str(path)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["official_sam"] = module
    spec.loader.exec_module(module)
    return module


def prepare(package: ModuleType, sam: torch.nn.Module, task: str):
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
        boxes = torch.rand(32, 4, device=sam.device) * side
        pe = sam.prompt_encoder.get_dense_pe()
        return lambda: sam.mask_decoder(embedding, pe, *sam.prompt_encoder(None, boxes, None), False)
    sam.image_encoder = Embedding(side)  # what is timed is the rest
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    generator = package.SamAutomaticMaskGenerator(sam, points_per_side=8)
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
