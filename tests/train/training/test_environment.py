import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tmkt_train.errors import RunError
from tmkt_train.training.environment import (
    choose_device,
    choose_precision,
    compute_dtype,
    describe_device,
    environment_changes,
    numerics,
    peak_memory_bytes,
)

from ..conftest import make_recipe


def test_numerics_are_put_back():
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    with numerics(make_recipe(train__num_threads=2)):
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_peak_of_a_process_is_not_that_of_its_parent():
    own = "import torch, tmkt_train.training.environment as e; print(e.peak_memory_bytes(torch.device('cpu')))"
    parent = (
        f"import subprocess, sys; held = bytearray(b'1') * {2**31}; subprocess.run([sys.executable, '-c', {own!r}])"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert 5e7 < int(done.stdout) < 2**30
    assert peak_memory_bytes(torch.device("cpu")) > 5e7


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


def test_a_gpu_without_bfloat16_is_told_what_it_has_and_one_without_tf32_records_float32(monkeypatch):
    # What torch says of a V100.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _=None: "Tesla V100")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: (7, 0))
    cuda = torch.device("cuda")
    message = (
        "^train.precision: found 'bfloat16', but Tesla V100 computes in float16 at most; set train.precision=float16$"
    )
    with pytest.raises(RunError, match=message):
        choose_precision(make_recipe(train__precision="bfloat16"), cuda)
    found = {name: choose_precision(make_recipe(train__precision=name), cuda) for name in ("auto", "tf32", "float16")}
    assert found == {"auto": "float32", "tf32": "float32", "float16": "float16"}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: (9, 0))
    assert choose_precision(make_recipe(), cuda) == "tf32"


def test_a_gpu_is_missed_in_one_line():
    if not torch.cuda.is_available():
        message = "^train.device: found 'cuda', but torch finds no GPU here; set train.device=auto$"
        with pytest.raises(RunError, match=message):
            choose_device(make_recipe(train__device="cuda"))


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


def test_the_line_of_the_device_says_a_precision_that_is_not_float32_and_who_chose_it(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None: (8, 0))
    torch.set_num_threads(1)
    assert describe_device(make_recipe(), cpu, "cpu") == "cpu, 1 thread"
    on_cpu = "cpu, 1 thread, float32 (TF32 needs a GPU since Ampere)"
    assert describe_device(make_recipe(train__precision="tf32"), cpu, "cpu") == on_cpu
    assert describe_device(make_recipe(train__precision="float32"), cuda, "X") == "X, 1 thread"
    assert describe_device(make_recipe(train__precision="float16"), cuda, "X") == "X, 1 thread, float16"
    assert describe_device(make_recipe(), cuda, "X") == "X, 1 thread, tf32 (train.precision = auto)"
