"""The viewer in a real browser: what its controls do, that it fits, is accessible, and asks the network for nothing."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from viewer_caches import STEPS, write_folder_cache, write_nmnist_caches

from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.preview.colors import event_colors, gray_colors
from tmkt_data.preview.viewer import write_viewer

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser; pip install 'tmkt[test]'")
PAIRS = 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    caches = write_nmnist_caches(folder, ["counts"])
    frames = PairedFrames(caches["counts"], pairing="twin", seed=3)
    write_viewer(folder / "v.html", frames, num_samples=PAIRS)
    return folder / "v.html", frames


class Opened:
    """A page, and what went wrong or out of it."""

    def __init__(self, browser, path, width=1280, scheme="light", touch=False):
        self.page = browser.new_page(
            viewport={"width": width, "height": 844}, color_scheme=scheme, has_touch=touch, is_mobile=touch
        )
        self.faults, self.requests = [], []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#film [aria-current]")

    def text(self, selector):
        return self.page.inner_text(selector)

    def frame(self, side):
        url = self.page.evaluate("side => document.querySelector(`#${side} canvas`).toDataURL()", side)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))

    def value(self, selector):
        return self.page.input_value(selector)

    def end(self):
        assert self.faults == []
        assert [url for url in self.requests if not url.startswith(("file:", "data:"))] == []
        assert len(self.requests) == 1
        self.page.close()


@pytest.fixture
def opened(browser, made):
    view = Opened(browser, made[0])
    yield view
    view.end()


def expected(frames, number):
    position = np.linspace(0, len(frames) - 1, PAIRS).astype(int)[number]
    batch = frames.read([position])
    return gray_colors(batch.image[0].mean(axis=1)), event_colors(batch.events[0])


def expect(view, selector, value):
    sync_api.expect(view.page.locator(selector)).to_have_value(value)


def near(shown, colors):
    return np.abs(shown.astype(int) - colors.astype(int)).max() <= 2


def test_frames_are_those_of_the_pairs_mixed_by_the_rule(opened, made):
    for number in range(2):
        image, events = expected(made[1], number)
        for ratio in (0, 2, STEPS) if number == 0 else (3,):
            opened.page.locator("#ratio").fill(str(ratio))
            point = STEPS + 1 - ratio
            for step in range(STEPS):
                opened.page.locator("#step").fill(str(step + 1))
                assert near(opened.frame("image"), image[step])
                assert near(opened.frame("events"), events[step])
                is_event = step + 1 >= point
                assert near(opened.frame("mixed"), events[step] if is_event else image[step])
                assert opened.text("#mixed figcaption") == ("Mixed (events)" if is_event else "Mixed (image)")
            told = f"t* = {point}" if ratio else "no event step"
            assert opened.text("#told") == f"{ratio / STEPS:.2f}: {ratio} of {STEPS} event steps, {told}"
        opened.page.click("#next")
        expect(opened, "#pair", str(number + 1))


def test_keys(opened):
    press = opened.page.keyboard.press
    step, pair = (lambda: int(opened.value("#step"))), (lambda: opened.text("#place"))
    press("ArrowRight")
    press("ArrowRight")
    assert step() == 3
    press("ArrowLeft")
    assert step() == 2
    press("End")
    press("ArrowRight")
    assert step() == 1
    press("ArrowDown")
    expect(opened, "#pair", "1")
    press("ArrowUp")
    press("ArrowUp")
    expect(opened, "#pair", "2")
    assert pair() == f"3 of {PAIRS}"
    for key, visible in (("2", ["image"]), ("3", ["events"]), ("4", ["mixed"]), ("1", ["image", "events", "mixed"])):
        press(key)
        assert [side for side in ("image", "events", "mixed") if opened.page.is_visible(f"#{side}")] == visible
        assert opened.page.is_visible("#mixing") == ("mixed" in visible)
    press("-")
    assert opened.value("#ratio") == "2"
    press("+")
    press("+")
    assert opened.value("#ratio") == "4"
    press("e")
    assert opened.value("#encoder") == "poisson"
    assert opened.text("#image figcaption") == "Image, poisson"
    press("t")
    assert opened.page.get_attribute("html", "data-theme") == "dark"
    # A slider keeps its own keys: one press is one step, of that slider alone.
    opened.page.focus("#ratio")
    press("ArrowLeft")
    assert (opened.value("#ratio"), step()) == ("3", 1)


def test_play_and_pause(opened):
    opened.page.select_option("#speed", "20")
    opened.page.keyboard.press("Space")
    assert opened.text("#play") == "Pause"
    sync_api.expect(opened.page.locator("#step")).not_to_have_value("1")
    opened.page.click("#play")
    assert opened.text("#play") == "Play"
    held = opened.value("#step")
    opened.page.wait_for_timeout(200)
    assert opened.value("#step") == held


def test_every_encoder_and_the_film(opened):
    shown = []
    for encoder in ("repeat", "poisson", "gradient", "gradient-poisson", "saccade", "microsaccade"):
        opened.page.select_option("#encoder", encoder)
        shown.append(opened.frame("image").tobytes())
    assert len(set(shown)) == 6
    opened.page.click("#film button >> nth=3")
    assert opened.value("#step") == "4"
    assert opened.page.get_attribute("#film button >> nth=3", "aria-current") == "step"
    opened.page.check("input[value=events]", force=True)
    assert opened.text("#filmTitle") == "Event steps"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_is_accessible(browser, made, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe; pip install 'tmkt[test]'").Axe()
    view = Opened(browser, made[0], width, scheme)
    assert view.page.get_attribute("html", "data-theme") == scheme
    for side in ("all", "events", "mixed"):
        view.page.check(f"input[value={side}]", force=True)
        assert view.page.evaluate("document.documentElement.scrollWidth") <= width
        cut = """() => [...document.querySelectorAll('button, select, output, legend + label, canvas, li, dd, input')]
            .filter((one) => one.offsetParent !== null && one.getBoundingClientRect().right > innerWidth)
            .map((one) => one.outerHTML.slice(0, 80))"""
        assert view.page.evaluate(cut) == []
    found = axe.run(view.page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []
    view.end()


def test_touch(browser, made):
    view = Opened(browser, made[0], 390, touch=True)
    view.page.tap("#next")
    expect(view, "#pair", "1")
    box = view.page.locator("#stage").bounding_box()
    middle, left = box["y"] + box["height"] / 2, box["x"] + 10
    client = view.page.context.new_cdp_session(view.page)
    for kind, across in (("touchStart", 0), ("touchMove", 40), ("touchMove", 0.62 * box["width"]), ("touchEnd", None)):
        points = [] if across is None else [{"x": left + across, "y": middle}]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert view.value("#step") == "4"
    view.end()


def test_pairs_without_images_and_with_names_of_markup(browser, tmp_path):
    cache, name = write_folder_cache(tmp_path)
    write_viewer(tmp_path / "own.html", PairedFrames(cache, pairing="none"), num_samples=50)
    view = Opened(browser, tmp_path / "own.html")
    assert not view.page.is_visible("#switches")
    assert [side for side in ("image", "events", "mixed") if view.page.is_visible(f"#{side}")] == ["events"]
    assert name in "".join(view.page.locator("#pair option").all_inner_texts())
    view.page.keyboard.press("4")
    view.page.keyboard.press("e")
    view.page.keyboard.press("ArrowRight")
    assert view.value("#step") == "2"
    view.end()
