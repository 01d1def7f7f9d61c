"""A run saves its head alone, and a resumed run cannot be told from an uninterrupted one."""

import os
import resource
import shutil
import signal
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from toy import ToyData, ToyModel, collate

from flmm.checkpoint import latest_checkpoint, read_checkpoint
from flmm.runner import CustomRunner
from flmm.training.resume import random_state, set_random_state
from flmm.training.stop import Stop, StopHook

CONFIG = Path(__file__).parent / "helpers" / "toy_config.py"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)  # 2 s after every epoch


def run(folder, workers=0, **options):
    """Trains the toy for two epochs of 16 samples; returns what its steps saw, and the runner."""
    config = Config.fromfile(CONFIG)
    config.work_dir = str(folder)
    config.experiment_name = f"{folder}{len(list(Path(folder).glob('*')))}"  # MMEngine shares logs between equal names
    config.model.note = f"{folder}.txt"
    config.train_dataloader.num_workers = workers
    config.default_hooks.checkpoint.update(interval=4, max_keep_ckpts=-1)
    config.merge_from_dict(options)
    runner = CustomRunner.from_cfg(config)
    runner.train()
    return Path(config.model.note).read_text().splitlines(), runner


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
        folder = tmp_path_factory.mktemp("run") / "whole"
        steps, runner = run(folder)
    return folder, steps, runner


def test_a_checkpoint_holds_the_head_alone(whole):
    checkpoint = read_checkpoint(whole[0] / "iter_32.pth")
    assert set(checkpoint["state_dict"]) == {"head.weight", "head.bias", "unused"}
    assert checkpoint["meta"]["iter"] == 32
    assert not list(whole[0].glob(".*.part"))


@pytest.mark.parametrize(("done", "workers"), [(4, 0), (16, 0), (20, 0), (20, 2)])
def test_a_resumed_run_equals_an_uninterrupted_one(whole, done, workers, tmp_path):
    """In an epoch, at its end (16 samples), in the next one, and with worker processes."""
    folder, steps, runner = whole
    (tmp_path / "again").mkdir()
    shutil.copy(folder / f"iter_{done}.pth", tmp_path / "again")
    (tmp_path / "again" / ".iter_24.pth.part").write_bytes(b"killed here")
    torch.manual_seed(999)
    resumed_steps, resumed = run(tmp_path / "again", workers, resume=True)
    assert resumed_steps == steps[done:]
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert resumed.optim_wrapper.get_lr() == runner.optim_wrapper.get_lr()


def test_every_sample_is_seen_once_per_epoch_and_dropout_matters(whole):
    files = [step.split()[0] for step in whole[1]]
    assert sorted(files[:16]) == sorted(files[16:]) == [f"{number:03d}.jpg" for number in range(16)]
    assert files[:16] != files[16:]


def test_load_from_takes_the_weights_only(whole, tmp_path):
    _, runner = run(
        tmp_path / "new", load_from=str(whole[0] / "iter_32.pth"), train_cfg={"max_epochs": None, "max_iters": 1}
    )
    trained = read_checkpoint(whole[0] / "iter_32.pth")["state_dict"]["unused"]
    assert runner.iter == 1
    assert torch.allclose(runner.model.unused, trained, atol=1e-6)
    assert not torch.allclose(ToyModel().head.bias, runner.model.head.bias, atol=1e-5)


def test_a_nan_loss_stops_with_the_samples_name(tmp_path):
    with pytest.raises(FloatingPointError, match=r"loss is not finite.*nan.*sample: 007\.jpg"):
        run(tmp_path / "nan", model={"poison": "007.jpg"})
    latest = latest_checkpoint(tmp_path / "nan")
    assert latest is None or all(value.isfinite().all() for value in read_checkpoint(latest)["state_dict"].values())


def test_weights_that_an_update_destroyed_are_not_saved(tmp_path, monkeypatch):
    """The loss of that step is finite; that of the next one, after the save, would not be."""
    call = CustomRunner.call_hook

    def destroy(self, name, **kwargs):
        if name == "after_train_iter" and self.iter + 1 == 8:
            self.model.head.bias.data.fill_(float("nan"))
        call(self, name, **kwargs)

    monkeypatch.setattr(CustomRunner, "call_hook", destroy)
    with pytest.raises(FloatingPointError, match="not finite after step 8, so nothing is saved"):
        run(tmp_path / "nan", default_hooks={"checkpoint": {"max_keep_ckpts": 1}})
    assert latest_checkpoint(tmp_path / "nan") == str(tmp_path / "nan/iter_4.pth")


