"""A cache changes no bit of a training, survives whatever may happen to it, and reads nothing outdated."""

import ast
import importlib
import json
import multiprocessing
import re
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from golden_cases import GoldenCase, build_llava
from mmengine.config import Config
from PIL import Image

from flmm.checkpoint import read_checkpoint
from flmm.datasets.shapes import make_shapes
from flmm.models.frozen_llava import FrozenLlavaSAM, LlavaBackbone
from flmm.models.frozen_lmm import FrozenLMM
from flmm.models.reader import Reader
from flmm.runner import CustomRunner
from flmm.training import tensor_store
from flmm.training.cache import KINDS, UNSEEN, CachedReader, TensorCache
from flmm.training.check_config import check_config
from flmm.training.fingerprint import Fingerprint, digest, module_digest, source_digest
from segment_anything import sam_model_registry

ROOT = Path(__file__).parents[2]
NANO = {"model_name": "vit_nano", "checkpoint": str(ROOT / "checkpoints/sam_vit_nano.pth")}
fork = multiprocessing.get_context("fork")


@pytest.fixture
def told(monkeypatch):
    """What the cache logs."""
    messages = []
    monkeypatch.setattr(tensor_store, "print_log", lambda message, **_: messages.append(message))
    return messages


@pytest.fixture(scope="module")
def case():
    return GoldenCase("llava15_a")


@pytest.fixture(scope="module")
def lmm(case):
    return build_llava(case).backbone.model


@pytest.fixture
def samples(case):
    """The recorded sample, and the same seen in a mirror."""
    (sample,) = case.samples()
    mirrored = {key: sample[key].flip(-1) for key in ("pixel_values", "masks")}
    return [sample, {**sample, **mirrored, "image": sample["image"].transpose(Image.Transpose.FLIP_LEFT_RIGHT)}]


@pytest.fixture
def build(case, lmm, tmp_path):
    """Makes models around one LMM, with equal heads."""

    def make(folder="cache", max_gb=1, **head):
        torch.manual_seed(0)
        config = case.head_config()
        config["sam"].update(NANO)
        config["cache"] = folder and {"type": TensorCache, "folder": str(tmp_path / folder), "max_gb": max_gb}
        return FrozenLlavaSAM(**{"model": lmm, **config, **head}).train()

    return make


def steps(model, samples):
    """Losses and gradients of one step."""
    model.zero_grad(set_to_none=True)
    losses = model(samples, mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) > 20
    return {**{name: value.detach() for name, value in losses.items()}, **gradients}


def assert_same_bits(found, expected):
    assert set(found) == set(expected)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def counts(model):
    """(found, computed) of each kind."""
    stores = model.cache.stores
    return {kind: (stores[kind].found, stores[kind].computed) if kind in stores else (0, 0) for kind in KINDS}


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 2])
def test_losses_and_gradients_are_the_same_bits(samples, build, batch, dtype, monkeypatch):
    samples = samples[:batch]
    plain, cold, warm = build(None), build(), build()
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        expected = steps(plain, samples)
        before = torch.get_rng_state()
        assert_same_bits(steps(cold, samples), expected)
        assert counts(cold) == {"lmm": (0, batch), "sam": (0, batch)}
        for part, name in ((warm.backbone, "tokens"), (warm.sam.model.image_encoder, "forward")):
            monkeypatch.setattr(type(part), name, None)  # with a warm cache neither is called
        assert_same_bits(steps(warm, samples), expected)
        assert counts(warm) == {"lmm": (batch, 0), "sam": (batch, 0)}
        assert torch.equal(torch.get_rng_state(), before)


def test_only_what_is_missing_is_computed(samples, build):
    steps(build(), samples[:1])
    model = build()
    steps(model, samples)
    assert counts(model) == {"lmm": (1, 1), "sam": (1, 1)}


def test_one_kind_alone(case, build, tmp_path):
    model = build(cache=TensorCache(tmp_path / "alone", 1, kinds=["sam"]))
    steps(model, case.samples()[:1])
    steps(model, case.samples()[:1])
    assert counts(model) == {"lmm": (0, 0), "sam": (1, 1)}
    assert type(model.read) is Reader


