"""Settings of the documentation: sphinx-build -W -b html docs docs/_build/html. Nothing is fetched."""

from __future__ import annotations

import re
from importlib.metadata import version as installed_version
from typing import Any

project = "tmkt"
author = "tmkt maintainers"
project_copyright = author
release = version = installed_version("tmkt")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click", "sphinx_copybutton"]
exclude_patterns = ["_build"]
default_role = "literal"
nitpicky = False
highlight_language = "none"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90

copybutton_selector = ", ".join(
    f"div.{kind} pre"
    for kind in (
        "highlight-console",
        "highlight-sh",
        "highlight-python",
        "highlight-pycon",
        "highlight-toml",
        "doctest",
    )
)
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

html_theme = "furo"
html_title = f"tmkt {release}"
html_static_path = ["_static"]
html_css_files = ["tmkt.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}

_CODE = re.compile(r"(`[^`]*`)")
_LONG_NAMES = (
    (re.compile(r"(?:~?numpy\.)?ndarray\[tuple\[(?:~?typing\.)?Any, \.\.\.\], (?:~?numpy\.)?dtype\["), "NDArray["),
    (re.compile(r"(NDArray\[[^\[\]]+)\]\]"), r"\1]"),
    (
        re.compile(r"[~\w.]*Buffer \| [~\w.]*_SupportsArray\[.*?\] \| complex \| bytes \| str \| .*?bytes \| str\]"),
        "ArrayLike",
    ),
)
_SESSION = re.compile(r"^(```pycon\n.*?)\n+```$", re.DOTALL | re.MULTILINE)
_INTERVAL = re.compile(r"(\[[+-][\d.]+), ([+-][\d.]+\])")


def plain_bars(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Escape the bars and stars of formulas in docstrings, which reStructuredText would take for markup."""
    for at, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = _CODE.split(line)
        lines[at] = "".join(part if part.startswith("`") else re.sub(r"([|*])", r"\\\1", part) for part in parts)


def short_names(
    _app: Any, _what: str, _name: str, _obj: Any, _options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Write array types in signatures as the source has them, not as what they stand for."""
    shortened = []
    for text in (signature, returns):
        for long, short in _LONG_NAMES:
            text = long.sub(short, text) if text else text
        shortened.append(text)
    return shortened[0], shortened[1]


def tidy_source(_app: Any, page: str, source: list[str]) -> None:
    """Drop the blank line that ends a session for doctest, and keep the numbers of a result on one line."""
    source[0] = _SESSION.sub(r"\1\n```", source[0])
    if page == "results":
        source[0] = _INTERVAL.sub("\\1,\N{NO-BREAK SPACE}\\2", source[0]).replace(
            " ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"
        )


def setup(app: Any) -> None:
    """Hook into autodoc, before napoleon rewrites the docstrings, and into the reading of pages."""
    app.connect("autodoc-process-docstring", plain_bars, priority=100)
    app.connect("autodoc-process-signature", short_names)
    app.connect("source-read", tidy_source)
