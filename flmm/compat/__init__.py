"""Every patch to an upstream package: which version, and why.

:func:`apply` runs when ``flmm`` is imported, and costs nothing then: it puts the repository first on
``sys.path``, offers a stand-in for ``mmcv._ext``, and hangs one function on each upstream module in
:data:`PATCHES`. Such a function runs right after its module is imported, or at once if that has happened
already (``xtuner train`` imports a lot before it reads a config).
"""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import importlib.util
import os
import socket
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache, partial, wraps
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from flmm.compat import late

ROOT = Path(__file__).resolve().parents[2]
Patch = Callable[[ModuleType], None]


class _MissingOps(ModuleType):
    """``mmcv._ext`` without its compiled functions: each can be imported, none can be called."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise NotImplementedError(
                f"mmcv.ops: the compiled function `{name}` was called, but mmcv-lite has none. "
                "F-LMM needs none of them; for your own code install `mmcv` 2.1.0 instead of `mmcv-lite`."
            )

        return missing


def repository_first() -> None:
    """Put the repository at ``sys.path[0]``.

    segment-anything 1.0 on PyPI installs a package of the same name as our ``segment_anything/``.
    """
    root = str(ROOT)
    if (ROOT / "segment_anything").is_dir() and sys.path[:1] != [root]:
        sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]


def offer_mmcv_ext() -> None:
    """Offer an ``mmcv._ext`` whose functions raise when called, unless the compiled one is installed.

    mmdet 3.3.0 and mmsegmentation 1.2.2 import ``mmcv.ops``, which wants the compiled ``mmcv._ext``; building
    mmcv 2.1.0 takes up to 20 minutes and often fails, mmcv-lite is a pure wheel, and nothing we use calls
    those functions.
    """
    spec = importlib.util.find_spec("mmcv")
    folders = list(spec.submodule_search_locations or []) if spec else []
    if "mmcv._ext" in sys.modules or any(list(Path(folder).glob("_ext.*")) for folder in folders):
        return
    module = _MissingOps("mmcv._ext")
    module.__spec__ = ModuleSpec("mmcv._ext", loader=None)
    sys.modules["mmcv._ext"] = module


def amp_on_cpu(module: ModuleType) -> None:
    """Let AmpOptimWrapper work without a GPU.

    mmengine 0.10.7 asserts CUDA although its autocast supports CPUs.
    The gradient scaler is switched off there: bfloat16 has the range of float32.
    """
    import torch

    if torch.cuda.is_available():
        return
    module.is_cuda_available = lambda: True  # type: ignore[attr-defined]
    module.GradScaler = partial(torch.amp.GradScaler, "cpu", enabled=False)  # type: ignore[attr-defined]


def torchrun_on_cpu(module: ModuleType) -> None:
    """Start torchrun's processes with gloo when there is no GPU.

    mmengine 0.10.7 calls ``torch.cuda.set_device`` first, and configs name the backend nccl.
    """
    import torch

    if torch.cuda.is_available():
        return

    def init(backend: str, init_backend: str = "torch", **kwargs: Any) -> None:
        if init_backend == "deepspeed":
            import deepspeed

            deepspeed.init_distributed(dist_backend="gloo", **kwargs)
        else:
            torch.distributed.init_process_group(backend="gloo", **kwargs)

    module._init_dist_pytorch = init  # type: ignore[attr-defined]


def ddp_on_cpu(module: ModuleType) -> None:
    """Let several processes train without DeepSpeed and without a GPU.

    mmengine 0.10.7 hands ``device_ids`` to DistributedDataParallel, which torch 2.11 refuses for models on the CPU.
    """
    import torch

    if torch.cuda.is_available():
        return
    wrapper = module.MMDistributedDataParallel
    start = wrapper.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **{**kwargs, "device_ids": None})

    wrapper.__init__ = init


def deepspeed_alone(module: ModuleType) -> None:
    """Let one DeepSpeed process run on its own.

    Without torchrun's variables deepspeed 0.18.9 asks MPI who it is, and fails where mpi4py is not installed
    (``xtuner train CONFIG --deepspeed ...`` starts exactly such a process).
    """
    ask_mpi = module.mpi_discovery

    def discover(*args: Any, **kwargs: Any) -> None:
        if "OMPI_COMM_WORLD_SIZE" in os.environ or "PMI_SIZE" in os.environ:
            ask_mpi(*args, **kwargs)
            return
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        alone = {
            "RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        for name, value in alone.items():
            os.environ.setdefault(name, value)

    module.mpi_discovery = discover  # type: ignore[attr-defined]


def bf16_on_cpu(module: ModuleType) -> None:
    """Answer xtuner 0.2.0, which asks ``torch.cpu.is_bf16_supported()``.

    torch 2.11 has no such function. Every CPU supports bfloat16, be it slowly.
    """
    import torch

    if not hasattr(torch.cpu, "is_bf16_supported"):
        torch.cpu.is_bf16_supported = lambda: True  # type: ignore[attr-defined]


def safetensors_are_there(module: ModuleType) -> None:
    """Answer xtuner 0.2.0, which imports ``is_safetensors_available``.

    transformers 5 has no such function: it always needs safetensors.
    """
    module.is_safetensors_available = lambda: True  # type: ignore[attr-defined]


def our_deepspeed_runner(module: ModuleType) -> None:
    """Register flmm.runner's DeepSpeedRunner under the name that ``xtuner train --deepspeed`` asks for.

    mmengine 0.10.7's own FlexibleRunner neither saves atomically nor resumes at the same sample (flmm/runner.py).
    """
    importlib.import_module("flmm.runner")


def readable_checkpoints(module: ModuleType) -> None:
    """Let ``torch.load`` read MMEngine's logs: from torch 2.6 on it refuses types it does not know.

    mmengine 0.10.7 reads checkpoints that way, and xtuner 0.2.0 the seed of the one it resumes.
    """
    import torch

    torch.serialization.add_safe_globals(importlib.import_module("flmm.checkpoint").SAFE_TYPES)


def no_compiler_for_deepspeed(module: ModuleType) -> None:
    """Leave out DeepSpeed's shared-memory all-reduce for CPUs.

    deepspeed 0.18.9 compiles it when a CPU run starts: two minutes on two cores, and a crash without a C++
    compiler. gloo's all-reduce is what it uses without.
    """
    module.build_shm_op = lambda: None  # type: ignore[attr-defined]


def gather_without_gradient(module: ModuleType) -> None:
    """Let ZeRO gather its updated parameters with gloo.

    deepspeed 0.18.9 calls the collective in grad mode on a tensor that requires grad; gloo (torch 2.11) fills it
    through views, and autograd refuses that ("Output 0 of SplitBackward0 is a view"). nccl does not mind.
    """
    import torch

    backend = module.TorchBackend
    backend.all_gather_into_tensor = torch.no_grad()(backend.all_gather_into_tensor)


def frozen_in_workers(module: ModuleType) -> None:
    """Leave what the parent process has made out of its loader workers' garbage collections.

    torch 2.11 forks workers as they are: their first full collection marks every object of the parent, and marking
    a page copies it.
    """
    loop = module._worker_loop

    @wraps(loop)
    def frozen(*args: Any, **kwargs: Any) -> None:
        gc.freeze()
        loop(*args, **kwargs)

    module._worker_loop = frozen  # type: ignore[attr-defined]


def config_laid_out_once(module: ModuleType) -> None:
    """Lay out the text of a config once.

    mmengine 0.10.7 has yapf do it anew for the log, the dump, each visualizer and each checkpoint: a second of CPU
    each.
    """
    lay_out = module.FormatCode

    @lru_cache(maxsize=4)
    def remembered(text: str, style: tuple[tuple[str, Any], ...]) -> Any:
        return lay_out(text, style_config=dict(style))

    def format_code(text: str, style_config: dict[str, Any]) -> Any:
        return remembered(text, tuple(style_config.items()))

    module.FormatCode = format_code  # type: ignore[attr-defined]


PATCHES: list[tuple[str, Patch]] = [
    ("mmengine.config.config", config_laid_out_once),
    ("torch.utils.data._utils.worker", frozen_in_workers),
    ("mmengine.optim.optimizer.amp_optimizer_wrapper", amp_on_cpu),
    ("mmengine.dist.utils", torchrun_on_cpu),
    ("mmengine.model.wrappers.distributed", ddp_on_cpu),
    ("mmengine.runner", our_deepspeed_runner),
    ("mmengine.runner.checkpoint", readable_checkpoints),
    ("mmengine.registry.registry", late.complete_registries),
    ("deepspeed.comm.comm", deepspeed_alone),
    ("deepspeed.comm.torch", no_compiler_for_deepspeed),
    ("deepspeed.comm.torch", gather_without_gradient),
    ("transformers.utils", safetensors_are_there),
    ("xtuner.tools.utils", bf16_on_cpu),
    ("xtuner.tools.utils", readable_checkpoints),
]


def patch(module: ModuleType) -> None:
    """Apply what :data:`PATCHES` has for a module that has just been imported."""
    for name, function in PATCHES:
        if name == module.__name__:
            function(module)


class _PatchLoader(importlib.abc.Loader):
    """Runs a module's own loader, then its patches."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:  # get_source, is_package, ... of the module's own loader
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        patch(module)


class _PatchFinder(importlib.abc.MetaPathFinder):
    """Finds the modules of :data:`PATCHES` and of flmm.compat.late as everyone else would, and wraps their loader."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        late.before_submodule(fullname)
        is_late = fullname in late.LATE
        if not is_late and all(fullname != name for name, _ in PATCHES):
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next(filter(None, (finder.find_spec(fullname, path, target) for finder in others)), None)
        if spec is not None and spec.loader is not None:
            spec.loader = late.LateLoader(spec.loader) if is_late else _PatchLoader(spec.loader)
        return spec


def apply() -> None:
    """Apply all patches, now or when their module is imported. Calling it again changes nothing."""
    repository_first()
    if any(isinstance(finder, _PatchFinder) for finder in sys.meta_path):
        return
    offer_mmcv_ext()
    # torch 2.11, of configs that ask for pinned memory, on machines without a GPU
    warnings.filterwarnings("ignore", "'pin_memory' argument is set as true but no accelerator")
    sys.meta_path.insert(0, _PatchFinder())
    for name in dict.fromkeys(name for name, _ in PATCHES):
        if name in sys.modules:
            patch(sys.modules[name])
