"""The README's Python runs as it stands, and the Chinese README is in step."""

import re
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)


def without_comments(block: str) -> str:
    return re.sub(r" *#.*", "", block)


@pytest.mark.slow
def test_the_python_example_runs(tmp_path, monkeypatch):
    """In a folder of its own, on shapes data made afresh, with the weights of the repository."""
    from flmm.datasets.shapes import make_shapes

    for name in ("configs", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    make_shapes(tmp_path / "data/shapes", train=1, val=4)
    monkeypatch.chdir(tmp_path)
    example, _ = blocks("README.md", "python")  # the second one takes real weights
    exec(example, {})
    assert Image.open("picture.png").width > 500


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
