"""The counted runs of fuzzing, each in a process of its own: `python tests/tools/fuzz_campaign.py`.

    python tests/tools/fuzz_campaign.py --share 0.01
    python tests/tools/fuzz_campaign.py --run bounds --json fuzz.json

`plain`: damaged recordings of all formats that are decoded here. `bounds`: the same with the indices of the kernels
checked. `hdf5` and `aedat4`: files for libraries that run in a process of their own. `real`: damaged recordings and
images of TMKT_REAL_DATA. The same seed gives the same inputs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuzz_hdf5
import fuzz_readers

from tmkt_data.errors import EventError, TmktError
from tmkt_data.events.formats.aedat4 import MAGIC, load_aedat4
from tmkt_data.images.decode import decode_image

INPUTS = {"plain": 2_000_000, "bounds": 1_000_000, "hdf5": 20_000, "aedat4": 20_000, "real": 50_000}
_LONGEST_BYTES = 1 << 16
_ROWS = [(10, 1, 2, True), (20, 3, 4, False), (30, 9, 7, True)]


def readers(count: int, seed: int) -> Counter[str]:
    """Feed damaged recordings of every format to its decoder."""
    found: Counter[str] = Counter()
    for _, ends, _ in fuzz_readers.fuzz(count, seed):
        found += ends
    return found


def hdf5(count: int, seed: int) -> Counter[str]:
    """Feed damaged HDF5 files to the process that reads them."""
    result = fuzz_hdf5.run(count, seed)
    refused = result.refused - result.isolated
    return Counter(decoded=result.decoded, refused=refused, isolated=result.isolated)


def aedat4(count: int, seed: int) -> Counter[str]:
    """Feed damaged AEDAT4 files to the process that reads them."""
    import faery
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.aedat4"
        faery.events_stream_from_array(np.array(_ROWS, faery.EVENTS_DTYPE), dimensions=(10, 8)).to_file(path)
        whole = path.read_bytes()
        found: Counter[str] = Counter()
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            data = MAGIC + fuzz_hdf5.mutate(rng, whole[len(MAGIC) :], [whole])
            path.write_bytes(data)
            found[_ended(lambda: load_aedat4(path), number)] += 1
    return found


def real(count: int, seed: int) -> Counter[str]:
    """Feed damaged real recordings and images to their decoders."""
    folder = Path(os.environ["TMKT_REAL_DATA"])
    files = {suffix: sorted(folder.rglob(f"*{suffix}")) for suffix in (".bin", ".raw", ".aedat4", ".jpg", ".png")}
    weights = {".bin": 60, ".raw": 4, ".aedat4": 1, ".jpg": 20, ".png": 15}
    kinds = [suffix for suffix in files if files[suffix]]
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            rng = random.Random(f"{seed} {number}")
            kind = rng.choices(kinds, [weights[suffix] for suffix in kinds])[0]
            path = rng.choice(files[kind])
            whole = path.read_bytes()[: None if kind == ".aedat4" else _LONGEST_BYTES]
            given = Path(name) / f"a{kind}"
            found[_ended(lambda: _read(given, fuzz_hdf5.mutate(rng, whole, [whole])), number)] += 1  # noqa: B023
    return found


def _read(path: Path, data: bytes) -> None:
    match path.suffix:
        case ".jpg" | ".png":
            decode_image(data, place=path.name)
        case ".aedat4":
            path.write_bytes(data)
            load_aedat4(path)
        case _:
            if fuzz_readers.check(path.name, data) == "refused":
                raise EventError(f"{path.name}: refused")


def _ended(read: Callable[[], object], number: int) -> str:
    """Return what became of an input.

    Raises:
        AssertionError: An error of more than one line.
        Exception: Another one: a fault.
    """
    try:
        read()
    except TmktError as refused:
        text = str(refused)
        if not text or "\n" in text:
            raise AssertionError(f"input {number}: {text!r}") from refused
        return "isolated" if "library crashed" in text else "refused"
    except BaseException as fault:
        fault.add_note(f"input {number}")
        raise
    return "decoded"


RUNS: dict[str, Callable[[int, int], Counter[str]]] = {
    "plain": readers, "bounds": readers, "hdf5": hdf5, "aedat4": aedat4, "real": real,
}  # fmt: skip


def in_own_process(name: str, count: int, seed: int) -> dict[str, Any]:
    """Run one of `RUNS` in a process of its own, and return what it found: counts, seconds, faults."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        checked = {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": folder} if name == "bounds" else {}
        command = [sys.executable, __file__, "--one", name, str(count), str(seed)]
        done = subprocess.run(command, env=os.environ | checked, capture_output=True, text=True, check=False)
    row = {"run": name, "seed": seed, "seconds": round(time.perf_counter() - started)}
    if done.returncode:
        # It ends at the first fault: how many inputs there were before is not known.
        return row | {"inputs": 0, "faults": [f"exit {done.returncode}: {done.stdout[-500:]}{done.stderr[-1500:]}"]}
    ends = json.loads(done.stdout)
    return row | {"inputs": sum(ends.values()), "faults": []} | ends


def runs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the result of every run that is asked for and possible here."""
    for name in options.run or RUNS:
        if name != "real" or os.environ.get("TMKT_REAL_DATA"):
            yield in_own_process(name, max(20, round(INPUTS[name] * options.share)), options.seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", action="append", choices=RUNS, help="Run; can be repeated.  [default: all]")
    parser.add_argument("--share", type=float, default=1.0, help="Share of the inputs of each run.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="File to write the results to.")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, count, seed = options.one
        warnings.simplefilter("error")
        print(json.dumps(RUNS[name](int(count), int(seed))))
        return
    rows = []
    for row in runs(options):
        rows.append(row)
        counts = ", ".join(f"{row[end]:,} {end}" for end in ("decoded", "refused", "isolated") if end in row)
        print(
            f"{row['run']:<7} {row['inputs']:>9,} inputs in {row['seconds']} s: {counts or row['faults'][0]}",
            flush=True,
        )
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["faults"] for row in rows))


if __name__ == "__main__":
    main()
