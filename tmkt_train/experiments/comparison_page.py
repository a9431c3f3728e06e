"""The page of a comparison: accuracies, differences to the baseline, settings that differ, runs."""

from __future__ import annotations

from collections.abc import Sequence

from tmkt_train.experiments.comparison_figure import comparison_svg
from tmkt_train.experiments.plan import WORDS, Comparison
from tmkt_train.experiments.table import GroupRow, RunRow, share_text
from tmkt_train.recipe.recipe import flat_items, toml_value
from tmkt_train.report.html import Html, count, duration, element, joined, percent, table
from tmkt_train.report.overview import figures
from tmkt_train.report.page import document

_UNUSED = element("span", "unused", class_="note")
_PLACED = (*WORDS, "seed", "data.event_share")


def comparison_page(
    comparison: Comparison, rows: Sequence[RunRow], groups: Sequence[GroupRow], notes: Sequence[str] = ()
) -> str:
    """Write the page.

    Args:
        comparison: What was compared.
        rows: Its runs.
        groups: Its recipes and shares; those of the baseline first.
        notes: What makes the runs hard to compare, one line each.

    Returns:
        An HTML document that needs nothing else.
    """
    names = [recipe.name for recipe in comparison.recipes]
    title = f"{len(names)} recipes compared" if len(names) > 1 else f"{names[0]} compared with itself"
    base = comparison.recipes[0]
    seeds = sorted({row.run.recipe.seed for row in rows})
    facts = [base.data.dataset, base.data.protocol, f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"]
    head = element(
        "header",
        element("p", "tmkt comparison", class_="kind"),
        element("h1", title),
        element("p", " · ".join(facts), class_="about"),
        element("p", " · ".join(names), class_="description"),
    )
    sections = [
        element("section", element("h2", name), made)
        for name, made in (
            ("Accuracy", joined([_accuracies(groups), figures(comparison_svg(groups))])),
            ("Differences, seed by seed", _differences(groups, seeds)),
            ("Settings that differ", _settings(comparison)),
            ("Runs", _runs(rows, comparison)),
        )
        if made is not None
    ]
    return document(title, joined([head, element("main", *_notices(comparison, rows, notes), *sections)]))


def _notices(comparison: Comparison, rows: Sequence[RunRow], notes: Sequence[str]) -> list[Html]:
    notices = []
    optimistic = [recipe.name for recipe in comparison.recipes if recipe.selects_on_test]
    if optimistic:
        text = (
            f" {', '.join(optimistic)}: the protocol kt-paper chooses the epoch on the test recordings themselves, so "
            "these test accuracies are higher than new recordings would give. Report them only beside others that "
            "were chosen in the same way."
        )
        notices.append(element("p", element("strong", "Optimistic, selected on test."), text, class_="notice alarm"))
    leaking = [recipe.name for recipe in comparison.recipes if recipe.leaks]
    if leaking:
        text = (
            f" {', '.join(leaking)}: training may draw the images that held-out recordings were made from, so these "
            "accuracies only say what such a leak is worth."
        )
        notices.append(element("p", element("strong", "Optimistic, leaking images."), text, class_="notice alarm"))
    failed = [row for row in rows if row.result is None]
    if failed:
        text = f" {len(failed)} of {len(rows)} runs have no result and are in no mean; the table of runs says why."
        notices.append(element("p", element("strong", "Failed runs."), text, class_="notice"))
    return notices + [element("p", note, class_="notice") for note in notes]


def _accuracies(groups: Sequence[GroupRow]) -> Html:
    body = [
        (
            _marked(group),
            group.method,
            share_text(group.share),
            count(group.num_train),
            str(group.spread.num),
            percent(group.spread.mean),
            _points(group.spread.sd),
        )
        for group in groups
    ]
    return table(
        ["recipe", "method", "event share", "training recordings", "n", "test accuracy", "sd"],
        body,
        caption="Test accuracy, mean and standard deviation over seeds",
        num_text_columns=2,
        note="Standard deviation over n \u2212 1, in percentage points; none is given for a single run.",
    )


def _marked(group: GroupRow) -> Html:
    return joined([group.recipe, element("em", " optimistic") if group.optimistic else None])


def _points(value: float | None, *, sign: bool = False) -> str | None:
    if value is None:
        return None
    return format(100 * value, "+.2f" if sign else ".2f").replace("-", "\u2212")


def _differences(groups: Sequence[GroupRow], seeds: Sequence[int]) -> Html | None:
    compared = [group for group in groups if group.difference is not None]
    if not compared:
        return None
    body = []
    for group in compared:
        difference = group.difference
        if difference is None:
            continue
        low, high = difference.interval or (None, None)
        interval = None if low is None else f"{_points(low, sign=True)} to {_points(high, sign=True)}"
        each = [_points(difference.by_seed.get(seed), sign=True) for seed in seeds]
        body.append((group.recipe, share_text(group.share), *each, _points(difference.mean, sign=True), interval))
    return table(
        ["recipe", "event share", *(f"seed {seed}" for seed in seeds), "mean", "95 % interval"],
        body,
        caption=f"Test accuracy minus that of {groups[0].recipe} at the same share, percentage points",
        note="Student's t over the seeds. The interval holds for other seeds on the same test recordings; it says "
        "nothing of other recordings.",
    )


def _settings(comparison: Comparison) -> Html | None:
    recipes = comparison.recipes
    columns = [{key: toml_value(value) for key, value, _ in flat_items(recipe)} for recipe in recipes]
    body: list[tuple[str | None, ...]] = []
    for key in columns[0]:
        values = [column[key] for column in columns]
        used = [recipe.uses(key) for recipe in recipes]
        differs = len(set(values)) > 1 or len(set(used)) > 1
        if key in _PLACED or not differs or not any(used):
            continue
        cells = [element("code", value) if is_used else _UNUSED for value, is_used in zip(values, used, strict=True)]
        body.append((element("code", key), *cells))
    if not body:
        return None
    return table(
        ["setting", *(recipe.name for recipe in recipes)],
        body,
        caption="Settings in which the recipes differ, and what their methods do not use",
        num_text_columns=1 + len(recipes),
    )


def _runs(rows: Sequence[RunRow], comparison: Comparison) -> Html:
    body = []
    for row in rows:
        recipe, result = row.run.recipe, row.result or {}
        last = result.get(f"last_epoch_{result.get('selected_on')}_accuracy")
        best = result.get("best_epoch")
        path = row.run.folder.relative_to(comparison.out).as_posix()
        body.append(
            (
                element("a", path, href=f"{path}/report.html") if row.result else path,
                percent(row.accuracy),
                percent(result.get("val_accuracy")),
                percent(last),
                None if best is None else f"{best + 1} of {recipe.num_epochs}",
                duration(result.get("wall_s")),
                "" if row.result else f"failed: {row.problem or 'unknown'}",
            )
        )
    has_failed = any(row.result is None for row in rows)
    heads = ["run", "test", "validation", "last epoch", "best epoch", "time", "problem"]
    shown = body if has_failed else [cells[:-1] for cells in body]
    return table(heads if has_failed else heads[:-1], shown, caption="Runs; the last epoch on the part that selects")
