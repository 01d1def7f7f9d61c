"""SAM with mask, box and text: the paper's model. Any config can be the base: `scripts/ablate.py --base`."""

from mmengine.config import read_base

with read_base():
    from ..deepseek_vl.frozen_deepseek_vl_1_3b_chat_unet_sam_l_refcoco_png import *
