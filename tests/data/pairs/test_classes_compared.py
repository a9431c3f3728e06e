"""Which recordings and classes are compared, on caches whose recordings are the edges of a chosen image."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import trees
from altered_caches import write_altered
from conftest import build
from scipy import stats

from tmkt_data.cache.reader import Cache
from tmkt_data.pairs.alignment import best_correlation, event_density, image_gradient
from tmkt_data.pairs.class_fit import MOST_CLASSES, Scorer, SwappedClass, _Classes, fit_classes

NUM_CLASSES, PER_CLASS = 12, 9
ROWS = np.arange(NUM_CLASSES * PER_CLASS)
LABELS, STEMS = np.divmod(ROWS, PER_CLASS)
SWAPPED = (LABELS ^ 1) * PER_CLASS + STEMS
"""The images of equal stem in another class: 0 and 1 are swapped, 2 and 3, and so on."""
NEXT = LABELS * PER_CLASS + (STEMS + 1) % PER_CLASS


@pytest.fixture(scope="session")
def twelve_classes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twelve")
    names = {f"class {label:02d}/{stem}": 100 * label + stem for label, stem in zip(LABELS, STEMS, strict=True)}
    root = trees.write_folder(folder / "own", names, names)
    return build("folder", root, folder / "own.h5", size=12, time_bins=1)


def edges(images):
    """Return the event frames of recordings that are the edges of images."""
    return np.rint(image_gradient(images) * 2).clip(0, 255).astype(np.uint8)[:, None, None].repeat(2, axis=2)


def cache_of(path, out, *, fits, twins=None, like=None, labels=LABELS, alike=slice(0)):
    """Return a cache whose recordings are the edges of the images `fits`, and half as strong those of `like`.

    The images are noise, those of the rows `alike` the same, and have the given labels.
    """

    def change(content):
        images = content.frames["images/frames"]
        images[:] = np.random.default_rng(0).integers(0, 256, images.shape)
        images[alike] = images[alike][:1]
        content.tables["images/label"][:] = labels
        frames = edges(images)[fits].astype(np.int64)
        frames = (frames + (0 if like is None else edges(images)[like] // 2)).clip(0, 255)
        content.frames["events/frames"][:] = frames
        content.tables["events/overflow_start"][:] = 0
        content.tables["events/overflow_cell"] = content.tables["events/overflow_cell"][:0]
        content.tables["events/overflow_count"] = content.tables["events/overflow_count"][:0]
        if twins is not None:
            content.tables["events/twin"][:] = twins

    return Cache(write_altered(path, out, change))


def lengths(shares):
    return {label: len(found) for label, found in shares.items()}


def test_own_images_fit_better_than_all_others(twelve_classes, tmp_path):
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=ROWS)
    # Of 12 classes, 96 recordings: 8 of the 9 of each.
    assert _Classes(cache).own_shares() == {label: [1.0] * 8 for label in range(NUM_CLASSES)}
    found = fit_classes(cache)
    assert (found.num_classes, found.overall, found.swapped) == (12, (1, 1, 1), ())


def test_another_image_of_the_class_fits_better_than_the_twin(twelve_classes, tmp_path):
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=NEXT)
    shares = [share for found in _Classes(cache).own_shares().values() for share in found]
    # The one that fits is among the 8 others, and above.
    assert max(shares) == 7 / 8
    assert fit_classes(cache).overall.high < 0.7


def test_a_class_is_compared_from_four_recordings_with_a_twin(twelve_classes, tmp_path):
    twins = np.where((LABELS < 4) & (np.array([3, 4, 5, 9])[np.minimum(LABELS, 3)] > STEMS), ROWS, -1)
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=ROWS, twins=twins)
    assert lengths(_Classes(cache).own_shares()) == {1: 4, 2: 5, 3: 9}
    assert fit_classes(cache).num_classes == 3


@pytest.mark.parametrize("classes", [0, 1])
def test_fewer_than_two_classes_are_not_compared(twelve_classes, tmp_path, classes):
    twins = np.where(classes > LABELS, ROWS, -1)
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=ROWS, twins=twins)
    assert fit_classes(cache) == (0, None, ())


def test_two_classes_are_compared_also_by_the_last_of_their_recordings(twelve_classes, tmp_path):
    twins = np.where(LABELS < 2, ROWS, -1)
    last = np.flatnonzero((LABELS < 2) & (STEMS == PER_CLASS - 1))
    fits = ROWS.copy()
    fits[last] = NEXT[last]
    shares = _Classes(cache_of(twelve_classes, tmp_path / "a.h5", fits=fits, twins=twins)).own_shares()
    assert lengths(shares) == {0: 9, 1: 9}
    for found in shares.values():
        assert found[:8] == [1.0] * 8
        assert found[8] < 1


def test_twelve_recordings_of_a_class_are_enough(tmp_path):
    names = {f"{name}/{stem}": 100 * label + stem for label, name in enumerate("ab") for stem in range(13)}
    path = build("folder", trees.write_folder(tmp_path / "own", names, names), tmp_path / "own.h5", size=8, time_bins=1)
    assert lengths(_Classes(Cache(path)).own_shares()) == {0: 12, 1: 12}


def test_at_most_120_classes_are_compared_evenly(tmp_path):
    names = {f"{label:03d}/{stem}": label + stem for label in range(MOST_CLASSES + 1) for stem in range(4)}
    root = trees.write_folder(tmp_path / "own", names, names)
    path = build("folder", root, tmp_path / "own.h5", size=4, time_bins=1, duplicates="together")
    # Every second one of 121; of 120, each.
    assert _Classes(Cache(path))._present.tolist() == list(range(0, 121, 2))
    less = write_altered(
        path, tmp_path / "a.h5", lambda content: content.tables["events/twin"].__setitem__(slice(4), -1)
    )
    assert _Classes(Cache(less))._present.tolist() == list(range(1, 121))


def test_eight_recordings_are_needed_to_judge_all(twelve_classes, tmp_path):
    twins = np.where((LABELS < 2) & (STEMS < 4), ROWS, -1)
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=ROWS, twins=twins)
    assert fit_classes(cache).overall == (1, 1, 1)

    def silence(content):
        content.frames["events/frames"][0] = 0

    # A recording without events fits all images alike, which says nothing.
    silent = Cache(write_altered(cache.info.path, tmp_path / "b.h5", silence))
    assert lengths(_Classes(silent).own_shares()) == {0: 3, 1: 4}
    assert fit_classes(silent) == (2, None, ())


def test_swapped_classes_are_found_and_those_beside_them_are_not(twelve_classes, tmp_path):
    fits = np.where(LABELS < 2, SWAPPED, ROWS)
    found = fit_classes(cache_of(twelve_classes, tmp_path / "a.h5", fits=fits)).swapped
    assert {(item.name, item.other, item.other_share) for item in found} == {
        ("class 00", "class 01", 1.0),
        ("class 01", "class 00", 1.0),
    }
    assert [item.own_share for item in found] == sorted(item.own_share for item in found)


def test_at_most_eight_classes_are_looked_at(twelve_classes, tmp_path):
    found = fit_classes(cache_of(twelve_classes, tmp_path / "a.h5", fits=SWAPPED)).swapped
    assert len(found) == 8
    assert [item.own_share for item in found] == sorted(item.own_share for item in found)


def test_a_class_that_fits_its_own_images_is_not_suspected(twelve_classes, tmp_path):
    # They fit those of another class even better.
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=np.where(LABELS == 0, SWAPPED, ROWS), like=ROWS)
    assert np.mean(_Classes(cache).own_shares()[0]) > 0.9
    assert fit_classes(cache).swapped == ()
    assert _Classes(cache).partner_of(0, 0.5, 1) == SwappedClass("class 00", "class 01", 0.5, 1.0)


def test_a_class_at_the_bound_is_not_suspected(twelve_classes, tmp_path):
    # Five images, three of them alike: those count half for each other. (3 x 0.75 + 2 x 1) / 5 = 0.85.
    five = {
        "twins": np.where((STEMS < 5) & (LABELS < 2), ROWS, -1),
        "labels": np.where((LABELS == 0) & (STEMS > 4), 2, LABELS),
    }
    fits = np.where(LABELS == 0, SWAPPED, ROWS)
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=fits, like=ROWS, alike=slice(3), **five)
    assert _Classes(cache).own_shares()[0] == [0.75, 0.75, 0.75, 1, 1]
    assert fit_classes(cache).swapped == ()
    assert _Classes(cache).partner_of(0, 0.85, 1) is not None


def test_a_partner_at_the_bound_is_no_weak_one(twelve_classes, tmp_path):
    # Six images, four of them alike: two of five others are worse, three equal, 2 / 5 + 3 / 10 = 0.7.
    six = {"twins": np.where(STEMS < 4, ROWS, -1), "labels": np.where((LABELS == 1) & (STEMS > 5), 2, LABELS)}
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=SWAPPED, alike=slice(9, 13), **six)
    assert _Classes(cache).partner_of(0, 0.5, 1) == SwappedClass("class 00", "class 01", 0.5, 0.7)


def test_recordings_that_fit_nothing_better_have_no_partner(twelve_classes, tmp_path):
    classes = _Classes(cache_of(twelve_classes, tmp_path / "a.h5", fits=ROWS))
    assert classes.partner_of(0, 0.5, 1) is None
    # An image of another class, but of another stem.
    shifted = (LABELS ^ 1) * PER_CLASS + (STEMS + 1) % PER_CLASS
    classes = _Classes(cache_of(twelve_classes, tmp_path / "b.h5", fits=shifted))
    assert classes.partner_of(0, 0.5, 1) is None


def test_a_partner_fits_better_than_the_twin(twelve_classes, tmp_path):
    # The image of equal stem is the best of its class, but the twin is better still.
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=ROWS, like=SWAPPED)
    classes = _Classes(cache)
    assert np.mean(classes._shares(ROWS[:PER_CLASS], 1, SWAPPED)) > 0.9
    assert classes.partner_of(0, 0.5, 1) is None


def test_a_partner_need_not_be_the_best_for_every_recording(twelve_classes, tmp_path):
    fits, like = SWAPPED.copy(), SWAPPED.copy()
    fits[0] = SWAPPED[0] + 1
    classes = _Classes(cache_of(twelve_classes, tmp_path / "a.h5", fits=fits, like=like))
    # Of the 8 others of its class, one fits the first recording better.
    assert classes.partner_of(0, 0.5, 1).other_share == pytest.approx((7 / 8 + 8) / 9)


def test_the_error_probability_is_shared_by_all_that_is_compared(twelve_classes, tmp_path):
    twins = np.where(STEMS < 5, ROWS, -1)
    classes = _Classes(cache_of(twelve_classes, tmp_path / "a.h5", fits=SWAPPED, twins=twins))
    scores = [classes._scorer.scores(row, [row, SWAPPED[row]]) for row in range(5)]
    found = stats.ttest_1samp([partner - twin for twin, partner in scores], 0, alternative="greater")
    # 1 %, over the 11 other classes and so many suspects.
    most = math.floor(0.01 / found.pvalue / 11)
    assert most > 2
    assert classes.partner_of(0, 0.5, most) is not None
    assert classes.partner_of(0, 0.5, most + 1) is None


@pytest.mark.parametrize(("stems", "is_found"), [(3, False), (4, True)])
def test_a_partner_has_four_images_of_equal_stem(twelve_classes, tmp_path, stems, is_found):
    cache = cache_of(twelve_classes, tmp_path / "a.h5", fits=SWAPPED)

    def rename(content):
        names = content.tables["images/id"]
        names[9 + stems : 18] = [b"class 01/x%d" % at for at in range(9 - stems)]

    renamed = Cache(write_altered(cache.info.path, tmp_path / "b.h5", rename))
    found = _Classes(renamed).partner_of(0, 0.25, 1)
    assert found == (SwappedClass("class 00", "class 01", 0.25, 1.0) if is_found else None)


def test_the_scores_are_correlations_of_density_and_gradient(twelve_classes):
    cache = Cache(twelve_classes)
    frames, images = cache.event_frames([5])[0], cache.image_frames([5, 9, 2])
    density, gradients = event_density(frames), image_gradient(images)
    scorer = Scorer(cache)
    np.testing.assert_array_equal(scorer.scores(5, [5, 9, 2]), best_correlation(density, gradients, 3))
    own, every = scorer.own_and_others(5, [5, 9, 2])
    assert own == best_correlation(density, gradients[:1], 0)[0] != every[0]
    np.testing.assert_array_equal(every, scorer.scores(5, [5, 9, 2]))


def test_the_motion_of_saccades_is_that_at_the_middle_of_each_bin(nmnist_root, tmp_path):
    path = build("nmnist", nmnist_root, tmp_path / "a.h5", size=17, time_bins=2)

    def change(content):
        content.tables["events/t_first_us"][:] = 105_000
        content.tables["events/t_last_us"][:] = 315_000
        # Cells are 2 pixels wide and 4 high.
        content.header["facts"] = json.dumps(json.loads(content.header["facts"]) | {"sensor_size": [34, 68]})

    cache = Cache(write_altered(path, tmp_path / "b.h5", change))
    # At 157.5 and 262.5 ms, 5.25 and 3.5 pixels to the right, 3.5 and 0 down.
    dx, dy = Scorer(cache)._motion(3)
    assert (dx.tolist(), dy.tolist()) == ([2.625, 1.75], [0.875, 0.0])
    frames, images = cache.event_frames([3])[0], cache.image_frames([3, 0])
    moved = best_correlation(event_density(frames, dx, dy), image_gradient(images))
    np.testing.assert_array_equal(Scorer(cache).scores(3, [3, 0]), moved)
    np.testing.assert_array_equal(Scorer(cache).own_and_others(3, [3, 0])[1], moved)
    assert Scorer(cache).own_and_others(3, [3, 0])[0] == best_correlation(
        event_density(frames), image_gradient(images[:1]), 0
    )
