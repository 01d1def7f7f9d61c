"""Both languages say the same, and the page asks for no sentence that is missing."""

import re
from string import Formatter

from flmm.web.page import ASSETS
from flmm.web.texts import LABELS, REFUSALS, TEXTS


def fields(text):
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_have_every_sentence_with_its_numbers():
    for texts in (REFUSALS, LABELS):
        assert texts["en"].keys() == texts["zh"].keys()
    for name, text in TEXTS["en"].items():
        assert fields(text) == fields(TEXTS["zh"][name]), name
        assert text.isascii() or name == "language"
        assert re.search(r"[\u4e00-\u9fff]", TEXTS["zh"][name]) or name == "language", name


def test_every_sentence_of_the_page_is_there_and_used():
    scripts = "".join(path.read_text() for path in sorted(ASSETS.glob("*.js")))
    markup = (ASSETS / "page.html").read_text()
    used = set(re.findall(r'data-(?:text|label|title|placeholder)="(\w+)"', markup))
    used |= set(re.findall(r'\bt\("(\w+)"', scripts)) | {"lift", "share", "first", "second"}
    used |= {"step_picture", "step_ask", "step_click"}
    assert used <= TEXTS["en"].keys()
    assert LABELS["en"].keys() - used <= {"dismiss", "image", "attention", "coarse", "refined"}
