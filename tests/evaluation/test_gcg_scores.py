"""`scripts/eval_gcg.py` on files made by hand, whose scores are known."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flmm.datasets import gcg
from flmm.datasets.check import check_data
from flmm.evaluation import caption_scores
from flmm.masks import encode_mask as encode

ROOT = Path(__file__).parents[2]
SIZE = (10, 10)


def stripe(first, last):
    mask = np.zeros(SIZE, dtype=bool)
    mask[:, first:last] = True
    return encode(mask)


@pytest.fixture
def files(tmp_path):
    """Two pictures: a cat and a dog, and a tree; all found, but the best pair of the first has other words."""
    images = [{"id": name, "height": 10, "width": 10, "file_name": f"{name}.jpg"} for name in ("psg_1", "sa_2")]
    captions = [
        {"id": 0, "image_id": "psg_1", "caption": "A cat beside a dog.", "labels": ["A cat", "a dog"]},
        {"id": 1, "image_id": "sa_2", "caption": "A tree in the sun.", "labels": ["A tree"]},
    ]
    masks = [("psg_1", stripe(0, 5)), ("psg_1", stripe(5, 10)), ("sa_2", stripe(2, 7))]
    masks = [
        {"id": i, "image_id": image, "category_id": 1, "segmentation": rle} for i, (image, rle) in enumerate(masks)
    ]
    folder = tmp_path / "GranDf" / gcg.ANNOTATIONS
    folder.mkdir(parents=True)
    for split in gcg.SPLITS:
        paths = gcg.annotation_files(tmp_path / "GranDf", split)
        paths[0].write_text(json.dumps({"images": images, "annotations": captions}))
        paths[1].write_text(json.dumps({"images": images, "annotations": masks}))
    predict(tmp_path, "psg_1", "a cat beside a dog", ["a hat", "a dog"], [stripe(0, 5), stripe(5, 9)])
    predict(tmp_path, "sa_2", "a tree", ["a tree"], [stripe(2, 7)])
    return paths


def predict(root, image_id, caption, phrases, masks):
    (root / "found").mkdir(exist_ok=True)
    content = {"image_id": image_id, "caption": caption, "phrases": phrases, "pred_masks": masks}
    (root / "found" / f"{image_id}.json").write_text(json.dumps(content))


def score(files, root, monkeypatch, *options, similarity="exact"):
    words = ["--predictions", root / "found", "--captions", files[0], "--masks", files[1], *options]
    words += ["--similarity", similarity] if similarity else []
    monkeypatch.setattr(sys, "argv", ["eval_gcg.py", *map(str, words)])
    with pytest.raises(SystemExit) as status:
        runpy.run_path(str(ROOT / "scripts/eval_gcg.py"), run_name="__main__")
    return status.value.code


def without_java(monkeypatch):
    monkeypatch.setattr(caption_scores.shutil, "which", lambda name: None)


def test_scores_of_a_folder(files, tmp_path, monkeypatch, capsys):
    without_java(monkeypatch)
    assert score(files, tmp_path, monkeypatch, "--output", tmp_path / "new" / "out.json") == 0
    scores = json.loads((tmp_path / "new" / "out.json").read_text())
    assert list(scores) == ["AP50", "mIoU", "recall", "recall_fixed", "METEOR", "CIDEr"]
    assert scores["AP50"] == pytest.approx(100)
    assert scores["mIoU"] == pytest.approx(100 * ((1 + 0.8) / 2 + 1) / 2)
    assert scores["recall"] == pytest.approx(100 / 3)  # "a hat" ends the first picture
    assert scores["recall_fixed"] == pytest.approx(200 / 3)
    assert scores["METEOR"] is None
    printed = capsys.readouterr().out
    assert "66.67" in printed
    assert scores["CIDEr"] > 0
    assert "METEOR needs Java" in printed


def test_without_a_similarity_there_is_no_recall(files, tmp_path, monkeypatch, capsys):
    without_java(monkeypatch)
    assert score(files, tmp_path, monkeypatch, "--output", tmp_path / "out.json", similarity=None) == 0
    scores = json.loads((tmp_path / "out.json").read_text())
    assert scores["recall"] is scores["recall_fixed"] is None
    assert scores["mIoU"] == pytest.approx(95)
    assert "--similarity bert-base-uncased" in capsys.readouterr().out


def test_an_encoder_that_is_not_there_is_named(files, tmp_path, monkeypatch, capsys):
    assert score(files, tmp_path, monkeypatch, similarity=str(tmp_path / "no-bert")) == 1
    assert "no text encoder" in capsys.readouterr().err


def test_similarity_of_an_encoder(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog"]))
    BertTokenizerFast.from_pretrained(tmp_path).save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertModel(BertConfig(vocab_size=8, **sizes)).eval()
    model.save_pretrained(tmp_path)
    alike = caption_scores.text_similarity(str(tmp_path))
    assert alike("a cat", "A cat") == pytest.approx(1)
    ids = [[2, 5, 6, 3], [2, 5, 7, 3]]
    means = [
        model(input_ids=model.dummy_inputs["input_ids"].new_tensor([row])).last_hidden_state[0].mean(0) for row in ids
    ]
    expected = (means[0] @ means[1] / (means[0].norm() * means[1].norm())).item()
    assert alike("a cat", "a dog") == pytest.approx(expected, abs=1e-5)


def test_captions_that_agree_score_more(monkeypatch):
    without_java(monkeypatch)
    references = {i: [text] for i, text in enumerate(("A red cat.", "Two dogs on grass", "The tall tree"))}
    same = {0: "a red cat", 1: "two dogs on grass", 2: "the tall tree"}
    other = {0: "a red cat", 1: "two cars", 2: "the tall tree"}
    scores = [caption_scores.caption_scores(texts, references) for texts in (same, other)]
    assert scores[0][0]["CIDEr"] > scores[1][0]["CIDEr"] > 0
    assert scores[0][0]["METEOR"] is None
    assert "Java" in scores[0][1][0]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs Java")
def test_meteor_of_equal_captions():
    references = {i: [text] for i, text in enumerate(("A red cat.", "Two dogs on grass", "The tall tree"))}
    scores, remarks = caption_scores.caption_scores({i: texts[0] for i, texts in references.items()}, references)
    assert scores["METEOR"] == pytest.approx(100, abs=1)
    assert scores["CIDEr"] > 0
    assert remarks == []


def test_a_java_that_does_not_run_is_as_none(monkeypatch, tmp_path):
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\nexit 3\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    scores, remarks = caption_scores.caption_scores({1: "a cat", 2: "a dog"}, {1: ["a cat"], 2: ["a dog"]})
    assert scores["METEOR"] is None
    assert scores["CIDEr"] == pytest.approx(500)  # of 1000: two words have no 3-grams and 4-grams
    assert f"`{java} -version` ends with status 3" in remarks[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [  # as pycocoevalcap's Penn Treebank tokenizer gives them
        ("A man's dog doesn't run; it can't.", "a man 's dog does n't run it ca n't"),
        ("Cars parked at 3:30 p.m., 3,000 people & 1/2 (U.S.)", "cars parked at 3:30 p.m. 3,000 people & 1/2 u.s."),
        ('The "big" cat -- and/or dog...', "the big cat and/or dog"),
        ("I'm a mother-in-law, they cannot.", "i 'm a mother-in-law they can not"),
    ],
)
def test_words_without_java(text, words):
    assert caption_scores._words({1: [text]}) == {1: [words]}


def broken(files, tmp_path, monkeypatch, capsys):
    assert score(files, tmp_path, monkeypatch, "--output", tmp_path / "out.json") == 1
    assert not (tmp_path / "out.json").exists()
    return capsys.readouterr().err


def test_a_missing_prediction(files, tmp_path, monkeypatch, capsys):
    (tmp_path / "found" / "sa_2.json").unlink()
    message = broken(files, tmp_path, monkeypatch, capsys)
    assert "1 of 2 predictions are missing" in message
    assert "sa_2.json" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not complete JSON"),
        ("[1]", "another format"),
        ('{"caption": "a", "phrases": []}', "lacks 'pred_masks'"),
        ('{"caption": "a", "phrases": "a", "pred_masks": []}', "phrases a list of texts"),
        (
            '{"caption": "a", "phrases": [], "pred_masks": [{"size": [5, 5], "counts": [25]}]}',
            "the picture is [10, 10]",
        ),
        ('{"caption": "a", "phrases": [], "pred_masks": [{"size": [10, 10], "counts": [5]}]}', "cover 5 pixels"),
    ],
)
def test_a_prediction_that_cannot_be_used(files, tmp_path, monkeypatch, capsys, content, message):
    (tmp_path / "found" / "sa_2.json").write_text(content)
    printed = broken(files, tmp_path, monkeypatch, capsys)
    assert "sa_2.json" in printed
    assert message in printed


def test_annotations_that_do_not_belong_together(files, tmp_path, monkeypatch, capsys):
    content = json.loads(files[1].read_text())
    content["annotations"][1]["image_id"] = "psg_3"
    files[1].write_text(json.dumps(content))
    assert "annotation 1: picture 'psg_3' is not in" in broken(files, tmp_path, monkeypatch, capsys)


def test_predictions_in_the_older_form(files, tmp_path):
    file = tmp_path / "found" / "sa_2.json"
    plain = gcg.read_prediction(file)
    file.write_text(json.dumps({"sa_2.jpg": json.loads(file.read_text())}))
    assert gcg.read_prediction(file) == plain


def test_the_data_check(files, tmp_path):
    root = tmp_path / "GranDf"
    report = check_data(root)
    assert any("2 of 2 pictures" in finding.text and "MBZUAI" in finding.cure for finding in report.findings)
    pictures = gcg.picture(root, "").parent
    pictures.mkdir(parents=True)
    for name in ("psg_1", "sa_2"):
        Image.new("RGB", (10, 10)).save(pictures / f"{name}.jpg")
    assert not check_data(root).is_broken
    Image.new("RGB", (10, 11)).save(pictures / "sa_2.jpg")
    report = check_data(tmp_path)
    assert any("11 x 10" in finding.text for finding in report.findings if finding.state == "broken")
    files[0].unlink()
    assert any("missing" in finding.text and finding.what == str(files[0]) for finding in check_data(root).findings)
