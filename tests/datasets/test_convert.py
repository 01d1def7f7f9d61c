"""Annotations of other formats become lines that the data check finds sound; masks keep their places."""

import base64
import io
import json
import pickle

import numpy as np
import pytest
from PIL import Image

from flmm.cli.main import main
from flmm.datasets.own.check import check_file
from flmm.datasets.own.convert.label_studio import brush_mask
from flmm.datasets.own.entries import parse, read_lines
from flmm.datasets.own.pictures import open_entry
from flmm.masks import encode_mask as encode

SIZE = (20, 30)
SQUARE = [[2, 1], [6, 1], [6, 5], [2, 5]]  # 16 pixels at [1:5, 2:6]
FLAT = [float(side) for point in SQUARE for side in point]


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "pictures" / name)
    return tmp_path


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def convert(folder, *words):
    """Entries, and pixels of each phrase, of what the command writes."""
    out = folder / "data.jsonl"
    assert main(["data", "convert", *map(str, words), "--out", str(out), "--overwrite"]) == 0
    assert not [f for f in check_file(out).findings if f.state == "broken"]
    entries = [parse(line) for _, _, line in read_lines(out)]
    opened = [open_entry(entry, folder) for entry in entries]
    return [
        (entry.text, dict(zip(entry.words, masks.sum((1, 2)).tolist(), strict=True)))
        for entry, (_, masks) in zip(entries, opened, strict=True)
    ]


def coco(folder):
    images = [{"id": i, "file_name": f"{n}.jpg", "height": 20, "width": 30} for i, n in ((1, "a"), (2, "b"))]
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 17, "segmentation": [FLAT], "iscrowd": 0},
        {"id": 2, "image_id": 1, "category_id": 17, "segmentation": [[10, 10, 12, 10, 12, 12, 10, 12]], "iscrowd": 0},
        {"id": 3, "image_id": 1, "category_id": 18, "bbox": [0, 0, 5, 4], "iscrowd": 0},
        {"id": 4, "image_id": 1, "category_id": 17, "segmentation": {"size": [20, 30], "counts": [600]}, "iscrowd": 1},
        {"id": 5, "image_id": 2, "category_id": 19, "segmentation": encode(np.ones(SIZE, dtype=bool))},
    ]
    names = [{"id": 17, "name": "cat"}, {"id": 18, "name": "hot dog"}, {"id": 19, "name": "dog"}]
    file = save(folder / "instances.json", {"images": images, "annotations": annotations, "categories": names})
    said = ["Two cats eat a hot dog.", "Nothing of it.", "Two cats eat a hot dog."]
    captions = [{"id": i, "image_id": 1, "caption": text} for i, text in enumerate(said)]
    return file, save(folder / "captions.json", {"annotations": captions})


def test_coco_categories(folder, capsys):
    file, _ = coco(folder)
    found = convert(folder, "coco", file, "--images", folder / "pictures")
    assert found == [("cat. hot dog.", {"cat": 20, "hot dog": 20}), ("dog.", {"dog": 600})]
    assert "left out: 1 crowds" in capsys.readouterr().out


def test_coco_captions(folder, capsys):
    file, captions = coco(folder)
    found = convert(folder, "coco", file, "--images", folder / "pictures", "--captions", captions)
    assert found == [("Two cats eat a hot dog.", {"cats": 20, "hot dog": 20})]
    assert "1 captions that name no annotated category" in capsys.readouterr().out


