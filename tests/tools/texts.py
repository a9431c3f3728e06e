"""Collect the texts that a user can meet: `python tests/tools/texts.py` prints them, to be read aloud.

They are errors, notes, help, what commands print, meanings of options and recipe keys, and the words of pages. They
are found by shape: a literal of several words that is no docstring, the docstring of a command, and the text below a
recipe key. What is put into a text stands in it as `{}`.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("tmkt_data", "tmkt_train")
_JINJA = re.compile(r"\{%.*?%\}|\{#.*?#\}|\{\{.*?\}\}|<(?:style|script).*?</(?:style|script)>|<[^>]*>", re.DOTALL)
_SCRIPT_TEXT = re.compile(r"""["'`>]([A-Z][^"'`<>\n]*)["'`<]""")
_WORDS = re.compile(r"[A-Za-z][a-z']+ [a-z]+ ")


class Text(NamedTuple):
    """A text and where it stands; an error is raised with it."""

    place: str
    text: str
    is_error: bool = False


def texts() -> Iterator[Text]:
    """Yield every text of both packages, of the recipes and of the pages."""
    for package in _PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield from _in_module(path)
        for path in sorted((ROOT / package).rglob("*.j2")):
            yield from _in_template(path)
        for path in sorted(one for kind in ("html", "js") for one in (ROOT / package).rglob(f"*.{kind}")):
            found = _SCRIPT_TEXT.findall(path.read_text(encoding="utf-8"))
            yield from (Text(path.relative_to(ROOT).as_posix(), text) for text in found if _WORDS.search(text + " "))
    for path in sorted((ROOT / "recipes").rglob("*.toml")):
        yield from _in_recipe(path)


def _in_module(path: Path) -> Iterator[Text]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    name = path.relative_to(ROOT).as_posix()
    raised = {id(given) for node in nodes if isinstance(node, ast.Raise) for given in getattr(node.exc, "args", ())}
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and any("command(" in ast.unparse(one) for one in node.decorator_list):
            yield Text(f"{name}:{node.lineno}", " ".join((ast.get_docstring(node) or "").split()))
        if isinstance(node, ast.ClassDef) and path.name == "schema.py":
            for line in node.body[1:]:
                if isinstance(line, ast.Expr) and (text := _text(line.value)):
                    yield Text(f"{name}:{line.lineno}", " ".join(text.split()))
    # A literal that stands alone says something to readers of the code; parts of a literal are not texts of their own.
    skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node) if part is not node}
    for node in nodes:
        text = "" if id(node) in skipped else _text(node)
        if _WORDS.search(text + " "):
            yield Text(f"{name}:{node.lineno}", text, id(node) in raised)


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return ""


def _in_template(path: Path) -> Iterator[Text]:
    name = path.relative_to(ROOT).as_posix()
    source = path.read_text(encoding="utf-8")
    for literal in re.findall(r'"([^"\n]*)"', " ".join(re.findall(r"\{[{%].*?[%}]\}", source, re.DOTALL))):
        if _WORDS.search(literal + " "):
            yield Text(name, literal)
    for line in _JINJA.sub("\n", source).splitlines():
        if _WORDS.search(line + " "):
            yield Text(name, line.strip())


def _in_recipe(path: Path) -> Iterator[Text]:
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    for table in (tables, *tables.get("variants", {}).values()):
        for key in ("title", "description"):
            if key in table:
                yield Text(path.relative_to(ROOT).as_posix(), " ".join(table[key].split()))


if __name__ == "__main__":
    for found in texts():
        print(f"{found.place}: {found.text}")
