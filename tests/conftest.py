import gc

import pytest

import flmm  # noqa: F401  applies the patches that mmdet and mmseg need before a test module imports them


@pytest.fixture(scope="module")
def quick_collection():
    """MMEngine collects garbage for each data set it makes, which takes 0.4 s over all that is imported by then."""
    gc.freeze()
    yield
    gc.unfreeze()
