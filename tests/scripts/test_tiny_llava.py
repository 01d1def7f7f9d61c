"""The embedded weights: do they load as a hub repository, read unseen pictures, and point at what they say?"""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.shapes.captions import caption, text_of
from flmm.datasets.shapes.drawing import render
from flmm.datasets.shapes.scene import sample_scene
from segment_anything import SamPredictor, sam_model_registry

ROOT = Path(__file__).parents[2] / "checkpoints"
FOLDER = ROOT / "tiny_llava"
UNSEEN = range(10_500_000, 10_500_040)  # seeds neither trained on nor measured in docs/tiny_model.md
PROMPT = "USER: <image>\nPlease give me a description of the image. ASSISTANT:"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    return LlavaForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def pixel_values():
    processor = CustomLlavaImageProcessor.from_pretrained(FOLDER)
    images = [Image.fromarray(render(sample_scene(seed))[0]) for seed in UNSEEN]
    values = [np.asarray(processor.preprocess(image)["pixel_values"][0]) for image in images]
    return torch.from_numpy(np.stack(values)).float()


def test_describes_unseen_pictures_word_for_word(model, tokenizer, pixel_values):
    prompt = tokenizer.encode(PROMPT.replace("<image>", "<image>" * model.config.image_seq_length))
    ids = torch.tensor([prompt] * len(UNSEEN))
    out = model.generate(input_ids=ids, pixel_values=pixel_values, max_new_tokens=48, do_sample=False)
    told = tokenizer.batch_decode(out[:, len(prompt) :], skip_special_tokens=True)
    true = [text_of(caption(sample_scene(seed))) for seed in UNSEEN]
    right = sum(a == b for a, b in zip(told, true, strict=True))
    assert right >= 30, f"{right} of {len(UNSEEN)}: {[p for p in zip(told, true, strict=True) if p[0] != p[1]][:3]}"


def test_every_text_has_a_token_for_every_word(tokenizer):
    assert tokenizer.encode("a Large red circle, 2 CARS.", add_special_tokens=False)[0] > 4
    for text in ("zebra", "猫", "it's", "…", "circle."):
        assert len(tokenizer.encode(text, add_special_tokens=False)) >= 1
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("the red circle."))[-1] == "."
    text = "a large red circle , two small blue stars and a black cross in the sky above the grass ."
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_nano_sam_cuts_out_a_shape_from_its_box_and_coarse_mask():
    predictor = SamPredictor(sam_model_registry["vit_nano"](checkpoint=ROOT / "sam_vit_nano.pth"))
    overlaps = []
    for seed in UNSEEN[:6]:
        scene = sample_scene(seed)
        image, regions = render(scene)
        predictor.set_image(image)
        for index in range(len(scene.shapes)):
            true = regions == 2 + index
            y, x = true.nonzero()
            box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
            mask = predictor.predict(box=box, mask_input=coarse_logits(true), multimask_output=False)[0][0]
            overlaps.append((mask & true).sum() / (mask | true).sum())
    assert np.mean(overlaps) >= 0.83


def coarse_logits(mask):
    """A 20 x 20 picture of the mask on SAM's square, as logits [1, 128, 128]."""
    side = max(mask.shape)
    square = torch.zeros(1, 1, side, side)
    square[..., : mask.shape[0], : mask.shape[1]] = torch.from_numpy(mask)
    cells = torch.nn.functional.adaptive_avg_pool2d(square, 20)
    return torch.nn.functional.interpolate(10 * (cells - 0.45), (128, 128), mode="bilinear")[0].numpy()


def test_weights_are_small():
    files = [p for p in FOLDER.iterdir() if p.is_file()] + [ROOT / "sam_vit_nano.pth"]
    assert sum(p.stat().st_size for p in files) < 12e6
    head = ROOT / "frozen_tiny_llava_unet_sam_nano_shapes.pth"
    assert sum(p.stat().st_size for p in [*files, head] if p.exists()) < 25e6
