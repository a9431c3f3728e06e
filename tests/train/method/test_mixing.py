from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tmkt_data.errors import SpecError
from tmkt_data.random_keys import Purpose, uniform
from tmkt_train.choices import MixDistribution
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.method.mixing import (
    expected_ratio,
    mix,
    mix_mask,
    replacement_points,
    replacement_probability,
    slide_points,
)

# Tables of the method notes, 4.2 and 4.3: rows are T, columns mix ratios.
SEQUENTIAL = {
    4: (0.0417, 0.0873, 0.1377, 0.1942, 0.2587, 0.3344, 0.4263, 0.5447, 0.7129),
    6: (0.0300, 0.0634, 0.1011, 0.1445, 0.1954, 0.2575, 0.3370, 0.4474, 0.6243),
    10: (0.0193, 0.0410, 0.0661, 0.0955, 0.1312, 0.1763, 0.2373, 0.3292, 0.4998),
    12: (0.0163, 0.0349, 0.0563, 0.0817, 0.1126, 0.1523, 0.2067, 0.2907, 0.4544),
}
RENORMALISED = {
    4: (None, 0.2165, 0.4613, 0.6974),
    6: (0.0337, 0.2205, 0.4020, 0.6178),
    10: (0.0592, 0.1755, 0.3063, 0.4974),
    12: (0.0575, 0.1566, 0.2725, 0.4528),
}
NEVER_AND_SPREAD = {
    4: ((0.843, 0.257), (0.553, 0.382), (0.302, 0.398), (0.108, 0.338), (0.007, 0.184)),
    6: ((0.833, 0.252), (0.527, 0.371), (0.271, 0.384), (0.085, 0.318), (0.003, 0.162)),
    10: ((0.823, 0.247), (0.505, 0.363), (0.245, 0.371), (0.067, 0.300), (0.001, 0.141)),
    12: ((0.821, 0.246), (0.499, 0.361), (0.238, 0.368), (0.062, 0.295), (0.001, 0.135)),
}
STEPS = (4, 6, 10, 12)
NUM_DRAWS = 20_000
CASES: list[tuple[MixDistribution, int, float]] = [
    *(("sequential", num_steps, ratio) for num_steps in STEPS for ratio in (0.1, 0.5, 0.9)),
    *(("renormalised", num_steps, ratio) for num_steps in STEPS for ratio in (0.7, 0.9)),
]


def chances_of(probability, num_steps, distribution):
    """P(t* = 1), ..., P(t* = T), P(never), term by term."""
    q = 1.0 - probability
    terms = np.array([probability * q ** (t - 1) for t in range(1, num_steps + 1)])
    if distribution == "renormalised":
        return np.append(terms / (1.0 - q**num_steps), 0.0)
    return np.append(terms, q**num_steps)


def moments(probability, num_steps, distribution):
    chances = chances_of(probability, num_steps, distribution)
    ratios = np.arange(num_steps, -1, -1) / num_steps
    mean = chances @ ratios
    return mean, np.sqrt(chances @ (ratios - mean) ** 2)


def draw(probability, num_steps, distribution, *, seed=7, epoch=0, count=NUM_DRAWS, occurrence=0):
    uids = np.arange(count, dtype=np.uint64)
    occurrences = np.full(count, occurrence, dtype=np.int64)
    return replacement_points(DrawKeys(seed, epoch, uids, occurrences), probability, num_steps, distribution)


@pytest.mark.parametrize("num_steps", STEPS)
def test_sequential_table(num_steps):
    found = [replacement_probability(tenth / 10, num_steps) for tenth in range(1, 10)]
    np.testing.assert_allclose(found, SEQUENTIAL[num_steps], rtol=0, atol=5.001e-5)


@pytest.mark.parametrize("num_steps", STEPS)
def test_renormalised_table(num_steps):
    for ratio, expected in zip((0.6, 0.7, 0.8, 0.9), RENORMALISED[num_steps], strict=True):
        if expected is None:
            with pytest.raises(SpecError):
                replacement_probability(ratio, num_steps, "renormalised")
        else:
            found = replacement_probability(ratio, num_steps, "renormalised")
            assert found == pytest.approx(expected, abs=5.001e-5)


@pytest.mark.parametrize(
    ("num_steps", "expected"), [(4, 0.2587290894), (6, 0.1954460483), (10, 0.1311783012), (12, 0.1126466673)]
)
def test_probability_of_half(num_steps, expected):
    assert replacement_probability(0.5, num_steps) == pytest.approx(expected, abs=5e-11)


