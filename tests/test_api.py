"""Grounding in Python and on the command line, with a model that needs no weights."""

import base64
import io
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from words import word_tokenizer

import flmm  # noqa: E402
from flmm import api  # noqa: E402
from flmm.boxes import object_boxes  # noqa: E402
from flmm.cli.main import main  # noqa: E402
from flmm.config import read_config  # noqa: E402
from flmm.evaluation.drawings import INK, coloured_words, font, letters  # noqa: E402
from flmm.grounding import masks_and_scores  # noqa: E402

CONFIG = str(Path(__file__).parent / "helpers" / "fake_config.py")
TEXT = "The red circle is next to a big dog."
PHRASES = ["the red circle", "a big dog"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    save_file({"mask_head.weight": torch.zeros(2, 2), "mask_head.bias": torch.zeros(2)}, path)
    return str(path)


@pytest.fixture(scope="module")
def model(checkpoint):
    return flmm.load(CONFIG, checkpoint)


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 100, 3), dtype=np.uint8))


def test_arrays_of_a_grounding(model, image):
    result = model.ground(image, TEXT, PHRASES)
    assert result.phrases == ["The red circle", "a big dog"]  # as they stand in the text
    assert result.masks.shape == result.coarse_masks.shape == (2, 60, 100)
    assert result.masks.dtype == result.coarse_masks.dtype == bool
    assert result.boxes.shape == (2, 4)
    assert result.attention_maps.shape == (2, 4, 6, 6)
    np.testing.assert_array_equal(result.boxes, object_boxes(result.masks))
    assert ((result.scores > 0.5) & (result.scores < 1)).all()
    # The view is 84 x 84 with the 100 x 60 picture on 84 x 50 of it: padding is cut off.
    height, width = result.attention.shape[1:]
    assert width / height == pytest.approx(84 / 50, rel=0.02)
    # each phrase's disc attracts attention: left and right of the middle
    assert result.attention[0, :, : width // 2].sum() > result.attention[0, :, width // 2 :].sum()
    assert result.attention[1, :, : width // 2].sum() < result.attention[1, :, width // 2 :].sum()


def test_a_word_that_the_lmm_does_not_know_is_warned_of_once(checkpoint, image, caplog):
    model = flmm.load(CONFIG, checkpoint)
    model.builder.tokenizer = word_tokenizer("a", "dog")
    model.builder.tokenizer.unk_token = "<unk>"
    for _ in range(2):
        model.ground(image, "a zebra", ["a zebra"])
    model.ground(image, "a dog", ["a dog"])
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "flmm.api"]
    assert warning.startswith("the LMM does not know zebra: it reads <unk> for each")


def test_words_alone_are_one_phrase(model, image):
    assert model.ground(image, TEXT, "a big dog").phrases == ["a big dog"]
    sample = model.builder.ground(image, TEXT, "a big dog")
    assert sample["phrases"] == ["a big dog"]
    assert sample["mask_ids"].max() == 0


def test_score_is_the_mean_probability_inside_the_mask():
    logits = torch.tensor([[[2.0, -1.0], [1.0, -3.0]], [[-1.0, -1.0], [-1.0, -1.0]]])
    masks, scores = masks_and_scores(logits, (2, 2))
    assert masks.tolist() == [[[True, False], [True, False]], [[False, False], [False, False]]]
    assert scores[0] == pytest.approx((1 / (1 + np.exp(-2)) + 1 / (1 + np.exp(-1))) / 2)
    assert scores[1] == 0


def test_masks_at_another_probability(model, image):
    result = model.ground(image, TEXT, PHRASES)
    same, small = result.at(0.5), result.at(0.9)
    np.testing.assert_array_equal(same.masks, result.masks)
    np.testing.assert_array_equal(same.scores, result.scores)
    probabilities = 1 / (1 + np.exp(-result.logits))
    assert result.logits.shape == result.masks.shape
    np.testing.assert_array_equal(small.masks, probabilities > 0.9)
    np.testing.assert_array_equal(small.boxes, object_boxes(small.masks))
    assert (small.masks.sum((1, 2)) < result.masks.sum((1, 2))).all()
    for index, mask in enumerate(small.masks):
        assert small.scores[index] == pytest.approx(probabilities[index][mask].mean() if mask.any() else 0, abs=1e-5)
    with pytest.raises(ValueError, match=r"threshold is 0: .*between 0 and 1"):
        result.at(0)


def test_a_notebook_shows_one_line_and_a_picture(model, image):
    result = model.ground(image, TEXT, PHRASES)
    line = repr(result)
    assert "\n" not in line
    assert line.startswith("Grounding(2 phrases in 100 x 60 pixels: 'The red circle' 0.")
    page = result._repr_html_()
    data = re.search('src="data:image/png;base64,([^"]+)"', page)[1]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == result.draw().size
    assert "&#x27;a big dog&#x27;" in page


def test_exif_orientation_is_obeyed(model, image, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert model.ground(tmp_path / "turned.jpg", TEXT).masks.shape == (1, 100, 60)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "LA", "CMYK", "I;16"])
def test_other_picture_modes(model, image, mode):
    picture = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    assert model.ground(picture, TEXT, PHRASES).image.mode == "RGB"


