import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from file_limits import file_size_limit

from tmkt_data import PairedFrames
from tmkt_data.datasets.digits import open_digits
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_train.errors import NonFiniteError, RunError
from tmkt_train.report.page import write_report
from tmkt_train.training.checkpoint import load_checkpoint, save_checkpoint
from tmkt_train.training.folder import RunFolder
from tmkt_train.training.new_folder import create_run_folder
from tmkt_train.training.progress import EpochDone, Finished, Started
from tmkt_train.training.result import evaluate_run, write_end
from tmkt_train.training.run import resume_run, start_run

from ..conftest import TINY_SPEC, make_recipe

SHORT = {"train__epochs": 2}


@pytest.fixture(scope="module")
def finished(tiny_cache, tmp_path_factory):
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("runs") / "whole"
    list(start_run(make_recipe(**SHORT), cache=tiny_cache, out=out).train())
    return out


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def unfinish(run):
    (run / "result.json").unlink()
    return run


def test_training_without_images_in_the_test_part_ends_with_a_warning(digits_root, tiny_cache, tmp_path):
    held_out = set(PairedFrames(tiny_cache, split="test", pairing="none").ids)
    catalogue = open_digits(digits_root)
    images = tuple(image for image in catalogue.images if image.id not in held_out)
    cache = tmp_path / "cache.h5"
    for _ in prepare_cache(plan_prepare(dataclasses.replace(catalogue, images=images), TINY_SPEC, cache)):
        pass
    recipe = make_recipe(**SHORT, data__pairing="twin")
    *_, end = start_run(recipe, cache=cache, out=tmp_path / "run").train()
    assert isinstance(end, Finished)
    (warning,) = (text for text in end.result["warnings"] if "without images" in text)
    assert RunFolder(tmp_path / "run").read_result()["warnings"] == end.result["warnings"]
    with np.load(tmp_path / "run" / "diagnostics.npz") as found:
        assert found["strips"].shape[:2] == (6, 1)
    page = write_report([tmp_path / "run"], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "without images" in page
    assert warning.startswith("samples of the test split are shown without images: ")


@pytest.mark.parametrize("method", ["kt", "event-only"])
def test_copies_of_test_recordings_in_training_are_in_the_result(digits_root, tiny_cache, tmp_path, method):
    frames = {split: PairedFrames(tiny_cache, split=split, pairing="none") for split in ("train", "test")}
    train, test = (frames[split].ids[0] for split in ("train", "test"))
    catalogue = open_digits(digits_root)
    (source,) = (recording for recording in catalogue.recordings if recording.id == train)
    copied = tuple(
        other._replace(file=source.file, num_bytes=source.num_bytes) if other.id == test else other
        for other in catalogue.recordings
    )
    spec = dataclasses.replace(TINY_SPEC, duplicates="keep")
    cache = tmp_path / "cache.h5"
    for _ in prepare_cache(plan_prepare(dataclasses.replace(catalogue, recordings=copied), spec, cache)):
        pass
    prepare = {"time_bins": 4, "size": 16, "duplicates": "keep"}
    recipe = make_recipe(train__epochs=1, optim__warmup_epochs=0, method__name=method, data__prepare=prepare)
    *_, end = start_run(recipe, cache=cache, out=tmp_path / "run").train()
    assert (
        f"1 recording of val or test has the content of one in another split, such as recording {test} (test) = "
        f"{train} (train); accuracy on them is no test"
    ) in end.result["warnings"]
    if method == "kt":
        assert end.result["pair_report"]["duplicates"]["recordings"] == 1
        assert end.result["pair_report"]["verdicts"][0]["severity"] == "warning"
    assert f"such as recording {test} (test)" in write_report([tmp_path / "run"], tmp_path / "report.html").read_text(
        encoding="utf-8"
    )


def test_result_stands_whatever_is_wrong_with_the_diagnostics(finished, tmp_path):
    folder = RunFolder(tmp_path)
    result = RunFolder(finished).read_result()

    def broken():
        assert folder.is_finished
        raise ZeroDivisionError("by zero")

    found = write_end(folder, result, broken)
    assert found["warnings"] == ["diagnostics.npz was not written (ZeroDivisionError: by zero)"]
    assert folder.read_result() == found


def test_death_between_result_and_diagnostics_is_made_good(run):
    folder = RunFolder(run)
    result, arrays = folder.read_result(), folder.read_diagnostics()
    assert folder.is_complete
    folder.diagnostics.unlink()
    assert folder.is_finished
    assert not folder.is_complete
    list(resume_run(run).train())
    assert folder.is_complete
    assert {name: folder.read_result()[name] for name in ("warnings", "test_accuracy", "best_epoch")} == {
        name: result[name] for name in ("warnings", "test_accuracy", "best_epoch")
    }
    assert list(folder.read_diagnostics()) == list(arrays)


def test_second_death_over_the_diagnostics_counts_as_finished_and_is_said(run):
    folder = RunFolder(run)
    result = folder.read_result()
    folder.diagnostics.unlink()

    def die():
        raise SystemExit

    with pytest.raises(SystemExit):
        write_end(folder, result, die)
    assert folder.is_complete
    died = "diagnostics.npz was not written (it failed twice; free some space, or report why the process dies)"
    assert folder.read_result()["warnings"] == [*result["warnings"], died]


def test_diagnostics_that_find_no_space_are_an_error_and_written_by_the_next_start(run):
    folder = RunFolder(run)
    result, arrays = folder.read_result(), folder.read_diagnostics()
    unfinish(run)
    folder.diagnostics.unlink()
    with (
        file_size_limit(folder.metrics.path.stat().st_size + 10_000),
        pytest.raises(RunError, match=r"diagnostics\.npz: "),
    ):
        write_end(folder, result, lambda: (arrays, []))
    assert folder.read_result() == result
    assert not folder.is_complete
    assert write_end(folder, result, lambda: (arrays, [])) == result == folder.read_result()
    assert folder.is_complete


def test_selected_weights_of_another_epoch_are_refused(run):
    best = RunFolder(run).best
    state = load_checkpoint(best)
    save_checkpoint(best, state | {"epoch": state["epoch"] + 3})
    wanted = rf"best\.pt: holds epoch {state['epoch'] + 4}, expected epoch {state['epoch'] + 1}"
    with pytest.raises(RunError, match=wanted):
        evaluate_run(run)


def test_resume_restores_the_selected_weights_from_the_last_checkpoint(tiny_cache, tmp_path):
    out = tmp_path / "run"
    training = start_run(make_recipe(train__epochs=3), cache=tiny_cache, out=out).train()
    while not isinstance(next(training), EpochDone):
        pass
    training.close()
    # As if the process had died between the two files: last.pt stands, best.pt is of before.
    wanted = load_checkpoint(out / "best.pt")
    save_checkpoint(out / "best.pt", wanted | {"epoch": 7, "model": {}})
    training = resume_run(out).train()
    assert isinstance(next(training), Started)
    found = load_checkpoint(out / "best.pt")
    assert found["epoch"] == 0
    assert all(torch.equal(found["model"][name], wanted["model"][name]) for name in wanted["model"])
    next(training)
    training.close()


def test_resume_refuses_selected_weights_that_cannot_be_made_again(run):
    folder = RunFolder(unfinish(run))
    last, best = load_checkpoint(folder.last), load_checkpoint(folder.best)
    last["position"] |= {"best": [0, 0.5, 1.0]}
    save_checkpoint(folder.last, last)
    save_checkpoint(folder.best, best | {"epoch": 1})
    with pytest.raises(RunError, match=r"best\.pt: holds epoch 2, expected epoch 1 .*start a new run"):
        list(resume_run(run).train())


@pytest.mark.parametrize("finish", [False, True])
def test_edited_recipe_is_refused_and_its_keys_are_named(run, finish):
    again = evaluate_run if finish else resume_run
    if not finish:
        unfinish(run)
    path = RunFolder(run).recipe
    whole = path.read_text(encoding="utf-8")
    path.write_text("# a comment\n" + whole, encoding="utf-8")
    again(run)
    path.write_text(whole.replace("learning_rate = 0.002", "learning_rate = 0.003"), encoding="utf-8")
    with pytest.raises(RunError, match=r"recipe\.toml: optim\.learning_rate changed, expected the recipe"):
        again(run)
    RunFolder(run).last.unlink()
    with pytest.raises(RunError, match=r"recipe\.toml: the settings changed"):
        again(run)


@pytest.mark.parametrize(
    "change",
    [
        {"position": {}},
        {"position": 3},
        {"position": None},
        {"optimizer": {}},
        {"optimizer": None},
        {"generator": torch.zeros(3)},
        {"generator": 3},
        {"model": 3},
        {"method": None},
    ],
)
def test_last_checkpoint_of_other_content_is_one_line(run, change):
    folder = RunFolder(unfinish(run))
    save_checkpoint(folder.last, load_checkpoint(folder.last) | change)
    with pytest.raises(RunError, match=r"last\.pt: ") as caught:
        list(resume_run(run).train())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("environment.json", "cache", None),
        ("environment.json", "cache_digest", 3),
        ("environment.json", "num_threads", "two"),
        ("result.json", "test_accuracy", "high"),
        ("result.json", "best_epoch", None),
        ("result.json", "cache_digest", []),
    ],
)
def test_records_of_other_content_are_one_line(run, name, key, value):
    path = run / name
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {key: value}), encoding="utf-8")
    with pytest.raises(
        RunError, match=rf"{name}: found .* as {key}, expected another type; the run is damaged"
    ) as caught:
        evaluate_run(run)
    assert "\n" not in str(caught.value)


