from __future__ import annotations

import pkgutil
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import h5py
import pytest
import trees
from small_caches import write_cache, write_small_digits

import tmkt_data
from tmkt_data.cache.format import FORMAT_VERSION, LEADING_BYTES
from tmkt_data.cli.main import main as data_command
from tmkt_data.datasets.registry import DATASETS
from tmkt_train.cli.main import main as train_command
from tmkt_train.recipe.load import find_recipe, list_recipes, load_recipe

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [
    *(path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.is_file()),
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts),
]
RECIPES = [path.name for path, _ in list_recipes()]
COMMANDS = {"tmkt-data": data_command, "tmkt-train": train_command}


_SETTING = re.compile(r"[A-Z][A-Z0-9_]*=")
"""What a command line may begin with: variables of its environment."""


class Block(NamedTuple):
    page: Path
    line: int
    kind: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    kind, start, lines = None, 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if line.lstrip().startswith("```"):
            if kind is None:
                kind, start, lines = line.strip().strip("`").strip(), number, []
            else:
                yield Block(page, start, kind, "\n".join(lines))
                kind = None
        elif kind is not None:
            lines.append(line)
    assert kind is None, f"{page}:{start}: a block is not closed"


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def scripts(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.kind == "python" and ">>>" not in block.text]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    write_small_digits(folder)
    write_cache("nmnist", trees.write_nmnist(folder / "data", per_digit=16), folder / "caches" / "nmnist.h5")
    return folder


RUN_WITH_THEIR_COMMANDS = ("own-data", "read-a-result")
"""Tutorials whose Python goes on from their commands; test_tutorials.py runs both."""


@pytest.mark.parametrize(
    "page", [page for page in PAGES if scripts(page) and page.stem not in RUN_WITH_THEIR_COMMANDS], ids=name_of
)
def test_python_blocks_run_one_after_the_other(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.delenv("TMKT_CACHES", raising=False)
    names: dict[str, Any] = {"__name__": "docs"}
    for block in scripts(page):
        exec(compile("\n" * block.line + block.text, str(page), "exec"), names)


def test_both_kinds_of_python_blocks_are_found() -> None:
    assert {name_of(page) for page in PAGES if scripts(page)} >= {
        "docs/cache-format.md",
        "docs/tutorials/your-own-loop.md",
    }
    assert sum(">>>" in page.read_text(encoding="utf-8") for page in PAGES) >= 5


def command_lines() -> Iterator[tuple[str, list[str]]]:
    for page in PAGES:
        for block in blocks(page):
            if block.kind not in ("console", "bash", "sh", "shell"):
                continue
            for number, line in enumerate(block.text.replace("\\\n", " ").splitlines(), start=block.line + 1):
                if block.kind != "console" or line.startswith("$ "):
                    words = shlex.split(line.removeprefix("$ "), comments=True)
                    words = words[next((at for at, word in enumerate(words) if not _SETTING.match(word)), len(words)) :]
                    if words:
                        yield f"{name_of(page)}:{number}: {line}", [Path(words[0]).name, *words[1:]]


LINES = list(command_lines())


@pytest.mark.parametrize(("place", "words"), LINES, ids=[place for place, _ in LINES])
def test_command_lines_are_real(place: str, words: list[str]) -> None:
    if words[0] in ("parallel", "seq"):
        words = words[words.index("tmkt-data") :]
    if words[:2] == ["srun", "torchrun"]:
        words = ["tmkt-train", *words[words.index("tmkt_train") + 1 :]]
    match words:
        case ["tmkt-data" | "tmkt-train" as program, name, *arguments]:
            command = COMMANDS[program].commands[name]
            try:
                context = command.make_context(name, list(arguments))
            except click.exceptions.Exit:
                return
            check_values(name, context.params)
        case ["tmkt-data" | "tmkt-train"]:
            pass
        case ["torchrun", "--nproc-per-node", _, "-m", "tmkt_train", *arguments]:
            test_command_lines_are_real(place, ["tmkt-train", *arguments])
        case ["make", *targets]:
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            for target in (word for word in targets if "=" not in word):
                assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), place
        case ["python" | "python3", script, *_] if script.endswith(".py"):
            assert (ROOT / script).is_file(), place
        case ["python" | "python3", "-m", module, *_] if module.startswith("tests."):
            source = ROOT.joinpath(*module.split("."))
            assert source.with_suffix(".py").is_file() or (source / "__main__.py").is_file(), place
        case ["python" | "python3", "-m", "venv" | "pip" | "pytest", *_]:
            pass
        case _:
            assert words[0] in (
                "git",
                "cd",
                "mkdir",
                "export",
                "eval",  # Of completion, tested in data/cli/test_completion.py.
                "pip",
                "head",
                "ruff",
                "coverage",
                "pre-commit",
                "optuna-dashboard",
                "sbatch",
                "first=$(scontrol",
                "dask",
                "kill",
            ), place


