from __future__ import annotations

import shutil
from pathlib import Path

from tmkt_data.cache.find import cache_directory, default_cache_path, find_caches
from tmkt_data.spec import PrepareSpec


def test_caches_are_found_by_dataset_and_damaged_ones_passed_over(nmnist_cache, tmp_path):
    shutil.copy(nmnist_cache, tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(nmnist_cache.read_bytes()[:-10])
    assert [info.path.name for info in find_caches("nmnist", tmp_path)] == ["a.h5"]
    assert find_caches("digits", tmp_path) == []
    assert find_caches("digits", tmp_path / "nowhere") == []


def test_the_home_folder_is_understood(monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", "~/caches")
    assert cache_directory() == Path.home() / "caches"


def test_a_cache_is_named_by_what_it_holds(monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", "here")
    path = default_cache_path("digits", PrepareSpec(time_bins=4, size=48), "0123456789abcdef")
    assert path == Path("here/digits-t4-48x48-sum-01234567.h5")
