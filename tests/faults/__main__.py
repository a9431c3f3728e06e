"""Command `python -m tests.faults`: a campaign of faults, or one of its tries again."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.faults import shim
from tests.faults.faults import FAULTS, Fault
from tests.faults.figures import add_rows
from tests.faults.table import scenarios
from tests.faults.tally import Tally
from tests.faults.tries import GOOD, Stage


def main() -> None:
    """Run the campaign that the command line asks for; exit 1 where a try was not good."""
    options = _options()
    why = shim.missing()
    if why:
        sys.exit(f"error: {why}; faults cannot be injected here")
    if not shim.is_loaded():
        again = dict(os.environ, LD_PRELOAD=str(shim.library()), OMP_NUM_THREADS="1")
        os.execve(sys.executable, [sys.executable, "-m", "tests.faults", *sys.argv[1:]], again)
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    for place, scenario in enumerate(scenarios()):
        if options.scenario and scenario.name not in options.scenario:
            continue
        # Not a TemporaryDirectory, which each child process would remove when it ends.
        folder = Path(tempfile.mkdtemp(prefix="tmkt-faults-", dir=options.folder)).resolve()
        try:
            stage = Stage(scenario, folder)
            chosen = list(options.fault or FAULTS)
            for name in chosen[place % options.every :: options.every]:
                rows.append(_campaign(stage, FAULTS[name], options))
                if options.json:
                    add_rows(options.json, rows[-1:])
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    failures = [failure for row in rows for failure in row["failures"]]
    tries, seconds = sum(row["tries"] for row in rows), time.perf_counter() - started
    print(f"{tries} faults in {seconds:.0f} s, {len(failures)} failures")
    sys.exit(bool(failures))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--scenario", action="append", help="Scenario; can be repeated.  [default: all]")
    parser.add_argument("--fault", action="append", choices=FAULTS, help="Fault; can be repeated.  [default: all]")
    parser.add_argument("--tries", type=int, default=20, help="Tries of each fault in each scenario.")
    parser.add_argument("--every", type=int, default=1, help="2: half of the faults in each scenario, in turn.")
    parser.add_argument("--at", type=int, help="Replay: the number of the call, with one --scenario and one --fault.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the calls that are hit.")
    memory = Path("/dev/shm")
    parser.add_argument(
        "--folder", type=Path, default=memory if memory.is_dir() else None, help="Where the commands write."
    )
    parser.add_argument("--json", type=Path, help="Summary to add the rows to.")
    return parser.parse_args()


def _campaign(stage: Stage, fault: type[Fault], options: argparse.Namespace) -> dict[str, Any]:
    calls = stage.read_calls if fault.reads else stage.calls
    hit = [call.number for call in calls if fault.can_hit(call)]
    name = f"{stage.scenario.name} {fault.name}"
    rng = random.Random(f"{options.seed}/{name}")
    numbers = list(hit) if len(hit) <= options.tries else rng.sample(hit, options.tries)
    # Again where there are more tries than calls: threads and losses differ.
    numbers += rng.choices(hit, k=max(0, options.tries - len(numbers))) if hit else []
    if options.at is not None:
        numbers = [options.at]
    tally = Tally(GOOD)
    for place, at in enumerate(numbers):
        tried = stage.attempt(fault, at, options.seed + place)
        call = next((call for call in calls if call.number == at), None)
        where = f"{call.op.name.lower()} {Path(call.path).name}" if call else ""
        replay = (
            f"python -m tests.faults --scenario {stage.scenario.name} --fault {fault.name} --at {at} "
            f"--seed {options.seed + place}"
        )
        if tally.add(tried.verdict, tried.said, replay=replay, call=where) or options.at is not None:
            print(f"{tried.verdict}: {replay}  [{where}]\n    {tried.said}", flush=True)
    summary = tally.summary()
    print(f"{name}: {summary['tries']} of {len(hit)} calls, {summary['verdicts']}", flush=True)
    return {
        "scenario": stage.scenario.name, "fault": fault.name, "seed": options.seed, "calls": len(hit), **summary,
    }  # fmt: skip


if __name__ == "__main__":
    main()
