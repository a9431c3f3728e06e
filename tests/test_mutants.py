"""The mutants of `tests/tools/mutate.py`: what is changed in a module, and that what is said about them is of today."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import mutate
import pytest
from mutants import mutants

ROOT = Path(__file__).parents[1]
MODULE = '''
"""A module with 1 example."""
from __future__ import annotations
import typing

def share(count: int | None, least: int = 3) -> float:
    """Return a share of 2."""
    if count is None or count < least:
        raise ValueError(f"{count + 1} of {2}")
    table = {}
    table["count"] = -count
    return count / 4.0
'''


def test_each_small_change_once():
    assert [mutant.name for mutant in mutants(MODULE)] == [
        "share: 3 -> 4",
        "share: 3 -> 2",
        "share: count is None or count < least -> not (count is None or count < least)",
        "share: count is None or count < least -> count is None and count < least",
        "share: count is None -> count is not None",
        "share: count < least -> count <= least",
        "share: count < least -> count >= least",
        "share: raise ValueError(f'{count + 1} of {2}') -> pass",
        "share: table['count'] = -count -> pass",
        "share: -count -> count",
        "share: return count / 4.0 -> return None",
        "share: count / 4.0 -> count * 4.0",
        "share: 4.0 -> 8.0",
    ]


def test_a_mutant_differs_in_one_place():
    whole = ast.unparse(ast.parse(MODULE)).splitlines()
    for mutant in mutants(MODULE):
        lines = mutant.text().splitlines()
        assert len(lines) == len(whole)
        assert sum(a != b for a, b in zip(lines, whole, strict=True)) == 1


def test_changes_that_read_the_same_are_numbered():
    assert [mutant.name for mutant in mutants("A = (1, True, 1)")] == [
        "module: 1 -> 2", "module: 1 -> 0", "module: True -> False", "module: 1 -> 2 #2", "module: 1 -> 0 #2",
    ]  # fmt: skip


@pytest.mark.parametrize("module", mutate.TESTS)
def test_modules_and_their_tests_are_there(module):
    side = "train" if module.startswith("tmkt_train") else "data"
    assert (ROOT / module).is_file()
    assert [test for test in mutate.TESTS[module] if not (ROOT / "tests" / side / test).is_file()] == []


def test_equivalent_mutants_are_mutants_of_today_and_say_why():
    for module, reasons in tomllib.loads(mutate.EQUIVALENT.read_text(encoding="utf-8")).items():
        names = {mutant.name for mutant in mutants((ROOT / module).read_text(encoding="utf-8"))}
        assert set(reasons) - names == set()
        assert all(reasons.values())
