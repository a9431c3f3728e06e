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
from tmkt_data.preview.contact_sheet import MAX_COLUMNS, build_sheet, preview_points, write_preview
from tmkt_data.preview.drawing import EDGE, INK, PAPER
from tmkt_data.preview.sheet import (
    EVENT_EDGE,
    IMAGE_EDGE,
    LABEL_WIDTH,
    MARGIN,
    MAX_WIDTH,
    ROW_GAP,
    cell_size,
    draw_group,
    draw_row,
    draw_sheet,
    time_labels,
)
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


class Row:
    """One row of a group as it is drawn, and its cells at the size of their frames."""

    def __init__(self, sheet, group, row):
        shown = sheet.groups[group].rows[row]
        self.num_cells, self.frame = shown.cells.shape[:2]
        self.cell, self.gap = cell_size(self.num_cells, self.frame)
        self.pixels = np.asarray(draw_row(shown, self.cell, self.gap, self.num_cells * (self.cell + self.gap)))
        self.top, self.bottom = ROW_GAP + EDGE, ROW_GAP + EDGE + self.cell

    def left(self, column):
        return LABEL_WIDTH + column * (self.cell + self.gap) + EDGE

    def __getitem__(self, column):
        left, scale = self.left(column), self.cell // self.frame
        block = self.pixels[self.top : self.bottom, left : left + self.cell]
        small = block[::scale, ::scale]
        assert np.array_equal(block, small.repeat(scale, 0).repeat(scale, 1))
        return small


def at(cell, place):
    return tuple(int(value) for value in cell[place[1], place[0]])


SPIKES, EVENTS, MIXED = range(3)


def test_grid(cache):
    frames = PairedFrames(cache, "train", pairing="twin")
    sheet = build_sheet(frames)
    assert [len(group.rows) for group in sheet.groups] == [3] * 4
    assert [row.label for row in sheet.groups[0].rows] == ["image spikes", "event frames", "mixed"]
    picture, group = draw_sheet(sheet), draw_group(sheet.groups[0])
    assert MARGIN + 2 * group.width < picture.width - MARGIN <= MAX_WIDTH
    assert 2 * group.height < picture.height < 3 * group.height
    pixels = np.asarray(picture)
    for at, one in enumerate(sheet.groups):
        block = np.asarray(draw_group(one))
        left = MARGIN if at % 2 == 0 else picture.width - MARGIN - group.width
        tops = [top for top in range(picture.height - group.height) if np.array_equal(
            pixels[top : top + group.height, left : left + group.width], block)]  # fmt: skip
        assert len(tops) == 1
        for row in range(3):
            assert Row(sheet, at, row).cell % SIZE == 0


def test_cells_of_a_pair(cache):
    frames = PairedFrames(cache, "train", pairing="twin", seed=3)
    frames.set_epoch(2)
    position = frames.ids.index(next(name for name in frames.ids if name.startswith("1/")))
    sheet = build_sheet(frames, positions=[position], replacement=3)
    rows = [Row(sheet, 0, row) for row in range(3)]
    batch = frames.read([position])
    level = frames.cache.image_frames(batch.image_indices)[0]
    key = draw_key(3, 2, frames.uids[position], 0, Purpose.POISSON)
    spikes = gray_colors(poisson_frames(level, STEPS, 2, key=np.uint64(key)).mean(axis=1))
    events = event_colors(batch.events[0])
    for column in range(STEPS):
        assert np.array_equal(rows[SPIKES][column], spikes[column])
        assert np.array_equal(rows[EVENTS][column], events[column])
        from_image = column + 1 < 3
        expected = gray_colors(batch.image[0, column, 0]) if from_image else events[column]
        assert np.array_equal(rows[MIXED][column], expected)
    assert len(np.unique(spikes)) == 3
    assert level.max() == 128


