"""Peak memory of a training step and of a prediction at the real size, computed: it takes no GPU, and little memory.

    python scripts/benchmark/memory.py
    python scripts/benchmark/memory.py --check --layers 4 --sam vit_b     # beside what is measured here
    python scripts/benchmark/memory.py --check --shape llava_next_7b      # on a GPU

Runs the real modules on tensors without data (FakeTensorMode) and adds up the storages that are alive. One picture,
5 phrases of 4 tokens; `FrozenLMM.loss`, backward and AdamW, autocast to bfloat16. The LMM is in bfloat16, or its linear
layers are in 4 bits as in the README's table, and each is bfloat16 while it is used. SAM and the head are in float32,
as the configs have them (the README's table has SAM in bfloat16). GB are 1e9 bytes.

Counted is what torch allocates, and the weights of the LMM's vision tower. Not counted are that tower's own pass, the
context of CUDA, fragments, and what kernels take for themselves. What the reference keeps of the LMM's pass is
arithmetic: maps and hidden states of all layers in bfloat16, logits in float32.
"""

from __future__ import annotations

import argparse
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from cost import weights
from measure import Ratio, Report, megabytes, options
from synthetic import SHAPES, add_options, make_model, make_sample
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from flmm.models.frozen_lmm import FrozenLMM, Sample

STEP, PREDICTION = "training step", "prediction"
COLUMNS = (STEP, "LMM", "SAM, head", "gradients, AdamW", "activations", PREDICTION, "kept by the reference")
FOUR_BITS = 0.5 + 4 / 64  # bytes of a weight in nf4, with a float32 for each 64 of them
LIMITS = {"llava_next_7b": 24, "deepseek_1_3b": 12}  # GB of the GPUs that are to do
# vision tower and projector, which the synthetic LMM lacks: weights of linear layers, and others
TOWERS = {
    "llava_next_7b": (322_961_408, 1_529_856),
    "deepseek_1_3b": (308_281_344, 1_702_912),
    "llava_1_5_7b": (322_961_408, 1_525_760),
}
aten = torch.ops.aten


class Peak(NamedTuple):
    """Bytes before a run, at its peak, and those of gradients among the latter."""

    before: int
    most: int
    gradients: int


def main() -> None:
    args = arguments().parse_args()
    torch.set_num_threads(args.threads)
    (check(args) if args.check else table(args)).show(args.json)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = options(__doc__)
    add_options(parser, sam="vit_l")
    parser.add_argument("--shapes", nargs="+", default=list(TOWERS), choices=TOWERS, help="LMMs of the table")
    parser.add_argument("--check", action="store_true", help="compute and measure one --shape instead")
    return parser


def table(args: argparse.Namespace) -> Report:
    """Each LMM in bfloat16 and in 4 bits."""
    report = Report(f"peak GB, computed, SAM {args.sam}", ("", *COLUMNS))
    for shape in args.shapes:
        for bits in ("bf16", "4 bit"):
            own = changed(args, shape=shape, device="cuda", dtype="bfloat16")
            row = [size / 1e9 for size in sizes(own, bits == "4 bit")]
            report.rows.append((f"{shape}, {bits}", *row))
            if bits == "4 bit" and shape in LIMITS:
                report.ratios.append(Ratio(f"GB of a {STEP}, {shape}, {bits}", row[0], LIMITS[shape]))
    return report


def sizes(args: argparse.Namespace, quantised: bool) -> list[float]:
    """Bytes, in the order of the columns."""
    model, peaks = compute(args, quantised)
    step, prediction = peaks[STEP], peaks[PREDICTION]
    linear, others = TOWERS[args.shape]
    tower = linear * (FOUR_BITS if quantised else 2) + others * 2
    lmm, head = weights(model.backbone), weights(model) - weights(model.backbone)
    learning = step.before - prediction.before + step.gradients
    parts = [lmm + tower, head, learning, step.most - lmm - head - learning]
    return [step.most + tower, *parts, prediction.most + tower, reference(args)]


def reference(args: argparse.Namespace) -> int:
    """Bytes of all maps, hidden states and logits."""
    shape = SHAPES[args.shape]
    layers = args.layers or shape.layers
    length = args.length or shape.length
    maps, hidden = layers * shape.heads * length**2, (layers + 1) * length * shape.width
    return 2 * (maps + hidden) + 4 * length * shape.vocabulary


