"""Tensors on disk: several processes, killed writers, limits, full disks, damage."""

import multiprocessing
import os
import resource
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from flmm.training import tensor_store
from flmm.training.fingerprint import digest
from flmm.training.tensor_store import TensorStore

fork = multiprocessing.get_context("fork")


@pytest.fixture
def told(monkeypatch):
    """What the store warns of."""
    messages = []
    monkeypatch.setattr(tensor_store, "_warn", messages.append)
    return messages


SIZE = 1000  # floats of an entry below


def content(key):
    return {"x": torch.full((SIZE,), float(int(key[:8], 16) % 1000))}


def keys_of(*names):
    return [digest(name) for name in names]


def fill(folder, names, max_gb=1.0):
    """What a process does: looks entries up, writes those that are missing."""
    store = TensorStore(folder, max_gb)
    for key in keys_of(*names):
        (entry,) = store.through([key], lambda _, key=key: [content(key)])
        assert torch.equal(entry["x"], content(key)["x"])
    return store


def entry_bytes(folder):
    return [file.stat().st_size for file in Path(folder).glob("*/*.safetensors")]


def parts(folder):
    return list(Path(folder).glob("*/.*.part"))


def in_processes(targets):
    processes = [fork.Process(target=target, args=args) for target, *args in targets]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_an_entry_comes_back_as_it_was(tmp_path):
    entry = {
        "channels_last": torch.randn(1, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "transposed": torch.randn(4, 6).T.bfloat16(),
        "slice": torch.arange(20).view(4, 5)[1:3],
        "scalar": torch.tensor(3.0),
        "nothing": torch.empty(2, 0),
        "flags": torch.tensor([True, False]),
    }
    TensorStore(tmp_path, 1).write(keys_of("a")[0], entry)
    found = TensorStore(tmp_path, 1).read(keys_of("a")[0])
    assert set(found) == set(entry)
    for name, value in entry.items():
        assert torch.equal(found[name], value)
        assert (found[name].dtype, found[name].stride()) == (value.dtype, value.stride()), name
        assert found[name].data_ptr() % 64 == 0  # as torch allocates: MKL rounds by alignment


def test_several_processes_write_at_once(tmp_path):
    in_processes([(fill, tmp_path, [f"{number}-{i}" for i in range(30)]) for number in range(3)])
    assert len(entry_bytes(tmp_path)) == 90
    in_processes([(fill, tmp_path, [f"shared-{i}" for i in range(30)]) for _ in range(3)])
    assert len(entry_bytes(tmp_path)) == 120
    assert not parts(tmp_path)


def endless(folder):
    number = 0
    while True:
        fill(folder, [f"{number}"])
        number += 1


def test_kill_9_leaves_a_usable_store(tmp_path):
    process = fork.Process(target=endless, args=(tmp_path,))
    process.start()
    while len(entry_bytes(tmp_path)) < 4:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    store = TensorStore(tmp_path, 1)
    for key in keys_of(*map(str, range(len(entry_bytes(tmp_path))))):
        assert torch.equal(store.read(key)["x"], content(key)["x"])


def killed_while_writing(folder):
    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    os.replace = die
    fill(folder, ["a"])


def test_killed_in_the_middle_of_writing(tmp_path):
    process = fork.Process(target=killed_while_writing, args=(tmp_path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (part,) = parts(tmp_path)
    fill(tmp_path, ["a"])
    assert part.exists()  # it might still be being written
    assert sum(entry_bytes(tmp_path)) == part.stat().st_size
    os.utime(part, (0, 0))
    fill(tmp_path, ["b"])
    assert not part.exists()


def test_the_limit_holds(tmp_path, told):
    fill(tmp_path, ["a"])
    (size,) = entry_bytes(tmp_path)
    store = fill(tmp_path, [*"abcdefa"], 3.5 * size / 1e9)
    assert len(entry_bytes(tmp_path)) == 3
    assert sum("takes no more entries, those there are still read: it has reached max_gb" in m for m in told) == 1
    assert (store.found, store.computed) == (2, 5)


def test_the_processes_of_a_run_share_out_what_is_left(tmp_path, monkeypatch):
    fill(tmp_path, ["a"])
    (size,) = entry_bytes(tmp_path)
    monkeypatch.setattr(tensor_store, "get_world_size", lambda: 3)
    fill(tmp_path, [f"{i}" for i in range(15)], 13 * size / 1e9)
    assert len(entry_bytes(tmp_path)) == 1 + 12 // 3


@pytest.mark.parametrize("damage", ["truncated", "empty", "noise", "foreign", "another entry"])
def test_a_damaged_entry_is_computed_again(tmp_path, damage, told):
    store = fill(tmp_path, ["a", "b"])
    path, other = (store.path(key) for key in keys_of("a", "b"))
    if damage == "foreign":
        save_file({"x": torch.zeros(SIZE)}, path)
    else:
        good = path.read_bytes()
        bad = {"truncated": good[:-9], "empty": b"", "noise": bytes(300), "another entry": other.read_bytes()}
        path.write_bytes(bad[damage])
    fill(tmp_path, ["a"])
    assert any(str(path) in message and "computed again" in message for message in told)
    told.clear()
    fill(tmp_path, ["a", "b"])
    assert told == []


@contextmanager
def room_for(size):
    """No file can be written beyond `size` bytes, as if the disk had no more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("room", [0, 1000])  # for nothing, for a part of an entry
@pytest.mark.parametrize("names", [[], ["a"]])
def test_a_full_disk_ends_writing_and_nothing_else(tmp_path, told, names, room):
    fill(tmp_path, names)
    with room_for(room):
        fill(tmp_path, ["a", "b", "c"])
    assert len(entry_bytes(tmp_path)) == len(names)
    assert sum("takes no more entries" in m and "File too large" in m for m in told) == 1
    assert not parts(tmp_path)