def test_panoptic_narratives(folder):
    rgb = np.zeros((*SIZE, 3), dtype=np.uint8)
    rgb[:10], rgb[10:] = (5, 0, 0), (0, 1, 0)
    (folder / "pngs").mkdir()
    Image.fromarray(rgb).save(folder / "pngs/a.png")
    image = {"id": 1, "file_name": "a.jpg", "height": 20, "width": 30}
    infos = [{"id": 5, "category_id": 1}, {"id": 256, "category_id": 2}]
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": infos}
    categories = [{"id": 1, "isthing": 1}, {"id": 2, "isthing": 0}]
    panoptic = save(
        folder / "panoptic.json", {"images": [image], "annotations": [annotation], "categories": categories}
    )
    pieces = [("In", []), ("the sky", ["256"]), ("a kite", ["5"]), (".", [])]
    segments = [{"utterance": words, "segment_ids": ids, "plural": False} for words, ids in pieces]
    captions = save(folder / "png.json", 2 * [{"image_id": "1", "segments": segments}])
    options = ("--images", folder / "pictures", "--panoptic", panoptic, "--masks", folder / "pngs")
    assert convert(folder, "panoptic", captions, *options) == [("In the sky a kite .", {"the sky": 300, "a kite": 300})]
    entry = parse(next(read_lines(folder / "data.jsonl"))[2])
    assert [info["isthing"] for info in entry.infos] == [False, True]


def test_refcoco_expressions(folder):
    file, _ = coco(folder)
    content = json.loads(file.read_text())
    content["annotations"][2]["segmentation"] = [FLAT]  # RefCOCO's objects all have one
    save(file, content)
    sentences = [{"raw": "left cat"}, {"raw": "the cat."}]
    refs = [
        {"ref_id": 1, "ann_id": 1, "image_id": 1, "split": "train", "sentences": sentences},
        {"ref_id": 2, "ann_id": 2, "image_id": 1, "split": "train", "sentences": [{"raw": "left cat"}]},
        {"ref_id": 3, "ann_id": 5, "image_id": 2, "split": "val", "sentences": [{"raw": "dog"}]},
        {"ref_id": 4, "ann_id": 99, "image_id": 2, "split": "val", "sentences": [{"raw": "none"}]},
    ]
    (folder / "refs.p").write_bytes(pickle.dumps(refs))
    options = ("--images", folder / "pictures", "--refs", folder / "refs.p")
    (text, masks), *others = convert(folder, "refcoco", file, *options)
    assert text == "left cat. the cat. left cat."
    assert masks == {"left cat": 4, "the cat": 16}
    assert others == []
    assert convert(folder, "refcoco", file, *options, "--split", "val") == [("dog.", {"dog": 600})]


def test_what_cannot_be_drawn_is_left_out(folder, capsys):
    file, captions = coco(folder)
    content = json.loads(file.read_text())
    more = [[[1, 1, 2, 2]], [[50, 50, 60, 50, 60, 60]], {"size": [20, 30], "counts": [600]}]
    empty = [{"id": 9 + i, "image_id": 2, "category_id": 18, "segmentation": s} for i, s in enumerate(more)]
    content["annotations"] += [*empty, {"id": 20, "image_id": 2, "category_id": 17, "bbox": [40, 2, 5, 5]}]
    content["annotations"][0]["segmentation"].append([3, 3, 4, 4])  # beside a sound polygon
    save(file, content)
    found = convert(folder, "coco", file, "--images", folder / "pictures")
    assert found == [("cat. hot dog.", {"cat": 20, "hot dog": 20}), ("dog. hot dog. cat.", {"dog": 600})]
    printed = capsys.readouterr().out
    assert "3 masks without a pixel" in printed
    assert "1 annotations of instances.json without a mask or box" in printed


def test_grefcoco_has_several_objects_or_none(folder):
    file, _ = coco(folder)
    content = json.loads(file.read_text())
    content["annotations"][2]["segmentation"] = [FLAT]
    save(file, content)
    refs = [
        {"ann_id": [1, 2], "image_id": 1, "split": "val", "no_target": False, "sentences": [{"raw": "both cats"}]},
        {"ann_id": [-1], "image_id": 1, "split": "val", "no_target": True, "sentences": [{"raw": "a horse"}]},
    ]
    options = ("--images", folder / "pictures", "--refs", save(folder / "grefs.json", refs), "--split", "val")
    found = convert(folder, "refcoco", file, *options)
    assert found == [("both cats. a horse.", {"both cats": 20, "a horse": 0})]


