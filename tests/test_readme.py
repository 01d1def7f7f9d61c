"""The README's Python runs as it stands, and the Chinese README is in step."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flmm.cli.main import main
from flmm.config import TINY_CONFIG

ROOT = Path(__file__).parent.parent


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def without_comments(block: str) -> str:
    return re.sub(r" *#.*", "", block)


@pytest.mark.slow
def test_the_python_examples_find_the_right_masks(tmp_path, monkeypatch):
    """On shapes data made for the test, with the weights of the repository."""
    from flmm.config import png_dataset, read_config
    from flmm.datasets.shapes import make_shapes

    for name in ("configs", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    make_shapes(tmp_path / "data/shapes", train=1, val=4)
    monkeypatch.chdir(tmp_path)
    ground, _, chat = blocks("README.md", "python")  # the second one takes real weights
    found: dict = {}
    exec(ground, found)
    assert Image.open("picture.png").width > 500
    samples = iter(png_dataset(read_config(TINY_CONFIG), "data/shapes"))
    sample = next(sample for sample in samples if sample["file_name"] == Path(found["picture"]).name)
    truth = {phrase: mask.bool().numpy() for phrase, mask in zip(sample["phrases"], sample["gt_masks"], strict=True)}
    for phrase, mask in zip(found["result"].phrases, found["result"].masks, strict=True):
        assert iou(mask, truth[phrase]) > 0.75, phrase
    exec(chat, found)
    assert Image.open("reply.png").width > 500
    run_shell_example(truth, tmp_path)
    assert str(found["reply"]).rstrip(" .") == found["text"].rstrip(" .")


def run_shell_example(truth, folder):
    """The grounding command of the README, with its mask as a file."""
    line = next(block for block in blocks("README.md", "bash") if block.startswith("flmm ground"))
    words = shlex.split(line.replace("\\\n", " "))
    assert main([*words[1:], "--masks", str(folder / "masks")]) == 0
    (file,) = (folder / "masks").iterdir()
    assert iou(np.array(Image.open(file)) > 0, truth["a large black square"]) > 0.75


def iou(mask, truth) -> float:
    return (mask & truth).sum() / (mask | truth).sum()


def test_both_readmes_give_the_same_commands():
    for language in ("python", "bash", "bibtex"):
        english, chinese = (blocks(name, language) for name in ("README.md", "README_zh-CN.md"))
        assert list(map(without_comments, english)) == list(map(without_comments, chinese))


@pytest.mark.parametrize(
    "name", ["README.md", "README_zh-CN.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
)
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert ((ROOT / name).parent / target).exists(), target
