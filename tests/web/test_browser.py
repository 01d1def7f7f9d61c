"""The page in a real browser: Debian's Chromium, driven by playwright. Screenshots go to work_dirs/web."""

import os
import runpy
from pathlib import Path

import pytest
from families import picture
from web_page import png

from flmm.web.browser import LAUNCH, MISSING, chromium

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install")
SHOTS = Path(os.environ.get("FLMM_SHOTS", "work_dirs/web"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason=MISSING),
]
LONG = 120_000  # milliseconds that a reply may take on a busy machine
ASKED = "Please give me a description of the image."
# every eighth pixel of the canvas as [red, green, blue]
PIXELS = """(canvas) => {
    const {width, height} = canvas, found = [];
    const all = canvas.getContext('2d').getImageData(0, 0, width, height).data;
    for (let y = 4; y < height; y += 8)
        for (let x = 4; x < width; x += 8) found.push([...all.slice(4 * (y * width + x), 4 * (y * width + x) + 3)]);
    return found;
}"""
SHOWN = "document.querySelectorAll('.legend [aria-pressed=true]').length == "
CONTROLS = "#flmm button:visible, #flmm input:visible, #flmm select:visible, #flmm textarea:visible"
NAMELESS = """(all) => all
    .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.closest('label')))
    .map((one) => one.outerHTML)"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=LAUNCH)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, address):
    """The page with an example, and what its console says; nothing may be loaded from elsewhere."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, locale="en-US", color_scheme="light")
    context.set_default_timeout(LONG)
    page = context.new_page()
    faults, foreign = [], []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda one: one.url.startswith((address, "data:", "blob:")) or foreign.append(one.url))
    page.goto(address)
    page.locator(".tiles button").first.click()
    page.wait_for_selector(".thumb")
    yield page
    context.close()
    assert faults == []
    assert foreign == []


def shot(page, name, whole=False):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(400)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=whole)


def ask(page):
    page.fill("[name=question]", ASKED)
    page.keyboard.press("Enter")
    page.wait_for_selector("article .phrase")


def pixels(page):
    return page.locator(".stage canvas").evaluate(PIXELS)


def find_first(page):
    """Clicks the first phrase of the reply; waits for its mask, and for what was drawn."""
    page.locator("article .phrase").first.click()
    page.wait_for_selector(".phrase.found[aria-pressed=true]")
    page.wait_for_timeout(300)


def draw_box(page):
    area = page.locator(".stage canvas").bounding_box()
    x, y, width, height = (area[side] for side in ("x", "y", "width", "height"))
    page.mouse.move(x + 0.2 * width, y + 0.25 * height)
    page.mouse.down()
    page.mouse.move(x + 0.6 * width, y + 0.7 * height, steps=4)
    page.mouse.up()
    page.wait_for_selector(".region .ranked li")


def test_a_phrase_lights_up_in_the_picture(page):
    ask(page)
    plain = pixels(page)
    find_first(page)
    lit = pixels(page)
    assert sum(one != other for one, other in zip(plain, lit, strict=True)) > len(plain) / 2
    seen = {}
    for view in ("image", "attention", "coarse", "refined"):
        page.click(f"[data-view={view}]")
        page.wait_for_timeout(200)
        seen[view] = pixels(page)
        shot(page, f"view_{view}")
    assert len({str(one) for one in seen.values()}) >= 3
    assert seen["refined"] == lit
    page.locator("[name=opacity]").evaluate("(one) => { one.value = 100; one.dispatchEvent(new Event('input')); }")
    assert pixels(page) != lit
    page.click("article .phrase.found")  # a second click hides it
    page.wait_for_timeout(200)
    assert pixels(page) == plain
    page.click("article footer button")
    page.wait_for_function(SHOWN + "document.querySelectorAll('article .phrase').length")
    shot(page, "english")


def test_a_region_lights_up_in_the_words(page):
    ask(page)
    draw_box(page)
    shades = page.locator(".region .token").evaluate_all("(all) => all.map((one) => one.style.background)")
    assert len(set(shades)) > 2
    page.click(".region [role=radio] >> nth=1")
    other = page.locator(".region .token").evaluate_all("(all) => all.map((one) => one.style.background)")
    assert other != shades
    page.click("[data-act=hide]")
    page.wait_for_selector(".hidden .changes b")
    page.click("[data-act=look]")
    page.wait_for_selector(".looked .answer >> nth=1")
    shot(page, "region", whole=True)
    find_first(page)
    x0, y0, x1, y1 = page.evaluate("flmm.state.marks[0].box")
    page.fill("[name=coordinates]", f"{x0} {y0} {x1} {y1}")
    page.click("[data-tab=region]")
    page.press("[name=coordinates]", "Enter")
    page.wait_for_function("flmm.state.regionWords && flmm.state.regionWords.box.length == 4")


def test_attention_layer_by_layer(page):
    ask(page)
    page.click("[data-tab=heads]")
    page.wait_for_function("document.querySelector('.peak').textContent != ''")
    before = pixels(page)
    page.locator("[name=layer]").evaluate("(one) => { one.value = 0; one.dispatchEvent(new Event('input')); }")
    page.wait_for_function("flmm.state.heat && flmm.state.heat.layer === 0")
    page.wait_for_timeout(300)
    assert pixels(page) != before
    page.click("[data-act=grid]")
    page.wait_for_selector(".multiples canvas")
    page.wait_for_timeout(300)
    shot(page, "attention", whole=True)
    page.locator(".multiples canvas").click(position={"x": 30, "y": 25})
    page.wait_for_function("flmm.state.heat.layer === 0 && flmm.state.heat.head === 0")


