import gc

import pytest

import flmm  # noqa: F401  applies the patches that mmdet and mmseg need before a test module imports them


def pytest_collection_modifyitems(items):
    """Start with the files that take longest, so that all processes end together."""
    longest = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in longest)


@pytest.fixture(scope="module")
def quick_collection():
    """MMEngine collects garbage for each data set it makes, which takes 0.4 s over all that is imported by then."""
    gc.freeze()
    yield
    gc.unfreeze()
