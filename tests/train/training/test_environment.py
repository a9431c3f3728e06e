import torch

from tmkt_train.training.environment import environment_changes, numerics

from ..conftest import make_recipe


def test_numerics_are_put_back():
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    with numerics(make_recipe(train__num_threads=2)):
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


def test_only_what_may_change_digits_is_noted_when_a_run_is_resumed():
    before = {"tmkt": "1", "torch": "2.9", "spikingjelly": "2", "numpy": "2", "python": "3.11", "device": "cpu"}
    before |= {"num_threads": 1, "platform": "here", "cache": "a.h5"}
    assert environment_changes(before, before | {"platform": "there", "cache": "b.h5"}) == []
    found = environment_changes(before, before | {"torch": "2.10", "num_threads": 2})
    assert found == [
        "torch was 2.9 and is 2.10: the last digits may differ",
        "num_threads was 1 and is 2: the last digits may differ",
    ]
