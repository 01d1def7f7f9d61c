"""Every LMM family in turn, for tests that hold for all of them."""

import pytest
from families import FAMILIES, build


@pytest.fixture(scope="module", params=list(FAMILIES))
def built(request, tmp_path_factory):
    """A family in a folder of its own."""
    root = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        yield build(request.param, root)
