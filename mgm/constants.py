"""How an image is written in prompts and token sequences of MGM."""

DEFAULT_IMAGE_TOKEN = "<image>"
IMAGE_TOKEN_INDEX = -200  # stands for the image in `input_ids`; no embedding has this index
