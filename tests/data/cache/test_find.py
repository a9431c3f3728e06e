from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tmkt_data.cache.find import cache_directory, caches_in, default_cache_path, user_cache_directory
from tmkt_data.spec import PrepareSpec


def test_caches_are_found_by_dataset_and_damaged_ones_passed_over(nmnist_cache, tmp_path):
    shutil.copy(nmnist_cache, tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(nmnist_cache.read_bytes()[:-10])
    assert [info.path.name for info in caches_in(tmp_path, "nmnist")] == ["a.h5"]
    assert caches_in(tmp_path, "digits") == []
    assert caches_in(tmp_path / "nowhere", "digits") == []


def test_the_home_folder_is_understood(monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", "~/caches")
    assert cache_directory() == Path.home() / "caches"


def test_a_cache_is_named_by_what_it_holds(monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", "here")
    path = default_cache_path("digits", PrepareSpec(time_bins=4, size=48), "0123456789abcdef")
    assert path == Path("here/digits-t4-48x48-sum-01234567.h5")


def test_a_variable_comes_before_the_project_and_the_project_before_the_user(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TMKT_CACHES", raising=False)
    assert cache_directory() == user_cache_directory()
    assert not cache_directory().exists()
    (tmp_path / "caches").write_text("no folder")
    assert cache_directory() == user_cache_directory()
    (tmp_path / "caches").unlink()
    (tmp_path / "caches").mkdir()
    assert cache_directory() == Path("caches")
    monkeypatch.setenv("TMKT_CACHES", "elsewhere")
    assert cache_directory() == Path("elsewhere")
    monkeypatch.setenv("TMKT_CACHES", "")
    assert cache_directory() == Path("caches")


@pytest.mark.parametrize(
    ("platform", "variables", "folder"),
    [
        ("linux", {}, "~/.cache/tmkt"),
        ("linux", {"XDG_CACHE_HOME": "/scratch"}, "/scratch/tmkt"),
        ("linux", {"XDG_CACHE_HOME": "scratch"}, "~/.cache/tmkt"),
        ("darwin", {"XDG_CACHE_HOME": "/scratch"}, "~/Library/Caches/tmkt"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/tmkt/Cache"),
        ("win32", {}, "~/AppData/Local/tmkt/Cache"),
    ],
)
def test_each_platform_has_its_place(platform, variables, folder):
    assert user_cache_directory(platform, variables) == Path(folder).expanduser()
