from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.errors import ImageError, SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.atis import decode_atis, encode_atis
from tmkt_data.simulate.recording import NMNIST_SETTINGS, SimulatorSettings, simulate_recording
from tmkt_data.simulate.saccade import SaccadePath

QUIET = SimulatorSettings(noise_rate_hz=0.0)
IDEAL = SimulatorSettings(
    noise_rate_hz=0.0, threshold_spread=0.0, refractory_us=0, time_constant_us=0, jitter_us=0, blur=0
)
TO_THE_RIGHT = SaccadePath(corners=((0.0, 0.0), (6.0, 0.0)))


def digit() -> np.ndarray:
    image = np.zeros((28, 28), np.uint8)
    image[5:23, 12:15] = 255
    image[5:8, 8:20] = 200
    return image


def edge() -> np.ndarray:
    image = np.full((28, 34), 40, np.uint8)
    image[:, 15:] = 220
    return image


def as_bytes(events):
    return encode_atis(events)


class TestEvents:
    @pytest.mark.parametrize("value", [0, 77, 255])
    def test_constant_image_is_silent(self, value):
        events = simulate_recording(np.full((28, 28), value, np.uint8), key=3, settings=QUIET)
        assert len(events) == 0
        assert events.sensor_size == (34, 34)

    def test_still_image_is_silent(self):
        still = dataclasses.replace(QUIET, path=SaccadePath(corners=((2.0, 1.0), (2.0, 1.0))))
        assert len(simulate_recording(digit(), key=3, settings=still)) == 0

    @pytest.mark.parametrize(("negative", "gets_brighter"), [(False, False), (True, True)])
    def test_polarity_of_an_edge_that_moves_right(self, negative, gets_brighter):
        # Bright lies right of the edge, so dark moves in.
        chosen = dataclasses.replace(QUIET, path=TO_THE_RIGHT, negative=negative)
        events = simulate_recording(edge(), key=1, settings=chosen)
        assert len(events) > 34
        assert (events.p == gets_brighter).all()
        assert events.x.min() >= 13
        assert events.x.max() <= 22

    def test_event_subtracted_by_the_displacement_lies_on_the_edge(self):
        chosen = dataclasses.replace(IDEAL, path=TO_THE_RIGHT, step_us=100)
        events = simulate_recording(edge(), key=1, settings=chosen)
        back = events.x - TO_THE_RIGHT.displacement(events.t)[0]
        assert back.min() >= 13.9
        assert back.max() <= 15.1

    def test_offset_moves_every_event(self):
        image = np.pad(digit(), 6)
        sensor = SensorSize(50, 50)
        here = simulate_recording(image, key=1, settings=IDEAL, sensor_size=sensor)
        there = simulate_recording(image, key=1, settings=IDEAL, sensor_size=sensor, offset=(3.0, 2.0))
        assert there.x.mean() - here.x.mean() == pytest.approx(3.0, abs=0.1)
        assert there.y.mean() - here.y.mean() == pytest.approx(2.0, abs=0.1)

    def test_number_of_events_is_the_change_over_the_threshold(self):
        # One edge passes each row once: ln(1 / 0.1) / 0.18 = 12.79 thresholds from white to black. The first
        # reference lies up to half a threshold off, so that 12.29 events are whole on average.
        image = np.zeros((34, 34), np.uint8)
        image[:, 15:] = 255
        chosen = dataclasses.replace(IDEAL, path=TO_THE_RIGHT, threshold_on=0.18, threshold_off=0.18)
        events = simulate_recording(image, key=1, settings=chosen)
        per_pixel = np.zeros((34, 34), int)
        np.add.at(per_pixel, (events.y, events.x), 1)
        assert set(np.unique(per_pixel[:, 15:20])) == {12, 13}
        assert per_pixel[:, 15:20].mean() == pytest.approx(np.log(10.0) / 0.18 - 0.5, abs=0.12)

    def test_double_threshold_makes_half_the_events(self):
        fine = simulate_recording(digit(), key=1, settings=IDEAL)
        coarse = simulate_recording(
            digit(), key=1, settings=dataclasses.replace(IDEAL, threshold_on=0.4, threshold_off=0.4)
        )
        assert 0.42 < len(coarse) / len(fine) < 0.58

    def test_refractory_pixels_wait(self):
        chosen = dataclasses.replace(QUIET, refractory_us=5_000, jitter_us=0)
        events = simulate_recording(digit(), key=1, settings=chosen)
        pixel = events.y.astype(np.int64) * 34 + events.x
        order = np.lexsort((events.t, pixel))
        gaps = np.diff(events.t[order])[np.diff(pixel[order]) == 0]
        assert gaps.min() >= 4_999
        assert len(events) < len(simulate_recording(digit(), key=1, settings=QUIET))

    def test_noise_has_its_rate_and_both_polarities(self):
        chosen = SimulatorSettings(noise_rate_hz=20.0)
        events = simulate_recording(np.zeros((5, 5), np.uint8), key=5, settings=chosen)
        expected = 20.0 * 0.3 * 34 * 34
        assert len(events) == pytest.approx(expected, abs=5 * expected**0.5)
        assert 0.45 < events.p.mean() < 0.55
        assert 0.45 < (events.t < 150_000).mean() < 0.55
        assert (np.bincount(events.x, minlength=34) > 0).all()

    def test_looks_like_nmnist(self):
        counts, balance, rate = [], [], np.zeros(30)
        for key in range(8):
            events = simulate_recording(digit(), key=key, settings=NMNIST_SETTINGS)
            counts.append(len(events))
            balance.append(events.p.mean())
            rate += np.histogram(events.t, np.arange(31) * 10_000)[0]
        # DATASETS of the real set: 1112 to 7152 events, balanced, three humps 100 ms apart.
        assert min(counts) > 1_112
        assert max(counts) < 7_152
        assert 0.45 < np.mean(balance) < 0.55
        humps = rate.reshape(3, 10)
        assert (humps[:, 4:6].min(axis=1) > 5 * humps[:, [0, -1]].max(axis=1)).all()


