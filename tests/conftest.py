import gc

import flmm  # noqa: F401  applies the patches that mmdet and mmseg need before a test module imports them

gc.disable()  # while the test modules import what they need: all of it stays


def pytest_collection_modifyitems(items):
    """Start with the files that take longest, so that all processes end together."""
    longest = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in longest)


def pytest_collection_finish():
    """Keep what is imported by now out of garbage collections: MMEngine asks for one, of 0.4 s, with each data set."""
    gc.freeze()
    gc.enable()
