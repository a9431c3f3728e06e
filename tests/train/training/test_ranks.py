"""One, two and four ranks compute the same training."""

import pytest
import torch

from tmkt_data.datasets.digits import open_digits
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.spec import PrepareSpec

from .rank_steps import run_on_ranks, train_cases

SGD = {"optim__name": "sgd", "optim__learning_rate": 0.05, "optim__warmup_epochs": 0, "train__epochs": 1}
CASES = {
    # The last batch of an epoch is smaller, and four does not divide it.
    "tmkt": ({"train__epochs": 1, "optim__warmup_epochs": 0, "train__batch_size": 30, "loss__modality": 0.0}, 16, 99),
    "debiased": (
        {**SGD, "loss__cka": "debiased", "loss__modality_streams": "both", "model__batch_norm": "per-step"}
        | {"model__eval_statistics": "event", "loss__ratio": 0.0, "train__rotation": 10.0},
        16,
        3,
    ),
    "kt": ({**SGD, "method__name": "kt", "train__image_epochs": 1, "loss__coefficients": "fixed"}, 16, 2),
    "kt+tsm": (
        {**SGD, "method__name": "kt+tsm", "loss__classification": "mean-logits", "loss__coefficients": "off"}
        | {"data__pairing": "twin", "model__separate_heads": False},
        16,
        2,
    ),
    "event-only": ({**SGD, "method__name": "event-only", "train__sampler": "shuffled"}, 16, 3),
    "fine-tune": ({**SGD, "method__name": "fine-tune", "data__image_encoding": "poisson"}, 16, 2),
    "images-only": ({**SGD, "method__name": "images-only", "model__batch_norm": "none"}, 16, 2),
    "vgg-snn": (
        {**SGD, "model__backbone": "vgg-snn", "model__batch_norm": "per-step", "train__batch_size": 4}
        | {"data__prepare": {"time_bins": 2, "size": 48}},
        48,
        1,
    ),
}
LOCAL = {"local": ({**SGD, "model__batch_norm_batch": "local", "loss__cka_batch": "local"}, 16, 2)}


@pytest.fixture(scope="module")
def caches(tiny_cache, digits_root, tmp_path_factory):
    large = tmp_path_factory.mktemp("large") / "digits.h5"
    list(prepare_cache(plan_prepare(open_digits(digits_root), PrepareSpec(time_bins=2, size=48), large)))
    return {16: tiny_cache, 48: large}


@pytest.fixture(scope="module")
def one(caches):
    return run_on_ranks(1, train_cases, CASES | LOCAL, caches)[0]


@pytest.mark.parametrize("number", [2, 4])
def test_ranks_compute_what_one_does(one, caches, number):
    # The large network once: its steps take a second each.
    cases = CASES | LOCAL if number == 2 else {name: case for name, case in CASES.items() if name != "vgg-snn"}
    ranks = run_on_ranks(number, train_cases, cases, caches)
    if number == 4:
        assert len(ranks[0]["tmkt"].rows[0]) > len(ranks[3]["tmkt"].rows[0])
    for name in cases:
        whole, parts = one[name], [rank[name] for rank in ranks]
        for position in range(len(whole.rows)):
            assert torch.equal(torch.cat([part.rows[position] for part in parts]), whole.rows[position]), name
            assert torch.equal(torch.cat([part.frames[position] for part in parts]), whole.frames[position]), name
        for part in parts:
            assert part.losses == parts[0].losses, name
            assert part.computed_by == {"kernels"}, name
            assert_same_parameters(part, parts[0], name)
        if name == "local":
            assert abs(parts[0].losses[0] - whole.losses[0]) > 1e-6
        else:
            assert_close(parts[0], whole, name)
    compare_plain_layers([rank["plain layers"] for rank in ranks], one["plain layers"])


def compare_plain_layers(parts, whole):
    torch.testing.assert_close(torch.cat([logits for logits, _ in parts], dim=1), whole[0], rtol=1e-10, atol=1e-12)
    for key, value in whole[1].items():
        for _, found in parts:
            torch.testing.assert_close(found[key], value, rtol=1e-8, atol=1e-11, msg=key)


def assert_same_parameters(here, there, name):
    for key, value in here.weights.items():
        if name != "local" or not key.endswith(("_mean", "_var")):
            assert torch.equal(value, there.weights[key]), f"{name}: {key}"


def assert_close(here, there, name):
    assert here.losses == pytest.approx(there.losses, rel=1e-10), name
    for found, expected in zip(here.metrics, there.metrics, strict=True):
        # The realized ratios are float32.
        assert found == pytest.approx(expected, rel=1e-6), name
    assert list(here.weights) == list(there.weights)
    for key, value in there.weights.items():
        torch.testing.assert_close(here.weights[key], value, rtol=1e-8, atol=1e-9, msg=f"{name}: {key}")
    for found, expected in zip(here.momenta, there.momenta, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-10)
