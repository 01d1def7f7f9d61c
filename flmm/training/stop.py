"""End a run that is asked to end after the iteration that it is in, with a checkpoint of it."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import torch
from mmengine.dataset import worker_init_fn
from mmengine.device import get_device
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import FUNCTIONS

if TYPE_CHECKING:
    from mmengine.runner import Runner

SIGNALS = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C; what slurm, containers and `kill` send
PASSED_ON = 2.0  # seconds in which a second signal is the first one, sent by a terminal and passed on by torchrun
SAID = b"\nstopping after this iteration, to save it; Ctrl-C once more stops at once\n"


class Stop:
    """A request to end a run. Inside of `with`, signals are noted; a second one ends the run at once.

    Attributes:
        number: The signal that came to this process, 0 without.
        agreed: The signal that came to any process of the run, 0 without.
    """

    def __init__(self) -> None:
        self.number = self.agreed = 0
        self._since, self._process = 0.0, os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        if threading.current_thread() is threading.main_thread():  # signals come to no other
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # a background job's Ctrl-C stays ignored
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        if os.getpid() != self._process:
            return  # a data worker, of which the last batch is still wanted
        if self.number and time.monotonic() - self._since > PASSED_ON:
            raise KeyboardInterrupt
        if not self.number:
            self.number, self._since = number, time.monotonic()
            if os.environ.get("RANK", "0") == "0":
                os.write(2, SAID)  # print may be what was interrupted

    def agree(self) -> None:
        """Ask all processes of the run; each must call it."""
        self.agreed = self.number
        if get_world_size() > 1:
            number = torch.tensor(self.number, device=get_device())
            all_reduce(number, "max")
            self.agreed = int(number)


@FUNCTIONS.register_module()
def start_worker(worker_id: int, **seeds: Any) -> None:
    """Seed a data worker as MMEngine does, and let it outlive a SIGTERM that comes to all processes of a run.

    Args:
        worker_id: Its number.
        **seeds: Of `mmengine.dataset.worker_init_fn`.
    """
    worker_init_fn(worker_id, **seeds)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that it serves says so; the iteration wants its samples until then."""
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)


class StopHook(Hook):
    """Ends a run that is asked to end, when nothing is left to save."""

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Ends the run.

        Raises:
            KeyboardInterrupt: In all processes, outside of DeepSpeed's accumulation windows.
        """
        if runner.stop.agreed and not inside_window(runner.model):  # type: ignore[attr-defined]
            raise KeyboardInterrupt


def inside_window(model: Any) -> bool:
    """Whether DeepSpeed gathers gradients that the next step has still to use; other runs save these."""
    steps = getattr(model, "gradient_accumulation_steps", None)
    return steps is not None and model.micro_steps % steps() != 0
