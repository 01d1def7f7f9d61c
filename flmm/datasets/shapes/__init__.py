"""The shapes data set: pictures, texts and questions drawn from seeds, in the files of the real data sets."""

from flmm.datasets.shapes.files import MANIFEST, make_shapes

__all__ = ["MANIFEST", "make_shapes"]
