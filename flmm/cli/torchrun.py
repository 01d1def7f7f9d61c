"""torchrun that ends on a signal with its status (130 for Ctrl-C) and without a traceback."""

from __future__ import annotations

import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.run import main

if __name__ == "__main__":
    try:
        main()
    except SignalException as stopped:  # it has passed the signal on to its processes
        sys.exit(128 + int(stopped.sigval))
