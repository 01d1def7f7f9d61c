"""Figures: what is measured is compared with a slow second way, what is drawn with pixels and texts."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from plot_records import HEIGHT, WIDTH, damage, write_evaluation

from flmm.cli.main import main
from flmm.datasets.captions import Caption, Segment
from flmm.evaluation.drawings import COLOURS
from flmm.evaluation.plots import data, heads, layers, lengths, maps
from flmm.evaluation.plots.cards import Cards, extremes, lined, picture_folder, places
from flmm.evaluation.plots.compare import draw_comparison, run_names
from flmm.evaluation.plots.figures import as_image, as_svg, save_figure
from flmm.evaluation.plots.page import add_phrases
from flmm.evaluation.plots.scene import draw_scene
from flmm.evaluation.records import read_records
from flmm.evaluation.report import Report
from flmm.models.backbone import Reading


def texts(figure):
    """All that is written in a figure."""
    from matplotlib.text import Text

    return " | ".join(text.get_text() for text in figure.findobj(Text) if text.get_text())


# what is measured


def test_a_map_is_cut_where_its_parts_vary_least():
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.random(12)
        cuts = [values >= limit for limit in np.sort(values)[1:]]
        best = min(cuts, key=lambda high: high.sum() * values[high].var() + (~high).sum() * values[~high].var())
        assert heads.attended_cells(torch.tensor(values).view(3, 4)).flatten().tolist() == best.tolist()
    assert heads.attended_cells(torch.ones(2, 3)).all()


def test_iou_of_cells_is_that_of_pixels():
    rng = np.random.default_rng(1)
    pixels = torch.tensor(rng.random((1, 12, 20)) < 0.4)
    cells = torch.tensor(rng.random((1, 3, 5)) < 0.5)
    painted = cells.repeat_interleave(4, 1).repeat_interleave(4, 2)
    expected = (painted & pixels).sum() / (painted | pixels).sum()
    shares = heads.cell_shares(pixels, torch.zeros(3, 5))
    assert float(heads.soft_iou(cells, shares)) == pytest.approx(float(expected))


def test_what_cells_can_reach_is_the_best_of_all_choices():
    shares = torch.tensor(np.random.default_rng(2).random((1, 2, 4)) ** 2).float()
    choices = [torch.tensor([number >> bit & 1 for bit in range(8)]).view(1, 2, 4) for number in range(1, 256)]
    best = max(float(heads.soft_iou(choice, shares)) for choice in choices)
    assert float(heads.best_iou(shares)) == pytest.approx(best)


class TwoTokens:
    """Stands in for a Reader: one phrase of two tokens, two layers, two heads; reads what it is asked for.

    Head (1, 0) sees the upper left quarter with its first token and the upper right one with its second one: only the
    larger of both finds the upper half as well as their mean does. Head (0, 1) sees the lower half.
    """

    backbone = SimpleNamespace(views_include_padding=True)

    def __call__(self, samples):
        (sample,) = samples
        assert sample["mask_ids"].tolist() == [-1, 0, 1, -1]  # each token is read alone
        view = torch.full((2, 2, 2, 4, 4), 0.01)
        view[1, 0, 0, :2, :2] = view[1, 0, 1, :2, 2:] = 1
        view[0, 1, :, 2:] = 1
        return [Reading([view], torch.zeros(2, 2, 1), sample["mask_ids"])]


def two_tokens():
    upper = torch.zeros(1, 16, 16)
    upper[0, :8] = 1
    frame = {"height": 16, "width": 16}
    around = {"before_height": 0, "before_width": 0}
    meta = {"image_shape": frame, "padded_shape": frame, "padding": around}
    return {"mask_ids": torch.tensor([-1, 0, 0, -1]), "gt_masks": upper, "meta_data": meta}


def test_heads_are_measured_one_by_one_with_both_merges():
    sample = two_tokens()
    scores = heads._scores(TwoTokens(), sample)
    for merge in heads.MERGES:
        (iou,) = scores[merge]
        assert iou.shape == (2, 2, 1)
        assert float(iou[1, 0]) == 1
        assert float(iou[0, 1]) == 0
        assert float(iou[0, 0]) == 0.5  # a map without a difference is all of the picture
    assert float(scores["reachable"][0]) == 1
    assert sample["mask_ids"].tolist() == [-1, 0, 0, -1]


def test_padding_is_no_part_of_what_heads_see():
    sample = two_tokens()
    sample["meta_data"] |= {"padded_shape": {"height": 32, "width": 16}}
    views, rows = heads.token_maps(TwoTokens(), sample)
    assert views[0].shape == (2, 2, 2, 2, 4)
    assert [row.tolist() for row in rows] == [[0, 1]]


def head_scores_of(size):
    means = torch.linspace(0.1, 0.6, size[0] * size[1]).view(size)
    return heads.HeadScores({"mean": [means], "max": [means / 2]}, [0.8], 30)


def test_heat_maps_say_which_head_is_best():
    scores = head_scores_of((4, 8))
    assert scores.best(1) == [("mean", 0, 3, 7, pytest.approx(0.6))]
    said = texts(heads.draw_heads(scores, "tiny"))
    assert "best: layer 3, head 7, IoU 0.60, mean of all 0.35" in said
    assert "0.30" in said  # a value in a cell
    assert "30 phrases" in said
    many = texts(heads.draw_heads(head_scores_of((32, 32)), "7B"))
    assert "best: layer 31, head 31" in many
    with pytest.raises(ValueError, match="no sample"):
        heads.head_scores(SimpleNamespace(backbone=None), [])


def config(**model):
    return SimpleNamespace(model=model)


def test_layer_weights_are_read_from_the_checkpoint_alone(tmp_path):
    file = tmp_path / "head.pth"
    torch.save({layers.KEY: torch.tensor([0.0, np.log(3.0)])}, file)
    named, shares = layers.layer_weights(config(text_layers=[-1, 5]), file)
    assert (named, shares.tolist()) == ([5, -1], pytest.approx([0.25, 0.75]))
    assert layers.layer_weights(config(), file)[0] == [0, 1]
    assert "largest: layer -1, 75.0 %" in texts(layers.draw_layers(named, shares, "tiny"))
    with pytest.raises(ValueError, match="weighs 2 layers"):
        layers.layer_weights(config(text_layers=[1]), file)
    torch.save({"other": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="no text_layer_weights"):
        layers.layer_weights(config(), file)


# what is drawn of records


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("evaluations")
    return write_evaluation(root), write_evaluation(root, "better", gain=3)


def test_histograms_by_length_and_size(folders):
    said = texts(lengths.draw_lengths(read_records(folders[0]), "run"))
    for words in (
        "16 phrases, mean",
        "2 words",
        "3-4 words",
        "small (under 32² pixels)",
        "refined mask",
        "coarse mask",
    ):
        assert words in said
    assert said.index("small") < said.index("medium")
    with pytest.raises(ValueError, match="no phrase"):
        lengths.draw_lengths([], "run")


def test_phrases_are_ranked_and_absent_ones_left_out(folders):
    records = read_records(folders[0])
    found = places(records, "refined")
    assert (found[0].record, found[-1].iou) == (0, 1.0)
    records[0]["phrases"][0]["area"] = 0
    assert len(places(records, "refined")) == len(found) - 1
    assert {place.words for place in places(records, "refined", "length", "2 words")} == {"the ground"}
    assert extremes([1, 2, 3, 4, 5], 2) == ([1, 2], [5, 4])
    assert extremes([1, 2, 3], 2) == ([1, 2], [3])
    assert extremes([1], 2) == ([1], [])


def test_a_card_shows_what_was_found_and_the_truth(folders):
    cards, place = Cards(folders[0]), places(read_records(folders[0]), "refined")[0]
    assert (place.record, place.phrase) == (0, 1)  # 7 rows of the 16 below are missed
    card = cards.card(place)
    scale = card.picture.width / WIDTH
    pixel = card.picture.getpixel
    assert pixel((round(32 * scale), round(43 * scale)))[2] > 120 > pixel((round(32 * scale), round(43 * scale)))[0]
    assert len(set(pixel((round(32 * scale), round(36 * scale))))) == 1  # grey: true, but not found
    assert pixel((round(32 * scale), round(32 * scale))) == COLOURS[0]
    assert card.text.endswith("the ground")


def test_a_line_is_as_wide_as_two_pixels():
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 5:15] = True
    drawn = np.asarray(lined(Image.new("RGB", (20, 20)), mask, (9, 9, 9)))[..., 0] == 9
    assert drawn.sum() == 100 - 36
    assert not drawn[~mask].any()


def test_records_without_what_is_drawn(folders, tmp_path):
    assert picture_folder(folders[0]).name == "val2017"
    old = write_evaluation(tmp_path, pictures=1)
    damage(old, lambda record: record["phrases"][0].pop("truth"))
    place = places(read_records(old), "refined")[-1]
    damage(old, lambda record: [phrase.pop("truth", None) for phrase in record["phrases"]])
    with pytest.raises(ValueError, match="no true masks"):
        Cards(old).card(place)
    with pytest.raises(FileNotFoundError, match="pass --images"):
        Cards(old, tmp_path / "elsewhere")
    (old.parent / "png.json").unlink()
    with pytest.raises(FileNotFoundError, match="pass --images"):
        picture_folder(old)


def test_two_runs_are_compared_phrase_by_phrase(folders):
    records = [read_records(folder) for folder in folders]
    said = texts(draw_comparison(*records, ("one", "two")))
    assert "better: 14" in said
    assert "worse: 0" in said
    assert "all phrases (16)" in said
    assert run_names(folders) == ("run", "better")
    assert run_names(("a/x", "a/x")) == ("a/x", "a/x")
    with pytest.raises(ValueError, match="8 pictures in one folder, 7"):
        draw_comparison(records[0], records[1][:7], ("one", "two"))


def test_every_figure_of_a_page_leads_to_its_pictures(folders, tmp_path):
    report = Report("run")
    add_phrases(report, folders[0], number=2)
    page = report.write(tmp_path / "report.html").read_text()
    links = re.findall(r'<a href="#([^"]+)">[\d.]+</a>', page)
    assert len(links) == len(set(links)) == 9
    assert sorted(links) == sorted(re.findall(r'<h3 id="([^"]+)"', page))
    assert page.count("<figcaption>") == 9 * 4
    assert "<figcaption>100 %  the ground</figcaption>" in page
    assert page.count("<svg") == 1


def test_figures_become_files(folders, tmp_path):
    figure = layers.draw_layers([0, 1], np.array([0.5, 0.5]), "tiny")
    assert save_figure(figure, tmp_path / "new/layers.svg").read_text().count("<svg") == 1
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["layers.svg"]
    assert as_image(figure, dots=50).size == (250, 130)
    assert "</svg>" in as_svg(figure)
    with pytest.raises(ValueError, match=r"end it in \.png"):
        save_figure(figure, tmp_path / "layers.txt")


def test_the_commands_of_records(folders, tmp_path, capsys):
    one, two = map(str, folders)
    assert main(["plot", "lengths", one, "--out", str(tmp_path / "lengths.png")]) == 0
    assert main(["plot", "worst", one, "--number", "3", "--out", str(tmp_path / "worst.png")]) == 0
    sheets = ["--number", "2", "--pictures", str(tmp_path / "changes.png")]
    assert main(["plot", "compare", one, two, "--out", str(tmp_path / "compare.png"), *sheets]) == 0
    assert {file.name for file in tmp_path.glob("*.png")} == {
        f"{n}.png" for n in ("lengths", "worst", "compare", "changes")
    }
    assert capsys.readouterr().out.count("written: ") == 4
    assert main(["plot", "worst", str(tmp_path)]) == 1
    assert "no records in" in capsys.readouterr().err
    assert main(["plot", "worst", one, "--number", "0"]) == 1
    assert "--number 0: give at least 1" in capsys.readouterr().err


# what is drawn of data


def test_small_multiples_have_a_map_for_each_head():
    image = Image.new("RGB", (40, 20))
    values = torch.zeros(3, 4, 2, 4)
    values[2, 1, 0, 0] = 1
    plain, framed = maps.draw_maps(image, values), maps.draw_maps(image, values, framed=(2, 1))
    assert plain.size == (56 + 4 * 114, 24 + 3 * 58)
    assert plain.getpixel((56 + 114 + 6, 24 + 2 * 58 + 6))[0] > 150 > plain.getpixel((56 + 6, 24 + 6))[0]
    assert framed != plain


def caption():
    words = [("there is", ()), ("a dog", (7,)), ("on", ()), ("the sand", (8, 9))]
    return Caption("0.jpg", "0.png", tuple(Segment(text, ids, len(ids) > 1) for text, ids in words))


def test_a_caption_has_its_phrases_where_they_stand():
    text, spans = data.caption_text(caption())
    assert text == "there is a dog on the sand"
    assert [text[slice(*span)] for span in spans] == ["a dog", "the sand"]


def test_segments_have_the_colors_of_their_phrases():
    painted = data._painted(np.array([[7, 8], [9, 5]]), caption())
    colors = [painted.getpixel(place) for place in ((0, 0), (1, 0), (0, 1), (1, 1))]
    assert colors[:3] == [COLOURS[0], COLOURS[1], COLOURS[1]]
    assert len(set(colors[3])) == 1


def sample():
    masks = torch.zeros(2, HEIGHT, WIDTH, dtype=torch.uint8)
    masks[0, :12], masks[1, 24:] = 1, 1
    ids = torch.tensor([1, -200, -200, -200, -200, 5, 6, 7])
    return {
        "input_ids": ids,
        "mask_ids": torch.tensor([-1, -1, -1, -1, -1, 0, -1, 1]),
        "labels": torch.where(ids > 4, ids, -100),
        "image": Image.new("RGB", (WIDTH, HEIGHT)),
        "gt_masks": masks,
        "phrases": ["a dog", "the sand"],
    }


def test_tokens_bear_the_colors_of_their_phrases():
    tokenizer = SimpleNamespace(convert_ids_to_tokens=lambda token: f"t{token}")
    found = data._tokens(sample(), tokenizer)
    assert [words for words, _ in found] == ["t1", "<image> × 4", "t5", "t6", "t7"]
    assert [color for _, color in found] == [None, None, COLOURS[0], None, COLOURS[1]]
    assert data.draw_tokens(sample(), tokenizer, width=120).height > data.draw_tokens(sample(), tokenizer).height


def test_counts_of_a_data_set():
    counts = data.data_counts([sample(), sample()], limit=1)
    assert counts == {"phrases": [2], "tokens": [3], "words": [2, 2], "area": [25.0, 50.0]}
    assert "1 captions, 2 phrases" in texts(data.draw_counts(counts, "shapes"))
    assert data.draw_truth(sample()).height > 100


def test_a_scene_has_all_masks_and_the_words_in_their_colors():
    masks = np.asarray(sample()["gt_masks"], dtype=bool)
    found = SimpleNamespace(image=sample()["image"], masks=masks, text="a dog on the sand", spans=[(0, 5), (9, 17)])
    drawn = draw_scene(found, "What is there?", width=200)
    bottom = drawn.height - 150  # the picture is 200 x 150
    assert drawn.getpixel((100, bottom)) == COLOURS[0]
    assert drawn.getpixel((100, drawn.height - 1)) == COLOURS[1]
    seen = {color for _, color in drawn.crop((0, 0, 200, bottom)).getcolors(10000)}
    assert {COLOURS[0], COLOURS[1]} <= seen
