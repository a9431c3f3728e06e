"""A sample of the bits that `python -m tests.faults.metadata_bits` flips, and what it would notice."""

from __future__ import annotations

import os
import signal

import pytest
from altered_caches import write_altered

from tests.faults.metadata_bits import STORAGES, Bits, Decoded, campaign, metadata_bytes, write_cache
from tmkt_data.cache.reader import Cache

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


@pytest.mark.parametrize("storage", STORAGES)
def test_a_flipped_bit_of_the_metadata_changes_nothing_or_is_one_line(storage, tmp_path):
    row = campaign(tmp_path, storage, every=1999, first=11)
    assert row["failures"] == []
    assert row["tries"] > 50
    assert row["verdicts"]["refused"] > 10
    assert row["verdicts"]["equal"] > 10


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("bits"), "plain")


def test_the_values_of_arrays_are_no_metadata(cache):
    offsets, whole = metadata_bytes(cache), cache.read_bytes()
    assert set(range(512)) < set(offsets)
    values = Decoded.of(cache).arrays["events/source_xxh3"].tobytes()
    place = whole.index(values)
    assert not set(range(place, place + len(values))) & set(offsets)


def bit_of_the_version(path):
    """Return a bit of the text that says which version wrote a cache; no data depend on it."""
    return 8 * path.read_bytes().index(Cache(path).info.tool_version.encode() + b"\0")


def verdicts(bits, numbers):
    return [verdict for _, verdict, _ in bits.verdicts(numbers)]


def test_other_data_and_tracebacks_are_noticed(cache, tmp_path):
    bits, at = Bits(cache), bit_of_the_version(cache)
    assert verdicts(bits, [at, 0, at + 1]) == ["equal", "refused", "equal"]

    def change(content):
        content.tables["events/t_last_us"][1] += 1

    bits._whole = write_altered(cache, tmp_path / "a.h5", change).read_bytes()
    assert verdicts(bits, [at, 0]) == ["wrong", "refused"]
    bits._expected = None
    assert verdicts(bits, [at]) == ["traceback"]


class Killed(Bits):
    """Tries of which those of bit 1 end with a signal."""

    def _try(self, bit, path):
        if bit == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._try(bit, path)


def test_a_signal_is_noticed_and_the_bits_after_it_are_tried(cache):
    assert verdicts(Killed(cache), [0, 1, 2, 1, 3]) == ["refused", "signal", "refused", "signal", "refused"]
