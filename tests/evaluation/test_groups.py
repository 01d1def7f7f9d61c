"""Groups of phrases, intervals and the comparison of two runs; phrases without a target."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flmm.evaluation.groups import comparison, group_names, table
from flmm.evaluation.no_target import NoTargetMetric
from flmm.evaluation.own import own_summary
from flmm.evaluation.records import phrase_records
from flmm.evaluation.significance import Ratio, compare, confidence

ROOT = Path(__file__).parents[2]


def phrase(words, iou, area=100, **more):
    scores = {"iou": iou, "intersection": round(100 * iou), "union": 100, "pixel_accuracy": 1.0, "box_iou": iou}
    return {"phrase": words, "area": area, "isthing": True, "plural": False, "mention": 0, **more, "refined": scores}


def record(*phrases, name="a.jpg"):
    return {"file_name": name, "phrases": list(phrases)}


def ratios(values):
    return Ratio(np.array(values, dtype=float), np.ones(len(values)))


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for trial in range(200):
        found = confidence(ratios(rng.normal(0.6, 0.2, size=60)), seed=trial, resamples=500)
        hits += found.low <= 60 <= found.high
    assert 180 <= hits <= 199  # 95 % of 200, give and take


def test_pictures_are_drawn_with_all_their_phrases():
    one = Ratio(np.array([10.0, 0.0]), np.array([10.0, 10.0]))
    assert confidence(one).value == 50
    assert (confidence(one).low, confidence(one).high) == (0, 100)
    same = Ratio(np.array([5.0, 5.0]), np.array([10.0, 10.0]))
    assert confidence(same).low == confidence(same).high == 50


def test_draws_without_a_phrase_of_the_group_do_not_count():
    rare = Ratio(np.array([0.9, 0.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0, 0.0]))
    assert (confidence(rare).value, confidence(rare).low, confidence(rare).high) == pytest.approx((90, 90, 90))


def test_equal_runs_do_not_differ_and_better_ones_do():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.3, 0.7, size=100)
    same = compare(ratios(values), ratios(values))
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    better = compare(ratios(values), ratios(values + rng.uniform(0, 0.05, size=100)))
    assert 0 < better.low < better.value < better.high
    assert better.p < 0.001
    noise = compare(ratios(values), ratios(values + rng.normal(0, 0.2, size=100)))
    assert noise.p > 0.01
    with pytest.raises(ValueError, match="3 pictures in one run, 100 in the other"):
        compare(ratios([1, 2, 3]), ratios(values))


def test_p_is_uniform_when_nothing_differs():
    rng = np.random.default_rng(2)
    ps = [compare(ratios(rng.random(20)), ratios(rng.random(20)), resamples=200).p for _ in range(200)]
    assert 0.35 < np.mean(np.array(ps) < 0.5) < 0.65
    assert np.mean(np.array(ps) < 0.05) < 0.1


def test_groups_of_phrases():
    records = [
        record(phrase("cat", 1.0), phrase("the sky", 0.5, 50_000, isthing=False)),
        record(
            phrase("the very same sky", 0.0, 2000, mention=1, isthing=False),
            phrase("two men of the town", 0.2, plural=True),
        ),
    ]
    found = {(group, name): (count, figure.value) for group, name, count, figure in table(records, "refined", "mIoU")}
    assert found["all", "all"] == (4, pytest.approx(42.5))
    assert found["length", "2 words"] == (1, pytest.approx(50))
    assert found["length", "3-4 words"] == (1, 0)
    assert found["length", "5 words or more"] == (1, pytest.approx(20))
    assert found["mask", "small"] == (2, pytest.approx(60))
    assert (found["mask", "medium"][0], found["mask", "large"][0]) == (1, 1)
    assert found["kind", "stuff"] == (2, pytest.approx(25))
    assert found["mention", "later mention"] == (1, 0)
    assert found["number", "plural"] == (1, pytest.approx(20))
    cumulative = table(records, "refined", "cIoU")
    assert cumulative[0][3].value == pytest.approx(100 * 170 / 400)


def test_records_of_before_have_fewer_groups():
    old = phrase("cat", 1.0)
    for key in ("area", "mention", "isthing", "plural"):
        old.pop(key)
    assert group_names([old]) == [("all", "all"), ("length", "1 word")]


def test_runs_on_other_pictures_are_not_compared():
    one = [record(phrase("cat", 1.0))]
    with pytest.raises(ValueError, match="1 pictures in one folder, 0 in the other"):
        comparison(one, [], "refined", "mIoU")
    with pytest.raises(ValueError, match="record 0 is of"):
        comparison(one, [record(phrase("dog", 1.0))], "refined", "mIoU")


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["compare_records.py", *map(str, words)])
    with pytest.raises(SystemExit) as status:
        runpy.run_path(str(ROOT / "scripts/compare_records.py"), run_name="__main__")
    return status.value.code


def test_the_command(tmp_path, monkeypatch, capsys):
    for folder, gain in (("one", 0.0), ("two", 0.1)):
        (tmp_path / folder / "samples").mkdir(parents=True)
        for number in range(20):
            content = record(phrase("cat", 0.4 + number / 100 + gain), name=f"{number}.jpg")
            (tmp_path / folder / "samples" / f"{number:06d}.json").write_text(json.dumps(content))
    assert run(monkeypatch, tmp_path / "one") == 0
    assert "49.50" in capsys.readouterr().out
    assert run(monkeypatch, tmp_path / "one", tmp_path / "two") == 0
    assert "10.00" in capsys.readouterr().out
    (tmp_path / "two/samples/000019.json").unlink()
    assert run(monkeypatch, tmp_path / "one", tmp_path / "two") == 1
    assert "20 pictures in one folder, 19 in the other" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path) == 1


def test_areas_and_mentions_are_recorded():
    masks = torch.zeros(4, 2, 3, dtype=torch.uint8)
    masks[0, 0] = masks[1, 1] = masks[2, 0] = 1
    found = phrase_records({"gt_masks": masks}, {"pred_masks": torch.zeros(4, 2, 3)})
    assert [p["area"] for p in found] == [3, 3, 3, 0]
    assert [p["mention"] for p in found] == [0, 0, 1, 0]


def test_phrases_without_a_target():
    metric, other = NoTargetMetric(), NoTargetMetric()
    metric.update([0, 0, 50, 9], [0, 7, 100, 0], [0.0, 0.0, 0.5, 0.0])
    found = {"N_acc": 50, "T_acc": 50, "gIoU": pytest.approx(37.5), "no_target": 2, "phrases": 4}
    assert metric.compute() == found
    other.merge(metric)
    assert other.compute() == metric.compute()
    assert NoTargetMetric().compute() == {"N_acc": None, "T_acc": None, "gIoU": None, "no_target": 0, "phrases": 0}
    with pytest.raises(ValueError, match="1 areas, 2 sizes, 1 IoUs"):
        metric.update([1], [1, 2], [0.1])


def test_metrics_of_your_data_leave_absent_phrases_out():
    absent = phrase("a dog", 0.0, area=0)
    absent["refined"] |= {"union": 0, "intersection": 0}
    summary = own_summary([record(phrase("a cat", 0.6), absent)])
    assert summary["refined"]["png"]["all"] == {
        "average_recall": pytest.approx(60),
        "accuracy": 100,
        "pixel_accuracy": 100,
        "phrases": 1,
    }
    assert summary["refined"]["res"]["cIoU"] == pytest.approx(60)
    assert summary["refined"]["no_target"]["N_acc"] == 100
    assert summary["refined"]["no_target"]["T_acc"] == 100
    assert (summary["images"], summary["phrases"]) == (1, 2)
