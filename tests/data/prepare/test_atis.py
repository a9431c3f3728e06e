"""The short way from ATIS bytes to frames gives what the way by `Events` gives, or leaves the recording to it."""

import naive
import numpy as np
import pytest
import trees
from conftest import build
from hypothesis import given, settings
from hypothesis import strategies as st

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.registry import open_catalogue
from tmkt_data.errors import EventError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.atis import decode_atis
from tmkt_data.events.frames import FrameSpec, event_frames
from tmkt_data.events.read import load_events
from tmkt_data.kernels.atis import EXTENT_ROOM, atis_extent
from tmkt_data.prepare import recordings as prepare_recordings
from tmkt_data.prepare.atis import AtisCounter, has_fast_path, may_take_fast_path
from tmkt_data.spec import BIN_RULES, PrepareSpec

ROWS = st.lists(
    st.tuples(st.integers(0, 3000), st.integers(0, 255), st.integers(0, 255), st.booleans()), min_size=1, max_size=60
)
SIZES = st.sampled_from([SensorSize(240, 180), SensorSize(34, 34), SensorSize(256, 240), SensorSize(700, 600)])


def store_bytes(data, size, spec):
    """Return what was found and what was stored; None where the other way is to be taken."""
    stored = np.full((spec.time_bins, 2, spec.size, spec.size), 7, np.uint8 if spec.resize == "sum" else np.float16)
    found = AtisCounter(size, spec).store(np.frombuffer(data, np.uint8), stored)
    return None if found is None else (found, stored)


@settings(deadline=None, max_examples=300)
@given(
    rows=ROWS,
    in_order=st.booleans(),
    inside=st.integers(0, 3).map(bool),
    size=SIZES,
    spec=st.builds(
        PrepareSpec,
        time_bins=st.integers(1, 12),
        size=st.integers(4, 64),
        bin_rule=st.sampled_from(BIN_RULES),
        canvas=st.sampled_from(["fixed", "tight"]),
        resize=st.sampled_from(["sum", "bilinear", "area"]),
    ),
)
def test_both_ways_are_one(rows, in_order, inside, size, spec):
    if inside:
        rows = [(t, x % min(size.width, 256), y % min(size.height, 240), p) for t, x, y, p in rows]
    rows = sorted(rows, key=lambda row: row[0]) if in_order else rows
    data = naive.encode_atis(rows)
    found = store_bytes(data, size, spec)
    events = decode_atis(data, sensor_size=size)
    if events.num_inversions or events.num_dropped:
        assert found is None
        return
    assert found is not None
    result, stored = found
    facts, frames = result.facts, result.frames.reshape(stored.shape)
    whole = event_frames(
        events,
        FrameSpec(spec.time_bins, spec.size, spec.size, spec.bin_rule, spec.resize),
        canvas=spec.canvas,
        sensor_size=size,
    )
    np.testing.assert_array_equal(frames, whole.frames)
    assert frames.dtype == whole.frames.dtype
    np.testing.assert_array_equal(
        stored, np.minimum(frames, 255 if spec.resize == "sum" else np.inf).astype(stored.dtype)
    )
    assert result.largest == frames.max()
    assert result.num_outside_bins == whole.num_outside_bins
    assert (facts.t_first, facts.t_last, facts.num_read, facts.num_kept, facts.num_dropped, facts.num_inversions) == (
        events.t[0], events.t[-1], events.num_read, len(events), events.num_dropped, 0,
    )  # fmt: skip
    assert facts.extent == events.extent


@pytest.mark.parametrize("choices", [{}, {"resize": "bilinear"}, {"canvas": "tight"}])
def test_a_clock_that_goes_round_is_the_same_either_way(tmp_path, monkeypatch, choices):
    root = trees.write_nmnist(tmp_path / "n", per_digit=4, test_per_digit=2)
    for path in sorted((root / "N-MNIST").rglob("*.bin"))[::2]:
        rows, _ = naive.decode_atis(path.read_bytes(), 34, 34)
        path.write_bytes(naive.encode_atis([((t + 2**23 - 60_000) % 2**23, *rest) for t, *rest in rows]))
        wrapped = load_events(path)
        assert (wrapped.num_wraps, wrapped.num_inversions) == (1, 0)
        data = path.read_bytes()
        assert store_bytes(data, SensorSize(34, 34), PrepareSpec()) is None
    short = Cache(build("nmnist", root, tmp_path / "a.h5", **choices))
    monkeypatch.setattr(prepare_recordings, "has_fast_path", lambda *_: False)
    long = Cache(build("nmnist", root, tmp_path / "b.h5", **choices))
    assert short.info.digest == long.info.digest


