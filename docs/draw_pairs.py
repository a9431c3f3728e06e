"""Draw docs/images/pairs.webp and viewer.png from a cache of the embedded dataset.

    tmkt-data prepare digits --out digits.h5
    python docs/draw_pairs.py digits.h5

The picture of the page is taken in a headless chromium, driven by playwright.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.preview.animation import animate_pairs, write_animation
from tmkt_data.preview.viewer import write_viewer

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT = 1080, 860


def main() -> int:
    """Draw both; returns the exit status."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    frames = PairedFrames(sys.argv[1], pairing="twin")
    write_animation(IMAGES / "pairs.webp", animate_pairs(frames, num_samples=2), duration_ms=400)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "pairs.html"
        write_viewer(page, frames, num_samples=24)
        photograph(page, IMAGES / "viewer.png")
    return 0


def photograph(page: Path, out: Path) -> None:
    """Save the page at a step of its fourth pair, in few colors."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        view.goto(page.as_uri())
        view.wait_for_selector("#film [aria-current]")
        view.select_option("#pair", "7")
        view.locator("#step").fill("9")
        view.locator("#step").blur()
        view.wait_for_timeout(200)
        view.screenshot(path=out)
        browser.close()
    with Image.open(out) as picture:
        picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            out, optimize=True
        )


if __name__ == "__main__":
    sys.exit(main())
