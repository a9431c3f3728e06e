"""Encoders that move an image, from intensity kept at a larger size than the frames."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import trees
from conftest import build
from pictures import noise
from PIL import Image

from tmkt_data.cache.reader import Cache
from tmkt_data.cache.verify import verify_cache
from tmkt_data.datasets.cameras import CameraView, FrameLayout, camera_of
from tmkt_data.errors import CacheError, SpecError
from tmkt_data.images.log_intensity import Scene, change_response, saccade_frames
from tmkt_data.pairs.encoder_distance import compare_encoders
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.simulate.saccade import SaccadePath, paths_in_cells

PATH = np.array([[[0.3, -0.6], [-1.7, 1.2], [0.9, 0.1]]], np.float32)
ALL = np.arange(20)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return trees.write_nmnist(tmp_path_factory.mktemp("fine"), per_digit=12, test_per_digit=3, digits=4)


@pytest.fixture(scope="module")
def caches(root):
    return {k: build("nmnist", root, root / f"{k}.h5", size=17, time_bins=5, image_scale=k) for k in (1, 2, 3)}


def pooled(changes, side):
    """Means over squares in whole numbers, halves up."""
    *lead, height, width = changes.shape
    squares = changes.reshape(*lead, height // side, side, width // side, side)
    totals = squares.astype(np.int64).sum(axis=(-3, -1))
    return np.floor_divide(2 * totals + side**2, 2 * side**2)


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("side", [2, 3])
def test_changes_equal_naive_means_of_those_of_the_larger_image(side, num_channels):
    image = noise(12, 18, 4)[:, :, 0].copy()
    found = saccade_frames(
        np.stack([image, image[::-1]]), np.tile(PATH, (2, 1, 1)), 2, num_channels,
        response=change_response(num_channels), scene=Scene(pooled=side),
    )  # fmt: skip
    assert found.shape == (2, 2, num_channels, 12 // side, 18 // side)
    levels = np.log(0.1 + 0.9 * image / 255).astype(np.float32)
    fine = naive.path_changes(levels, [0, 12, 0, 18], PATH[0], 2, num_channels)
    np.testing.assert_array_equal(found[0], pooled(fine, side))


def test_sizes_that_cannot_be_pooled_are_refused():
    with pytest.raises(SpecError, match="intensities: found 5 x 6 cells, expected multiples of 2 to be pooled"):
        saccade_frames(np.zeros((1, 5, 6), np.uint8), PATH, 2, scene=Scene(pooled=2))


def test_the_cache_keeps_both_sizes_and_the_frames_stay(caches):
    plain, fine = Cache(caches[1]), Cache(caches[2])
    rows = np.arange(len(plain.image_ids))
    np.testing.assert_array_equal(plain.image_frames(rows), fine.image_frames(rows))
    np.testing.assert_array_equal(plain.finest_frames(rows), plain.image_frames(rows))
    assert fine.finest_frames(rows).shape == (len(rows), 34, 34)
    # The canvas of 34 x 34 pixels, with the digit at 3, 3.
    assert not fine.finest_frames(rows)[:, :3].any()
    np.testing.assert_array_equal(plain.event_frames(ALL), fine.event_frames(ALL))
    assert plain.info.digest != fine.info.digest
    assert caches[2].stat().st_size - caches[1].stat().st_size >= 34 * 34 * len(rows)


@pytest.mark.parametrize("k", [2, 3])
def test_saccades_are_means_over_the_larger_image_and_others_stay(caches, k):
    plain, fine = (PairedFrames(caches[key], "train", pairing="twin", encoder="saccade") for key in (1, k))
    cache, rows = fine.cache, fine.twins[ALL]
    scale = np.full((20, 2), 17 * k / 34)
    box = np.ceil(3 * 17 * k / 34), np.floor(31 * 17 * k / 34)
    boxes = np.tile(np.array([*box, *box], np.int32), (20, 1))
    paths = paths_in_cells(camera_of("nmnist").path, 5, scale)
    expected = saccade_frames(cache.finest_frames(rows), paths, 5, scene=Scene(boxes, True, k))
    np.testing.assert_array_equal(fine.read(ALL).image, expected * np.float32(fine.image_side.gain))
    assert (fine.read(ALL).image != plain.read(ALL).image).any()
    assert fine.read(ALL).image.shape == plain.read(ALL).image.shape
    for encoder in ("repeat", "poisson", "gradient"):
        one, other = (PairedFrames(caches[key], "train", encoder=encoder).read(ALL).image for key in (1, k))
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("encoder", ["saccade", "microsaccade", "gradient", "gradient-poisson"])
def test_the_border_of_an_image_is_no_edge(tmp_path, encoder, k):
    root = trees.write_nmnist(tmp_path, per_digit=2, test_per_digit=1, digits=2)
    for path in (root / "MNIST_png").rglob("*.png"):
        Image.new("L", (28, 28), 200).save(path)
    frames = PairedFrames(
        build("nmnist", root, tmp_path / "flat.h5", size=12, image_scale=k), "train", pairing="twin", encoder=encoder
    )
    assert not frames.read(np.arange(len(frames))).image.any()


def test_finer_shifts_come_nearer_to_the_finest():
    """The same picture at 1, 2 and 8 times the cells of a frame, along a path of half a cell."""
    finest = noise(96, 96, 1)[:, :, 0].astype(np.float64)
    for _ in range(30):
        finest = (finest + sum(np.roll(finest, step, axis) for step in (-1, 1) for axis in (0, 1))) / 5
    finest = np.rint(np.interp(finest, [finest.min(), finest.max()], [0, 255])).astype(np.uint8)
    path = paths_in_cells(SaccadePath(), 10, np.full((1, 2), 0.5 / 7))
    frames = {}
    for k in (1, 2, 8):
        side = 8 // k
        image = finest.reshape(12 * k, side, 12 * k, side).mean(axis=(1, 3)).round().astype(np.uint8)
        frames[k] = saccade_frames(image[None], path * np.float32(k), 10, scene=Scene(pooled=k))
    one, two = (np.corrcoef(frames[k].ravel(), frames[8].ravel())[0, 1] for k in (1, 2))
    assert two > one + 0.02


@pytest.mark.real_data
def test_real_recordings_of_digits_are_nearer(real_data, tmp_path):
    own = {}
    for k in (1, 2):
        path = build("nmnist", real_data / "nmnist", tmp_path / f"{k}.h5", size=12, image_scale=k)
        found = compare_encoders(PairedFrames(path, pairing="twin")).encoders
        own[k] = next(distance.own for distance in found if distance.encoder == "saccade")
    assert own == pytest.approx({1: 0.667, 2: 0.829}, abs=0.005)


def test_a_random_path_is_the_same_at_any_size(caches):
    images = [PairedFrames(caches[k], "train", pairing="twin", encoder="microsaccade").read(ALL).image for k in (1, 3)]
    scores = [np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(*images, strict=True)]
    crossed = [
        np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(images[0], images[1][::-1], strict=True)
    ]
    assert np.mean(scores) > 0.6 > np.mean(crossed)


def test_baked_saccades_are_those_of_the_larger_image(root):
    path = build("nmnist", root, root / "baked.h5", size=17, time_bins=5, image_scale=2, bake="saccade")
    drawn, stored = (
        PairedFrames(path, "train", pairing="twin", encoder=name).read(ALL).image for name in ("saccade", "baked")
    )
    assert min(np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(drawn, stored, strict=True)) > 0.999


def test_damage_is_found(caches, tmp_path):
    data = bytearray(caches[2].read_bytes())
    row = Cache(caches[2]).finest_frames([0])[0].tobytes()
    at = data.find(row)
    assert at > 0
    data[at + len(row) // 2] ^= 1
    (tmp_path / "damaged.h5").write_bytes(data)
    cache = Cache(tmp_path / "damaged.h5")
    with pytest.raises(CacheError, match="images/fine"):
        cache.finest_frames([0])
    with pytest.raises(CacheError, match=r"damaged\.h5"):
        list(verify_cache(tmp_path / "damaged.h5"))


def test_a_layout_at_a_larger_size_has_its_cells(caches):
    cache = Cache(caches[1])
    layout = FrameLayout.of(cache.spec, cache.info.facts)
    sizes = np.array([[28, 28]])
    np.testing.assert_allclose(layout._replace(pooled=3).cells_per_px(sizes, SaccadePath()), [[1.5, 1.5]])
    view = CameraView(camera_of("nmnist"), layout)
    assert view.changes(np.zeros((1, 51, 51), np.uint8), sizes, change_response(2)).shape == (1, 5, 2, 17, 17)
