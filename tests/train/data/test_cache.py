"""The camera of a recipe, as the pairs of its cache see it."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pytest
from altered_caches import write_altered
from pydantic import ValidationError

from tmkt_data.datasets.cameras import camera_of
from tmkt_train.data.cache import choose_cache, open_frames
from tmkt_train.errors import RunError

from ..conftest import TINY_TABLES, make_recipe


def images_of(cache, **changes):
    recipe = make_recipe(method__name="tmkt", data__image_encoding="saccade", data__event_scale="raw", **changes)
    return open_frames(recipe, cache, "train").read(np.arange(4)).image


def test_the_camera_of_the_dataset_is_the_default(tiny_cache):
    corners = [list(corner) for corner in camera_of("digits").path.corners]
    table = {"corners": corners, "negative": True}
    np.testing.assert_array_equal(images_of(tiny_cache), images_of(tiny_cache, data__camera=table))
    positive = images_of(tiny_cache, data__camera={"corners": corners})
    assert (images_of(tiny_cache) != positive).any()


@pytest.mark.parametrize("path", [{}, {"corners": [[0, 0], [4, 0]]}])
def test_a_threshold_makes_whole_counts_of_either_camera(tiny_cache, path):
    few, many = (images_of(tiny_cache, data__camera=path | {"threshold": value}) for value in (0.8, 0.2))
    np.testing.assert_array_equal(many, np.trunc(many))
    assert 0 < few.mean() < many.mean()


@pytest.mark.parametrize("path", [{}, {"corners": [[0, 0], [4, 0]]}])
def test_background_activity_comes_on_top_for_either_camera(tiny_cache, path):
    clean, noisy = (images_of(tiny_cache, data__camera=path | {"background_rate": rate}) for rate in (0.0, 0.5))
    assert noisy.mean(dtype=np.float64) == pytest.approx(clean.mean(dtype=np.float64) + 0.5, rel=0.05)


def test_background_activity_of_another_encoder_is_refused():
    text = "data.camera.background_rate: found 0.5, expected 0 with data.image_encoding = 'gradient'"
    with pytest.raises(ValidationError, match=re.escape(text)):
        make_recipe(data__image_encoding="gradient", data__camera={"background_rate": 0.5})


def test_a_cache_that_keeps_intensity_too_small_is_refused_only_where_it_is_read(tiny_cache):
    tables = dict(TINY_TABLES["data"]["prepare"]) | {"image_scale": 2}
    saccade, repeat = (
        make_recipe(data__image_encoding=encoder, data__prepare=tables) for encoder in ("saccade", "repeat")
    )
    with pytest.raises(RunError, match=r"image_scale is 1, expected 2; make the right one with: .*--image-scale 2"):
        choose_cache(saccade, tiny_cache)
    assert choose_cache(repeat, tiny_cache).path == tiny_cache


def test_caches_of_todays_camera_are_taken_before_those_of_an_earlier_one(tiny_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path))
    recipe, earlier, now = make_recipe(), tmp_path / "digits-a.h5", tmp_path / "digits-b.h5"

    def forget_camera(content):
        facts = json.loads(content.header["facts"])
        assert facts.pop("recorded_with")
        content.header["facts"] = json.dumps(facts)

    write_altered(tiny_cache, earlier, forget_camera)
    assert choose_cache(recipe).path == earlier
    shutil.copy(tiny_cache, now)
    for last, first in ((earlier, now), (now, earlier)):
        os.utime(first, (1, 1))
        os.utime(last)
        assert choose_cache(recipe).path == now
    assert choose_cache(recipe, earlier).path == earlier
    shutil.copy(tiny_cache, tmp_path / "digits-c.h5")
    with pytest.raises(RunError, match=r"found 2 caches that fit, .*digits-b\.h5, .*digits-c\.h5; choose one with"):
        choose_cache(recipe)


def test_recordings_without_images_need_no_camera(tiny_cache):
    recipe = make_recipe(method__name="event-only", data__camera={"corners": [[0, 0], [4, 0]], "threshold": 0.2})
    assert open_frames(recipe, tiny_cache, "train").camera is None
