"""The words of a report: what was measured, and what the columns of its tables mean."""

METRICS = """
Panoptic Narrative Grounding (PNG) asks for the masks of the phrases of a caption. Referring expression segmentation
(RES) asks for the mask of an expression that fits one thing in its picture; RefCOCO, RefCOCO+ and RefCOCOg are its
data sets. Here both are asked about pictures of shapes. The untrained head is the same model with random weights in
the head: what it reaches is chance, as a large random mask covers much of a large region.
"""
TRAINING = """
loss_mask (cross-entropy) and loss_dice compare the coarse masks with the true ones, sam_loss_mask and sam_loss_dice
the refined ones. aiou and sam_aiou are the mean IoU of both kinds. The LMM is frozen: only the head learns.
"""
PICTURES = """
Each picture is one sample: its text, and a row for each phrase with the picture and the box that was found, what
the LMM attended to, the coarse mask, the refined mask and the true one. The first three have no true masks: a
sentence in free words, the answer to a question, and a visual chain of thought, in which the LMM named an object,
looked at it again (red box) and read its sign (green: the true box).
"""

_OF_COLUMNS = {
    "masks": "refined: after SAM; coarse: of the U-Net, before SAM",
    "split": "which of RefCOCO's data sets, and which part of it",
    "AR": "average recall, which is the mean IoU (intersection over union with the true mask)",
    "IoU>.5": "share of phrases whose IoU is above one half",
    "pixel acc": "share of a picture's pixels that are on the right side of the mask",
    "cIoU": "sum of all intersections over the sum of all unions: large masks weigh more",
    "mIoU": "mean IoU of the masks",
    "box IoU": "IoU of the boxes around the found and the true mask",
    "box>.5": "share of boxes with an IoU above one half",
    "phrases": "number of phrases",
    "expressions": "number of expressions",
}
_OF_GROUPS = {
    "all": "all phrases",
    "things": "phrases for what can be counted, such as shapes",
    "stuff": "phrases for regions, such as the sky",
    "singulars": "phrases for one thing",
    "plurals": "phrases for several things",
}


def meaning(column: str) -> str:
    """Return what a column of PNG_HEADER or RES_HEADER holds."""
    if column in _OF_COLUMNS:
        return _OF_COLUMNS[column]
    metric, group = column.split()
    return f"{_OF_COLUMNS[metric]}; {_OF_GROUPS[group]}" if group == "all" else f"the same of {_OF_GROUPS[group]}"
