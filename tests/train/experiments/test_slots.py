import pytest
import torch

from tmkt_train.errors import RunError
from tmkt_train.experiments.slots import Slots, choose_slots, named_devices, next_device, visible_devices

from ..conftest import make_recipe

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")


@pytest.mark.parametrize(
    ("num_devices", "visible", "names"),
    [
        (0, None, ()),
        (3, None, ("0", "1", "2")),
        (0, "", ()),
        (0, "-1", ()),
        (2, "5, 2", ("5", "2")),
        # CUDA reads up to the first name that it does not know.
        (2, "1,0,-1,3", ("1", "0")),
        (2, "GPU-8f6d,MIG-11aa", ("GPU-8f6d", "MIG-11aa")),
    ],
)
def test_children_name_gpus_as_this_process_does(num_devices, visible, names):
    assert visible_devices(num_devices, visible) == names


@pytest.mark.parametrize(
    ("numbers", "found", "message"),
    [
        ((0, 1), (), "--devices 0,1: torch finds no GPU here, expected at least one; omit --devices"),
        ("all", (), "--devices all: torch finds no GPU here, expected at least one; omit --devices"),
        (
            (0, 2), ("4", "6"),
            "--devices 0,2: found 2, expected numbers from 0 to 1 for the 2 GPUs here; omit it, or give --devices all",
        ),
        ((1,), ("4",), "--devices 1: found 1, expected 0 for the 1 GPU here; omit it, or give --devices all"),
    ],
)  # fmt: skip
def test_gpus_that_are_not_there_are_refused(numbers, found, message):
    with pytest.raises(RunError) as caught:
        named_devices(numbers, found)
    assert str(caught.value) == message


def test_gpus_are_taken_in_the_order_given():
    assert named_devices((2, 0), ("4", "6", "8")) == ("8", "4")
    assert named_devices("all", ("4", "6")) == ("4", "6")


@pytest.mark.parametrize("num_jobs", [1, 2, 3, 4, 5])
def test_runs_are_spread_evenly_while_others_end(num_jobs):
    devices, in_use = ("0", "1", "2"), []
    for number in range(20):
        if len(in_use) == num_jobs:
            in_use.pop(number % num_jobs)
        device = next_device(devices, in_use)
        assert in_use.count(device) == min(map(in_use.count, devices))
        in_use.append(device)
    assert next_device((), ["0"]) is None


def test_without_options_runs_train_one_after_the_other():
    for num_jobs in (None, 1):
        assert choose_slots(num_jobs, None) == Slots()
        assert choose_slots(num_jobs, None).is_single
    assert not Slots(2).is_single
    assert not Slots(1, ("0",)).is_single


@needs_no_gpu
def test_without_a_gpu_jobs_share_the_cpu_and_devices_are_refused():
    assert choose_slots(3, None) == Slots(3)
    for numbers in ((0,), "all"):
        with pytest.raises(RunError, match="torch finds no GPU here"):
            choose_slots(2, numbers)


def test_recipe_that_trains_on_the_cpu_fits_unless_gpus_were_named():
    recipe = make_recipe(train__device="cpu")
    Slots(2, ("0", "1")).require_fit(recipe)
    with pytest.raises(RunError, match=r"tiny: train\.device is 'cpu', expected 'auto' or 'cuda' with --devices"):
        Slots(2, ("0", "1"), is_chosen=True).require_fit(recipe)
    Slots(2, ("0", "1"), is_chosen=True).require_fit(make_recipe(train__device="auto"))
