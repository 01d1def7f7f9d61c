"""How the tiny LLaVA is trained: many texts after one picture are read as each would be alone."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts/tiny"))

from dialogues import COLUMNS, INSTRUCTION, ROWS, cell, closeup_dialogue, pair_text, sample_dialogue  # noqa: E402
from patch_labels import RELATIONS, relations  # noqa: E402
from scene_pool import closeup_box, make_closeup_pool  # noqa: E402
from text_batches import ROW, Steps, encode, encode_dialogue, pack, pair_pieces, prefix_ids  # noqa: E402
from tiny_parts import IMAGE_SIDE, build_model, build_processor, build_tokenizer  # noqa: E402
from tower import Pixels, read_patches  # noqa: E402
from train_tiny_llava import Trainer  # noqa: E402

from flmm.datasets.shapes.expressions import PLACES, expressions  # noqa: E402
from flmm.datasets.shapes.scene import COLORS, SHAPES, sample_scene  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def pool():
    return make_closeup_pool(77, 3, IMAGE_SIDE, workers=1)


def test_every_word_of_every_text_is_known(tokenizer, pool):
    rng = random.Random(0)
    for index, scene in enumerate(pool.scenes[:3]):
        texts = [encode_dialogue(tokenizer, sample_dialogue(scene, rng)) for _ in range(60)]
        texts += [encode_dialogue(tokenizer, closeup_dialogue(scene, int(pool.shown[3 + index]), rng))]
        for ids, said in texts:
            assert tokenizer.unk_token_id not in ids
            assert len(ids) <= ROW
            assert ids[-1] == tokenizer.eos_token_id
            assert said.any()
            assert not said[0]


def test_the_vocabulary_is_that_of_the_weights(tokenizer):
    """Another order of words would train the weights on other ones; another share of dialogues may lose a word."""
    saved = json.loads((ROOT / "checkpoints/tiny_llava/tokenizer.json").read_text())["model"]["vocab"]
    assert tokenizer.get_vocab() == saved


def test_a_cell_is_where_the_middle_of_a_shape_lies():
    for scene in map(sample_scene, range(20)):
        side = max(scene.width, scene.height)
        for index, shape in enumerate(scene.shapes):
            column, row = cell(scene, index).split()
            place = np.array([COLUMNS.index(column), ROWS.index(row)])
            middle = np.array([shape.x, shape.y]) + (side - np.array([scene.width, scene.height])) / 2
            assert (np.abs(middle / (side / 8) - place - 0.5) <= 0.5).all()


def test_the_template_is_that_of_the_data_sets():
    from xtuner.utils.templates import PROMPT_TEMPLATE

    assert PROMPT_TEMPLATE.vicuna["INSTRUCTION"] == INSTRUCTION


def test_patches_learn_the_relations_that_expressions_name(pool):
    """The left star is left by kind; a star left of a red circle has a red circle to its right."""
    seen = set()
    for seed in range(40):
        scene = sample_scene(seed)
        for index, shape in enumerate(scene.shapes):
            known = dict(zip(RELATIONS, relations(scene, index), strict=True))
            said = expressions(scene, index)
            for place in ("left", "right", "middle"):
                named = f"the {place} {shape.kind}" in said
                assert named == (PLACES[known["place by kind"]] == place), (seed, index, place)
                seen |= {place} if named else set()
            for color in COLORS:
                for kind in SHAPES:
                    if {f"the {shape.kind} left of the {color} {kind}", f"the {shape.kind} left of the {kind}"} & {
                        *said
                    }:
                        assert known["kind right"] == 1 + SHAPES.index(kind)
                        seen.add("left of")
    assert seen == {"left", "right", "middle", "left of"}


@pytest.fixture(scope="module")
def trainer(tokenizer):
    torch.manual_seed(0)
    trainer = Trainer.__new__(Trainer)  # without pools
    trainer.model, trainer.tokenizer = build_model(tokenizer).eval(), tokenizer
    trainer.language, trainer.tower = trainer.model.model.language_model, trainer.model.model.vision_tower
    return trainer


@pytest.mark.parametrize("pictures", [1, 2])
def test_packed_texts_are_read_as_alone(trainer, tokenizer, pool, pictures):
    rng, model = random.Random(1), trainer.model
    prefix = prefix_ids(tokenizer, model.config.image_seq_length, pictures)
    if pictures == 1:
        texts = [[encode_dialogue(tokenizer, sample_dialogue(pool.scenes[i], rng)) for _ in range(5)] for i in (0, 1)]
        shown = np.array([[0], [1]])
    else:
        turns = [pair_text(pool.scenes[0], int(pool.shown[3]), rng) for _ in range(4)]
        texts, shown = [[encode(tokenizer, pair_pieces(turn)) for turn in turns]], np.array([[0, 3]])
    batch = pack(prefix, texts, rows=3, pad=tokenizer.pad_token_id)
    images = torch.from_numpy(pool.images[shown.flatten()])
    pixels = Pixels(build_processor().image_mean, build_processor().image_std)(images)
    attend(trainer, "lean", "lean")
    with torch.no_grad():
        features = read_patches(trainer.tower, pixels).unflatten(0, (-1, pictures))
        logits = trainer.read(batch, features)
        attend(trainer, "eager", "sdpa")
        where = torch.stack([batch.spoken // batch.texts[0].numel(), batch.texts.flatten()[batch.spoken]], 1)
        for picture, number in {tuple(w) for w in where.tolist()}:
            ids, said = texts[picture][number]
            one = torch.tensor([prefix + ids.tolist()])
            alone = model(input_ids=one, pixel_values=pixels.unflatten(0, (-1, pictures))[picture]).logits[0]
            rows = [len(prefix) + i for i in range(len(ids) - 1) if said[i + 1]]
            mine = (where[:, 0] == picture) & (where[:, 1] == number)
            assert torch.allclose(logits[mine], alone[rows], atol=1e-5)
            assert batch.labels[mine].tolist() == ids[1:][said[1:]].tolist()
    assert len({tuple(w) for w in where.tolist()}) >= 3


def test_a_step_hangs_on_its_number_alone(tokenizer, pool):
    """So a training can go on at any step, with any number of processes that make texts."""
    steps = Steps(pool, tokenizer, 144, (2, 1, 1), range(1, 9), seed=0)
    later = Steps(pool, tokenizer, 144, (2, 1, 1), range(4, 9), seed=0)
    for mine, other in ((steps[3], later[0]), (steps[7], later[4])):
        assert (mine.pictures == other.pictures).all()
        assert (mine.pictures >= 3).tolist() == [False, False, True]
        for (_, one), (_, two) in zip(vars(mine.single).items(), vars(other.single).items(), strict=True):
            assert torch.equal(torch.as_tensor(one), torch.as_tensor(two))
        assert torch.equal(mine.pair[1].ids, other.pair[1].ids)
        assert (mine.single.texts[:2] >= 0).float().mean() > 0.6  # rows of whole pictures are full
    assert steps[0].pair is None
    assert not torch.equal(steps[0].single.ids, steps[1].single.ids)


def attend(trainer, language, tower):
    trainer.language.set_attn_implementation(language)
    trainer.tower.set_attn_implementation(tower)


def test_close_ups_show_their_shape_and_its_sign(pool):
    for index in range(3, 6):
        scene, shown = pool.scenes[index], int(pool.shown[index])
        assert (pool.regions[index] == 2 + shown).mean() > 0.25
        x0, y0, x1, y1 = pool.signs[index]
        if scene.shapes[shown].sign:
            assert 8 <= y1 - y0 <= 40
            assert (pool.regions[index][y0:y1, x0:x1] == 2 + shown).all()


def test_close_up_boxes_hold_at_least_sixteen_pixels_and_lie_inside():
    mask = np.zeros((40, 60), bool)
    mask[0, 0] = True
    for seed in range(20):
        x0, y0, x1, y1 = closeup_box(mask, np.random.default_rng(seed))
        assert 0 <= x0 < x1 <= 60
        assert 0 <= y0 < y1 <= 40
        assert x1 - x0 >= 5
