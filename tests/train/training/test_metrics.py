import json

import pytest
import torch

from tmkt_train.errors import NonFiniteError
from tmkt_train.training.metrics import EpochMeans, epoch_row

CPU = torch.device("cpu")


def test_means_go_on_exactly_from_their_state():
    values = torch.rand(20, generator=torch.Generator().manual_seed(0))
    whole, first = EpochMeans(CPU), EpochMeans(CPU)
    for value in values:
        whole.add({"x": value}, weight=3)
    for value in values[:7]:
        first.add({"x": value}, weight=3)
    first.num_skipped = 2
    rest = EpochMeans(CPU)
    rest.load_state_dict(json.loads(json.dumps(first.state_dict())))
    for value in values[7:]:
        rest.add({"x": value}, weight=3)
    assert rest.means() == whole.means()
    assert rest.num_skipped == 2


def test_means_say_the_first_bad_step():
    means = EpochMeans(CPU)
    for step, loss in enumerate([1.0, float("inf"), float("nan")]):
        means.watch(step, torch.tensor(loss))
    with pytest.raises(NonFiniteError, match="epoch 6, step 2"):
        means.check(5)
    means.check(5)


@pytest.mark.parametrize(("squared", "sd"), [(0.29, 0.2), (0.25 - 1e-12, 0.0)])
def test_row_has_the_spread_of_the_ratio_which_rounding_cannot_make_imaginary(squared, sd):
    means = {"train_loss": 1.0, "loss_terms.a": 2.0, "train_accuracy": 0.5, "cka": 0.7}
    means |= {"mix_ratio": 0.4, "realised_ratio": 0.5, "realised_ratio_squared": squared}
    row = epoch_row(means, epoch=3, learning_rate=0.1, selection={"val_accuracy": 0.6})
    assert row.pop("realised_ratio_sd") == pytest.approx(sd)
    assert row == {
        "epoch": 3, "lr": 0.1, "mix_ratio": 0.4, "realised_ratio": 0.5, "train_loss": 1.0, "loss_terms": {"a": 2.0},
        "train_accuracy": 0.5, "val_accuracy": 0.6, "cka": 0.7,
    }  # fmt: skip


def test_means_add_the_same_sums_in_the_same_order_whatever_names_come_together():
    values = torch.rand(12, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    means, expected = EpochMeans(CPU), {"a": 0.0, "b": 0.0, "gauge": 0.0}
    for number, (a, b) in enumerate(values):
        batch = {"a": a, "gauge": 0.1 * number} | ({"b": b} if number % 5 else {})
        means.add(batch, weight=number + 1)
        for name, value in batch.items():
            expected[name] += float(value) * (number + 1)
    assert {name: total for name, (total, _) in means.state_dict()["sums"].items()} == expected
    assert means.state_dict()["sums"]["b"][1] == sum(number + 1 for number in range(12) if number % 5)


def test_a_loss_that_is_overwritten_after_its_batch_is_still_checked():
    means, loss = EpochMeans(CPU), torch.tensor(float("inf"))
    means.watch(0, loss)
    loss.fill_(1.0)
    with pytest.raises(NonFiniteError, match="epoch 1, step 1"):
        means.check(0)
