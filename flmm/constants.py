"""Facts that several rooms share; importing them costs nothing."""

IMAGE_TOKEN_INDEX = -200  # in `input_ids`: the picture, for tokenizers without an image token; as in mgm/constants.py
IGNORE_INDEX = -100  # in `labels`: picture and prompt, which the LMM is not asked to say
NO_PHRASE = -1  # in `mask_ids`: a token that belongs to no phrase

# RefCOCO variants: their split file, and the splits that results are published on.
REFCOCO = {
    "refcoco": ("refs(unc).p", ("val", "testA", "testB")),
    "refcoco+": ("refs(unc).p", ("val", "testA", "testB")),
    "refcocog": ("refs(umd).p", ("val", "test")),
}

TRIES, PAUSE = 5, 2.0  # of a transfer, and seconds between them

# Width and height of the pictures that a grid is checked on: a padded square passes the first two.
CHECKED_SIZES = ((640, 416), (500, 500), (900, 300), (300, 900))
# Presence of a phrase below which it is marked. Of phrases that the embedded LMM reads, 3 % of those in the picture and
# half of the others lie below: other words for what is there are unlikely too, so only the clearest cases are marked.
UNLIKELY = 1e-3
