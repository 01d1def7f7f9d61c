"""The head, the same for every LMM: U-Net over attention maps, SAM, and the losses on both of their masks.

A leaf adds the LMM and its public class to ``model``; the U-Net's channels follow from the LMM.
"""

from mmdet.models import CrossEntropyLoss, DiceLoss
from mmseg.models.backbones.unet import InterpConv
from torch.nn import GroupNorm

from flmm.models.mask_head.mask_decoder import UNetHead
from flmm.models.mask_head.mask_refiner import SAMWrapper

model = dict(
    mask_head=dict(
        type=UNetHead,
        normalize_input=True,
        upsample_input=64,
        base_channels=64,
        num_stages=4,
        strides=(1, 1, 1, 1),
        enc_num_convs=(2, 2, 2, 2),
        dec_num_convs=(2, 2, 2),
        downsamples=(True, True, True),
        enc_dilations=(1, 1, 1, 1),
        dec_dilations=(1, 1, 1),
        norm_cfg=dict(type=GroupNorm, num_groups=1),
        upsample_cfg=dict(type=InterpConv),
    ),
    sam=dict(
        type=SAMWrapper,
        model_name="vit_l",
        checkpoint="checkpoints/sam_vit_l_0b3195.pth",
        use_text=True,
        use_mask=True,
        use_box=True,
        multimask_output=False,
    ),
    loss_mask=dict(type=CrossEntropyLoss, use_sigmoid=True, reduction="mean", loss_weight=1.0),
    loss_dice=dict(
        type=DiceLoss,
        use_sigmoid=True,
        activate=True,
        reduction="mean",
        naive_dice=True,
        eps=1.0,
        loss_weight=1.0,
    ),
)
