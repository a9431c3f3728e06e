import pytest
import torch

from tmkt_train.errors import RunError
from tmkt_train.training.environment import (
    choose_precision,
    compute_dtype,
    describe_device,
    environment_changes,
    numerics,
)

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


def test_precision_of_a_cpu_is_float32_and_half_precision_is_refused_in_one_line():
    cpu = torch.device("cpu")
    for name in ("auto", "float32", "tf32"):
        assert choose_precision(make_recipe(train__precision=name), cpu) == "float32"
    for name in ("float16", "bfloat16"):
        message = (
            f"train.precision: found '{name}', but this training runs on a CPU, in float32; set train.precision=auto"
        )
        with pytest.raises(RunError, match=f"^{message}$"):
            choose_precision(make_recipe(train__precision=name), cpu)
    assert compute_dtype("tf32") == compute_dtype("float32") == torch.float32
    assert compute_dtype("bfloat16") == torch.bfloat16


@pytest.mark.parametrize(("precision", "expected"), [("float32", "ieee"), ("tf32", "tf32"), ("auto", "tf32")])
def test_convolutions_get_tf32_unless_float32_is_asked_for_and_the_setting_comes_back(precision, expected):
    conv = torch.backends.cudnn.conv
    before = conv.fp32_precision
    for mine in ("ieee", "tf32", before):
        conv.fp32_precision = mine
        with numerics(make_recipe(train__precision=precision)):
            assert conv.fp32_precision == expected
        assert conv.fp32_precision == mine


def test_a_run_from_before_precisions_were_recorded_gets_no_note():
    now = {"torch": "2.9", "precision": "float32"}
    assert environment_changes({"torch": "2.9"}, now) == []
    assert environment_changes({"torch": "2.9", "precision": "tf32"}, now) == [
        "precision was tf32 and is float32: the last digits may differ"
    ]


def test_the_line_of_the_device_says_a_precision_that_is_not_float32_and_who_chose_it():
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    torch.set_num_threads(1)
    assert describe_device(make_recipe(), cpu, "cpu") == "cpu, 1 thread"
    assert describe_device(make_recipe(train__precision="float32"), cuda, "X") == "X, 1 thread"
    assert describe_device(make_recipe(train__precision="float16"), cuda, "X") == "X, 1 thread, float16"
    assert describe_device(make_recipe(), cuda, "X") == "X, 1 thread, tf32 (train.precision = auto)"
