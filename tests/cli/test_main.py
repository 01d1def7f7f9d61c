"""The `flmm` command: what it costs to ask for help, and what it says."""

import subprocess
import sys

import pytest

from flmm.cli import doctor
from flmm.cli import main as cli
from flmm.cli.script import said


def test_help_imports_nothing_heavy():
    code = (
        "import sys, flmm.cli.main as c; c.main([]); print([m for m in ('torch', 'numpy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in cli.COMMANDS)


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert cli.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["groud", "data/shapes"], "no command 'groud'; did you mean `flmm ground`?"),
        (["data", "chek"], "no command 'data chek'; did you mean `flmm data check`?"),
        (["data-check"], "no command 'data-check'; did you mean `flmm data check`?"),
        (["dta", "shapes"], "no command 'dta'; did you mean `flmm data shapes`?"),
        (["xyz"], "no command 'xyz'; there are: ground, chat, "),
        (["data", "xyz"], "no command 'data xyz'; there are: data check, data convert, data get, data shapes\n"),
    ],
)
def test_unknown_commands_are_answered_with_the_nearest_or_all(words, answer, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert answer in capsys.readouterr().err


def test_the_first_word_of_several_commands_has_their_help(capsys):
    assert cli.main(["data"]) == 2
    bare = capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        cli.main(["data", "--help"])
    assert capsys.readouterr().out == bare
    assert "data shapes   make the shapes data set" in bare
    assert "usage: flmm data COMMAND" in bare
    assert "check-backbone" not in bare


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main([*name.split(), "--help"])
    shown = capsys.readouterr().out
    assert f"flmm {name}" in shown
    assert "((" not in shown  # a tuple as Python writes it


def test_an_error_of_the_operating_system_names_the_file_and_no_number(tmp_path, monkeypatch, capsys):
    def fails(args):
        (tmp_path / "gone.txt").read_text()

    monkeypatch.setattr("flmm.cli.doctor.run", fails)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == f"flmm doctor: {tmp_path / 'gone.txt'}: no such file or directory\n"
    assert said(PermissionError(13, "Permission denied", "a.txt")) == "a.txt: permission denied"
    assert said(FileNotFoundError("no data file a")) == "no data file a"


def test_what_a_user_can_cure_is_one_line(capsys, tmp_path):
    assert cli.main(["ground", str(tmp_path / "none.jpg"), "a dog"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("flmm ground: no picture")
    assert "Traceback" not in error


def test_doctor_compares_versions():
    lines = ["# comment", "pytest==0.0.1", "no-such-package==1.0", "tomli==2.0 ; python_version < '3.0'", ""]
    findings = {finding.what: finding for finding in doctor.differing(lines)}
    assert set(findings) == {"pytest", "no-such-package"}
    assert findings["no-such-package"].state == "broken"
    assert "==0.0.1 is tested" in findings["pytest"].text
    assert all("make install" in finding.cure for finding in findings.values())


def test_doctor_finds_the_weights_of_the_repository_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {finding.state for finding in doctor.files() if "checkpoints/frozen" in finding.what} == {"ok"}


def test_doctor_names_missing_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("flmm.paths.ROOT", tmp_path)
    assert doctor.run(None) == 1
    printed = capsys.readouterr().out
    assert "missing" in printed
    assert "git checkout" in printed
