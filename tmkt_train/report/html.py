"""HTML as values: elements whose text is escaped by construction, and numbers as people read them."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence

_EMPTY = frozenset({"circle", "image", "img", "line", "meta", "path", "rect"})
_THIN = "\u202f"
_SHORT = 20


class Html(str):
    """Text that is HTML already. `element` puts it in as it is, and escapes every other string."""

    __slots__ = ()


def element(name: str, /, *children: str | None, **attributes: str | float | None) -> Html:
    """Build one element.

    Args:
        name: Tag name.
        *children: Content in order. `Html` goes in as it is, other strings are escaped, None is left out.
        **attributes: Attributes; `class_` gives `class`, `aria_label` gives `aria-label`. None is left out,
            numbers are written with at most two decimals.

    Returns:
        The element.

    Example:
        >>> element("p", "1 < 2 ", element("b", "&"), class_="note")
        '<p class="note">1 &lt; 2 <b>&amp;</b></p>'
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY:
        return Html(f"<{name}{pairs}/>")
    return Html(f"<{name}{pairs}>{joined(children)}</{name}>")


def _attribute(value: str | float) -> str:
    if isinstance(value, str):
        return html.escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".")


def joined(children: Iterable[str | None]) -> Html:
    """Put pieces one after the other, escaping what is not `Html`."""
    return Html("".join(c if isinstance(c, Html) else html.escape(c) for c in children if c is not None))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | None]],
    *,
    caption: str,
    num_text_columns: int = 1,
    note: str | None = None,
) -> Html:
    """Build a table that scrolls sideways where the page is too narrow.

    Args:
        columns: Heads, one per column.
        rows: Cells, each row as long as `columns`; None is shown as a dash. The first cell heads its row.
        caption: What the table shows.
        num_text_columns: How many columns, from the left, hold text; the others are numbers, right-aligned.
        note: A line below the table.

    Returns:
        The table in its frame.
    """

    def kind(index: int) -> str | None:
        return None if index < num_text_columns else "number"

    head = element("tr", *(element("th", c, scope="col", class_=kind(i)) for i, c in enumerate(columns)))
    body = [
        element(
            "tr",
            element("th", row[0] or "", scope="row"),
            *(element("td", "\u2013" if c is None else c, class_=kind(i)) for i, c in enumerate(row[1:], 1)),
        )
        for row in rows
    ]
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    class_ = "scroll short" if len(body) <= _SHORT else "scroll"
    frame = element("div", whole, class_=class_, role="region", aria_label=caption, tabindex="0")
    return joined([frame, element("p", note, class_="note") if note else None])


def figure(picture: Html, caption: str | Html) -> Html:
    """Put a picture and its caption together."""
    return element("figure", picture, element("figcaption", caption))


def definitions(pairs: Iterable[tuple[str, str | None]], *, class_: str = "facts") -> Html:
    """List names with their values; pairs without a value are left out."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in pairs if value is not None),
        class_=class_,
    )


def percent(share: float | None, digits: int = 2) -> str | None:
    """Write a share in [0, 1] as percent, a narrow space before the sign; None and NaN stay None.

    Example:
        >>> percent(0.9361, 1).split()
        ['93.6', '%']
    """
    return None if share is None or math.isnan(share) else f"{100 * share:.{digits}f}{_THIN}%"


def count(value: float | None) -> str | None:
    """Write a whole number with commas; None and NaN stay None."""
    return None if value is None or math.isnan(value) else f"{value:,.0f}"


def decimal(value: float | None, digits: int = 4) -> str | None:
    """Write a measured number with `digits` significant digits; None and NaN stay None.

    Example:
        >>> decimal(0.00012345), decimal(0.5), decimal(1234567.0)
        ('0.0001234', '0.5', '1.235e+06')
    """
    return None if value is None or math.isnan(value) else f"{value:.{digits}g}"


def duration(seconds: float | None) -> str | None:
    """Write a time span in the two largest units that say something.

    Example:
        >>> duration(5025.0).split()
        ['1', 'h', '24', 'min']
    """
    if seconds is None or not math.isfinite(seconds):
        return None
    if seconds < 60:
        return f"{seconds:.1f}{_THIN}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{_THIN}min {whole % 60}{_THIN}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60}{_THIN}h {minutes % 60}{_THIN}min"


def size(num_bytes: float | None) -> str | None:
    """Write a number of bytes in binary units; None and NaN stay None."""
    if num_bytes is None or math.isnan(num_bytes):
        return None
    return f"{num_bytes / 2**30:.2f}{_THIN}GiB" if num_bytes >= 2**30 else f"{num_bytes / 2**20:.0f}{_THIN}MiB"
