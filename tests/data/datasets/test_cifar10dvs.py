"""CIFAR10-DVS."""

import pickle

import numpy as np
import pytest
from conftest import build

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.cifar10dvs import CLASS_NAMES as CIFAR_CLASSES
from tmkt_data.datasets.cifar10dvs import open_cifar10dvs
from tmkt_data.errors import ImageError
from tmkt_data.images.archives import read_archive, read_cifar
from tmkt_data.images.frames import ImageTarget, image_frame

from .published_trees import (
    random_rows,
    write_cifar,
    write_cifar10dvs,
)


class TestCifar10Dvs:
    def test_sides_meet_by_class_and_numbers_sort_as_numbers(self, tmp_path):
        catalogue = open_cifar10dvs(write_cifar10dvs(tmp_path))
        assert [source.id for source in catalogue.recordings][:5] == [f"airplane/{n:04d}" for n in (0, 1, 2, 9, 10)]
        assert catalogue.num_twins == 0
        assert [source.id for source in catalogue.images] == [
            "airplane/test-00000", "airplane/train-00000", "airplane/train-00003", "airplane/train-00005",
            "cat/test-00001", "cat/train-00001", "cat/train-00002", "truck/train-00004",
        ]  # fmt: skip
        assert catalogue.notes[0].startswith("10 of 10000 recordings; missing: airplane/0003, airplane/0004, ")
        assert catalogue.notes[1] == "8 of 60000 images are here"

    def test_a_cache_counts_turned_events_and_holds_the_right_pixels(self, tmp_path):
        root = write_cifar10dvs(tmp_path)
        cache = Cache(build("cifar10dvs", root, tmp_path / "a.h5", size=128, time_bins=1))
        rows = random_rows(np.random.default_rng(0))
        expected = np.zeros((2, 128, 128), int)
        for _, x, y, p in rows:
            expected[1 - p, 127 - x, 127 - y] += 1
        np.testing.assert_array_equal(cache.event_frames([0])[0, 0], expected)
        at = cache.image_ids.index("cat/train-00002")
        pixels = write_cifar(tmp_path / "again", [0, 3, 3, 0, 9, 0])[2]
        placed = image_frame(pixels, ImageTarget(128, 128), "value")
        np.testing.assert_array_equal(cache.image_frames([at])[0], placed)

    def test_recordings_that_name_no_chip_are_read_as_those_that_do(self, tmp_path):
        root = write_cifar10dvs(tmp_path)
        named = Cache(build("cifar10dvs", root, tmp_path / "a.h5", size=128, time_bins=1)).event_frames([0])
        for path in root.rglob("*.aedat"):
            path.write_bytes(path.read_bytes().replace(b"# AEChip: DVS128\r\n", b""))
        unnamed = Cache(build("cifar10dvs", root, tmp_path / "b.h5", size=128, time_bins=1)).event_frames([0])
        np.testing.assert_array_equal(unnamed, named)

    def test_the_python_version_reads_as_the_binary_one(self, tmp_path):
        pixels = write_cifar(tmp_path / "a", [5, 0, 9])
        write_cifar(tmp_path / "b", [5, 0, 9], pickled=True)
        for path in (tmp_path / "a" / "data_batch_1.bin", tmp_path / "b" / "data_batch_1"):
            images, labels = read_cifar(path)
            np.testing.assert_array_equal(images, pixels)
            assert labels.tolist() == [5, 0, 9]
            np.testing.assert_array_equal(read_archive(path), pixels)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "0 bytes, expected 3073 an image"),
            (bytes(3072), "3072 bytes, expected 3073 an image"),
            (b"\x0a" + bytes(3072), "labels run from 10 to 10, expected 0 to 9"),
            (pickle.dumps({"data": np.zeros((2, 3072), "u1"), "labels": [1]}, 2), "no list 'labels' of 2 numbers"),
            (pickle.dumps({"data": np.zeros((2, 9), "u1"), "labels": [1, 2]}, 2), "no array 'data' of 3072 bytes"),
            (pickle.dumps({"data": np.zeros((1, 3072), "u1"), "labels": [10**40]}, 2), "labels run from 10 to 10"),
            (pickle.dumps([1]), "no array 'data'"),
            (b"\x80\x02cos\nsystem\n.", "the pickle names 'os system'"),
        ],
    )
    def test_broken_batches_are_one_line(self, tmp_path, data, message):
        path = tmp_path / "data_batch_1"
        path.write_bytes(data)
        with pytest.raises(ImageError, match=r"^data_batch_1: ") as raised:
            read_cifar(path)
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)


def test_the_cifar_classes_are_those_of_both_sets():
    assert len(CIFAR_CLASSES) == 10
    assert list(CIFAR_CLASSES) == sorted(CIFAR_CLASSES)
