"""Run commands on a real file system that is too small, and again when it has grown.

python -m tests.faults.small_disk --tries 30 --json small_disk.json

Other than an injected error, a full file system refuses page by page, also what is written through memory maps. Each
try mounts one in memory, in a user namespace of its own; needs `unshare` of util-linux, and a system that allows it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.faults import shim
from tests.faults.figures import add_rows
from tests.faults.table import scenarios
from tests.faults.tally import Tally
from tests.faults.tries import GOOD, Stage, Try

SCENARIOS = ("prepare", "prepare-threads", "prepare-skip-bad", "prepare-archive", "compress", "decompress")
PAGE = 4096
_LARGE = 1 << 26
_INSIDE = "TMKT_FAULTS_NAMESPACE"


def missing() -> str:
    """Return why no file system can be mounted here, "" where one can."""
    if shim.missing():
        return shim.missing()
    if shutil.which("unshare") is None:
        return "no unshare (util-linux) to mount a file system with"
    command = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs "$1"', "sh"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([*command, folder], capture_output=True, text=True, check=False)
    return f"no file system can be mounted ({done.stderr.strip()})" if done.returncode else ""


class SmallDisk(Stage):
    """A scenario whose outputs lie on a file system of their own."""

    def attempt_on(self, pages: int) -> Try:
        """Run the command on so many pages, look at what it leaves, and run it again on enough."""
        with _Mount(self.out, pages * PAGE) as disk:
            try:
                shutil.copytree(self.start, self.out, dirs_exist_ok=True)
            except OSError:
                return Try("refused", "what was there before does not fit")
            # An interpreter that is torn down writes what it has left.
            tried = self._verdict(self.child(lambda: None))
            if tried.verdict in GOOD:
                tried = self._after_fault(tried)
            disk.resize(_LARGE)
            return self._run_again(tried) if tried.verdict in GOOD else tried

    def pages_needed(self) -> int:
        """Return how many pages hold what an undisturbed run leaves."""
        with _Mount(self.out, _LARGE):
            shutil.copytree(self.start, self.out, dirs_exist_ok=True)
            self.child()
            found = os.statvfs(self.out)
            return (found.f_blocks - found.f_bfree) * found.f_frsize // PAGE


class _Mount:
    def __init__(self, folder: Path, num_bytes: int) -> None:
        self._folder, self._num_bytes = folder, num_bytes

    def __enter__(self) -> _Mount:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        self._mount(f"size={self._num_bytes}")
        return self

    def resize(self, num_bytes: int) -> None:
        self._mount(f"remount,size={num_bytes}")

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self._folder], check=True)

    def _mount(self, options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", self._folder], check=True)


def campaign(stage: SmallDisk, tries: int, seed: int) -> dict[str, Any]:
    """Run a scenario on file systems of random sizes, up to half more than its outputs; return a row of the summary."""
    name, most = stage.scenario.name, stage.pages_needed() * 3 // 2
    rng = random.Random(f"{seed}/{name}/small-disk")
    tally = Tally(GOOD)
    for pages in rng.sample(range(1, most), min(tries, most - 1)):
        tried = stage.attempt_on(pages)
        if tally.add(tried.verdict, tried.said, pages=pages):
            print(f"{tried.verdict}: {name} on {pages} pages\n    {tried.said}", flush=True)
    summary = tally.summary()
    print(f"{name} small-disk: {summary['tries']} of {most} sizes, {summary['verdicts']}", flush=True)
    return {"scenario": name, "fault": "small-disk", "seed": seed, "calls": most, **summary}


def main() -> None:
    """Run the campaign that the command line asks for; exit 1 where a try was not good."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.small_disk", description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="Can be repeated.  [default: all]")
    parser.add_argument("--tries", type=int, default=20, help="Sizes to try in each scenario.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the sizes.")
    parser.add_argument("--json", type=Path, help="Summary to add the rows to.")
    options = parser.parse_args()
    if _INSIDE not in os.environ:
        why = missing()
        if why:
            print(f"small-disk: skipped, {why}")
            return
        again = dict(os.environ, LD_PRELOAD=str(shim.library()), OMP_NUM_THREADS="1") | {_INSIDE: "1"}
        words = ["unshare", "-rm", sys.executable, "-m", "tests.faults.small_disk", *sys.argv[1:]]
        os.execvpe("unshare", words, again)
    rows = []
    for scenario in scenarios():
        if scenario.name in (options.scenario or SCENARIOS):
            folder = Path(tempfile.mkdtemp(prefix="tmkt-faults-")).resolve()
            try:
                rows.append(campaign(SmallDisk(scenario, folder), options.tries, options.seed))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            if options.json:
                add_rows(options.json, rows[-1:])
    sys.exit(any(row["failures"] for row in rows))


if __name__ == "__main__":
    main()
