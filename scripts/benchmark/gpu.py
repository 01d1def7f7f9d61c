"""All that is to be known of a GPU, in one run of at most eight minutes, without network: `make bench-gpu`.

    python scripts/benchmark/gpu.py                       # on a machine with one GPU of 80 GB or more
    python scripts/benchmark/gpu.py --device cpu --tiny   # the same parts, as small as they get

The recorded cases in float32 and bfloat16; then, at the sizes of LLaVA-1.5-7B, LLaVA-NeXT-7B and Qwen2.5-VL-7B with
random weights, attention capture, training step, prediction, answer, texts about one picture, and peak memory beside
the computed one; SAM beside the package 1.0. Each stands beside the reference's way (eager, `output_attentions=True`)
and the floor (plain forward passes). What else the script needs is said when it is missing, as a list of wheels.

A part that fails or no longer fits into the time does not stop the others. Each writes its figures at once.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wheels import advice, missing

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers")]

if TYPE_CHECKING:
    from measure import Report

SHAPES = ("llava_next_7b", "llava_1_5_7b", "qwen2_5_vl_7b")  # the longest sequence first
LONG = "llava_next_7b"  # whose sequence of 2,940 tokens the bounds are for
SPARE = 20  # seconds that are kept for the picture

Part = tuple[str, Callable[[], "Report"]]


def main() -> None:
    args = parse()
    pure, other = missing()
    if args.wheels or pure or other:
        raise SystemExit(advice(pure, other) if pure or other else "nothing is missing")
    import torch

    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here: `--device cpu --tiny` tries the script out")
    raise SystemExit(int(not run(args)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--device", default="cuda")
    add("--tiny", action="store_true", help="tiny shapes and one recorded case: does the script work?")
    add("--minutes", type=float, default=8, help="no part begins when they are over [%(default)s]")
    add("--repeats", type=int, default=5, help="runs of which the median time counts [%(default)s]")
    add("--only", nargs="+", metavar="WORD", help="only parts whose name holds one of these, e.g. step llava_next_7b")
    add("--out", type=Path, default=Path("work_dirs/bench_gpu"), help="folder for figures and picture [%(default)s]")
    add("--wheels", action="store_true", help="say which packages are missing on this machine, and end")
    return parser.parse_args()


def run(args: argparse.Namespace) -> bool:
    """Runs the parts; returns whether all ran to their end."""
    import flmm  # noqa: F401  applies the patches that mmdet needs before it is imported

    start, done, failed, skipped = time.perf_counter(), {}, {}, []
    for name, measured in parts(args):
        begun = time.perf_counter()
        if begun - start > 60 * args.minutes - SPARE:
            skipped.append(name)
            continue
        print(f"[{begun - start:4.0f} s] {name}", flush=True)
        try:
            report = measured()
        except (Exception, SystemExit) as error:  # the other parts are still worth their minutes
            failed[name] = f"{type(error).__name__}: {error}"
            traceback.print_exc()
        else:
            report.show(args.out / f"{name}.json")
            done[name] = (report, time.perf_counter() - begun)
        finally:
            release(args.device)
        write(args, done, failed, skipped)  # at once: whoever lends the machine may end this run
    if ratios := write(args, done, failed, skipped):
        from draw import draw

        draw(ratios, args.out / "ratios.png")
    print(f"[{time.perf_counter() - start:4.0f} s] {len(done)} parts in {args.out}, {len(failed)} failed: {failed}")
    if skipped:
        print(f"not begun within {args.minutes:g} minutes: {', '.join(skipped)}; run them with --only")
    return not failed and not skipped


def parts(args: argparse.Namespace) -> Iterator[Part]:
    """Names of parts, and what runs them."""
    shapes = ("tiny",) if args.tiny else SHAPES
    everything: list[Part] = [("parity", lambda: parity(args))]
    for name in ("step", "attention", "generate", "memory", "texts"):
        everything += [(f"{name}_{shape}", lambda n=name, s=shape: by_shape(args, n, s)) for shape in shapes]
    everything.append(("sam", lambda: sam(args)))
    yield from (part for part in everything if not args.only or any(word in part[0] for word in args.only))


def by_shape(args: argparse.Namespace, name: str, shape: str) -> Report:
    """A benchmark of this folder at the size of an LMM."""
    import attention
    import batch
    import generate
    import memory
    import step

    size = ["--shape", shape, "--sam", "vit_nano" if args.tiny else "vit_l"]
    if name == "attention":
        return attention.measured(options(args, attention, attention_size(shape)))
    if name == "generate":
        few = [*size, "--tokens", "4" if args.tiny else "60", "--repeats", str(min(args.repeats, 2))]
        return generate.measured(options(args, generate, few))
    if name == "memory":
        return memory.check(options(args, memory, size))
    if name == "texts":
        texts = ["--sizes", "1", "2", "--longest", "40"] if args.tiny else ["--sizes", "1", "4"]
        return batch.measured(options(args, batch, [*size, *texts]))
    settings = options(args, step, size)
    return with_share(step.measured(settings), settings)


def options(args: argparse.Namespace, benchmark: Any, words: list[str]) -> argparse.Namespace:
    """The command line of a benchmark, with this one's device, repeats and dtype."""
    dtype = "bfloat16" if args.device.startswith("cuda") else "float32"
    common = ["--device", args.device, "--dtype", dtype, "--repeats", str(args.repeats)]
    return benchmark.arguments().parse_args([*common, *words])


