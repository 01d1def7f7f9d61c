"""The examples in the docstrings of the public API run."""

import doctest

import pytest
from PIL import Image

import flmm
from flmm import Conversation, GroundingModel, Reply

PARTS = [
    flmm.load,
    GroundingModel.ground,
    GroundingModel.chat,
    GroundingModel.answer,
    GroundingModel.save_pretrained,
    Conversation,
    Reply.ground,
]


@pytest.fixture(scope="module")
def model():
    return flmm.load()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__qualname__)
def test_the_example_runs(part, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (96, 64), "red").save("photo.jpg")
    (test,) = doctest.DocTestFinder(recurse=False).find(part, globs={"flmm": flmm, "model": model})
    assert len(test.examples) >= 2
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0
