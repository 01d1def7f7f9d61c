"""What observing a decoder costs: the reference's way, ours, and no observation at all.

    python scripts/benchmark/attention.py --layers 8 --heads 16 --width 1024 --length 2900 --rows 60

One process, same weights and inputs. Each way runs in turn, `--repeats` times; time is the median, memory
the peak above what was there before the pass (tensors that the way returns included).
"""

import argparse
import ctypes
import gc
import json
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from flmm.models.attention_maps import fold_rows, merge_rows
from flmm.models.capture import capture


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--kv-heads", type=int, default=None, help="default: as many as heads")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--length", type=int, default=2900, help="tokens of the sequence, image included")
    parser.add_argument("--rows", type=int, default=60, help="phrase tokens, at the end of the sequence")
    parser.add_argument("--phrases", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser.parse_args()


def make_decoder(args: argparse.Namespace) -> LlamaModel:
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=args.width,
        intermediate_size=int(args.width * 2.6875),  # LLaMA-7B's ratio
        num_hidden_layers=args.layers,
        num_attention_heads=args.heads,
        num_key_value_heads=args.kv_heads or args.heads,
        max_position_embeddings=args.length,
    )
    torch.manual_seed(0)
    return LlamaModel(config).to(args.device, getattr(torch, args.dtype)).eval()


class PeakMemory:
    """Peak memory in MB above the level at entry: CUDA's own count, or this process's resident set."""

    def __init__(self, device: str):
        self.cuda = device.startswith("cuda")
        self.megabytes = 0.0

    def __enter__(self) -> "PeakMemory":
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
            return self
        # give freed pages back first, else memory that an earlier way left behind hides what this one takes
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        self.process = psutil.Process()
        self.start = self.peak = self.process.memory_info().rss
        self.running = True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, self.process.memory_info().rss)
            time.sleep(0.002)

    def __exit__(self, *_: object) -> None:
        if self.cuda:
            peak = torch.cuda.max_memory_allocated()
        else:
            self.running = False
            self.thread.join()
            peak = max(self.peak, self.process.memory_info().rss)
        self.megabytes = (peak - self.start) / 2**20


def ways(decoder: LlamaModel, embeds: Tensor, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """The three ways to run the decoder, by name."""
    rows = torch.arange(args.length - args.rows, args.length, device=args.device)
    phrase_ids = torch.arange(args.rows, device=args.device) * args.phrases // args.rows
    side = int((args.length - args.rows) ** 0.5)
    view = torch.arange(side * side, device=args.device).view(side, side)

    def eager() -> object:
        decoder.config._attn_implementation = "eager"
        output = decoder(inputs_embeds=embeds, use_cache=False, output_attentions=True, output_hidden_states=True)
        attention = [a[0, :, rows][..., view] for a in output.attentions]
        maps = [merge_rows(m, phrase_ids, args.phrases, "mean") for m in attention]
        return output, maps

    def captured() -> object:
        decoder.config._attn_implementation = "sdpa"

        def keep(weights: Tensor, _: int) -> Tensor:
            return merge_rows(fold_rows(weights, [view])[0], phrase_ids, args.phrases, "mean")

        with capture(decoder, [rows], keep) as result:
            decoder(inputs_embeds=embeds, use_cache=False)
        return result

    def plain() -> object:
        decoder.config._attn_implementation = "sdpa"
        return decoder(inputs_embeds=embeds, use_cache=False)

    return {"eager, output_attentions": eager, "capture": captured, "plain sdpa": plain}


@torch.no_grad()
def measure(args: argparse.Namespace) -> dict[str, dict[str, float]]:
    decoder = make_decoder(args)
    embeds = torch.randn(1, args.length, args.width, device=args.device, dtype=decoder.dtype)
    runs = ways(decoder, embeds, args)
    times: dict[str, list[float]] = {name: [] for name in runs}
    memory: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(args.repeats + 1):  # the first round warms up
        for name, run in runs.items():
            with PeakMemory(args.device) as peak:
                start = time.perf_counter()
                result = run()
                if args.device.startswith("cuda"):
                    torch.cuda.synchronize()
                times[name].append(time.perf_counter() - start)
            memory[name].append(peak.megabytes)
            del result
            gc.collect()
    return {
        name: {"seconds": statistics.median(times[name][1:]), "extra_mb": statistics.median(memory[name][1:])}
        for name in runs
    }


def main() -> None:
    args = parse_args()
    figures = measure(args)
    plain, eager = figures["plain sdpa"], figures["eager, output_attentions"]
    table = Table(
        title=f"L={args.layers} A={args.heads} D={args.width} S={args.length} rows={args.rows} "
        f"{args.dtype} on {args.device}"
    )
    for column in (
        "",
        "seconds",
        "x plain",
        "peak MB above start",
        "x eager's",
        "above plain MB",
        "x eager's ",
    ):
        table.add_column(column, justify="right")
    for name, figure in figures.items():
        above, eager_above = figure["extra_mb"] - plain["extra_mb"], eager["extra_mb"] - plain["extra_mb"]
        figure |= {"time_ratio": figure["seconds"] / plain["seconds"], "memory_ratio": above / eager_above}
        table.add_row(
            name,
            f"{figure['seconds']:.3f}",
            f"{figure['time_ratio']:.2f}",
            f"{figure['extra_mb']:.0f}",
            f"{figure['extra_mb'] / eager['extra_mb']:.3f}",
            f"{above:.0f}",
            f"{figure['memory_ratio']:.3f}",
        )
    Console(width=120).print(table)
    if args.json:
        args.json.write_text(
            json.dumps({"arguments": vars(args) | {"json": str(args.json)}, "figures": figures}, indent=2)
        )


if __name__ == "__main__":
    main()
