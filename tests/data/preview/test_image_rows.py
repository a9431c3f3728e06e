"""Rows that show an image by every encoder, beside the recording that was made of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trees

from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.preview.colors import event_colors, gray_colors
from tmkt_data.preview.contact_sheet import build_sheet
from tmkt_data.preview.sheet import draw_sheet

SHOWN = ["own recording", "repeat", "poisson", "gradient", "saccade", "microsaccade"]


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


def rows_of(sheet):
    return [{row.label: row for row in group.rows} for group in sheet.groups]


@pytest.mark.parametrize("name", ["counts", "voxels"])
def test_every_encoder_has_a_row_below_the_recording_of_the_image(caches, name):
    frames = PairedFrames(caches[name])
    sheet = build_sheet(frames, num_samples=2, encoders=True)
    shown = [label for label in SHOWN if label != "baked"]
    if name == "counts":
        shown.insert(3, "baked")
    plain = build_sheet(frames, num_samples=2)
    for group, without in zip(sheet.groups, plain.groups, strict=True):
        labels = [row.label for row in group.rows]
        assert labels == [row.label for row in without.rows] + shown
    assert draw_sheet(sheet).height > draw_sheet(plain).height


@pytest.mark.parametrize("encoder", ["repeat", "poisson", "gradient", "saccade", "microsaccade"])
def test_a_row_shows_what_the_encoder_returns(caches, encoder):
    frames = PairedFrames(caches["counts"], encoder=encoder, seed=3)
    frames.set_epoch(2)
    shown = rows_of(build_sheet(frames, positions=[1, 4], encoders=True))
    batch = frames.read([1, 4])
    for at, rows in enumerate(shown):
        image = batch.image[at]
        imitates = encoder in ("gradient", "saccade", "microsaccade")
        expected = event_colors(image) if imitates else gray_colors(image.mean(axis=1))
        np.testing.assert_array_equal(rows[encoder].cells, expected)
        own = np.flatnonzero(frames.cache.tables["events/twin"] == batch.image_indices[at])
        events = frames.cache.event_frames(own)[0]
        np.testing.assert_array_equal(rows["own recording"].cells, event_colors(events))
        assert ("(inferred)" in rows[encoder].details) == imitates


def test_the_mixed_row_says_which_encoder_it_shows(caches):
    for encoder, text in (("saccade", "image saccade,"), ("poisson", "image spikes,"), ("repeat", "image repeated,")):
        frames = PairedFrames(caches["counts"], encoder=encoder)
        mixed = rows_of(build_sheet(frames, num_samples=1, replacement=3))[0]["mixed"]
        assert mixed.details[0] == text
        image = frames.read([len(frames) // 2]).image[0]
        colors = event_colors(image) if encoder == "saccade" else gray_colors(image.mean(axis=1))
        np.testing.assert_array_equal(mixed.cells[:2], colors[:2])


def test_no_images_have_no_rows(caches):
    frames = PairedFrames(caches["counts"], pairing="none")
    assert [len(group.rows) for group in build_sheet(frames, num_samples=1, encoders=True).groups] == [1]


def test_a_dataset_of_unknown_motion_has_no_camera_path(caches, monkeypatch):
    monkeypatch.setattr("tmkt_data.preview.image_rows.camera_of", lambda _: None)
    sheet = build_sheet(PairedFrames(caches["counts"]), num_samples=1, encoders=True)
    assert "saccade" not in rows_of(sheet)[0]
    assert "microsaccade" in rows_of(sheet)[0]
