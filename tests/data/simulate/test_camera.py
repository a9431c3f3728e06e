"""What an event camera has to do: physics of its pixels, and that nothing but its arguments counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tmkt_data.errors import ImageError, SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.simulate.camera import CameraSettings, SimulatedCamera
from tmkt_data.simulate.paths import Path
from tmkt_data.simulate.pixels import PixelModel

OFF = {
    "threshold_spread": 0.0,
    "toe": 1e-3,
    "blur": 0,
    "time_constant_us": 0,
    "refractory_us": 0,
    "leak_hz": 0,
    "shot_hz": 0,
    "hot_share": 0,
    "jitter_us": 0,
}
"""Switches every part off but the thresholds."""
SIZE = SensorSize(40, 30)
STILL = Path(kind="points", points=((0, 0, 0), (300, 0, 0)))
RIGHT = Path(kind="points", points=((0, 0, 0), (100, 10, 0)))
LEFT = Path(kind="points", points=((0, 10, 0), (100, 0, 0)))


def camera_of(path=RIGHT, seed=0, size=SIZE, **values):
    return SimulatedCamera(CameraSettings(PixelModel(**(OFF | values)), path), size, seed)


def edge(dark=32, bright=128):
    """Bright on the left: where it moves right, it gets brighter."""
    image = np.full((SIZE.height, SIZE.width), dark, np.uint8)
    image[:, :15] = bright
    return image


def texture(seed=0):
    coarse = np.random.default_rng(seed).integers(10, 250, (6, 8))
    return np.kron(coarse, np.ones((5, 5), int)).astype(np.uint8)


def map_of(events, polarity=None):
    counts = np.zeros((SIZE.height, SIZE.width), int)
    chosen = slice(None) if polarity is None else events.p == polarity
    np.add.at(counts, (events.y[chosen], events.x[chosen]), 1)
    return counts


def as_tuple(events):
    return events.t.tobytes(), events.x.tobytes(), events.y.tobytes(), events.p.tobytes()


class TestPhysics:
    def test_static_image_without_noise_is_silent(self):
        assert len(camera_of(STILL, threshold_spread=0.2, blur=1, time_constant_us=3000).record(texture(), 1)) == 0

    def test_static_image_gives_noise_alone_at_its_rate(self):
        # Shot noise is given for black, and a quarter of it in white light.
        for gray, rate in ((0, 20.0), (255, 5.0)):
            image = np.full((SIZE.height, SIZE.width), gray, np.uint8)
            events = camera_of(STILL, shot_hz=20.0).record(image, 1)
            expected = rate * 0.3 * SIZE.width * SIZE.height
            assert len(events) == pytest.approx(expected, abs=5 * expected**0.5)
            assert 0.4 < events.p.mean() < 0.6
            assert 0.4 < (events.t < 150_000).mean() < 0.6

    def test_leak_fires_on_at_its_rate(self):
        for leak_hz in (0.5, 10.0):
            events = camera_of(STILL, leak_hz=leak_hz).record(texture(), 1)
            assert events.p.all()
            assert len(events) == pytest.approx(
                leak_hz * 0.3 * SIZE.width * SIZE.height, rel=0.12 if leak_hz < 1 else 0.03
            )
            assert 0.4 < (events.t < 150_000).mean() < 0.6

    def test_brighter_edge_gives_on_alone_and_darker_off(self):
        brighter = camera_of(RIGHT).record(edge(), 1)
        assert len(brighter) > 500
        assert brighter.p.all()
        assert not camera_of(LEFT).record(edge(), 1).p.any()
        assert not camera_of(RIGHT, negative=True).record(edge(), 1).p.any()
        assert set(brighter.x.tolist()) == set(range(15, 25))

    def test_bright_bar_gives_on_first_and_off_after(self):
        image = np.full((SIZE.height, SIZE.width), 32, np.uint8)
        image[:, 12:15] = 128
        events = camera_of(RIGHT).record(image, 1)
        for column in range(17, 22):
            here = events.x == column
            assert events.t[here & events.p].max() < events.t[here & ~events.p].min()

    def test_doubling_the_contrast_adds_the_predicted_events(self):
        # The edge passes 10 columns; ln 2 / 0.1 events more at each pixel for a light twice as bright.
        per_pixel = []
        for bright in (64, 128, 254):
            counts = map_of(camera_of(RIGHT, threshold_on=0.1).record(edge(32, bright), 1))
            per_pixel.append(counts[:, 15:25].mean())
        assert per_pixel[0] == pytest.approx(np.log(2) / 0.1 - 0.5, abs=0.1)
        assert np.diff(per_pixel) == pytest.approx([np.log(2) / 0.1, np.log(127 / 64) / 0.1], abs=0.1)

    def test_time_reversal_swaps_the_polarities(self):
        forth = Path(kind="points", points=((0, 0, 0), (60, 4, 1), (100, 7, -2)))
        back = Path(kind="points", points=((0, 7, -2), (40, 4, 1), (100, 0, 0)))
        there, here = (
            camera_of(path, threshold_on=0.1, threshold_off=0.1).record(texture(), 1) for path in (forth, back)
        )
        assert len(there) == pytest.approx(len(here), rel=0.02)
        for polarity in (False, True):
            one, other = map_of(there, polarity), map_of(here, not polarity)
            assert abs(one - other).max() <= 3
            assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.98
        rates = [np.histogram(events.t, np.arange(11) * 10_000)[0] for events in (there, here)]
        assert np.abs(rates[0] - rates[1][::-1]).max() < 0.1 * rates[0].max()

    def test_higher_thresholds_fire_less(self):
        for name in ("threshold_on", "threshold_off"):
            counts = [len(camera_of(**{name: value}).record(texture(), 1)) for value in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)]
            assert counts == sorted(counts, reverse=True)
            assert len(set(counts)) == len(counts)

    def test_refractory_period_bounds_the_rate_of_every_pixel(self):
        values = {"refractory_us": 5_000, "threshold_on": 0.01, "threshold_off": 0.01, "shot_hz": 500.0}
        events = camera_of(RIGHT, **values).record(texture(), 1)
        assert map_of(events).max() <= 100_000 // 5_000
        pixel = events.y.astype(np.int64) * SIZE.width + events.x
        order = np.lexsort((events.t, pixel))
        gaps = np.diff(events.t[order])[np.diff(pixel[order]) == 0]
        assert gaps.min() >= 4_999
        assert len(events) < len(camera_of(RIGHT, **(values | {"refractory_us": 0})).record(texture(), 1))

    def test_smaller_bandwidth_comes_later_and_most_in_the_dark(self):
        def mean_time(dark, bright, **values):
            return camera_of(RIGHT, threshold_on=0.1, **values).record(edge(dark, bright), 1).t.mean()

        fast = mean_time(16, 64)
        dim, bright = mean_time(16, 64, time_constant_us=2000), mean_time(60, 240, time_constant_us=2000)
        assert dim > bright > fast + 1_000
        same = {"time_constant_us": 2000, "slow_in_the_dark": False}
        assert mean_time(16, 64, **same) == pytest.approx(mean_time(60, 240, **same), abs=100)

    def test_dark_noise_does_not_grow_below_the_toe(self):
        image = np.full((SIZE.height, SIZE.width), 1, np.uint8)
        image[:, :15] = 4
        few, many = (len(camera_of(toe=toe).record(image, 1)) for toe in (0.08, 0.001))
        assert few < many / 4

    def test_jitter_moves_timestamps_no_further(self):
        sharp, blurred = (camera_of(jitter_us=jitter).record(edge(), 1) for jitter in (0, 400))
        assert len(sharp) == len(blurred)
        assert 50 < np.abs(sharp.t - blurred.t).max() <= 400
        assert (map_of(sharp) == map_of(blurred)).all()


class TestSensor:
    def test_hot_pixels_are_those_of_the_sensor(self):
        def hot(seed, uid):
            counts = map_of(camera_of(STILL, seed, hot_share=0.02, hot_hz=200.0).record(texture(), uid))
            return {tuple(place) for place in np.argwhere(counts > 20).tolist()}

        assert hot(0, 1) == hot(0, 2)
        assert len(hot(0, 1)) == pytest.approx(24, abs=15)
        assert hot(0, 1) != hot(1, 1)

    def test_thresholds_are_those_of_the_sensor(self):
        def counts(seed, uid):
            return map_of(camera_of(RIGHT, seed, threshold_spread=0.3, threshold_on=0.05).record(edge(), uid))[:, 15:25]

        one, again, other = counts(0, 1), counts(0, 2), counts(1, 1)
        assert np.corrcoef(one.ravel(), again.ravel())[0, 1] > 0.95
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] < 0.3


class TestChance:
    def test_same_arguments_same_events_in_any_thread(self):
        camera = SimulatedCamera(CameraSettings(path=Path(kind="random-walk")), SIZE, 5)
        alone = [as_tuple(camera.record(texture(uid), uid)) for uid in range(8)]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda uid: as_tuple(camera.record(texture(uid), uid)), range(8))) == alone
        assert len(set(alone)) == 8

    @pytest.mark.parametrize("kind", ["saccades", "random-walk", "jitter"])
    def test_other_ids_and_seeds_are_other_draws(self, kind):
        settings = CameraSettings(path=Path(kind=kind))
        recordings = {
            as_tuple(SimulatedCamera(settings, SIZE, seed).record(texture(), uid))
            for seed in (0, 2**63 - 1)
            for uid in (0, 2**64 - 1)
        }
        assert len(recordings) == 4

    def test_room_for_events_changes_nothing(self):
        # More events than the first guess of 8 a pixel: the kernel is called twice.
        camera = camera_of(RIGHT, threshold_on=0.01, threshold_off=0.01)
        first, again = camera.record(texture(), 1), camera.record(texture(), 1)
        assert len(first) > 8 * SIZE.width * SIZE.height
        assert as_tuple(first) == as_tuple(again)

    def test_image_stays_as_it_is(self):
        image = texture()
        camera_of(negative=True).record(image, 1)
        assert (image == texture()).all()


class TestArguments:
    @pytest.mark.parametrize("image", [np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4)), np.zeros((0, 4), np.uint8)])
    def test_refuses_what_is_no_gray_image(self, image):
        with pytest.raises(ImageError, match=r"expected \(h, w\) of uint8"):
            camera_of().record(image, 0)

    def test_refuses_an_image_larger_than_the_sensor(self):
        with pytest.raises(ImageError, match="41 x 30 pixels, expected no more than the sensor"):
            camera_of().record(np.zeros((30, 41), np.uint8), 0)

    @pytest.mark.parametrize("size", [SensorSize(0, 10), SensorSize(10, 4097)])
    def test_refuses_a_sensor_without_pixels_or_with_too_many(self, size):
        with pytest.raises(SpecError, match="expected 1 x 1 to 4096 x 4096"):
            camera_of(size=size)

    def test_refuses_a_path_that_leaves_the_image(self):
        def to(dy):
            return camera_of(Path(kind="points", points=((0, 0, 0), (100, 0, dy))))

        with pytest.raises(SpecError, match=r"camera: the path reaches 0.0 px across and 30.0 px down and leaves"):
            to(-30)
        with pytest.raises(
            SpecError, match=r"a/b: the path reaches 0.0 px across and 20.0 px down and leaves the image"
        ):
            to(-20).record(texture()[:20], 0, "a/b")
        assert len(to(-19.9).record(texture()[:20], 0))

    def test_refuses_a_step_longer_than_the_path(self):
        with pytest.raises(SpecError, match="step_us 20000, the path takes 10000 us"):
            CameraSettings(PixelModel(step_us=20_000), Path(kind="jitter", duration_us=10_000))

    @pytest.mark.parametrize("name", ["threshold_on", "threshold_off"])
    @pytest.mark.parametrize("value", [0, -0.2, float("nan"), "0.2", True])
    def test_refuses_thresholds_that_are_no_positive_number(self, name, value):
        with pytest.raises(SpecError, match=f"{name} {value!r} "):
            PixelModel(**{name: value})

    def test_names_every_wrong_value(self):
        with pytest.raises(
            SpecError, match=r"threshold_on 0 .*; blur 1.5 .*; negative|threshold_on 0 .*negative 1 .*blur"
        ):
            PixelModel(threshold_on=0, blur=1.5, negative=1)

    def test_one_pixel_is_recorded(self):
        events = camera_of(STILL, size=SensorSize(1, 1), shot_hz=100.0).record(np.full((1, 1), 9, np.uint8), 3)
        assert set(events.x.tolist()) == {0}