def test_off_by_default(build):
    model = build(None)
    assert model.cache is None
    assert type(model.read) is Reader
    assert model.encode == model.sam.encode


def test_a_model_with_a_cache_still_talks(case, build):
    model = build()
    assert isinstance(model.read, CachedReader)
    sample = case.samples()[0]
    assert len(model.read.generate(sample, max_new_tokens=2).token_ids) == 2


@pytest.fixture(scope="module")
def filled(case, lmm, tmp_path_factory):
    """A folder with the entries of a sample, and its model."""
    folder = tmp_path_factory.mktemp("filled")
    config = case.head_config()
    config["sam"].update(NANO)
    model = FrozenLlavaSAM(model=lmm, **config, cache=TensorCache(folder, 1))
    model.predict(case.samples()[0])
    return model


def missed(model, sample):
    """The kinds of which an entry had to be computed."""
    before = {kind: store.computed for kind, store in model.cache.stores.items()}
    with torch.no_grad():
        model.read([sample])
        model.encode([sample["image"]])
    return [kind for kind in KINDS if model.cache.stores[kind].computed > before[kind]]


def test_nothing_changed(case, filled):
    assert missed(filled, case.samples()[0]) == []


def lighter(image):
    return image.point(lambda value: value // 2)


@pytest.mark.parametrize(
    ("key", "change", "kinds"),
    [
        ("pixel_values", lambda v: v.index_fill(2, torch.tensor([5]), 0.5), ["lmm"]),
        ("input_ids", lambda v: v.index_fill(0, torch.tensor([len(v) - 1]), 7), ["lmm"]),
        ("mask_ids", lambda v: v.index_fill(0, (v < 0).nonzero()[-1], 0), ["lmm"]),
        ("image", lighter, ["lmm", "sam"]),
        ("an_adapter_of_tomorrow_reads_it", lambda _: {"grid": [1, 2.5, "x", None]}, ["lmm"]),
        ("masks", lambda v: 1 - v, []),
        ("file_name", lambda _: "elsewhere.jpg", []),
    ],
)
def test_another_sample(case, filled, key, change, kinds):
    sample = case.samples()[0]
    sample[key] = change(sample.get(key))
    assert missed(filled, sample) == kinds


def test_a_sample_that_has_no_content_to_compare(case, filled):
    with pytest.raises(ValueError, match=r"\['secret'\] is a builtins\.object: only values, arrays"):
        filled.read([{**case.samples()[0], "secret": object()}])


@pytest.mark.parametrize("name", ["lmm", "sam"])
def test_changed_weights(case, filled, name):
    part = filled.backbone.model if name == "lmm" else filled.sam.model.image_encoder
    weight = next(p for p in part.parameters() if p.ndim == 4)
    value = weight[0, 0, 0, 0].clone()
    with torch.no_grad():
        weight[0, 0, 0, 0] = value.nextafter(value + 1)
        assert missed(filled, case.samples()[0]) == [name]
        weight[0, 0, 0, 0] = value
    assert missed(filled, case.samples()[0]) == []


def test_changed_settings(case, filled, monkeypatch):
    sample, merge = case.samples()[0], filled.read.merge

    def computed(merge=merge, **settings):
        backbone = LlavaBackbone(filled.backbone.model)
        vars(backbone).update(settings)
        before = filled.cache.stores["lmm"].computed
        FrozenLMM(backbone, mask_head=None, merge=merge, cache=filled.cache).read([sample])
        return filled.cache.stores["lmm"].computed - before

    assert computed() == 0
    assert computed(resize_before_merge=True) == 1
    assert computed(merge="max" if merge == "mean" else "mean") == 1
    with monkeypatch.context() as patch:
        patch.setattr(filled.backbone.model.config, "vision_feature_layer", -1)
        assert computed() == 1
    with monkeypatch.context() as patch:
        patch.setattr("PIL.__version__", "13.0.0")  # SAM's pictures and MGM's are resized after the key is taken
        assert missed(filled, sample) == ["lmm", "sam"]
    with torch.autocast("cpu", torch.bfloat16):
        assert missed(filled, sample) == ["lmm", "sam"]
    assert missed(filled, sample) == []


def test_another_dtype(case, build, lmm):
    model, sample = build(model=deepcopy(lmm)), case.samples()[0]
    model.predict(sample)
    model.backbone.bfloat16()
    assert missed(model, sample) == ["lmm"]
    model.sam.model.mask_decoder.bfloat16()
    assert missed(model, sample) == ["sam"]


def test_no_adapter_reads_what_is_no_part_of_the_key():
    files = [*(ROOT / "flmm/models").glob("frozen_*.py"), ROOT / "flmm/models/grids.py"]
    assert len(files) > 5
    for file in files:
        tokens = [n for n in ast.walk(ast.parse(file.read_text())) if getattr(n, "name", "") not in ("FrozenLMM",)]
        adapters = [n for n in tokens if isinstance(n, ast.ClassDef) and not n.name.startswith("Frozen")]
        words = {c.value for n in adapters for c in ast.walk(n) if isinstance(c, ast.Constant)}
        assert not words & UNSEEN, file


def test_the_key_holds_all_code_that_reads_and_no_other(filled, monkeypatch):
    files, read_bytes = set(), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: files.add(path) or read_bytes(path))
    CachedReader(filled.cache.stores["lmm"], filled.read).fingerprint()
    names = ("backbone", "capture", "functional", "loading", "packing", "reader")
    shared = [ROOT / f"flmm/models/{name}.py" for name in names]
    own = {file for file in files if file.is_relative_to(ROOT) and ".venv" not in file.parts}
    assert own == {*shared, ROOT / "flmm/models/frozen_llava.py", *(ROOT / "llava").rglob("*.py")}
    imported = {name for file in shared for name in re.findall(r"^from flmm\.(\S+)", file.read_text(), re.MULTILINE)}
    assert imported - {"constants"} <= {f"models.{file.stem}" for file in shared}  # ids that are never changed


