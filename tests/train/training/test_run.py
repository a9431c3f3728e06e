"""A run from start to end: progress, files, diagnostics, stages, and what stops it."""

import errno
import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from tmkt_data import PairedFrames
from tmkt_train.errors import NonFiniteError, RunError
from tmkt_train.recipe.load import load_recipe
from tmkt_train.training.checkpoint import load_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.progress import EpochDone, Finished, Started, StepDone
from tmkt_train.training.result import evaluate_run
from tmkt_train.training.run import resume_run, start_run

from ..conftest import make_recipe
from .runs import train


def test_run_tells_its_progress_in_order(tiny_cache, tmp_path):
    progress = train(make_recipe(), tiny_cache, tmp_path / "run")
    kinds = [type(item) for item in progress]
    num_batches = progress[0].batches_per_epoch
    assert kinds == [Started, *([StepDone] * num_batches + [EpochDone]) * 3, Finished]
    assert [item.row["epoch"] for item in progress if isinstance(item, EpochDone)] == [0, 1, 2]
    assert any(item.is_best for item in progress if isinstance(item, EpochDone))


def test_folder_holds_what_was_promised(finished, tiny_cache):
    names = {path.name for path in finished.iterdir()}
    assert names == {
        "recipe.toml", "environment.json", "metrics.jsonl", "last.pt", "best.pt", "result.json", "diagnostics.npz",
        "predictions.csv", "tensorboard",
    }  # fmt: skip
    assert load_recipe(finished / "recipe.toml") == make_recipe()
    result = RunFolder(finished).read_result()
    promised = {
        "dataset", "recipe", "method", "protocol", "seed", "epochs", "val_accuracy", "test_accuracy",
        "num_parameters", "cache_digest", "split_digest", "wall_s", "peak_memory_bytes", "best_epoch", "num_train",
        "num_val", "num_test", "pair_report", "inferred",
    }  # fmt: skip
    assert promised <= set(result)
    assert (result["num_train"], result["num_val"], result["num_test"]) == (100, 10, 10)
    assert result["pair_report"]["label_agreement"] == 1.0
    assert result["pair_report"]["num_reachable_heldout"] == 0
    assert result["optimistic"] is False
    assert result["peak_memory_bytes"] > 10**7
    assert result["iterations"] == "call by call"
    assert set(result["computed_by"].values()) == {"kernels"}
    assert {"body.conv1", "body.lif1", "body.norm2"} <= set(result["computed_by"])
    assert PairedFrames(tiny_cache, split="train").cache_digest == result["cache_digest"]


def test_metrics_have_a_line_per_epoch_and_the_best_one_is_the_result(finished):
    rows = RunFolder(finished).metrics.read()[0]
    result = RunFolder(finished).read_result()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    best = max(rows, key=lambda row: (row["val_accuracy"], -row["val_loss"]))
    assert result["best_epoch"] == best["epoch"]
    assert result["val_accuracy"] == best["val_accuracy"]
    assert rows[0]["lr"] == 1e-6
    assert all(len(row["coefficients"]) == 4 for row in rows)
    assert load_checkpoint(finished / "best.pt")["epoch"] == best["epoch"]


def test_diagnostics_fit_together(finished):
    result = RunFolder(finished).read_result()
    with np.load(finished / "diagnostics.npz") as found:
        arrays = dict(found)
    assert arrays["confusion"].sum() == result["num_test"]
    assert np.trace(arrays["confusion"]) / result["num_test"] == result["test_accuracy"]
    assert arrays["replacement_histogram"].shape == (5,)
    assert arrays["replacement_histogram"].sum() == result["num_train"]
    rows = RunFolder(finished).metrics.read()[0]
    weights = np.array([4, 3, 2, 1, 0]) / 4
    last = (arrays["replacement_histogram"] * weights).sum() / result["num_train"]
    assert last == pytest.approx(rows[-1]["realised_ratio"], abs=1e-6)
    assert arrays["strips"].shape == (6, 4, 4, 16, 16, 3)
    assert arrays["strips"].dtype == np.float32
    assert 0 <= arrays["strips"].min() < arrays["strips"].max() <= 1
    for name in ("firing_rate_events", "firing_rate_images"):
        assert arrays[name].shape == arrays["firing_layer"].shape
        assert np.all((arrays[name] >= 0) & (arrays[name] <= 1))
    assert len(arrays["class_names"]) == 10