@pytest.mark.parametrize("data", [b"", b"1234", b"123456", b"%" * 10, b"\x89HDF\r\n\x1a\n12"])
def test_other_bytes_are_left_to_the_other_way(data):
    found = store_bytes(data, SensorSize(240, 180), PrepareSpec())
    assert (found is None) == (data != b"%" * 10)


@pytest.mark.parametrize("name", ["nmnist", "ncaltech101"])
def test_caches_are_the_same_either_way(tmp_path, monkeypatch, name):
    if name == "nmnist":
        root = trees.write_nmnist(tmp_path / "n", per_digit=6, test_per_digit=2)
    else:
        root = trees.write_ncaltech(tmp_path / "n", {"airplanes": 8, "ant": 6})
    short = Cache(build(name, root, tmp_path / "a.h5"))
    monkeypatch.setattr(prepare_recordings, "has_fast_path", lambda *_: False)
    long = Cache(build(name, root, tmp_path / "b.h5"))
    assert short.info.digest == long.info.digest


@pytest.mark.parametrize(
    "choices",
    [
        {"representation": "voxel"}, {"shift_x": 1}, {"orientation": "flip-x"},
        {"polarity": "inverted"}, {"time_offset_us": 1}, {"refractory_us": 1}, {"hot_pixels": 2.0},
    ],
)  # fmt: skip
def test_what_moves_or_weighs_events_takes_the_other_way(nmnist_root, choices):
    catalogue = open_catalogue("nmnist", nmnist_root)
    source = catalogue.recordings[0]
    assert has_fast_path(catalogue, PrepareSpec())
    assert not has_fast_path(catalogue, PrepareSpec(**choices))
    assert may_take_fast_path(source)
    assert not may_take_fast_path(source._replace(shift=(1, 0)))
    assert not may_take_fast_path(source._replace(file="1.dat"))


def test_a_recording_of_another_set_is_refused_on_the_short_way_too(tmp_path):
    root = trees.write_nmnist(tmp_path / "n")
    path = next((root / "N-MNIST" / "Train").rglob("*.bin"))
    path.write_bytes(naive.encode_atis([(t, 200, 100, True) for t in range(90)] + [(99, 3, 3, True)]))
    with pytest.raises(EventError.__mro__[1], match="90 of 91 events lie outside the 34 x 34 sensor"):
        build("nmnist", root, tmp_path / "a.h5")


@settings(deadline=None)
@given(num_events=st.integers(1, 700), seed=st.integers(0, 2**32 - 1))
def test_the_extent_is_found_in_vectors_and_in_what_is_left_of_them(num_events, seed):
    rng = np.random.default_rng(seed)
    events = rng.integers(0, 256, (num_events, 5), dtype=np.uint8)
    # Few events at the edge, so that each vector and each rest decides now and then.
    events[:, :2] = np.where(rng.random((num_events, 2)) < 2 / num_events, events[:, :2], events[:, :2] // 8 + 100)
    x, y, times = events[:, 0], events[:, 1], np.r_[events[0, 2:], events[-1, 2:]].astype(int)
    t_first, t_last = ((high & 127) << 16 | mid << 8 | low for high, mid, low in times.reshape(2, 3))
    assert atis_extent(events.reshape(-1), np.empty(EXTENT_ROOM, np.uint8)) == (
        x.min(),
        y.min(),
        x.max(),
        y.max(),
        t_first,
        t_last,
        (events[:, 2] < 128).any() | (events[:, 2] >= 128).any() << 1,
    )
