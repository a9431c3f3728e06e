from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from tmkt_data.events.formats.atis import read_atis
from tmkt_data.images.decode import read_image
from tmkt_data.pairs import alignment
from tmkt_data.pairs.alignment import best_correlation, event_density, image_gradient, saccade_displacement


def pearson(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


class TestSaccade:
    def test_corners_and_middles(self):
        # DATASETS 2.6.
        dx, dy = saccade_displacement(np.array([0, 52_500, 105_000, 157_500, 210_000, 262_500, 315_000]))
        assert dx.tolist() == [0, 1.75, 3.5, 5.25, 7.0, 3.5, 0]
        assert dy.tolist() == [0, 3.5, 7.0, 3.5, 0, 0, 0]

    def test_equals_the_table_piece_by_piece(self):
        t = np.linspace(0, 315_000, 1001)
        u = np.where(t <= 105_000, t, np.where(t <= 210_000, t - 105_000, t - 210_000)) / 105_000
        dx = np.where(t <= 105_000, 3.5 * u, np.where(t <= 210_000, 3.5 + 3.5 * u, 7 - 7 * u))
        dy = np.where(t <= 105_000, 7 * u, np.where(t <= 210_000, 7 - 7 * u, 0))
        found = saccade_displacement(t)
        np.testing.assert_allclose(found[0], dx, atol=1e-9)
        np.testing.assert_allclose(found[1], dy, atol=1e-9)

    def test_rests_before_and_after(self):
        dx, dy = saccade_displacement(np.array([-1.0, 400_000.0]))
        assert dx.tolist() == dy.tolist() == [0, 0]


class TestDensity:
    def test_sums_all_bins_and_channels(self):
        frames = np.zeros((3, 2, 15, 15), np.float32)
        frames[0, 0, 7, 7], frames[2, 1, 7, 7] = 2, 3
        density = event_density(frames)
        assert density.shape == (15, 15)
        assert density.sum() == pytest.approx(5, rel=1e-6)
        assert np.unravel_index(density.argmax(), density.shape) == (7, 7)

    def test_signed_frames_do_not_cancel(self):
        frames = np.zeros((2, 1, 9, 9), np.float32)
        frames[0, 0, 4, 4], frames[1, 0, 4, 4] = 1, -1
        assert event_density(frames).sum() == pytest.approx(2, rel=1e-6)

    def test_the_motion_is_taken_out(self):
        frames = np.zeros((3, 2, 20, 20), np.float32)
        for k, (right, down) in enumerate([(0, 0), (2, 1), (4, -3)]):
            frames[k, 1, 9 + down, 8 + right] = 1
        density = event_density(frames, np.array([0.0, 2.0, 4.0]), np.array([0.0, 1.0, -3.0]))
        still = np.zeros((1, 1, 20, 20), np.float32)
        still[0, 0, 9, 8] = 3
        np.testing.assert_allclose(density, event_density(still), atol=1e-9)

    def test_one_axis_alone_is_no_motion(self):
        frames = np.random.default_rng(0).random((2, 2, 6, 6)).astype(np.float32)
        for motion in [(np.ones(2), None), (None, np.ones(2))]:
            np.testing.assert_array_equal(event_density(frames, *motion), event_density(frames))

    def test_a_displacement_for_each_bin_is_needed(self):
        frames = np.ones((3, 2, 6, 6), np.float32)
        for dx, dy in [(np.zeros(2), np.zeros(3)), (np.zeros(3), np.zeros(2)), (np.zeros(2), np.zeros(2))]:
            with pytest.raises(ValueError, match="zip"):
                event_density(frames, dx, dy)

    def test_the_input_is_untouched(self):
        frames = np.random.default_rng(0).random((2, 2, 6, 6)).astype(np.float32)
        before = frames.copy()
        event_density(frames, np.ones(2), np.ones(2))
        np.testing.assert_array_equal(frames, before)


class TestGradient:
    def test_an_edge_is_where_the_gradient_is(self):
        image = np.zeros((12, 20), np.uint8)
        image[:, 10:] = 255
        gradient = image_gradient(image)
        assert gradient.shape == (12, 20)
        assert set(gradient.argmax(axis=1).tolist()) <= {9, 10}
        assert gradient[:, :4].max() < 1e-6

    def test_a_flat_image_has_none(self):
        assert not image_gradient(np.full((9, 9), 201, np.uint8)).any()

    def test_many_at_once_are_each_alone(self):
        images = np.random.default_rng(3).integers(0, 256, (5, 9, 7), np.uint8)
        np.testing.assert_array_equal(image_gradient(images), np.stack([image_gradient(image) for image in images]))

    def test_no_byte_wraps(self):
        image = np.zeros((12, 20), np.uint8)
        image[:, 10:] = 255
        np.testing.assert_allclose(image_gradient(image), image_gradient(255 - image), atol=1e-9)


class TestBesideScipy:
    """The three functions of scipy.ndimage that tmkt_data does without."""

    @settings(deadline=None, max_examples=60)
    @given(seed=st.integers(0, 10_000), height=st.integers(1, 40), width=st.integers(1, 40))
    def test_maps_and_gradients_are_equal(self, seed, height, width):
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (height, width), np.uint8)
        expected = ndimage.gaussian_gradient_magnitude(image.astype(np.float64), 1.0)
        np.testing.assert_allclose(image_gradient(image), expected, rtol=1e-9, atol=1e-9)
        frames = rng.random((3, 2, height, width)).astype(np.float32)
        dx, dy = np.concatenate([rng.uniform(-9, 9, (2, 2)), rng.integers(-3, 4, (2, 1))], axis=1)
        steps = frames.sum(axis=1, dtype=np.float64)
        moved = sum(ndimage.shift(step, (-b, -a), order=1) for step, a, b in zip(steps, dx, dy, strict=True))
        np.testing.assert_allclose(event_density(frames, dx, dy), ndimage.gaussian_filter(moved, 0.7), atol=1e-12)

    @pytest.mark.parametrize("sigma", [0.6, 1.0, 2.5])
    @pytest.mark.parametrize("axis", [0, 1])
    def test_slopes_are_equal_for_any_width(self, sigma, axis):
        values = np.random.default_rng(0).random((30, 20))
        expected = ndimage.gaussian_filter1d(values, sigma, axis, order=1)
        np.testing.assert_allclose(alignment._gaussian(values, sigma, axis, slope=True), expected, atol=1e-12)


