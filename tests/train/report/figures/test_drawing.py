import re
import threading
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from tmkt_train.report import palette
from tmkt_train.report.figures.axes import Axis
from tmkt_train.report.figures.bars import bar_chart, column_chart, dot_chart
from tmkt_train.report.figures.drawing import About, Drawing, side_by_side
from tmkt_train.report.figures.lines import Line, line_chart

ABOUT = About("chart", "a chart <of> lines & more")
X = [1.0, 2.0, 3.0]


def lines(*more, **options):
    shown = [Line("training", X, [0.1, 0.5, 0.9], "soft", "--"), Line("validation", X, [0.2, 0.6, 0.8], "event")]
    return Drawing(ABOUT, line_chart([*shown, *more], Axis("epoch"), Axis("accuracy"), **options))


def test_svg_has_text_as_text_in_the_colors_of_the_page():
    text = lines(mark=(2.0, "best")).svg("chart-1")
    root = ET.fromstring(text)
    assert root.get("aria-label") == ABOUT.summary
    assert root.get("role") == "img"
    assert root.get("viewBox") == "0 0 331.2 194.4"
    assert {"width", "height"}.isdisjoint(root.attrib)
    words = {element.text for element in root.iter("text")}
    assert {"training", "validation", "epoch", "accuracy", "best", "0.8"} <= words
    assert re.search(r"#[0-9a-f]{6}", text) is None
    assert "var(--event)" in text
    assert re.search("https?:|url\\(|font-family|<metadata|<style|<!--", text) is None


def test_ids_of_an_svg_are_its_own():
    first, second = (set(re.findall(' id="([^"]+)"', lines().svg(name))) for name in ("one", "two"))
    assert first
    assert all(re.fullmatch(r"one-\d+", found) for found in first)
    assert first.isdisjoint(second)
    assert set(re.findall('href="#([^"]+)"', lines().svg("one"))) == first


def test_settings_of_the_user_neither_count_nor_change():
    before = lines().svg("a"), lines().saved("pdf", "png")
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9, "text.usetex": True, "svg.fonttype": "path"}):
        assert (lines().svg("a"), lines().saved("pdf", "png")) == before
        assert mpl.rcParams["font.size"] == 20
    assert mpl.rcParams["svg.fonttype"] == "path"


def test_threads_draw_the_same():
    expected, found = lines().svg("a"), []
    threads = [threading.Thread(target=lambda: found.append(lines().svg("a"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_files_have_no_date_and_keep_their_text():
    pdf, png = lines().saved("pdf", "png")
    assert pdf.startswith(b"%PDF-")
    assert png.startswith(b"\x89PNG")
    assert b"CreationDate" not in pdf
    # TrueType, as publishers ask for, not Type 3.
    assert b"/CIDFontType2" in pdf or b"/TrueType" in pdf
    assert b"/Type3" not in pdf


@pytest.mark.parametrize("name", ["a $x^2$ b", '50 % <b>&"', "漢字", "a\x00b\ud800", "", "x" * 300])
def test_names_of_any_letters_are_drawn(name):
    for drawing in (
        lines(Line(name, X, [0.3] * 3, "image")),
        bar_chart(ABOUT, [name, "b"], {"event": [(1.0, "1"), (2.0, "2")]}, Axis("value")),
        dot_chart(ABOUT, [(name, [1.0, 2.0], "event")], "value"),
    ):
        text = drawing.svg("a")
        ET.fromstring(text)
        if len(name) < 20 and name.isprintable():
            assert name in {element.text for element in ET.fromstring(text).iter("text")} | {""}
    # Whichever chart it is of, a label is drawn into a PDF in one way.
    assert drawing.saved("pdf")[0].startswith(b"%PDF-")


def test_charts_of_little_are_drawn():
    nan = float("nan")
    for drawing in (
        Drawing(ABOUT, line_chart([Line("one", [1.0], [0.5], "event", band=[0.1])], Axis("x", 0.5, 1.5), Axis("y"))),
        Drawing(ABOUT, line_chart([Line("gap", X, [nan, 1.0, nan], "event", band=[nan] * 3)], Axis("x"), Axis("y"))),
        Drawing(ABOUT, line_chart([Line("flat", X, [0.0] * 3, "event")], Axis("x"), Axis("y"))),
        bar_chart(ABOUT, ["a", "b"], {"event": [(nan, "0 of 0"), (0.0, "0 of 3")]}, Axis("y", 0.0), [None, (0.0, 0.6)]),
        column_chart(ABOUT, [0.0], Axis("x"), Axis("y", low=0.0)),
        dot_chart(ABOUT, [], "value"),
    ):
        ET.fromstring(drawing.svg("a"))


def test_drawings_stand_side_by_side():
    whole = side_by_side("all", [lines()] * 4)
    assert whole.size == (3 * 331.2, 2 * 194.4)
    assert whole.svg("a").count(">validation<") == 4


def palettes():
    parts = re.findall(r":root {(.*?)}", palette.CSS, re.DOTALL)
    assert len(parts) == 3
    return dict(
        zip(
            ("light", "dark", "print"),
            (dict(re.findall("--([a-z-]+): (#[0-9a-f]{6});", p)) for p in parts),
            strict=True,
        )
    )


def test_style_and_page_have_one_palette():
    style = (Path(palette.__file__).with_name("report.mplstyle")).read_text()
    assert {f"#{color}" for color in re.findall(r"\b[0-9a-f]{6}\b", style)} <= set(palette.LIGHT.values())
    light, dark, printed = palettes().values()
    assert light == palette.LIGHT
    assert light.keys() == dark.keys() == printed.keys() > set(palette.SERIES)
    assert len(re.findall("#[0-9a-f]{3,6}\\b", palette.CSS)) == 3 * len(light)
    assert set(re.findall(r"var\(--([a-z-]+)\)", palette.CSS)) <= light.keys() | {"sans", "serif", "mono", "c"}


@pytest.mark.parametrize("mode", ["light", "dark", "print"])
@pytest.mark.parametrize("name", palette.SERIES)
def test_colors_stand_out_from_the_paper(mode, name):
    # Contrast as WCAG 2 counts it; 4.5 is what text needs.
    def luminance(color):
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    colors = palettes()[mode]
    low, high = sorted([luminance(colors[name]), luminance(colors["paper"])])
    assert (high + 0.05) / (low + 0.05) >= 4.5


def written(drawing):
    """Return the texts of a drawing by their place in its SVG."""
    root = ET.fromstring(drawing.saved("svg")[0].decode())
    texts = [element for element in root.iter() if element.tag.endswith("}text")]
    return {"".join(text.itertext()): (text.get("x"), text.get("y"), text.get("transform")) for text in texts}


def test_equal_values_have_an_axis_with_their_numbers():
    texts = written(dot_chart(ABOUT, [("a", [90.0, 90.0 + 1e-12], "event")], "accuracy (%)"))
    assert {"89.0", "90.0", "91.0"} <= set(texts)


def test_lines_without_a_label_leave_the_others_at_their_ends():
    shown = [Line(label, X, [0.1, 0.5, 0.9], "event") for label in ("named", "", "")]
    places = [
        written(Drawing(ABOUT, line_chart(some, Axis("epoch"), Axis("accuracy"))))["named"]
        for some in (shown[:1], shown)
    ]
    assert places[0] == places[1]
