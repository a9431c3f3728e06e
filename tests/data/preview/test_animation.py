from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import trees
from PIL import Image

from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import SpecError
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.preview.animation import CELL, animate_pairs, write_animation
from tmkt_data.preview.colors import GROUND, OFF, ON, event_colors, gray_colors
from tmkt_data.preview.contact_sheet import shown_points
from tmkt_data.preview.sheet import EVENT_EDGE, IMAGE_EDGE, PAPER

STEPS, SIZE = 5, 34


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    root = trees.write_nmnist(tmp_path_factory.mktemp("animated"), per_digit=4, test_per_digit=1, digits=2)
    found = {}
    for name, choices in (
        ("counts", {"time_bins": STEPS}),
        ("voxels", {"time_bins": STEPS, "representation": "voxel"}),
        ("long", {"time_bins": 101, "size": 8}),
    ):
        path = root / f"{name}.h5"
        spec = dataclasses.replace(default_spec("nmnist"), **choices)
        for _ in prepare_cache(plan_prepare(open_catalogue("nmnist", root), spec, path)):
            pass
        found[name] = path
    return found


def cells(page, size):
    """The cells of a page from left to right, then down, at the size of their frames, and the color of their edges."""
    pixels, cell = np.asarray(page), -(-CELL // size) * size
    edges = (pixels[:, :, None] == [IMAGE_EDGE, EVENT_EDGE, (226, 228, 230)]).all(axis=-1).any(axis=-1)
    for top in range(len(pixels) - cell - 3):
        row = edges[top]
        for left in np.flatnonzero(row[: -cell - 3] & ~np.roll(row, 1)[: -cell - 3]).tolist():
            block = pixels[top : top + cell + 4, left : left + cell + 4]
            ring = np.concatenate([block[:2].reshape(-1, 3), block[-2:].reshape(-1, 3), block[:, 0], block[:, -1]])
            if block.shape[:2] == (cell + 4, cell + 4) and (ring == ring[0]).all() and tuple(ring[0]) != PAPER:
                inner, scale = block[2:-2, 2:-2], cell // size
                yield inner[::scale, ::scale], tuple(ring[0].tolist())


def test_each_step_shows_the_sides_and_the_mixed_sequence(caches):
    frames = PairedFrames(caches["counts"], pairing="twin", seed=2)
    pages = animate_pairs(frames, num_samples=2)
    assert len(pages) == STEPS
    positions, points = [0, len(frames) - 1], shown_points(2, STEPS)
    for step, page in enumerate(pages):
        found = list(cells(page, SIZE))
        assert len(found) == 6
        for place, (position, point) in enumerate(zip(positions, points, strict=True)):
            batch = frames.read([position])
            image = gray_colors(batch.image[0].mean(axis=1))[step]
            events = event_colors(batch.events[0])[step]
            shown, edges = zip(*found[3 * place : 3 * place + 3], strict=True)
            np.testing.assert_array_equal(shown[0], image)
            np.testing.assert_array_equal(shown[1], events)
            np.testing.assert_array_equal(shown[2], events if step + 1 >= point else image)
            assert edges[2] == (EVENT_EDGE if step + 1 >= point else IMAGE_EDGE)


@pytest.mark.parametrize("choices", [{"encoder": "saccade"}, {"encoder": "poisson"}, {"pairing": "none"}])
def test_any_image_side(caches, choices):
    for name in ("counts", "voxels"):
        frames = PairedFrames(caches[name], **choices)
        pages = animate_pairs(frames, num_samples=1)
        assert len({page.size for page in pages}) == 1
        assert len(list(cells(pages[0], SIZE))) == (1 if "pairing" in choices else 3)


@pytest.mark.parametrize("suffix", [".webp", ".gif"])
def test_the_file_plays_the_pictures(caches, tmp_path, suffix):
    pages = animate_pairs(PairedFrames(caches["counts"]), num_samples=2)
    path = tmp_path / f"pairs{suffix}"
    size = write_animation(path, pages, duration_ms=150)
    assert size == path.stat().st_size < 200_000
    assert write_animation(tmp_path / f"again{suffix}", pages, duration_ms=150) == size
    assert (tmp_path / f"again{suffix}").read_bytes() == path.read_bytes()
    with Image.open(path) as file:
        assert (file.n_frames, file.info["loop"], file.size) == (STEPS, 0, pages[0].size)
        for step, page in enumerate(pages):
            file.seek(step)
            shown, drawn = np.asarray(file.convert("RGB")).astype(int), np.asarray(page).astype(int)
            assert file.info["duration"] == 150
            if suffix == ".webp":
                np.testing.assert_array_equal(shown, drawn)
            for color in (PAPER, GROUND, ON, OFF, EVENT_EDGE):
                assert (shown[(drawn == color).all(axis=-1)] == color).all()
            assert np.abs(shown - drawn).max() <= 40


def test_many_steps_are_chosen_evenly(caches):
    assert len(animate_pairs(PairedFrames(caches["long"]), num_samples=1)) == 100


@pytest.mark.parametrize(
    ("name", "duration", "message"),
    [
        ("pairs.mp4", 200, r"pairs\.mp4: found suffix '\.mp4', expected '\.webp' or '\.gif'"),
        ("pairs.gif", 5, "duration of a step: found 5 ms, expected 20 to 10000"),
    ],
)
def test_it_refuses(tmp_path, name, duration, message):
    with pytest.raises(SpecError, match=message):
        write_animation(tmp_path / name, [Image.new("RGB", (2, 2))], duration_ms=duration)
    assert not list(tmp_path.iterdir())


def test_no_samples(caches):
    with pytest.raises(SpecError, match="samples of an animation: found 0, expected 1 or more"):
        animate_pairs(PairedFrames(caches["counts"]), num_samples=0)
