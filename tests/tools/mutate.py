"""Change a module a little, and see whether its tests notice: python tests/tools/mutate.py [MODULE ...].

Each mutant runs the tests of its module until one fails, in a process of its own and in a copy of the tree. A mutant is
killed by a test that fails, or where they take ten times as long as without it. Of those that survive,
`equivalent_mutants.toml` names the ones that no test can kill, and why.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from mutants import mutants
from trial import Trial

ROOT = Path(__file__).parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
LIBRARIES = ("pytest", "hypothesis", "hypothesis.extra.numpy", "numba", "h5py", "scipy.stats", "PIL.Image", "filelock")
TESTS = {
    "tmkt_data/datasets/splits.py": ["datasets/test_splits.py"],
    "tmkt_data/events/time_bins.py": ["events/test_time_bins.py"],
    "tmkt_data/pairs/subsets.py": ["pairs/test_subsets.py"],
    "tmkt_data/pairs/pools.py": ["pairs/test_pools.py"],
    "tmkt_data/pairs/alignment.py": ["pairs/test_alignment.py"],
    "tmkt_data/pairs/class_fit.py": [f"pairs/test_{name}.py" for name in ("classes_compared", "class_fit", "verdicts")],
    "tmkt_data/pairs/paired_frames.py": [
        f"pairs/test_{name}.py" for name in ("paired_frames", "dataset_names", "image_side", "epoch")
    ],
    "tmkt_data/cache/format.py": ["cache/test_format.py"],
    "tmkt_data/cache/digests.py": ["cache/test_digests.py"],
    "tmkt_data/cache/reader.py": ["cache/test_reader.py", "cache/test_shard_set.py"],
    "tmkt_data/cache/shard_index.py": ["cache/test_shard_set.py"],
    "tmkt_data/cache/shard_set.py": ["cache/test_shard_set.py"],
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
    parser.add_argument("--among", type=Path, help="File of names of mutants, one a line: only these.")
    parser.add_argument("--tests", default="", help="Only tests that this expression selects, as `-k` of pytest does.")
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
    text, started = (tree / module).read_text(encoding="utf-8"), time.monotonic()
    every = [mutant for mutant in mutants(text) if mutant.name.startswith(options.function)]
    if options.among:
        wanted = set(options.among.read_text(encoding="utf-8").splitlines())
        every = [mutant for mutant in every if mutant.name in wanted]
    number = len(every) if options.sample is None else min(options.sample, len(every))
    drawn = [every[at] for at in sorted(random.Random(f"{options.seed}/{module}").sample(range(len(every)), number))]
    trial = Trial(tree, module, [*_tests_of(module), "-k", options.tests])
    survived = trial.survivors(drawn)
    left = [mutant for mutant in survived if mutant.name not in equivalent]
    for mutant in left:
        print(f"{module}:{mutant.line}: survived: {mutant.name}", flush=True)
    row = {
        "module": module, "all": len(every), "tried": len(drawn), "killed": len(drawn) - len(survived),
        "equivalent": len(survived) - len(left), "left": [mutant.name for mutant in left],
    }  # fmt: skip
    print(row | {"left": len(left), "seconds": round(time.monotonic() - started)}, flush=True)
    return row


def _tests_of(module: str) -> list[str]:
    side = "train" if module.startswith("tmkt_train") else "data"
    return [module, *(f"tests/{side}/{test}" for test in TESTS[module])]


if __name__ == "__main__":
    main()
