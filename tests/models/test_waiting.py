"""A GPU works on while the CPU prepares what comes next, unless a step waits for a value: few steps may."""

import pytest
import torch
from families import build, picture
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal", "aten.is_nonzero")


class Waits(TorchDispatchMode):
    """Counts the operations that need a value of a tensor before they can return."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func.name() in ("aten::index.Tensor", "aten::index_put_", "aten::index_put") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        self.count += by_mask or str(func).startswith(WAITING)
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module", params=["llava15", "qwen2_5_vl", "mgm_hd"])
def built(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield build(request.param, root)


def test_observing_the_decoder_adds_no_wait(built, monkeypatch):
    decoder, waits = built.model.backbone.decoder, Waits()
    forward = decoder.forward

    def counted(**inputs):
        with waits:
            return forward(**inputs)

    monkeypatch.setattr(decoder, "forward", counted)
    with torch.no_grad():
        decoder(**built.model.backbone.tokens(built.sample()).inputs, use_cache=False)
    alone, waits.count = waits.count, 0
    built.model.predict(built.sample())
    assert waits.count == alone <= 1


def test_more_phrases_do_not_wait_more_often(built):
    def count(*phrases):
        sample = built.sample(picture(), "a red ball on the green grass", phrases)
        with Waits() as waits:
            built.model.predict(sample)
        return waits.count

    one, four = count("red"), count("red", "ball", "on", "grass")
    assert 0 < one == four
