from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import SpecError, TmktError
from tmkt_data.events.events import SensorSize, validate_events
from tmkt_data.events.formats.atis import write_atis
from tmkt_data.images.encode import poisson_frames
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.preview.colors import BOTH, GROUND, OFF, ON, event_colors, gray_colors
from tmkt_data.preview.contact_sheet import (
    draw_pairs,
    pair_rows,
    sample_facts,
    sheet_facts,
    shown_points,
    step_times_ms,
    write_preview,
)
from tmkt_data.preview.sheet import (
    BARS,
    EDGE,
    EVENT_EDGE,
    GUTTER,
    IMAGE_EDGE,
    INK,
    LABEL_WIDTH,
    MARGIN,
    MAX_COLUMNS,
    MAX_WIDTH,
    PAPER,
    PICTURE,
    ROW_GAP,
    Grid,
    draw_group,
    draw_page,
    time_labels,
)
from tmkt_data.preview.sheet import Row as SheetRow
from tmkt_data.random_keys import Purpose, draw_key

SIZE = 34
STEPS = 4
STEP_US = 1000
NUM_TRAIN = 3
ON_CELL, OFF_CELL, BOTH_CELL, EMPTY_CELL = (5, 7), (20, 9), (12, 30), (2, 2)
"""Columns and rows on the sensor; every step has three events of each polarity that belongs there."""


def write_pair(root, part, digit, number, level):
    columns = []
    for step in range(STEPS):
        for at in range(3):
            t = step * STEP_US + (STEP_US - 1) * at // 2
            columns += [(t, *ON_CELL, 1), (t, *OFF_CELL, 0), (t, *BOTH_CELL, 1), (t, *BOTH_CELL, 0)]
    t, x, y, p = np.array(columns).T
    folder = root / "N-MNIST" / part / str(digit)
    folder.mkdir(parents=True, exist_ok=True)
    events = validate_events(t, x, y, p.astype(bool), sensor_size=SensorSize(SIZE, SIZE))
    write_atis(folder / f"{number:05d}.bin", events)
    image = np.zeros((28, 28), np.uint8)
    image[4:20, 6:14] = level
    folder = root / "MNIST_png" / part / str(digit)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / f"{number:05d}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("nmnist")
    for digit in (0, 1):
        for number in range(1, NUM_TRAIN + 2):
            part = "Test" if number > NUM_TRAIN else "Train"
            write_pair(root, part, digit, 10 * digit + number, 128 * digit)
    return root


