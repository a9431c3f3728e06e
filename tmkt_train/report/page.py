"""The report as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib import resources
from pathlib import Path

from tmkt_data.files import write_bytes, write_failure
from tmkt_train.errors import RunError
from tmkt_train.report.classes import activity, classes, samples
from tmkt_train.report.comparison import comparison
from tmkt_train.report.html import Html, element, joined
from tmkt_train.report.internals import cost, features, similarity
from tmkt_train.report.mixing import guidance, mix_schedule
from tmkt_train.report.overview import headline, learning_curves
from tmkt_train.report.setup import data, environment, inferred, settings
from tmkt_train.training.record import RunRecord, read_run

_SECTIONS: dict[str, Callable[[RunRecord], Html | None]] = {
    "Learning curves": learning_curves,
    "Mix schedule": mix_schedule,
    "Guidance and alignment": guidance,
    "Firing rates": activity,
    "Operations and energy": cost,
    "Both sides, layer by layer": similarity,
    "Features": features,
    "Classes": classes,
    "Samples": samples,
    "Data": data,
    "What was inferred": inferred,
    "Settings": settings,
    "Environment": environment,
}
_SHORT = ("Learning curves", "Mix schedule", "Guidance and alignment", "Firing rates", "Classes")
_DATE_KEYS = ("date", "started", "started_at", "finished", "finished_at")


def write_report(run_dirs: Sequence[Path], out: Path) -> Path:
    """Write the report of one run, or the comparison of several.

    The file holds styles, drawings and pictures; it loads nothing and runs no script. The same run folders
    give the same bytes.

    Args:
        run_dirs: Run folders, one or more; each must hold `recipe.toml`, whatever else is absent is left out.
            A folder that is named twice counts once.
        out: File to write; replaced when the new one is whole.

    Returns:
        `out`.

    Raises:
        RunError: No folder is given, one is no run or is damaged, or the file cannot be written.
    """
    if not run_dirs:
        raise RunError("report: found no run folder, expected one or more; name the folders of the runs")
    different = {Path(path).resolve(): Path(path) for path in reversed(run_dirs)}
    page = render([read_run(path) for path in reversed(different.values())])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(write_failure(out, error)) from None
    write_bytes(out, page.encode(), error=RunError)
    return out


def render(runs: Sequence[RunRecord]) -> str:
    """Give the whole page as text.

    Args:
        runs: One run for a full report, several for a comparison with each run in short.

    Returns:
        An HTML document.
    """
    return document(*(_single(runs[0]) if len(runs) == 1 else _several(runs)))


def document(title: str, body: Html) -> str:
    """Put a page into its frame, with the style in it.

    Args:
        title: Title of the window.
        body: What is shown.

    Returns:
        An HTML document that needs nothing else.
    """
    style = resources.files("tmkt_train.report").joinpath("report.css").read_text(encoding="utf-8")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style)),
    )
    return f"<!DOCTYPE html>\n{element('html', head, element('body', body), lang='en')}\n"


def _single(run: RunRecord) -> tuple[str, Html]:
    parts = [(name, made) for name, make in _SECTIONS.items() if (made := make(run))]
    links = joined(element("li", element("a", name, href=f"#{_anchor(name)}")) for name, _ in parts)
    sections = (element("section", element("h2", name), made, id=_anchor(name)) for name, made in parts)
    head = element("header", element("p", "tmkt run report", class_="kind"), element("h1", run.title), _about(run))
    nav = element("nav", element("ul", links), aria_label="Sections")
    return f"{run.title}, {run.method}", joined([head, element("main", headline(run), nav, *sections)])


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _about(run: RunRecord) -> Html:
    facts = [run.method, run.text("dataset"), run.text("protocol")]
    facts += [f"seed {seed}" if (seed := run.text("seed")) else None, _date(run)]
    line = element("p", " · ".join(fact for fact in facts if fact), class_="about")
    title, description = run.recipe.get("title"), run.recipe.get("description")
    words = [
        element("p", text, class_="description") for text in (title, description) if isinstance(text, str) and text
    ]
    return joined([line, *words])


def _date(run: RunRecord) -> str | None:
    written = next((str(run.environment[key]) for key in _DATE_KEYS if run.environment.get(key)), None)
    if written is None:
        return None
    try:
        moment = datetime.fromisoformat(written)
    except ValueError:
        return written
    return f"{moment:%Y-%m-%d %H:%M}" + (f" {name}" if (name := moment.tzname()) else "")


def _several(runs: Sequence[RunRecord]) -> tuple[str, Html]:
    title = f"{len(runs)} runs compared"
    names = " · ".join(dict.fromkeys(run.title for run in runs))
    head = element(
        "header",
        element("p", "tmkt run report", class_="kind"),
        element("h1", title),
        element("p", names, class_="about"),
    )
    shorts = (_short(run, i) for i, run in enumerate(runs, 1))
    return title, joined([head, element("main", comparison(runs), *shorts)])


def _short(run: RunRecord, index: int) -> Html:
    parts = [(name, made) for name in _SHORT if (made := _SECTIONS[name](run))]
    sections = (element("section", element("h3", name), made) for name, made in parts)
    return element(
        "article",
        element("h2", run.path.name or run.title),
        _about(run),
        headline(run),
        *sections,
        id=f"run-{index}",
    )
