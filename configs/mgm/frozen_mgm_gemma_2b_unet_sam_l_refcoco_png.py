"""MGM-2B (Gemma): as MGM-7B, with 18 layers x 8 heads, one view of 24 x 24."""

from mmengine.config import read_base
from xtuner.utils.templates import PROMPT_TEMPLATE

from mgm.model import MGMGemmaForCausalLM

with read_base():
    from .frozen_mgm_vicuna_7b_unet_sam_l_refcoco_png import *

lmm = dict(pretrained_model_name_or_path="YanweiLi/MGM-2B")
builder = train_dataloader.dataset.shared.sample_builder
builder.tokenizer.update(lmm)
builder.update(prompt_template=PROMPT_TEMPLATE.gemma)
model.model.update(lmm, type=MGMGemmaForCausalLM.from_pretrained)
