"""Damage to a checkpoint or to the metrics costs an epoch of time, and nothing of the result."""

import errno
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from tmkt_train.errors import RunError, RunInterruptedError
from tmkt_train.training import checkpoint
from tmkt_train.training.checkpoint import load_checkpoint, save_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.progress import EpochDone, Started
from tmkt_train.training.restore import repair_finished, repair_metrics
from tmkt_train.training.run import resume_run, start_run

from ..conftest import make_recipe
from .runs import StopAfter, assert_same_run, train

NUM_EPOCHS = 4
GENERATIONS = ("last.pt", "last.previous.pt", "best.pt", "best.previous.pt")


def recipe():
    return make_recipe(train__epochs=NUM_EPOCHS)


@pytest.fixture(scope="module")
def whole(tiny_cache, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    train(recipe(), tiny_cache, out)
    return out


@pytest.fixture(scope="module")
def stopped(tiny_cache, tmp_path_factory):
    """Copies of a run folder as a kill after each epoch leaves it."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "run"
    copies = []
    for item in start_run(recipe(), cache=tiny_cache, out=out).train():
        if isinstance(item, EpochDone):
            copies.append(shutil.copytree(out, out.with_name(f"after-{len(copies) + 1}")))
    return copies


def resume(path):
    """Resume a run to its end, and return what it said at the start."""
    progress = list(resume_run(path).train())
    assert isinstance(progress[0], Started)
    return progress[0].notes


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    # Within the weights: most of the file.
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def replace_weights(path):
    values = load_checkpoint(path)
    path.unlink()
    save_checkpoint(path, values | {"model": {}})


def test_two_generations_are_kept_while_a_run_trains_and_one_at_its_end(stopped, whole):
    epochs = [[load_checkpoint(run / name)["position"]["epoch"] for name in GENERATIONS[:2]] for run in stopped[1:]]
    assert epochs == [[2, 1], [3, 2], [4, 3]]
    assert not (stopped[0] / "last.previous.pt").exists()
    assert sorted(path.name for path in whole.glob("*.pt")) == ["best.pt", "last.pt"]


# Each damage after some epochs, and one of them after any number.
@pytest.mark.parametrize(
    ("damage", "num_epochs"), [(cut, 2), (cut, 3), (cut, 4), (flip, 3), (empty, 4), (remove, 2), (replace_weights, 3)]
)
def test_damaged_checkpoint_falls_back_to_the_one_before(stopped, whole, tmp_path, damage, num_epochs):
    out = shutil.copytree(stopped[num_epochs - 1], tmp_path / "run")
    damage(out / "last.pt")
    [note, *others] = resume(out)
    assert note.startswith(f"{out / 'last.pt'}: ")
    assert note.endswith(f"; resuming from last.previous.pt, after epoch {num_epochs - 1}")
    assert "start a new run" not in note
    assert "\n" not in note
    assert all("best.pt" in other for other in others)
    assert_same_run(out, whole)


@pytest.mark.parametrize("name", GENERATIONS[1:])
def test_damage_to_any_other_generation_changes_nothing(stopped, whole, tmp_path, name):
    for at, folder in enumerate(stopped):
        if not (folder / name).exists():
            continue
        out = shutil.copytree(folder, tmp_path / f"run-{at}")
        cut(out / name)
        # Weights of an epoch before the last ones are in best.pt alone.
        best = load_checkpoint(out / "last.pt")["position"]["best"][0]
        previous = load_checkpoint(folder / "last.previous.pt")["position"] if at else {"best": [-1], "epoch": -1}
        is_lost = name == "best.pt" and best < at and not (previous["best"][0] == best == previous["epoch"] - 1)
        if is_lost:
            with pytest.raises(RunError, match=r"best\.pt: not a readable checkpoint .*; start a new run"):
                resume(out)
        else:
            resume(out)
            assert_same_run(out, whole)


def test_damage_to_both_generations_is_one_line(stopped, tmp_path):
    out = shutil.copytree(stopped[2], tmp_path / "run")
    for name in ("last.pt", "last.previous.pt"):
        cut(out / name)
    with pytest.raises(RunError, match=r"last\.pt: not a readable checkpoint .*; start a new run") as caught:
        resume(out)
    assert "\n" not in str(caught.value)
    assert len(RunFolder(out).metrics.read()[0]) == 3


def test_the_damaged_one_never_becomes_the_older_one(stopped, whole, tmp_path):
    out = shutil.copytree(stopped[2], tmp_path / "run")
    cut(out / "last.pt")
    with pytest.raises(RunInterruptedError):
        list(resume_run(out).train(StopAfter(2)))
    assert [load_checkpoint(out / name)["position"]["epoch"] for name in GENERATIONS[:2]] == [2, 2]
    # Once more, in the middle of an epoch.
    flip(out / "last.pt")
    resume(out)
    assert_same_run(out, whole)


def test_best_weights_of_a_later_epoch_give_way_to_those_of_the_older_checkpoint(tiny_cache, tmp_path):
    out = tmp_path / "run"
    for item in start_run(recipe(), cache=tiny_cache, out=out).train():
        if isinstance(item, EpochDone) and item.row["epoch"] == 2:
            break
    # The third epoch was the best, the second was not: last.previous.pt needs the weights of the first.
    weights = {path: load_checkpoint(path) for path in (out / "best.pt", out / "last.previous.pt")}
    first = {"epoch": 0, "model": weights[out / "best.pt"]["model"]}
    accuracy, loss = RunFolder(out).metrics.read()[0][0]["val_accuracy"], 9.0
    position = weights[out / "last.previous.pt"]["position"] | {"best": [0, accuracy, loss]}
    (out / "last.previous.pt").unlink()
    save_checkpoint(out / "last.previous.pt", weights[out / "last.previous.pt"] | {"position": position})
    (out / "best.previous.pt").unlink(missing_ok=True)
    save_checkpoint(out / "best.previous.pt", first)
    save_checkpoint(out / "best.pt", {"epoch": 2, "model": first["model"]})
    cut(out / "last.pt")
    notes = resume(out)
    assert notes[0].endswith("resuming from last.previous.pt, after epoch 2")
    assert notes[1] == f"{out / 'best.pt'}: holds epoch 3, expected epoch 1; restored from best.previous.pt"
    assert load_checkpoint(out / "best.pt")["epoch"] == RunFolder(out).read_result()["best_epoch"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_a_damaged_one(stopped, tmp_path, monkeypatch, number):
    out = shutil.copytree(stopped[1], tmp_path / "run")
    before = {path.name: path.read_bytes() for path in out.glob("*.pt")}
    open_really = os.open

    def refuse(path, *args, **options):
        if str(path).endswith("last.pt"):
            raise OSError(number, os.strerror(number))
        return open_really(path, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(RunError, match=rf"last\.pt: cannot be read \({os.strerror(number)}\)"):
        resume(out)
    assert {path.name: path.read_bytes() for path in out.glob("*.pt")} == before


def test_without_hard_links_the_older_one_is_renamed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(95, os.strerror(95))

    monkeypatch.setattr(os, "link", refuse)
    for epoch in range(3):
        save_checkpoint(tmp_path / "last.pt", {"epoch": epoch}, previous=tmp_path / "last.previous.pt")
    found = {path.name: load_checkpoint(path)["epoch"] for path in tmp_path.iterdir()}
    assert found == {"last.pt": 2, "last.previous.pt": 1}


def test_two_names_of_one_file_become_two_files(tmp_path):
    last, previous = tmp_path / "last.pt", tmp_path / "last.previous.pt"
    save_checkpoint(last, {"epoch": 0})
    # As a kill between the second name and the new file leaves it.
    previous.hardlink_to(last)
    save_checkpoint(last, {"epoch": 1}, previous=previous)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.previous.pt", "last.pt"]
    assert (load_checkpoint(last)["epoch"], load_checkpoint(previous)["epoch"]) == (1, 0)


def test_an_older_checkpoint_stays_where_the_new_one_cannot_be_written(tmp_path, monkeypatch):
    last, previous = tmp_path / "last.pt", tmp_path / "last.previous.pt"
    for epoch in range(2):
        save_checkpoint(last, {"epoch": epoch}, previous=previous)

    def fail(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint.os, "fsync", fail)
    with pytest.raises(RunError, match="No space left"):
        save_checkpoint(last, {"epoch": 2}, previous=previous)
    assert (load_checkpoint(last)["epoch"], load_checkpoint(previous)["epoch"]) == (1, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.previous.pt", "last.pt"]


def lose(lines):
    return lines[:1] + lines[2:]


def double(lines):
    return [lines[0], *lines]


def cut_line(lines):
    return [lines[0], lines[1][:20] + "\n", *lines[2:]]


def cut_end(lines):
    return [*lines[:-1], lines[-1][:-9]]


def swap(lines):
    return [lines[1], lines[0], *lines[2:]]


def another_number(lines):
    return [lines[0].replace('"epoch": 0', '"epoch": 0, "val_accuracy": 1.0'), *lines[1:]]


def nothing(_lines):
    return []


LINES = [(lose, 2), (double, 2), (cut_line, 2), (cut_end, 3), (swap, 1), (another_number, 1), (nothing, 1)]


def damage_lines(out, change):
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(change(lines)))
    return "".join(lines)


@pytest.mark.parametrize(("change", "number"), LINES)
def test_metrics_are_restored_from_the_checkpoint(stopped, whole, tmp_path, change, number):
    out = shutil.copytree(stopped[2], tmp_path / "run")
    before = damage_lines(out, change)
    training = resume_run(out).train()
    [note] = next(training).notes
    found = "no line" if change is nothing else "another line"
    assert note == (
        f"{out / 'metrics.jsonl'}:{number}: found {found}, expected that of epoch {number} of 3; restored from last.pt"
    )
    assert (out / "metrics.jsonl").read_text() == before
    list(training)
    assert_same_run(out, whole)


@pytest.mark.parametrize(("change", "number"), [LINES[0], LINES[3], LINES[6]])
def test_metrics_of_a_finished_run_are_restored_too(whole, tmp_path, change, number):
    out = shutil.copytree(whole, tmp_path / "run")
    assert repair_metrics(RunFolder(out)) == ()
    before = damage_lines(out, change)
    [note] = repair_metrics(RunFolder(out))
    assert f"metrics.jsonl:{number + (change is cut_end)}: found " in note
    assert (out / "metrics.jsonl").read_text() == before
    assert repair_metrics(RunFolder(out)) == ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lose, ":2: expected a JSON object of epoch 1"),
        (cut_end, ": found 3 whole lines, expected 4 as in result.json"),
        (nothing, ": found 0 whole lines, expected 4 as in result.json"),
    ],
)
def test_metrics_without_a_checkpoint_to_restore_them_from_are_one_line(whole, tmp_path, change, problem):
    out = shutil.copytree(whole, tmp_path / "run")
    (out / "last.pt").unlink()
    assert repair_metrics(RunFolder(out)) == ()
    damage_lines(out, change)
    before = (out / "metrics.jsonl").read_bytes()
    with pytest.raises(RunError) as refused:
        repair_metrics(RunFolder(out))
    assert str(refused.value) == (
        f"{out / 'metrics.jsonl'}{problem}, and there is no last.pt to restore it from; start a new run"
    )
    assert (out / "metrics.jsonl").read_bytes() == before


def test_a_folder_that_cannot_be_changed_keeps_the_damaged_checkpoint(stopped, tmp_path):
    out = shutil.copytree(stopped[2], tmp_path / "run")
    (out / "last.pt").unlink()
    # A folder stands where the older checkpoint would go.
    (out / "last.pt").mkdir()
    (out / "last.pt" / "other").touch()
    with pytest.raises(RunError, match=r"last\.pt: cannot be written \(.*directory.*\); check its folder$"):
        resume(out)
    assert load_checkpoint(out / "last.previous.pt")["position"]["epoch"] == 2


def test_lines_of_epochs_after_the_checkpoint_are_trained_again_without_a_word(stopped, whole, tmp_path):
    out = shutil.copytree(stopped[1], tmp_path / "run")
    shutil.copy(stopped[2] / "metrics.jsonl", out / "metrics.jsonl")
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3')
    assert resume(out) == ()
    assert_same_run(out, whole)


def test_a_checkpoint_of_an_earlier_version_takes_the_metrics_from_their_file(stopped, whole, tmp_path):
    out = shutil.copytree(stopped[2], tmp_path / "run")
    values = load_checkpoint(out / "last.pt")
    del values["position"]["metrics"]
    (out / "last.pt").unlink()
    save_checkpoint(out / "last.pt", values)
    once_more = shutil.copytree(out, tmp_path / "once-more")
    assert resume(out) == ()
    assert_same_run(out, whole)
    (once_more / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match="found 0 complete epochs, expected 3"):
        resume(once_more)


def test_loss_of_every_checkpoint_is_said(stopped, whole, tmp_path):
    out = shutil.copytree(stopped[2], tmp_path / "run")
    for path in out.glob("last*.pt"):
        path.unlink()
    assert resume(out) == (
        f"{out / 'last.pt'}: no such checkpoint, though best.pt is there; starting again from the first epoch",
    )
    assert_same_run(out, whole)


def test_checkpoints_in_a_thread_keep_two_generations_as_well(whole, tiny_cache, tmp_path):
    out = tmp_path / "run"
    training = replace(start_run(recipe(), cache=tiny_cache, out=out), checkpoint_interval_s=1e-9).train()
    for item in training:
        if isinstance(item, EpochDone) and item.row["epoch"] == 2:
            break
    training.close()
    epochs = [load_checkpoint(out / name)["position"]["epoch"] for name in GENERATIONS[:2]]
    assert epochs == [3, 2]
    flip(out / "last.pt")
    assert resume(out)[0].endswith("resuming from last.previous.pt, after epoch 2")
    assert_same_run(out, whole)


def test_rows_in_the_checkpoint_are_the_lines_of_the_file(stopped):
    lines = load_checkpoint(stopped[2] / "last.pt")["position"]["metrics"]
    assert "".join(line + "\n" for line in lines) == (stopped[2] / "metrics.jsonl").read_text()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]


def test_best_weights_of_a_finished_run_are_restored_from_the_last_epoch(tiny_cache, tmp_path):
    folder = RunFolder(tmp_path / "run")
    train(make_recipe(train__epochs=1, optim__warmup_epochs=0), tiny_cache, folder.path)
    assert repair_finished(folder) == ()
    before = load_checkpoint(folder.best)
    for damage in (cut, os.unlink):
        damage(folder.best)
        [note] = repair_finished(folder)
        assert note.startswith(f"{folder.best}: ")
        assert note.endswith("; restored from last.pt")
        torch.testing.assert_close(load_checkpoint(folder.best), before, rtol=0, atol=0)
        assert repair_finished(folder) == ()


def test_best_weights_of_a_finished_run_that_no_checkpoint_holds_are_one_line(tiny_cache, tmp_path):
    folder = RunFolder(tmp_path / "run")
    train(make_recipe(train__epochs=1, optim__warmup_epochs=0), tiny_cache, folder.path)
    save_checkpoint(folder.best, load_checkpoint(folder.best) | {"epoch": 1})
    with pytest.raises(RunError, match=r"best\.pt: holds epoch 2, expected epoch 1 as this run selected"):
        repair_finished(folder)
    cut(folder.best)
    cut(folder.last)
    before = folder.best.read_bytes()
    with pytest.raises(RunError, match=r"best\.pt: not a readable checkpoint"):
        repair_finished(folder)
    assert folder.best.read_bytes() == before
