"""What a dry run finds, and that several nodes find each other, by torchrun's variables and by slurm's."""

import argparse
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flmm.cli import train
from flmm.console import Finding
from flmm.training.dry_run import checkpoint_bytes, disk, loader, local_findings, merge
from flmm.training.named_files import check_files, files, named_weights, weights

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests/helpers/toy_config.py"
TINY = "configs/tiny/frozen_tiny_llava_unet_sam_nano_shapes.py"


def arguments(*words):
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The tiny config, in a folder that has its weights but no data."""
    from mmengine.config import Config

    monkeypatch.chdir(tmp_path)
    for name in ("configs", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    return Config.fromfile(TINY)


def broken(findings):
    return [finding for finding in findings if finding.state == "broken"]


def test_missing_data_are_named_and_found(tiny, tmp_path):
    missing = {finding.text for finding in broken(files(tiny))}
    assert {
        "data/shapes/annotations/png_coco_train2017.json",
        "data/shapes/annotations/panoptic_train2017",
        "data/shapes/refcoco/refs(unc).p",
        "data/shapes/refcoco+/instances.json",
        "data/shapes/train2014",
        "data/shapes/train2017",
    } <= missing
    assert not any("checkpoints/" in text for text in missing)
    there = [finding.text for finding in files(tiny) if finding.state == "ok"]
    assert {"checkpoints/sam_vit_nano.pth", "checkpoints/tiny_llava"} <= set(there)
    for path in map(Path, missing):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix in (".json", ".p") else path.mkdir(parents=True, exist_ok=True)
    assert broken(files(tiny)) == []


def test_weights_on_the_hub_need_a_cache_or_network(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert weights("checkpoints/not_there").state == "broken"
    assert weights("no-such/model").state == "note"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "hf download no-such/model" in weights("no-such/model").cure
    assert weights("no-such/model").state == "broken"


def cached(hub, name, *files):
    """A repository in a hub's cache."""
    folder = hub / f"models--{name.replace('/', '--')}"
    for file in (*files, "../../refs/main"):
        path = folder / "snapshots/abc" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("abc")


@pytest.mark.parametrize(
    ("config", "repositories"),
    [
        (
            "hpt/frozen_hpt_air",
            {"HyperGAI/HPT": ("llm/config.json", "visual_encoder/config.json", "projector/config.json")},
        ),
        (
            "mgm/frozen_mgm_vicuna_7b",
            {
                "YanweiLi/MGM-7B": ("config.json",),
                "openai/clip-vit-large-patch14-336": ("config.json",),
                "laion/CLIP-convnext_large_d_320.laion2B-s29B-b131K-ft-soup": ("open_clip_pytorch_model.bin",),
            },
        ),
    ],
)
def test_all_parts_of_an_lmm_are_looked_for_where_they_are(config, repositories, tmp_path, monkeypatch):
    from mmengine.config import Config

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    named = set(named_weights(Config.fromfile(ROOT / f"configs/{config}_unet_sam_l_refcoco_png.py")._cfg_dict))
    assert len(named) == 3
    assert len(broken(weights(*part) for part in named)) == 3
    for name, there in repositories.items():
        cached(tmp_path, name, *there)
    assert broken(weights(*part) for part in named) == []


def test_a_tower_may_lie_in_mgms_own_folder(tmp_path):
    (tmp_path / "mgm/clip").mkdir(parents=True)
    config = {"type": "MGM", "pretrained_model_name_or_path": str(tmp_path / "mgm"), "mm_vision_tower": "clip"}
    assert broken(weights(*part) for part in named_weights(config)) == []


def test_a_checkpoint_must_fit_and_the_folder_take_it(tiny, tmp_path, monkeypatch):
    size = os.path.getsize(ROOT / "checkpoints/frozen_tiny_llava_unet_sam_nano_shapes.pth")
    assert 14 * size / 4 < checkpoint_bytes(tiny) * 1.05 < 14 * (size / 4 + 2048 * 32 * 9) * 1.1
    (finding,) = disk(tiny, arguments(TINY))
    assert finding.state == "ok"
    assert str(tmp_path / "work_dirs/frozen_tiny_llava_unet_sam_nano_shapes") in finding.text
    (tmp_path / "file").touch()
    (finding,) = disk(tiny, arguments(TINY, "--work-dir", tmp_path / "file/run"))
    assert finding.state == "broken"
    small = argparse.Namespace(free=checkpoint_bytes(tiny) * 2)
    monkeypatch.setattr("flmm.training.dry_run.shutil.disk_usage", lambda path: small)
    (finding,) = disk(tiny, arguments(TINY))  # two are kept while the third is written
    assert finding.state == "broken"
    assert "--work-dir" in finding.cure


