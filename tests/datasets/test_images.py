"""Every entrance reads a picture in the same way, whatever it is stored as."""

import io
import struct
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from flmm.datasets.images import as_annotated, as_picture, as_rgb, load_image, read_image
from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.padding import rgb_arrays
from flmm.datasets.sample import SampleBuilder
from flmm.datasets.transforms import PILLoadImageFromFile

ROOT = Path(__file__).parents[2]

RAMP = np.linspace(0, 65535, 20 * 40).reshape(20, 40).astype(np.uint16)
WHITE = [255, 255, 255]


@pytest.fixture
def picture():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8))


def save(image, path, orientation=None):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, exif=exif, quality=95)
    return path


class Seen:
    """An image processor that keeps what it is given."""

    def preprocess(self, image):
        return {"pixel_values": [image], "meta_datas": [{}]}


def sample_picture(image):
    return SampleBuilder.process(SimpleNamespace(image_processor=Seen(), image2tensor=False), image)["pixel_values"]


def entrances(path):
    """The picture as a path, an object, a sample and the kinds of data sets see it."""
    stored = read_image(path)
    size = (stored.height, stored.width)
    results = {"img_path": str(path)}
    return {
        "path": as_picture(path),
        "object": as_picture(Image.open(path)),
        "sample": sample_picture(Image.open(path)),
        "PNG data set": as_annotated(stored, size, "x"),
        "RefCOCO": PILLoadImageFromFile().transform(dict(results))["img"],
        "RefCOCO with size": PILLoadImageFromFile().transform({**results, "height": size[0], "width": size[1]})["img"],
    }


def assert_all(path, expected):
    for name, found in entrances(path).items():
        np.testing.assert_array_equal(np.asarray(found.convert("RGB")), expected, err_msg=name)


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_16_bit_greys_are_scaled_at_every_entrance(ending, tmp_path):
    Image.fromarray(RAMP).save(path := tmp_path / f"grey.{ending}")
    assert_all(path, np.stack([RAMP >> 8] * 3, -1))
    np.testing.assert_array_equal(rgb_arrays(Image.open(path))[0][..., 0], RAMP >> 8)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_numbers_of_no_known_range_are_refused_at_every_entrance(kind, tmp_path):
    Image.fromarray(RAMP.astype(kind)).save(path := tmp_path / "numbers.tiff")
    calls = [
        lambda: as_picture(path),
        lambda: as_picture(Image.open(path)),
        lambda: rgb_arrays(Image.open(path)),
        lambda: as_annotated(read_image(path), (20, 40), "x"),
        lambda: PILLoadImageFromFile().transform({"img_path": str(path)}),
        lambda: CustomLlavaImageProcessor().preprocess(Image.open(path)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="32-bit numbers .* of no known range: save it in 8 bits"):
            call()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "I;16"])
def test_what_is_transparent_is_white_at_every_entrance(mode, picture, tmp_path):
    opacity = np.full((20, 40), 255, np.uint8)
    opacity[:10] = 0
    expected = np.array(picture)
    if mode == "RGBA":
        image, key = Image.fromarray(np.dstack([expected, opacity])), None
    elif mode == "LA":
        grey = np.array(picture.convert("L"))
        image, key = Image.fromarray(np.dstack([grey, opacity]), "LA"), None
        expected = np.stack([grey] * 3, -1)
    else:  # one color is declared transparent
        values = np.where(opacity, 100, 7)
        image = (
            Image.fromarray((values << 8).astype(np.uint16))
            if mode == "I;16"
            else Image.fromarray(values.astype(np.uint8))
        )
        if mode == "P":
            image.putpalette([value for value in range(256) for _ in range(3)])
        key, expected = 7 << 8 if mode == "I;16" else 7, np.full((20, 40, 3), 100)
    expected[:10] = WHITE
    image.save(path := tmp_path / "clear.png", **({} if key is None else {"transparency": key}))
    assert_all(path, expected)


