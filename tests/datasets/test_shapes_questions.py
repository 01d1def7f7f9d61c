"""Every question's answer is found a second time, from the scene and the words of the question alone."""

import random
import re

import pytest
from shapes_reading import fits, found_by

from flmm.datasets.shapes.implicit import queries, sample_query
from flmm.datasets.shapes.questions import QUESTION_KINDS, sample_question, sign_question
from flmm.datasets.shapes.scene import FIRST_SHAPE, sample_scene

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six"]
PLACE = re.compile(r" (?:in|on) the (\w+)$")


def words_between(text, start, end=r"\?$"):
    return re.search(f"{start} (the .+?){end}", text)[1].split()


def one(scene, words):
    (index,) = found_by(scene, words)
    return scene.shapes[index]


def place_of(scene, shape):
    name = scene.stuff[shape.band]
    return f"{'in' if name in ('sky', 'sea') else 'on'} the {name}"


def singular(words):
    return [{"crosses": "cross"}.get(w, w.removesuffix("s")) for w in words]


def answer_color(scene, text):
    return one(scene, words_between(text, "(?:color is|color of|color does)", r"(?: have)?\?$")).color


def answer_kind(scene, text):
    return one(scene, words_between(text, "(?:shape is|of shape is|What is)")).kind


def answer_size(scene, text):
    return one(scene, words_between(text, "(?:large is|size is|Is)", r"(?: large or small)?\?$")).size


def answer_where(scene, text):
    return place_of(scene, one(scene, words_between(text, "(?:Where is|see)")))


def answer_count(scene, text):
    words = re.search(r"many (.+?) are", text)[1].split()
    found = [s for s in scene.shapes if fits(s, singular(words))]
    if place := PLACE.search(text.rstrip("?")):
        found = [s for s in found if scene.stuff[s.band] == place[1]]
    return NUMBERS[len(found)]


def answer_exists(scene, text):
    if found := re.search(r"see the (\w+)\?", text):
        return "yes" if found[1] in scene.stuff else "no"
    words = re.search(r"(?:there|see|Is) an? (.+?)(?: in the image)?\?", text)[1].split()
    return "yes" if any(fits(s, words) for s in scene.shapes) else "no"


def answer_beside(scene, text):
    side, rest = re.search(r"is (left|right) of (the .+)\?", text).groups()
    (index,) = found_by(scene, rest.split())
    band = sorted(scene.members(scene.shapes[index].band), key=lambda i: scene.shapes[i].x)
    shape = scene.shapes[band[band.index(index) + (1 if side == "right" else -1)]]
    return f"a {shape.size} {shape.color} {shape.kind}"


def answer_order(scene, text):
    for relation in ("left of", "right of", "above", "below"):
        if f" {relation} " in text:
            first, second = re.match(rf"Is (the .+) {relation} (the .+)\?", text).groups()
            a, b = (one(scene, words.split()) for words in (first, second))
            true = {"left of": a.x < b.x, "right of": a.x > b.x, "above": a.y < b.y, "below": a.y > b.y}
            return "yes" if true[relation] else "no"
    raise AssertionError(text)


def answer_stuff(scene, text):
    upper = any(word in text for word in ("above", "upper", "top"))
    return f"the {scene.stuff[0 if upper else 1]}"


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_answers_are_right(kind):
    rng, answers = random.Random(kind), []
    for seed in range(150):
        scene = sample_scene(seed)
        question = sample_question(scene, rng, kind)
        if question:
            assert question.answer == globals()[f"answer_{kind}"](scene, question.text), (seed, question)
            assert max(question.regions, default=0) < FIRST_SHAPE + len(scene.shapes)
            answers.append(question.answer)
    assert len(answers) > 25
    assert max(answers.count(answer) for answer in set(answers)) < 0.75 * len(answers), "one answer to all"


def test_a_sign_question_is_about_the_shape_that_bears_it():
    rng, checked = random.Random(0), 0
    for seed in range(100):
        scene = sample_scene(seed)
        for index in range(len(scene.shapes)):
            if question := sign_question(scene, index, rng):
                assert found_by(scene, question.subject.split()) == [index]
                assert question.answer == scene.shapes[index].sign
                assert question.subject in question.text
                checked += 1
    assert checked > 80


def test_implicit_queries_single_out_what_they_mean_without_its_name():
    rng = random.Random(0)
    for seed in range(150):
        scene = sample_scene(seed)
        for concept, phrase, regions in queries(scene):
            if regions[0] < FIRST_SHAPE:
                assert phrase == f"the {scene.stuff[regions[0]]}"
                continue
            looks = [s.looks for s in scene.shapes]
            assert sum(concept in look for look in looks) == 1
            assert sorted(phrase.split()[1:]) == sorted(scene.shapes[regions[0] - FIRST_SHAPE].looks)
        query = sample_query(scene, rng)
        named = set(query.phrase.split()) - {"the", "a"}
        asked = set(re.findall(r"\w+", query.text.lower()))
        assert len(named & asked) <= 1, query
        assert query.is_sentence == query.text.endswith("?")
