"""Self-contained HTML pages, and the report of one or several runs."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tmkt_data.errors import write_failure
from tmkt_data.files import write_bytes
from tmkt_train.errors import RunError
from tmkt_train.report import classes, comparison, internals, mixing, numbers, overview, settings
from tmkt_train.report.figures.drawing import Drawing
from tmkt_train.report.palette import CSS
from tmkt_train.training.record import read_run

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""No part of an HTML document, but maybe of the title of a recipe."""
_FORMS = ("percent", "points", "count", "decimal", "duration", "size")
_FILTERS = {name: getattr(numbers, name) for name in _FORMS}
_SECTIONS = {"overview": overview, "mixing": mixing, "internals": internals, "classes": classes, "settings": settings}


class Page(NamedTuple):
    """An HTML document, and the name of each drawing in it with its files by format."""

    html: str
    figures: tuple[tuple[str, Mapping[str, bytes]], ...]


def write_report(run_dirs: Sequence[Path], out: Path, *, figures: Path | None = None) -> Path:
    """Write the report of one run, or the comparison of several.

    The page is self-contained: it loads nothing. Its script adds buttons that copy text and download figures and
    tables; without it nothing else is missing. The same run folders give the same bytes.

    Args:
        run_dirs: Run folders, one or more. Each must have a `recipe.toml`; sections of missing files are left out.
            Duplicates count once.
        out: File to write, atomically.
        figures: Folder for the figures as PDF, SVG and PNG files; None writes no such files. Where several runs have a
            figure of one name, they are numbered.

    Raises:
        RunError: No folder is given, one is no run or is damaged, or a file cannot be written.
    """
    if not run_dirs:
        raise RunError("report: found no run folder, expected one or more; name the folders of the runs")
    different = {Path(path).resolve(): Path(path) for path in reversed(run_dirs)}
    runs = [read_run(path) for path in reversed(different.values())]
    template = "run.html.j2" if len(runs) == 1 else "runs.html.j2"
    formats = ("svg",) if figures is None else ("svg", "pdf", "png")
    page = render(template, formats, run=runs[0], runs=runs, comparison=comparison, **_SECTIONS)
    write_files(out.parent, {out.name: page.html.encode("utf-8", "replace")})
    if figures is not None:
        names = Counter(name for name, _ in page.figures)
        places = {name: itertools.count(1) for name in names}
        for name, files in page.figures:
            file = name if names[name] == 1 else f"{name}-{next(places[name])}"
            write_files(figures, {f"{file}.{suffix}": data for suffix, data in files.items()})
    return out


def write_files(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files by name, each atomically, into a folder that is created if needed.

    Raises:
        RunError: A file cannot be written; an earlier file of that name is kept.
    """
    paths = [folder / name for name in contents]
    for path, data in zip(paths, contents.values(), strict=True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(write_failure(path, error)) from None
        write_bytes(path, data, error=RunError)
    return paths


def render(template: str, formats: Sequence[str] = ("svg",), **values: object) -> Page:
    """Render a template of this folder to a self-contained document; its drawings are in order, and drawn once."""
    figures: list[tuple[str, Mapping[str, bytes]]] = []
    names: Counter[str] = Counter()

    def svg(drawing: Drawing) -> Markup:
        name, files = drawing.about.name, dict(zip(formats, drawing.saved(*formats), strict=True))
        figures.append((name, files))
        names[name] += 1
        return Markup(drawing.inline(files["svg"], f"{name}-{names[name]}"))

    html = _environment().get_template(template).render(css=Markup(CSS), script=_script(), svg=svg, titles=[], **values)
    return Page(_CONTROL.sub("\ufffd", html), tuple(figures))


@cache
def _script() -> Markup:
    return Markup(Path(__file__).with_name("page.js").read_text(encoding="utf-8"))


@cache
def _environment() -> Environment:
    """Return the environment of the templates, which keeps what it has compiled."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: "" if value is None else value,
    )
    environment.filters |= _FILTERS
    return environment
