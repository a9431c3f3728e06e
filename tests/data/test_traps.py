"""What the public code of the predecessor gets wrong, and what second libraries say of the same bytes."""

import os

import numpy as np
import pytest
import trees
from conftest import build

from tmkt_data import PairedFrames, read_events
from tmkt_data.datasets.registry import open_catalogue

faery = pytest.importorskip("faery", reason="faery, the second reader, is not installed")


class Backwards:
    """`os.scandir` as a file system may give it: in another order."""

    def __init__(self, path, original):
        self._entries = original(path)

    def __enter__(self):
        entries = sorted(self._entries, key=lambda entry: entry.name, reverse=True)
        return iter(entries)

    def __exit__(self, *_):
        self._entries.close()


@pytest.mark.parametrize("name", ["nmnist", "ncaltech101"])
def test_the_order_of_a_listing_changes_nothing(tmp_path, monkeypatch, name):
    if name == "nmnist":
        root = trees.write_nmnist(tmp_path, per_digit=5, test_per_digit=2, digits=3)
    else:
        root = trees.write_ncaltech(tmp_path, {"airplanes": 7, "Faces_easy": 5, "ant": 4})
    straight = open_catalogue(name, root)
    original = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: Backwards(path, original))
    assert open_catalogue(name, root) == straight


def test_the_first_test_image_is_never_drawn_for_training(tmp_path):
    # randint(a, a + 1 + n_train) of the public code can return the first image behind the training part.
    root = trees.write_ncaltech(tmp_path / "root", {"airplanes": 10, "ant": 10})
    frames = PairedFrames(
        build("ncaltech101", root, tmp_path / "a.h5"), "train", pairing="same-class", protocol="kt-paper"
    )
    held_out = {frames.cache.image_ids.index(f"{name}/image_0010") for name in ("airplanes", "ant")}
    drawn = set()
    for epoch in range(60):
        frames.set_epoch(epoch)
        drawn |= set(frames.read(range(len(frames))).image_indices.tolist())
    assert len(drawn) == 18
    assert not drawn & held_out


def theirs(path):
    array = faery.events_stream_from_file(path).to_array()
    return [array[name].tolist() for name in array.dtype.names]


def ours(path, **given):
    events = read_events(path, **given)
    return [events[name].tolist() for name in "txyp"]


def test_the_real_aedat4_recording_reads_as_a_second_library_reads_it(real_data):
    path = real_data / "aedat4" / "sample.aedat4"
    assert ours(path) == theirs(path)


def test_the_real_evt2_recording_reads_as_a_second_library_reads_it(real_data):
    path = real_data / "evt" / "evt2.raw"
    assert ours(path) == theirs(path)


@pytest.mark.parametrize("suffix", [".dat", ".es", ".aedat4"])
def test_what_a_second_library_writes_reads_the_same(tmp_path, suffix):
    rng = np.random.default_rng(4)
    array = np.zeros(5000, faery.EVENTS_DTYPE)
    array["t"] = np.sort(rng.integers(1000, 900_000, 5000))
    array["x"], array["y"] = rng.integers(0, [[240], [180]], (2, 5000))
    array[array.dtype.names[3]] = rng.random(5000) < 0.5
    path = tmp_path / f"a{suffix}"
    faery.events_stream_from_array(array, dimensions=(240, 180)).to_file(path)
    found, expected = ours(path), [array[name].tolist() for name in array.dtype.names]
    if suffix == ".es":
        # The format has no origin of time.
        expected[0] = [t - expected[0][0] + found[0][0] for t in expected[0]]
    assert found == expected