def test_labelme(folder, capsys):
    mask = io.BytesIO()
    Image.fromarray(np.full((3, 4), 255, dtype=np.uint8)).save(mask, "PNG")
    shapes = [
        {"label": "cat", "points": SQUARE, "shape_type": "polygon"},
        {"label": "box", "points": [[10, 4], [6, 2]], "shape_type": "rectangle"},
        {"label": "ball", "points": [[20, 10], [24, 10]], "shape_type": "circle"},
        {"label": "cat", "points": [[8, 8], [12, 11]], "shape_type": "mask", "mask": _text(mask)},
        {"label": "way", "points": [[8, 8], [12, 11]], "shape_type": "linestrip"},
    ]
    content = {"imagePath": "..\\pictures\\a.jpg", "imageHeight": 20, "imageWidth": 30, "shapes": shapes}
    save(folder / "labels/a.json", content)
    save(folder / "labels/other.json", [])
    ((text, masks),) = convert(folder, "labelme", folder / "labels")
    assert text == "cat. box. ball."
    assert (masks["cat"], masks["box"]) == (16 + 12, 8)
    assert masks["ball"] == pytest.approx(np.pi * 16, rel=0.1)
    printed = capsys.readouterr().out
    assert "1 shapes of the kind 'linestrip'" in printed
    assert "1 JSON files that are not of LabelMe" in printed


def _text(stream):
    return base64.b64encode(stream.getvalue()).decode()


