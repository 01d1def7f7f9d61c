"""Colors that scripts written for the reference import from here: RGB of the 133 classes of COCO panoptic."""

from mmdet.datasets.coco_panoptic import CocoPanopticDataset

colors = CocoPanopticDataset.METAINFO["palette"]
