import matplotlib as mpl
import pytest

from tmkt_train.report.figures.axes import Axis
from tmkt_train.report.figures.drawing import About, Drawing
from tmkt_train.report.figures.fonts import FULL, REDUCED, families
from tmkt_train.report.figures.lines import Line, line_chart

X = [1.0, 2.0, 3.0]


def chart(name="Größe Δt ≤ 2 → “AV”"):
    shown = [Line(name, X, [0.1, 0.5, 0.9], "soft"), Line("fi", X, [0.2, 0.6, 0.8], "event")]
    return Drawing(About("chart", "a chart"), line_chart(shown, Axis("epoch"), Axis("accuracy")))


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """Where matplotlib says that its cache is; it is not there yet."""
    with monkeypatch.context() as patch:
        patch.setattr(mpl, "get_cachedir", lambda: str(tmp_path / "cache"))
        families.cache_clear()
        yield tmp_path / "cache"
    families.cache_clear()


def test_the_reduced_font_draws_what_the_whole_one_does(cache_folder):
    cache_folder.touch()
    whole = chart().saved("svg", "png", "pdf")
    cache_folder.unlink()
    cache_folder.mkdir()
    families.cache_clear()
    reduced = chart().saved("svg", "png", "pdf")
    assert reduced[:2] == whole[:2]
    assert (b"+DejaVuSans" in whole[2], b"+tmktSans" in whole[2]) == (True, False)
    assert (b"+DejaVuSans" in reduced[2], b"+tmktSans" in reduced[2]) == (False, True)


def test_rare_letters_are_those_of_the_whole_font():
    assert families() == [REDUCED, FULL]
    (pdf,) = chart("вид").saved("pdf")
    assert b"+DejaVuSans" in pdf
    assert b"+tmktSans" in pdf


@pytest.mark.parametrize("is_damaged", [False, True])
def test_without_it_figures_have_the_whole_font(cache_folder, is_damaged):
    if is_damaged:
        cache_folder.mkdir()
        for weight in ("normal", "bold"):
            (cache_folder / f"tmkt-sans-{weight}-{mpl.__version__}.ttf").write_bytes(b"half")
    else:
        cache_folder.touch()
    assert families() == [FULL]
    assert b"+DejaVuSans" in chart().saved("pdf")[0]
