import pytest
import torch
from golden_cases import GOLDEN, golden_names
from PIL import Image

from deepseek_vl.models import MultiModalityCausalLM, VLChatProcessor, VLMImageProcessor
from deepseek_vl.utils.conversation import format_conversation
from deepseek_vl.utils.io import load_pil_images

FOLDER = str(GOLDEN / golden_names("deepseek_1b")[0] / "backbone")
TAG = "<image_placeholder>"
RED, BLUE = (Image.new("RGB", (40, 20), colour) for colour in ("red", "blue"))


@pytest.fixture(scope="module")
def processor():
    return VLChatProcessor.from_pretrained(FOLDER, system_prompt="")


def ask(text):
    return [{"role": "User", "content": text}, {"role": "Assistant", "content": ""}]


def test_text_of_a_conversation():
    messages = [{"role": "User", "content": "Hello"}, {"role": "Assistant", "content": "Hi"}, *ask("Bye ")]
    expected = "System.\n\nUser: Hello\n\nAssistant: Hi<｜end▁of▁sentence｜>User: Bye\n\nAssistant:"
    assert format_conversation(messages, "System.") == expected
    with pytest.raises(ValueError, match="role 'human'"):
        format_conversation([{"role": "human", "content": "Hello"}])


def test_several_pictures_in_a_batch(processor):
    inputs = processor(conversations=[ask(f"{TAG}a{TAG}b"), ask(f"{TAG}c")], images=[[RED, BLUE], [BLUE]])
    assert inputs.pixel_values.shape == (2, 2, 3, 384, 384)
    assert inputs.images_seq_mask.sum(1).tolist() == [1152, 576]
    assert inputs.images_emb_mask.all(-1).tolist() == [[True, True], [True, False]]
    shorter = inputs.attention_mask[1].tolist()
    assert shorter == sorted(shorter)  # padded on the left
    assert sum(shorter) < inputs.attention_mask[0].sum()


def test_pictures_reach_their_places(processor):
    model = MultiModalityCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    inputs = processor(conversations=[ask(f"{TAG}a{TAG}b"), ask(f"{TAG}c")], images=[[RED, BLUE], [BLUE]])
    embeds = model.prepare_inputs_embeds(**inputs)
    image = torch.from_numpy(VLMImageProcessor.from_pretrained(FOLDER)(BLUE)["pixel_values"][0])[None]
    with torch.no_grad():
        blue = model.image_features(image)[0]
    torch.testing.assert_close(embeds[0, inputs.images_seq_mask[0]][576:], blue)
    torch.testing.assert_close(embeds[1, inputs.images_seq_mask[1]], blue)
    assert not torch.allclose(embeds[0, inputs.images_seq_mask[0]][:576], blue, atol=1e-4)
    answer = model.generate(
        inputs_embeds=embeds, attention_mask=inputs.attention_mask, max_new_tokens=2, do_sample=False, pad_token_id=0
    )
    assert answer.shape == (2, 2)


def test_a_prompt_without_picture(processor):
    inputs = processor(prompt="User: Hello\n\nAssistant:")
    assert not inputs.images_emb_mask.any()
    assert inputs.to("cpu", torch.bfloat16).pixel_values.dtype == torch.bfloat16


def test_tags_and_pictures_must_agree(processor):
    with pytest.raises(ValueError, match="2 times '<image_placeholder>' for 1 pictures"):
        processor(conversations=ask(f"{TAG}{TAG}"), images=[RED])
    with pytest.raises(ValueError, match="either prompt or conversations"):
        processor()


def test_files_of_a_conversation(tmp_path):
    RED.save(tmp_path / "red.png")
    messages = [
        {"role": "User", "content": TAG, "images": [tmp_path / "red.png"]},
        {"role": "Assistant", "content": ""},
    ]
    (image,) = load_pil_images(messages)
    assert image.getpixel((0, 0)) == (255, 0, 0)


def test_processors_of_the_format_of_transformers():
    hybrid = VLMImageProcessor(
        size={"height": 384, "width": 384},
        high_res_size={"height": 1024, "width": 1024},
        high_res_image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    assert (hybrid.image_size, hybrid.do_normalize, hybrid.background_color) == (1024, False, [122, 116, 104])
    single = VLMImageProcessor(size={"height": 384, "width": 384}, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    assert (single.image_size, single.do_normalize, single.background_color) == (384, True, [127, 127, 127])
    with pytest.raises(ValueError, match="needs image_size"):
        VLMImageProcessor()
