import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from tmkt_train.errors import RunError
from tmkt_train.training.folder import LOCK, RunFolder
from tmkt_train.training.new_folder import create_run_folder

from ..conftest import make_recipe


def write_rows(folder, *epochs):
    for epoch in epochs:
        folder.metrics.append({"epoch": epoch, "x": 0.1})
    return folder.metrics.path.read_bytes()


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.metrics.read() == ([], False)
    whole = write_rows(folder, 0, 1, 2)
    folder.metrics.path.write_bytes(whole + b'{"epoch": 3, "x"')
    assert [row["epoch"] for row in folder.metrics.keep(2)] == [0, 1]
    assert folder.metrics.path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])
    with pytest.raises(RunError, match="found 2 complete epochs, expected 3"):
        folder.metrics.keep(3)


def test_last_line_that_was_cut_off_is_left_out_and_said(tmp_path):
    folder = RunFolder(tmp_path)
    whole = write_rows(folder, 0, 1)
    assert folder.metrics.read() == ([{"epoch": 0, "x": 0.1}, {"epoch": 1, "x": 0.1}], False)
    for rest in (b'{"epoch": 2, "x"', b'{"epoch": 2, "x": 0.1}', b"\xff"):
        folder.metrics.path.write_bytes(whole + rest)
        assert folder.metrics.read() == ([{"epoch": 0, "x": 0.1}, {"epoch": 1, "x": 0.1}], True)


@pytest.mark.parametrize("line", ['{"epoch": 2}', '{"epo', "[]", "", '{"x": 1}', "[" * 100_000])
def test_line_that_is_out_of_place_is_refused_and_ends_what_a_run_resumes_from(tmp_path, line):
    folder = RunFolder(tmp_path)
    folder.metrics.path.write_text(f'{{"epoch": 0}}\n{line}\n{{"epoch": 1}}\n', encoding="utf-8")
    with pytest.raises(
        RunError, match=r"metrics\.jsonl:2: .*expected .*; restore it from last\.pt with: tmkt-train resume"
    ) as caught:
        folder.metrics.read()
    assert "\n" not in str(caught.value)
    assert folder.metrics.keep(1) == [{"epoch": 0}]
    assert folder.metrics.read() == ([{"epoch": 0}], False)


def test_arrays_come_back_and_their_shapes_must_agree(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_diagnostics() == {}
    arrays = {"confusion": np.eye(3, dtype=np.int64), "class_names": np.array(["a", "b", "c"]), "other": np.zeros(7)}
    folder.write_diagnostics(arrays)
    found = folder.read_diagnostics()
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    for name, array, expected in (
        ("class_names", np.array(["a"]), "3"),
        ("confusion", np.zeros((3, 2)), "3 x 3"),
        ("confusion", np.zeros(3), "K x K"),
        ("embedding", np.zeros((5, 3)), "5 x 2"),
    ):
        folder.write_diagnostics(arrays | {name: array})
        with pytest.raises(RunError, match=rf"diagnostics\.npz: {name} has shape .*, expected {expected};"):
            folder.read_diagnostics()


def test_arrays_that_need_pickle_are_refused(tmp_path):
    np.savez(tmp_path / "diagnostics.npz", confusion=np.array([{}], dtype=object))
    with pytest.raises(RunError, match=r"diagnostics\.npz: .*expected arrays; .* remove it, and `tmkt-train resume`"):
        RunFolder(tmp_path).read_diagnostics()


def test_lock_removes_what_a_kill_left_of_its_own_files_alone(tmp_path):
    left = [".last.pt.0a1b2c3d.tmp", ".last.pt.tmp", ".best.previous.pt.0a1b2c3d.tmp", ".result.json.tmp"]
    # Another process may be writing the report, or a file that is none of ours.
    others = [".report.html.0a1b2c3d.tmp", ".report.html.tmp", ".thesis.tex.tmp"]
    for name in (*left, *others):
        (tmp_path / name).touch()
    with RunFolder(tmp_path).lock():
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_recipe_is_written_last(tmp_path):
    folder = create_run_folder(make_recipe(), tmp_path / "run", {"a": 1})
    assert json.loads(folder.environment.read_text()) == {"a": 1}
    assert folder.read_recipe() == make_recipe()
    folder.recipe.unlink()
    # As if the process had died between the two: the folder is free.
    assert create_run_folder(make_recipe(), folder.path, {"a": 2}).read_recipe() == make_recipe()


def test_a_damaged_result_is_told_by_who_reads_it(tmp_path):
    folder = RunFolder(tmp_path)
    assert (folder.is_finished, folder.is_complete) == (False, False)
    for text, problem in (
        ('{"epochs": 3', "cannot be read (Expecting"),
        ("[3]", "found list, expected a JSON object"),
        ("[" * 100_000, "cannot be read (maximum recursion depth"),
    ):
        folder.result.write_text(text)
        # A run that counted as unfinished would be trained over what is there.
        assert (folder.is_finished, folder.is_complete) == (True, True)
        with pytest.raises(RunError) as refused:
            folder.read_result()
        assert str(refused.value).startswith(f"{folder.result}: {problem}")
        assert str(refused.value).endswith("; the run is damaged, start a new one")
        assert "\n" not in str(refused.value)


def test_a_file_that_is_missing_is_told_without_its_number(tmp_path):
    with pytest.raises(RunError) as refused:
        RunFolder(tmp_path).read_environment()
    path = tmp_path / "environment.json"
    assert (
        str(refused.value) == f"{path}: cannot be read (No such file or directory); the run is damaged, start a new one"
    )


def test_a_recipe_that_is_no_toml_is_one_line(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match=r"no recipe\.toml, expected a run folder; give one that `tmkt-train` created"):
        folder.read_recipe_tables()
    folder.recipe.write_text("seed = ", encoding="utf-8")
    with pytest.raises(RunError, match=r"recipe\.toml: not valid TOML: Invalid value") as refused:
        folder.read_recipe_tables()
    assert "\n" not in str(refused.value)
    folder.recipe.write_text("seed = 4\n[old]\nkey = 1\n", encoding="utf-8")
    assert folder.read_recipe_tables() == {"seed": 4, "old": {"key": 1}}


def test_few_shot_accuracies_come_back(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_few_shot({"shots": [1, 5], "accuracy": 0.25})
    assert json.loads(folder.few_shot.read_text()) == {"shots": [1, 5], "accuracy": 0.25}


def test_metrics_that_cannot_be_written_or_read_are_one_line(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    before = write_rows(folder, 0)
    really = Path.open

    def refuse(path, mode="r", *args, **options):
        if path == folder.metrics.path:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return really(path, mode, *args, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be written \(.*Input/output error"):
        folder.metrics.append({"epoch": 1})
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be read \(Input/output error\)"):
        folder.metrics.restore([])
    monkeypatch.undo()
    assert folder.metrics.path.read_bytes() == before


def test_leftovers_are_removed_unless_another_process_holds_the_folder(tmp_path):
    folder = RunFolder(tmp_path)
    folder.remove_leftovers()
    assert not list(tmp_path.iterdir())
    left = [folder.last_previous, folder.best_previous, folder.evaluations, tmp_path / LOCK]
    kept = [folder.last, folder.best, folder.result, folder.metrics.path]
    for path in (*left, *kept):
        path.touch()
    with RunFolder(tmp_path).lock():
        folder.remove_leftovers()
    assert all(path.exists() for path in (*left[:3], *kept))
    folder.remove_leftovers()
    assert sorted(tmp_path.iterdir()) == sorted(kept)
