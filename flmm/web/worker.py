"""The model does one thing at a time, each within its time, and outlives whatever fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from queue import Empty, SimpleQueue
from threading import Event
from time import monotonic
from typing import Any, TypeVar

import torch

from flmm.web.limits import RefusedError

T = TypeVar("T")
log = logging.getLogger(__name__)
GRACE = 5.0  # seconds in which a reply that was stopped ends


def nothing() -> None:
    """Stop nothing: a single pass of the model cannot be stopped, its result is dropped."""


class Worker:
    """Run work on one thread, in the order in which it comes.

    Args:
        seconds: Longest time of a piece of work.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="flmm-web")

    def run(self, work: Callable[[], T], stop: Callable[[], None] = nothing) -> T:
        """Run work and waits for it.

        Args:
            work: What is to be done.
            stop: Ends it from outside.

        Raises:
            RefusedError: When it takes too long, runs out of memory, or fails in a way that only the log may hold.
            ValueError: As the work raises it: the user can do something about it.
        """
        started = Event()

        def begun() -> T:
            started.set()
            return work()

        future = self.pool.submit(begun)
        self._wait(started, future)
        try:
            return future.result(self.seconds)
        except Late as error:
            if future.done():  # the work itself raised it
                raise explained(error) from error
            stop()
            raise RefusedError("late", seconds=f"{self.seconds:g}") from error
        except Exception as error:
            raise explained(error) from error

    def stream(self, pieces: Callable[[], Iterator[str]], stop: Callable[[], None]) -> Iterator[str]:
        """Run a generator of text, and gives its pieces as they come. Errors as of `run`.

        When its time is over it is stopped, and all that was said is given before the error. Whoever stops iterating
        stops it too.
        """
        queue: SimpleQueue[str | None] = SimpleQueue()
        started, left = Event(), Event()

        def work() -> None:
            started.set()
            try:
                for piece in pieces():
                    queue.put(piece)
                    if left.is_set():
                        stop()
            finally:
                queue.put(None)

        future = self.pool.submit(work)
        try:
            self._wait(started, future)
            yield from self._until_late(queue, stop)
            future.result()
        except Empty as error:
            raise RefusedError("late", seconds=f"{self.seconds:g}") from error
        except Exception as error:
            raise explained(error) from error
        finally:
            if not future.done():
                left.set()
                stop()

    def _wait(self, started: Event, future: Future[Any]) -> None:
        """Wait for earlier work that runs beyond its time."""
        if not started.wait(self.seconds) and future.cancel():
            raise RefusedError("busy", seconds=f"{self.seconds:g}")

    def _until_late(self, queue: SimpleQueue[str | None], stop: Callable[[], None]) -> Iterator[str]:
        end = monotonic() + self.seconds
        while True:
            try:
                piece = queue.get(timeout=max(0.0, end - monotonic()))
            except Empty:
                stop()
                yield from iter(lambda: queue.get(timeout=GRACE), None)
                raise RefusedError("late", seconds=f"{self.seconds:g}") from None
            if piece is None:
                return
            yield piece

    def close(self) -> None:
        """End the thread once its work is done."""
        self.pool.shutdown(wait=False, cancel_futures=True)


def explained(error: Exception) -> Exception:
    """What the user reads of a failure: refusals and ValueErrors as they are, the rest without what it says."""
    if isinstance(error, ValueError):
        return error
    words = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "out of memory" in words or "allocate" in words:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return RefusedError("memory")
    log.error("a request failed", exc_info=error)
    return RefusedError("failed", kind=type(error).__name__)
