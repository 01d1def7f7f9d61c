"""One thing at a time, within its time, whatever fails."""

import threading
import time

import pytest
import torch

from flmm.web.limits import RefusedError
from flmm.web.worker import Worker


@pytest.fixture
def worker():
    worker = Worker(1.0)
    yield worker
    worker.close()


def name_of(call):
    with pytest.raises(RefusedError) as refusal:
        call()
    return refusal.value.name


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (MemoryError(), "memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "memory"),
        (RuntimeError("/secret/path of the server"), "failed"),
        (KeyError("x"), "failed"),
    ],
)
def test_a_failure_is_said_without_its_secrets_and_work_goes_on(worker, error, name, caplog):
    with pytest.raises(RefusedError) as refusal:
        worker.run(raising(error))
    assert refusal.value.name == name
    assert "secret" not in str(refusal.value)
    assert worker.run(lambda: 1) == 1


def test_what_the_user_can_mend_is_said_as_it_is(worker):
    with pytest.raises(ValueError, match="the box is empty"):
        worker.run(raising(ValueError("the box is empty")))


def test_work_that_takes_too_long_is_stopped_and_the_next_waits_for_it(worker):
    ended = threading.Event()
    assert name_of(lambda: worker.run(lambda: ended.wait(5), ended.set)) == "late"
    assert worker.run(lambda: 2) == 2
    endless = threading.Event()
    assert name_of(lambda: worker.run(lambda: endless.wait(5))) == "late"
    assert name_of(lambda: worker.run(lambda: 3)) == "busy"
    endless.set()
    assert worker.run(lambda: 4) == 4


def test_never_two_at_a_time(worker):
    running, most = [], []

    def work():
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()

    threads = [threading.Thread(target=worker.run, args=(work,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def speaking(stopped, pieces, closed):
    def said():
        try:
            for piece in pieces:
                if stopped.is_set():
                    return
                yield piece
                time.sleep(0.05)
        finally:
            closed.set()

    return said


def test_a_reply_is_given_piece_by_piece_and_ends_in_time(worker):
    stopped, closed = threading.Event(), threading.Event()
    assert list(worker.stream(speaking(stopped, "abc", closed), stopped.set)) == ["a", "b", "c"]
    given = []

    def listen():
        for piece in worker.stream(speaking(stopped, "x" * 200, closed), stopped.set):
            given.append(piece)

    assert name_of(listen) == "late"
    assert 2 <= len(given) < 40


def test_who_leaves_stops_the_reply(worker):
    stopped, closed = threading.Event(), threading.Event()
    pieces = worker.stream(speaking(stopped, "x" * 200, closed), stopped.set)
    assert next(pieces) == "x"
    pieces.close()
    assert stopped.wait(1)
    assert closed.wait(1)
    assert worker.run(lambda: 5) == 5


def test_a_reply_that_cannot_begin_is_said_at_once(worker):
    begun = time.monotonic()
    assert name_of(lambda: list(worker.stream(raising(RefusedError("no_text")), lambda: None))) == "no_text"
    assert time.monotonic() - begun < worker.seconds


def test_a_failing_reply_is_said(worker):
    def said():
        yield "a"
        raise MemoryError

    assert name_of(lambda: list(worker.stream(said, lambda: None))) == "memory"
