"""Change a module a little, and see whether its tests notice: python tests/tools/mutate.py [MODULE ...].

Each mutant runs the tests of its module, one process a mutant, in a copy of the tree. The process is a fork of one that
has the libraries loaded, which takes a tenth of the time of a new one. A mutant is killed by a test that fails or by a
run that takes ten times as long as without it. Of those that survive, `equivalent_mutants.toml` names the ones that no
test can kill, and why.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutants import mutants

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
LIBRARIES = ("pytest", "hypothesis", "hypothesis.extra.numpy", "numba", "h5py", "scipy.stats", "PIL.Image", "filelock")
_LOADED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
"""Libraries that bring plugins are loaded before pytest."""
TESTS = {
    "tmkt_data/datasets/splits.py": ["datasets/test_splits.py"],
    "tmkt_data/events/time_bins.py": ["events/test_time_bins.py"],
    "tmkt_data/pairs/subsets.py": ["pairs/test_subsets.py"],
    "tmkt_data/pairs/pools.py": ["pairs/test_pools.py"],
    "tmkt_data/pairs/alignment.py": ["pairs/test_alignment.py"],
    "tmkt_data/pairs/class_fit.py": ["pairs/test_class_fit.py", "pairs/test_verdicts.py"],
    "tmkt_data/pairs/paired_frames.py": ["pairs/test_paired_frames.py", "pairs/test_epoch.py"],
    "tmkt_data/cache/format.py": ["cache/test_format.py"],
    "tmkt_data/cache/digests.py": ["cache/test_digests.py"],
    "tmkt_data/cache/reader.py": ["cache/test_reader.py"],
    "tmkt_data/cache/writer.py": ["cache/test_writer.py"],
    "tmkt_train/method/mixing.py": ["method/test_mixing.py"],
    "tmkt_train/method/mixer.py": ["method/test_mixer.py"],
}
"""The modules, and the tests that have to notice; with each, the examples of its docstrings."""


def main() -> None:
    """Run the mutants that the command line asks for; exit 1 where one survives that is not known to be equivalent."""
    options = _options()
    equivalent = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")) if EQUIVALENT.exists() else {}
    with tempfile.TemporaryDirectory(prefix="tmkt-mutants-") as name:
        tree = Path(name) / "tree"
        _copy_tree(tree)
        sys.path[:0] = [str(tree)]
        os.chdir(tree)
        for library in (*LIBRARIES, *(["torch"] if any("tmkt_train" in module for module in options.module) else [])):
            importlib.import_module(library)
        rows = [_row(tree, module, options, equivalent.get(module, {})) for module in options.module]
    if options.json:
        options.json.write_text(json.dumps({"seed": options.seed, "rows": rows}, indent=1) + "\n")
    sys.exit(any(row["left"] for row in rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", nargs="*", default=list(TESTS), help="Modules.  [default: all that are listed]")
    parser.add_argument("--sample", type=int, help="Mutants of each module, drawn at random.  [default: all]")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the sample.")
    parser.add_argument("--function", default="", help="Only mutants in functions whose name begins so.")
    parser.add_argument("--json", type=lambda path: Path(path).resolve(), help="File to write the summary to.")
    return parser.parse_args()


def _copy_tree(tree: Path) -> None:
    """Copy what git tracks, and what it would."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)


def _row(tree: Path, module: str, options: argparse.Namespace, equivalent: dict[str, str]) -> dict[str, Any]:
    """Run the mutants of one module and return the figures."""
    path = tree / module
    text = path.read_text(encoding="utf-8")
    every = [mutant for mutant in mutants(text) if mutant.name.startswith(options.function)]
    number = len(every) if options.sample is None else min(options.sample, len(every))
    drawn = sorted(random.Random(f"{options.seed}/{module}").sample(range(len(every)), number))
    side, tests = ("train" if module.startswith("tmkt_train") else "data"), [module]
    tests += [f"tests/{side}/{test}" for test in TESTS[module]]
    # As the mutants are written, without comments.
    path.write_text(ast.unparse(ast.parse(text)), encoding="utf-8")
    started = time.monotonic()
    if not _passes(tests, 3600, write_bytecode=True):
        sys.exit(f"{module}: its tests fail without a mutant: {(tree / 'said.txt').read_text()}")
    limit_s = 20 + 10 * (time.monotonic() - started)
    left, same = [], 0
    for number in drawn:
        mutant = every[number]
        path.write_text(mutant.text(), encoding="utf-8")
        Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
        if not _passes(tests, limit_s):
            continue
        same += mutant.name in equivalent
        if mutant.name not in equivalent:
            left.append({"line": mutant.line, "mutant": mutant.name})
            print(f"{module}:{mutant.line}: survived: {mutant.name}", flush=True)
    path.write_text(text, encoding="utf-8")
    killed = len(drawn) - same - len(left)
    print(
        f"{module}: {len(drawn)} of {len(every)} mutants, {killed} killed, {same} equivalent, {len(left)} left, "
        f"{time.monotonic() - started:.0f} s",
        flush=True,
    )
    return {
        "module": module, "all": len(every), "tried": len(drawn), "killed": killed, "equivalent": same, "left": left,
    }  # fmt: skip


def _passes(tests: Sequence[str], limit_s: float, *, write_bytecode: bool = False) -> bool:
    """Run tests in a fork of this process; return whether all pass in time."""
    child = os.fork()
    if child == 0:
        _test(tests, write_bytecode=write_bytecode)
    end, pause = time.monotonic() + limit_s, 0.01
    while time.monotonic() < end:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(pause)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def _test(tests: Sequence[str], *, write_bytecode: bool) -> None:
    """Become a process that runs tests until one fails."""
    status = 1
    try:
        os.setsid()
        said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for handle in (1, 2):
            os.dup2(said, handle)
        # A mutant of the same second and size would be taken for the one before.
        sys.dont_write_bytecode = not write_bytecode
        status = int(importlib.import_module("pytest").main(["-x", "-q", *_LOADED, *tests]))
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
