"""torchrun that ends on a signal with its status (130 for Ctrl-C) and without a traceback."""

from __future__ import annotations

import signal
import sys
from types import FrameType

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.run import main

HANDLED = (signal.SIGINT, signal.SIGTERM)
LEFT_TO_TORCH = "SIGHUP,SIGQUIT"


def stop(number: int, frame: FrameType | None) -> None:
    """End the run on the first signal, and ignore further ones.

    People press Ctrl-C twice. A second exception would end torchrun while it waits for its processes, before they
    have said where they stopped.
    """
    for other in HANDLED:
        signal.signal(other, signal.SIG_IGN)
    raise SignalException(f"got signal {number}", signal.Signals(number))


if __name__ == "__main__":
    for handled in HANDLED:
        if signal.getsignal(handled) is not signal.SIG_IGN:  # a background job's Ctrl-C stays ignored
            signal.signal(handled, stop)
    try:
        main([f"--signals-to-handle={LEFT_TO_TORCH}", *sys.argv[1:]])
    except SignalException as stopped:  # it has passed the signal on to its processes
        sys.exit(128 + int(stopped.sigval))
