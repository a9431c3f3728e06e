"""`tmkt-train check`."""

import re
import sys

import pytest

from .commands import PATIENCE_S, call, call_program

pytestmark = pytest.mark.usefixtures("here")


def test_check_prints_every_setting_and_the_cache():
    code, out, err = call("check", "tiny", "--set", "mix.ratio=0.8")
    assert (code, err) == (0, "")
    assert "  mix.ratio                    0.8                inferred\n" in out
    assert "  optim.learning_rate          0.002              inferred\n" in out
    assert "recipes/tiny.toml: the recipe is valid\n" in out
    assert "cache: caches/digits-tiny.h5\n" in out
    code, out, _ = call("check", "tiny", "--set", "method.name=event-only")
    assert "  mix.ratio                    0.5                unused by this method\n" in out


def test_check_measures_what_a_training_takes():
    code, out, err = call("check", "tiny", "--measure")
    assert (code, err) == (0, "")
    assert re.search(
        r"^device: cpu, 1 thread\nmemory: about [0-9.]+ [MG]B( of [0-9.]+ GB that are free)?\n"
        r"time: about [0-9]+ s, 15 steps of [0-9.e-]+ s, and an evaluation after each epoch\n\Z", out, re.MULTILINE,
    )  # fmt: skip
    code, _, err = call("check", "tiny", "--measure", "--set", "train.batch_size=500", "--set", "train.drop_last=true")
    assert (code, err.count("\n")) == (1, 1)
    assert "expected at least train.batch_size = 500" in err
    large = ("--set", "train.batch_size=1000000000", "--set", "train.steps_per_epoch=1")
    code, out, err = call("check", "tiny", "--measure", *large)
    assert (code, err) == (0, "")
    assert "time:" not in out
    assert re.search(r"^note: train.batch_size = 1000000000 does not fit, about \d+ do: lower it", out, re.MULTILINE)


def test_check_without_measuring_loads_no_torch(here):
    code = "import sys; from tmkt_train.cli.main import main; main(['check', 'tiny'], standalone_mode=False)"
    with call_program(f"{code}; assert 'torch' not in sys.modules", here) as process:
        assert "the recipe is valid" in process.communicate(timeout=PATIENCE_S)[0]
    assert process.returncode == 0


def test_check_says_how_to_make_a_missing_cache():
    code, out, _ = call("check", "tiny", "--set", "data.prepare.size=20")
    assert code == 0
    wanted = "tmkt-data prepare digits --time-bins 4 --size 20"
    assert f"no cache yet: caches/digits-tiny.h5: size is 16, expected 20; make it with: {wanted}\n" in out


def test_check_of_an_unknown_dataset_fails():
    code, out, err = call("check", "tiny", "--set", "data.dataset=nmnits")
    assert code in (1, 2)
    assert "is valid" not in out
    assert err.count("\n") == 1
    assert "did you mean 'nmnist'" in err


def test_check_refuses_what_the_training_would(here, monkeypatch):
    # Importing a network puts the current folder on the path of this process.
    monkeypatch.setattr(sys, "path", [*sys.path])
    (here / "broken_nets.py").write_text(
        "import torch\nbuild = 3\nfrom tmkt_train.nothing import Net\n", encoding="utf-8"
    )
    for setting, problem in (
        ("data.held_out_classes=9", "held-out classes: found 9 of 10, expected 0 to 8"),
        ("model.backbone=nowhere.nets:build", "model.backbone: nowhere.nets:build: found no module nowhere"),
        ("model.backbone=broken_nets:build", "model.backbone: broken_nets:build: broken_nets cannot be imported"),
    ):
        code, out, err = call("check", "tiny", "--set", setting)
        assert "is valid" not in out
        assert err.startswith(f"error: {problem}")
        trained = call("recipe", "tiny", "--set", setting, "--out", "new")
        assert (trained[0], trained[2]) == (code, err)
    assert call("check", "tiny", "--set", "data.held_out_classes=8")[0] == 0
    # Without a cache, only the recipe itself is checked.
    settings = ("--set", "data.held_out_classes=9", "--set", "data.prepare.size=20")
    assert call("check", "tiny", *settings)[0] == 0
