"""A report in a real browser: its buttons, that it fits, and that it asks the network for nothing."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tmkt_train.report.page import write_report

from .pages import make_run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser; pip install 'tmkt[test]'")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return write_report([make_run(folder / "run")], folder / "report.html")


def opened(browser, report, **options):
    page = browser.new_page(**options)
    page.faults, page.asked = [], []
    page.on("console", lambda message: page.faults.append(message.text))
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(report.as_uri())
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_asks_for_nothing(browser, report, width, scheme):
    page = opened(browser, report, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert (page.faults, page.asked) == ([], [report.as_uri()])
    page.close()


def test_buttons_download_figures_and_tables_and_copy(browser, report):
    page = opened(browser, report, color_scheme="dark")
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    with page.expect_download() as found:
        page.locator("figcaption button").first.click()
    text = Path(found.value.path()).read_text()
    assert found.value.suggested_filename == "tiny-tmkt-figure-1.svg"
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    # The colors are those of the page, here of its dark mode.
    assert "var(" not in text
    assert "#5cb8ee" in text
    with page.expect_download() as found:
        page.locator("caption button").first.click()
    rows = list(csv.reader(Path(found.value.path()).read_text().splitlines()))
    assert rows[0][0] == "epoch"
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    copy = page.locator("pre + button").first
    copy.click()
    assert copy.text_content() == "Copied"
    assert page.faults == []
    page.close()


def test_without_scripts_only_the_buttons_are_missing(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = opened(context, report)
    assert page.locator("button").count() == 0
    assert page.locator("figure").count() > 10
    context.close()
