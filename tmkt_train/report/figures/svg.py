"""Conversion of matplotlib's SVG files to elements of a page."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from tmkt_train.report.palette import LIGHT

_VARIABLES = {color: f"var(--{name})" for name, color in LIGHT.items()}
_HREF = "{http://www.w3.org/1999/xlink}href"
_DROPPED = ("metadata", "style", "clipPath")


def inline_svg(text: str, name: str, summary: str) -> str:
    """Convert SVG of matplotlib (with `svg.fonttype: none`) to an element of a page, with ids that start with `name`.

    It scales to the available width, uses the font of the page, and has CSS variables as colors; `summary` is its
    accessible name.
    """
    root = ET.fromstring(text)
    targets = dict.fromkeys(t[1:] for e in root.iter() if (t := e.get(_HREF, "")).startswith("#"))
    ids = {target: f"{name}-{k}" for k, target in enumerate(targets, 1)}
    _tidy(root, ids)
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib |= {"viewBox": box, "class": "chart", "role": "img", "aria-label": summary}
    return ET.tostring(root, encoding="unicode")


def _tidy(element: ET.Element, ids: dict[str, str]) -> None:
    """Convert an element and its children in place."""
    element.tag = element.tag.rpartition("}")[2]
    element.tail = None
    if element.text is not None and not element.text.strip():
        element.text = None
    element.attrib = {key: value for key, old in element.attrib.items() for key, value in _attribute(key, old, ids)}
    children: list[ET.Element] = []
    for child in element:
        _tidy(child, ids)
        if child.tag == "g" and not child.attrib:
            children += child
        elif child.tag not in _DROPPED and child.get("style") != "fill: none" and (child.tag != "defs" or len(child)):
            children.append(child)
    element[:] = children


def _attribute(key: str, value: str, ids: dict[str, str]) -> list[tuple[str, str]]:
    """Return the converted attribute, or nothing to drop it."""
    match key:
        case "id":
            return [(key, ids[value])] if value in ids else []
        case "clip-path":
            return []
        case "transform" if value.startswith("rotate(-0 "):
            return []
        case "d" | "x" | "y":
            short = re.sub(r"-?\d+\.\d+", lambda n: f"{float(n[0]):.2f}".rstrip("0").rstrip("."), value)
            return [(key, re.sub(r"\s*([A-Z])\s*", r"\1", short).strip())]
        case "style":
            parts = [part for part in value.split("; ") if not part.startswith(("font-family", "font-size"))]
            style = re.sub(r"#[0-9a-f]{6}", lambda color: _VARIABLES.get(color[0], color[0]), "; ".join(parts))
            return [(key, style)] if style else []
        case _ if key == _HREF:
            return [("href", f"#{ids[value[1:]]}" if value.startswith("#") else value)]
    return [(key, value)]
