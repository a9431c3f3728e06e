"""The table of a campaign in docs/reliability.md, from the summaries in docs/measurements.

python -m tests.faults.figures
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.faults.faults import FAULTS
from tests.faults.tries import GOOD

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
MEASURED = ROOT / "docs" / "measurements"
START, END = "<!-- campaign: python -m tests.faults.figures -->\n", "<!-- end of the campaign -->\n"


def command_of(scenario: str) -> str:
    """Return the command that a scenario runs, as the table calls it: `prepare-voxel` is one of `prepare`."""
    return scenario.partition("-")[0]


def merged(earlier: Iterable[dict[str, Any]], rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of a summary with those of a later run; one of the same scenario, fault and seed is replaced."""
    by_key = {(row["scenario"], row["fault"], row["seed"]): row for row in (*earlier, *rows)}
    return [by_key[key] for key in sorted(by_key)]


def add_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows to the summary in a file, so that of a campaign that is stopped nothing is lost."""
    earlier = json.loads(path.read_text())["rows"] if path.exists() else []
    done = merged(earlier, [row for row in rows if row["tries"]])
    path.write_text('{"rows": [\n' + ",\n".join(map(json.dumps, done)) + "\n]}\n")


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Return a Markdown table: for each command and fault, how many tries there were and how they ended."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        counts.setdefault((command_of(row["scenario"]), row["fault"]), Counter()).update(row["verdicts"])
    order = [*FAULTS, "small-disk"]
    lines = ["| command | fault | tries | killed | refused | survived | wrong |", "|---|---|---:|---:|---:|---:|---:|"]
    for (command, fault), found in sorted(counts.items(), key=lambda item: (item[0][0], order.index(item[0][1]))):
        wrong = sum(count for verdict, count in found.items() if verdict not in GOOD)
        ends = " | ".join(f"{found[verdict]:,}" for verdict in ("killed", "refused", "survived"))
        lines.append(f"| {command} | `{fault}` | {found.total():,} | {ends} | {wrong:,} |")
    return "\n".join(lines) + "\n"


def written(page: str) -> str:
    """Return the page with the table of all summaries."""
    rows = [row for path in sorted(MEASURED.glob("faults*.json")) for row in json.loads(path.read_text())["rows"]]
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(rows)}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