def test_half_transparent_colors_are_mixed_with_white():
    pixel = Image.new("RGBA", (1, 1), (200, 0, 0, 128))
    assert np.abs(np.asarray(as_rgb(pixel))[0, 0].astype(int) - [227, 127, 127]).max() <= 1


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "YCbCr", "HSV"])
def test_other_modes_are_what_pil_makes_of_them(mode, picture):
    image = picture.convert(mode)
    np.testing.assert_array_equal(np.asarray(as_picture(image)), np.asarray(image.convert("RGB")))


def test_arrays():
    color = np.random.default_rng(0).integers(0, 255, (20, 40, 3), dtype=np.uint8)
    clear = np.zeros((20, 40, 1), np.uint8)
    for array, expected in {
        "color": (color, color),
        "16 bits": (color.astype(np.uint16) << 8, color),
        "big-endian": ((color.astype(np.uint16) << 8).astype(">u2"), color),
        "backwards": (color[::-1], color[::-1]),
        "grey": (color[..., 0], color[..., [0, 0, 0]]),
        "one plane": (color[..., :1], color[..., [0, 0, 0]]),
        "transparent": (np.dstack([color, clear]), np.full_like(color, 255)),
    }.values():
        np.testing.assert_array_equal(np.asarray(as_picture(array)), expected)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((20, 40, 3)),
        np.zeros((20, 40, 3), bool),
        np.zeros((20, 40, 3), np.int64),
        np.zeros((3, 20, 40), np.uint8),
        np.zeros((1, 20, 40, 3), np.uint8),
        np.zeros((0, 40, 3), np.uint8),
        np.zeros(40, np.uint8),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array):
    with pytest.raises(ValueError, match=r"array \(.*\) of .*: a picture must be \[H, W, 3\]"):
        as_picture(array)


@pytest.mark.parametrize("thing", [None, b"bytes", 3, io.BytesIO(), [np.zeros((2, 2, 3), np.uint8)]])
def test_other_things_are_refused(thing):
    with pytest.raises(ValueError, match="is no picture: give a file, a PIL picture, or an array"):
        as_picture(thing)


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(ValueError, match=r"is 0 x 5 \(width x height\): it has no pixel"):
        as_picture(Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_once(orientation, tmp_path, picture):
    turns = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}  # how a camera stores what it saw
    stored = picture
    for turn in turns[orientation]:
        stored = stored.transpose(turn)
    path = save(stored, tmp_path / "turned.png", orientation)
    for found in (load_image(path), as_picture(Image.open(path)), as_picture(as_picture(Image.open(path)))):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(picture))


def test_annotations_decide_the_orientation(tmp_path, picture):
    path = save(picture.transpose(Image.Transpose.ROTATE_90), tmp_path / "turned.png", orientation=6)
    stored = read_image(path)
    as_stored = as_annotated(stored, (40, 20), "x")
    np.testing.assert_array_equal(np.asarray(as_stored), np.asarray(stored))
    assert as_picture(as_stored).size == (20, 40)  # grounding a sample's picture does not turn it
    np.testing.assert_array_equal(np.asarray(as_annotated(stored, (20, 40), "x")), np.asarray(picture))
    with pytest.raises(ValueError, match="a.jpg: the image is 40 x 20 .* its masks are 41 x 20"):
        as_annotated(stored, (41, 20), "a.jpg")


def exif(*entries):
    """EXIF data of (tag, type, count, 4 bytes or more)."""
    body, data, offset = struct.pack("<H", len(entries)), b"", 8 + 2 + 12 * len(entries) + 4
    for tag, kind, count, value in entries:
        field = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", offset + len(data))
        data += value if len(value) > 4 else b""
        body += struct.pack("<HHI", tag, kind, count) + field
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + body + struct.pack("<I", 0) + data


