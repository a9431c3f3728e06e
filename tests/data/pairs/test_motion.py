"""The path and polarity of a camera, fitted to recordings that were simulated along a known path and to real ones."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
import trees
from conftest import build
from PIL import Image

from tmkt_data.datasets.cameras import camera_from
from tmkt_data.errors import PairingError, SpecError
from tmkt_data.pairs.encoder_distance import compare_encoders
from tmkt_data.pairs.motion import Motion, fit_motion
from tmkt_data.pairs.paired_frames import PairedFrames


@pytest.mark.parametrize("motion", [Motion(True, False, 0.0, 0.8), Motion(False, True, 90.0, 1.1)])
def test_a_known_path_is_found(motion, tmp_path):
    root = trees.write_simulated_nmnist(tmp_path, negative=motion.is_negative, path=motion.camera.path)
    found = fit_motion(PairedFrames(build("nmnist", root, tmp_path / "known.h5")))
    assert found.motion[:2] == motion[:2]
    assert abs(found.motion.degrees - motion.degrees) <= 7.5
    assert found.motion.scale == pytest.approx(motion.scale, abs=0.1)
    assert found.own > 0.7
    assert found.own > found.other_polarity
    # What is printed is what the encoder takes.
    camera = camera_from(tomllib.loads(found.to_toml()))
    assert camera == found.motion.camera
    frames = PairedFrames(tmp_path / "known.h5", camera=camera)
    saccade = {distance.encoder: distance for distance in compare_encoders(frames).encoders}["saccade"]
    assert saccade.own == pytest.approx(found.own, abs=0.01)


def test_without_contrast_no_path_is_found(tmp_path):
    root = trees.write_simulated_nmnist(tmp_path)
    for path in (root / "MNIST_png").rglob("*.png"):
        Image.new("L", (28, 28)).save(path)
    with pytest.raises(PairingError, match=r"flat.h5: no path found: the best one correlates 0.00 with 20 recordings"):
        fit_motion(PairedFrames(build("nmnist", root, tmp_path / "flat.h5")))


def test_recordings_without_twins_are_refused(nmnist_cache):
    frames = PairedFrames(nmnist_cache)
    frames.twins = np.full_like(frames.twins, -1)
    with pytest.raises(PairingError, match="no recording of split 'train' has a twin"):
        fit_motion(frames)


def test_a_camera_opens_saccade_where_the_path_is_unknown(nmnist_cache, monkeypatch):
    monkeypatch.setattr("tmkt_data.datasets.cameras.camera_of", lambda _: None)
    with pytest.raises(SpecError, match="whose camera path is unknown"):
        PairedFrames(nmnist_cache, encoder="saccade")
    camera = Motion(scale=0.5).camera
    frames = PairedFrames(nmnist_cache, encoder="saccade", camera=camera)
    other = PairedFrames(nmnist_cache, encoder="saccade", camera=Motion(scale=1.5).camera)
    assert (frames[0].image != other[0].image).any()


@pytest.mark.real_data
def test_the_camera_of_real_digits_is_found(real_data, tmp_path):
    found = fit_motion(PairedFrames(build("nmnist", real_data / "nmnist", tmp_path / "nmnist.h5")))
    assert found.motion.is_negative
    assert not found.motion.is_mirrored
    assert found.motion.degrees % 360 in (0.0, 7.5, 352.5)
    assert found.motion.scale == pytest.approx(0.8, abs=0.1)
    assert found.own == pytest.approx(0.80, abs=0.02)
    assert found.other_polarity < found.own - 0.1


def test_a_path_that_leaves_the_image_shows_its_edge(nmnist_cache):
    camera = camera_from({"corners": [[0, 0], [900, 0], [0, 0]]})
    found = PairedFrames(nmnist_cache, encoder="saccade", camera=camera).read(np.arange(4)).image
    assert np.isfinite(found).all()