def test_a_resumed_window_warns_only_when_gradients_are_missing(whole, tmp_path, capfd):
    """MMEngine says that gradients are lost whenever a checkpoint lies inside a window."""
    window = {"optim_wrapper": {"accumulative_counts": 8}, "train_cfg": {"max_epochs": None, "max_iters": 5}}
    run(tmp_path / "first", **window)
    capfd.readouterr()
    for name, source in (("restored", tmp_path / "first/iter_4.pth"), ("lost", whole[0] / "iter_4.pth")):
        run(tmp_path / name, resume=True, load_from=str(source), **window)
        said = "".join(capfd.readouterr())
        assert "gradient of some iterations is lost" not in said
        assert ("holds no gradients of the 4 iterations since the last step" in said) == (name == "lost")
        assert ("its gradients are restored" in said) == (name == "restored")


def test_a_full_disk_keeps_the_last_checkpoint_even_if_only_one_is_kept(tmp_path, monkeypatch):
    folder, limits = tmp_path / "full", resource.getrlimit(resource.RLIMIT_FSIZE)
    save = CustomRunner.save_checkpoint

    def save_on_a_disk_that_fills(self, *args, **kwargs):
        if self.iter > 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
        save(self, *args, **kwargs)

    monkeypatch.setattr(CustomRunner, "save_checkpoint", save_on_a_disk_that_fills)
    try:
        with pytest.raises(OSError, match=r"iter_8\.pth"):
            run(folder, default_hooks={"checkpoint": {"max_keep_ckpts": 1}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert latest_checkpoint(folder) == str(folder / "iter_4.pth")
    assert read_checkpoint(folder / "iter_4.pth")["meta"]["iter"] == 4


def test_outdated_checkpoints_go(tmp_path):
    folder = tmp_path / "few"
    run(folder, default_hooks={"checkpoint": {"max_keep_ckpts": 2}})
    assert sorted(path.name for path in folder.glob("iter_*")) == ["iter_28.pth", "iter_32.pth"]


@pytest.mark.parametrize("path", ["folder", "head.safetensors"])
def test_weights_alone_cannot_be_resumed(path, tmp_path):
    (tmp_path / path).mkdir() if path == "folder" else (tmp_path / path).touch()
    with pytest.raises(ValueError, match=r"cannot resume.*load_from"):
        run(tmp_path / "run", resume=True, load_from=str(tmp_path / path))


def test_progress_is_logged(whole):
    log = next(whole[0].glob("*/*.log")).read_text()
    assert all(word in log for word in ("lr: ", "eta: ", "loss: ", "memory: "))
    assert list(whole[0].glob("*/vis_data/scalars.json"))
    assert list(whole[0].glob("*/vis_data/events.out.tfevents.*"))


def test_the_terminal_shows_losses_and_no_config(tmp_path, capfd):
    run(tmp_path / "quiet", train_cfg={"max_epochs": None, "max_iters": 10})
    printed = capfd.readouterr()
    lines = (printed.out + printed.err).splitlines()
    assert any("loss: " in line for line in lines)
    assert len(lines) < 20, lines
    assert not [line for line in lines if "DEBUG" in line or "WARNING" in line]
    (log,) = (tmp_path / "quiet").glob("*/*.log")
    assert f"machine, config and hooks: {log}" in "\n".join(lines)
    assert all(text in log.read_text() for text in ("System environment:", "train_dataloader = dict(", "Hooks will be"))


def stopped_run(monkeypatch, folder, iteration, *signals, **options):
    """Trains the toy, which gets signals in the middle of an iteration; returns the status that the run ends with."""
    forward, calls = ToyModel.forward, []

    def interrupted(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == iteration:
            for number in signals:
                os.kill(os.getpid(), number)
        return forward(self, *args, **kwargs)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with monkeypatch.context() as patch:
            patch.setattr(ToyModel, "forward", interrupted)
            with pytest.raises(SystemExit) as stopped:
                run(folder, **options)
        assert signal.getsignal(signal.SIGTERM) == before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return stopped.value.code


@pytest.mark.parametrize(("done", "workers", "number"), [(7, 0, signal.SIGINT), (18, 2, signal.SIGTERM)])
def test_a_stopped_run_saves_its_iteration_and_goes_on_from_there(
    whole, done, workers, number, tmp_path, capfd, monkeypatch
):
    folder, steps, runner = whole
    assert stopped_run(monkeypatch, tmp_path / "run", done, number, number, workers=workers) == 128 + number
    said = "".join(capfd.readouterr())
    assert said.count("stopping after this iteration, to save it") == 1
    assert f"stopped; --resume continues from {tmp_path}/run/iter_{done}.pth" in said
    assert Path(f"{tmp_path}/run.txt").read_text().splitlines() == steps[:done]
    resumed_steps, resumed = run(tmp_path / "run", workers, resume=True)
    assert resumed_steps == steps
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_a_second_ctrl_c_stops_at_once(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("flmm.training.stop.PASSED_ON", -1)
    assert stopped_run(monkeypatch, tmp_path / "run", 7, signal.SIGINT, signal.SIGINT) == 130
    assert f"stopped; --resume continues from {tmp_path}/run/iter_4.pth" in capfd.readouterr().out


def test_a_run_that_saves_epochs_stops_all_the_same(tmp_path, capfd, monkeypatch):
    epochs = {"default_hooks": {"checkpoint": {"by_epoch": True}}}
    assert stopped_run(monkeypatch, tmp_path / "run", 7, signal.SIGINT, **epochs) == 130
    assert "stopped; nothing was saved yet" in capfd.readouterr().out


@pytest.mark.parametrize(("micro_steps", "ends"), [(3, False), (4, True)])
def test_deepspeed_goes_on_to_its_next_step(micro_steps, ends):
    model = SimpleNamespace(gradient_accumulation_steps=lambda: 4, micro_steps=micro_steps)
    runner = SimpleNamespace(stop=SimpleNamespace(agreed=signal.SIGINT), model=model)
    with pytest.raises(KeyboardInterrupt) if ends else nullcontext():
        StopHook().after_train_iter(runner, 0)


def test_data_workers_outlive_a_sigterm_to_all_and_end_with_their_process():
    settings = {"batch_size": 1, "num_workers": 1, "dataset": ToyData(), "collate_fn": {"type": collate}}
    settings["sampler"] = {"type": DefaultSampler, "shuffle": False}
    loader = CustomRunner.__new__(CustomRunner).build_dataloader(settings, seed=0)
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)  # not by the process that it serves
    assert len(list(batches)) == 15
    batches = iter(loader)
    next(batches)
    (worker,) = batches._workers
    worker.terminate()
    worker.join(timeout=20)
    assert worker.exitcode == 0


def test_a_ctrl_c_that_a_background_job_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_checkpoints_hold_plain_values(whole):
    """xtuner reads the seed of the run to resume with torch.load, before anything of ours is imported."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        content = torch.load(whole[0] / "iter_32.pth", weights_only=True)
    finally:
        torch.serialization.add_safe_globals(allowed)
    assert content["meta"]["iter"] == 32
    assert len(content["message_hub"]["log_scalars"]["train/loss"]["log_history"]) == 32


def test_random_states_come_back():
    import random

    import numpy as np

    state = random_state()
    numbers = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    set_random_state(state)
    assert (random.random(), np.random.rand(), torch.rand(1)) == numbers  # noqa: NPY002


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"poisson": "x"}}, r"`model\.poisson`: ToyModel does not take it; did you mean `poison`"),
        ({"train_dataloader": {"sampler": {"shufle": True}}}, r"`train_dataloader\.sampler\.shufle`.*`shuffle`"),
        ({"param_schedular": [{}]}, r"`param_schedular`: did you mean `param_scheduler`"),
    ],
)
def test_unknown_keys_are_named(change, message, tmp_path):
    config = Config.fromfile(CONFIG)
    config.work_dir = str(tmp_path)
    if "param_schedular" in change:
        config.pop("param_scheduler")
    config.merge_from_dict(change)
    with pytest.raises(ValueError, match=message):
        CustomRunner.from_cfg(config)