TURN = (0x0112, 3, 1, struct.pack("<H", 6))
DAMAGE = {
    "rational (-1, 0)": (0x9204, 10, 1, struct.pack("<ii", -1, 0)),
    "width as rational": (0x0100, 5, 1, struct.pack("<II", 10, 0)),
    "negative long": (0x0100, 9, 1, struct.pack("<i", -5)),
    "infinite": (0x011A, 12, 1, struct.pack("<d", float("inf"))),
    "pointer to nowhere": (0x8769, 4, 1, struct.pack("<I", 99999)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_exif_entries_do_not_matter(damage, picture, tmp_path):
    picture.save(path := tmp_path / "phone.jpg", exif=exif(TURN, DAMAGE[damage]))
    assert as_picture(path).size == as_picture(Image.open(path)).size == (20, 40)
    assert as_annotated(read_image(path), (40, 20), "x").size == (20, 40)


@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0" + bytes(range(60)), exif((0x0112, 2, 2, b"6\0"))])
def test_exif_data_without_an_orientation(block, picture, tmp_path):
    picture.save(path := tmp_path / "phone.jpg", exif=block)
    assert as_picture(path).size == (40, 20)


def test_a_missing_picture_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"^no picture a\.jpg in {tmp_path}: check its path$"):
        as_picture("a.jpg")
    with pytest.raises(FileNotFoundError, match=rf"^no picture {tmp_path}/a\.jpg: check its path$"):
        as_picture(tmp_path / "a.jpg")
    known = "docs/images/first.png"
    with pytest.raises(FileNotFoundError, match=rf"{known} in {tmp_path}: name {ROOT / known}, which is in the repo"):
        as_picture(known)
    monkeypatch.setattr("flmm.paths.ROOT", tmp_path)
    with pytest.raises(FileNotFoundError, match="`flmm data shapes` makes these pictures"):
        as_picture("data/shapes/val2017/000000500003.jpg")


def test_what_cannot_be_read_is_told_with_its_cause(tmp_path, picture):
    with pytest.raises(FileNotFoundError, match="no image .*nothing.jpg"):
        load_image(tmp_path / "nothing.jpg")
    path = save(picture.resize((400, 400)), tmp_path / "cut.jpg")
    path.write_bytes(path.read_bytes()[:3000])
    for read in (lambda: load_image(path), lambda: as_picture(Image.open(path))):
        with pytest.raises(ValueError, match="cut.jpg cannot be decoded.*truncated"):
            read()
    for content, message in (
        (b"<html>not found</html>", "is a text or web page"),
        (b'{"error": "forbidden"}', "is a text or web page"),
        (b"", "is an empty file"),
        (b"\0\0\0\x18ftypheic" + b"\0" * 99, "is a HEIC picture or a film, which cannot be read: save it as JPEG"),
        (b"PK\x03\x04 a zip", "is no picture of a known format"),
    ):
        (tmp_path / "other.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=f"other.jpg {message}"):
            load_image(tmp_path / "other.jpg")
    with pytest.raises(ValueError, match="is a folder: name a picture in it"):
        load_image(tmp_path)


def test_a_picture_on_a_server_that_does_not_answer():
    with pytest.raises(ValueError, match=r"http://127.0.0.1:9/a.jpg cannot be read .*: download it and name the file"):
        load_image("http://127.0.0.1:9/a.jpg")


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_where_both_turns_fit_each_data_set_has_its_rule(picture, tmp_path, orientation):
    """A turn by half leaves the size as it is, as any turn of a square does."""
    square = picture.crop((0, 0, 20, 20))
    stored = read_image(save(square, tmp_path / "turned.png", orientation))
    shown = np.asarray(load_image(tmp_path / "turned.png"))
    np.testing.assert_array_equal(np.asarray(as_annotated(stored, (20, 20), "x")), np.asarray(square))
    np.testing.assert_array_equal(np.asarray(as_annotated(stored, (20, 20), "x", as_shown=True)), shown)
    assert np.array_equal(shown, np.asarray(square)) == (orientation == 1)


@pytest.mark.parametrize("path", ["file:///tmp/a.jpg", "gs://bucket/a.jpg", "data/train/http://host/a.jpg"])
def test_storage_that_nobody_knows_is_named(path):
    with pytest.raises(ValueError, match=r"a\.jpg cannot be read .*: download it and name the file"):
        as_picture(path)
