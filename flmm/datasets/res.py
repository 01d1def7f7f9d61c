"""Referring expressions of RefCOCO, RefCOCO+ and RefCOCOg as a data set of samples."""

from typing import Any

from mmdet.datasets import RefCocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmengine.fileio import get_file_backend

from flmm.datasets.refcoco import read_items
from flmm.datasets.transforms import PILLoadImageFromFile, RefCOCO2PNG


class RESDataset(RefCocoDataset):
    """The images of a split with their expressions, one mask each.

    mmdet's data set, made from its files without keeping them as Python objects: those take 0.7 GB in each process for
    each of the three RefCOCO sets.

    Args:
        data_root: Folder laid out like data/coco.
        ann_file: The instances.json below it.
        split_file: The refs(...).p below it.
        split: e.g. 'train'.
        image_folder: Folder of the pictures below `data_root`.
        text_mode: Which expressions of an object: 'random' one, 'select_first' or 'original' (all).
        concat: One sample of all expressions of an image; False gives a list of samples, one for each.
        **reading: Arguments of `ReadsSamples`.
    """

    def __init__(
        self,
        data_root: str,
        ann_file: str,
        split_file: str,
        split: str = "train",
        image_folder: str = "train2014/",
        text_mode: str = "random",
        concat: bool = True,
        **reading: Any,
    ):
        masks = LoadAnnotations(with_bbox=False, with_label=False, with_mask=True)
        super().__init__(
            data_root=data_root,
            ann_file=ann_file,
            split_file=split_file,
            data_prefix={"img_path": image_folder},
            split=split,
            text_mode=text_mode,
            pipeline=[PILLoadImageFromFile(), masks, RefCOCO2PNG(concat, **reading)],
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Called by mmdet: the items of the split (errors: `read_items`)."""
        items = read_items(self.split_file, self.ann_file, self.split, self.text_mode)
        folder = self.data_prefix["img_path"]
        join_path = get_file_backend(folder).join_path
        return [{"img_path": join_path(folder, item.pop("file_name")), **item} for item in items]