def test_event_colors_at_known_places(cache):
    frames = PairedFrames(cache, "train", pairing="twin")
    row = Row(build_sheet(frames, positions=[0]), 0, EVENTS)
    for column in range(STEPS):
        shown = row[column]
        assert at(shown, ON_CELL) == ON
        assert at(shown, OFF_CELL) == OFF
        assert at(shown, BOTH_CELL) == BOTH
        assert at(shown, EMPTY_CELL) == GROUND


def test_edges_tell_the_side(cache):
    frames = PairedFrames(cache, "train", pairing="twin")
    sheet = build_sheet(frames, positions=[0, 3], replacement=3)
    for group in (0, 1):
        mixed, events = Row(sheet, group, MIXED), Row(sheet, group, EVENTS)
        middle = (mixed.top + mixed.bottom) // 2
        for column in range(STEPS):
            edge = EVENT_EDGE if column + 1 >= 3 else IMAGE_EDGE
            left, right = mixed.left(column), mixed.left(column) + mixed.cell
            assert tuple(mixed.pixels[middle, right]) == edge
            assert tuple(mixed.pixels[mixed.bottom, (left + right) // 2]) == edge
            assert tuple(events.pixels[middle, right]) not in (EVENT_EDGE, IMAGE_EDGE)


@pytest.mark.parametrize("replacement", [1, 2, STEPS, STEPS + 1])
def test_marker_stands_before_the_first_event_step(cache, replacement):
    frames = PairedFrames(cache, "train", pairing="twin")
    sheet = build_sheet(frames, positions=[0], replacement=replacement)
    row = sheet.groups[0].rows[MIXED]
    assert row.marker == replacement - 1
    assert row.is_event == tuple(step >= replacement for step in range(1, STEPS + 1))
    drawn = Row(sheet, 0, MIXED)
    x = drawn.left(replacement - 1) - EDGE - 1
    assert (drawn.pixels[drawn.top : drawn.bottom, x - 1 : x + 1] == INK).all()


def test_points_differ_per_sample(cache):
    frames = PairedFrames(cache, "train", pairing="twin")
    sheet = build_sheet(frames, num_samples=3)
    assert len({group.rows[MIXED].marker for group in sheet.groups}) == 3
    frames.set_epoch(1)
    others = [build_sheet(frames, num_samples=3).groups[0].rows[MIXED].marker]
    for epoch in range(2, 12):
        frames.set_epoch(epoch)
        others.append(build_sheet(frames, num_samples=3).groups[0].rows[MIXED].marker)
    assert len(set(others)) > 1


@given(st.integers(0, 2**40), st.integers(1, 60), st.integers(1, 12))
def test_points_show_both_sides(seed, num_time_bins, num_samples):
    uids = np.arange(num_samples, dtype=np.uint64)
    points = preview_points(seed, 0, uids, num_time_bins)
    assert np.array_equal(points[: num_samples // 2], preview_points(seed, 0, uids[: num_samples // 2], num_time_bins))
    if num_time_bins == 1:
        assert (points == 1).all()
        return
    assert points.min() >= 2
    assert points.max() <= num_time_bins
    least = max(1, num_time_bins // 5)
    assert len(set(points.tolist())) == min(num_samples, num_time_bins + 1 - 2 * least)


def test_spikes_of_encoder_poisson_are_the_ones_in_the_mixed_row(cache):
    frames = PairedFrames(cache, "train", encoder="poisson")
    sheet = build_sheet(frames, positions=[3], replacement=STEPS + 1)
    for column in range(STEPS):
        assert np.array_equal(Row(sheet, 0, SPIKES)[column], Row(sheet, 0, MIXED)[column])
    assert sheet.groups[0].rows[MIXED].details[0] == "image spikes,"


def test_same_arguments_same_bytes(cache, tmp_path):
    for name in ("a.png", "b.png"):
        write_preview(tmp_path / name, draw_sheet(build_sheet(PairedFrames(cache, "train", seed=5), num_samples=2)))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    write_preview(tmp_path / "c.png", draw_sheet(build_sheet(PairedFrames(cache, "train", seed=6), num_samples=2)))
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
    sheet = build_sheet(PairedFrames(cache, "test", pairing="twin"), num_samples=9)
    assert [group.name for group in sheet.groups] == ["0/test-00004", "1/test-00014"]
    facts = dict(sheet.groups[1].facts)
    assert facts["class"] == "1"
    assert facts["image"] == "1/test-00014"
    assert facts[""].startswith("its twin")
    assert facts["events"] == "48 kept"
    assert facts["span"] == "4.0 ms"
    assert sheet.groups[1].times_ms == ((0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0))
    assert [int(sum(counts)) for counts in zip(*sheet.groups[1].activity, strict=True)] == [12, 12, 12, 12]
    assert sheet.title == "nmnist"
    said = " ".join(part for line in sheet.facts for part in line)
    for word in ("twin-disjoint", "test", "twin", "34 x 34", "4 time bins"):
        assert word in said


def test_image_of_another_recording_is_said(cache):
    frames = PairedFrames(cache, "train", pairing="same-class")
    groups = build_sheet(frames, num_samples=len(frames)).groups
    for group in groups:
        facts = dict(group.facts)
        assert (facts["image"] == group.name) == facts[""].startswith("its twin")
    assert any(dict(group.facts)[""] == "same class, not its twin" for group in groups)


def test_no_images(cache):
    frames = PairedFrames(cache, "train", pairing="none")
    sheet = build_sheet(frames, num_samples=2)
    assert [row.label for row in sheet.groups[0].rows] == ["event frames"]
    assert sheet.groups[0].picture is None
    assert [key.text for key in sheet.keys] == ["ON events", "OFF events", "both"]
    assert "image" not in dict(sheet.groups[0].facts)
    assert at(Row(sheet, 1, 0)[0], ON_CELL) == ON


def test_one_step_one_sample(make_cache):
    frames = PairedFrames(make_cache("one", time_bins=1), "train")
    sheet = build_sheet(frames, num_samples=1)
    assert sheet.groups[0].rows[MIXED].marker == 0
    assert np.array_equal(Row(sheet, 0, MIXED)[0], Row(sheet, 0, EVENTS)[0])
    pixels = np.asarray(draw_sheet(sheet))
    for side in (pixels[:, -MARGIN:], pixels[:, : MARGIN - 1], pixels[:MARGIN], pixels[-MARGIN:]):
        assert (side == PAPER).all()


def test_all_zero(make_cache):
    frames = PairedFrames(make_cache("tonic", bin_rule="tonic", time_bins=1000, size=8), "test", pairing="twin")
    assert frames.labels[0] == 0
    sheet = build_sheet(frames, positions=[0])
    group = sheet.groups[0]
    assert (group.picture == 0).all()
    assert (group.rows[SPIKES].cells == 0).all()
    empty = [column for column in range(MAX_COLUMNS) if group.activity[0][column] + group.activity[1][column] == 0]
    assert empty
    assert (group.rows[EVENTS].cells[empty] == GROUND).all()
    still = group._replace(activity=(np.zeros(MAX_COLUMNS), np.zeros(MAX_COLUMNS)))
    assert draw_sheet(sheet._replace(groups=(still,))).width <= MAX_WIDTH


def test_many_steps_show_an_even_selection(make_cache):
    frames = PairedFrames(make_cache("many", time_bins=100), "train", pairing="twin")
    sheet = build_sheet(frames, num_samples=1, replacement=51)
    group = sheet.groups[0]
    assert group.steps[0] == 1
    assert group.steps[-1] == 100
    assert len(group.steps) == MAX_COLUMNS
    assert set(np.diff(group.steps).tolist()) == {3, 4}
    assert group.rows[MIXED].is_event == tuple(step >= 51 for step in group.steps)
    assert f"{MAX_COLUMNS} of 100 steps, evenly chosen" in sheet.notes


@pytest.mark.parametrize(("size", "steps"), [(28, 30), (48, 30), (128, 30), (224, 10), (4, 30), (1024, 30)])
def test_width_is_bounded(cache, size, steps):
    sheet = build_sheet(PairedFrames(cache, "train"), num_samples=1)
    group = sheet.groups[0]
    cells = np.zeros((steps, size, size, 3), np.uint8)
    rows = tuple(row._replace(cells=cells, is_event=(True,) * steps) for row in group.rows)
    activity = (np.zeros(steps), np.zeros(steps))
    wide = group._replace(rows=rows, steps=tuple(range(steps)), times_ms=((0.0, 1.0),) * steps, activity=activity)
    assert draw_sheet(sheet._replace(groups=(wide,))).width <= MAX_WIDTH
    cell, _ = cell_size(steps, size)
    assert cell >= 40
    if size <= 48:
        assert cell % size == 0
    if size == 28:
        assert cell == 56


def test_shrunk_frames_are_drawn(make_cache):
    frames = PairedFrames(make_cache("large", size=128, time_bins=30), "train")
    assert draw_sheet(build_sheet(frames, num_samples=1)).width <= MAX_WIDTH


def test_voxel_grid(make_cache):
    frames = PairedFrames(make_cache("voxel", representation="voxel"), "train", pairing="twin")
    sheet = build_sheet(frames, positions=[0])
    events = frames.read([0]).events[0, :, 0]
    for column in range(STEPS):
        shown = Row(sheet, 0, EVENTS)[column].astype(int)
        bluish = shown[..., 2] - shown[..., 0]
        assert np.array_equal(np.sign(bluish - (GROUND[2] - GROUND[0])), np.sign(events[column]).astype(int))
    assert "both" not in [key.text for key in sheet.keys]
    assert all(start == end for start, end in sheet.groups[0].times_ms)
    assert sheet.groups[0].times_ms[-1][1] == pytest.approx(3.999)


def test_long_and_foreign_names_stay_in_their_column(cache):
    frames = PairedFrames(cache, "train", pairing="twin")
    sheet = build_sheet(frames, num_samples=2)
    long = "a_very_long_class_name_" * 12 + "/image_0001"
    groups = tuple(
        group._replace(name=long, facts=(("class", long), ("image", "Übung/\N{SNOWMAN}"))) for group in sheet.groups
    )
    sheet = sheet._replace(title=long, groups=groups)
    widths = {draw_group(group).width for group in groups}
    pixels = np.asarray(draw_sheet(sheet))
    width = widths.pop()
    assert not widths
    between = pixels[:, MARGIN + width : -MARGIN - width]
    rows_of_groups = slice(pixels.shape[0] - MARGIN - 200, pixels.shape[0] - MARGIN - 40)
    assert between.shape[1] > 0
    assert (between[rows_of_groups] == PAPER).all()
    assert (pixels[:, -MARGIN:] == PAPER).all()
    assert (np.asarray(draw_group(groups[0]))[:30, LABEL_WIDTH:] != 255).any()


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
    tenths = [(index * 0.5, (index + 1) * 0.5) for index in range(3)]
    assert time_labels(tenths, 60) == (["0.0-0.5", "0.5-1.0", "1.0-1.5"], "ms")
    assert time_labels([(0.0, 20_000.0), (20_000.0, 40_000.0)], 60) == (["0-20", "20-40"], "s")
    assert time_labels([(0.0, 30.8), (30.8, 61.6)], 20) == (["0", "31"], "ms, from")
    assert time_labels([(0.0, 0.0)], 60) == (["0.00"], "ms")


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"num_samples": 0}, "samples of a preview: found 0, expected 1 or more"),
        ({"positions": []}, "positions of a preview: found none, expected one or more of 0 to 3"),
        ({"positions": [0, 4]}, "positions of a preview: found 4, expected one or more of 0 to 3"),
        ({"positions": [-1]}, "positions of a preview: found -1"),
        ({"replacement": 0}, "replacement point: found 0, expected 1 to 5"),
        ({"replacement": STEPS + 2}, "replacement point: found 6, expected 1 to 5"),
    ],
)
def test_refused(cache, choices, message):
    frames = PairedFrames(cache, "train")
    assert len(frames) == 4
    with pytest.raises(SpecError, match=message):
        build_sheet(frames, **choices)