def test_moved_cache_is_asked_for_and_remembered(tiny_cache, tmp_path):
    cache = tmp_path / "here.h5"
    shutil.copy(tiny_cache, cache)
    training = start_run(make_recipe(**SHORT), cache=cache, out=tmp_path / "run").train()
    next(training)
    training.close()
    moved = cache.rename(tmp_path / "there.h5")
    with pytest.raises(RunError, match=r"here\.h5: the cache of this run was not found; .*--cache"):
        resume_run(tmp_path / "run")
    list(resume_run(tmp_path / "run", cache=moved).train())
    assert RunFolder(tmp_path / "run").read_environment()["cache"] == str(moved)
    evaluation, recorded = evaluate_run(tmp_path / "run")
    assert evaluation.accuracy == recorded


def test_folder_that_another_process_is_making_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    with RunFolder(tmp_path / "run").lock(), pytest.raises(RunError, match="another process"):
        create_run_folder(make_recipe(), tmp_path / "run", {})
    assert not list((tmp_path / "run").iterdir())


def test_broken_loss_before_any_checkpoint_promises_none(tiny_cache, tmp_path):
    recipe = make_recipe(optim__learning_rate=1e30, optim__min_learning_rate=0.0, optim__warmup_epochs=0)
    with pytest.raises(NonFiniteError, match=r"epoch 1.*; nothing is saved yet"):
        list(start_run(recipe, cache=tiny_cache, out=tmp_path / "run").train())
    assert not (tmp_path / "run" / "last.pt").exists()


def test_doubtful_setting_is_noted_at_the_start_and_in_the_result(tiny_cache, tmp_path):
    recipe = make_recipe(loss__alignment=0, train__epochs=1, optim__warmup_epochs=0)
    start, *_, end = start_run(recipe, cache=tiny_cache, out=tmp_path / "run").train()
    assert "loss.coefficients=off" in start.notes[0]
    assert end.result["warnings"] == list(start.notes)
