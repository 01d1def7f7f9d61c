"""Annotations that cannot be used are refused with the file, the numbers and the cure."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer

import flmm  # noqa: F401  (applies the patches that mmdet needs)
from flmm.datasets.annotations import PackedList
from flmm.datasets.captions import segment_map
from flmm.datasets.llava_processors import CustomLlavaImageProcessor
from flmm.datasets.png import PNGDataset, concat_datasets, custom_collate_fn
from flmm.datasets.res import RESDataset
from flmm.datasets.transforms import PILLoadImageFromFile, RefCOCO2PNG

GOLDEN = Path(__file__).parents[1] / "golden" / "comp_datasets"
SETTINGS = {
    "tokenizer": AutoTokenizer.from_pretrained(GOLDEN / "tokenizer_with_image"),
    "image_processor": CustomLlavaImageProcessor(size={"shortest_edge": 28}),
    "prompt_template": {"INSTRUCTION": "USER: {input} ASSISTANT:"},
    "prompt": "<image>\nWhat is it?",
}


@pytest.fixture
def data(tmp_path):
    shutil.copytree(GOLDEN / "data", tmp_path / "data")
    return tmp_path / "data"


def png(data, **changes):
    return PNGDataset(
        **{
            "json_file": data / "png.json",
            "panoptic_json_file": data / "panoptic.json",
            "panoptic_png_path": data / "panoptic",
            "local_path": data / "images",
            **SETTINGS,
            **changes,
        }
    )


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def no_phrases(items):
    for segment in items[1]["segments"]:
        segment["segment_ids"] = []


def test_captions_without_phrase_are_left_out(data):
    edit(data / "png.json", no_phrases)
    dataset = png(data)
    assert [sample["file_name"] for sample in dataset] == ["000000000139.jpg", "000000000632.jpg"]
    edit(data / "png.json", lambda items: items.__setitem__(slice(None), [items[1]]))
    with pytest.raises(ValueError, match=r"has no caption with a grounded phrase \(1 captions\)"):
        png(data)


def test_empty_captions_are_left_out(data):
    edit(data / "png.json", lambda items: items[0].update(segments=[], caption=""))
    assert len(png(data)) == 2


def set_ids(item, segment, ids):
    return lambda items: items[item]["segments"][segment].update(segment_ids=ids)


def test_a_segment_that_the_panoptic_json_lacks(data):
    edit(data / "png.json", set_ids(1, 0, ["77"]))
    with pytest.raises(ValueError, match=r"1 of 3 captions .*segment\(s\) \[77\] of phrase 'two dogs', image 285"):
        png(data)
    with pytest.raises(ValueError, match=r"\[77\]"):  # its kind, thing or stuff, would be unknown
        png(data, allow_empty_masks=True)


def test_a_plural_phrase_may_lack_a_segment_when_allowed(data):
    whole = png(data)[2]["gt_masks"]
    edit(data / "png.json", set_ids(2, 1, ["7705422", "77"]))
    with pytest.raises(ValueError, match="allow_empty_masks=True"):
        png(data)
    part = png(data, allow_empty_masks=True)[2]["gt_masks"]
    assert 0 < part[0].sum() < whole[0].sum()


def test_an_image_of_the_other_split(data):
    edit(data / "png.json", lambda items: items[0].update(image_id="5"))
    with pytest.raises(ValueError, match="image 5 is not in it. Are both files of the same split"):
        png(data)


def test_a_phrase_without_words(data):
    edit(data / "png.json", lambda items: items[0]["segments"][1].update(utterance=" "))
    with pytest.raises(ValueError, match="a phrase of image 139 .* no words"):
        png(data)


def test_a_phrase_without_token_names_its_picture(data, monkeypatch):
    dataset = png(data)
    encode = dataset.builder.tokenizer.encode
    monkeypatch.setattr(
        dataset.builder.tokenizer, "encode", lambda text, **k: [] if text == "a man" else encode(text, **k)
    )
    with pytest.raises(ValueError, match="png.json, 000000000139.jpg: phrase 0 .'a man'. gives no token"):
        dataset[0]


def test_a_segment_that_the_panoptic_png_lacks(data):
    path = data / "panoptic" / "000000000139.png"
    Image.new("RGB", Image.open(path).size).save(path)
    with pytest.raises(
        ValueError, match=r"000000000139.png has no pixel of segment\(s\) \[2245560, 9763675, 13414210\]"
    ):
        png(data)[0]
    assert png(data, allow_empty_masks=True)[0]["gt_masks"].sum() == 0


def test_images_and_masks_of_different_sizes(data):
    path = data / "images" / "000000000139.jpg"
    Image.open(path).resize((50, 50)).save(path)
    with pytest.raises(ValueError, match="000000000139.jpg: the image is 50 x 50 .* its masks are 61 x 97"):
        png(data)[0]


def test_missing_and_cut_files(data):
    dataset = png(data)
    (data / "images" / "000000000139.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="no image .*000000000139.jpg"):
        dataset[0]
    panoptic = data / "panoptic" / "000000000285.png"
    panoptic.write_bytes(panoptic.read_bytes()[:200])
    with pytest.raises(ValueError, match="000000000285.png cannot be decoded"):
        dataset[1]
    panoptic.unlink()
    with pytest.raises(FileNotFoundError, match="no panoptic PNG .*000000000285.png"):
        dataset[1]
    (data / "png.json").write_text('[{"image_id": "139", ')
    with pytest.raises(ValueError, match="png.json is not complete JSON"):
        png(data)
    with pytest.raises(FileNotFoundError, match="no annotation file .*gone.json"):
        png(data, json_file=data / "gone.json")


def refcoco_config(data, **changes):
    from mmdet.datasets import RefCocoDataset
    from mmdet.datasets.transforms import LoadAnnotations

    refs = data / "refcoco" / "refs(unc).p"
    refs.write_bytes(pickle.dumps(json.loads((data / "refcoco" / "refs.json").read_text())))
    masks = {
        "type": LoadAnnotations,
        "with_mask": True,
        "with_bbox": False,
        "with_seg": False,
        "with_label": False,
    }
    return {
        "type": RefCocoDataset,
        "data_root": str(data),
        "data_prefix": {"img_path": "images"},
        "ann_file": "refcoco/instances.json",
        "split_file": "refcoco/refs(unc).p",
        "pipeline": [{"type": PILLoadImageFromFile}, masks, {"type": RefCOCO2PNG, **SETTINGS, **changes}],
    }


def test_concatenated_data_sets_and_collate(data):
    whole = concat_datasets([png(data), refcoco_config(data)])
    assert len(whole) == 4
    batch = custom_collate_fn([whole[0], whole[3]])
    assert [sample["file_name"] for sample in batch["data"]] == ["000000000139.jpg", "000000000632.jpg"]
    assert batch["data_samples"] is None


def test_a_picture_of_another_size_than_its_polygons_is_turned_or_refused(data):
    """Else they would be drawn at the wrong places of it, and nobody would notice."""
    file = data / "images/000000000139.jpg"
    picture = Image.open(file)
    annotated = {"img_path": str(file), "height": picture.height, "width": picture.width}
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be turned back
    turned.save(file, exif=turned.getexif())
    assert PILLoadImageFromFile()(dict(annotated))["img"].size == picture.size
    picture.resize((picture.width // 2, picture.height // 2)).save(file)
    with pytest.raises(ValueError, match=r"000000000139.jpg: the image is .* or one of them was resized"):
        PILLoadImageFromFile()(dict(annotated))
    (data / "images/000000000632.jpg").write_bytes(file.read_bytes())
    refcoco_config(data)  # writes the references
    with pytest.raises(ValueError, match=r"000000000632.jpg: the image is .* or one of them was resized"):
        RESDataset(data, "refcoco/instances.json", "refcoco/refs(unc).p", image_folder="images", **SETTINGS)[0]


def test_an_expression_with_an_empty_mask_is_named(data):
    def collapse(content):
        for annotation in content["annotations"]:
            if annotation["id"] == 6321:
                annotation["segmentation"] = [[5000, 5000, 5001, 5000, 5001, 5001]]

    edit(data / "refcoco" / "instances.json", collapse)
    with pytest.raises(ValueError, match=r"000000000632.jpg: .* mask of '.*' is empty \(1 of 2 phrases\)"):
        concat_datasets([refcoco_config(data)])[0]
    assert concat_datasets([refcoco_config(data, allow_empty_masks=True)])[0]["masks"][1].sum() == 0


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [8, 6], "counts": [10, 5]}, "cover 15 pixels, but 8 x 6"),
        ({"size": [6, 8], "counts": [48]}, r"written as \[width, height\]"),
        (None, "its segmentation is None"),
    ],
)
def test_masks_are_checked_before_mmdet_draws_them(tmp_path, mask, message):
    Image.new("RGB", (6, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=f"a.png: of object 0, .*{message}"):
        PILLoadImageFromFile()({"img_path": str(tmp_path / "a.png"), "instances": [{"mask": mask}]})


def test_expressions_masks_and_images_must_agree():
    step = RefCOCO2PNG(**SETTINGS)

    class Masks:
        masks = np.ones((1, 8, 8), np.uint8)

    results = {
        "img": Image.new("RGB", (8, 8)),
        "img_path": "a.jpg",
        "gt_masks": Masks,
        "text": ["one", "two"],
    }
    with pytest.raises(ValueError, match="a.jpg: 2 expressions but 1 masks"):
        step(results)
    with pytest.raises(ValueError, match="a.jpg: the image is 9 x 8 .* its masks are 8 x 8"):
        step({**results, "img": Image.new("RGB", (8, 9)), "text": ["one"]})
    with pytest.raises(ValueError, match="a.jpg: phrase 0 .* gives no token"):
        step({**results, "text": [""]})


def test_segment_ids_use_all_three_channels(tmp_path):
    ids = np.array([[1, 256, 65536], [0, 13414210, 16777215]])
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "ids.png")
    np.testing.assert_array_equal(segment_map(tmp_path / "ids.png"), ids)


def test_packed_list():
    items = [("a", i, (i,) * i) for i in range(20)]
    packed = PackedList(iter(items), tuple[str, int, tuple[int, ...]])
    assert list(packed) == items
    assert packed[-1] == items[-1]
    with pytest.raises(IndexError, match="item 20 of 20"):
        packed[20]
    assert list(pickle.loads(pickle.dumps(packed))) == items  # for workers that are spawned, not forked
    assert len(PackedList([], int)) == 0


PANOPTIC_TWICE = {
    "images": lambda items: items.append({**items[0], "file_name": "000000000632.jpg"}),
    "annotations": lambda items: items.append({**items[0], "segments_info": []}),
    "categories": lambda items: items.append({**items[0], "isthing": 1 - items[0]["isthing"]}),
}


@pytest.mark.parametrize("part", PANOPTIC_TWICE)
def test_two_entries_with_one_id_are_refused_when_they_differ(data, part):
    edit(data / "panoptic.json", lambda content: content[part].append(content[part][0]))
    assert len(png(data)) == 3  # written twice alike
    edit(data / "panoptic.json", lambda content: PANOPTIC_TWICE[part](content[part]))
    with pytest.raises(ValueError, match=rf"panoptic\.json holds two different {part}.* with the id \d+"):
        png(data)


def test_a_segment_of_two_categories_is_refused(data):
    def twice(content):
        infos, categories = content["annotations"][0]["segments_info"], content["categories"]
        other = next(c["id"] for c in categories if c["id"] != infos[0]["category_id"])
        infos.append({**infos[0], "category_id": other})

    edit(data / "panoptic.json", twice)
    with pytest.raises(ValueError, match=r"panoptic\.json, image \d+ holds two different segments with the id"):
        png(data)


def test_a_jpeg_is_no_map_of_segments(data):
    path = data / "panoptic" / "000000000139.png"
    Image.open(path).convert("RGB").save(path, format="JPEG", quality=100)
    with pytest.raises(ValueError, match="000000000139.png is JPEG, which changes values"):
        png(data)[0]


def test_words_that_nobody_sees_are_none(data):
    edit(data / "png.json", lambda items: items[0]["segments"][1].update(utterance="\u200b\ufeff"))
    with pytest.raises(ValueError, match="a phrase of image 139 .* no words"):
        png(data)
