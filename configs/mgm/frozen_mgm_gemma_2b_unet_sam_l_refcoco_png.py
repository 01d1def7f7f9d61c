"""MGM-2B (Gemma): as MGM-7B, with 18 layers x 8 heads, one view of 24 x 24."""

from mmengine.config import read_base
from xtuner.utils.templates import PROMPT_TEMPLATE

from mgm.model import MGMGemmaForCausalLM

with read_base():
    from .frozen_mgm_vicuna_7b_unet_sam_l_refcoco_png import *

mgm_name = "YanweiLi/MGM-2B"
prompt_template = PROMPT_TEMPLATE.gemma
[part.update(pretrained_model_name_or_path=mgm_name) for part in (tokenizer, mgm, model.model)]
reader.update(tokenizer=tokenizer, prompt_template=prompt_template)
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]

mgm.update(type=MGMGemmaForCausalLM.from_pretrained)
model.update(model=mgm)
