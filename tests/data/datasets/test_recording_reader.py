"""Bytes that decode but are no recording of the sensor: each is refused with one line."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from conftest import build

from tmkt_data.datasets.recording_reader import require_plausible
from tmkt_data.errors import EventError, TmktError
from tmkt_data.events.events import EVENT_DTYPE, SensorSize
from tmkt_data.events.summary import RecordingFacts


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (RecordingFacts(), "a.npy: no events, expected one or more; leave the file out"),
        (
            RecordingFacts(num_read=12, num_dropped={"sync events": 9, "frame and IMU words": 3}),
            "a.npy: no events among 12 words (9 sync events, 3 frame and IMU words), expected one or more; leave the",
        ),
        (
            RecordingFacts(num_read=9, num_dropped={"outside the sensor": 9}),
            "a.npy: 9 of 9 events lie outside the 34 x 34 sensor; it is damaged or of another dataset, fetch it again",
        ),
        (RecordingFacts(num_kept=20, num_inversions=3), "a.npy: time steps back 3 times in 20 events; it is damaged"),
    ],
)
def test_what_is_no_recording_is_one_line(facts, message):
    with pytest.raises(EventError) as refused:
        require_plausible(facts, SensorSize(34, 34), "a.npy")
    assert str(refused.value).startswith(message)


def test_an_empty_recording_of_a_folder_is_said_to_be_empty(tmp_path):
    events = tmp_path / "own" / "events" / "a"
    events.mkdir(parents=True)
    (tmp_path / "own" / "tmkt.toml").write_text('sensor_size = [34, 34]\nimages = ""\n')
    np.save(events / "0.npy", np.zeros(0, EVENT_DTYPE))
    (events / "1.bin").write_bytes(naive.encode_atis([(5, 1, 2, True)]))
    with pytest.raises(TmktError, match=r"0\.npy: no events, expected one or more; leave the file out"):
        build("folder", tmp_path / "own", tmp_path / "a.h5")