@pytest.mark.parametrize("num_steps", STEPS)
def test_chance_of_never_and_spread(num_steps):
    for ratio, (never, spread) in zip((0.1, 0.3, 0.5, 0.7, 0.9), NEVER_AND_SPREAD[num_steps], strict=True):
        p = replacement_probability(ratio, num_steps)
        assert (1.0 - p) ** num_steps == pytest.approx(never, abs=5.01e-4)
        assert moments(p, num_steps, "sequential")[1] == pytest.approx(spread, abs=5.01e-4)


@given(p=st.floats(1e-3, 1.0), num_steps=st.integers(1, 40))
@settings(deadline=None)
def test_expected_ratio_closed_form_is_sum_form(p, num_steps):
    q = 1.0 - p
    closed = 1.0 - q * (1.0 - q**num_steps) / (num_steps * p)
    assert expected_ratio(p, num_steps) == pytest.approx(closed, abs=1e-9)
    assert expected_ratio(p, num_steps) == pytest.approx(moments(p, num_steps, "sequential")[0], abs=1e-9)
    renormalised = closed / (1.0 - q**num_steps)
    assert expected_ratio(p, num_steps, "renormalised") == pytest.approx(renormalised, abs=1e-9)


@given(ratio=st.floats(0.0, 1.0), num_steps=st.integers(1, 40))
@settings(deadline=None)
def test_probability_inverts_expected_ratio(ratio, num_steps):
    p = replacement_probability(ratio, num_steps)
    assert 0.0 <= p <= 1.0
    assert expected_ratio(p, num_steps) == pytest.approx(ratio, abs=1e-12)


@pytest.mark.parametrize("num_steps", STEPS)
def test_ends_are_exact(num_steps):
    assert replacement_probability(0.0, num_steps) == 0.0
    assert replacement_probability(1.0, num_steps) == 1.0
    assert replacement_probability(1.0, num_steps, "renormalised") == 1.0
    assert replacement_probability((num_steps + 1) / (2 * num_steps), num_steps, "renormalised") == 0.0
    assert expected_ratio(0.0, num_steps) == 0.0
    assert expected_ratio(1.0, num_steps) == 1.0


def test_golden_replacement_points():
    p = replacement_probability(0.5, 10)
    assert draw(p, 10, "sequential", seed=42, count=8).tolist() == [3, 3, 7, 5, 2, 1, 8, 7]


def test_sequential_points_are_first_trigger():
    p = replacement_probability(0.3, 6)
    for uid, point in enumerate(draw(p, 6, "sequential", seed=3, epoch=2, count=50, occurrence=1)):
        triggers = [k for k in range(1, 7) if uniform(3, 2, uid, 1, Purpose.MIX, k) < p]
        assert point == (triggers[0] if triggers else 7)


def test_a_draw_equal_to_the_probability_does_not_trigger():
    # Draws are the multiples of 2**-53 from 0 on: those below p are a share p of them.
    u = float(uniform(7, 0, 0, 0, Purpose.MIX, 1))
    assert draw(u, 1, "sequential", count=1).tolist() == [2]
    assert draw(np.nextafter(u, 1), 1, "sequential", count=1).tolist() == [1]
    keys, never = DrawKeys(7, 0, np.zeros(1, np.uint64), np.zeros(1, np.int64)), np.array([5])
    u = float(uniform(7, 0, 0, 0, Purpose.SLIDE, 1))
    assert slide_points(keys, u, never).tolist() == [5]
    assert slide_points(keys, np.nextafter(u, 1), never).tolist() == [1]


def test_renormalised_points_invert_one_draw():
    p = replacement_probability(0.7, 6, "renormalised")
    for uid, point in enumerate(draw(p, 6, "renormalised", seed=3, count=50)):
        u = uniform(3, 0, uid, 0, Purpose.MIX, 0)
        assert point == 1 + np.floor(np.log1p(-u * (1.0 - (1.0 - p) ** 6)) / np.log1p(-p))


@pytest.mark.parametrize(("distribution", "num_steps", "ratio"), CASES)
def test_mean_ratio_of_draws(distribution, num_steps, ratio):
    p = replacement_probability(ratio, num_steps, distribution)
    realised = (num_steps + 1 - draw(p, num_steps, distribution)) / num_steps
    mean, spread = moments(p, num_steps, distribution)
    assert mean == pytest.approx(ratio, abs=1e-9)
    assert abs(realised.mean() - ratio) < 4.0 * spread / np.sqrt(NUM_DRAWS)