class TestCorrelation:
    @settings(deadline=None, max_examples=50)
    @given(
        seed=st.integers(0, 10_000), max_shift=st.integers(0, 3), height=st.integers(7, 12), width=st.integers(7, 12)
    )
    def test_equals_pearson_at_the_best_circular_shift(self, seed, max_shift, height, width):
        rng = np.random.default_rng(seed)
        density, others = rng.random((height, width)), rng.random((3, height, width))
        shifts = range(-max_shift, max_shift + 1)
        expected = [
            max(pearson(np.roll(density, (a, b), (0, 1)), other) for a in shifts for b in shifts) for other in others
        ]
        np.testing.assert_allclose(best_correlation(density, others, max_shift), expected, atol=1e-9)

    def test_a_shifted_copy_is_found_within_the_reach_only(self):
        density = np.random.default_rng(0).random((12, 12))
        moved = np.roll(density, (2, -3), (0, 1))
        assert best_correlation(density, moved[None], 3)[0] == pytest.approx(1)
        assert best_correlation(density, moved[None], 2)[0] < 0.9

    def test_three_cells_are_the_reach_unless_another_is_given(self):
        density = np.random.default_rng(0).random((12, 12))
        for shift in [(3, 3), (-3, -3), (0, 3), (-3, 0)]:
            assert best_correlation(density, np.roll(density, shift, (0, 1))[None])[0] == pytest.approx(1)
        for shift in [(4, 0), (0, -4)]:
            assert best_correlation(density, np.roll(density, shift, (0, 1))[None])[0] < 0.9

    @pytest.mark.parametrize("size", [(1, 1), (1, 3), (2, 2)])
    def test_shifts_may_go_round_a_small_map_more_than_once(self, size):
        rng = np.random.default_rng(1)
        density, other = rng.random(size), rng.random(size)
        shifts = range(-5, 6)
        expected = max(
            ((a := np.roll(density - density.mean(), (down, right), (0, 1))) * (other - other.mean())).sum()
            / max(np.linalg.norm(a) * np.linalg.norm(other - other.mean()), 1e-300)
            for down in shifts
            for right in shifts
        )
        assert best_correlation(density, other[None], 5)[0] == pytest.approx(expected, abs=1e-9)

    def test_scale_and_offset_do_not_matter(self):
        density = np.random.default_rng(0).random((6, 6))
        assert best_correlation(density, 7 * density[None] + 3, 0)[0] == pytest.approx(1)
        assert best_correlation(1e-6 * density, 1e-6 * density[None], 0)[0] == pytest.approx(1)

    @pytest.mark.parametrize("value", [0.0, 3.0])
    def test_a_constant_map_correlates_with_nothing(self, value):
        density = np.random.default_rng(0).random((6, 6))
        flat = np.full((6, 6), value)
        assert best_correlation(density, np.stack([flat, density]), 0).tolist() == [0.0, pytest.approx(1)]
        assert best_correlation(flat, density[None], 1).tolist() == [0.0]


