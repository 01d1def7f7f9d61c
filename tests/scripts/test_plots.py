"""The commands of docs/plots.md, and the script of the README's first picture."""

import json
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from plot_records import write_evaluation

from flmm.chat import Phrase
from flmm.cli.main import main
from flmm.config import TINY_CHECKPOINT, TINY_CONFIG
from flmm.datasets.captions import segment_map
from flmm.datasets.shapes import make_shapes

ROOT = Path(__file__).parents[2]
FIRST = str(ROOT / "scripts/docs/first_picture.py")
sys.path.insert(0, str(ROOT / "scripts/docs"))  # as when one of them is started


@pytest.mark.slow
def test_every_command_of_the_page_draws(tmp_path, monkeypatch, capsys):
    for name in ("configs", "checkpoints"):
        (tmp_path / name).symlink_to(ROOT / name)
    make_shapes(tmp_path / "data/coco", train=1, val=4, workers=1)
    values = {
        "OTHER_RECORDS": str(write_evaluation(tmp_path, "other", gain=2)),
        "RECORDS": str(write_evaluation(tmp_path)),
        "CONFIG": TINY_CONFIG,
        "CHECKPOINT": TINY_CHECKPOINT,
    }
    page = (ROOT / "docs/plots.md").read_text()
    commands = re.findall(r"^flmm (plot .*)$", page, re.MULTILINE)
    assert len(commands) == 5
    monkeypatch.chdir(tmp_path)
    for command in commands:
        words = [values.get(word, word) for word in command.split()]
        assert main(words) == 0, capsys.readouterr().err
    for name in ("heads", "layers", "lengths", "worst", "compare", "changes"):
        assert Image.open(f"{name}.png").width >= 470, name
    (python,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(python.replace('"RECORDS"', repr(values["RECORDS"])))
    assert "<figcaption>" in Path("report.html").read_text()


class Oracle:
    """Grounds and answers by the annotations of a data set; pictures in `wrong` are grounded empty.

    Args:
        root: The data set.
        wrong: Names of pictures.
    """

    def __init__(self, root, wrong=()):
        captions = json.loads((root / "annotations/png_coco_val2017.json").read_text())
        content = json.loads((root / "annotations/questions_val2017.json").read_text())
        self.root, self.wrong = root, wrong
        self.segments = {item["caption"]: item["segments"] for item in captions}
        self.pictures = {item["caption"]: int(item["image_id"]) for item in captions}
        self.answers = {(q["image_id"], q["question"]): q for q in content["questions"]}

    def ground(self, image, text, spans):
        phrases = [part for part in self.segments[text] if part["segment_ids"]]
        assert [text[slice(*span)] for span in spans] == [part["utterance"] for part in phrases]
        return self.found(image, text, spans, [part["segment_ids"] for part in phrases])

    def found(self, image, text, spans, segments):
        ids = segment_map(self.root / "annotations/panoptic_val2017" / f"{image.stem}.png")
        masks = np.stack([np.isin(ids, [int(i) for i in part]) for part in segments])
        masks &= image.name not in self.wrong
        return SimpleNamespace(image=Image.open(image), text=text, spans=spans, masks=masks)

    def chat(self, image):
        def ask(question=None):
            if question is None:
                return self.description(image)
            asked = self.answers[int(image.stem), question]
            found = [asked["segment_ids"]]
            text = asked["answer"]
            return SimpleNamespace(
                text=text, question=question, ground=lambda places: self.found(image, text, places, found)
            )

        return SimpleNamespace(ask=ask)

    def description(self, image):
        """The caption in reading order; the phrase that looked at a box most is the one whose mask fills it most."""
        text, parts = next((t, parts) for t, parts in self.segments.items() if self.pictures[t] == int(image.stem))
        parts, places, end = [part for part in parts if part["segment_ids"]], [], 0
        for part in parts:
            start = text.index(part["utterance"], end)
            places.append(Phrase(part["utterance"], start, end := start + len(part["utterance"])))
        masks = self.found(image, text, places, [part["segment_ids"] for part in parts]).masks

        def ranked(box, least=1):
            x0, y0, x1, y1 = box
            shares = [mask[y0:y1, x0:x1].sum() / max(least, mask.sum()) for mask in masks]
            best = places[int(np.argmax(shares))]
            return SimpleNamespace(ranked=lambda of: [SimpleNamespace(phrase=best)])

        return SimpleNamespace(
            text=text.strip(" ."),
            question="?",
            phrases=lambda: places,
            ground=lambda spans: self.ground(image, text, spans),
            region_to_token=ranked,
        )


def test_the_first_picture_is_one_where_all_masks_are_right(tmp_path):
    root = make_shapes(tmp_path / "rich", train=1, val=4, workers=1)
    find = runpy.run_path(FIRST)["find"]
    names = sorted(file.name for file in (root / "val2017").iterdir())
    sentence, answer = find(Oracle(root), root, 0.99)
    assert sentence.width == answer.width == 400
    other, _ = find(Oracle(root, wrong=names[:1]), root, 0.99)
    assert other != sentence
    with pytest.raises(ValueError, match="none of 4 pictures"):
        find(Oracle(root, wrong=names), root, 0.99)


def test_a_recording_shows_what_the_model_is_right_about(tmp_path):
    root = make_shapes(tmp_path / "rich", train=1, val=8, workers=1)
    find = runpy.run_path(str(ROOT / "scripts/docs/record_page.py"))["find_scene"]
    scene = find(Oracle(root), root, 0.99)
    assert scene.phrases >= 4
    assert scene.words in scene.answer
    x0, y0, x1, y1 = scene.box
    assert x0 < x1
    assert y0 < y1
    other = find(Oracle(root, wrong=[scene.picture.name]), root, 0.99)
    assert other.picture != scene.picture
    with pytest.raises(ValueError, match="none of 8 pictures"):
        find(Oracle(root, wrong=[file.name for file in (root / "val2017").iterdir()]), root, 0.99)


def moving(count, size=(60, 40)):
    """Frames of noise, which no format makes small."""
    rng = np.random.default_rng(0)
    return [
        (Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)), 100 * (n + 1)) for n in range(count)
    ]


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_a_recording_is_made_to_fit(tmp_path, suffix):
    script = runpy.run_path(str(ROOT / "scripts/docs/record_page.py"))
    whole = script["save_animation"](moving(3), tmp_path / f"whole{suffix}")
    assert (tmp_path / f"whole{suffix}").stat().st_size == whole
    small = script["save_animation"](moving(3), tmp_path / f"new/small{suffix}", most=whole - 1)
    assert small < whole
    with Image.open(tmp_path / f"whole{suffix}") as one, Image.open(tmp_path / f"new/small{suffix}") as other:
        assert (one.size, one.n_frames) == ((60, 40), 3)
        assert (other.size, other.n_frames) == ((48, 32), 3)
    with pytest.raises(ValueError, match="record less"):
        script["save_animation"](moving(3), tmp_path / f"none{suffix}", most=100)
    with pytest.raises(ValueError, match="nothing was recorded"):
        script["save_animation"]([], tmp_path / f"none{suffix}")
    assert not (tmp_path / f"none{suffix}").exists()