def check(args: argparse.Namespace) -> Report:
    """Computed beside measured."""
    _, peaks = compute(args)
    model = make_model(args)
    title = f"peak MB above what is there before, {args.shape}, {model.backbone.num_layers} layers, {args.dtype}"
    report = Report(title, ("", "computed", "measured"))
    for name, run in ways(model, make_sample(args), args):
        computed, measured = (peaks[name].most - peaks[name].before) / 2**20, megabytes(run, args.device)
        report.rows.append((name, computed, measured))
        for limit, at_most in ((0.75, False), (1.25, True)):
            report.ratios.append(Ratio(f"computed / measured, {name}", computed / measured, limit, at_most))
    return report


def compute(args: argparse.Namespace, quantised: bool = False) -> tuple[FrozenLMM, dict[str, Peak]]:
    """The model, which has no data, and the memory of each way to run it."""
    norms = Float32Norms() if args.device.startswith("cuda") else nullcontext()
    args = changed(args, device="cpu")  # without a GPU, autograd refuses tensors on one
    sample = make_sample(args)
    with FakeTensorMode(allow_non_fake_inputs=True), norms, Memory() as memory:
        model = make_model(args)
        if quantised:
            quantise(model.backbone.decoder)
        sample |= {key: torch.empty(sample[key].shape, dtype=sample[key].dtype) for key in ("pixel_values", "masks")}
        return model, {name: memory.follow(run, model) for name, run in ways(model, sample, args)}


def ways(model: FrozenLMM, sample: Sample, args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is computed or measured; the step finds the optimizer's states of an earlier one."""
    autocast = torch.autocast(args.device.split(":")[0], torch.bfloat16, enabled=args.dtype == "bfloat16")

    def prediction() -> Tensor:
        with autocast:
            return model(sample, mode="predict")

    def step() -> None:
        with autocast:
            terms = model([sample], mode="loss")
            total = sum(value for name, value in terms.items() if "loss" in name)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    yield PREDICTION, prediction
    optimizer = torch.optim.AdamW([value for value in model.parameters() if value.requires_grad], foreach=True)
    for value in optimizer.param_groups[0]["params"]:
        value.grad = torch.zeros_like(value)
    optimizer.step()
    optimizer.zero_grad()
    yield STEP, step


def quantise(decoder: nn.Module) -> None:
    """Keeps the weights of linear layers in the bytes of 4 bits; they become bfloat16 when they are used."""
    for module in decoder.modules():
        if isinstance(module, nn.Linear):
            shape = module.weight.shape
            module.weight = nn.Parameter(torch.empty(int(shape.numel() * FOUR_BITS), dtype=torch.uint8), False)
            module.forward = lambda x, shape=shape: F.linear(x, torch.empty(shape, dtype=torch.bfloat16))


class Float32Norms(TorchFunctionMode):
    """What autocast does to norms on a GPU: tensors without data are on the CPU here, where it does not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (F.layer_norm, F.group_norm):
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))


class Memory(TorchDispatchMode):
    """Adds up the storages that are alive.

    Tokens, positions and phrases keep their data. All else has none: a number that is asked for is a half.
    """

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.bytes, self.peak = WeakIdKeyDictionary(), 0, Peak(0, 0, 0)
        self.parameters: list[Tensor] = []

    def follow(self, run: Callable[[], object], model: FrozenLMM) -> Peak:
        """The memory of a run."""
        gc.collect()
        self.peak, self.parameters = Peak(self.bytes, self.bytes, 0), list(model.parameters())
        run()
        return self.peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = self.call(func, args, kwargs or {})
        for storage in (leaf.untyped_storage() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)):
            if storage not in self.alive:
                self.alive[storage] = None
                self.add(storage.nbytes())
                weakref.finalize(storage, self.add, -storage.nbytes())
        if self.bytes > self.peak.most:
            gradients = sum(value.grad.nbytes for value in self.parameters if value.grad is not None)
            self.peak = Peak(self.peak.before, self.bytes, gradients)
        return result

    def add(self, size: int) -> None:
        """Of a new storage, or less when it is freed."""
        self.bytes += size

    def call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs an operator, with data if there are any."""
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if tensors and not any(isinstance(tensor, FakeTensor) for tensor in tensors):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        if func is aten._safe_softmax.default:
            raise RuntimeError("attention is not the fused one, and makes a map of S x S")
        if func is aten._local_scalar_dense.default:
            return 0.5
        return func(*args, **kwargs)


def changed(args: argparse.Namespace, **others: str) -> argparse.Namespace:
    """The same options but some."""
    return argparse.Namespace(**{**vars(args), **others})


if __name__ == "__main__":
    main()
