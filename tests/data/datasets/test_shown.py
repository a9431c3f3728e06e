"""Where images lie in front of a camera, and what makes simulated recordings differ."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest
import trees

from tmkt_data.datasets import (
    caltech_twins,
    caltech_twins_source,
    digits,
    digits_source,
    fashion,
    nmnist,
    recording_reader,
)
from tmkt_data.datasets.cameras import camera_of
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.datasets.shown import (
    NCALTECH101_CAMERA,
    NMNIST_CAMERA,
    camera_identity,
    lay_on_sensor,
    record_shown,
)
from tmkt_data.datasets.source_table import Source
from tmkt_data.events.events import SensorSize, Window
from tmkt_data.images.decode import DecodedImage
from tmkt_data.images.frames import Placement
from tmkt_data.prepare.plan import plan_prepare

SENSOR = SensorSize(34, 34)


def digit():
    image = np.zeros((28, 28), np.uint8)
    image[5:23, 12:15], image[5:8, 8:20] = 255, 200
    return image


def test_an_image_lies_at_its_placement_and_its_edges_go_on():
    image = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    light, window = lay_on_sensor(DecodedImage.of(image), SENSOR, nmnist.PLACEMENT)
    assert window is None
    np.testing.assert_array_equal(light, np.pad(image, 3, mode="edge"))


def test_an_image_beyond_the_corner_is_cropped_to_a_window():
    image = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    light, window = lay_on_sensor(DecodedImage.of(image), SensorSize(40, 30), Placement(-4, -5, 30, 20))
    assert light.shape == (35, 44)
    np.testing.assert_array_equal(light[:20, :30], image)
    # What is cut off on the left is cut off on the right as well.
    assert window == (4, 5, (22, 10))


@pytest.mark.parametrize(
    ("size", "placement", "expected"),
    [
        ((40, 30), (0, 0), None),
        ((40, 30), (20, 15), None),
        ((40, 30), (-4, 0), (4, 0, (22, 30))),
        ((40, 30), (0, -5), (0, 5, (40, 10))),
        ((20, 8), (-4, -5), (4, 5, (20, 8))),
        ((40, 30), (-16, -11), (16, 11, (1, 1))),
    ],
)
def test_every_pixel_sees_the_nearest_one_of_the_image(size, placement, expected):
    image = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    light, window = lay_on_sensor(DecodedImage.of(image), SensorSize(*size), Placement(*placement, 30, 20))
    assert window == expected
    columns, rows = (
        np.clip(np.arange(min(0, first), side) - first, 0, last)
        for first, side, last in zip(placement, size, (29, 19), strict=True)
    )
    np.testing.assert_array_equal(light, image[np.ix_(rows, columns)])


def test_a_window_holds_the_events_that_the_whole_sensor_has_there():
    light = np.random.default_rng(1).integers(0, 256, (9, 12), dtype=np.uint8)
    whole = record_shown(NMNIST_CAMERA, (light, None), 7).to_array()
    part = record_shown(NMNIST_CAMERA, (light, Window(3, 2, SensorSize(5, 4))), 7).to_array()
    x, y = whole["x"].astype(int) - 3, whole["y"].astype(int) - 2
    inside = (x >= 0) & (x < 5) & (y >= 0) & (y < 4)
    assert len(part) == inside.sum() > 100
    for name, values in (("t", whole["t"]), ("x", x), ("y", y), ("p", whole["p"])):
        np.testing.assert_array_equal(part[name], values[inside])


@pytest.mark.parametrize(
    ("camera", "digest"), [(NMNIST_CAMERA, "2f74b87a64bd31ff"), (NCALTECH101_CAMERA, "7927b061d47546fd")]
)
def test_the_cameras_are_those_of_before(camera, digest):
    # Another value of one makes every simulated recording, and every cache of them, that of an earlier camera.
    assert hashlib.sha256(camera_identity(camera).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("dataset", ["digits", "fashion", "nmnist", "caltech101-twins"])
def test_the_encoder_knows_the_path_of_the_simulated_camera(dataset):
    simulated = NCALTECH101_CAMERA if dataset == "caltech101-twins" else NMNIST_CAMERA
    camera = camera_of(dataset)
    assert camera.is_negative is simulated.pixels.negative
    times = np.arange(301) * 1000.0
    known = np.stack(camera.path.displacement(times), axis=1)
    np.testing.assert_allclose(known - known.mean(axis=0), simulated.path.positions(1000, key=0), atol=1e-5)


def test_recordings_look_like_nmnist():
    counts, balance, rate = [], [], np.zeros(30)
    for uid in range(8):
        events = record_shown(NMNIST_CAMERA, lay_on_sensor(DecodedImage.of(digit()), SENSOR, nmnist.PLACEMENT), uid)
        counts.append(len(events))
        balance.append(events.p.mean())
        rate += np.histogram(events.t, np.arange(31) * 10_000)[0]
    # The real set: 1112 to 7152 events, balanced, three humps 100 ms apart.
    assert min(counts) > 1_112
    assert max(counts) < 7_152
    assert 0.45 < np.mean(balance) < 0.55
    humps = rate.reshape(3, 10)
    assert (humps[:, 4:6].min(axis=1) > 5 * humps[:, [0, -1]].max(axis=1)).all()
    assert len(set(counts)) > 1


def _another(value):
    return value + 1 if isinstance(value, int) else value / 2 + 0.001


def test_every_value_of_a_camera_is_part_of_its_identity():
    known = camera_identity(NMNIST_CAMERA)
    pixels = NMNIST_CAMERA.pixels
    for name in (field.name for field in dataclasses.fields(pixels)):
        value = getattr(pixels, name)
        changed = dataclasses.replace(pixels, **{name: not value if isinstance(value, bool) else _another(value)})
        assert camera_identity(dataclasses.replace(NMNIST_CAMERA, pixels=changed)) != known, name
    longer = dataclasses.replace(NMNIST_CAMERA.path, scale=0.81)
    assert camera_identity(dataclasses.replace(NMNIST_CAMERA, path=longer)) != known


@pytest.fixture
def another_camera(monkeypatch):
    """Replaces the cameras of the simulated datasets by others."""

    def replace():
        longer = dataclasses.replace(NMNIST_CAMERA, path=dataclasses.replace(NMNIST_CAMERA.path, scale=0.81))
        for module in (digits, fashion, caltech_twins):
            info = dataclasses.replace(module.INFO, recorded_with=camera_identity(longer))
            monkeypatch.setattr(module, "INFO", info)
        monkeypatch.setattr(digits_source, "NMNIST_CAMERA", longer)
        monkeypatch.setattr(caltech_twins_source, "NCALTECH101_CAMERA", longer)

    return replace


def key_of(name, root, **places):
    return plan_prepare(open_catalogue(name, root, **places), default_spec(name), root / "a.h5").key


@pytest.mark.parametrize(
    ("dataset", "camera"),
    [
        (digits, digits_source.NMNIST_CAMERA),
        (fashion, recording_reader.NMNIST_CAMERA),
        (caltech_twins, caltech_twins_source.NCALTECH101_CAMERA),
    ],
)
def test_a_dataset_names_the_camera_that_records_it(dataset, camera):
    assert dataset.INFO.recorded_with == camera_identity(camera)


def test_another_camera_makes_other_caches(tmp_path, another_camera):
    trees.write_mnist_idx(tmp_path / "fashion", [0, 1, 2, 3])
    trees.write_mnist_idx(tmp_path / "fashion", [0, 1], part="t10k")
    list(digits_source.write_digits(tmp_path / "digits", per_class=1))
    trees.write_ncaltech(tmp_path / "caltech101-twins", {"a": 3, "b": 3})
    twins = {"events": tmp_path / "caltech101-twins" / "Caltech101"}

    def keys():
        return [
            key_of(name, tmp_path / name, **(twins if name == "caltech101-twins" else {}))
            for name in ("fashion", "digits", "caltech101-twins")
        ]

    before = keys()
    assert keys() == before
    another_camera()
    assert all(key != other for key, other in zip(keys(), before, strict=True))


def test_another_camera_makes_other_digits(tmp_path, another_camera):
    list(digits_source.write_digits(tmp_path, per_class=1))
    assert digits_source.digits_are_whole(tmp_path, per_class=1)
    another_camera()
    assert not digits_source.digits_are_whole(tmp_path, per_class=1)


def test_another_camera_makes_another_folder_of_twins(tmp_path, another_camera):
    trees.random_picture(tmp_path / "image_0001.jpg", np.random.default_rng(3), 40, 30)
    photographs = [Source("a/image_0001", 0, str(tmp_path / "image_0001.jpg"), 0)]
    before = caltech_twins_source.twins_folder(photographs, tmp_path)
    another_camera()
    assert caltech_twins_source.twins_folder(photographs, tmp_path) != before
