"""The style of the documentation in a real browser: no command is cut on a desk or in a hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser; pip install 'tmkt[test]'")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
STYLE = Path(__file__).resolve().parents[1] / "docs" / "_static" / "tmkt.css"
KINDS = ("highlight-console", "highlight-sh", "highlight-python", "highlight-pycon", "highlight-toml", "doctest")
LINE = "$ tmkt-train compare scnn_digits_event_only scnn_digits --seeds 3 --event-share 0.02,0.1 --set train.epochs=20"
BLOCK = f'<div class="{{kind}}"><div class="highlight"><pre>{LINE} {LINE}</pre></div></div>'


@pytest.mark.skipif(BROWSER is None, reason="no chromium on PATH; on Debian: apt install chromium")
def test_no_command_is_cut():
    theme = "pre { overflow: auto; margin: 0; padding: 10px; }"
    blocks = "".join(BLOCK.format(kind=kind) for kind in KINDS)
    page = f"<style>{theme}{STYLE.read_text()}</style><div class=content><article>{blocks}</article></div>"
    cut = "() => [...document.querySelectorAll('pre')].filter((one) => one.scrollWidth > one.clientWidth).length"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for width in (1280, 390):
            view = browser.new_page(viewport={"width": width, "height": 800})
            view.set_content(page)
            assert view.evaluate(cut) == 0
            view.add_style_tag(content="pre { white-space: pre !important; }")
            assert view.evaluate(cut) == len(KINDS)
        browser.close()
