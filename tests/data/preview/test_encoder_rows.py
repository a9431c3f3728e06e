"""Rows that show an image by every encoder, beside the recording that was made of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trees

from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.pairs.image_side import served_sides
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.preview.colors import event_colors, gray_colors
from tmkt_data.preview.contact_sheet import draw_pairs, pair_rows

SHOWN = ["own recording", "repeat", "poisson", "gradient", "gradient-poisson", "saccade", "microsaccade"]


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    root = trees.write_nmnist(tmp_path_factory.mktemp("rows"), per_digit=8, test_per_digit=2, digits=2)
    found = {}
    for name, choices in (("counts", {"bake": "poisson"}), ("voxels", {"representation": "voxel"})):
        spec = dataclasses.replace(default_spec("nmnist"), time_bins=4, **choices)
        path = root / f"{name}.h5"
        for _ in prepare_cache(plan_prepare(open_catalogue("nmnist", root), spec, path)):
            pass
        found[name] = path
    return found


def rows_of(frames, position):
    sides, _ = served_sides(frames.cache, frames.scale, frames.image_side.measured)
    return {row.label: row for row in pair_rows(frames, position, 3, sides)}


@pytest.mark.parametrize("name", ["counts", "voxels"])
def test_every_encoder_has_a_row_below_the_recording_of_the_image(caches, name):
    frames = PairedFrames(caches[name])
    shown = [*SHOWN[:3], "baked", *SHOWN[3:]] if name == "counts" else SHOWN
    assert list(rows_of(frames, 1))[4:] == shown
    assert draw_pairs(frames, encoders=True).height > draw_pairs(frames).height


@pytest.mark.parametrize("encoder", ["repeat", "poisson", "gradient", "gradient-poisson", "saccade", "microsaccade"])
def test_a_row_shows_what_the_encoder_returns(caches, encoder):
    frames = PairedFrames(caches["counts"], encoder=encoder, seed=3)
    frames.set_epoch(2)
    batch = frames.read([1, 4])
    for at, position in enumerate([1, 4]):
        image, rows = batch.image[at], rows_of(frames, position)
        imitates = encoder in ("gradient", "gradient-poisson", "saccade", "microsaccade")
        expected = event_colors(image) if imitates else gray_colors(image.mean(axis=1))
        np.testing.assert_array_equal(rows[encoder].cells, expected)
        np.testing.assert_array_equal(rows["mixed"].cells[:2], expected[:2])
        assert rows["mixed"].details[0] == f"image {encoder},"
        own = np.flatnonzero(frames.cache.tables["events/twin"] == batch.image_indices[at])
        events = frames.cache.event_frames(own)[0]
        np.testing.assert_array_equal(rows["own recording"].cells, event_colors(events))
        assert ("(inferred)" in rows[encoder].details) == imitates


def test_the_gain_of_an_encoder_is_that_of_the_pairs_in_every_split(caches):
    frames = PairedFrames(caches["counts"], "test", encoder="gradient")
    shown = rows_of(frames, 0)["gradient"].cells
    np.testing.assert_array_equal(shown, event_colors(frames.read([0]).image[0]))


def test_no_images_have_no_rows(caches):
    frames = PairedFrames(caches["counts"], pairing="none")
    assert draw_pairs(frames, encoders=True).height == draw_pairs(frames).height


def test_a_dataset_of_unknown_motion_has_no_camera_path(caches, monkeypatch):
    monkeypatch.setattr("tmkt_data.datasets.cameras.camera_of", lambda _: None)
    rows = rows_of(PairedFrames(caches["counts"]), 1)
    assert "saccade" not in rows
    assert "microsaccade" in rows