def test_a_package_counts_as_a_whole_or_by_its_version(tmp_path, monkeypatch):
    for name in ("llava", "mgm", "deepseek_vl", "hpt", "segment_anything"):
        assert "__version__" not in (ROOT / name / "__init__.py").read_text(), name
    (tmp_path / "lmm_of_a_user").mkdir()
    (tmp_path / "lmm_of_a_user/__init__.py").write_text("class Tower: ...")
    monkeypatch.syspath_prepend(tmp_path)
    package = importlib.import_module("lmm_of_a_user")

    def digest_with(gain):
        (tmp_path / "lmm_of_a_user/functions.py").write_text(f"GAIN = {gain}")
        return source_digest([package.Tower])

    assert digest_with(1) == digest_with(1) != digest_with(2)
    package.__version__ = "1.0"
    first = digest_with(1)
    assert first == digest_with(2)
    package.__version__ = "1.1"
    assert first != digest_with(1)


def test_a_fingerprint_is_that_of_the_content(monkeypatch):
    make = lambda: sam_model_registry["vit_nano"](checkpoint=NANO["checkpoint"]).image_encoder  # noqa: E731
    encoder = make()
    assert module_digest(encoder) == module_digest(make().train())
    encoder.img_size += 1
    assert module_digest(encoder) != module_digest(make())
    moving = make()
    add_hook_to_module(moving, AlignDevicesHook(execution_device="cpu"))
    assert module_digest(moving) == module_digest(make())
    compiled = make()
    monkeypatch.setattr(torch, "compile", lambda call: call)  # the real one takes seconds to import
    compiled.compile()
    assert module_digest(compiled) != module_digest(make())
    layer = torch.nn.Linear(2, 2)
    fingerprint = Fingerprint(layer)
    before = fingerprint()
    layer.weight.data = layer.weight.data.clone()
    assert fingerprint() == before  # moved, not changed
    layer.act = lambda x: x
    with pytest.raises(ValueError, match=r"\.act is <function .* cannot be part of a cache's key"):
        Fingerprint(layer)()
    with pytest.raises(ValueError, match="weight is not in memory"):
        module_digest(torch.nn.Linear(2, 2, device="meta"))


