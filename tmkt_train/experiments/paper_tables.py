"""The summary of a comparison as tables to paste: Markdown, and LaTeX with booktabs."""

from __future__ import annotations

from collections.abc import Sequence

from tmkt_train.experiments.table import GroupRow, share_text

_HEADER = ("recipe", "share", "seeds", "test accuracy", "last epoch", "difference")
_ESCAPED = {
    "\\": r"\textbackslash{}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
}
_NOTE = (
    "Test accuracy in percent, mean ± standard deviation over seeds, of the selected epoch and of the last one; "
    "difference to {baseline}, paired by seed, with its 95 % interval (Student's t)."
)
_OPTIMISTIC = " * Optimistic: the epoch was selected on the test split, or images of held-out recordings were drawn."


def markdown_table(groups: Sequence[GroupRow]) -> str:
    """Return the summary as a Markdown table, with a line that says what it holds."""
    rows = [f"| {' | '.join(_HEADER)} |", "|---|---:|---:|---:|---:|---:|"]
    rows += [f"| {' | '.join([f'`{cells[0]}`', *cells[1:]])} |" for cells in map(_cells, groups)]
    return "\n".join([*rows, "", _note(groups), ""])


def latex_table(groups: Sequence[GroupRow]) -> str:
    """Return the summary as a LaTeX table for the package booktabs."""
    rows = [" & ".join(_mathematical(_escaped(cell)) for cell in cells) + r" \\" for cells in map(_cells, groups)]
    header = " & ".join(_HEADER) + r" \\"
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_mathematical(_escaped(_note(groups)))}}}",
            r"\begin{tabular}{lrrrrr}",
            r"\toprule",
            header,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _note(groups: Sequence[GroupRow]) -> str:
    note = _NOTE.format(baseline=groups[0].recipe)
    return note + (_OPTIMISTIC if any(group.optimistic for group in groups) else "")


def _cells(group: GroupRow) -> list[str]:
    star = "*" if group.optimistic else ""
    accuracy, last = (found.in_percent() or "none" for found in (group.spread, group.last_spread))
    return [
        group.recipe,
        share_text(group.share),
        str(group.spread.num),
        f"{accuracy}{star}",
        last,
        group.difference_text,
    ]


def _escaped(text: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


def _mathematical(text: str) -> str:
    return text.replace("±", r"$\pm$")
