"""Heads are written atomically, read from every kind of file, and refused with a reason."""

import os
import pickle
import resource
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from training.toy import ToyModel

from flmm.checkpoint import latest_checkpoint, load_head, read_checkpoint, save_atomically, trainable


@pytest.fixture
def head():
    """A head that differs from a fresh ToyModel's."""
    return {name: torch.full_like(value, 0.5) for name, value in trainable(ToyModel()).items()}


@pytest.mark.parametrize("kind", ["runner", "plain", "module.", "safetensors"])
def test_every_kind_of_file_gives_the_same_head(kind, head, tmp_path):
    path = tmp_path / ("head.safetensors" if kind == "safetensors" else "head.pth")
    if kind == "safetensors":
        save_file(head, path)
    else:
        head = {("module." if kind == "module." else "") + name: value for name, value in head.items()}
        torch.save({"state_dict": head, "meta": {}} if kind == "runner" else head, path)
    model = ToyModel()
    frozen = model.frozen.weight.clone()
    report = load_head(model, path)
    assert report.matched == ["head.bias", "head.weight", "unused"]
    assert all((value == 0.5).all() for value in trainable(model).values())
    assert torch.equal(model.frozen.weight, frozen)


def test_frozen_weights_in_a_file_are_reported_and_not_loaded(head, tmp_path):
    torch.save({**head, "frozen.weight": torch.zeros(8, 4)}, tmp_path / "full.pth")
    model = ToyModel()
    report = load_head(model, tmp_path / "full.pth")
    assert report.unexpected == ["frozen.weight"]
    assert "1 in the file not used (frozen.weight)" in str(report)
    assert model.frozen.weight.any()


def test_another_backbones_head_is_refused_with_both_shapes(head, tmp_path):
    head["head.weight"] = torch.zeros(1, 9)
    torch.save(head, tmp_path / "other.pth")
    model = ToyModel()
    before = model.head.bias.clone()
    with pytest.raises(ValueError, match=r"another backbone.*1 of 3.*head\.weight: file \(1, 9\), model \(1, 8\)"):
        load_head(model, tmp_path / "other.pth")
    assert torch.equal(model.head.bias, before)  # complete or not at all


def test_a_missing_parameter_is_named(head, tmp_path):
    del head["head.bias"]
    torch.save(head, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"part\.pth lacks 1 of the 3 parameters of the head: head\.bias"):
        load_head(ToyModel(), tmp_path / "part.pth")


@pytest.mark.parametrize("content", [b"", b"no torch file", "truncated"])
def test_a_corrupt_file_is_named_with_its_size(content, head, tmp_path):
    path = tmp_path / "bad.pth"
    if content == "truncated":
        torch.save(head, path)
        content = path.read_bytes()[:-200]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.pth \({len(content):,} bytes\)"):
        load_head(ToyModel(), path)


def test_a_corrupt_safetensors_file_is_named(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"x" * 30)
    with pytest.raises(ValueError, match=r"bad\.safetensors \(30 bytes\)"):
        load_head(ToyModel(), tmp_path / "bad.safetensors")


def test_no_code_of_a_checkpoint_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "was_here"),)

    with open(tmp_path / "evil.pth", "wb") as file:
        pickle.dump({"state_dict": Evil()}, file)
    with pytest.raises(ValueError, match=r"evil\.pth"):
        load_head(ToyModel(), tmp_path / "evil.pth")
    assert not (tmp_path / "was_here").exists()


def test_missing_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth does not exist"):
        load_head(ToyModel(), tmp_path / "nothing.pth")
    with pytest.raises(ValueError, match="no DeepSpeed checkpoint"):
        load_head(ToyModel(), tmp_path)


def test_a_frozen_model_is_not_taken_for_loaded(head, tmp_path):
    torch.save(head, tmp_path / "head.pth")
    with pytest.raises(ValueError, match="no trainable parameter"):
        load_head(ToyModel().requires_grad_(False), tmp_path / "head.pth")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """The kernel refuses to write beyond RLIMIT_FSIZE, in the middle of the file; a full disk looks the same."""
    path = tmp_path / "iter_1.pth"
    save_atomically({"x": torch.ones(3)}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(OSError, match=r"could not save .*iter_1\.pth.*Earlier checkpoints are untouched"):
            save_atomically({"x": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.equal(read_checkpoint(path)["x"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["iter_1.pth"]


def test_the_latest_checkpoint_is_complete(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    (tmp_path / ".iter_30.pth.part").write_bytes(b"killed while writing")
    assert latest_checkpoint(tmp_path) is None
    for number, age in ((10, 200), (20, 100)):
        path = tmp_path / f"iter_{number}.pth"
        path.touch()
        os.utime(path, (age, age))
    assert latest_checkpoint(tmp_path) == str(tmp_path / "iter_10.pth")  # the youngest, whatever its number
    (tmp_path / "last_checkpoint").write_text("")  # killed between opening and writing
    assert latest_checkpoint(tmp_path) == str(tmp_path / "iter_10.pth")
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "iter_20.pth"))
    assert latest_checkpoint(tmp_path) == str(tmp_path / "iter_20.pth")


def test_the_converter_writes_a_loadable_file(head, tmp_path):
    torch.save(head, tmp_path / "head.pth")
    command = [
        sys.executable,
        "scripts/deepspeed2torch_state_dict.py",
        tmp_path / "head.pth",
        tmp_path / "out.safetensors",
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert load_head(ToyModel(), tmp_path / "out.safetensors").unexpected == []
