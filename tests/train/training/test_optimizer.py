import math

import pytest
import torch
from torch import nn

from tmkt_data.errors import SpecError
from tmkt_train.errors import NonFiniteError
from tmkt_train.recipe.schema import OptimTable
from tmkt_train.training.optimizer import (
    build_optimizer,
    count_steps,
    learning_rate_at,
    learning_rate_of,
    load_optimizer,
    require_loss_scale,
    set_learning_rate,
)

from ..conftest import make_recipe

# The recipe of N-Caltech101: 300 epochs, 5e-3 scaled by 120 / 1024, 5 epochs of warm-up from 1e-6, to 1e-5.
CALTECH = OptimTable(
    learning_rate=5e-3 * 120 / 1024, min_learning_rate=1e-5, warmup_epochs=5, warmup_learning_rate=1e-6
)
# That of N-Omniglot: 50 epochs, a tenth of the rate from epoch 40 on.
OMNIGLOT = OptimTable(learning_rate=1.875e-2, warmup_epochs=5, schedule="step", step_epochs=(40,))


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, 1e-6),
        (1, 1e-6 + (5.859375e-4 - 1e-6) / 5),
        (4, 1e-6 + 4 * (5.859375e-4 - 1e-6) / 5),
        (5, 1e-5 + 0.5 * 5.759375e-4 * (1 + math.cos(math.pi * 5 / 300))),
        (150, 1e-5 + 0.5 * 5.759375e-4),
        (300, 1e-5),
    ],
)
def test_cosine_with_warm_up(epoch, expected):
    assert learning_rate_at(epoch, 300, CALTECH) == pytest.approx(expected, rel=1e-12)


def test_cosine_falls_after_warm_up():
    rates = [learning_rate_at(epoch, 300, CALTECH) for epoch in range(300)]
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    # Warm-up does not shift the curve: its first value after it is already below the base rate.
    assert rates[5] < CALTECH.learning_rate


def test_no_warm_up_starts_at_base_rate():
    optim = OptimTable(learning_rate=0.1, warmup_epochs=0)
    assert learning_rate_at(0, 10, optim) == pytest.approx(0.1)


def test_step_falls_by_its_factor():
    rates = [learning_rate_at(epoch, 50, OMNIGLOT) for epoch in (4, 5, 39, 40, 49)]
    assert rates[0] == pytest.approx(1e-6 + 4 * (1.875e-2 - 1e-6) / 5)
    assert rates[1:] == pytest.approx([1.875e-2, 1.875e-2, 1.875e-3, 1.875e-3])


def test_every_step_multiplies():
    optim = OptimTable(learning_rate=1.0, warmup_epochs=0, schedule="step", step_epochs=(3, 6), step_factor=0.5)
    assert [learning_rate_at(epoch, 9, optim) for epoch in (2, 3, 6)] == [1.0, 0.5, 0.25]
    assert learning_rate_at(9, 9, optim) == 0.25


def test_constant_stays_after_warm_up():
    optim = OptimTable(learning_rate=0.1, warmup_epochs=2, warmup_learning_rate=0.02, schedule="constant")
    assert [learning_rate_at(epoch, 10, optim) for epoch in (0, 1, 2, 9)] == pytest.approx([0.02, 0.06, 0.1, 0.1])


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("adamw", lambda groups: torch.optim.AdamW(groups, lr=0.01, eps=1e-8)),
        ("adam", lambda groups: torch.optim.Adam(groups, lr=0.01, eps=1e-8)),
        ("sgd", lambda groups: torch.optim.SGD(groups, lr=0.01, momentum=0.9)),
    ],
)
def test_steps_are_those_of_torch(name, plain):
    """Without what torch wraps around its methods: same weights, same state, and hooks, on any number of instances."""
    found, expected = (torch.nn.Linear(5, 3) for _ in range(2))
    expected.load_state_dict(found.state_dict())
    optim = OptimTable(name=name, learning_rate=0.01, weight_decay=0.1)
    groups = [
        {"params": [expected.weight], "weight_decay": 0.1},
        {"params": [expected.bias], "weight_decay": 0.0},
    ]
    optimizers = build_optimizer(optim, found), plain(groups)
    stepped = []
    optimizers[0].register_step_post_hook(lambda optimizer, *_: stepped.append(optimizer))
    for _ in range(3):
        frames = torch.rand(4, 5)
        for module, optimizer in zip((found, expected), optimizers, strict=True):
            optimizer.zero_grad()
            module(frames).square().sum().backward()
            optimizer.step()
        assert all(map(torch.equal, found.parameters(), expected.parameters()))
        # A state goes through a checkpoint, into an optimizer of its own.
        states = [optimizer.state_dict() for optimizer in optimizers]
        assert states[0]["param_groups"] == states[1]["param_groups"]
        optimizers = build_optimizer(optim, found), optimizers[1]
        load_optimizer(optimizers[0], states[0])
        optimizers[0].register_step_post_hook(lambda optimizer, *_: stepped.append(optimizer))
    assert len(stepped) == 3
    assert found.weight.requires_grad
    assert found.weight.grad is not None


