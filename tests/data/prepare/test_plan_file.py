"""A plan that is read from a file is the plan that was written, and refuses sources that changed since."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from tmkt_data.datasets.completeness import NOTHING_DECLARED
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import CacheError, CatalogueError
from tmkt_data.events.events import SensorSize, Window
from tmkt_data.events.read import Reading
from tmkt_data.prepare.plan_file import read_plan, write_plan

SPEC = default_spec("nmnist")


@pytest.fixture
def root(nmnist_root, tmp_path):
    return shutil.copytree(nmnist_root, tmp_path / "root")


def written(root, tmp_path, name="plan", **changes):
    catalogue = dataclasses.replace(open_catalogue("nmnist", root), **changes)
    return write_plan(tmp_path / name, catalogue, SPEC, tmp_path / "x.h5", 3)


def test_a_plan_is_read_as_it_was_written(root, tmp_path, monkeypatch):
    reading = Reading(sensor_size=SensorSize(34, 34), unit="ms", columns="txyp", stream=2)
    window = Window(1, 2, SensorSize(30, 20))
    monkeypatch.chdir(root.parent)
    plan = written(root.relative_to(tmp_path), tmp_path, reading=reading, window=window, is_centered=True, expected=9)
    monkeypatch.chdir("/")
    read = read_plan(tmp_path / "plan").plan
    listed = dataclasses.replace(plan.whole.catalogue, declared=NOTHING_DECLARED)
    assert read.whole == dataclasses.replace(plan.whole, catalogue=listed)
    assert read.num_shards == plan.num_shards == 3
    assert (read.whole.catalogue.reading, read.whole.catalogue.window) == (reading, window)
    assert all(source.path.is_file() for source in read.whole.catalogue.recordings)
    again = written(root, tmp_path, "again", reading=reading, window=window, is_centered=True, expected=9)
    assert again.whole.key == plan.whole.key
    assert (tmp_path / "again").read_bytes() == (tmp_path / "plan").read_bytes()


def test_a_source_that_changes_between_plan_and_shard_is_named(root, tmp_path):
    written(root, tmp_path)
    given = read_plan(tmp_path / "plan")
    source = given.plan.shard(1).catalogue.images[2]
    source.path.write_bytes(source.path.read_bytes() + b"x")
    given.require_unchanged(0)
    given.require_unchanged(2)
    with pytest.raises(CacheError) as refused:
        given.require_unchanged(1)
    assert str(refused.value) == (
        f"{source.path}: was changed since {tmp_path / 'plan'} was written (1 file of shard 2/3); "
        "make the plan again with tmkt-data plan"
    )
    source.path.unlink()
    with pytest.raises(CatalogueError, match="it was there a moment ago"):
        given.require_unchanged(1)


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"PK\x03\x04" + b"x" * 100])
def test_other_files_are_no_plan(tmp_path, data):
    (tmp_path / "plan").write_bytes(data)
    with pytest.raises(CacheError, match="plan: not a plan, or a damaged one") as refused:
        read_plan(tmp_path / "plan")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_damaged_plan_is_refused(root, tmp_path, share):
    written(root, tmp_path)
    data = bytearray((tmp_path / "plan").read_bytes())
    data[int(len(data) * share)] ^= 0x10
    (tmp_path / "plan").write_bytes(data)
    with pytest.raises(CacheError, match="make it again with tmkt-data plan"):
        read_plan(tmp_path / "plan")


def test_a_plan_of_another_version_is_refused(root, tmp_path, monkeypatch):
    written(root, tmp_path)
    monkeypatch.setattr("tmkt_data.prepare.plan.SPLIT_RULES", "other rules")
    with pytest.raises(CacheError, match="a plan of another version of tmkt"):
        read_plan(tmp_path / "plan")
    with pytest.raises(CacheError, match="no such file"):
        read_plan(tmp_path / "none")
