"""Colors of figures: the palette of the stylesheet, by what a color stands for. In a page they are CSS variables."""

from __future__ import annotations

import re
from pathlib import Path

CSS = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
"""The stylesheet of every page."""
LIGHT: dict[str, str] = dict(re.findall("--([a-z-]+): (#[0-9a-f]{6});", CSS.partition("@media")[0]))
"""The palette on white paper."""
SERIES = ("event", "image", "extra", "mixed", "ink", "soft")
"""Colors of lines and groups, in the order in which they are given out."""
