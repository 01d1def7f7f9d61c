"""The scripts of scripts/demo and the cases about shapes, on small inputs."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from families import picture
from PIL import Image

from flmm.evaluation.clusters import attention_cluster

ROOT = Path(__file__).parents[2]


def run(script, *words, monkeypatch):
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    runpy.run_path(str(ROOT / "scripts" / script), run_name="__main__")


def test_a_question_is_asked_without_asking_anybody(tmp_path, monkeypatch, capsys):
    picture((168, 168)).save(tmp_path / "ball.png")
    out = tmp_path / "sub/out.png"
    words = ["--image", tmp_path / "ball.png", "--all", "--out", out]
    run("demo/grounded_conversation.py", *words, monkeypatch=monkeypatch)
    said = capsys.readouterr().out
    assert "phrases: " in said
    assert Image.open(out).width > 900


def test_a_picture_that_is_missing_is_named(monkeypatch):
    with pytest.raises(SystemExit, match=r"nowhere\.png"):
        run("demo/grounded_conversation.py", "--image", "nowhere.png", monkeypatch=monkeypatch)


def results(folder, **scores):
    for name, (chat, grounding) in scores.items():
        content = {"model": name, "chat": {"a": chat, "b": {"c": 2 * chat}}, "grounding": {"d": grounding}}
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [folder / f"{name}.json" for name in scores]


def test_ranks_are_ranks(tmp_path, monkeypatch, capsys):
    files = results(tmp_path, worst=(10, 5), best=(30, 50), middle=(20, 20), tied=(20, 20))
    run("demo/visualize_ranks.py", *files, "--out", tmp_path / "ranks.png", monkeypatch=monkeypatch)
    lines = [line.replace("│", " ").split() for line in capsys.readouterr().out.splitlines() if "│" in line]
    rows = {name: ranks for name, *ranks in lines}
    assert rows["best"] == ["1.00", "1.00"]
    assert rows["middle"] == rows["tied"] == ["2.50", "2.50"]
    assert rows["worst"] == ["4.00", "4.00"]
    assert Image.open(tmp_path / "ranks.png").width > 500


def test_results_that_cannot_be_ranked_are_named(tmp_path, monkeypatch, capsys):
    one, two = results(tmp_path, one=(1, 1), two=(2, 2))
    two.write_text(json.dumps({"model": "two", "chat": {"a": 1}, "grounding": {"d": 2}}))
    three = one.with_name("three.json")
    three.write_text('{"model": "three", "chat": {"a": NaN}, "grounding": {"d": 2}}')
    for files, message in (
        ((one,), "one LMM has no rank"),
        ((one, two), "two.json lacks ['b.c'] under 'chat'"),
        ((one, three), "a is nan, which has no rank"),
    ):
        with pytest.raises(SystemExit):
            run("demo/visualize_ranks.py", *files, monkeypatch=monkeypatch)
        assert message in capsys.readouterr().err


def test_the_cluster_with_more_attention_is_kept():
    generator = np.random.default_rng(0)
    maps = generator.uniform(0.9, 1.1, (6, 8, 9)) * np.arange(1, 7)[:, None, None]
    maps[:, 2:5, 3:7] = 3 * generator.uniform(0.9, 1.1, (6, 3, 4)) * np.arange(6, 0, -1)[:, None, None]
    expected = np.zeros((8, 9), dtype=bool)
    expected[2:5, 3:7] = True
    assert (attention_cluster(maps) == expected).all()
    assert attention_cluster(np.ones((6, 8, 9))).all()


def test_cases_come_from_the_questions_of_the_shapes(tmp_path, monkeypatch, capsys):
    (tmp_path / "annotations").mkdir()
    images = [{"id": index, "file_name": f"{index}.jpg"} for index in range(3)]
    common = [{"kind": "color", "question": "What color?", "answer": "red", "segment_ids": ["7", "8"]}]
    common += [{"kind": "exists", "question": "Is there?", "answer": "yes", "segment_ids": []}]
    questions = [
        {"question_id": 2 * image + kind, "image_id": image, **question}
        for image in range(3)
        for kind, question in enumerate(common)
    ]
    segments = [{"id": 7, "bbox": [1, 2, 3, 4]}, {"id": 8, "bbox": [10, 2, 5, 20]}]
    files = {
        "questions_val2017": {"images": images, "questions": questions},
        "panoptic_val2017": {"annotations": [{"segments_info": segments}]},
    }
    for name, content in files.items():
        (tmp_path / "annotations" / f"{name}.json").write_text(json.dumps(content))
    run("tiny/make_cases.py", "--data-root", tmp_path, "--count", 3, monkeypatch=monkeypatch)
    from flmm.chat.cases import read_cases

    cases = read_cases(tmp_path / "cases.json")
    assert [case.image_path for case in cases] == ["val2017/0.jpg", "val2017/1.jpg", "val2017/2.jpg"]
    assert cases[0].expected_bbox == [1, 2, 15, 22]
    assert cases[0].answer_contains == ["red"]
    assert cases[1].answer_not_contains == ["no"]
    assert cases[1].expected_bbox is None
    with pytest.raises(ValueError, match="3 pictures with questions, but 4 cases"):
        run("tiny/make_cases.py", "--data-root", tmp_path, "--count", 4, monkeypatch=monkeypatch)
