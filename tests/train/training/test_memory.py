from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tmkt_train.recipe.load import find_recipe, load_recipe
from tmkt_train.training.memory import StepMemory, count_step_memory

pytest.importorskip("triton")

MEASURED = json.loads((Path(__file__).parents[3] / "docs/measurements/gpu-h200.json").read_text())
PEAKS = {
    ("vggsnn_ncaltech", "tf32"): MEASURED["step"]["vgg-snn"]["contenders"],
    ("vggsnn_ncaltech", "bfloat16"): MEASURED["step"]["vgg-snn"]["contenders"],
    ("resnet18_cepdvs", "tf32"): MEASURED["networks"]["resnet18"]["contenders"],
    ("resnet18_cepdvs", "bfloat16"): MEASURED["networks"]["resnet18"]["contenders"],
}


@pytest.mark.parametrize(("name", "precision"), list(PEAKS))
def test_the_count_is_near_the_peak_that_was_measured_on_a_gpu(name, precision):
    recipe = load_recipe(find_recipe(name))
    prepare = recipe.data.prepare
    frames = SimpleNamespace(num_time_bins=prepare.time_bins, num_channels=2, size=(prepare.size,) * 2, num_classes=101)
    dtype = torch.float32 if precision == "tf32" else torch.bfloat16
    counted = count_step_memory(recipe, frames, dtype).of(120)
    peak = PEAKS[name, precision][f"ours {precision}"]["allocated_gb"] * 1e9
    assert 0.85 * peak < counted < peak


def test_the_largest_batch_is_the_last_that_fits():
    memory = StepMemory(fixed=1000, per_sample=30)
    assert memory.largest_batch(1000 + 30 * 7) == 7
    assert memory.of(7) == 1210
    assert memory.largest_batch(1000 + 30 * 7 - 1) == 6
    assert memory.largest_batch(900) == 0