def test_mixed_strip_shows_frames_of_one_side_at_a_time(finished):
    with np.load(finished / "diagnostics.npz") as found:
        strips = found["strips"]
    for _, frames, events, mixed in strips:
        is_event = np.array([np.array_equal(m, e) for m, e in zip(mixed, events, strict=True)])
        is_image = np.array([np.array_equal(m, f) for m, f in zip(mixed, frames, strict=True)])
        assert np.all(is_event | is_image)
        assert np.all(np.diff(is_event.astype(int)) >= 0)


def test_fine_tune_starts_anew_on_events(tiny_cache, tmp_path):
    recipe = make_recipe(method={"name": "fine-tune"}, train__epochs=3, train__image_epochs=2)
    train(recipe, tiny_cache, tmp_path / "run")
    rows = RunFolder(tmp_path / "run").metrics.read()[0]
    assert [sorted(row["loss_terms"]) for row in rows] == [["image_classification"]] * 2 + [
        ["event_classification"]
    ] * 3
    rates = [row["lr"] for row in rows]
    assert rates[0] == rates[2] == recipe.optim.warmup_learning_rate
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["best_epoch"] > 2
    assert (result["epochs"], result["image_epochs"]) == (5, 2)


def test_fine_tune_forgets_the_moments_of_the_first_stage(tiny_cache, tmp_path):
    recipe = make_recipe(method={"name": "fine-tune"}, train__epochs=2, train__image_epochs=2)
    run = start_run(recipe, cache=tiny_cache, out=tmp_path / "run")
    steps = []
    for progress in run.train():
        if isinstance(progress, StepDone):
            [state, *_] = run.setup.optimizer.state.values()
            steps.append((progress.epoch, int(state["step"])))
    num = run.setup.batches_per_epoch
    assert [step for _, step in steps] == [*range(1, 2 * num + 1)] * 2


def rows_and_arrays(recipe, cache, out):
    train(recipe, cache, out)
    with np.load(out / "diagnostics.npz") as arrays:
        return RunFolder(out).metrics.read()[0], dict(arrays)