def packed(values, word=8, sizes=(1, 4, 8, 16)):
    """Run lengths in bits, as Label Studio packs an RGBA picture."""
    bits = f"{len(values):032b}{word - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    place = 0
    while place < len(values):
        length = next((n for n in range(1, min(len(values) - place, 1 << 16)) if values[place + n] != values[place]), 0)
        length = length or min(len(values) - place, 1 << 16)
        which = next(i for i, size in enumerate(sizes) if length - 1 < 1 << size)
        bits += f"1{which:02b}{length - 1:0{sizes[which]}b}{values[place]:0{word}b}"
        place += length
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def test_label_studio(folder, capsys):
    size = {"original_width": 30, "original_height": 20}
    alpha = np.zeros((*SIZE, 4), dtype=np.uint8)
    alpha[:3, :5] = 255
    percent = [[100 * x / 30, 100 * y / 20] for x, y in SQUARE]
    box = {"x": 10, "y": 10, "width": 20, "height": 30}  # 3..9, 2..8
    results = [
        {**size, "type": "polygonlabels", "value": {"points": percent, "polygonlabels": ["cat"]}},
        {**size, "type": "rectanglelabels", "value": {**box, "rotation": 0, "rectanglelabels": ["box", "thing"]}},
        {**size, "type": "rectanglelabels", "value": {**box, "x": 50, "rotation": 90, "rectanglelabels": ["turned"]}},
        {
            **size,
            "type": "brushlabels",
            "value": {"format": "rle", "rle": packed(alpha.ravel()), "brushlabels": ["sky"]},
        },
        {
            **size,
            "type": "ellipselabels",
            "value": {"x": 50, "y": 50, "radiusX": 20, "radiusY": 20, "ellipselabels": ["o"]},
        },
        {**size, "type": "keypointlabels", "value": {"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["p"]}},
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        {"type": "choices", "value": {"choices": ["x"]}},
    ]
    tasks = [
        {"data": {"image": "/data/upload/3/a.jpg"}, "annotations": [{"result": results}]},
        {"data": {"image": "/data/local-files/?d=b.jpg"}, "annotations": [{"was_cancelled": True, "result": results}]},
        {"data": {"text": "no picture"}, "annotations": []},
        # the tool's folder is another one, and an upload has letters in front of its name
        {"data": {"image": "/data/local-files/?d=photos/set/b.jpg"}, "annotations": [{"result": results[:1]}]},
        {"data": {"image": "/data/upload/3/0a1b2c3d-b.jpg"}, "annotations": [{"result": results[1:2]}]},
    ]
    (text, masks), local, upload = convert(
        folder, "label-studio", save(folder / "export.json", tasks), "--images", folder / "pictures"
    )
    assert local == ("cat.", {"cat": 16})
    assert upload == ("box. thing.", {"box": 36, "thing": 36})
    assert text == "cat. box. thing. turned. sky. o."
    assert (masks["cat"], masks["box"], masks["thing"], masks["turned"], masks["sky"]) == (16, 36, 36, 36, 15)
    assert masks["o"] == pytest.approx(np.pi * 6 * 4, rel=0.1)
    printed = capsys.readouterr().out
    assert "1 tasks without a picture" in printed
    assert "1 results of the type 'relation'" in printed
    assert "1 results of the type 'keypointlabels'" in printed


def test_a_picture_of_another_size_than_its_annotation_is_named(folder):
    value = {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["cat"]}
    result = {"original_width": 60, "original_height": 40, "type": "polygonlabels", "value": value}
    task = {"data": {"image": "a.jpg"}, "annotations": [{"result": [result]}]}
    out = folder / "data.jsonl"
    source = save(folder / "export.json", [task])
    words = ["data", "convert", "label-studio", source, "--images", folder / "pictures", "--out", out]
    assert main(list(map(str, words))) == 0
    (fault,) = [finding.text for finding in check_file(out).findings if finding.state == "broken"][:1]
    assert "20 x 30" in fault
    assert "40 x 60" in fault


def test_brushes_that_are_cut_are_refused():
    runs = packed(np.zeros(20 * 30 * 4, dtype=np.uint8))
    assert not brush_mask(runs, 20, 30).any()
    with pytest.raises(ValueError, match="in the middle"):
        brush_mask(runs[:9], 20, 30)
    with pytest.raises(ValueError, match="are of 600 pixels, the picture has 630"):
        brush_mask(runs, 21, 30)


def test_cvat(folder):
    points = ";".join(f"{x},{y}" for x, y in SQUARE)
    xml = f"""<?xml version="1.0"?><annotations><image id="0" name="a.jpg" width="30" height="20">
      <polygon label="cat" points="{points}"/><box label="box" xtl="6" ytl="2" xbr="10" ybr="4"/>
      <mask label="sky" rle="2, 2, 2" left="4" top="3" width="3" height="2"/>
      <ellipse label="o" cx="15" cy="10" rx="6" ry="4"/><points label="p" points="1,1"/><tag label="day"/>
      <box label="turned" xtl="18" ytl="5" xbr="24" ybr="9" rotation="90"/>
    </image><image id="1" name="b.jpg" width="30" height="20"/></annotations>"""
    ((text, masks),) = convert(folder, "cvat", save(folder / "annotations.xml", xml), "--images", folder / "pictures")
    assert text == "cat. box. sky. o. turned."
    assert (masks["cat"], masks["box"], masks["sky"]) == (16, 8, 2)
    entry = parse(next(read_lines(folder / "data.jsonl"))[2])
    turned = open_entry(entry, folder)[1][entry.words.index("turned")]
    assert turned[4:10, 19:23].all()  # 4 wide and 6 high around (21, 7)
    assert turned.sum() == 24
    assert masks["o"] == pytest.approx(np.pi * 6 * 4, rel=0.1)


def test_flickr30k(folder, capsys):
    said = "[/EN#1/people Two men] look at [/EN#2/clothing/other a hat] under [/EN#0/notvisual the sky] .\n\n"
    save(folder / "Sentences/a.txt", said)
    boxes = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x + 1}</xmin><ymin>1</ymin><xmax>{x + 4}</xmax><ymax>5</ymax>"
        "</bndbox></object>"
        for name, x in (("1", 0), ("1", 10), ("2", 20))
    )
    hidden = "<object><name>0</name><nobndbox>1</nobndbox></object>"
    save(folder / "Annotations/a.xml", f"<annotation>{boxes}{hidden}</annotation>")
    options = ("--boxes", folder / "Annotations", "--images", folder / "pictures")
    found = convert(folder, "flickr30k", folder / "Sentences", *options)
    assert found == [("Two men look at a hat under the sky .", {"Two men": 40, "a hat": 20})]
    assert "1 entities without a box" in capsys.readouterr().out


