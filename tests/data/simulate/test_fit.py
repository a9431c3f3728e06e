"""A camera fitted to recordings: of a camera that is known, and of N-MNIST where it is at hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tmkt_data.errors import SpecError
from tmkt_data.events.events import Events, SensorSize, Window
from tmkt_data.random_keys import sample_uid
from tmkt_data.simulate.camera import CameraSettings, SimulatedCamera
from tmkt_data.simulate.closeness import compare
from tmkt_data.simulate.fit import NUM_PARTS, CameraFit, KnownRecording
from tmkt_data.simulate.paths import Path
from tmkt_data.simulate.pixels import PixelModel

SIZE = SensorSize(34, 34)


def picture(seed):
    """Some bars on black, with black margins."""
    random = np.random.default_rng(seed)
    image = np.zeros((34, 34), np.uint8)
    for left, top in random.integers(7, 22, (3, 2)).tolist():
        image[top : top + random.integers(2, 6), left : left + random.integers(2, 6)] = random.integers(120, 256)
    return image


def recorded(settings, count=8, seed=9, first=0):
    camera = SimulatedCamera(settings, SIZE, seed)
    lights = [picture(first + number) for number in range(count)]
    return [
        KnownRecording(f"a/{first + number}", light, camera.record(light, sample_uid(f"b/{number}")))
        for number, light in enumerate(lights)
    ]


def fitted(known, start=None):
    fit = CameraFit(known, SIZE, start or CameraSettings())
    *_, last = fit.run()
    return fit, last


@pytest.mark.parametrize("negative", [False, True])
def test_finds_the_camera_that_recorded(negative):
    truth = CameraSettings(
        PixelModel(threshold_on=0.3, threshold_off=0.45, negative=negative, shot_hz=4.0, leak_hz=0, hot_share=0),
        Path(scale=0.7),
    )
    fit, last = fitted(recorded(truth))
    pixels = last.settings.pixels
    assert pixels.negative == negative
    assert last.settings.path.scale == pytest.approx(0.7)
    assert pixels.threshold_on == pytest.approx(0.3, rel=0.2)
    assert pixels.threshold_off == pytest.approx(0.45, rel=0.2)
    assert pixels.shot_hz == pytest.approx(4.0, rel=0.3)
    assert 1000 <= pixels.time_constant_us <= 5000
    found = fit.closeness(last.settings, recorded(truth, first=50))
    assert found.simulated_events == pytest.approx(found.real_events, rel=0.1)
    assert found.own_map > found.other_map + 0.3


def test_time_constant_follows_the_recordings():
    found = []
    for time_constant_us in (0, 12_000):
        truth = CameraSettings(PixelModel(time_constant_us=time_constant_us, hot_share=0), Path(scale=1.0))
        found.append(fitted(recorded(truth, 4))[1].settings.pixels.time_constant_us)
    assert found[0] <= 1000
    assert found[1] >= 5000


def test_every_part_is_told_and_the_rest_stays():
    start = CameraSettings(PixelModel(black_level=0.1, refractory_us=500, jitter_us=300))
    states = list(CameraFit(recorded(CameraSettings(), 2), SIZE, start).run())
    assert [state.what for state in states] == [
        "polarity and path length",
        "thresholds",
        "blur and toe",
        "noise and leak",
        "bandwidth and thresholds",
    ]
    pixels = states[-1].settings.pixels
    assert (pixels.black_level, pixels.refractory_us, pixels.jitter_us) == (0.1, 500, 300)
    assert len(states) == NUM_PARTS


def test_blur_and_toe_follow_the_recordings():
    # Faint bars on gray, where the toe matters.
    lights = [picture(seed) // 4 + 20 for seed in range(4)]
    for blur, toe in ((0, 1.0), (2, 0.02)):
        truth = CameraSettings(PixelModel(blur=blur, toe=toe, threshold_on=0.05, threshold_off=0.05, hot_share=0))
        camera = SimulatedCamera(truth, SIZE, 5)
        known = [KnownRecording(f"a/{n}", light, camera.record(light, n)) for n, light in enumerate(lights)]
        pixels = fitted(known)[1].settings.pixels
        assert pixels.blur == blur
        assert (pixels.toe > 0.1) == (toe > 0.1)


def test_recordings_cropped_to_a_window_are_fitted_in_it():
    truth = CameraSettings(PixelModel(threshold_on=0.3, threshold_off=0.3, hot_share=0), Path(scale=0.8))
    window, size = Window(3, 4, SensorSize(24, 25)), SensorSize(30, 30)
    known = []
    for one in recorded(truth, 4):
        x, y = one.events.x.astype(int) - 3, one.events.y.astype(int) - 4
        kept = (x >= 0) & (x < 24) & (y >= 0) & (y < 25)
        columns = one.events.t[kept], x[kept].astype(np.uint16), y[kept].astype(np.uint16), one.events.p[kept]
        known.append(one._replace(events=Events(*columns, size, len(x)), window=window))
    fit = CameraFit(known, size, CameraSettings())
    *_, last = fit.run()
    assert last.settings.path.scale == pytest.approx(0.8)
    assert last.settings.pixels.threshold_on == pytest.approx(0.3, rel=0.2)
    assert last.closeness.own_map > 0.9
    for events in fit.record(last.settings, known):
        assert events.sensor_size == size
        assert (int(events.x.max()), int(events.y.max())) <= (23, 24)
    moved = [one._replace(window=Window(9, 4, SensorSize(24, 25))) for one in known]
    assert fit.closeness(last.settings, moved).own_map < 0.7


def test_any_number_of_workers_finds_the_same():
    known = recorded(CameraSettings(PixelModel(threshold_on=0.4)), 3)
    results = [
        [state.settings for state in CameraFit(known, SIZE, CameraSettings(), 0, workers).run()] for workers in (1, 3)
    ]
    assert results[0] == results[1]


def test_refuses_nothing_to_fit_and_random_paths():
    with pytest.raises(SpecError, match="no recordings with events"):
        CameraFit([], SIZE, CameraSettings())
    with pytest.raises(SpecError, match="the path 'jitter', expected one that all recordings have"):
        CameraFit(recorded(CameraSettings(), 1), SIZE, CameraSettings(path=Path(kind="jitter")))


def test_closeness_of_a_recording_with_itself_and_with_its_opposite():
    events = [one.events for one in recorded(CameraSettings(), 3)]
    same = compare(events, events, SIZE, 300_000)
    assert (same.real_events, same.real_on) == (same.simulated_events, same.simulated_on)
    assert [same.own_map, same.own_frames, same.profile, same.counts] == pytest.approx([1.0] * 4)
    opposite = [dataclasses.replace(one, p=~one.p) for one in events]
    found = compare(events, opposite, SIZE, 300_000)
    assert found.simulated_on == pytest.approx(1 - found.real_on)
    assert found.own_map == pytest.approx(1.0)
    assert found.own_frames < 0.5
    assert np.isnan(compare(events[:1], events[:1], SIZE, 300_000).other_map)


@pytest.mark.real_data
def test_fitted_to_real_nmnist_it_comes_close_on_held_out_recordings(real_data):
    from tmkt_data.datasets.known_recordings import read_known

    known = read_known(real_data / "nmnist", 24)
    fit, last = fitted(known.fitted)
    assert last.settings.pixels.negative
    found = fit.closeness(last.settings, known.held_out)
    assert found.simulated_events == pytest.approx(found.real_events, rel=0.15)
    assert found.own_map > 0.9
    assert found.own_map > found.other_map + 0.2
    assert found.simulated_on == pytest.approx(found.real_on, abs=0.03)


@pytest.mark.real_data
def test_fitted_to_the_real_face_it_comes_close_in_place(real_data, tmp_path):
    from tmkt_data.datasets.known_recordings import read_known

    for name in ("ncaltech101", "caltech101"):
        (tmp_path / name).symlink_to(real_data / name)
    known = read_known(tmp_path)
    assert known.num_hot == 2799
    (face,) = known.fitted
    assert face.light.shape == (185, 244)
    # The published extent, DATASETS 9.3, is 151 x 173.
    assert face.window == (4, 5, (150, 172))
    settings = CameraSettings(
        PixelModel(toe=0.5, blur=0, threshold_on=0.184, threshold_off=0.133, time_constant_us=1000, hot_share=0),
        Path(scale=0.9),
    )
    found = CameraFit(known.fitted, known.sensor_size, settings).closeness(settings, known.fitted)
    assert found.own_map > 0.8
    assert found.simulated_events == pytest.approx(found.real_events, rel=0.15)
    assert found.simulated_on == pytest.approx(found.real_on, abs=0.03)