def check_values(name: str, params: dict[str, Any]) -> None:
    if name == "plan" or (name == "prepare" and params["plan"] is None):
        assert params["name"] in DATASETS or params["name"].startswith("tonic:")
    given = params["name"] if name in ("check", "recipe", "suggest", "sweep") else None
    if given is not None and "/" not in given and ".toml" not in given:
        load_recipe(find_recipe(given), params["settings"])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_the_text_are_real(page: Path) -> None:
    for program, rest in re.findall(r"`(tmkt-data|tmkt-train) ([^`]+)`", prose(page)):
        name, *words = shlex.split(rest)
        assert name in COMMANDS[program].commands, f"{program} {name}"
        known = {option for param in COMMANDS[program].commands[name].params for option in param.opts}
        assert {word for word in words if word.startswith("--")} <= known, f"{program} {rest}"


def slugs(page: Path) -> set[str]:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    named = set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return named | {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    targets += [m for block in blocks(page) for m in re.findall(r"^\{literalinclude\} (\S+)", block.kind)]
    for target in targets:
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in slugs(file), f"{name_of(page)}: {target}"


def test_every_page_is_in_the_table_of_contents() -> None:
    index = DOCS / "index.md"
    entries = {
        line
        for block in blocks(index)
        if block.kind == "{toctree}"
        for line in block.text.splitlines()
        if line and not line.startswith(":")
    }
    assert entries == {str(page.relative_to(DOCS).with_suffix("")) for page in PAGES if DOCS in page.parents} - {
        "index"
    }


def test_the_table_of_recipe_keys_is_that_of_the_models() -> None:
    keys = runpy.run_path(str(DOCS / "recipe_keys.py"))
    page = keys["PAGE"].read_text(encoding="utf-8")
    assert keys["written"](page) == page, "run: python docs/recipe_keys.py"


def test_the_recipes_page_lists_the_recipes() -> None:
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| .* \| `[\w-]+` \| [\w-]+ \|((?: `\w+`)*) \|$", page, re.MULTILINE)
    listed = {f"{name}{ending}" for name, row in rows for ending in ("", *(f"_{v}" for v in re.findall(r"\w+", row)))}
    assert listed == set(RECIPES)
    described = {name for line in re.findall(r"^\| (`.*`) \| ", page, re.MULTILINE) for name in line.split(", ")}
    assert {variant for _, row in rows for variant in row.split()} <= described


def test_the_cache_format_names_everything_in_a_cache(workplace: Path) -> None:
    page = (DOCS / "cache-format.md").read_text(encoding="utf-8")
    assert page.startswith(f"# The cache format, version {FORMAT_VERSION}\n")
    assert f"{LEADING_BYTES} bytes of ASCII" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    described = {name for row in rows for name in re.findall(r"`([\w/<>]+)`", row.split(" | ")[0] + "|")}
    with h5py.File(next(workplace.glob("caches/digits-*.h5"))) as file:
        found = set(file.attrs)
        file.visititems(lambda name, item: found.add(name) if isinstance(item, h5py.Dataset) else None)
    for name in found:
        side, _, last = re.sub(r"split/.+", "split/<protocol>", name).partition("/")
        assert f"{side}/{last}" in described or side in described or last in described, name


def test_the_reference_holds_every_public_name() -> None:
    page = (DOCS / "reference" / "data.md").read_text(encoding="utf-8")
    named = set(re.findall(r":: tmkt_data\.(\w+)$", page, re.MULTILINE))
    assert named | {"TmktError"} >= set(tmkt_data.__all__)


def reference_entries() -> Iterator[tuple[str, tuple[str, ...]]]:
    for page in sorted((DOCS / "reference").glob("*.md")):
        entries = re.findall(
            r"^\.\. auto\w+:: (\S+)((?:\n   .*)*)", page.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        for target, options in entries:
            listed = re.search(r":members: (.+)", options)
            yield target, tuple(listed[1].split(", ")) if listed else ()


@pytest.mark.parametrize(("target", "members"), list(reference_entries()))
def test_the_reference_names_what_exists(target: str, members: tuple[str, ...]) -> None:
    found = pkgutil.resolve_name(target)
    fields = getattr(found, "__dataclass_fields__", {})
    for member in members:
        assert hasattr(found, member) or member in fields, f"{target}.{member}"


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_take_the_default_cache_as_the_pages_say(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    changed = set(recipe.data.prepare.to_spec().differences(tmkt_data.default_spec(recipe.data.dataset)))
    own = {"ncaltech101": {"image_decode"}, "cepdvs": {"canvas"}}
    expected = {"bin_rule", "resize"} | own.get(recipe.data.dataset, set()) if name.endswith("_paper") else set()
    assert changed == expected


def test_tests_that_the_page_on_reliability_names_exist():
    text = (DOCS / "reliability.md").read_text(encoding="utf-8")
    # A name that ends in an ellipsis is cut there.
    named = re.findall(r"`((?:\w+/)*test_\w+\.py)(?:::(\w+)(?:…)?)?`", text)
    assert len(named) > 40
    for path, name in named:
        found = [test for test in (ROOT / "tests").rglob(Path(path).name) if test.as_posix().endswith(f"/{path}")]
        assert found, path
        assert any(re.search(rf"^\s*(def|class) {name}", test.read_text("utf-8"), re.MULTILINE) for test in found), name
