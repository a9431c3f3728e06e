"""The table that `gpu.py` prints last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def table(figures: dict[str, Any]) -> list[str]:
    """Return the lines of the table: what each step found, its error, or that there is nothing."""
    lines: list[str] = []
    for name, found in figures.items():
        error = found.get("error")
        lines.append(f"\n{name}  ({found.get('seconds', 0)} s){'' if error is None else f'  ERROR {error}'}")
        show = {"step": _contenders, "networks": _contenders, "convolutions": _convolutions}.get(name, _plain)
        lines += [f"  {line}" for line in show(found)]
    return lines


def _contenders(found: dict[str, Any]) -> Iterator[str]:
    for network, part in found.items():
        if not isinstance(part, dict) or "contenders" not in part:
            continue
        heads = f"{'ms':>9}{'ratio':>8}{'samples/s':>11}{'GB':>7}{'reserved':>10}  waits"
        yield f"{network + ', batch ' + str(part['batch']):<34}{heads}"
        for name, row in part["contenders"].items():
            if "ms" not in row:
                yield f"{name:<34}{row.get('error') or row.get('not there') or 'not timed'}"
                continue
            yield (
                f"{name:<34}{row['ms']:9.2f}{row.get('ratio', 0):8.3f}{row['samples_per_s']:11.0f}"
                f"{row['allocated_gb']:7.1f}{row['reserved_gb']:10.1f}  {len(row['waits'])}"
            )


def _convolutions(found: dict[str, Any]) -> Iterator[str]:
    for setting, rows in found.items():
        if not isinstance(rows, dict):
            continue
        sums = dict.fromkeys(("forward", "grad input", "grad weight"), 0.0)
        for layer, row in rows.items():
            for name in sums:
                value = row.get(name)
                # The second of the two equal layers, and the padded first one instead of the first.
                count = 2 if "," in layer else int(layer != "conv1")
                sums[name] += count * value if isinstance(value, float) else float("nan")
        parts = "  ".join(f"{name} {value:8.2f} ms" for name, value in sums.items())
        yield f"{setting:<46}{parts}  sum of 8 layers"


def _plain(found: dict[str, Any]) -> Iterator[str]:
    for name, value in found.items():
        if name in ("error", "seconds", "stderr"):
            continue
        if name == "jobs" and isinstance(value, dict):
            value = {key: job for key, job in value.items() if job.get("who") != ["kernels"]} or "all by kernels"
        if isinstance(value, dict):
            value = {key: part for key, part in value.items() if key != "kernels"}
        yield f"{name:<34}{_short(value)}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, dict):
        return "  ".join(f"{name} {_short(part)}" for name, part in value.items())[:400]
    if isinstance(value, list):
        return " ".join(map(_short, value))[:400]
    return str(value)
