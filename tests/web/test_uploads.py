"""Pictures that strangers send."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from flmm.web.limits import Limits, RefusedError
from flmm.web.uploads import picture_of_bytes, picture_of_url

LIMITS = Limits(upload_megabytes=0.5, megapixels=4)


def written(image, format="PNG", **options):
    content = io.BytesIO()
    image.save(content, format, **options)
    return content.getvalue()


def bomb(width, height):
    """A PNG whose header claims more pixels than its few bytes hold."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


RED = Image.new("RGB", (40, 30), (200, 20, 20))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "no_picture"),
        (b"not a picture", "no_picture"),
        (SVG, "no_picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no_picture"),
        (written(RED, "PPM"), "no_picture"),
        (written(RED)[:-40], "damaged_picture"),
        (written(Image.effect_noise((300, 300), 90), "JPEG")[:2000], "damaged_picture"),
        (written(RED.convert("F"), "TIFF"), "wide_pixels"),
        (written(RED.convert("I"), "TIFF"), "wide_pixels"),
        (bomb(3000, 3000), "large_picture"),
        (bomb(60000, 60000), "bomb"),
        (b"\x89PNG" + b"\0" * 600_000, "large_file"),
    ],
)
def test_what_is_refused(content, name):
    with pytest.raises(RefusedError) as refusal:
        picture_of_bytes(content, LIMITS)
    assert refusal.value.name == name
    assert refusal.value.text("zh") != refusal.value.text("en")
    assert "{" not in refusal.value.text("en") + refusal.value.text("zh")


def test_pictures_of_every_kind_become_rgb():
    frames = [Image.new("RGB", (40, 30), color) for color in ("red", "blue")]
    turned = Image.Exif()
    turned[0x0112] = 6
    cases = {
        "animated": written(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "16 bit": written(Image.fromarray(np.full((30, 40), 0x8000, np.uint16))),
        "CMYK": written(RED.convert("CMYK"), "JPEG"),
        "palette": written(RED.convert("P")),
        "clear": written(Image.new("RGBA", (40, 30), (0, 0, 0, 0))),
        "WebP": written(RED, "WEBP", lossless=True),
        "turned": written(RED.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=turned),
    }
    found = {name: picture_of_bytes(content, LIMITS) for name, content in cases.items()}
    assert {image.mode for image in found.values()} == {"RGB"}
    assert {image.size for image in found.values()} == {(40, 30)}
    assert found["animated"].getpixel((5, 5)) == (255, 0, 0) or found["animated"].getpixel((5, 5))[0] > 240
    assert found["16 bit"].getpixel((5, 5)) == (128, 128, 128)
    assert found["clear"].getpixel((5, 5)) == (255, 255, 255)
    assert found["CMYK"].getpixel((5, 5))[0] > 150 > found["CMYK"].getpixel((5, 5))[1]


def test_a_large_picture_is_made_smaller():
    image = picture_of_bytes(written(Image.new("L", (2500, 1000))), LIMITS)
    assert image.size == (2048, 819)


@pytest.mark.parametrize(
    "url", [None, 3, "", "http://example.com/a.png", "file:///etc/passwd", "data:image/png;base64,***"]
)
def test_an_address_is_never_fetched(url):
    with pytest.raises(RefusedError) as refusal:
        picture_of_url(url, LIMITS)
    assert refusal.value.name == "no_picture"


def test_a_data_url_is_read():
    url = f"data:image/png;base64,{base64.b64encode(written(RED)).decode()}"
    assert picture_of_url(url, LIMITS).getpixel((3, 3)) == (200, 20, 20)
