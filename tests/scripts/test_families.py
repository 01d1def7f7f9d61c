"""The commands of a user on every LMM family: two training steps, an evaluation, a picture grounded with that head.

The configs are the real ones; weights and data are tiny (tests/helpers/families.py).
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from families import FAMILIES, ROOT, TRAINED
from PIL import Image, ImageDraw
from typed import typed, without_waiting

from flmm.checkpoint import read_checkpoint
from flmm.cli import main as cli
from flmm.datasets.shapes import make_shapes

STEPS = 2
CHANGES = f"""
train_dataloader.update(num_workers=0)
train_cfg.update(max_epochs=None, max_iters={STEPS})
optim_wrapper.optimizer.update(lr=1e-2)
param_scheduler[0].update(start_factor=0.5)
"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp("data") / "coco", train=8, val=3, workers=1)


@pytest.fixture(scope="module", params=list(FAMILIES))
def trained(request, shapes, tmp_path_factory):
    """A user's folder after `xtuner train CONFIG`, which is also what `flmm train` runs."""
    root = tmp_path_factory.mktemp(request.param)
    family = FAMILIES[request.param]
    config = family.lay_out(root, CHANGES)
    (root / "data").mkdir()
    (root / "data/coco").symlink_to(shapes)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        with patch.context() as training:
            without_waiting(training)
            training.setattr("mmengine.config.config.FormatCode", unformatted)
            typed(training, "xtuner.tools.train", config, "--work-dir", "run", "--seed", 0)
        checkpoint = root / f"run/iter_{STEPS}.pth"
        yield SimpleNamespace(family=family, root=root, config=config, checkpoint=checkpoint, patch=patch)


def unformatted(text, **_):
    """Instead of yapf, which spends seconds on the layout of each copy of the config that MMEngine writes."""
    return text, False


def test_two_training_steps(trained):
    checkpoint = read_checkpoint(trained.checkpoint)
    assert checkpoint["meta"]["iter"] == STEPS
    assert all(name.startswith(TRAINED) for name in checkpoint["state_dict"])
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert (checkpoint["state_dict"]["text_layer_weights"] != 1).all()  # they start at 1


def test_evaluation(trained):
    words = (trained.config, "--checkpoint", trained.checkpoint, "--limit", 2, "--output", "eval")
    typed(trained.patch, ROOT / "scripts/multiprocess_eval_png.py", *words)
    metrics = json.loads((trained.root / "eval/png.json").read_text())["splits"]["val"]
    assert metrics["images"] == 2
    for kind in ("coarse", "refined"):
        assert 0 <= metrics[kind]["all"]["average_recall"] <= 100
    records = sorted((trained.root / "eval/png_val.teacher_forced/samples").iterdir())
    assert len(records) == 2


def test_a_picture_is_grounded_with_the_trained_head(trained, capsys):
    picture = Image.new("RGB", (150, 110), (90, 120, 60))
    ImageDraw.Draw(picture).ellipse((10, 10, 75, 55), fill=(220, 40, 30))
    picture.save(trained.root / "ball.png")
    words = ["ball.png", "a red ball on the grass", "--phrase", "a red ball", "--phrase", "grass"]
    files = [
        "--config",
        trained.config,
        "--checkpoint",
        trained.checkpoint,
        "--out",
        "drawn.png",
        "--npz",
        "arrays.npz",
    ]
    status = cli.main(["ground", *words, *map(str, files)])
    printed = capsys.readouterr()
    assert status == 0, printed.err
    assert "a red ball" in printed.out
    assert Image.open(trained.root / "drawn.png").height > 110
    arrays = np.load(trained.root / "arrays.npz")
    assert arrays["masks"].shape == (2, 110, 150)
    assert arrays["attention_maps"].shape[:2] == (2, trained.family.channels)
    assert np.isfinite(arrays["attention"]).all()
    assert ((arrays["scores"] >= 0) & (arrays["scores"] <= 1)).all()
