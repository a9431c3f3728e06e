import json
import math
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from tmkt_data import PairedFrames, PrepareSpec
from tmkt_data.datasets.digits import open_digits
from tmkt_data.errors import CacheError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_train.errors import NonFiniteError, RunError, RunInterruptedError
from tmkt_train.recipe.load import load_recipe
from tmkt_train.training.checkpoint import load_checkpoint, save_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.new_folder import create_run_folder
from tmkt_train.training.progress import EpochDone, Finished, Started, StepDone
from tmkt_train.training.result import evaluate_both, evaluate_run
from tmkt_train.training.run import resume_run, start_run
from tmkt_train.training.setup import setup_warnings

from ..conftest import make_recipe

TIMES = {"wall_s", "samples_per_s", "peak_memory_bytes"}


class StopAfter:
    def __init__(self, num_asks):
        self.left = num_asks

    def __call__(self):
        self.left -= 1
        return self.left <= 0


def train(recipe, cache, out):
    return list(start_run(recipe, cache=cache, out=out).train())


@pytest.fixture(scope="module")
def finished(tiny_cache, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(make_recipe(), tiny_cache, out)
    return out


def without_times(record):
    return {key: value for key, value in record.items() if key not in TIMES}


def assert_same_state(here, there, place=""):
    assert type(here) is type(there), place
    if isinstance(here, dict):
        assert list(here) == list(there), place
        for key in here:
            # The metrics hold times, too; they are compared as rows.
            if key not in ("wall_s", "epoch_s", "peak_bytes", "metrics"):
                assert_same_state(here[key], there[key], f"{place}/{key}")
    elif isinstance(here, (list, tuple)):
        assert len(here) == len(there), place
        for at, (a, b) in enumerate(zip(here, there, strict=True)):
            assert_same_state(a, b, f"{place}/{at}")
    elif isinstance(here, torch.Tensor):
        assert torch.equal(here, there), place
    else:
        assert here == there, place


def assert_same_run(here, there):
    for name in ("last.pt", "best.pt"):
        assert_same_state(load_checkpoint(here / name), load_checkpoint(there / name), name)
    rows = [[without_times(row) for row in RunFolder(path).read_metrics()[0]] for path in (here, there)]
    assert rows[0] == rows[1]
    results = [without_times(RunFolder(path).read_result()) for path in (here, there)]
    assert results[0] == results[1]
    with np.load(here / "diagnostics.npz") as a, np.load(there / "diagnostics.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


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
    rows = RunFolder(finished).read_metrics()[0]
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
    rows = RunFolder(finished).read_metrics()[0]
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


# Five steps and one batch of evaluation in each of three epochs, then one batch of the test part.
@pytest.mark.parametrize("num_asks", [1, 3, 5, 6, 7, 16, 18, 19])
def test_stopped_and_resumed_equals_uninterrupted(finished, tiny_cache, tmp_path, num_asks):
    out = tmp_path / "run"
    with pytest.raises(RunInterruptedError, match="tmkt-train resume"):
        list(start_run(make_recipe(), cache=tiny_cache, out=out).train(StopAfter(num_asks)))
    assert not RunFolder(out).is_finished
    progress = list(resume_run(out).train())
    assert isinstance(progress[-1], Finished)
    assert_same_run(out, finished)


@pytest.mark.parametrize(
    ("method", "schedule"),
    [
        ("tmkt", "linear"),
        ("event-only", "constant"),
        ("fine-tune", "constant"),
        ("kt+tsm", "constant"),
        ("kt+tsm after images", "cubic"),
    ],
)
def test_stopped_at_every_step_equals_uninterrupted(tiny_cache, tmp_path, method, schedule):
    method, *warm = method.split(" after ")
    recipe = make_recipe(
        method={"name": method}, train__epochs=2, train__sampler="shuffled", mix__schedule=schedule,
        train__image_epochs=2 if warm else "auto",
        data__image_encoding="poisson", model__batch_norm="per-step",
    )  # fmt: skip
    train(recipe, tiny_cache, tmp_path / "whole")
    out, num_stops = tmp_path / "cut", 0
    run = start_run(recipe, cache=tiny_cache, out=out)
    while True:
        try:
            list(run.train(StopAfter(2)))
            break
        except RunInterruptedError:
            num_stops += 1
            run = resume_run(out)
    assert num_stops >= 7
    assert_same_run(out, tmp_path / "whole")


class Asks:
    """Counts how often a run asks whether to stop: after each training step and each batch of an evaluation."""

    def __init__(self):
        self.count = 0

    def __call__(self):
        self.count += 1
        return False


@pytest.mark.parametrize(
    "changes",
    [
        # The first epoch is the best one: its weights and those of the last one are tested.
        {"optim__learning_rate": 5.0},
        {"data__protocol": "kt-paper", "train__select": "last"},
    ],
)
def test_a_run_that_is_stopped_after_every_batch_ends(tiny_cache, tmp_path, changes):
    recipe = make_recipe(train__epochs=2, train__batch_size=50, train__eval_batch_size=5, **changes)
    asks, out = Asks(), tmp_path / "cut"
    (*_, finished) = start_run(recipe, cache=tiny_cache, out=tmp_path / "whole").train(asks)
    run, num_stops = start_run(recipe, cache=tiny_cache, out=out), 0
    while num_stops <= asks.count:
        try:
            list(run.train(StopAfter(1)))
            break
        except RunInterruptedError:
            num_stops += 1
            run = resume_run(out)
    assert RunFolder(out).is_finished
    assert num_stops == asks.count
    assert_same_run(out, tmp_path / "whole")
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert finished.result["best_epoch"] == (0 if "optim__learning_rate" in changes else 1)


def test_weights_are_tested_once(tiny_cache, tmp_path):
    steps, batches = 5, 2
    counts = {}
    for name, changes in {
        "selected on val": {},
        "last, on test": {"data__protocol": "kt-paper", "train__select": "last"},
        "no test": {"train__final_split": "val", "train__select": "last"},
    }.items():
        asks = Asks()
        recipe = make_recipe(train__epochs=2, train__eval_batch_size=5, **changes)
        run = start_run(recipe, cache=tiny_cache, out=tmp_path / name)
        assert (run.setup.batches_per_epoch, len(run.setup.selection)) == (5, 10)
        list(run.train(asks))
        counts[name] = asks.count
    assert counts == {
        "selected on val": 2 * (steps + batches) + batches,
        "last, on test": 2 * (steps + batches),
        "no test": 2 * (steps + batches),
    }


def test_what_a_stopped_run_has_evaluated_counts_for_the_same_weights_only(tiny_cache, tmp_path):
    recipe, out = make_recipe(train__epochs=2, train__eval_batch_size=3), tmp_path / "cut"
    train(recipe, tiny_cache, tmp_path / "whole")
    with pytest.raises(RunInterruptedError):
        list(start_run(recipe, cache=tiny_cache, out=out).train(StopAfter(5 + 2)))
    left = load_checkpoint(out / "evaluations.pt")
    ((key, done),) = left["evaluations"].items()
    assert [len(result[0]) for result in done] == [3, 3]
    wrong = [[torch.zeros_like(part) for part in result] for result in done]
    split, count, digest = key.split()
    assert (split, count) == ("val", "10")
    for bad in (b"cut", {"evaluations": {f"val 10 {digest[::-1]}": wrong, f"test 10 {digest}": wrong}}, {"other": 1}):
        here = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(out, here)
        if isinstance(bad, bytes):
            (here / "evaluations.pt").write_bytes(bad)
        else:
            save_checkpoint(here / "evaluations.pt", bad)
        list(resume_run(here).train())
        assert_same_run(here, tmp_path / "whole")


def with_loss_scale(run):
    """Scale the loss as a run in float16 does, and often enough that the scale changes in each epoch."""
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=4)
    return replace(run, setup=replace(run.setup, scaler=scaler))


def test_scale_of_the_loss_goes_on_where_a_run_was_stopped(tiny_cache, tmp_path):
    whole = with_loss_scale(start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "whole"))
    list(whole.train())
    out = tmp_path / "cut"
    with pytest.raises(RunInterruptedError):
        list(with_loss_scale(start_run(make_recipe(), cache=tiny_cache, out=out)).train(StopAfter(3)))
    assert load_checkpoint(out / "last.pt")["scaler"]["_growth_tracker"] != 0
    list(with_loss_scale(resume_run(out)).train())
    assert_same_run(out, tmp_path / "whole")
    assert load_checkpoint(out / "last.pt")["scaler"]["scale"] > 64.0


