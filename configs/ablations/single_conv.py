"""A single convolution in the place of the U-Net. Any config can be the base: `scripts/ablate.py --base`."""

from mmengine.config import read_base

from flmm.models.mask_head.mask_decoder import ConvHead

with read_base():
    from ..deepseek_vl.frozen_deepseek_vl_1_3b_chat_unet_sam_l_refcoco_png import *

model.mask_head = dict(type=ConvHead, normalize_input=True, upsample_input=64)
