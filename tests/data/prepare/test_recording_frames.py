"""A recording prepared by itself is the row of the cache that holds it."""

from __future__ import annotations

import numpy as np
import pytest
import trees
from conftest import build

from tmkt_data import recording_frames
from tmkt_data.cache.reader import Cache
from tmkt_data.errors import EventError


@pytest.mark.parametrize(
    "choices",
    [
        {"size": 34},
        {"size": 24, "resize": "bilinear", "bin_rule": "tonic"},
        {"size": 20, "resize": "area", "canvas": "tight"},
        {"size": 24, "representation": "voxel", "canvas": "max"},
        {"size": 34, "orientation": "transpose", "polarity": "inverted", "shift_x": 2},
        {"size": 34, "hot_pixels": 5},
    ],
    ids=lambda choices: " ".join(map(str, choices.values())),
)
def test_equals_the_row_of_the_cache(nmnist_root, tmp_path, choices):
    cache = Cache(build("nmnist", nmnist_root, tmp_path / "a.h5", **choices))
    for row, sample in enumerate(cache.event_ids):
        digit, _, stem = sample.partition("/")
        part, _, number = stem.partition("-")
        file = nmnist_root / "N-MNIST" / part.capitalize() / digit / f"{number}.bin"
        found = recording_frames(file, cache.spec, cache.info.facts)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, cache.event_frames(np.array([row]))[0])


def test_a_count_above_a_byte_is_exact(tmp_path):
    root = trees.write_nmnist(tmp_path, per_digit=3, test_per_digit=1, digits=2)
    file = next((root / "N-MNIST").rglob("*.bin"))
    trees.random_recording(file, np.random.default_rng(0), 34, 34, 40_000)
    cache = Cache(build("nmnist", root, tmp_path / "a.h5", size=4, time_bins=4))
    found = recording_frames(file, cache.spec, cache.info.facts)
    assert found.max() > 255
    assert found.sum() == 40_000


def test_a_rectangular_sensor_is_turned_as_in_the_cache(tmp_path):
    root = trees.write_folder(tmp_path / "root", {"a/one": 1, "a/two": 2, "b/three": 3, "b/four": 4}, {"a/one": 1})
    cache = Cache(build("folder", root, tmp_path / "a.h5", orientation="rotate-90", size=16))
    for row, sample in enumerate(cache.event_ids):
        found = recording_frames(root / "events" / f"{sample}.bin", cache.spec, cache.info.facts)
        np.testing.assert_array_equal(found, cache.event_frames(np.array([row]))[0])


def test_a_missing_file_and_one_of_another_sensor_are_one_line(nmnist_root, tmp_path):
    cache = Cache(build("nmnist", nmnist_root, tmp_path / "a.h5", size=34))
    with pytest.raises(EventError, match="no such file, expected a recording"):
        recording_frames(tmp_path / "none.bin", cache.spec, cache.info.facts)
    trees.random_recording(tmp_path / "large.bin", np.random.default_rng(0), 240, 180, 500)
    with pytest.raises(EventError, match="lie outside the 34 x 34 sensor"):
        recording_frames(tmp_path / "large.bin", cache.spec, cache.info.facts)


def test_a_dataset_that_lists_shifts_is_refused(nmnist_root, tmp_path):
    cache = Cache(build("nmnist", nmnist_root, tmp_path / "a.h5", size=34))
    file = next((nmnist_root / "N-MNIST").rglob("*.bin"))
    with pytest.raises(EventError, match="shifted by sizes listed beside them"):
        recording_frames(file, cache.spec, cache.info.facts | {"is_centered": True})
