from __future__ import annotations

import hashlib

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tmkt_data.errors import SpecError
from tmkt_data.random_keys import Purpose, draw_key, mix64, sample_uid, uniform

WORD = st.integers(0, 2**64 - 1)
PURPOSES = st.sampled_from(list(Purpose))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((0, 0, 0, 0, 1, 1), 0.3169034255955976),
        ((42, 0, 7, 0, 1, 1), 0.3573399845470269),
        ((42, 0, 7, 0, 1, 2), 0.4950241066464585),
        ((42, 1, 7, 0, 1, 1), 0.7565847835180148),
        ((42, 0, 7, 1, 1, 1), 0.0045576244274269),
        ((42, 0, 7, 0, 2, 1), 0.7686484319558552),
    ],
)
def test_draws_of_the_method_reference(words, expected):
    assert float(uniform(*words)) == pytest.approx(expected, abs=1e-16)


def test_mix64_of_zero_is_the_first_output_of_splitmix64():
    assert int(mix64(0)) == 0xE220A8397B1DCDAF


def test_numbers_of_the_purposes_are_fixed():
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "MIX": 1, "SLIDE": 2, "PAIR": 3, "CROP": 4, "FLIP": 5, "ROTATE": 6, "POISSON": 7, "SAMPLER": 8,
        "SPLIT": 9, "SIMULATE": 10, "EPISODE": 11, "SACCADE": 12,
        "BACKGROUND": 13,
    }  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(value=WORD)
def test_mix64_equals_plain_integers(value):
    assert int(mix64(value)) == naive.mix64(value)


@settings(deadline=None, max_examples=100)
@given(seed=WORD, epoch=WORD, uid=WORD, occurrence=WORD, purpose=PURPOSES, k=WORD)
def test_keys_and_draws_equal_plain_integers(seed, epoch, uid, occurrence, purpose, k):
    words = (seed, epoch, uid, occurrence, purpose, k)
    key = naive.draw_key(seed, epoch, uid, occurrence, int(purpose), k)
    assert int(draw_key(*words)) == key
    assert float(uniform(*words)) == (key >> 11) / 2**53


def test_arrays_broadcast_and_equal_single_draws():
    uids = np.array([3, 2**64 - 1, 7], np.uint64)
    steps = np.arange(1, 5)
    table = uniform(42, 3, uids[None, :], 1, Purpose.MIX, steps[:, None])
    assert table.shape == (4, 3)
    for i, step in enumerate(steps):
        for j, uid in enumerate(uids):
            assert table[i, j] == uniform(42, 3, int(uid), 1, Purpose.MIX, int(step))


def test_inputs_are_untouched():
    uids = np.arange(5, dtype=np.uint64)
    draw_key(1, 2, uids, 0, Purpose.CROP)
    mix64(uids)
    assert uids.tolist() == [0, 1, 2, 3, 4]


def test_uid_is_the_start_of_blake2b():
    # The BLAKE2b-512 hash of "abc" in RFC 7693, appendix A, starts with ba 80 a5 3f 98 1c 4d 0d.
    assert sample_uid("abc") == 0x0D4D1C983FA580BA


@settings(deadline=None, max_examples=50)
@given(sample_id=st.text("aZ0_/. é漢😀"))
def test_uid_is_the_first_eight_bytes_little_endian(sample_id):
    digest = hashlib.blake2b(sample_id.encode()).digest()
    assert sample_uid(sample_id) == sum(byte << (8 * i) for i, byte in enumerate(digest[:8]))


def test_uids_of_many_samples_differ():
    ids = [f"class_{c}/image_{n:04d}" for c in range(100) for n in range(100)]
    assert len({sample_uid(sample_id) for sample_id in ids}) == len(ids)


def draws(*, seed=5, epoch=0, uid=None, occurrence=0, purpose=Purpose.MIX, k=0, n=20_000):
    uid = np.arange(n, dtype=np.uint64) if uid is None else uid
    return uniform(seed, epoch, uid, occurrence, purpose, k)


def along(word, n=20_000):
    moving = {word: np.arange(n, dtype=np.uint64)}
    if word != "uid":
        moving["uid"] = 11
    return draws(**moving)


@pytest.mark.parametrize("word", ["seed", "epoch", "uid", "occurrence", "k"])
def test_draws_are_uniform_along_every_word(word):
    sample = along(word)
    assert sample.min() >= 0.0
    assert sample.max() < 1.0
    assert stats.kstest(sample, "uniform").pvalue > 1e-3
    counts = np.histogram(sample, bins=50, range=(0, 1))[0]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("word", ["seed", "epoch", "uid", "occurrence", "k"])
def test_neighboring_draws_are_independent(word):
    sample = along(word)
    assert abs(np.corrcoef(sample[:-1], sample[1:])[0, 1]) < 4 / np.sqrt(len(sample))


@pytest.mark.parametrize(
    "change",
    [{"seed": 6}, {"epoch": 1}, {"occurrence": 1}, {"k": 1}, *({"purpose": p} for p in Purpose if p != Purpose.MIX)],
    ids=str,
)
def test_another_word_is_an_independent_draw(change):
    one, other = draws(), draws(**change)
    table = np.histogram2d(one, other, bins=8, range=((0, 1), (0, 1)))[0]
    assert stats.chisquare(table.ravel()).pvalue > 1e-3
    assert not (one == other).any()


def test_words_do_not_commute():
    assert draw_key(1, 2, 3, 4, Purpose.MIX, 5) != draw_key(2, 1, 3, 4, Purpose.MIX, 5)
    assert draw_key(1, 2, 3, 4, Purpose.MIX, 5) != draw_key(1, 3, 2, 4, Purpose.MIX, 5)


@pytest.mark.parametrize("words", [(1.5, 0, 7, 0), (1, 0, np.array([7.0]), 0)])
def test_words_with_fractions_are_not_rounded_to_those_of_another_draw(words):
    with pytest.raises(
        SpecError, match=r"^draw key: found a word of type float64, expected whole numbers of 0 or more$"
    ):
        draw_key(*words, Purpose.PAIR)
    assert uniform(1, 0, [], 0, Purpose.PAIR).shape == (0,)
