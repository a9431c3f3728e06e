"""Print the tests of what changed: python tests/tools/tests_of_change.py [REVISION]; default: since the last commit.

A changed module names the tests of its folder, a changed test itself, a changed page or recipe the tests of those. Of
what many modules use (the root of a package, fixtures, settings) the tests are too many for an inner loop: `make test`.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[2]
SIDES = {"tmkt_data": "data", "tmkt_train": "train"}
OTHERS = {
    "docs": "tests/test_docs.py",
    "README.md": "tests/test_docs.py",
    "CONTRIBUTING.md": "tests/test_docs.py",
    "examples": "tests/test_examples.py",
    "recipes": "tests/train/recipe",
    "benchmarks": "tests/test_benchmarks.py",
}


def changed_paths(revision: str) -> list[str]:
    """Return the paths that differ from a revision, and those that git does not track yet."""
    commands = (["git", "diff", "--name-only", revision], ["git", "ls-files", "--others", "--exclude-standard"])
    lines: list[str] = []
    for command in commands:
        lines += subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return lines


def tests_of(paths: Iterable[str]) -> list[str]:
    """Return the tests to run for changed paths, files and folders that exist, without repetition."""
    found = {test for path in paths for test in _tests_of_one(PurePosixPath(path))}
    folders = {test for test in found if (ROOT / test).is_dir()}
    return sorted(test for test in found if not folders & {str(parent) for parent in PurePosixPath(test).parents})


def _tests_of_one(path: PurePosixPath) -> list[str]:
    top, name = path.parts[0], path.name
    if top == "tests":
        candidates = [str(path)] if name.startswith("test_") else []
    elif top in SIDES:
        folder = PurePosixPath("tests", SIDES[top], *path.parts[1:-1])
        mirror = str(folder / f"test_{path.stem}.py")
        candidates = ["tests/test_layout.py", mirror if (ROOT / mirror).exists() else str(folder)]
    else:
        candidates = [OTHERS[top]] if top in OTHERS else []
    return [test for test in candidates if (ROOT / test).exists() and test not in ("tests/data", "tests/train")]


if __name__ == "__main__":
    print("\n".join(tests_of(changed_paths(sys.argv[1] if len(sys.argv) > 1 else "HEAD"))))