def still_map(path):
    events = read_atis(path)
    dx, dy = saccade_displacement(events.t.astype(np.float64))
    x, y = np.rint(events.x - dx).astype(int), np.rint(events.y - dy).astype(int)
    inside = (x >= 0) & (x < 28) & (y >= 0) & (y < 28)
    frames = np.zeros((1, 1, 28, 28), np.float32)
    np.add.at(frames[0, 0], (y[inside], x[inside]), 1)
    return event_density(frames)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("part", "own_mean", "own_min", "shifted_mean"),
    [("Train", 0.868, 0.818, 0.499), ("Test", 0.876, 0.754, 0.508)],
)
def test_recordings_of_digits_lie_on_their_own_image(real_data, part, own_mean, own_min, shifted_mean):
    # DATASETS 9.2.
    paths = sorted((real_data / "nmnist/N-MNIST" / part).glob("*/*.bin"), key=lambda path: path.stem)
    pictures = [real_data / "nmnist/MNIST_png" / part / path.parent.name / f"{path.stem}.png" for path in paths]
    gradients = np.stack([image_gradient(read_image(picture)[:, :, 0]) for picture in pictures])
    others = np.roll(gradients, -1, axis=0)
    scores = np.array(
        [
            best_correlation(still_map(path), np.stack([own, other]))
            for path, own, other in zip(paths, gradients, others, strict=True)
        ]
    )
    own, shifted = scores.T
    assert own.mean() > 0.85
    assert shifted.mean() < 0.60
    assert own.mean() == pytest.approx(own_mean, abs=0.002)
    assert own.min() == pytest.approx(own_min, abs=0.005)
    assert shifted.mean() == pytest.approx(shifted_mean, abs=0.01)


@pytest.mark.real_data
def test_own_image_is_the_best_of_nearly_all_test_images(real_data):
    paths = sorted((real_data / "nmnist/N-MNIST/Test").glob("*/*.bin"), key=lambda path: path.stem)
    pictures = [real_data / "nmnist/MNIST_png/Test" / path.parent.name / f"{path.stem}.png" for path in paths]
    gradients = np.stack([image_gradient(read_image(picture)[:, :, 0]) for picture in pictures])
    table = np.stack([best_correlation(still_map(path), gradients) for path in paths])
    assert (table.argmax(axis=1) == np.arange(50)).sum() == 48
    without_own = table[~np.eye(50, dtype=bool)]
    assert without_own.mean() < 0.60


@pytest.fixture(scope="module")
def face(real_data):
    events = read_atis(real_data / "ncaltech101/Caltech101/Faces_easy/image_0001.bin")
    counts = np.zeros((1, 1, 173, 151), np.float32)
    np.add.at(counts[0, 0], (events.y, events.x), 1)
    rgb = read_image(real_data / "caltech101/101_ObjectCategories/Faces_easy/image_0001.jpg")
    gray = Image.fromarray(rgb).convert("L").resize((151, 173), Image.Resampling.BILINEAR)
    return counts, np.asarray(gray)


FLIPS = {
    "upright": lambda image: image,
    "left-right": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "rotated": lambda image: image[::-1, ::-1],
}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("flip", "best", "unmoved"),
    [
        ("upright", 0.511, 0.455),
        ("left-right", 0.201, 0.120),
        ("upside down", 0.076, 0.038),
        ("rotated", 0.033, 0.003),
    ],
)
def test_the_face_correlates_as_the_reference_says(face, flip, best, unmoved):
    # DATASETS 9.3, with its own widths of the two filters.
    counts, gray = face
    density = ndimage.gaussian_filter(counts[0, 0].astype(np.float64), 1.0)
    gradient = ndimage.gaussian_gradient_magnitude(FLIPS[flip](gray).astype(np.float64), 1.2)[None]
    assert best_correlation(density, gradient, 8)[0] == pytest.approx(best, abs=0.006)
    assert best_correlation(density, gradient, 0)[0] == pytest.approx(unmoved, abs=0.006)


@pytest.mark.real_data
def test_the_face_lies_upright_on_its_image(face):
    counts, gray = face
    gradients = np.stack([image_gradient(np.ascontiguousarray(flip(gray))) for flip in FLIPS.values()])
    scores = best_correlation(event_density(counts), gradients, 8)
    assert scores.argmax() == 0
    assert scores[0] > 0.4
    assert scores[1:].max() < 0.25