@pytest.mark.parametrize(("distribution", "num_steps", "ratio"), CASES)
def test_histogram_of_draws(distribution, num_steps, ratio):
    p = replacement_probability(ratio, num_steps, distribution)
    counts = np.bincount(draw(p, num_steps, distribution), minlength=num_steps + 2)[1:]
    chances = chances_of(p, num_steps, distribution)
    if distribution == "renormalised":
        assert counts[-1] == 0
        counts, chances = counts[:-1], chances[:-1]
    assert counts.sum() == NUM_DRAWS
    assert stats.chisquare(counts, NUM_DRAWS * chances).pvalue > 1e-4


@pytest.mark.parametrize("ratio", [0.2, 0.6])
def test_rate_of_never(ratio):
    p = replacement_probability(ratio, 10)
    never = (1.0 - p) ** 10
    rate = np.mean(draw(p, 10, "sequential") == 11)
    assert abs(rate - never) < 4.0 * np.sqrt(never * (1.0 - never) / NUM_DRAWS)


@pytest.mark.parametrize("num_steps", STEPS)
def test_renormalised_floor_is_uniform(num_steps):
    counts = np.bincount(draw(0.0, num_steps, "renormalised"), minlength=num_steps + 2)[1:]
    assert counts[-1] == 0
    assert stats.chisquare(counts[:-1]).pvalue > 1e-4


@pytest.mark.parametrize("num_steps", STEPS)
def test_ratio_zero_never_and_ratio_one_at_once(num_steps):
    assert set(draw(0.0, num_steps, "sequential").tolist()) == {num_steps + 1}
    assert set(draw(1.0, num_steps, "sequential").tolist()) == {1}
    assert set(draw(1.0, num_steps, "renormalised").tolist()) == {1}


@pytest.mark.parametrize("distribution", ["sequential", "renormalised"])
def test_draws_depend_on_nothing_but_their_key(distribution):
    p = 0.2
    uids = np.array([5, 2**63 + 11, 9, 5, 77, 0], dtype=np.uint64)
    occurrences = np.array([0, 0, 3, 1, 0, 0])

    def points(rows):
        return replacement_points(DrawKeys(42, 3, uids[rows], occurrences[rows]), p, 10, distribution).tolist()

    alone = [points([row])[0] for row in range(6)]
    assert points(range(6)) == alone
    order = [3, 0, 5, 4, 1, 2]
    assert points(order) == [alone[row] for row in order]


@pytest.mark.parametrize("distribution", ["sequential", "renormalised"])
def test_draws_differ_for_another_key(distribution):
    first = draw(0.2, 10, distribution, count=200)
    assert (first == draw(0.2, 10, distribution, count=200)).all()
    for other in ({"seed": 8}, {"epoch": 1}, {"occurrence": 1}):
        assert (first != draw(0.2, 10, distribution, count=200, **other)).mean() > 0.5


def test_slide_replaces_whole_samples_at_its_rate():
    keys = DrawKeys(1, 0, np.arange(NUM_DRAWS, dtype=np.uint64), np.zeros(NUM_DRAWS, dtype=np.int64))
    never = np.full(NUM_DRAWS, 11, dtype=np.int64)
    points = slide_points(keys, 0.3, never)
    assert set(points.tolist()) == {1, 11}
    assert abs(np.mean(points == 1) - 0.3) < 4.0 * np.sqrt(0.21 / NUM_DRAWS)
    assert (slide_points(keys, 0.0, never) == never).all()
    assert (slide_points(keys, 1.0, never) == 1).all()
    assert (slide_points(keys._replace(uids=keys.uids[::-1]), 0.3, never) == points[::-1]).all()


def test_slide_composes_with_mixup():
    keys = DrawKeys(7, 0, np.arange(NUM_DRAWS, dtype=np.uint64), np.zeros(NUM_DRAWS, dtype=np.int64))
    points = draw(replacement_probability(0.5, 10), 10, "sequential")
    composed = slide_points(keys, 0.2, points)
    assert ((composed == points) | (composed == 1)).all()
    # E[r] = P + (1 - P) r_m; the slide draw is independent of the mix draws, as its purpose differs.
    assert ((11 - composed) / 10).mean() == pytest.approx(0.2 + 0.8 * 0.5, abs=4 * 0.42 / np.sqrt(NUM_DRAWS))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_mix_switches_once_and_never_blends(data):
    num_steps = data.draw(st.integers(1, 12))
    points = torch.tensor(data.draw(st.lists(st.integers(1, num_steps + 1), min_size=1, max_size=5)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float16, torch.uint8, torch.bool]))
    tail = data.draw(st.sampled_from([(), (3,), (2, 4, 5)]))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    shape = (num_steps, len(points), *tail)
    image = torch.randint(0, 2, shape, generator=generator).to(dtype)
    events = torch.randint(0, 2, shape, generator=generator).to(dtype)
    before = image.clone(), events.clone(), points.clone()
    mixed = mix(image, events, points)
    assert mixed.frames.dtype == dtype
    assert mixed.frames.shape == image.shape
    assert mixed.mask.dtype == torch.bool
    for b, point in enumerate(points.tolist()):
        column = mixed.mask[:, b].int().tolist()
        assert column == sorted(column)
        assert sum(column) == num_steps + 1 - point
        assert mixed.ratio[b].item() == np.float32(sum(column) / num_steps)
        for t in range(num_steps):
            side = events if t + 1 >= point else image
            assert torch.equal(mixed.frames[t, b], side[t, b])
    for tensor, copy in zip((image, events, points), before, strict=True):
        assert torch.equal(tensor, copy)