@pytest.fixture(scope="module")
def make_cache(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")

    def make(name, **choices):
        path = folder / f"{name}.h5"
        if not path.exists():
            spec = dataclasses.replace(default_spec("nmnist"), **{"size": SIZE, "time_bins": STEPS, **choices})
            for _ in prepare_cache(plan_prepare(open_catalogue("nmnist", root), spec, path)):
                pass
        return path

    return make


@pytest.fixture(scope="module")
def cache(make_cache):
    return make_cache("counts")


class Drawn:
    """A row as it is drawn, and its cells at the size of their frames."""

    def __init__(self, row):
        self.frame = row.cells.shape[1]
        self.grid = Grid(len(row.cells), self.frame)
        self.pixels = np.asarray(self.grid.row(row))
        self.top, self.bottom = ROW_GAP + EDGE, ROW_GAP + EDGE + self.grid.cell

    def left(self, column):
        return LABEL_WIDTH + column * self.grid.pitch + EDGE

    def __getitem__(self, column):
        left, scale = self.left(column), self.grid.cell // self.frame
        block = self.pixels[self.top : self.bottom, left : left + self.grid.cell]
        small = block[::scale, ::scale]
        assert np.array_equal(block, small.repeat(scale, 0).repeat(scale, 1))
        return small


def at(cell, place):
    return tuple(int(value) for value in cell[place[1], place[0]])


IMAGE, SPIKES, EVENTS, MIXED = range(4)


def rows_of(frames, position=0, point=3):
    return list(pair_rows(frames, position, point))


def test_groups_lie_side_by_side(cache):
    frames = PairedFrames(cache, "train", pairing="twin")
    grid, pixels = Grid(STEPS, SIZE), np.asarray(draw_pairs(frames))
    rows = rows_of(frames)
    assert [row.label for row in rows] == ["image", "image spikes", "event frames", "mixed"]
    assert pixels.shape[1] == 2 * grid.width + GUTTER + 2 * MARGIN <= MAX_WIDTH
    for place in range(4):
        row = np.asarray(grid.row(rows_of(frames, place)[EVENTS]))
        left = MARGIN + (place % 2) * (grid.width + GUTTER)
        column = pixels[:, left : left + grid.width]
        tops = [top for top in range(len(pixels) - len(row)) if np.array_equal(column[top : top + len(row)], row)]
        assert len(tops) == 2  # Both recordings of a column have the same events.
    assert grid.cell % SIZE == 0
    for side in (pixels[:, -MARGIN:], pixels[:, : MARGIN - 1], pixels[: MARGIN - 1], pixels[-MARGIN:]):
        assert (side == PAPER).all()


def test_cells_of_a_pair(cache):
    frames = PairedFrames(cache, "train", pairing="twin", seed=3)
    frames.set_epoch(2)
    position = frames.ids.index(next(name for name in frames.ids if name.startswith("1/")))
    shown = rows_of(frames, position)
    rows = [Drawn(row) for row in shown[SPIKES:]]
    batch = frames.read([position])
    level = frames.cache.image_frames(batch.image_indices)[0]
    key = draw_key(3, 2, frames.uids[position], 0, Purpose.POISSON)
    spikes = gray_colors(poisson_frames(level, STEPS, 2, key=np.uint64(key)).mean(axis=1))
    events = event_colors(batch.events[0])
    assert (shown[IMAGE].cells[0] == level[..., None]).all()
    for column in range(STEPS):
        assert np.array_equal(rows[0][column], spikes[column])
        assert np.array_equal(rows[1][column], events[column])
        expected = gray_colors(batch.image[0, column, 0]) if column + 1 < 3 else events[column]
        assert np.array_equal(rows[2][column], expected)
    assert len(np.unique(spikes)) == 3
    assert level.max() == 128


def test_event_colors_at_known_places(cache):
    row = Drawn(rows_of(PairedFrames(cache, "train", pairing="twin"))[EVENTS])
    for column in range(STEPS):
        assert at(row[column], ON_CELL) == ON
        assert at(row[column], OFF_CELL) == OFF
        assert at(row[column], BOTH_CELL) == BOTH
        assert at(row[column], EMPTY_CELL) == GROUND


@pytest.mark.parametrize("point", [1, 2, 3, STEPS, STEPS + 1])
def test_edges_and_marker_tell_the_side(cache, point):
    rows = rows_of(PairedFrames(cache, "train", pairing="twin"), point=point)
    mixed, events = Drawn(rows[MIXED]), Drawn(rows[EVENTS])
    middle = (mixed.top + mixed.bottom) // 2
    for column in range(STEPS):
        edge = EVENT_EDGE if column + 1 >= point else IMAGE_EDGE
        left, right = mixed.left(column), mixed.left(column) + mixed.grid.cell
        assert tuple(mixed.pixels[middle, right]) == edge
        assert tuple(mixed.pixels[mixed.bottom, (left + right) // 2]) == edge
        assert tuple(events.pixels[middle, right]) not in (EVENT_EDGE, IMAGE_EDGE)
    x = mixed.left(point - 1) - EDGE - 2
    assert (mixed.pixels[mixed.top : mixed.bottom, x : x + 2] == INK).all()


@given(st.integers(1, 60), st.integers(1, 12))
def test_points_show_both_sides(num_time_bins, num_samples):
    points = shown_points(num_samples, num_time_bins)
    if num_time_bins == 1:
        assert points == [1] * num_samples
        return
    assert len(points) == num_samples
    least = max(1, num_time_bins // 5)
    assert least < min(points) <= max(points) <= num_time_bins + 1 - least
    if num_time_bins > 2 * num_samples + 2:
        assert len(set(points)) == num_samples


def test_spikes_of_encoder_poisson_are_the_ones_in_the_mixed_row(cache):
    rows = rows_of(PairedFrames(cache, "train", encoder="poisson"), 3, STEPS + 1)
    np.testing.assert_array_equal(rows[SPIKES].cells, rows[MIXED].cells)


def test_same_arguments_same_bytes(cache, tmp_path):
    for name, seed in (("a.png", 5), ("b.png", 5), ("c.png", 6)):
        write_preview(tmp_path / name, draw_pairs(PairedFrames(cache, "train", seed=seed), num_samples=2))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", "RGB")


def test_write_preview_refuses(tmp_path):
    image = Image.new("RGB", (2, 2))
    with pytest.raises(SpecError, match=r"sheet\.jpg: found suffix '\.jpg', expected '\.png'"):
        write_preview(tmp_path / "sheet.jpg", image)
    with pytest.raises(TmktError, match="cannot be written"):
        write_preview(tmp_path / "missing" / "sheet.png", image)
    assert not list(tmp_path.iterdir())


def test_facts_of_a_pair(cache):
    frames = PairedFrames(cache, "test", pairing="twin")
    assert frames.ids == ("0/test-00004", "1/test-00014")
    facts = dict(sample_facts(frames, 1))
    assert facts["class"] == "1"
    assert facts["image"] == "1/test-00014"
    assert facts[""].startswith("its twin")
    assert facts["events"] == "48 kept"
    assert facts["span"] == "4.0 ms"
    assert step_times_ms(frames, 1).tolist() == [0.0, 1.0, 2.0, 3.0]
    said = " ".join(sheet_facts(frames))
    for words in ("twin-disjoint split, test", "2 recordings", "each with its twin", "34 x 34", "4 time bins, exact"):
        assert words in said


def test_image_of_another_recording_is_said(cache):
    frames = PairedFrames(cache, "train", pairing="same-class")
    found = [dict(sample_facts(frames, position)) for position in range(len(frames))]
    for name, facts in zip(frames.ids, found, strict=True):
        assert (facts["image"] == name) == facts[""].startswith("its twin")
    assert any(facts[""] == "same class, not its twin" for facts in found)


def test_no_images(cache):
    frames = PairedFrames(cache, "train", pairing="none")
    (row,) = pair_rows(frames, 1, 3)
    assert row.label == "event frames"
    assert "image" not in dict(sample_facts(frames, 0))
    assert at(Drawn(row)[0], ON_CELL) == ON
    with_images = draw_pairs(PairedFrames(cache, "train", pairing="twin"), num_samples=2)
    colors = {color for _, color in draw_pairs(frames, num_samples=2).getcolors(1 << 20)}
    assert draw_pairs(frames, num_samples=2).height < with_images.height
    assert {ON, OFF, BOTH} <= colors
    assert not {IMAGE_EDGE, EVENT_EDGE} & colors


def test_one_step_one_sample(make_cache):
    frames = PairedFrames(make_cache("one", time_bins=1), "train")
    rows = rows_of(frames, 0, *shown_points(1, 1))
    np.testing.assert_array_equal(rows[MIXED].cells, rows[EVENTS].cells)
    assert draw_pairs(frames, num_samples=1).width <= MAX_WIDTH


def test_all_zero(make_cache):
    frames = PairedFrames(make_cache("tonic", bin_rule="tonic", time_bins=1000, size=8), "test", pairing="twin")
    assert frames.labels[0] == 0
    rows, counts = rows_of(frames), frames.read([0]).events[0].sum(axis=(1, 2, 3))
    assert (rows[IMAGE].cells == 0).all()
    assert (rows[SPIKES].cells == 0).all()
    assert (counts == 0).any()
    assert (rows[EVENTS].cells[counts == 0] == GROUND).all()
    grid = Grid(STEPS, SIZE)
    heading = np.asarray(grid.heading(np.arange(STEPS, dtype=float), np.zeros((2, STEPS)), "up to {}"))
    assert not (heading == ON).all(axis=-1).any()


def test_bars_are_relative_to_the_largest():
    grid = Grid(2, SIZE)
    heading = np.asarray(grid.heading(np.arange(2.0), np.array([[0.0, 5.0], [10.0, 0.0]]), "up to {}"))
    heights = [(heading == color).all(axis=-1).any(axis=1).sum() for color in (ON, OFF)]
    assert heights == [BARS, BARS // 2]


def test_many_steps_show_an_even_selection(make_cache):
    frames = PairedFrames(make_cache("many", time_bins=100), "train", pairing="twin")
    mixed = Drawn(rows_of(frames, point=51)[MIXED])
    steps = mixed.grid.steps + 1
    assert (steps[0], steps[-1], len(steps)) == (1, 100, MAX_COLUMNS)
    assert set(np.diff(steps).tolist()) == {3, 4}
    for column, step in enumerate(steps):
        edge = EVENT_EDGE if step >= 51 else IMAGE_EDGE
        assert tuple(mixed.pixels[mixed.top + 5, mixed.left(column) + mixed.grid.cell]) == edge
    assert draw_pairs(frames, num_samples=1).width <= MAX_WIDTH


@pytest.mark.parametrize(("size", "steps"), [(28, 30), (48, 30), (128, 30), (224, 10), (4, 30), (1024, 30)])
def test_width_is_bounded(size, steps):
    grid = Grid(steps, size)
    row = grid.row(SheetRow("mixed", [], np.zeros((steps, size, size, 3), np.uint8), 2))
    assert row.width == grid.width <= MAX_WIDTH - 2 * MARGIN
    assert grid.cell >= 40
    if size <= 48:
        assert grid.cell % size == 0
    if size == 28:
        assert grid.cell == 56


def test_voxel_grid(make_cache):
    frames = PairedFrames(make_cache("voxel", representation="voxel"), "train", pairing="twin")
    events, row = frames.read([0]).events[0, :, 0], Drawn(rows_of(frames)[EVENTS])
    for column in range(STEPS):
        shown = row[column].astype(int)
        bluish = shown[..., 2] - shown[..., 0]
        assert np.array_equal(np.sign(bluish - (GROUND[2] - GROUND[0])), np.sign(events[column]).astype(int))
    assert step_times_ms(frames, 0)[-1] == pytest.approx(3.999)
    assert BOTH not in {color for _, color in draw_pairs(frames, num_samples=1).getcolors(1 << 20)}


def test_long_and_foreign_names_stay_in_their_strip():
    grid, long = Grid(STEPS, SIZE), "a_very_long_class_name_" * 12 + "/image_0001"
    picture = SheetRow(long, [long], np.zeros((1, SIZE, SIZE, 3), np.uint8))
    intro = np.asarray(grid.intro(long, [("class", long), ("image", "Übung/\N{SNOWMAN}")], picture))
    assert intro.shape[1] == grid.width
    assert (intro[:, LABEL_WIDTH - 4 : LABEL_WIDTH] == PAPER).all()
    assert (intro[:, LABEL_WIDTH + PICTURE + 4 : LABEL_WIDTH + PICTURE + 24] == PAPER).all()
    assert (intro[:24, -40:] != 255).any()
    page = np.asarray(draw_page([long, long], ["both"], [draw_group([grid.row(picture._replace(cells=np.zeros(
        (STEPS, SIZE, SIZE, 3), np.uint8)))])], [long]))  # fmt: skip
    assert (page[:, -MARGIN:] == PAPER).all()


def test_faint_frames_stay_visible():
    frames = np.zeros((2, 2, 10, 10), np.float32)
    frames[0, 1] = 8
    frames[1, 1, 3, 4] = 1
    frames[1, 0, 5, 5] = 1000
    shown = event_colors(frames).astype(int)
    assert (shown[0] == ON).all()
    assert tuple(shown[1, 5, 5]) == OFF
    assert GROUND[0] - shown[1, 3, 4, 0] > 50


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_larger_polarity_gives_the_hue(off, on):
    frames = np.array([off, on], np.float32).reshape(1, 2, 1, 1)
    red, green, blue = event_colors(frames)[0, 0, 0].astype(int)
    swapped = event_colors(frames[:, ::-1])[0, 0, 0].astype(int)
    assert (red >= swapped[0]) == (frames[0, 0] >= frames[0, 1]) or red == swapped[0]
    assert (blue >= swapped[2]) == (frames[0, 1] >= frames[0, 0]) or blue == swapped[2]
    if max(off, on) > 1e-30:
        assert (red, green, blue) != GROUND


def test_inputs_untouched():
    frames = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 1, 3, 4)
    before = frames.copy()
    event_colors(frames)
    gray_colors(frames)
    assert np.array_equal(frames, before)


def test_time_labels():
    assert time_labels(np.arange(3) * 0.5) == (["0.0", "0.5", "1.0"], "ms")
    assert time_labels(np.array([0.0, 20_000.0])) == (["0", "20"], "s")
    assert time_labels(np.array([0.0, 0.1])) == (["0.00", "0.10"], "ms")
    assert time_labels(np.zeros(1)) == (["0"], "ms")


def test_no_samples_are_refused(cache):
    with pytest.raises(SpecError, match="samples of a preview: found 0, expected 1 or more"):
        draw_pairs(PairedFrames(cache, "train"), num_samples=0)
