"""The layout that docs/design/layout.md describes, held where import-linter does not look."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tmkt_data", "tmkt_train")
ROOTS = {
    "tmkt_data": {
        *("__init__", "__main__", "errors", "files", "locks", "random_keys", "sample_ids", "spec"),
    },
    "tmkt_train": {"__init__", "__main__", "choices", "errors"},
}
MOST_PARAMETERS = 6
MOST_LINES = 350


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def functions(path: Path) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            yield node.name, [argument.arg for argument in given if argument.arg not in ("self", "cls")]


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """The sets of nodes that reach each other, by repeated removal of what nothing points to or from."""
    reach = {node: set(targets) for node, targets in arrows.items()}
    for middle, start in itertools.product(arrows, arrows):
        if middle in reach[start]:
            reach[start] |= reach[middle]
    found = [frozenset(other for other in arrows if other in reach[node] and node in reach[other]) for node in arrows]
    return [set(group) for group in sorted(set(found), key=sorted) if len(group) > 1]


@pytest.mark.parametrize("package", PACKAGES)
def test_only_what_every_folder_needs_lies_in_the_root(package: str) -> None:
    assert {path.stem for path in (ROOT / package).glob("*.py")} == ROOTS[package]


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("depth", [2, 9], ids=["folders", "files"])
def test_no_circle(package: str, depth: int) -> None:
    graph = grimp.build_graph(package, cache_dir=None)
    arrows: dict[str, set[str]] = {}
    for module in graph.modules:
        here = ".".join(module.split(".")[:depth])
        for imported in graph.find_modules_directly_imported_by(module):
            there = ".".join(imported.split(".")[:depth])
            arrows.setdefault(here, set())
            arrows.setdefault(there, set())
            if here != there and here != package:
                arrows[here].add(there)
    assert circles(arrows) == []


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]


@pytest.mark.parametrize("package", PACKAGES)
def test_functions_take_a_few_nouns(package: str) -> None:
    crowded = {
        f"{path.relative_to(ROOT)}: {name}": len(given)
        for path in modules(package)
        if "kernels" not in path.parts
        for name, given in functions(path)
        if len(given) > MOST_PARAMETERS
    }
    assert crowded == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_files_fit_in_the_head(package: str) -> None:
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(package)
    }
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_tests_mirror_the_packages() -> None:
    for package, side in zip(PACKAGES, ("data", "train"), strict=True):
        folders = {path.parent.relative_to(ROOT / package) for path in modules(package)}
        tested = {path.parent.relative_to(ROOT / "tests" / side) for path in (ROOT / "tests" / side).rglob("test_*.py")}
        assert tested <= folders
