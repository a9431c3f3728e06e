"""Cameras of the datasets, and the scale of their sensors on a frame."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tmkt_data.datasets.cameras import FrameLayout, camera_from, camera_of, require_camera
from tmkt_data.datasets.registry import DATASETS, default_spec
from tmkt_data.errors import SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.images.frames import ImageTarget, Placement, frame_of_pixels, image_frame
from tmkt_data.simulate.saccade import SaccadePath
from tmkt_data.spec import PrepareSpec

WIDE = np.array([[100, 200]])


def layout(canvas, size=48):
    return FrameLayout(PrepareSpec(canvas=canvas, size=size), (240, 180), Placement(3, 3, 227, 167))


def test_a_tight_canvas_covers_the_image_and_its_motion():
    found = layout("tight").cells_per_px(WIDE, SaccadePath())
    # 200 x 100 is shown at 227 x 114, and moves by 7 pixels along both axes.
    np.testing.assert_allclose(found, [[48 / 234, 48 / 121]])
    assert layout("tight").boxes(WIDE) is None


def test_a_canvas_up_to_the_largest_coordinates_starts_in_the_corner():
    found = layout("max").cells_per_px(WIDE, SaccadePath())
    # The image ends in column 230 and row 117.
    np.testing.assert_allclose(found, [[48 / 237, 48 / 124]])
    assert layout("max").boxes(WIDE) is None


def test_a_fixed_canvas_covers_the_sensor():
    found = layout("fixed").cells_per_px(WIDE, SaccadePath())
    np.testing.assert_allclose(found, [[48 / 240, 48 / 180]])
    # Columns 3 to 230 of 240 and rows 3 to 117 of 180, in fifths and in 3.75ths, less half a cell of the resize.
    assert layout("fixed").boxes(WIDE).tolist() == [[2, 30, 1, 45]]


@pytest.mark.parametrize("canvas", ["tight", "max"])
def test_a_cropped_recording_is_the_middle_of_its_image(canvas):
    cropped = FrameLayout(PrepareSpec(canvas=canvas, size=48), (240, 180), Placement(-4, -5, 242, 182))
    # 200 x 100 is shown at 242 x 121, and 4 columns and 5 rows of each side are cut off, as it moves beyond them.
    np.testing.assert_allclose(cropped.cells_per_px(WIDE, SaccadePath()), [[48 / 234, 48 / 111]])


def test_an_image_beyond_the_corner_covers_the_first_cells():
    cropped = FrameLayout(PrepareSpec(canvas="fixed", size=48), (240, 180), Placement(-4, -5, 242, 182))
    # Columns -4 to 238 of 240 and rows -5 to 116 of 180.
    assert cropped.boxes(WIDE).tolist() == [[0, 30, 0, 47]]


def test_an_image_smaller_than_a_cell_covers_one():
    tiny = FrameLayout(PrepareSpec(size=4), (240, 180), Placement(70, 70, 4, 4))
    assert tiny.boxes(np.array([[1, 1]])).tolist() == [[1, 2, 1, 2]]


def test_every_dataset_that_moves_by_saccades_has_a_camera():
    known = {name for name in DATASETS if camera_of(name) is not None}
    assert known == {"nmnist", "digits", "fashion", "ncaltech101", "caltech101-twins"}


def test_polarity_and_length_of_the_path_belong_to_the_camera():
    negative = {name: camera_of(name).is_negative for name in ("nmnist", "ncaltech101", "caltech101-twins")}
    assert negative == {"nmnist": True, "ncaltech101": False, "caltech101-twins": False}
    lengths = {name: max(camera_of(name).path.corners)[0] for name in negative}
    assert lengths == pytest.approx({"nmnist": 0.8 * 7, "ncaltech101": 7, "caltech101-twins": 0.9 * 7})


@pytest.mark.parametrize("name", ["dvsgesture", "cepdvs", "my-folder"])
def test_an_unknown_path_is_one_clear_line(name):
    spec = default_spec(name) if name in DATASETS else PrepareSpec()
    with pytest.raises(
        SpecError, match=f"found 'saccade' for {name}, whose camera path is unknown; use 'microsaccade'"
    ):
        require_camera(name, spec)


def test_turned_recordings_do_not_fit_the_path():
    spec = dataclasses.replace(default_spec("nmnist"), orientation="rotate-90")
    with pytest.raises(SpecError, match="with orientation 'rotate-90', expected 'as-is'"):
        require_camera("nmnist", spec)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "found corners None, expected rows of dx and dy"),
        ({"corners": [[0, 0]]}, "expected two or more finite points"),
        ({"corners": [[0, 0], [1, float("nan")]]}, "expected rows of dx and dy of at most 10000 px"),
        ({"corners": [[0, 0], [1, 10_001]]}, "expected rows of dx and dy of at most 10000 px"),
        ({"corners": [[0, 0], [1, 2, 3]]}, "expected rows of dx and dy"),
        ({"corners": [[0, 0], [1, 2]], "negative": 1}, "found negative 1, expected true or false"),
        ({"corners": [[0, 0], [1, 2]], "rest_us": 0.5}, "expected whole numbers of microseconds"),
        ({"corners": [[0, 0], [1, 2]], "saccade_us": 0}, "expected 0 or more and less than the saccade"),
        (
            {"corners": [[0, 0], [1, 2]], "speed": 1},
            "unknown 'speed', expected negative, corners, saccade_us, rest_us, threshold, background_rate",
        ),
        (
            {"corners": [[0, 0], [1, 2]], "threshold": 0},
            "found threshold 0, expected a change of log intensity from 0.001 to 8",
        ),
        ({"corners": [[0, 0], [1, 2]], "threshold": 1e-45}, "found threshold 1e-45, expected"),
        ({"corners": [[0, 0], [1, 2]], "threshold": -0.2}, "found threshold -0.2, expected"),
        ({"corners": [[0, 0], [1, 2]], "threshold": float("nan")}, "found threshold nan, expected"),
    ],
)
def test_a_camera_that_is_none_is_named(values, message):
    with pytest.raises(SpecError, match=message):
        camera_from(values)


@pytest.mark.parametrize("pooled", [1, 2, 3])
@pytest.mark.parametrize("size", [17, 34, 48, 100])
@pytest.mark.parametrize(
    ("placement", "shape"),
    [(Placement(3, 3, 28, 28), (28, 28)), (Placement(0, 5, 34, 20), (40, 50)), (Placement(-4, -5, 30, 30), (30, 30))],
)
def test_cells_of_an_image_show_nothing_else(placement, shape, size, pooled):
    found = FrameLayout(PrepareSpec(canvas="fixed", size=size), (34, 34), placement, pooled).boxes(np.array([shape]))
    top, bottom, left, right = found[0]
    white = np.full((*shape, 3), 255, np.uint8)
    target = ImageTarget(size * pooled, size * pooled, SensorSize(34, 34), placement)
    for frame in (image_frame(white, target, "value"), frame_of_pixels(white, shape, target, "value")):
        assert (frame[top:bottom, left:right] == 255).all()
        # Around them, each row and column is mixed with the black beside the image, or the frame ends.
        rows = [frame[at, left:right] for at in (top - 1, bottom) if 0 <= at < len(frame)]
        columns = [frame[top:bottom, at] for at in (left - 1, right) if 0 <= at < len(frame)]
        assert all((line < 255).all() for line in rows + columns)