def test_a_folder_of_masks(folder, capsys):
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[1:5, 2:6] = 255
    for path in ("masks/a/the_cat.png", "masks/a/a mat.png", "masks/b__dog.png", "masks/b__dog2.png"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask if "2" not in path else mask[::-1]).save(folder / path)
    save(folder / "pictures/a.txt", "\ufeffThe cat sits on a mat.\r\n")  # as Windows' editor saves it
    Image.new("RGB", SIZE[::-1]).save(folder / "pictures/c.jpg")
    found = convert(folder, "folder", folder / "pictures", "--masks", folder / "masks")
    assert found == [("The cat sits on a mat.", {"a mat": 16, "The cat": 16}), ("dog.", {"dog": 32})]
    assert "1 pictures without a mask" in capsys.readouterr().out


def refused(folder, capsys, *words):
    assert main(["data", "convert", *map(str, words), "--out", str(folder / "out/data.jsonl")]) == 1
    assert not list(folder.glob("out/*"))
    return capsys.readouterr().err


def test_what_cannot_be_converted(folder, capsys):
    file, _ = coco(folder)
    pictures = ("--images", folder / "pictures")
    assert "needs --images" in refused(folder, capsys, "coco", file)
    assert "no file" in refused(folder, capsys, "coco", folder / "none.json", *pictures)
    assert "not complete JSON" in refused(folder, capsys, "coco", save(folder / "x.json", "{"), *pictures)
    assert "no annotation file of COCO" in refused(folder, capsys, "coco", save(folder / "x.json", "[]"), *pictures)
    assert "not complete XML" in refused(folder, capsys, "cvat", save(folder / "x.xml", "<a>"), *pictures)
    assert "nothing to write" in refused(folder, capsys, "cvat", save(folder / "x.xml", "<a/>"), *pictures)
    assert "no JSON export" in refused(folder, capsys, "label-studio", save(folder / "x.json", "{}"), *pictures)
    assert "lacks 'data'" in refused(folder, capsys, "label-studio", save(folder / "x.json", [{}]), *pictures)
    assert "cannot be read (Is a directory)" in refused(folder, capsys, "cvat", folder, *pictures)
    assert "cannot be read (Is a directory)" in refused(folder, capsys, "coco", folder, *pictures)
    xml = save(folder / "x.xml", '<a><image name="a.jpg" width="wide" height="20"/></a>')
    assert "x.xml: invalid literal" in refused(folder, capsys, "cvat", xml, *pictures)
    (folder / "Sentences").mkdir()
    (folder / "Sentences/a.txt").write_bytes("[/EN#1/other Ein Café]".encode("latin-1"))
    save(folder / "Annotations/a.xml", "<annotation/>")
    options = (*pictures, "--boxes", folder / "Annotations")
    assert "a.txt is not in UTF-8" in refused(folder, capsys, "flickr30k", folder / "Sentences", *options)
    assert "no *.json in" in refused(folder, capsys, "labelme", folder / "pictures")
    assert "is not below" in refused(folder, capsys, "coco", file, *pictures)
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = 99
    assert "annotation 1: no category 99" in refused(folder, capsys, "coco", save(file, content), *pictures)


def test_a_common_root(folder):
    file, _ = coco(folder)
    out, root = folder / "lists/data.jsonl", str(folder)
    words = ["data", "convert", "coco", file, "--images", folder / "pictures", "--out", out, "--root", root]
    assert main(list(map(str, words))) == 0
    assert main(["data", "check", str(out), "--root", root]) == 0
