"""The style of the documentation in a real browser: no command is cut on a desk or in a hand."""

from __future__ import annotations

from pathlib import Path

STYLE = Path(__file__).resolve().parents[1] / "docs" / "_static" / "tmkt.css"
KINDS = ("highlight-console", "highlight-sh", "highlight-python", "highlight-pycon", "highlight-toml", "doctest")
LINE = "$ tmkt-train compare scnn_digits_event_only scnn_digits --seeds 3 --event-share 0.02,0.1 --set train.epochs=20"
BLOCK = f'<div class="{{kind}}"><div class="highlight"><pre>{LINE} {LINE}</pre></div></div>'


def test_no_command_is_cut(browser):
    theme = "pre { overflow: auto; margin: 0; padding: 10px; }"
    blocks = "".join(BLOCK.format(kind=kind) for kind in KINDS)
    page = f"<style>{theme}{STYLE.read_text()}</style><div class=content><article>{blocks}</article></div>"
    cut = "() => [...document.querySelectorAll('pre')].filter((one) => one.scrollWidth > one.clientWidth).length"
    for width in (1280, 390):
        view = browser.new_page(viewport={"width": width, "height": 800})
        view.set_content(page)
        assert view.evaluate(cut) == 0
        view.add_style_tag(content="pre { white-space: pre !important; }")
        assert view.evaluate(cut) == len(KINDS)
