"""Plain transformers `generate` on a conversation, without anything of flmm between pictures and ids."""

from inspect import signature

import torch
from hf_tiny import FAMILIES as HF_FAMILIES
from transformers import GenerationMixin, Qwen2VLImageProcessorPil

from hpt.modeling_hpt import HPT


@torch.no_grad()
def plain(built, prompt, **rules):
    """What the LMM's own class generates: ids [T], and log-probability of each."""
    sample = prompt.sample()
    pictures = sample.get("pictures", [sample])
    images = [picture.small for picture in prompt.pictures]
    model, generate, inputs = INPUTS[kind(built.name)](built, sample["input_ids"][None], pictures, images)
    output = generate(model, **inputs, do_sample=False, return_dict_in_generate=True, output_logits=True, **rules)
    count = len(output.logits)
    ids = output.sequences[0, -count:]
    logits = torch.cat(output.logits).float()
    return ids.tolist(), logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]


def kind(name):
    return "hf" if name in HF_FAMILIES else name.split("_")[0]


def hf(built, ids, pictures, images):
    processor = built.builder.image_processor
    text = [processor.image_token * len(images)]
    inputs = processor.processor(
        images=images, text=text, add_special_tokens=False, return_tensors="pt", **processor.kwargs
    )
    model = built.model.backbone.model
    inputs = {"token_type_ids": (ids == model.config.image_token_id).long(), **inputs} | {"input_ids": ids}
    inputs["attention_mask"] = torch.ones_like(ids)
    is_image = (ids == model.config.image_token_id).long()
    inputs |= {"token_type_ids": is_image, "mm_token_type_ids": is_image}
    if built.config.model.get("prefix_lm"):
        inputs["token_type_ids"] = torch.zeros_like(ids)
    known = {"input_ids", "attention_mask", "pixel_values", "image_grid_thw", "image_sizes", "pixel_attention_mask"}
    if "mm_token_type_ids" in signature(model.forward).parameters:
        known.add("mm_token_type_ids")
    known |= {"batch_num_images"} | ({"token_type_ids"} if "gemma" in built.name else set())
    return model, type(model).generate, {key: value for key, value in inputs.items() if key in known}


def qwen2(built, ids, pictures, images):
    processor = built.builder.image_processor
    inputs = Qwen2VLImageProcessorPil(**processor.to_dict())(images, return_tensors="pt")
    model = built.model.backbone.model
    types = (ids == model.config.image_token_id).long()
    return model, type(model).generate, {**inputs, "input_ids": ids, "mm_token_type_ids": types}


def expanded(ids, token, counts):
    ids, counts, found = ids[0].tolist(), list(counts), []
    for one in ids:
        found += [token] * counts.pop(0) if one == token else [one]
    return torch.tensor([found])


def llava15(built, ids, pictures, images):
    model = built.model.backbone.model
    pixels = torch.stack([picture["pixel_values"] for picture in pictures])
    vision = model.config.vision_config
    cells = (vision.image_size // vision.patch_size) ** 2
    ids = expanded(ids, model.config.image_token_id, [cells] * len(pictures))
    return model, type(model).generate, {"input_ids": ids, "pixel_values": pixels}


def llava_next(built, ids, pictures, images):
    model = built.model.backbone.model
    (picture,) = pictures
    size = torch.as_tensor(picture["image_sizes"])[None]
    features = model.get_image_features(picture["pixel_values"][None], size).pooler_output[0]
    ids = expanded(ids, model.config.image_token_id, [len(features)])
    inputs = {"input_ids": ids, "pixel_values": picture["pixel_values"][None], "image_sizes": size}
    return model, type(model).generate, inputs


def deepseek(built, ids, pictures, images):
    model = built.model.backbone.model
    is_image = ids == built.model.backbone.image_token_id
    pixels = torch.stack([picture["pixel_values"] for picture in pictures])[None]
    cells = int(is_image.sum()) // len(pictures)
    embeds = model.prepare_inputs_embeds(ids, pixels, is_image, torch.ones(1, len(pictures), cells, dtype=torch.bool))
    return model, type(model).generate, {"inputs_embeds": embeds}


def mgm(built, ids, pictures, images):
    model = built.model.backbone.model
    pixels, pixels_aux = model.process_images([picture["pixel_values"] for picture in pictures])
    embeds = model.embed(ids, model.encode_images(pixels, pixels_aux))
    return model, GenerationMixin.generate, {"inputs_embeds": embeds}


def hpt(built, ids, pictures, images):
    model: HPT = built.model.backbone.model
    at = int((ids[0] == -200).nonzero())
    (picture,) = pictures
    embed, features = model.llm.get_input_embeddings(), model.image_features(picture["pixel_values"][None])
    embeds = torch.cat([embed(ids[:, :at]), features, embed(ids[:, at + 1 :])], dim=1)
    return model.llm, type(model.llm).generate, {"inputs_embeds": embeds}


INPUTS = {
    "hf": hf,
    "qwen2": qwen2,
    "llava15": llava15,
    "llava": llava_next,
    "deepseek": deepseek,
    "mgm": mgm,
    "hpt": hpt,
}