def test_fine_tune_starts_anew_on_events(tiny_cache, tmp_path):
    recipe = make_recipe(method={"name": "fine-tune"}, train__epochs=3, train__image_epochs=2)
    train(recipe, tiny_cache, tmp_path / "run")
    rows = RunFolder(tmp_path / "run").read_metrics()[0]
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
        return RunFolder(out).read_metrics()[0], dict(arrays)


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


def test_work_after_the_checkpoint_is_done_again(finished, tiny_cache, tmp_path):
    out = tmp_path / "run"
    training = start_run(make_recipe(), cache=tiny_cache, out=out).train()
    while not isinstance(next(training), EpochDone):
        pass
    last = (out / "last.pt").read_bytes()
    while not isinstance(next(training), EpochDone):
        pass
    training.close()
    # As if the process had died while it wrote the third line, with the checkpoint of the first epoch.
    (out / "last.pt").write_bytes(last)
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"epoch": 2, "lr"')
    list(resume_run(out).train())
    assert_same_run(out, finished)


def test_run_that_died_before_its_first_checkpoint_starts_over(finished, tiny_cache, tmp_path):
    out = tmp_path / "run"
    training = start_run(make_recipe(), cache=tiny_cache, out=out).train()
    for _ in range(4):
        next(training)
    training.close()
    assert not (out / "last.pt").exists()
    list(resume_run(out).train())
    assert_same_run(out, finished)


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


