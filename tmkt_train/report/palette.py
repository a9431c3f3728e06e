"""Palette of the figures, read from the stylesheet, where the same colors are CSS variables."""

from __future__ import annotations

import re
from pathlib import Path

CSS = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
"""Stylesheet of all pages."""
LIGHT: dict[str, str] = dict(re.findall("--([a-z-]+): (#[0-9a-f]{6});", CSS.partition("@media")[0]))
"""Colors in light mode, by name."""
SERIES = ("event", "image", "extra", "mixed", "ink", "soft")
"""Colors of lines and groups, in order of use."""
