"""Names that look alike: equal but for case, spaces, invisible characters or digits of another script."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence

from tmkt_data.sample_ids import normal_name

_SPACES = re.compile(r"\s+")


def _visible(name: str) -> str:
    return "".join(c for c in name if unicodedata.category(c) != "Cf" and not "\ufe00" <= c <= "\ufe0f")


def _trimmed(name: str) -> str:
    return _SPACES.sub(" ", name).strip().replace(" /", "/").replace("/ ", "/")


def _plain_digits(name: str) -> str:
    return "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in name)


def _compatible(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


_STEPS: dict[str, Callable[[str], str]] = {
    "invisible characters": _visible,
    "spaces": _trimmed,
    "digits of another script": _plain_digits,
    "compatibility characters": _compatible,
    "case": str.casefold,
}
"""What names may differ in and still look alike, and what removes the difference, in the order of its use."""


def outline(name: str) -> str:
    r"""Return what look-alike names have in common.

    Example:
        >>> outline("Wave\u200b/take  \u0661 ") == outline("wave/Take 1")
        True
    """
    if name.isascii():
        # The other steps leave it as it is.
        return _trimmed(name).casefold()
    return _outline(name, _STEPS)


def _outline(name: str, kinds: Iterable[str]) -> str:
    name = normal_name(name)
    for kind in kinds:
        name = _STEPS[kind](name)
    return normal_name(name)


def difference(one: str, other: str) -> str:
    r"""Say in what two look-alike names differ, with the names escaped where they would look the same.

    Example:
        >>> difference("Wave", "wave")
        "'Wave' and 'wave' differ only in case"
        >>> difference("wave\u200b", "wave")
        "'wave\\u200b' and 'wave' differ only in invisible characters (U+200B ZERO WIDTH SPACE)"
        >>> difference("cafe\u0301", "caf\u00e9")
        "'cafe\\u0301' (NFD) and 'caf\\xe9' (NFC) differ only in Unicode normalization"
    """
    if normal_name(one) == normal_name(other):
        return f"{_formed(one)} and {_formed(other)} differ only in Unicode normalization"
    alone = [kind for kind in _STEPS if _outline(one, [kind]) == _outline(other, [kind])]
    needed = [kind for kind in _STEPS if _without(one, kind) != _without(other, kind)]
    kinds = alone[:1] or needed or ["case and spelling"]
    strange = sorted({c for c in set(one) ^ set(other) if not c.isascii()})
    named = f" ({', '.join(map(_named, strange[:4]))})" if strange else ""
    return f"{_shown(one, other)} and {_shown(other, one)} differ only in {' and '.join(kinds)}{named}"


def _without(name: str, kind: str) -> str:
    return _outline(name, [step for step in _STEPS if step != kind])


def _formed(name: str) -> str:
    form = next((form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, name)), "mixed forms")
    return f"{name!a} ({form})"


def _shown(name: str, other: str) -> str:
    """Return a name in quotes, escaped where it has characters that the other one lacks."""
    return repr(name) if {c for c in name if not c.isascii()} <= set(other) else ascii(name)


def _named(letter: str) -> str:
    return f"U+{ord(letter):04X} {unicodedata.name(letter, '')}".rstrip()


def look_alikes(names: Sequence[str], others: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name with the first of the others that looks like it, but is another name.

    Example:
        >>> list(look_alikes(["Wave", "clap"], ["clap", "wave"]))
        [('Wave', 'wave')]
    """
    by_outline: dict[str, list[str]] = {}
    for other in others:
        by_outline.setdefault(outline(other), []).append(other)
    for name in names:
        alike = next((other for other in by_outline.get(outline(name), ()) if other != name), None)
        if alike is not None:
            yield name, alike


def equal_when_normal(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each name with an earlier one that it equals, or does after Unicode normalization."""
    seen: dict[str, str] = {}
    for name in names:
        key = normal_name(name)
        if key in seen:
            yield seen[key], name
        seen.setdefault(key, name)


def alike_notes(side: str, left_out: Iterable[str], class_names: Iterable[str]) -> list[str]:
    """Return a line for each folder left out whose name looks like that of a class.

    Example:
        >>> alike_notes("images", ["Ant", "notes"], ["ant", "bee"])
        ["images: folders 'Ant' and 'ant' differ only in case; rename it if it is that class"]
    """
    pairs = look_alikes(list(left_out), class_names)
    return [f"{side}: folders {difference(*pair)}; rename it if it is that class" for pair in pairs]