def test_resume_refuses_another_cache(digits_root, tiny_cache, tmp_path):
    with pytest.raises(RunInterruptedError):
        list(start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run").train(StopAfter(2)))
    other = tmp_path / "other.h5"
    for _ in prepare_cache(
        plan_prepare(open_digits(digits_root), PrepareSpec(time_bins=4, size=16, split_seed=1), other)
    ):
        pass
    with pytest.raises(RunError, match=r"expected .* as when the run was started"):
        resume_run(tmp_path / "run", cache=other)
    moved = tmp_path / "moved.h5"
    shutil.copy(tiny_cache, moved)
    assert resume_run(tmp_path / "run", cache=moved).notes == ()


def test_resume_notes_other_versions(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    environment = RunFolder(out).read_environment()
    RunFolder(out).write_environment(environment | {"torch": "1.0"})
    assert resume_run(out).notes == (f"torch was 1.0 and is {environment['torch']}: the last digits may differ",)


def rows_of(cache, split):
    return PairedFrames(cache, split=split, pairing="none").rows


def alter_recording(cache, row):
    with h5py.File(cache) as file:
        frames = file["events/frames"]
        at = frames.id.get_offset() + int(row) * frames.nbytes // len(frames)
    with cache.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(("split", "num_epochs_done"), [("test", 3), ("val", 0)])
def test_test_part_is_read_at_the_end_only(tiny_cache, tmp_path, split, num_epochs_done):
    cache = tmp_path / "cache.h5"
    shutil.copy(tiny_cache, cache)
    alter_recording(cache, rows_of(cache, split)[0])
    seen = []
    with pytest.raises(CacheError, match="was changed"):
        seen.extend(start_run(make_recipe(), cache=cache, out=tmp_path / "run").train())
    assert len(RunFolder(tmp_path / "run").read_metrics()[0]) == num_epochs_done


def test_run_without_the_test_part_reads_no_recording_of_it(tiny_cache, tmp_path):
    cache = tmp_path / "cache.h5"
    shutil.copy(tiny_cache, cache)
    for row in rows_of(cache, "test"):
        alter_recording(cache, row)
    result = train(make_recipe(train__final_split="val"), cache, tmp_path / "run")[-1].result
    names = ("test_accuracy", "test_loss", "last_epoch_test_accuracy", "num_test")
    assert [result[name] for name in names] == [None, None, None, 0]
    assert result["warnings"] == []
    rows = RunFolder(tmp_path / "run").read_metrics()[0]
    assert result["val_accuracy"] == max(row["val_accuracy"] for row in rows)
    with np.load(tmp_path / "run" / "diagnostics.npz") as found:
        assert np.trace(found["confusion"]) / found["confusion"].sum() == result["val_accuracy"]
        assert set(found["strip_ids"]) <= set(PairedFrames(cache, split="val", pairing="none").ids)
    with pytest.raises(CacheError, match="was changed"):
        evaluate_run(tmp_path / "run")


def test_last_epoch_is_tested_beside_the_selected_one(tiny_cache, tmp_path):
    # A high rate, so that the epochs differ; with it, this seed selects epoch 4.
    recipe = make_recipe(seed=4, optim__learning_rate=0.1, optim__schedule="constant", train__epochs=5)
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    assert result["best_epoch"] == 3
    selected, last = evaluate_both(tmp_path / "run")
    assert selected.accuracy == result["test_accuracy"] != last.accuracy
    assert last.accuracy == result["last_epoch_test_accuracy"]
    assert evaluate_run(tmp_path / "run")[0].accuracy == result["test_accuracy"]


def test_last_epoch_may_be_taken_whatever_its_accuracy(tiny_cache, tmp_path):
    recipe = make_recipe(optim__learning_rate=0.05, train__epochs=4, train__select="last")
    whole, out = tmp_path / "whole", tmp_path / "cut"
    result = train(recipe, tiny_cache, whole)[-1].result
    assert (result["best_epoch"], result["select"], result["selected_on"]) == (3, "last", "none")
    assert result["test_accuracy"] == result["last_epoch_test_accuracy"]
    assert result["val_accuracy"] == result["last_epoch_val_accuracy"]
    best, last = (load_checkpoint(whole / name)["model"] for name in ("best.pt", "last.pt"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    with pytest.raises(RunInterruptedError):
        list(start_run(recipe, cache=tiny_cache, out=out).train(StopAfter(15)))
    assert not (out / "best.pt").exists()
    list(resume_run(out).train())
    assert_same_run(out, whole)


def test_last_epoch_under_the_protocol_of_the_papers_is_not_optimistic(tiny_cache, tmp_path):
    recipe = make_recipe(data__protocol="kt-paper", train__epochs=2, train__select="last")
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    assert (result["optimistic"], result["selected_on"], result["warnings"]) == (False, "none", [])
    assert result["test_accuracy"] == RunFolder(tmp_path / "run").read_metrics()[0][-1]["test_accuracy"]


def test_selection_on_more_recordings_than_training_has_is_warned_of(tiny_cache, tmp_path):
    run = start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run")
    assert list(setup_warnings(run.recipe, run.setup)) == []
    swapped = replace(run.setup, frames=run.setup.selection, selection=run.setup.frames)
    (warning,) = setup_warnings(run.recipe, swapped)
    assert warning.startswith("the epoch is selected on 100 validation recordings, more than the 10 of training; ")
    for changes in ({"train__select": "last"}, {"data__protocol": "kt-paper"}):
        assert list(setup_warnings(make_recipe(**changes), swapped)) == []


def test_selection_on_test_is_flagged(tiny_cache, tmp_path):
    recipe = make_recipe(data__protocol="kt-paper", train__epochs=2)
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    rows = RunFolder(tmp_path / "run").read_metrics()[0]
    assert result["optimistic"] is True
    assert result["val_accuracy"] is None
    assert result["selected_on"] == "test"
    assert "optimistic" in result["warnings"][0]
    assert result["test_accuracy"] == max(row["test_accuracy"] for row in rows)
    assert result["last_epoch_test_accuracy"] == rows[-1]["test_accuracy"]


def test_a_leaking_pool_is_optimistic_and_says_how_many_it_reaches(tiny_cache, tmp_path):
    recipe = make_recipe(data__image_pool="all", train__epochs=2)
    result = train(recipe, tiny_cache, tmp_path / "run")[-1].result
    assert result["optimistic"] is True
    assert result["selected_on"] == "val"
    assert isinstance(result["val_accuracy"], float)
    assert result["pair_report"]["num_reachable_heldout"] == result["num_val"] + result["num_test"]
    assert result["warnings"] == [
        "test_accuracy is optimistic: images of held-out recordings are within reach of training"
    ]
    honest = make_recipe(data__image_pool="all", method__name="event-only")
    assert not honest.optimism


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
    assert len(RunFolder(out).read_metrics()[0]) == 1
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


def test_gpu_without_memory_is_one_line_that_names_the_batch_sizes(tiny_cache, tmp_path):
    run = start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run")

    def fail(*_):
        # How torch begins its message; several sentences follow.
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")

    run.setup.model.register_forward_hook(fail)
    message = (
        "^epoch 1: CUDA out of memory with train.batch_size = 24 and train.eval_batch_size = 128; start a new run with "
        "lower ones, or with train.precision=bfloat16; nothing is saved yet$"
    )
    with pytest.raises(RunError, match=message):
        list(run.train())


def test_folder_in_use_is_refused(tiny_cache, tmp_path):
    run = start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run")
    with run.folder.lock(), pytest.raises(RunError, match="another process is training here"):
        list(run.train())


def test_folders_get_numbers_and_taken_ones_are_refused(tmp_path, monkeypatch, finished):
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe()
    paths = [create_run_folder(recipe, None, {}).path.as_posix() for _ in range(3)]
    assert paths == ["runs/tiny-tmkt-seed3", "runs/tiny-tmkt-seed3-2", "runs/tiny-tmkt-seed3-3"]
    with pytest.raises(RunError, match="holds a finished run"):
        create_run_folder(recipe, finished, {})
    with pytest.raises(RunError, match=r"unfinished run; resume it with: tmkt-train resume runs"):
        create_run_folder(recipe, tmp_path.joinpath("runs/tiny-tmkt-seed3").relative_to(tmp_path), {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(RunError, match="not empty"):
        create_run_folder(recipe, tmp_path / "full", {})
    with pytest.raises(RunError, match="a file, expected a new folder"):
        create_run_folder(recipe, tmp_path / "full" / "x", {})
    with pytest.raises(RunError, match="cannot be created"):
        create_run_folder(recipe, tmp_path / "full" / "x" / "y", {})


def test_problem_with_the_recipe_leaves_no_folder(tiny_cache, tmp_path):
    with pytest.raises(RunError):
        start_run(make_recipe(train__batch_size=500, train__drop_last=True), cache=tiny_cache, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_folder_that_is_no_run_or_is_damaged_is_one_line(finished, tmp_path):
    with pytest.raises(RunError, match="no such folder"):
        resume_run(tmp_path / "none")
    with pytest.raises(RunError, match=r"no recipe\.toml"):
        resume_run(tmp_path)
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "environment.json").write_text("[", encoding="utf-8")
    with pytest.raises(RunError, match=r"environment\.json: cannot be read"):
        resume_run(out)


def test_weights_of_another_network_are_refused(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    state = load_checkpoint(out / "best.pt")
    state["model"].pop("event_head.weight")
    save_checkpoint(out / "best.pt", state)
    with pytest.raises(RunError, match="of another network"):
        evaluate_run(out)
    save_checkpoint(out / "last.pt", load_checkpoint(out / "last.pt") | {"model": {}})
    run = resume_run(out)
    with pytest.raises(RunError, match=r"last\.pt: the weights are of another network"):
        list(run.train())


def test_result_is_plain_json(finished):
    json.loads((finished / "result.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