def test_mix_at_the_ends_is_bit_equal():
    image, events = torch.rand(6, 3, 2, 4, 4), torch.rand(6, 3, 2, 4, 4)
    never, at_once = mix(image, events, torch.full((3,), 7)), mix(image, events, torch.ones(3).long())
    assert torch.equal(never.frames, image)
    assert torch.equal(at_once.frames, events)
    assert never.ratio.tolist() == [0.0] * 3
    assert at_once.ratio.tolist() == [1.0] * 3
    assert not never.mask.any()
    assert at_once.mask.all()


def test_mix_takes_broadcast_views():
    image = torch.rand(1, 3, 1, 4, 4).expand(6, 3, 2, 4, 4)
    events = torch.rand(6, 3, 2, 4, 4)
    mixed = mix(image, events, torch.tensor([7, 4, 1]))
    assert torch.equal(mixed.frames[:, 0], image[:, 0])
    assert torch.equal(mixed.frames[:3, 1], image[:3, 1])
    assert torch.equal(mixed.frames[3:, 1], events[3:, 1])


def test_mix_mask_takes_arrays_and_tensors():
    expected = [[False, True, False], [False, True, True]]
    for points in (np.array([3, 1, 2]), torch.tensor([3, 1, 2])):
        assert mix_mask(points, 2).tolist() == expected


@pytest.mark.parametrize("ratio", [-0.1, 1.1, float("nan")])
def test_ratio_outside_unit_interval(ratio):
    with pytest.raises(SpecError, match=r"^mixing: mix ratio .*, expected 0 to 1; [^\n]+$"):
        replacement_probability(ratio, 10)


def test_ratio_below_floor():
    expected = (
        "mixing: mix ratio 0.5, expected at least 0.55 with the renormalised distribution and 10 steps; "
        "raise the ratio or choose the sequential distribution"
    )
    with pytest.raises(SpecError) as caught:
        replacement_probability(0.5, 10, "renormalised")
    assert str(caught.value) == expected


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_probability_outside_unit_interval(probability):
    keys = DrawKeys(7, 0, np.zeros(2, np.uint64), np.zeros(2, np.int64))
    message = r"^mixing: (slide )?probability (-0.1|1.1|nan), expected 0 to 1; choose a share between none and all$"
    for distribution in ("sequential", "renormalised"):
        with pytest.raises(SpecError, match=message):
            expected_ratio(probability, 4, distribution)
        with pytest.raises(SpecError, match=message):
            replacement_points(keys, probability, 4, distribution)
    with pytest.raises(SpecError, match=message):
        slide_points(keys, probability, np.array([5, 5]))


@pytest.mark.parametrize("distribution", ["sequential", "renormalised"])
def test_points_of_no_steps(distribution):
    with pytest.raises(SpecError, match=r"^mixing: 0 steps, expected 1 or more; "):
        draw(0.5, 0, distribution, count=2)


def test_no_steps():
    with pytest.raises(SpecError, match=r"^mixing: 0 steps, expected 1 or more; "):
        replacement_probability(0.5, 0)


@pytest.mark.parametrize(("events_shape", "num_points"), [((4, 2, 1), 2), ((4, 3, 3), 3), ((4, 3, 1), 2)])
def test_mix_refuses_other_shapes(events_shape, num_points):
    with pytest.raises(SpecError, match=r"^mix: image \(4, 3, 1\), .*expected \[T, B, ...\] twice and \[B\]; "):
        mix(torch.zeros(4, 3, 1), torch.zeros(events_shape), torch.ones(num_points).long())


def test_distributions_are_there_without_torch():
    code = (
        "import sys, tmkt_train, tmkt_train.method.mixing as m; m.replacement_probability(0.5, 10); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