@pytest.mark.parametrize(("epoch", "epochs"), [(-1, 10), (11, 10), (0, 0)])
def test_epoch_out_of_range(epoch, epochs):
    with pytest.raises(SpecError, match=rf"^schedule: epoch {epoch} of {epochs}, expected "):
        learning_rate_at(epoch, epochs, CALTECH)


def test_each_stage_of_fine_tune_has_its_own_schedule():
    recipe = make_recipe(method={"name": "fine-tune"}, train__epochs=3, train__image_epochs=2)
    rates = [learning_rate_of(recipe, epoch) for epoch in range(5)]
    assert rates[:2] == [learning_rate_at(epoch, 2, recipe.optim) for epoch in range(2)]
    assert rates[2:] == [learning_rate_at(epoch, 3, recipe.optim) for epoch in range(3)]
    other = recipe.model_copy(update={"optim": recipe.optim.model_copy(update={"second_stage_learning_rate": 0.001})})
    slow = OptimTable.model_validate({**recipe.optim.model_dump(), "learning_rate": 0.001})
    assert [learning_rate_of(other, epoch) for epoch in range(2)] == rates[:2]
    assert [learning_rate_of(other, epoch) for epoch in (2, 3, 4)] == [learning_rate_at(e, 3, slow) for e in range(3)]
    assert learning_rate_of(other, 3) < rates[3]
    plain = make_recipe(optim__second_stage_learning_rate=0.001)
    assert learning_rate_of(plain, 2) == learning_rate_at(2, 3, plain.optim)


def test_parameters_of_one_dimension_have_no_weight_decay():
    modules = nn.Linear(3, 2), nn.BatchNorm1d(2)
    optimizer = build_optimizer(CALTECH, *modules)
    decayed, plain = optimizer.param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert [p.shape for p in decayed["params"]] == [torch.Size([2, 3])]
    assert len(plain["params"]) == 3
    assert {group["lr"] for group in optimizer.param_groups} == {CALTECH.learning_rate}


def test_a_state_that_was_saved_on_a_gpu_is_loaded_as_this_device_wants_it():
    module = nn.Linear(3, 2)
    first, second = (build_optimizer(OptimTable(learning_rate=0.1), module) for _ in range(2))
    module(torch.ones(1, 3)).sum().backward()
    first.step()
    set_learning_rate(first, 0.05)
    saved = first.state_dict()
    for group in saved["param_groups"]:
        group |= {"lr": torch.tensor(0.05), "fused": True, "capturable": True}
    load_optimizer(second, saved)
    for group in second.param_groups:
        assert (group["fused"], group["capturable"]) == (None, False)
        assert group["lr"] == pytest.approx(0.05)
        assert isinstance(group["lr"], float)
    assert all(state["step"].item() == 1 for state in second.state.values())
    second.step()


def test_gradients_that_overflow_at_every_loss_scale_stop_the_run():
    module = nn.Linear(3, 2)
    optimizer, scaler = build_optimizer(OptimTable(learning_rate=0.1), module), torch.amp.GradScaler("cpu")
    before = [parameter.detach().clone() for parameter in module.parameters()]
    for number in range(17):
        require_loss_scale(scaler, f"epoch {number}")
        scaler.scale((module(torch.ones(1, 3)) * float("inf")).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    message = (
        "^epoch 18: gradients overflow float16 at a loss scale of 0.5, expected 1 or more; "
        r"set train.precision=bfloat16 or tf32, or lower optim.learning_rate$"
    )
    with pytest.raises(NonFiniteError, match=message):
        require_loss_scale(scaler, "epoch 18")
    assert all(torch.equal(*pair) for pair in zip(module.parameters(), before, strict=True))
    require_loss_scale(torch.amp.GradScaler("cpu", enabled=False), "epoch 1")


def test_steps_that_overflow_are_not_counted():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(OptimTable(learning_rate=0.1), layer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    assert count_steps(optimizer) == 0
    for factor in (1.0, float("inf"), 1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(layer(torch.ones(1, 3)).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
    assert count_steps(optimizer) == 3


def test_the_rate_of_an_epoch_is_that_of_all_parameters():
    layer = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(OptimTable(learning_rate=0.5, name="sgd", momentum=0.0, weight_decay=0.0), layer)
    optimizer.param_groups[1]["lr"] = torch.tensor(0.5)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    set_learning_rate(optimizer, 0.25)
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    for parameter, was in zip(layer.parameters(), before, strict=True):
        torch.testing.assert_close(was - parameter.detach(), torch.full_like(was, 0.25))
