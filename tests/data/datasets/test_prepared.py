"""Caches of a dataset, those of today's simulated camera first."""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import trees
from altered_caches import write_altered
from conftest import build

from tmkt_data import PairedFrames, find_caches
from tmkt_data.datasets.digits_source import write_digits
from tmkt_data.datasets.registry import default_spec, is_recorded_as_now, open_catalogue
from tmkt_data.prepare.build import prepare_shards
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.prepare.shards import ShardedPlan


def forget_camera(content):
    facts = json.loads(content.header["facts"])
    assert facts.pop("recorded_with")
    content.header["facts"] = json.dumps(facts)


def write_source(name, root):
    root.mkdir()
    if name == "digits":
        list(write_digits(root, per_class=2))
        return root
    for part in ("train", "t10k"):
        trees.write_mnist_idx(root, [number % 10 for number in range(20)], part=part)
    return root


@pytest.mark.parametrize("name", ["digits", "fashion"])
def test_caches_of_an_earlier_camera_are_last_whenever_they_were_written(name, tmp_path):
    caches = tmp_path / "caches"
    now, earlier = caches / "b.h5", caches / "a.h5"
    caches.mkdir()
    build(name, write_source(name, tmp_path / "source"), now, size=12, time_bins=2)
    write_altered(now, earlier, forget_camera)
    shutil.copy(now, caches / "c.h5")
    for last, first in ((earlier, now), (now, earlier)):
        os.utime(first, (1, 1))
        os.utime(last)
        found = find_caches(name, caches)
        assert [info.path.name for info in found] == ["b.h5", "c.h5", "a.h5"]
        assert [is_recorded_as_now(info) for info in found] == [True, True, False]
    np.testing.assert_array_equal(PairedFrames(earlier).read([0, 1]).events, PairedFrames(now).read([0, 1]).events)


def test_caches_of_real_recordings_are_sorted_by_name(nmnist_cache, tmp_path):
    for name in "ba":
        shutil.copy(nmnist_cache, tmp_path / f"{name}.h5")
    assert [info.path.name for info in find_caches("nmnist", tmp_path)] == ["a.h5", "b.h5"]
    assert find_caches("no-dataset", tmp_path) == []


def test_the_index_of_shards_says_which_camera_recorded(tmp_path):
    catalogue = open_catalogue("digits", write_source("digits", tmp_path / "source"))
    plan = ShardedPlan(plan_prepare(catalogue, default_spec("digits"), tmp_path / "digits.h5"), 2)
    for _ in prepare_shards(plan, [0, 1]):
        pass
    (index,) = find_caches("digits", tmp_path)
    assert index.shards is not None
    assert is_recorded_as_now(index)
