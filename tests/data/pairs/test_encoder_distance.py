"""Distances between the sides, on recordings that were simulated from their images and on real ones."""

from __future__ import annotations

import numpy as np
import pytest
import trees
from conftest import build
from PIL import Image

from tmkt_data.cache.reader import Cache
from tmkt_data.pairs.encoder_distance import compare_encoders
from tmkt_data.pairs.paired_frames import PairedFrames


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    root = trees.write_simulated_nmnist(tmp_path_factory.mktemp("simulated"))
    return build("nmnist", root, root / "simulated.h5", bake="poisson")


def test_saccades_are_nearest_to_recordings_of_the_same_camera(simulated):
    frames = PairedFrames(simulated, "train")
    found = compare_encoders(frames)
    assert found.num_recordings == len(frames)
    own = {distance.encoder: distance.own for distance in found.encoders}
    assert set(own) == {"repeat", "poisson", "baked", "gradient", "gradient-poisson", "saccade", "microsaccade"}
    assert own["saccade"] > 0.7
    assert max(own, key=own.get) == "saccade"
    best = {distance.encoder: distance for distance in found.encoders}["saccade"]
    assert best.own_is_best == 1
    assert best.own > best.same_class > best.other_class
    assert best.own > best.own_swapped
    assert best.profile_distance < 0.1
    assert found.warnings == found.notes == ()


def test_rate_share_and_profile_are_those_of_plain_sums(simulated):
    frames = PairedFrames(simulated, "train", scale="max", encoder="poisson")
    found = compare_encoders(frames)
    events = frames.cache.event_frames(frames.rows)
    assert found.events.rate == pytest.approx(events.mean())
    assert found.events.empty_share == pytest.approx((events == 0).mean())
    assert found.events.on_share == pytest.approx(events[:, :, 1].sum() / events.sum())
    np.testing.assert_allclose(found.events.profile, events.sum(axis=(0, 2, 3, 4)) / events.sum(), rtol=1e-6)
    for distance in found.encoders:
        assert sum(distance.activity.profile) == pytest.approx(1)
        assert 0 <= distance.profile_distance <= 1
        if distance.own_swapped is not None and distance.encoder != "microsaccade":
            assert distance.activity.rate == pytest.approx(found.events.rate, rel=0.01)
    repeated = found.encoders[0]
    assert repeated.activity.profile == pytest.approx([0.1] * 10)
    assert repeated.activity.on_share == 0.5


def test_own_and_others_are_those_of_numpy(simulated):
    frames = PairedFrames(simulated, "train", pairing="twin")
    found = {distance.encoder: distance for distance in compare_encoders(frames).encoders}["repeat"]
    batch = frames.read(np.arange(len(frames)))
    events, images = np.log1p(batch.events), batch.image
    table = np.array([[np.corrcoef(e.ravel(), i.ravel())[0, 1] for i in images] for e in events])
    is_class = batch.labels == batch.labels[:, None]
    other = ~np.eye(len(table), dtype=bool)
    assert found.own == pytest.approx(np.diag(table).mean())
    assert found.same_class == pytest.approx(table[other & is_class].mean())
    assert found.other_class == pytest.approx(table[~is_class].mean())


def test_inverted_polarity_is_warned_of(tmp_path):
    root = trees.write_simulated_nmnist(tmp_path / "bright", negative=False)
    plain = compare_encoders(PairedFrames(build("nmnist", root, tmp_path / "plain.h5")))
    assert len(plain.warnings) == 1
    assert plain.warnings[0].startswith("encoder saccade: polarity looks inverted: its frames correlate 0.")
    inverted = compare_encoders(PairedFrames(build("nmnist", root, tmp_path / "inv.h5", polarity="inverted")))
    # The option swaps ON and OFF of published recordings, and the encoder follows it: the camera is another one still.
    assert len(inverted.warnings) == 1


def test_a_voxel_grid_is_compared_with_its_sign(tmp_path):
    root = trees.write_simulated_nmnist(tmp_path / "voxels")
    frames = PairedFrames(build("nmnist", root, tmp_path / "voxels.h5", representation="voxel"))
    best = {distance.encoder: distance for distance in compare_encoders(frames).encoders}["saccade"]
    assert best.own > 0.5
    assert best.own_swapped == pytest.approx(-best.own)


def test_without_contrast_or_other_images_nothing_is_divided_by_zero(tmp_path):
    root = trees.write_simulated_nmnist(tmp_path / "flat")
    for path in (root / "MNIST_png").rglob("*.png"):
        Image.new("L", (28, 28)).save(path)
    found = compare_encoders(PairedFrames(build("nmnist", root, tmp_path / "flat.h5")))
    assert {distance.own for distance in found.encoders} == {0.0}
    assert {distance.activity.rate for distance in found.encoders} == {0.0}
    assert {distance.activity.on_share for distance in found.encoders} == {None}
    assert found.warnings == ()


def test_recordings_of_other_splits_are_not_read(simulated, monkeypatch):
    frames = PairedFrames(simulated, "train")
    read = Cache.event_frames
    rows = []
    monkeypatch.setattr(Cache, "event_frames", lambda self, given: rows.extend(given) or read(self, given))
    compare_encoders(frames)
    assert set(rows) == set(frames.rows.tolist())


def test_an_unknown_camera_is_left_out_with_a_note(simulated, monkeypatch):
    monkeypatch.setattr("tmkt_data.datasets.cameras.camera_of", lambda _: None)
    found = compare_encoders(PairedFrames(simulated, "train"))
    assert "saccade" not in {distance.encoder for distance in found.encoders}
    assert len(found.notes) == 1
    assert "whose camera path is unknown" in found.notes[0]


@pytest.mark.real_data
def test_real_recordings_of_digits_are_nearest_to_saccades(real_data, tmp_path):
    frames = PairedFrames(build("nmnist", real_data / "nmnist", tmp_path / "nmnist.h5"))
    found = {distance.encoder: distance for distance in compare_encoders(frames).encoders}
    own = {name: distance.own for name, distance in found.items()}
    intensities = {"repeat": 0.313, "poisson": 0.285}
    expected = intensities | {"gradient": 0.378, "gradient-poisson": 0.264, "saccade": 0.801, "microsaccade": 0.281}
    assert own == pytest.approx(expected, abs=0.005)
    assert found["saccade"].own_is_best == 1
    assert found["saccade"].own_swapped < found["repeat"].own
