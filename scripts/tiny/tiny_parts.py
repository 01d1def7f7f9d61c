"""The tiny LLaVA's untrained parts: word tokenizer, image processor, model."""

from __future__ import annotations

import math
import random

import torch
from dialogues import BRIEFLY, CAPTION, DIRECT, INSTRUCTION, REGION, SYNONYMS, THINK, THOUGHT, WHOLE, sample_dialogue
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from flmm.datasets.shapes.captions import NUMBERS, PLURALS
from flmm.datasets.shapes.implicit import QUERIES
from flmm.datasets.shapes.scene import COLORS, LOWER, SHAPES, SIGNS, SIZES, UPPER, sample_scene

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
IMAGE_SIDE, PATCH = 168, 14
VISION_WIDTH, WIDTH = 192, 192


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Words of everything that is said about scenes, lower case; every other word is `<unk>`."""
    splitter = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")])
    words = [word for text in known_texts() for word, _ in splitter.pre_tokenize_str(text.lower())]
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *sorted(set(words))])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)  # words joined by one blank
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def known_texts() -> list[str]:
    """All constant words, and dialogues about enough scenes to hold every form of sentence."""
    texts = [*SHAPES, *PLURALS.values(), *NUMBERS, *COLORS, *SIZES, *UPPER, *LOWER, *SIGNS, *QUERIES]
    texts += [INSTRUCTION.replace("{input}", ""), CAPTION, DIRECT, THINK, THOUGHT, BRIEFLY, WHOLE, REGION]
    texts += [word for others in SYNONYMS.values() for word in others]
    texts += [
        "! ' - ( ) ; \" this are was were not nothing both next which who why say tell me about can you or i lower they"
    ]
    rng = random.Random(0)
    for seed in range(300):
        texts += [text for text, _ in sample_dialogue(sample_scene(seed), rng).pieces()]
    return [text.replace("</s>", "") for text in texts]


def build_processor() -> CLIPImageProcessorPil:
    """CLIP's processor at the tower's size; padding to a square is the data set processor's work."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": IMAGE_SIDE}, crop_size={"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """A LLaVA-1.5 with 12 x 12 image tokens, 4 layers of 8 heads, random weights."""
    vision = CLIPVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=3 * VISION_WIDTH,
        num_hidden_layers=5,
        num_attention_heads=4,
        image_size=IMAGE_SIDE,
        patch_size=PATCH,
        projection_dim=VISION_WIDTH,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        initializer_range=0.07,  # the usual 0.02 keeps so narrow a model's attention even for a thousand steps
        rope_theta=1e6,  # likeness counts at any distance
        max_position_embeddings=1024,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(IMAGE_SIDE // PATCH) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlavaForConditionalGeneration(config)
    start_local(model.model.vision_tower)
    start_matching(model)
    place_patches(model.model.vision_tower.embeddings.position_embedding.weight)
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


@torch.no_grad()
def place_patches(weight: Tensor) -> None:
    """Set position embeddings [1 + h * w, D] to waves over y and x.

    As strong as the patches' content, so that neighbours are known from the start; random ones cost the
    tower thousands of steps before it puts the parts of a shape together.
    """
    count, width = weight.shape[0] - 1, weight.shape[1]
    side = int(count**0.5)
    frequencies = math.pi / 2 * torch.logspace(0, -1.5, width // 4)
    phases = [p.flatten()[:, None] * frequencies for p in torch.meshgrid(*[torch.arange(side)] * 2, indexing="ij")]
    weight[1:] = 0.5 * torch.cat([wave for p in phases for wave in (p.sin(), p.cos())], dim=1)


@torch.no_grad()
def start_matching(model: LlavaForConditionalGeneration) -> None:
    """Let every token attend first to tokens like itself and take over what they hold.

    Keys equal queries, outputs undo values. With patches that are projected near the words for what they show
    (`align_projector`), a word looks at its things from the start.
    """
    language = model.model.language_model
    nn.init.normal_(language.embed_tokens.weight, std=0.2)
    nn.init.normal_(model.model.multi_modal_projector.linear_2.weight, std=0.035)
    for layer in language.layers:
        attention = layer.self_attn
        nn.init.orthogonal_(attention.q_proj.weight)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        nn.init.orthogonal_(attention.v_proj.weight)
        attention.o_proj.weight.copy_(0.3 * attention.v_proj.weight.T)


@torch.no_grad()
def start_local(vision: nn.Module) -> None:
    """Let every patch attend first to patches like itself, near and of its colour: keys equal queries."""
    for layer in vision.encoder.layers:
        nn.init.orthogonal_(layer.self_attn.q_proj.weight)
        layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
