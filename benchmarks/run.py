"""Every benchmark, one after the other; at the end one table, and one JSON with machine and versions.

    python benchmarks/run.py
    python benchmarks/run.py --json benchmarks.json --quick

`--quick` takes small sets and few repeats: it shows that everything runs, not how fast it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
FULL: dict[str, list[str]] = {
    "peers": [],
    "image_side": [],
    "encoders": [],
    "loaders": [],
    "start_and_memory": [],
    "training_step": [],
    "scnn_step": [],
    "growth": ["--counts", "1000", "10000", "100000"],
}
QUICK: dict[str, list[str]] = {
    "peers": ["--recordings", "8", "--repeats", "1"],
    "image_side": ["--photographs", "12", "--repeats", "1"],
    "encoders": ["--images", "4", "--repeats", "1"],
    "loaders": ["--per-class", "2", "--repeats", "1"],
    "start_and_memory": ["--recordings", "20", "40", "--repeats", "1"],
    "training_step": ["--batch", "2", "--size", "16", "--repeats", "1", "--steps", "1"],
    "scnn_step": ["--batch", "2", "--repeats", "1"],
    "growth": ["--counts", "200", "400"],
}


class Row(NamedTuple):
    """One line of the table: what was measured, our figure, what it stands beside, its figure, and theirs over ours."""

    what: str
    ours: str
    beside: str
    theirs: str
    ratio: str


def rows_of_cases(what: str, case: dict[str, Any]) -> list[Row]:
    """Return a line for each contender beside the first."""
    ours, *others = case.items()
    return [
        Row(what, f"{ours[1]['ms']:.3f} ms", name, f"{row['ms']:.3f} ms", f"{row['ratio']:.2f}") for name, row in others
    ]


def rows_of_prepare(case: dict[str, Any]) -> list[Row]:
    """Return a line for each of our ways beside tonic."""
    tonic = case.get("tonic, first epoch, bilinear")
    if tonic is None:
        return []
    ours = {name: row for name, row in case.items() if name.startswith("tmkt")}
    return [
        Row(
            f"prepare{name[4:]}",
            f"{row['ms']:.3f} ms",
            "tonic",
            f"{tonic['ms']:.3f} ms",
            f"{tonic['ms'] / row['ms']:.1f}",
        )
        for name, row in ours.items()
    ]


def rows_of_images(case: dict[str, Any]) -> list[Row]:
    """Return a line for each of our ways beside each loop over Pillow."""
    ours = {name: row for name, row in case.items() if name.startswith("tmkt")}
    return [
        Row(f"images{name[4:]}", f"{row['ms']:.3f} ms", rival, f"{case[rival]['ms']:.3f} ms", f"{ratio:.2f}")
        for name, row in ours.items()
        for rival, ratio in row["ratio"].items()
    ]


def rows_of_encoders(case: dict[str, Any]) -> list[Row]:
    """Return a line for each encoder that imitates events beside Poisson spikes and `torch.rand`."""
    return [
        Row(f"encoder {name}", f"{case[name]['ms']:.3f} ms", rival, f"{case[rival]['ms']:.3f} ms",
            f"{case[rival]['ratio'] / case[name]['ratio']:.2f}")
        for name in ("saccade", "microsaccade", "gradient")
        for rival in ("poisson", "torch.rand")
    ]  # fmt: skip


def rows_of_training(figures: dict[str, Any]) -> list[Row]:
    """Return lines of time and of memory of a training step beside the reference and spikingjelly."""
    ours, rows = figures["tmkt"], []
    for name in ("reference", "spikingjelly"):
        other = figures[name]
        rows.append(
            Row("training step", f"{ours['s']:.2f} s", name, f"{other['s']:.2f} s", f"{other['s'] / ours['s']:.2f}")
        )
        sizes = [row["peak_bytes"] / 1e9 for row in (ours, other)]
        rows.append(
            Row("its peak memory", f"{sizes[0]:.2f} GB", name, f"{sizes[1]:.2f} GB", f"{sizes[1] / sizes[0]:.2f}")
        )
    return rows


def rows_of_scnn(figures: dict[str, Any]) -> list[Row]:
    """Return the line of a step of SCNN beside the plain layers, in CPU time."""
    ours, plain = figures["tmkt"], figures["plain"]
    times = [f"{row['cpu_s'] * 1e3:.0f} ms" for row in (ours, plain)]
    return [Row("SCNN step, CPU time", times[0], "plain layers", times[1], f"{1 / ours['cpu_s_ratio']:.2f}")]


def table(found: dict[str, dict[str, Any]]) -> list[Row]:
    """Return all lines, the ratio being theirs over ours."""
    peers = found["peers"]
    rows = rows_of_cases("decode and count", peers["decode and count"])
    rows += rows_of_prepare(peers["prepare"])
    rows += rows_of_images(found["image_side"]["prepare"])
    rows += rows_of_cases("read a sample", peers["read"])
    rows += rows_of_cases("Poisson, 120 images", peers["poisson"])
    rows += rows_of_cases("a pair from a loader", found["loaders"]["loaders"])
    rows += rows_of_encoders(found["encoders"]["encoders"])
    return rows + rows_of_training(found["training_step"]) + rows_of_scnn(found["scnn_step"])


def run(name: str, arguments: list[str], folder: Path) -> dict[str, Any]:
    """Run one benchmark, its output as it comes, and return its JSON."""
    out = folder / f"{name}.json"
    print(f"\n=== {name}", flush=True)
    subprocess.run([sys.executable, HERE / f"{name}.py", *arguments, "--json", out], check=True)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def main() -> None:
    """Run all, print the table, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sets, few repeats")
    parser.add_argument("--json", type=Path, help="file to write everything to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        chosen = QUICK if given.quick else FULL
        reports = {script: run(script, arguments, Path(name)) for script, arguments in chosen.items()}
    rows = table({script: report["figures"] for script, report in reports.items()})
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print("\n=== theirs over ours")
    for row in rows:
        print(f"{row.what:<{widths[0]}}  {row.ours:>{widths[1]}}  {row.beside:<{widths[2]}}  "
              f"{row.theirs:>{widths[3]}}  {row.ratio:>{widths[4]}} x")  # fmt: skip
    if given.json is not None:
        given.json.write_text(json.dumps(reports, indent=2))


if __name__ == "__main__":
    main()
