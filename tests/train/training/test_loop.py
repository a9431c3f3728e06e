import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tmkt_data import PairedFrames
from tmkt_train.data.batches import EpochPlan, evaluation_batches, training_batches
from tmkt_train.data.device import hold_frames
from tmkt_train.data.sampling import DrawKeys
from tmkt_train.errors import NonFiniteError, RunError
from tmkt_train.recipe.schema import LossTable
from tmkt_train.training.iteration import Iteration, predict
from tmkt_train.training.loop import evaluate, train_one_epoch
from tmkt_train.training.metrics import EpochMeans, epoch_row
from tmkt_train.training.setup import build_setup
from tmkt_train.training.state import TrainingState

from ..conftest import make_recipe

CPU = torch.device("cpu")


def run_epoch(setup, recipe, *, source=None, **changes):
    """Train for one epoch; return the steps and the means."""
    train = recipe.train.model_copy(update={"sampler": "shuffled"})
    batches = training_batches(source or setup.frames, train, EpochPlan(recipe.seed, 0), CPU)
    state = TrainingState(EpochMeans(CPU))
    steps = list(train_one_epoch(Iteration(setup), state, batches, num_epochs=1, **changes))
    assert state.batch == setup.batches_per_epoch
    return steps, state.means


def test_training_learns_and_gathers_every_figure(tiny_cache):
    recipe = make_recipe()
    setup = build_setup(recipe, tiny_cache, CPU)
    losses = []
    for _ in range(4):
        steps, means = run_epoch(setup, recipe)
        losses.append(means.means()["train_loss"])
    assert steps == list(range(1, setup.batches_per_epoch + 1))
    assert losses[-1] < losses[0]
    row = epoch_row(means.means(), epoch=0, learning_rate=1e-3, selection={"val_accuracy": 0.5})
    assert list(row["loss_terms"]) == [
        "image_classification", "event_classification", "alignment", "modality", "ratio",
    ]  # fmt: skip
    assert 0 < row["realised_ratio_sd"] < 0.5
    assert {"cka", "cka_shuffled", "modality_accuracy", "ratio_error", "mix_ratio", "train_accuracy"} <= set(row)
    assert all(math.isfinite(value) for value in means.means().values())


def test_figures_are_means_over_samples_with_a_short_last_batch(tiny_cache):
    recipe = make_recipe()
    setup = build_setup(recipe, tiny_cache, CPU)
    assert len(setup.frames) % recipe.train.batch_size
    _, means = run_epoch(setup, recipe)
    mixer, frames = setup.method.mixer, setup.frames
    keys = DrawKeys(recipe.seed, 0, frames.uids, np.zeros(len(frames), np.int64))
    points = mixer.points(keys, 0.0)
    expected = ((mixer.num_time_steps + 1 - points) / mixer.num_time_steps).mean()
    assert means.means()["realised_ratio"] == pytest.approx(expected, abs=1e-7)


def test_batch_of_one_row_is_counted_and_no_nan(tiny_cache):
    recipe = make_recipe(train__batch_size=1, data__recordings_per_class=1)
    setup = build_setup(recipe, tiny_cache, CPU)
    _, means = run_epoch(setup, recipe)
    assert means.num_skipped == len(setup.frames)
    assert math.isfinite(means.means()["train_loss"])
    assert "loss_terms.alignment" not in means.means()


@pytest.mark.parametrize(("check_every", "step"), [(1, 17), (5, 20)])
def test_gradients_that_overflow_stop_the_epoch_and_name_the_step(tiny_cache, check_every, step):
    recipe = make_recipe(train__batch_size=4)
    setup = replace(build_setup(recipe, tiny_cache, CPU), scaler=torch.amp.GradScaler("cpu"))
    setup.model.event_head.weight.register_hook(lambda gradient: gradient * math.inf)
    before = setup.model.body.conv1.weight.clone()
    # The scale falls from 65536 to 0.5 in 17 steps.
    with pytest.raises(NonFiniteError, match=f"^epoch 1, step {step}: gradients overflow float16 at a loss scale of 0"):
        run_epoch(setup, recipe, check_every=check_every)
    assert torch.equal(setup.model.body.conv1.weight, before)


@pytest.mark.parametrize("check_every", [1, 3])
def test_loss_that_is_no_number_stops_and_says_where(tiny_cache, check_every):
    recipe = make_recipe()
    setup = build_setup(recipe, tiny_cache, CPU)
    with torch.no_grad():
        setup.model.event_head.weight.fill_(math.inf)
    before = setup.model.body.conv1.weight.clone()
    with pytest.raises(NonFiniteError, match=r"epoch 1, step 1: the loss is NaN or infinite"):
        run_epoch(setup, recipe, check_every=check_every)
    if check_every == 1:
        assert torch.equal(setup.model.body.conv1.weight, before)


def test_evaluation_is_the_same_for_any_batch_size(tiny_cache):
    recipe = make_recipe()
    setup = build_setup(recipe, tiny_cache, CPU)
    frames = PairedFrames(tiny_cache, split="val", pairing="none")
    small, large = (
        evaluate(setup.model, evaluation_batches(frames, batch_size=size, device=CPU), LossTable()) for size in (3, 100)
    )
    np.testing.assert_array_equal(small.predictions, large.predictions)
    np.testing.assert_array_equal(small.labels, frames.labels)
    assert small.accuracy == large.accuracy == np.mean(small.predictions == frames.labels)
    assert small.loss == pytest.approx(large.loss)


def test_evaluation_changes_nothing_in_the_network(tiny_cache):
    setup = build_setup(make_recipe(), tiny_cache, CPU)
    before = {name: value.clone() for name, value in setup.model.state_dict().items()}
    evaluate(setup.model, evaluation_batches(setup.selection, batch_size=8, device=CPU), LossTable())
    for name, value in setup.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_evaluation_of_nothing_is_refused(tiny_cache):
    setup = build_setup(make_recipe(), tiny_cache, CPU)
    with pytest.raises(RunError, match="no samples"):
        evaluate(setup.model, [], LossTable())


def test_prediction_averages_the_steps():
    logits = torch.tensor([[[0.0, 1.0]], [[3.0, 0.0]]])
    assert predict(logits).tolist() == [0]


@pytest.mark.parametrize("name", ["tmkt", "kt", "fine-tune", "event-only"])
def test_every_method_takes_frames_made_from_stored_bytes(tiny_cache, name):
    # They are channels last, and images are views over the steps: equal values, in another order in memory.
    recipe = make_recipe(method={"name": name})
    losses = []
    for hold in (lambda frames: frames, lambda frames: hold_frames(frames, CPU)):
        setup = build_setup(recipe, tiny_cache, CPU)
        _, means = run_epoch(setup, recipe, source=hold(setup.frames))
        losses.append(means.means()["train_loss"])
    assert losses[0] == losses[1]
