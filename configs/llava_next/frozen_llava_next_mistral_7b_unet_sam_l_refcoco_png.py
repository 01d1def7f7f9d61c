"""LLaVA-NeXT Mistral 7B: as Vicuna 7B, with Mistral's weights and template."""

from mmengine.config import read_base
from xtuner.utils.templates import PROMPT_TEMPLATE

with read_base():
    from .frozen_llava_next_vicuna_7b_unet_sam_l_refcoco_png import *

llava_name = "llava-hf/llava-v1.6-mistral-7b-hf"
prompt_template = PROMPT_TEMPLATE.mistral
[part.update(pretrained_model_name_or_path=llava_name) for part in (tokenizer, image_processor, llava, model.model)]
reader.update(tokenizer=tokenizer, image_processor=image_processor, prompt_template=prompt_template)
[data.get("pipeline", [data])[-1].update(reader) for data in train_dataloader.dataset.datasets_list]