def test_warm_start_is_the_run_on_images_and_then_mixes_from_the_start(tiny_cache, tmp_path):
    mix = {"schedule": "cubic", "ratio": 0.2, "end_ratio": 0.8}
    one_head = {"backbone": "scnn", "batch_norm": "fused", "separate_heads": False}
    warm = make_recipe(mix=mix, model=one_head, train__epochs=3, train__image_epochs=2)
    rows, arrays = rows_and_arrays(warm, tiny_cache, tmp_path / "warm")
    alone = make_recipe(method={"name": "images-only"}, model=one_head, train__epochs=2)
    images, _ = rows_and_arrays(alone, tiny_cache, tmp_path / "images")
    names = ("loss_terms", "train_loss", "val_loss", "val_accuracy", "lr")
    assert [[row[name] for name in names] for row in rows[:2]] == [[row[name] for name in names] for row in images]
    # The optimizer and the schedules start anew: the warm-up rate, and the ratio of the first batch of all.
    assert [row["lr"] for row in rows][::2] == [warm.optim.warmup_learning_rate] * 2 + [rows[4]["lr"]]
    assert not any("mix_ratio" in row or "realised_ratio" in row for row in rows[:2])
    result = json.loads((tmp_path / "warm" / "result.json").read_text())
    sizes = [24] * (result["num_train"] // 24) + [result["num_train"] % 24]
    batches = len(sizes)
    for epoch, row in enumerate(rows[2:]):
        ratios = [0.2 + 0.6 * ((epoch * batches + n) / (3 * batches)) ** 3 for n in range(batches)]
        assert row["mix_ratio"] == pytest.approx(np.average(ratios, weights=sizes))
    # What the histogram draws again is what the last epoch was trained on.
    counts = arrays["replacement_histogram"]
    assert (counts * np.arange(4, -1, -1)).sum() / 4 / counts.sum() == pytest.approx(rows[4]["realised_ratio"])
    assert counts.sum() == result["num_train"]
    assert arrays["ratio_history"] == pytest.approx([row["realised_ratio"] for row in rows[2:]])
    assert (result["epochs"], result["image_epochs"], result["best_epoch"] >= 2) == (5, 2, True)
    result = json.loads((tmp_path / "images" / "result.json").read_text())
    assert (result["epochs"], result["image_epochs"], result["num_steps"]) == (2, 0, 2 * batches)


def test_steps_per_epoch_do_not_depend_on_the_recordings(tiny_cache, tmp_path):
    for share in (0.2, 1.0):
        recipe = make_recipe(
            train__epochs=2, train__steps_per_epoch=3, train__batch_size=8, data__event_share=share,
            train__sampler="shuffled",
        )  # fmt: skip
        progress = list(start_run(recipe, cache=tiny_cache, out=tmp_path / str(share)).train())
        assert sum(isinstance(done, StepDone) for done in progress) == 6


def test_another_seed_gives_another_run(finished, tiny_cache, tmp_path):
    train(make_recipe(seed=4), tiny_cache, tmp_path / "run")
    here, there = (load_checkpoint(path / "last.pt")["model"] for path in (finished, tmp_path / "run"))
    assert not all(torch.equal(here[name], there[name]) for name in here)


def test_evaluating_again_agrees(finished):
    evaluation, recorded = evaluate_run(finished)
    assert evaluation.accuracy == recorded


def test_unfinished_run_is_not_evaluated(tiny_cache, tmp_path):
    start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run")
    with pytest.raises(RunError, match="not finished"):
        evaluate_run(tmp_path / "run")


def test_batches_of_one_are_recorded(tiny_cache, tmp_path):
    recipe = make_recipe(train__batch_size=33, train__sampler="shuffled", train__epochs=2)
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    assert result["warnings"] == ["alignment was skipped in 2 batches of one sample"]


def test_few_recordings_keep_all_images(tiny_cache, tmp_path):
    recipe = make_recipe(data__recordings_per_class=2, train__batch_size=8, train__epochs=1, optim__warmup_epochs=0)
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    assert (result["num_train"], result["num_test"]) == (20, 10)
    assert result["pair_report"]["pool_size"] == 100


def test_weights_that_explode_stop_the_run_and_keep_the_checkpoint(tiny_cache, tmp_path):
    recipe = make_recipe(optim__learning_rate=1e30, optim__min_learning_rate=0.0)
    out = tmp_path / "run"
    with pytest.raises(NonFiniteError, match=r"epoch 2.*the last good checkpoint is kept"):
        train(recipe, tiny_cache, out)
    assert load_checkpoint(out / "last.pt")["position"]["epoch"] == 1
    assert len(RunFolder(out).metrics.read()[0]) == 1
    with pytest.raises(NonFiniteError, match=r"epoch 2.*the last good checkpoint is kept"):
        list(resume_run(out).train())


def test_overflow_in_half_precision_stops_the_run_and_the_last_good_checkpoint_is_kept(tiny_cache, tmp_path):
    # 25 steps an epoch; gradients overflow from the second one on.
    run = start_run(make_recipe(train__batch_size=4), cache=tiny_cache, out=tmp_path / "run")
    run = replace(run, setup=replace(run.setup, scaler=torch.amp.GradScaler("cpu", init_scale=2.0)))
    weight, kept = run.setup.model.event_head.weight, run.folder.last
    weight.register_hook(lambda gradient: gradient * math.inf if kept.is_file() else gradient)
    message = "^epoch 2, step [0-9]+: gradients overflow float16.*; the last good checkpoint is kept$"
    with pytest.raises(NonFiniteError, match=message):
        list(run.train())
    assert load_checkpoint(kept)["position"]["epoch"] == 1


TOO_MUCH = 10**15


def refuse_memory():
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize("allocate", [lambda: torch.empty(TOO_MUCH), lambda: np.empty(TOO_MUCH), refuse_memory])
def test_no_memory_is_one_line_that_names_the_batch_sizes(tiny_cache, tmp_path, allocate):
    run = start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run")
    run.setup.model.register_forward_hook(lambda *_: allocate())
    message = (
        "^epoch 1: out of memory with train.batch_size = 24 and train.eval_batch_size = 128; start a new run with "
        "lower ones; nothing is saved yet$"
    )
    with pytest.raises(RunError, match=message):
        list(run.train())


def test_a_final_evaluation_without_memory_can_be_resumed(tiny_cache, tmp_path):
    run = start_run(make_recipe(train__epochs=2), cache=tiny_cache, out=tmp_path / "run")
    run.setup.model.register_forward_hook(
        lambda *_: torch.empty(TOO_MUCH) if len(run.folder.metrics.read()[0]) == 2 else None
    )
    again = f"resume when more is free, with: tmkt-train resume {tmp_path / 'run'}"
    with pytest.raises(RunError, match=f"^final evaluation: out of memory; {again}$"):
        list(run.train())
    assert isinstance(list(resume_run(tmp_path / "run").train())[-1], Finished)


def test_result_is_plain_json(finished):
    json.loads((finished / "result.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
