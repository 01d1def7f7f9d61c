"""What of MMEngine's log a user sees in the terminal; the log file has all of it."""

from __future__ import annotations

import logging

# Said by MMEngine 0.10.7 of itself in every run; there is nothing that a user could do about them. The last is not even
# true: what a window had gathered is in the checkpoint (flmm.training.gradients).
MEANINGLESS = (
    "Failed to search registry with scope",
    "has no metainfo. ``dataset_meta`` in visualizer",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "which means the gradient of some iterations is lost",
)


class Terminal:
    """The handlers of a logger that print.

    Args:
        logger: Logger of a runner.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._levels = {handler: handler.level for handler in logger.handlers if type(handler) is logging.StreamHandler}
        for handler in self._levels:
            handler.addFilter(_has_meaning)

    def only_warnings(self) -> None:
        """Leave out everything below a warning: environment, config and hooks take hundreds of lines."""
        for handler in self._levels:
            handler.setLevel(logging.WARNING)

    def as_before(self) -> None:
        """Print again what the logger was made to print."""
        for handler, level in self._levels.items():
            handler.setLevel(level)


def _has_meaning(record: logging.LogRecord) -> bool:
    return not any(text in record.getMessage() for text in MEANINGLESS)
