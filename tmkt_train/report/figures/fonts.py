"""The font of figures, reduced to the characters that they usually have: PDF files embed it in a tenth of the time."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path

from tmkt_data.files import write_bytes
from tmkt_train.errors import RunError

FULL = "DejaVu Sans"
REDUCED = "tmkt Sans"
_CHARACTERS = (range(0x20, 0x7F), range(0xA0, 0x180), range(0x370, 0x400), range(0x2000, 0x2300))
"""Latin, Greek, punctuation, arrows and operators; any other comes from the whole font."""


@cache
def families() -> list[str]:
    """Return the families of fonts that figures are written in, in order; the whole font is always the last.

    What matplotlib takes from a font for a PDF file costs as much time as drawing ten figures, as DejaVu Sans has 5 000
    glyphs and rules for many scripts. The reduced font is made once, in matplotlib's cache; where that cannot be
    written, figures have the whole one.
    """
    import matplotlib as mpl
    from matplotlib.font_manager import FontProperties, findfont, fontManager

    folder = Path(mpl.get_cachedir())
    for weight in ("normal", "bold"):
        path = folder / f"tmkt-sans-{weight}-{mpl.__version__}.ttf"
        try:
            if not path.is_file():
                write_bytes(path, _reduce(findfont(FontProperties(family=FULL, weight=weight))), error=RunError)
            fontManager.addfont(path)
        except (OSError, RunError, RuntimeError):
            return [FULL]
    return [REDUCED, FULL]


def _reduce(path: str) -> bytes:
    from fontTools import subset

    options = subset.Options(glyph_names=True, recommended_glyphs=True, name_IDs="*", name_languages="*")
    options.drop_tables += ["FFTM"]
    subsetter, data = subset.Subsetter(options), io.BytesIO()
    with subset.load_font(path, options) as font:
        subsetter.populate(unicodes=[code for codes in _CHARACTERS for code in codes])
        subsetter.subset(font)
        for record in font["name"].names:
            record.string = str(record).replace(FULL, REDUCED).replace("DejaVuSans", "tmktSans")
        font.save(data)
    return data.getvalue()
