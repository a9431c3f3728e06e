import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmkt_data.random_keys import Purpose, sample_uid, uniform
from tmkt_train.data.sampling import DrawKeys, batch_slices, count_batches, count_earlier, epoch_order

IDS = [f"{label}/{number:03d}" for label in range(4) for number in range((label + 1) * 5)]
UIDS = np.array([sample_uid(name) for name in IDS], dtype=np.uint64)
LABELS = np.array([int(name[0]) for name in IDS])
SAMPLERS = ["class-balanced", "shuffled"]


def order(sampler, *, seed=0, epoch=0, permutation=None):
    rows = np.arange(len(IDS)) if permutation is None else permutation
    drawn = epoch_order(UIDS[rows], LABELS[rows], seed=seed, epoch=epoch, sampler=sampler)
    return UIDS[rows][drawn.indices], drawn.occurrences


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_order_is_a_function_of_seed_and_epoch(sampler):
    first, again, other_epoch, other_seed = (
        order(sampler)[0],
        order(sampler)[0],
        order(sampler, epoch=1)[0],
        order(sampler, seed=1)[0],
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other_epoch)
    assert not np.array_equal(first, other_seed)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_another_listing_of_the_same_samples_changes_nothing(sampler):
    permutation = np.random.default_rng(0).permutation(len(IDS))
    for here, there in zip(order(sampler), order(sampler, permutation=permutation), strict=True):
        np.testing.assert_array_equal(here, there)


def test_shuffled_shows_each_sample_once():
    uids, occurrences = order("shuffled")
    np.testing.assert_array_equal(np.sort(uids), np.sort(UIDS))
    assert not occurrences.any()


def test_balanced_draws_classes_alike_and_samples_of_a_class_alike():
    counts = np.zeros(len(IDS))
    num_epochs = 400
    for epoch in range(num_epochs):
        drawn = epoch_order(UIDS, LABELS, seed=5, epoch=epoch, sampler="class-balanced").indices
        assert len(drawn) == len(IDS)
        counts += np.bincount(drawn, minlength=len(IDS))
    sizes = np.bincount(LABELS)
    expected = num_epochs * len(IDS) / (len(sizes) * sizes[LABELS])
    # Counts are close to Poisson; 5 standard deviations over 50 samples.
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))


def test_balanced_draws_over_labels_with_gaps():
    labels = np.array([7, 7, 3])
    uids = np.arange(3, dtype=np.uint64)
    drawn = epoch_order(uids, labels, seed=0, epoch=0, sampler="class-balanced").indices
    assert set(drawn.tolist()) <= {0, 1, 2}


@given(st.lists(st.integers(0, 5), max_size=40))
def test_occurrences_count_earlier_draws(values):
    naive = [values[:at].count(value) for at, value in enumerate(values)]
    assert count_earlier(np.array(values, dtype=np.int64)).tolist() == naive


@given(st.integers(0, 50), st.integers(1, 12), st.booleans(), st.integers(0, 5))
def test_slices_cover_an_epoch_and_its_rest(num_samples, batch_size, drop_last, first):
    parts = list(batch_slices(num_samples, batch_size, drop_last=drop_last))
    assert len(parts) == count_batches(num_samples, batch_size, drop_last=drop_last)
    covered = [index for part in parts for index in range(part.start, part.stop)]
    kept = num_samples // batch_size * batch_size if drop_last else num_samples
    assert covered == list(range(kept))
    assert list(batch_slices(num_samples, batch_size, drop_last=drop_last, first=first)) == parts[first:]


def test_keys_draw_a_number_or_a_row_of_numbers_for_each_sample():
    occurrences = np.arange(len(UIDS)) % 3
    keys = DrawKeys(7, 2, UIDS, occurrences)
    found = keys.uniform(Purpose.MIX, np.arange(1, 5))
    assert found.shape == (len(UIDS), 4)
    for row, (uid, occurrence) in enumerate(zip(UIDS, occurrences, strict=True)):
        np.testing.assert_array_equal(found[row], [uniform(7, 2, uid, occurrence, Purpose.MIX, k) for k in range(1, 5)])
    np.testing.assert_array_equal(keys.uniform(Purpose.MIX, 3), found[:, 2])
