"""The launch forms, as a user types them; on CPUs, or on GPUs where there are some."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from flmm.checkpoint import read_head

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "helpers" / "toy_config.py"
XTUNER = (Path(sys.executable).with_name("xtuner"), "train")
FLMM = (sys.executable, "-m", "flmm.cli.train")
FLMM_CLI = (sys.executable, "-m", "flmm.cli.main", "train")


def launch(*words, processes=1, cwd=ROOT, **popen):
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "tests" / "helpers"),
        "NPROC_PER_NODE": str(processes),
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.Popen(
        [str(word) for word in words],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **popen,
    )


def train(*words, **where):
    process = launch(*words, **where)
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output[-5000:]
    return output


def toy(folder, *more, **options):
    """Words that train the toy into `folder`; its steps are noted in `folder`.txt."""
    settings = [f"model.note={folder}.txt", "default_hooks.checkpoint.max_keep_ckpts=-1"]
    settings += [f"{key}={value}" for key, value in options.items()]
    return TOY, "--work-dir", folder, *more, "--cfg-options", *settings


def steps(folder):
    return Path(f"{folder}.txt").read_text().splitlines()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "run"
    train(*FLMM, *toy(folder))
    return folder


def test_a_run_survives_kill_9(plain, tmp_path):
    folder = tmp_path / "killed"
    process = launch(*FLMM, *toy(folder, **{"model.pause": 0.1}), start_new_session=True)
    while not Path(f"{folder}.txt").exists() or len(steps(folder)) < 18:
        assert process.poll() is None, process.stdout.read()[-5000:]
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = steps(folder)
    assert before == steps(plain)[: len(before)]
    Path(f"{folder}.txt").unlink()
    train(*FLMM, *toy(folder, "--resume"))
    done = int(max(path.stem for path in folder.glob("iter_1*.pth")).split("_")[1])
    assert done == 15
    assert steps(folder) == steps(plain)[done:]
    final, expected = (read_head(path / "iter_32.pth") for path in (folder, plain))
    assert all(torch.equal(final[name], expected[name]) for name in expected)


def heed_ctrl_c():
    """In a new process: tests that run in the background of a shell start with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(("processes", "number"), [(1, signal.SIGINT), (2, signal.SIGINT), (2, signal.SIGTERM)])
def test_a_run_that_is_asked_to_end_saves_and_ends_its_training(processes, number, tmp_path):
    folder = tmp_path / "ended"
    words = toy(folder, **{"model.pause": 0.2, "train_dataloader.num_workers": 1})
    process = launch(*FLMM_CLI, *words, processes=processes, start_new_session=True, preexec_fn=heed_ctrl_c)
    while not Path(f"{folder}.txt").exists() or len(steps(folder)) < 12:
        assert process.poll() is None, process.stdout.read()[-5000:]
        time.sleep(0.05)
    os.killpg(process.pid, number)  # as a terminal does: to all of them
    printed = process.communicate(timeout=60)[0]  # returns when nobody has the output open any more
    assert process.returncode == 128 + number
    done = len(steps(folder)) // processes
    assert done < 16
    assert "Traceback" not in printed
    said = f"stopped; --resume continues from {folder}/iter_{done}.pth"
    assert len(re.findall(re.escape(said), printed)) == 1, printed
    assert (folder / f"iter_{done}.pth").is_file()


def test_two_deepspeed_processes_train(tmp_path):
    """The third launch form."""
    train(*XTUNER, *toy(tmp_path / "two", "--deepspeed", "deepspeed_zero2"), processes=2)
    assert len(steps(tmp_path / "two")) == 2 * 16  # each process sees half of the data
    assert set(read_head(tmp_path / "two/iter_16.pth")) == {"head.weight", "head.bias", "unused"}
