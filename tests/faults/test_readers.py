"""A short run of `python -m tests.faults.readers`, and what it would notice."""

from __future__ import annotations

import multiprocessing

import pytest

from tests.faults.readers import STORAGES, WAYS, Readers, campaign, write_cache

pytestmark = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system has no fork")


@pytest.mark.parametrize("storage", STORAGES[:2])
def test_every_reader_gets_its_rows(storage, tmp_path):
    row = campaign(tmp_path, storage, 240)
    assert row["ends"] == {way: {"equal": 80} for way in WAYS}


def test_other_rows_are_noticed(tmp_path):
    readers = Readers(write_cache(tmp_path, STORAGES[0]))
    readers._expected["events/frames"] = readers._expected["events/frames"][::-1]
    ends = readers.ends("fork", range(60))
    assert set(ends) == {"equal", "wrong"}
    assert ends.total() == 60
