"""A page of the embedded model, served once for all tests."""

import pytest

pytest.importorskip("gradio", reason="the page's extra is not installed: make install")

from families import picture
from web_page import png

import flmm
from flmm.web.limits import Limits
from flmm.web.server import serve


@pytest.fixture(scope="session")
def model():
    return flmm.load(device="cpu")


@pytest.fixture(scope="session")
def limits():
    return Limits(upload_megabytes=1, megapixels=4, tokens=24, turns=6, seconds=120)


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    for index, size in enumerate([(168, 168), (168, 120)]):
        (folder / f"{index}.png").write_bytes(png(picture(size)))
    return sorted(folder.iterdir())


@pytest.fixture(scope="session")
def served(model, examples, limits):
    """The page and its address."""
    page, address = serve(model, examples=examples, limits=limits, wait=False)
    yield page, address
    page.close()


@pytest.fixture(scope="session")
def address(served):
    return served[1]