def test_too_many_data_workers(tiny, monkeypatch):
    tiny.train_dataloader.num_workers = 1000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert "2000 on" in next(loader(tiny)).text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cfg-options", "model.poisson=x"), "did you mean `poison`"),
        (("--deepspeed", "deepspeed_zero7"), "deepspeed_zero7: no file"),
    ],
)
def test_a_config_that_cannot_work_is_a_finding(words, message):
    (finding,) = broken(local_findings(arguments(TOY, *words)))
    assert finding.what == "config"
    assert message in finding.text


def test_findings_say_whose_they_are():
    good, bad = Finding("ok", "device", "fine"), Finding("broken", "device", "gone")
    configs = [Finding("ok", "config", f"a.py; {digest}") for digest in ("1", "1", "2")]
    merged = merge([("a", [good, configs[0]]), ("a", [good, configs[1]]), ("b", [bad, configs[2]])])
    assert Finding("broken", "device", "gone (process 2 on b)") in merged
    assert Finding("ok", "device", "fine (process 0 on a, process 1 on a)") in merged
    assert any(finding.what == "config" and "differ" in finding.text for finding in broken(merged))
    assert merge([("a", [good]), ("b", [good])]) == [good]


def test_a_node_must_know_its_place(monkeypatch):
    monkeypatch.setenv("NNODES", "2")
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(ValueError, match="NNODES=2, but ADDR, PORT is not set"):
        train.run(arguments(TOY))