def attention_size(shape: str) -> list[str]:
    """The size of a decoder, as attention.py has it."""
    from synthetic import PHRASES, ROWS, SHAPES

    size = SHAPES[shape]
    numbers = {
        "layers": size.layers,
        "heads": size.heads,
        "kv-heads": size.kv_heads or size.heads,
        "width": size.width,
        "inner": size.inner,
        "lengths": size.length,
        "rows": ROWS,
        "phrases": PHRASES,
        "eager-limit": 40,
    }
    return [word for key, number in numbers.items() for word in (f"--{key}", str(number))]


def with_share(report: Report, settings: argparse.Namespace) -> Report:
    """A report of step.py with the share of the card's peak that the floor reaches."""
    import cost
    from card import fastest_product, peak
    from measure import Ratio, Sheet
    from synthetic import SHAPES

    length = SHAPES[settings.shape].length
    decoder, encoder = cost.floor(settings, length)
    seconds = float(report.rows[0][1])
    reached = (decoder + encoder) / seconds / 1e12
    published, product = peak(settings.device), fastest_product(settings.device, settings.dtype)
    sheet = Sheet(
        f"the floor of {settings.shape}, S={length:,}, and what the card can do",
        ("TFLOP of the decoder", "TFLOP of SAM's encoder", "TFLOP/s", "published peak", "a product of 8,192^2"),
        [(decoder / 1e12, encoder / 1e12, reached, published or "-", product)],
    )
    report.more.append(sheet)
    if published:
        name = f"floor / the card's bf16 peak, {settings.shape}, S={length:,}"
        report.ratios.append(Ratio(name, reached / published, 0.5 if settings.shape == LONG else 0.3, at_most=False))
    return report


def parity(args: argparse.Namespace) -> Report:
    """The recorded cases on this device; see tests/helpers/parity.py for what is compared."""
    import torch
    from measure import Ratio, Report
    from recorded import CASES, worst_errors

    torch.backends.cudnn.allow_tf32 = False
    report = Report(f"recorded cases, {args.device}", ("case", "dtype", "kind", "worst relative error", "of", "bound"))
    worst: dict[str, Ratio] = {}
    for name in CASES[:1] if args.tiny else CASES:
        for dtype in ("float32", "bfloat16"):
            for kind, what, error, bound in worst_errors(name, args.device, dtype):
                report.rows.append((name, dtype, kind, error, what, bound))
                ratio = Ratio(f"recorded cases, {dtype}: worst {kind}", error, bound)
                worst[ratio.name] = max(worst.get(ratio.name, ratio), ratio, key=lambda one: one.value)
    report.ratios.extend(worst.values())
    return report


def sam(args: argparse.Namespace) -> Report:
    """SAM beside the package 1.0."""
    import sam

    return sam.measured(options(args, sam, ["--model", "tiny" if args.tiny else "vit_l"]))


def release(device: str) -> None:
    """Gives the memory of a part back."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def write(
    args: argparse.Namespace, done: dict[str, tuple[Report, float]], failed: dict, skipped: list[str]
) -> list[dict[str, Any]]:
    """One file of all ratios so far; returns them."""
    import torch
    import transformers

    from flmm.checkpoint import part_name, publish

    ratios = [vars(ratio) | {"part": name} for name, (report, _) in done.items() for ratio in report.ratios]
    summary = {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "machine": platform.platform(),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "seconds": {name: round(seconds, 1) for name, (_, seconds) in done.items()},
        "failed": failed,
        "skipped": skipped,
        "ratios": ratios,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "summary.json"
    part_name(file).write_text(json.dumps(summary, indent=1) + "\n")
    publish(part_name(file), file)
    return ratios


if __name__ == "__main__":
    main()
