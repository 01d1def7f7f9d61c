"""The paper's ablations: each row changes what it says, over any base; the table compares the order."""

import argparse
import json
import runpy
from pathlib import Path

import pytest
import torch

from flmm.config import TINY_CONFIG, read_config
from flmm.models.frozen_lmm import chosen_layers
from flmm.models.mask_head.mask_decoder import ConvHead

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.chdir(ROOT)
    return runpy.run_path("scripts/ablate.py")


def changes(one, other, place="model"):
    """Settings of a config that another one changes."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = {}
        for key in {*one, *other}:
            found |= changes(one.get(key), other.get(key), f"{place}.{key}")
        return found
    return {} if str(one) == str(other) else {place: other}


EXPECTED = {
    "unet_only": {"model.sam": None},
    "sam_mask": {"model.sam.use_box": False, "model.sam.use_text": False},
    "sam_mask_box": {"model.sam.use_text": False},
    "sam_mask_box_text": {},
    "merge_max": {"model.merge": "max"},
    "one_attention_layer": {"model.attention_layers": [-2]},
    "one_text_layer": {"model.text_layers": [-1]},
    "sam_vit_b": {"model.sam.model_name": "vit_b", "model.sam.checkpoint": "checkpoints/sam_vit_b_01ec64.pth"},
    "sam_vit_h": {"model.sam.model_name": "vit_h", "model.sam.checkpoint": "checkpoints/sam_vit_h_4b8939.pth"},
    "mobile_sam": {"model.sam.model_name": "vit_t", "model.sam.checkpoint": "checkpoints/mobile_sam.pt"},
}


def test_each_row_changes_what_it_says(script):
    assert set(script["ROWS"]) == {*EXPECTED, "single_conv"} == {p.stem for p in Path("configs/ablations").glob("*.py")}
    base = read_config("configs/deepseek_vl/frozen_deepseek_vl_1_3b_chat_unet_sam_l_refcoco_png.py").to_dict()
    for row, expected in EXPECTED.items():
        assert changes(base["model"], read_config(f"configs/ablations/{row}.py").to_dict()["model"]) == expected, row
    head = read_config("configs/ablations/single_conv.py").to_dict()["model"]["mask_head"]
    assert "ConvHead" in str(head["type"])
    assert head["upsample_input"] == 64


def test_a_row_over_another_base(script, request):
    folder = ROOT / "work_dirs" / "test_ablate"
    request.addfinalizer(lambda: __import__("shutil").rmtree(folder, ignore_errors=True))
    path = script["write_config"]("sam_mask", TINY_CONFIG, folder)
    base, row = (read_config(file).to_dict() for file in (TINY_CONFIG, path))
    assert changes(base["model"], row["model"]) == EXPECTED["sam_mask"]
    assert changes(base["train_dataloader"], row["train_dataloader"]) == {}
    with pytest.raises(FileNotFoundError, match=r"needs checkpoints/sam_vit_h_4b8939\.pth: fetch it"):
        script["write_config"]("sam_vit_h", TINY_CONFIG, folder)
    with pytest.raises(FileNotFoundError, match="no config"):
        script["write_config"]("sam_mask", "none.py", folder)


def test_the_order_is_compared_with_the_paper(script, capsys):
    args = argparse.Namespace(base="base.py")
    script["show"](args, {"unet_only": 40.0, "sam_mask": 55.0, "sam_mask_box": 56.0, "single_conv": 1.0})
    printed = capsys.readouterr().out
    assert "63.40" in printed
    assert "as in the paper (rank correlation 1.00)" in printed
    script["show"](args, {"unet_only": 60.0, "sam_mask": 55.0, "sam_mask_box": 56.0})
    assert "another one (rank correlation -0.50)" in capsys.readouterr().out


def test_a_figure_is_of_refined_masks_where_there_are_some(script, tmp_path, monkeypatch):
    (tmp_path / "sam_mask/eval").mkdir(parents=True)
    kinds = {kind: {"all": {"average_recall": value}} for kind, value in (("refined", 60.0), ("coarse", 50.0))}
    for row in ("sam_mask", "unet_only"):
        (tmp_path / row / "eval").mkdir(parents=True, exist_ok=True)
        content = kinds if row == "sam_mask" else {"coarse": kinds["coarse"]}
        (tmp_path / row / "eval/png.json").write_text(json.dumps({"splits": {"val": content}}))
    calls = []
    given = script["figure"].__globals__
    # not into the row's folder: MMEngine writes a file of the same name there, whose dtypes are text
    monkeypatch.setitem(given, "write_config", lambda row, base, folder: folder / f"{row}.py")
    monkeypatch.setitem(given, "trained", lambda config, folder, options: folder / "head.pth")
    monkeypatch.setitem(given, "call", calls.append)
    args = argparse.Namespace(output=tmp_path, base="base.py", cfg_options=[], data_root="data", limit=3)
    assert [script["figure"](row, args) for row in ("sam_mask", "unet_only")] == [60.0, 50.0]
    assert calls[0][:2] == ["scripts/multiprocess_eval_png.py", tmp_path / "configs/sam_mask.py"]
    assert calls[0][-2:] == ["--limit", 3]
    with pytest.raises(ValueError, match="no row 'sam'"):
        script["figure"]("sam", args)


def test_chosen_layers():
    assert chosen_layers(None, 3, "x") == [0, 1, 2]
    assert chosen_layers([-1, 0], 4, "x") == [0, 3]
    for layers in ([], [4], [-5]):
        with pytest.raises(ValueError, match=r"x=.*: the LMM has layers 0\.\.3"):
            chosen_layers(layers, 4, "x")


def test_a_single_convolution():
    head = ConvHead(normalize_input=True, upsample_input=8, in_channels=2)
    maps = torch.rand(3, 2, 4, 4)
    with torch.no_grad():
        found = head(maps)
        shares = maps / maps.sum((-2, -1), keepdim=True)
        larger = torch.nn.functional.interpolate(shares, scale_factor=2.0, mode="bilinear")
        expected = (larger * head.conv_seg.weight[0, :, 0, 0][:, None, None]).sum(1, keepdim=True) + head.conv_seg.bias
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="gives 3 attention maps"):
        head(torch.rand(1, 3, 4, 4))
