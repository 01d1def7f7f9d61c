from functools import partial

import numpy as np
import pytest
import torch
from golden_cases import GoldenCase, golden_names
from parity import assert_parity
from PIL import Image
from transformers import AutoTokenizer
from weight_files import write_weights

from flmm.cli.main import main
from flmm.datasets.qwen_processors import CustomQwenImageProcessor
from flmm.datasets.sample import SampleBuilder
from flmm.models.backbone import Tokens
from flmm.models.frozen_qwen import CustomQwenForConditionalGeneration, FrozenQwenSAM, QwenBackbone

TEMPLATE = {"INSTRUCTION": "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n"}


def build(case: GoldenCase) -> FrozenQwenSAM:
    folder = str(case.dir / "backbone")
    qwen = {
        "type": CustomQwenForConditionalGeneration.from_pretrained,
        "pretrained_model_name_or_path": folder,
        "dtype": torch.float32,
    }
    tokenizer = {"type": AutoTokenizer.from_pretrained, "pretrained_model_name_or_path": folder}
    return FrozenQwenSAM(model=qwen, tokenizer=tokenizer, **case.head_config())


@pytest.mark.parametrize("name", golden_names("qwen"))
def test_parity(name):
    case = GoldenCase(name)
    assert_parity(case, build(case))


@pytest.fixture(scope="module")
def case():
    return GoldenCase(golden_names("qwen")[0])


@pytest.fixture(scope="module")
def model(case):
    return build(case).eval()


@pytest.fixture(scope="module")
def builder(case):
    prompt = f"<|vision_start|><|image_pad|><|vision_end|>{case.case['prompt_text']}"
    return SampleBuilder(
        image_processor=CustomQwenImageProcessor.from_pretrained(case.dir / "backbone"),
        tokenizer=AutoTokenizer.from_pretrained(case.dir / "backbone"),
        prompt_template=TEMPLATE,
        prompt=prompt,
        image_token="<|image_pad|>",
    )


def test_the_sample_is_the_recorded_one(case, builder):
    recorded = case.samples()[0]
    sample = builder.ground(recorded["image"], "a ball on grass", ["a ball"])
    prompt = recorded["prompt_length"]
    assert torch.equal(sample["input_ids"][:prompt], recorded["input_ids"][:prompt])
    assert torch.equal(sample["image_grid_thw"], recorded["image_grid_thw"])
    np.testing.assert_allclose(sample["pixel_values"], recorded["pixel_values"], atol=1e-6)
    for key, value in sample["meta_data"].items():
        assert recorded["meta_data"][key] == value


@pytest.mark.parametrize("size", [(170, 115), (60, 200), (5, 700), (1, 1), (900, 700)])
def test_pictures_of_any_shape(model, builder, size):
    sample = builder.ground(Image.new("RGB", size, (200, 10, 10)), "a ball on grass", ["a ball", "grass"])
    tokens = model.backbone.tokens(sample)
    (view,) = tokens.views
    frames, height, width = sample["image_grid_thw"][0].tolist()
    assert (frames, *view.shape) == (1, height // 2, width // 2)
    image = sample["input_ids"] == model.backbone.model.config.image_token_id
    assert torch.equal(view.flatten(), image.nonzero().flatten())
    assert model(sample, mode="tensor")["mask_attentions"].shape == (2, 12, height // 2, width // 2)


def test_positions_have_three_axes(case, model):
    tokens = model.backbone.tokens(case.samples()[0])
    assert torch.equal(tokens.inputs["position_ids"], case.outputs["0/position_ids_3d"])


def test_the_command_draws_and_judges(case, tmp_path, monkeypatch, capsys):
    folder = case.dir / "backbone"
    (tmp_path / "config.py").write_text(
        "from transformers import AutoTokenizer\n"
        "from flmm.datasets.qwen_processors import CustomQwenImageProcessor\n"
        "from flmm.models.frozen_qwen import CustomQwenForConditionalGeneration, FrozenQwenSAM\n"
        f"folder = dict(pretrained_model_name_or_path={str(folder)!r})\n"
        "lmm = dict(folder, type=CustomQwenForConditionalGeneration.from_pretrained)\n"
        "tokenizer = dict(folder, type=AutoTokenizer.from_pretrained)\n"
        "image_processor = dict(folder, type=CustomQwenImageProcessor.from_pretrained)\n"
        f"prompt_template = {TEMPLATE!r}\n"
        "image_token = '<|image_pad|>'\n"
        "prompt = '<|vision_start|>' + image_token + '<|vision_end|>Describe.'\n"
        "model = dict(type=FrozenQwenSAM, model=lmm, mask_head=None, sam=None)\n"
    )
    out = tmp_path / "drawings"
    command = ["check-backbone", str(tmp_path / "config.py"), "--out", str(out)]
    assert main(command) == 0
    assert len(list(out.glob("*.png"))) == 20
    assert capsys.readouterr().out.count("ok ") == 20
    monkeypatch.setattr(QwenBackbone, "tokens", upside_down(QwenBackbone.tokens))
    assert main([*command, "--size", "320", "200"]) == 1
    assert "did not light up" in capsys.readouterr().out


def upside_down(read):
    def tokens(self, sample):
        right = read(self, sample)
        return Tokens(right.inputs, right.mask_ids, [view.flip(0) for view in right.views])

    return tokens


def test_too_long_a_picture(builder):
    with pytest.raises(ValueError, match="1 x 900 pixels"):
        builder.ground(Image.new("RGB", (900, 1)), "a ball", ["a ball"])


def test_tokenizer_of_another_model(case):
    other = AutoTokenizer.from_pretrained(case.dir / "backbone")
    other.convert_tokens_to_ids = lambda token: 7
    load = partial(CustomQwenForConditionalGeneration.from_pretrained, case.dir / "backbone")
    with pytest.raises(ValueError, match=r"as 7, but the LMM's image token is 345"):
        FrozenQwenSAM(model=load(), tokenizer=other, **case.head_config())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_sharded_weights(case, model, tmp_path, name):
    lmm = model.backbone.model
    lmm.config.save_pretrained(tmp_path)
    write_weights(lmm.state_dict(), tmp_path, name, shards=3)
    again = CustomQwenForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    for name, value in lmm.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_missing_weights_are_refused(case, model, tmp_path):
    lmm = model.backbone.model
    kept = {key: value for key, value in lmm.state_dict().items() if "layers.1.mlp" not in key}
    lmm.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(ValueError, match="3 tensors have no value"):
        CustomQwenForConditionalGeneration.from_pretrained(tmp_path)
