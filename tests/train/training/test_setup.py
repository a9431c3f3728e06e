import pytest
import torch

from tmkt_train.errors import RunError
from tmkt_train.training.setup import build_setup

from ..conftest import make_recipe

CPU = torch.device("cpu")


def test_every_parameter_is_trained_and_the_coefficients_have_no_weight_decay(tiny_cache):
    setup = build_setup(make_recipe(), tiny_cache, CPU)
    decayed, plain = setup.optimizer.param_groups
    assert any(p is setup.method.coefficients.eta for p in plain["params"])
    given = [*setup.model.parameters(), *setup.method.parameters()]
    assert len(given) == len(decayed["params"]) + len(plain["params"])


def test_training_split_smaller_than_a_batch_is_refused(tiny_cache):
    with pytest.raises(RunError, match=r"expected at least train\.batch_size = 500"):
        build_setup(make_recipe(train__batch_size=500, train__drop_last=True), tiny_cache, CPU)


def test_event_only_has_one_head(tiny_cache):
    setup = build_setup(make_recipe(method={"name": "event-only"}), tiny_cache, CPU)
    assert setup.model.image_head is None
    assert setup.frames.pairing == "none"


@pytest.mark.parametrize(("changes", "expected"), [({}, 0.5), ({"data__event_share": 1e-3}, 10 / (10 + 100))])
def test_ratio_by_count_is_the_share_of_the_recordings(tiny_cache, changes, expected):
    recipe = make_recipe(mix__ratio="by-count", **changes)
    setup = build_setup(recipe, tiny_cache, CPU)
    assert setup.method.mixer.start == pytest.approx(expected)
