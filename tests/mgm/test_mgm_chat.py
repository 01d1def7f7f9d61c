from types import SimpleNamespace

import pytest
import torch
from mgm_repository import Repository, picture
from PIL import Image

from mgm.constants import IMAGE_TOKEN_INDEX
from mgm.conversation import conv_templates
from mgm.mm_utils import expand2square, tokenizer_image_token
from mgm.utils import chat, number_images, start_conversation


class Letters:
    """A tokenizer: one token per character, BOS 1."""

    eos_token_id = 2

    def __call__(self, text, add_special_tokens=True):
        return SimpleNamespace(input_ids=[1] * add_special_tokens + [3 + ord(c) % 300 for c in text])

    def decode(self, ids, skip_special_tokens):
        return " ".join(str(int(i)) for i in ids)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    repository = Repository(tmp_path_factory.mktemp("hub"))
    repository.write()
    return repository.load()


def test_vicuna_prompt():
    conversation = conv_templates["vicuna_v1"].copy()
    conversation.append("Hi")
    assert conversation.get_prompt().endswith("questions. USER: Hi ASSISTANT:")
    conversation.append("Hello")
    assert conversation.get_prompt().endswith("USER: Hi ASSISTANT: Hello</s>")


def test_gemma_prompt():
    conversation = conv_templates["gemma"].copy()
    for message in ("Hi", "Hello", "Bye"):
        conversation.append(message)
    assert conversation.get_prompt() == (
        "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n<eos>"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
    )
    assert conv_templates["gemma"].messages == []


def test_one_bos_and_one_index_per_image():
    ids = tokenizer_image_token("a<image>b<image>", Letters())
    assert ids.tolist() == [[1, 3 + ord("a"), IMAGE_TOKEN_INDEX, 3 + ord("b"), IMAGE_TOKEN_INDEX]]


def test_several_images_are_numbered():
    assert number_images("<image>\nx") == "<image>\nx"
    assert number_images("<image>\n<image>\nx") == "Image 1:<image>\nImage 2:<image>\nx"


def test_padding_is_even():
    padded = expand2square(picture(5, 2), (122, 116, 104))
    assert padded.size == (5, 5)
    assert [padded.getpixel((0, y)) == (122, 116, 104) for y in range(5)] == [True, False, False, True, True]


def test_generation_equals_greedy_decoding_without_a_cache(model):
    ids = tokenizer_image_token("ab<image>cde<image>f", Letters())
    pixels = model.process_images([picture(), picture(30, 30)])
    found = model.generate(ids, *pixels, max_new_tokens=4, do_sample=False, eos_token_id=None)[0]
    embeds = model.embed(ids, model.encode_images(*pixels))
    expected = []
    for _ in range(4):
        expected.append(int(model(inputs_embeds=embeds).logits[0, -1].argmax()))
        word = model.get_input_embeddings()(torch.tensor([[expected[-1]]]))
        embeds = torch.cat([embeds, word], dim=1)
    assert found.tolist() == expected


def test_text_alone_is_continued(model):
    ids = tokenizer_image_token("ab", Letters())
    found = model.generate(ids, max_new_tokens=2, do_sample=False, eos_token_id=None)
    assert found[0, 0] == model(input_ids=ids).logits[0, -1].argmax()
    assert found.shape == (1, 2)


def test_pictures_are_encoded_one_by_one(model):
    pictures = [picture(), picture(30, 30)]
    together = model.encode_images(*model.process_images(pictures))
    alone = [model.encode_images(*model.process_images([p])) for p in pictures]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-5, rtol=1e-4)


def test_chat_goes_on(model):
    conversation = start_conversation(model)
    settings = {"max_new_tokens": 2, "do_sample": False}
    chat(model, Letters(), conversation, "what?", [picture()], **settings)
    answer = chat(model, Letters(), conversation, "and now?", [picture()], **settings)
    questions, answers = conversation.messages[::2], conversation.messages[1::2]
    assert questions == ["<image>\nwhat?", "and now?"]
    assert answers[-1] == answer


@pytest.mark.parametrize("num_images", [0, 2])
def test_pictures_and_image_tokens_must_agree(model, num_images):
    tokens = torch.zeros(num_images, 36, model.config.hidden_size)
    with pytest.raises(ValueError, match=f"{num_images} pictures for 1 image tokens"):
        model.embed(torch.tensor([[1, IMAGE_TOKEN_INDEX, 5]]), tokens)


def test_text_beyond_the_context_is_refused(model):
    ids = torch.full((1, 2040), 5)
    ids[0, 3] = IMAGE_TOKEN_INDEX
    pixels = model.process_images([Image.new("RGB", (90, 90))])
    with pytest.raises(ValueError, match="2075 tokens .* than the 2048"):
        model.generate(ids, *pixels)
