"""Reports of runs that lack files or hold damaged ones."""

import json

import numpy as np
import pytest

from tmkt_train.errors import RunError
from tmkt_train.report.page import write_report
from tmkt_train.training.record import read_run

from .pages import diagnostics, epoch_line, make_bare_run, make_run, page_of


@pytest.mark.parametrize("absent", ["environment.json", "metrics.jsonl", "result.json", "diagnostics.npz"])
def test_every_file_but_the_recipe_may_be_absent(tmp_path, absent):
    run = make_run(tmp_path / "run")
    (run / absent).unlink()
    page_of(run, out=tmp_path / "report.html")


def test_the_recipe_alone_gives_a_report(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text("")
    assert "Unfinished run." in page_of(run, out=tmp_path / "report.html").text


@pytest.mark.parametrize("name", sorted(diagnostics("tmkt", 3, None)))
def test_every_array_may_be_absent(tmp_path, name):
    run = make_run(tmp_path / "run")
    arrays = diagnostics("tmkt", 3, None)
    del arrays[name]
    np.savez(run / "diagnostics.npz", **arrays)
    # Of the metrics only what figures of arrays need.
    (run / "metrics.jsonl").write_text(json.dumps({"epoch": 0, "mix_ratio": 0.5}) + "\n")
    page_of(run, out=tmp_path / "report.html")


@pytest.mark.parametrize("key", sorted(epoch_line(0, "tmkt").keys() - {"epoch"}))
def test_every_metric_may_be_absent_or_no_number(tmp_path, key):
    run = make_run(tmp_path / "run")
    lines = [epoch_line(i, "tmkt") for i in range(3)]
    del lines[0][key]
    lines[1][key] = float("nan")
    lines[2][key] = None
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    # Of the arrays only what figures of metrics need.
    arrays = diagnostics("tmkt", 3, None)
    np.savez(run / "diagnostics.npz", replacement_histogram=arrays["replacement_histogram"])
    page_of(run, out=tmp_path / "report.html")


@pytest.mark.parametrize(("key", "value"), [("test_accuracy", "high"), ("best_epoch", []), ("warnings", {})])
def test_results_of_other_types_are_refused(tmp_path, key, value):
    run = make_run(tmp_path / "run", **{key: value})
    with pytest.raises(RunError, match=rf"result\.json: found .* as {key}, expected another type"):
        write_report([run], tmp_path / "report.html")


def test_results_that_not_every_run_has_are_passed_over(tmp_path):
    page_of(make_bare_run(tmp_path / "run", inferred=3, pair_report=None), out=tmp_path / "report.html")


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("recipe.toml", b"name = ", "recipe.toml: "),
        ("recipe.toml", b"\xff\xfe\x00", "recipe.toml: "),
        ("recipe.toml", b"\xc3", "recipe.toml: "),
        ("result.json", b"{", "result.json: "),
        ("result.json", b"[1]", "result.json: found list, expected a JSON object"),
        ("environment.json", b"", "environment.json: "),
        ("metrics.jsonl", b'{"epoch": 0}\n{"epo\n{"epoch": 2}\n', "metrics.jsonl:2: "),
        ("diagnostics.npz", b"PK\x03\x04 cut", "diagnostics.npz: "),
        ("diagnostics.npz", b"", "diagnostics.npz: "),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, name, content, found):
    run = make_run(tmp_path / "run")
    (run / name).write_bytes(content)
    with pytest.raises(RunError) as caught:
        write_report([run], tmp_path / "report.html")
    assert found in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("confusion", np.zeros((2, 3), np.int64)),
        ("confusion", np.zeros(3, np.int64)),
        ("class_names", np.array(["a", "b"])),
        ("firing_rate_events", np.zeros(5, np.float32)),
        ("strips", np.zeros((2, 4, 4, 5, 5, 1), np.float32)),
        ("strip_ids", np.array(["one"])),
    ],
)
def test_an_array_of_the_wrong_shape_is_named(tmp_path, name, array):
    run = make_run(tmp_path / "run")
    np.savez(run / "diagnostics.npz", **(diagnostics("tmkt", 3, None) | {name: array}))
    with pytest.raises(RunError, match=r"diagnostics\.npz: \w+ has shape"):
        write_report([run], tmp_path / "report.html")


def test_arrays_with_flipped_bits_are_read_or_refused(tmp_path):
    run = make_run(tmp_path / "run")
    path = run / "diagnostics.npz"
    np.savez_compressed(path, **diagnostics("tmkt", 3, None))
    whole = path.read_bytes()
    refusals = []
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            read_run(run)
        except RunError as error:
            refusals.append(str(error))
    assert refusals
    assert all("diagnostics.npz" in text for text in refusals)


def test_pickled_arrays_are_refused(tmp_path):
    run = make_run(tmp_path / "run")
    np.savez(run / "diagnostics.npz", class_names=np.array(["a", None], dtype=object))
    with pytest.raises(RunError, match=r"diagnostics\.npz"):
        write_report([run], tmp_path / "report.html")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no recipe\.toml, expected a run folder"):
        write_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(RunError, match="no such folder"):
        write_report([tmp_path / "none"], tmp_path / "report.html")
    with pytest.raises(RunError, match="found no run folder"):
        write_report([], tmp_path / "report.html")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    run = make_run(tmp_path / "run")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_report([run], tmp_path / "file" / "report.html")
