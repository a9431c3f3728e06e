"""Record what the two commands do, as digests, and compare two records: to see that a change changed nothing else.

    python tests/tools/behavior_digests.py before.json
    python tests/tools/behavior_digests.py after.json
    python tests/tools/behavior_digests.py --compare before.json after.json

The commands of the checkout that this file lies in run, on one thread, and nothing else of it but `PairedFrames`.
Digests are of caches, read batches, weights, metrics and results; times, paths and versions are left out, see
`digest_recorder`. Texts lie beside the record, in `before.texts`: `diff -r before.texts after.texts` shows how
wording, tables and reports differ. Numbers are those of one machine: record both on the same one.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

from behavior_sections import NEEDS, SECTIONS
from digest_recorder import CHECKOUT, Recorder, set_environment

MEANT: dict[str, str] = {"train/mix-self-setting*": "the ratio that sets itself is deleted"}
"""Differences that are meant, by pattern of the name."""
_VERSIONS = ("torch", "numpy", "numba", "h5py", "pillow", "spikingjelly", "scikit-learn", "optuna")


def main(arguments: list[str] | None = None) -> int:
    """Record, or compare two records; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", help="record to write, such as before.json")
    parser.add_argument("--work", type=Path, help="new folder to work in; a temporary one when left out")
    parser.add_argument("--real-data", type=Path, default=CHECKOUT.parent / "shared" / "data")
    parser.add_argument("--only", help="sections, such as help,training, and those that they need")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    given = parser.parse_args(arguments)
    if given.compare:
        return compare(*(json.loads(path.read_text()) for path in given.compare))
    if given.out is None:
        parser.error("name the record to write, or two to compare")
    with work_folder(given.work) as work:
        set_environment(work.resolve())
        record = make_record(Recorder(work.resolve(), given.real_data.resolve()), given.only)
    write_record(given.out, record)
    return 0


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    """Give the folder to work in: an empty one that stays, or a temporary one."""
    if given is not None:
        given.mkdir(parents=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="behavior-") as name:
        yield Path(name)


def make_record(recorder: Recorder, only: str | None) -> dict[str, Any]:
    """Run the sections; return the record with its texts."""
    chosen = sections(only.split(",")) if only else list(SECTIONS)
    seconds: dict[str, float] = {}
    for name in chosen:
        started = time.monotonic()
        SECTIONS[name](recorder)
        seconds[name] = round(time.monotonic() - started, 1)
        sys.stdout.write(f"{name:<12} {seconds[name]:>6} s, {len(recorder.digests)} digests so far\n")
        sys.stdout.flush()
    return {
        "sections": chosen,
        "machine": machine(),
        "seconds": seconds,
        "digests": recorder.digests,
        "texts": recorder.texts,
    }


def sections(asked: list[str]) -> list[str]:
    """Return sections with those that they need, in the order in which they run."""
    needed = {other for name in asked for other in NEEDS.get(name, ())}
    return [name for name in SECTIONS if name in needed or name in asked]


def machine() -> dict[str, str]:
    """Return what numbers depend on beside the code."""
    versions = {name: metadata.version(name) for name in _VERSIONS}
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return versions | {"python": platform.python_version(), "cpu": cpu.partition(":")[2].strip()}


def write_record(out: Path, record: dict[str, Any]) -> None:
    """Write the record, and its texts as files beside it."""
    texts = record.pop("texts")
    folder = out.with_suffix(".texts")
    for name, text in texts.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text.rstrip()}\n", encoding="utf-8")
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    total = sum(record["seconds"].values())
    sys.stdout.write(f"{out}: {len(record['digests'])} digests in {total:.0f} s; {len(texts)} texts in {folder}\n")


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    """Print what differs between two records; return 1 where something differs that is not meant."""
    there, here = before["digests"], after["digests"]
    differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    reasons = {name: why for name in differing for pattern, why in MEANT.items() if fnmatch(name, pattern)}
    lines = list(notes(before, after))
    for name in differing:
        why = f"   (meant: {reasons[name]})" if name in reasons else ""
        lines.append(f"{name}: {change(there.get(name), here.get(name))}{why}")
    num_odd = len(differing) - len(reasons)
    lines.append(f"{len(there)} digests before, {len(here)} after: {num_odd} differ, {len(reasons)} more as meant")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if num_odd else 0


def notes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield what makes two records hard to compare."""
    for name, value in before["machine"].items():
        if after["machine"].get(name) != value:
            yield f"note: {name} was {value} and is {after['machine'].get(name)}"
    if before["sections"] != after["sections"]:
        yield f"note: the sections were {','.join(before['sections'])} and are {','.join(after['sections'])}"


def change(before: str | None, after: str | None) -> str:
    """Return how a digest or a list of words changed, in words."""
    if before is None or after is None:
        return "only after" if before is None else "only before"
    if " " not in before + after:
        return f"{before[:12]} -> {after[:12]}"
    old, new = before.split(), after.split()
    words = [f"-{word}" for word in old if word not in new] + [f"+{word}" for word in new if word not in old]
    return " ".join(words) or "other order"


if __name__ == "__main__":
    sys.exit(main())