def test_arrays_as_pictures(model, image):
    assert model.ground(np.asarray(image), TEXT).masks.shape == (1, 60, 100)
    with pytest.raises(ValueError, match="uint8"):
        model.ground(np.zeros((60, 100, 3)), TEXT)


def test_large_pictures_are_grounded_small_and_masks_enlarged(model, image, monkeypatch):
    monkeypatch.setattr(api, "MAX_SIDE", 50)
    sizes = []
    monkeypatch.setattr(model.model, "ground", lambda s, g=model.model.ground: sizes.append(s["image"].size) or g(s))
    result = model.ground(image, TEXT, PHRASES)
    assert sizes == [(50, 30)]
    assert result.masks.shape == (2, 60, 100)


def test_bad_input_says_what_to_do(model, image, tmp_path, checkpoint):
    with pytest.raises(ValueError, match="not in the text"):
        model.ground(image, TEXT, ["a cat"])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.jpg"):
        model.ground(tmp_path / "nowhere.jpg", TEXT)
    with pytest.raises(FileNotFoundError, match=r"head\.pth"):
        flmm.load(CONFIG, tmp_path / "head.pth")
    with pytest.raises(FileNotFoundError, match="config"):
        flmm.load(tmp_path / "config.py", checkpoint)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("gpu", "unknown device 'gpu': use cpu, cuda"),
        ("cuda:99", r"device cuda:99 is not there \(\d+ GPUs are usable\)"),
    ],
)
def test_devices_that_are_not_there(device, message, checkpoint):
    with pytest.raises(ValueError, match=message):
        flmm.load(CONFIG, checkpoint, device)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.py", b"model = dict(\n", r"a.py has a syntax error in line 1"),
        ("a.py", b"x = 1\n", "a.py has no `model`"),
        ("a.py", b"model = dict(type=Nothing)\n", "a.py cannot be run .*Nothing"),
        ("a.jpg", b"\xff\xd8\xff", "a.jpg is no config"),
    ],
)
def test_configs_that_are_broken_are_told_in_a_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path / name)


def test_the_words_of_a_span_are_coloured_where_it_is():
    words = coloured_words("a dog and a dog", [(10, 15)])
    assert [colour == INK for _, colour in words] == [True, True, True, False, False]


def test_letters_that_dejavu_lacks_are_written_in_a_font_that_is_installed(monkeypatch):
    other = str(Path(matplotlib.get_data_path(), "fonts/ttf/STIXGeneral.ttf"))
    letter = min(letters(other) - letters(font().path))
    for installed in ([other], []):
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda files=installed: files)
        font.cache_clear()
        assert font(text=letter).path == (other if installed else font().path)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_of_unknown_range_are_refused(mode, model, tmp_path):
    Image.new(mode, (20, 20)).save(tmp_path / "image.tiff")
    with pytest.raises(ValueError, match=f"image.tiff: .*mode {mode}.* save it in 8 bits"):
        model.ground(tmp_path / "image.tiff", TEXT)


def test_drawing_has_a_row_per_phrase_and_a_column_per_panel(model, image):
    result = model.ground(image, TEXT, PHRASES)
    one = model.ground(image, TEXT, PHRASES[:1])
    wide = result.draw(result.masks)
    assert wide.width - result.draw().width == pytest.approx(232, abs=8)
    assert result.draw().height > one.draw().height + 100
    assert len({*wide.get_flattened_data()} if hasattr(wide, "get_flattened_data") else {*wide.getdata()}) > 100


def test_command(image, checkpoint, tmp_path, capsys, monkeypatch):
    image.save(tmp_path / "image.png")
    out, arrays = tmp_path / "sub/out.png", tmp_path / "out.npz"
    words = ["ground", str(tmp_path / "image.png"), TEXT, "--phrase", PHRASES[0], "--phrase", PHRASES[1]]
    words += ["--config", CONFIG, "--checkpoint", checkpoint]
    assert main([*words, "--out", str(out), "--npz", str(arrays)]) == 0
    assert Image.open(out).width > 900
    assert np.load(arrays)["masks"].shape == (2, 60, 100)
    assert "a big dog" in capsys.readouterr().out
    assert main([*words, "--phrase", "a cat"]) == 1
    assert "'a cat' is not in the text" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "file", "message"),
    [
        ("--out", "out.xyz", "end it in .png"),
        ("--out", "out.psd", "end it in .png"),  # PIL only reads it
        ("--out", "out.xbm", "end it in .png"),  # black and white
        ("--out", "file/out.png", "no folder"),
        ("--npz", "file/out.npz", "no folder"),
        ("--npz", "", "it is a folder"),
    ],
)
def test_results_that_cannot_be_written_are_refused_first(option, file, message, image, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(api, "load", None)
    monkeypatch.chdir(tmp_path)
    image.save("image.png")
    Path("file").touch()
    assert main(["ground", "image.png", TEXT, option, str(tmp_path / file)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert str(tmp_path / file) in error