def test_digests_tell_apart_what_looks_alike():
    ones = torch.ones(4)
    alike = [1, 1.0, True, "1", b"1", None, [1], [[1]], [1, None], {1: None}, "", []]
    alike += [ones, ones.double(), ones.view(2, 2), ones.numpy(), ones.bfloat16(), torch.zeros(4), ones[:0]]
    alike += [Image.new(mode, size) for mode, size in (("L", (2, 3)), ("L", (3, 2)), ("P", (2, 3)), ("RGB", (2, 1)))]
    assert len({digest(value) for value in alike}) == len(alike)
    zeros = torch.tensor([0.0, -0.0], dtype=torch.bfloat16)
    assert digest(zeros[:1]) != digest(zeros[1:])  # equal, but another bit
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(torch.arange(6).view(2, 3).T) == digest(torch.tensor([[0, 3], [1, 4], [2, 5]]))


def test_what_cannot_be_a_cache_is_refused(tmp_path):
    (tmp_path / "file").write_text("notes")
    with pytest.raises(ValueError, match=r"cache folder .*file is a file: name a folder"):
        TensorCache(tmp_path / "file", 1)
    with pytest.raises(ValueError, match="max_gb=0"):
        TensorCache(tmp_path / "new", 0)
    with pytest.raises(ValueError, match=r"kinds \['llm'\] are unknown: there are lmm, sam"):
        TensorCache(tmp_path / "new", 1, kinds=["llm"])


# --- a whole training


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("data") / "shapes", train=2, val=3, workers=1)


CONFIG = """
from mmengine.config import read_base

from flmm.training.cache import TensorCache

with read_base():
    from .configs.tiny.frozen_tiny_llava_unet_sam_nano_shapes import *

train_cfg.update(max_iters=4)
default_hooks.checkpoint.update(interval=2)
model.mask_head.update(base_channels=8)
train_dataloader.update(num_workers=0)
train_dataloader.dataset = dict(png, **train_dataloader.dataset.shared)
"""
CACHED = """
model.update(cache=dict(type=TensorCache, folder="{folder}", max_gb=1))
"""


@pytest.fixture
def training(shapes, tmp_path, monkeypatch):
    """Trains the tiny model for two epochs of two samples; returns the weights and the model."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)  # 2 s after every epoch
    monkeypatch.setattr(Config, "pretty_text", "formatting it takes longer than the training")

    def config(name, lines="", **changes):
        (tmp_path / f"{name}.py").write_text(CONFIG + lines.format(folder=tmp_path / "cache"))
        config = Config.fromfile(tmp_path / f"{name}.py")
        data = config.train_dataloader.dataset
        data.update({key: v.replace("data/shapes", str(shapes)) for key, v in data.items() if isinstance(v, str)})
        texts = json.loads(Path(data.json_file).read_text())[:2]  # the captions of two pictures
        data.json_file = str(tmp_path / "captions.json")
        Path(data.json_file).write_text(json.dumps(texts))
        config.work_dir = config.experiment_name = str(tmp_path / name)
        config.merge_from_dict(changes)
        return config

    return config


def trained(config):
    runner = CustomRunner.from_cfg(config)
    runner.train()
    return read_checkpoint(Path(config.work_dir) / "iter_4.pth")["state_dict"], runner.model


@pytest.mark.slow
def test_a_training_with_a_cache_ends_with_the_same_weights(training, tmp_path, told):
    plain, _ = trained(training("plain"))
    cold, model = trained(training("cold", CACHED))
    assert counts(model) == {"lmm": (2, 2), "sam": (2, 2)}
    assert_same_bits(cold, plain)
    announced = [message for message in told if "MB an entry, 1 GB are left for this process" in message]
    assert len(announced) == len(told) == 2  # once for each kind
    warm, model = trained(training("warm", CACHED))
    assert counts(model) == {"lmm": (4, 0), "sam": (4, 0)}
    assert_same_bits(warm, plain)
    half = str(tmp_path / "cold/iter_2.pth")
    resumed, model = trained(training("resumed", CACHED, resume=True, load_from=half))
    assert counts(model) == {"lmm": (2, 0), "sam": (2, 0)}
    assert_same_bits(resumed, plain)


def test_the_config_check_knows_the_cache(training):
    check_config(training("right", CACHED))
    with pytest.raises(ValueError, match=r"`model\.cache\.max_gbs`: TensorCache does .* mean `max_gb`"):
        check_config(training("wrong", CACHED.replace("max_gb", "max_gbs")))
