"""The HTML report, and what the demo reads from files."""

import json

from PIL import Image

from flmm.cli import demo
from flmm.evaluation.report import Report, draw_curves, read_scalars
from flmm.evaluation.report_text import meaning
from flmm.evaluation.tables import PNG_HEADER, RES_HEADER, cell


def test_report_is_one_file_with_everything_inside(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "picture.png")
    report = Report("<title>")
    report.table("numbers", ("name", "value"), [["a & b", 1.23456], ["none", None]])
    report.picture(tmp_path / "picture.png")
    page = report.write(tmp_path / "report.html").read_text()
    assert "<td>a &amp; b</td><td>1.23</td>" in page
    assert "<h1>&lt;title&gt;</h1>" in page
    assert "data:image/jpeg;base64," in page
    assert "http" not in page


def test_every_column_of_the_report_is_explained():
    columns = {*PNG_HEADER, *RES_HEADER}
    assert {column for column in columns if len(meaning(column)) > 12} == columns

    assert meaning("AR stuff") == "the same of phrases for regions, such as the sky"


def test_numbers_in_tables():
    assert [cell(value) for value in (1.005, 3, None, "x")] == ["1.00", "3", "-", "x"]


def test_curves_of_a_resumed_run(tmp_path):
    for run, steps in (("20260101_000000", (1, 2, 3)), ("20260101_000100", (3, 4))):
        folder = tmp_path / run / "vis_data"
        folder.mkdir(parents=True)
        lines = [json.dumps({"aiou": step / 10 + (run[-3] == "1"), "step": step}) for step in steps]
        (folder / "scalars.json").write_text("\n".join(lines))
    scalars = read_scalars(tmp_path)
    assert scalars["aiou"] == [(1, 0.1), (2, 0.2), (3, 1.3), (4, 1.4)]
    assert draw_curves(scalars).startswith("<svg")


def test_progress_of_training_is_read_from_its_log():
    line = "11/23 12:00:00 - mmengine - INFO - Iter(train) [  20/1500]  lr: 1e-3  eta: 0:01:00  loss: 2.0"
    assert demo.PROGRESS.search(line).groups()[:2] == ("20", "1500")
    assert demo.PROGRESS.search("Saving checkpoint at 20 iterations") is None


def test_demo_notices_changed_files(tmp_path):
    (tmp_path / "a").write_text("1")
    before = demo._hash(str(tmp_path))
    assert demo._hash(str(tmp_path)) == before
    (tmp_path / "a").write_text("2")
    assert demo._hash(str(tmp_path)) != before
