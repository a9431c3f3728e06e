import json

import pytest
import torch

from tmkt_train.errors import NonFiniteError
from tmkt_train.training.metrics import EpochMeans, spread

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


def test_spread_is_never_imaginary():
    assert spread(1.0, 1.0 - 1e-12) == 0.0