@pytest.mark.parametrize("words", [("--work-dir",), ("--cfg-options", "work_dir")])
def test_resume_says_what_it_continues(words, tmp_path, capsys):
    *option, last = words
    where = [*option, f"{last}={tmp_path}"]  # argparse takes --work-dir=D, too
    args = arguments(TOY, "--resume", *where)
    train._prepare(args)
    assert args.resume is None
    assert f"no checkpoint in {tmp_path}, starting afresh" in capsys.readouterr().out
    (tmp_path / "iter_5.pth").touch()
    args.resume = "latest"
    train._prepare(args)
    assert args.resume == str(tmp_path / "iter_5.pth")
    assert f"continuing {tmp_path}/iter_5.pth" in capsys.readouterr().out


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, capsys):
    (tmp_path / "iter_5.pth").touch()
    assert train.child([str(TOY), "--work-dir", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path} holds {tmp_path}/iter_5.pth of an earlier run" in message
    assert "--resume" in message
    assert "--work-dir" in message


def test_missing_files_end_a_run_before_the_lmm_is_loaded(capsys):
    missing = "train_dataloader.dataset.datasets_list.0.json_file=data/gone.json"
    assert train.child([TINY, "--cfg-options", missing]) == 1
    message = capsys.readouterr().err
    assert re.match(r"flmm train: \d+ things? (is|are) missing:\n(  .*\n)*  data/gone.json\n", message)
    assert message.count("`flmm data check` tells where") == 1


def test_one_missing_file_is_one_thing():
    with pytest.raises(
        FileNotFoundError, match=r"^1 thing is missing:\n  none/sam_x\.pth\n  - `flmm download sam_vit_l`"
    ):
        check_files({"checkpoint": "none/sam_x.pth"})


def test_the_hub_is_asked_once_before_a_model_is_built(tmp_path, monkeypatch):
    """transformers would ask for half a minute, for each of its files."""

    def unreached(name, allow):
        asked.append((name.repository, allow))
        raise FileNotFoundError("cannot be reached")

    asked = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("flmm.training.named_files.fetch", unreached)
    lmm = {"type": "LMM", "pretrained_model_name_or_path": "no-such/model"}
    with pytest.raises(FileNotFoundError, match="cannot be reached"):
        check_files({"model": lmm, "tokenizer": lmm})
    assert asked == [("no-such/model", ["*.json"])]


def test_an_lmm_in_4_bits_needs_bitsandbytes(tiny, monkeypatch):
    monkeypatch.setattr("flmm.training.named_files.importlib.util.find_spec", lambda name: None)
    assert not any(finding.what == "quantization_config" for finding in files(tiny))
    tiny.model.model.quantization_config = {"load_in_4bit": True}
    (finding,) = [finding for finding in broken(files(tiny)) if finding.what == "quantization_config"]
    assert "pip install bitsandbytes" in finding.cure


def test_files_of_the_repository_are_found_from_any_folder(tmp_path, monkeypatch):
    from flmm.config import read_config

    monkeypatch.chdir(tmp_path)
    config = read_config(TINY)
    assert config.model.model.pretrained_model_name_or_path == str(ROOT / "checkpoints/tiny_llava")
    assert config.model.sam.checkpoint == str(ROOT / "checkpoints/sam_vit_nano.pth")
    assert not any("checkpoints" in finding.text for finding in broken(files(config)))
    (tmp_path / "checkpoints/tiny_llava").mkdir(parents=True)  # a file in this folder goes first
    assert read_config(TINY).model.model.pretrained_model_name_or_path == "checkpoints/tiny_llava"


def slurm(rank, folder):
    """What srun sets for a task, and a scontrol that knows one node list."""
    scontrol = folder / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$3" = "node[7-8]" ] && printf "127.0.0.1\\nnode8\\n"\n')
    scontrol.chmod(0o755)
    names = {"PROCID": rank, "NTASKS": 2, "LOCALID": 0, "JOB_ID": 123456, "JOB_NODELIST": "node[7-8]"}
    return {"PATH": f"{folder}:{os.environ['PATH']}", **{f"SLURM_{name}": str(value) for name, value in names.items()}}


def test_slurms_variables_become_torchruns(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    variables = train.slurm_variables(slurm(1, tmp_path))
    assert variables == {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_PORT": "23456",
        "MASTER_ADDR": "127.0.0.1",
    }
    assert train.slurm_variables({**slurm(1, tmp_path), "MASTER_PORT": "9"})["MASTER_PORT"] == "9"
    with pytest.raises(ValueError, match="SLURM_PROCID, .* start it with srun"):
        train.slurm_variables({})


def both(words, variables):
    """Starts a command once with each set of variables; what each printed, and the exit statuses."""
    common = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/helpers'}", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "flmm.cli.main", "train", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": ROOT}
    started = [subprocess.Popen(command, env={**common, **more}, **pipes) for more in variables]
    return [process.communicate(timeout=600)[0] for process in started], [process.returncode for process in started]


@pytest.mark.slow
def test_two_nodes_by_torchrun(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"NNODES": "2", "NPROC_PER_NODE": "1", "ADDR": "127.0.0.1", "PORT": str(free.getsockname()[1])}
    words = (TOY, "--dry-run", "--work-dir", tmp_path)
    printed, statuses = both(words, [{**place, "NODE_RANK": rank} for rank in "01"])
    assert statuses == [0, 0], printed
    assert "dry run of 2 processes" in printed[0]
    assert f"gloo, 2 processes meet at 127.0.0.1:{place['PORT']}" in printed[0]
    assert "dry run" not in printed[1]  # the first process speaks for all


@pytest.mark.slow
def test_two_tasks_by_slurm_train(tmp_path):
    options = ("--cfg-options", f"model.note={tmp_path}/note.txt", "train_cfg.max_epochs=1")
    words = (TOY, "--launcher", "slurm", "--work-dir", tmp_path / "run", *options)
    printed, statuses = both(words, [slurm(rank, tmp_path) for rank in (0, 1)])
    assert statuses == [0, 0], printed
    names = [line.split()[0] for line in (tmp_path / "note.txt").read_text().splitlines()]
    assert sorted(names) == [f"{number:03d}.jpg" for number in range(16)]
    assert (tmp_path / "run/iter_8.pth").exists()