class TestChance:
    def test_same_key_same_bytes_in_any_order(self):
        first = [as_bytes(simulate_recording(digit(), key=key)) for key in (1, 2, 3)]
        again = [as_bytes(simulate_recording(digit(), key=key)) for key in (3, 2, 1)][::-1]
        assert first == again

    def test_same_bytes_in_threads(self):
        alone = [as_bytes(simulate_recording(digit(), key=key)) for key in range(12)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda key: as_bytes(simulate_recording(digit(), key=key)), range(12)))
        assert alone == together

    def test_other_key_other_events(self):
        recordings = {as_bytes(simulate_recording(digit(), key=key)) for key in (0, 1, 2**32, 2**64 - 1)}
        assert len(recordings) == 4

    def test_room_for_events_changes_nothing(self):
        # More events than the first guess of 16 a pixel: the kernel is called twice.
        chosen = SimulatorSettings(threshold_on=0.01, threshold_off=0.01, refractory_us=0)
        image = np.random.default_rng(0).integers(0, 256, (10, 10), dtype=np.uint8)
        events = simulate_recording(image, key=1, settings=chosen, sensor_size=SensorSize(10, 10))
        assert len(events) > 16 * 100
        assert events.num_read == len(events)
        assert (np.diff(events.t) >= 0).all()


class TestArguments:
    @pytest.mark.parametrize("image", [np.zeros((3, 4, 3), np.uint8), np.zeros((3, 4)), np.zeros((0, 4), np.uint8)])
    def test_refuses_what_is_no_gray_image(self, image):
        with pytest.raises(ImageError, match=r"expected \(H, W\) of uint8"):
            simulate_recording(image, key=0)

    @pytest.mark.parametrize("size", [SensorSize(257, 10), SensorSize(10, 241), SensorSize(0, 10)])
    def test_refuses_a_sensor_that_no_file_holds(self, size):
        with pytest.raises(SpecError, match="1 x 1 to 256 x 240"):
            simulate_recording(digit(), key=0, sensor_size=size)

    def test_names_every_wrong_setting(self):
        with pytest.raises(SpecError, match=r"threshold_on 0.* threshold_spread 0.5 .* refractory_us -1 .* step_us 0"):
            SimulatorSettings(threshold_on=0.0, threshold_spread=0.5, refractory_us=-1, step_us=0)
        with pytest.raises(SpecError, match="threshold_off nan"):
            SimulatorSettings(threshold_off=float("nan"))

    def test_image_stays_as_it_is(self):
        image = digit()
        simulate_recording(image, key=0, settings=NMNIST_SETTINGS)
        assert (image == digit()).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    offset=st.tuples(st.floats(-300, 300), st.floats(-300, 300)),
    refractory=st.sampled_from([0, 1, 900, 100_000]),
    step=st.sampled_from([300, 1_000, 7_001, 300_000]),
)
def test_sorted_inside_and_read_back(seed, height, width, size, offset, refractory, step):
    image = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    chosen = SimulatorSettings(refractory_us=refractory, step_us=step, noise_rate_hz=2.0)
    sensor = SensorSize(*size)
    events = simulate_recording(image, key=seed, settings=chosen, sensor_size=sensor, offset=offset)
    assert (np.diff(events.t) >= 0).all()
    if len(events):
        assert events.t.min() >= 0
        assert events.t.max() < 300_000
        assert events.x.max() < sensor.width
        assert events.y.max() < sensor.height
        read = decode_atis(encode_atis(events), sensor_size=sensor)
        assert (read.to_array() == events.to_array()).all()
        assert not read.num_dropped
