"""Heads are written atomically, read from every kind of file, and refused with a reason."""

import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import zipfile

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmseg.models.backbones.unet import InterpConv
from safetensors.torch import save_file
from torch import nn
from toy import ToyModel

from flmm.checkpoint import (
    latest_checkpoint,
    load_head,
    part_name,
    read_checkpoint,
    read_head,
    save_atomically,
    trainable,
)
from flmm.models.mask_head.mask_decoder import UNetHead


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


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"iteration, loss\n", "it begins with b'iteration, loss\\\\n', as no file of torch does"),
        (b"not a thing", "it begins with b'not a thing'"),
        (b"", "it is empty"),
    ],
)
def test_what_is_no_checkpoint_at_all_is_said_to_be_none(content, fault, tmp_path):
    (tmp_path / "log.pth").write_bytes(content)
    with pytest.raises(ValueError, match=rf"log\.pth \({len(content)} bytes\) is no checkpoint: {fault}"):
        read_checkpoint(tmp_path / "log.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_anywhere_is_refused(zipped, head, tmp_path):
    """Torch meets the end of its two formats with many kinds of errors."""
    path = tmp_path / "cut.pth"
    torch.save(head, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.pth"):
            read_head(path)


@pytest.mark.parametrize("content", [[1], torch.zeros(2), None, {1: torch.zeros(2)}, {"state_dict": {"a": 1}}, {}])
def test_a_file_without_named_parameters_says_so(content, tmp_path):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth holds (no parameters|a \w+, not named parameters)"):
        read_head(tmp_path / "other.pth")


WRAPPED = {
    "state_dict": lambda head: {"state_dict": head},
    "DeepSpeed's module": lambda head: {"module": head},
    "model": lambda head: {"model": {f"module.{name}": value for name, value in head.items()}},
    "compiled": lambda head: {f"_orig_mod.{name}": value for name, value in head.items()},
    "bfloat16": lambda head: {name: value.bfloat16() for name, value in head.items()},
}


@pytest.mark.parametrize("way", WRAPPED)
def test_a_head_is_found_where_training_programs_put_it(way, head, tmp_path):
    torch.save(WRAPPED[way](head), tmp_path / "head.pth")
    model = ToyModel()
    load_head(model, tmp_path / "head.pth")
    assert torch.equal(model.head.bias, head["head.bias"].bfloat16() if way == "bfloat16" else head["head.bias"])


NO_WEIGHTS = {
    "NaN": (lambda value: value * float("nan"), "holds 1 of 1 values that are NaN or infinite"),
    "infinite": (lambda value: value / 0, "holds 1 of 1 values that are NaN or infinite"),
    "int8": (lambda value: value.to(torch.int8), "is torch.int8, not floating point"),
    "sparse": (lambda value: value.to_sparse(), "is stored as torch.sparse_coo"),
    "meta": (lambda value: value.to("meta"), "has no values"),
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_parameters_that_are_no_weights_are_refused(kind, head, tmp_path):
    """With NaN every mask is empty, and integers would be taken for weights: nothing would tell."""
    change, message = NO_WEIGHTS[kind]
    torch.save({**head, "head.bias": change(head["head.bias"])}, tmp_path / "bad.pth")
    model = ToyModel()
    before = model.head.weight.clone()
    with pytest.raises(ValueError, match=rf"bad\.pth holds 1 parameters that are no weights: head\.bias {message}"):
        load_head(model, tmp_path / "bad.pth")
    assert torch.equal(model.head.weight, before)


def test_the_reason_is_given_without_torchs_advice(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(ValueError, match=r"Unsupported global: GLOBAL torch.*Linear was not") as caught:
        read_head(tmp_path / "module.pth")
    assert "weights_only" not in str(caught.value)


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


def test_a_checkpoint_cannot_get_at_exec(tmp_path):
    """`getattr` would lead from itself to the builtins, and a HistoryBuffer calls the `__setstate__` it is given."""

    def text(words):
        return pickle.dumps(words, 2)[2:-1]  # without the protocol before and the stop after it

    def ask(owner, name):
        return b"cbuiltins\ngetattr\n" + owner + text(name) + b"\x86R"

    run = ask(ask(b"cbuiltins\ngetattr\n", "__self__"), "exec")
    state = b"}" + text("__setstate__") + run + b"sb"
    code = text(f"import os; os.mkdir({str(tmp_path / 'was_here')!r})") + b"b"
    torch.save({}, tmp_path / "base.pth")
    with zipfile.ZipFile(tmp_path / "base.pth") as base, zipfile.ZipFile(tmp_path / "evil.pth", "w") as evil:
        for file in base.namelist():
            attack = b"\x80\x02cmmengine.logging.history_buffer\nHistoryBuffer\n)R" + state + code + b"."
            evil.writestr(file, attack if file.endswith("data.pkl") else base.read(file))
    with pytest.raises(ValueError, match=r"evil\.pth .*asks for '__self__'"):
        read_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "was_here").exists()


def test_mmengines_logs_are_read(tmp_path):
    torch.save({"loss": HistoryBuffer([1.0, 2.0], [1, 1])}, tmp_path / "logs.pth")
    loss = read_checkpoint(tmp_path / "logs.pth")["loss"]
    assert loss.statistics("mean") == 1.5
    assert loss.statistics("current") == 2


def test_running_statistics_are_refused_in_the_head_alone(head, tmp_path):
    torch.save(head, tmp_path / "head.pth")
    model = ToyModel()
    model.frozen = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)).requires_grad_(False)  # as MobileSAM's encoder
    assert len(load_head(model, tmp_path / "head.pth").matched) == 3
    unet = {"in_channels": 4, "base_channels": 4, "upsample_cfg": {"type": InterpConv}}
    model.mask_head = UNetHead(**unet)  # mmseg's default norm
    with pytest.raises(ValueError, match=r"mask_head\.encoder\.0.*BatchNorm2d.*norm_cfg=dict\(type='GN', num_groups=1"):
        load_head(model, tmp_path / "head.pth")
    model.mask_head = UNetHead(**unet, norm_cfg={"type": "BN", "requires_grad": False})
    with pytest.raises(ValueError, match="running statistics"):
        trainable(model)
    model.mask_head = UNetHead(**unet, norm_cfg={"type": "GN", "num_groups": 1})
    assert trainable(model)


def test_missing_paths_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth does not exist"):
        load_head(ToyModel(), tmp_path / "nothing.pth")
    with pytest.raises(ValueError, match="so it is no checkpoint"):
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


def name_part(rank, path, results):
    """In a process of its own: the temporary name alone, and with another process."""
    names = [part_name(path)]
    store = torch.distributed.FileStore(str(path.with_name("store")), 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    names += [part_name(path), part_name(path)]
    torch.distributed.barrier()
    results.put(names)


def test_runs_write_under_names_of_their_own(tmp_path):
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    processes = [fork.Process(target=name_part, args=(rank, tmp_path / "a.pth", results)) for rank in (0, 1)]
    for process in processes:
        process.start()
    (alone, *together), (other_alone, *other_together) = (results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    assert alone != other_alone  # two runs
    assert len({*together, *other_together}) == 1  # one run, whose processes write a DeepSpeed folder together
    assert together[0] in (alone, other_alone)


def test_what_killed_runs_left_is_removed(tmp_path):
    stale = [tmp_path / f".iter_{number}.pth.elsewhere-1.part" for number in (1, 2)]
    kept = [tmp_path / ".iter_3.pth.elsewhere-2.part", tmp_path / ".film.mkv.part"]
    stale[0].mkdir()  # of DeepSpeed
    for path in (stale[0] / "mp_rank_00_model_states.pt", stale[1], *kept):
        path.touch()
    for path in (*stale, kept[1]):
        os.utime(path, (1, 1))
    save_atomically({}, tmp_path / "iter_4.pth")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "iter_4.pth"])


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
        tmp_path / "new/folder/out.safetensors",
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert load_head(ToyModel(), tmp_path / "new/folder/out.safetensors").unexpected == []