def test_a_sentence_and_the_keyboard_alone(page):
    page.focus("[data-tab=sentence]")
    page.keyboard.press("Tab")
    page.keyboard.type("a red yak on the green grass")
    page.keyboard.press("Enter")
    page.wait_for_function(SHOWN + "2")
    assert page.inner_text(".sentences .unread").endswith("means nothing: yak")
    page.focus(".sentences .phrase")
    page.keyboard.press("Space")
    page.wait_for_function(SHOWN + "1")
    page.focus("[data-view=refined]")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("flmm.state.view") == "coarse"
    page.focus("[data-tab=sentence]")
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-region").is_visible()
    assert page.locator(CONTROLS).evaluate_all(NAMELESS) == []


def test_chinese_and_a_phone(page):
    ask(page)
    find_first(page)
    page.click("[data-act=language]")
    assert page.locator("h2").first.text_content() == "对话"
    assert page.locator(".page").get_attribute("lang") == "zh-CN"
    shot(page, "chinese")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".stage canvas").bounding_box()["width"] <= 390
    shot(page, "phone", whole=True)
    page.click("[data-act=reset]")
    page.wait_for_function("document.querySelectorAll('article').length == 0")


def test_uploads_are_shown_or_refused(page, limits):
    upload = page.locator("[name=file]")
    upload.set_input_files({"name": "own.png", "mimeType": "image/png", "buffer": png(picture((300, 100)))})
    page.wait_for_function("document.querySelectorAll('.thumb').length == 2")
    area = page.locator(".stage canvas").bounding_box()
    assert area["width"] / area["height"] == pytest.approx(3, rel=0.02)
    for name, content, words in (
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture that can be read"),
        ("cut.png", png(picture((300, 100)))[:200], "damaged"),
        ("large.png", b"x" * int(limits.upload_megabytes * 2**20 + 1), "at most 1 MB"),
    ):
        upload.set_input_files({"name": name, "mimeType": "image/png", "buffer": content})
        page.wait_for_selector(f".toast:has-text('{words}')")
        shot(page, f"refused_{name.split('.')[0]}")
        page.click(".toast button")
    assert page.locator(".thumb").count() == 2
    page.click(".thumb .close >> nth=1")
    page.wait_for_function("document.querySelectorAll('.thumb').length == 1")


def test_a_second_press_asks_nothing(page):
    page.locator(".tiles button").nth(1).dblclick()
    page.wait_for_function("document.querySelectorAll('.thumb').length == 2")
    page.locator(".proposals .chip").first.dblclick()
    page.wait_for_selector("article .phrase")
    page.locator("article .phrase").first.dblclick()
    page.wait_for_selector(".phrase.found[aria-pressed=true]")
    page.wait_for_function("document.querySelector('.busy').hidden")
    assert page.locator(".thumb").count() == 2
    assert page.locator("article").count() == page.evaluate("flmm.state.marks.length") == 1


def test_first_steps_and_a_box_that_is_seen_while_it_is_drawn(browser, address):
    page = browser.new_page(viewport={"width": 1000, "height": 700}, locale="zh-CN")
    page.goto(address)
    page.wait_for_selector(".steps .now:has-text('选择')")
    assert not page.locator(".tools").is_visible()
    page.locator(".tiles button").first.click()
    page.wait_for_selector(".steps .now:has-text('提问')")
    ask(page)
    before = pixels(page)
    area = page.locator(".stage canvas").bounding_box()
    page.mouse.move(area["x"] + 20, area["y"] + 20)
    page.mouse.down()
    page.mouse.move(area["x"] + 120, area["y"] + 100, steps=3)
    assert pixels(page) != before
    page.mouse.up()
    page.wait_for_function("document.querySelector('.region .shaded')?.getBoundingClientRect().bottom < innerHeight")
    assert page.locator(".stage canvas").bounding_box()["y"] >= 0  # the picture stays beside the words
    page.close()


def test_a_server_that_went_away_is_said(browser, address):
    page = browser.new_page(locale="zh-CN")
    page.goto(address)
    page.locator(".tiles button").first.click()
    page.wait_for_selector(".thumb")
    page.context.set_offline(True)
    page.click(".proposals .chip")
    page.wait_for_selector(".toast:has-text('服务器')")
    assert page.locator(".busy").is_hidden()
    assert not page.locator(".toast-wrap").is_visible()
    page.close()


def test_times_are_measured(browser, address):
    page = browser.new_page(viewport={"width": 1000, "height": 700}, locale="en-US")
    found = runpy.run_path("scripts/benchmark/page.py")["clicked"](page, address, 1)
    assert set(found) == {"median_load", "median_reply", "median_click_to_mask"}
    assert all(seconds > 0 for seconds in found.values())
    page.close()


def test_everything_can_be_downloaded(page):
    ask(page)
    with page.expect_download() as download:
        page.click("[data-act=download]")
    assert download.value.suggested_filename == "flmm.zip"
    assert Path(download.value.path()).read_bytes().startswith(b"PK")
