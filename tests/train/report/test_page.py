import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tmkt_train.errors import RunError
from tmkt_train.report.comparison import group_runs
from tmkt_train.report.overview import epochs_of
from tmkt_train.report.page import write_report
from tmkt_train.report.statistics import wilson_interval
from tmkt_train.training.record import read_run

VOID = {"meta"}
NUM_STEPS = 4


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.urls, self.ids, self.words, self.unnamed = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self._see(tag, dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self._see(tag, dict(attrs))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def _see(self, tag, attrs):
        self.tags.append(tag)
        self.urls += [attrs[key] for key in ("src", "href", "xlink:href", "data", "action") if key in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        if tag == "svg" and not attrs.get("aria-label"):
            self.unnamed.append(tag)

    @property
    def links(self):
        return [url for url in self.urls if not url.startswith("#")]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def toml_value(value):
    return json.dumps(value)


def make_run(
    path, *, method="tmkt", num_classes=3, seed=0, epochs=3, accuracy=0.75, names=None, per_class=10, **result
):
    path.mkdir(parents=True)
    recipe = {
        "data": {"dataset": "digits", "protocol": "twin-disjoint", "recordings_per_class": per_class},
        "method": {"name": method},
        "mix": {"ratio": 0.5, "law": "sequential"},
        "train": {"epochs": epochs},
    }
    lines = ['name = "tiny"', f"seed = {seed}"]
    for table, values in recipe.items():
        lines += [f"[{table}]", *(f"{key} = {toml_value(value)}" for key, value in values.items())]
    (path / "recipe.toml").write_text("\n".join(lines) + "\n")
    environment = {"torch": "2.9.1", "cache": "digits.h5", "cache_digest": "cafe0123", "num_threads": 1}
    environment |= {"recipe_digest": "0a1b2c3d"}
    (path / "environment.json").write_text(json.dumps(environment))
    (path / "metrics.jsonl").write_text("".join(json.dumps(epoch_line(i, method)) + "\n" for i in range(epochs)))
    (path / "result.json").write_text(
        json.dumps(
            {
                "dataset": "digits",
                "recipe": "tiny",
                "method": method,
                "protocol": "twin-disjoint",
                "seed": seed,
                "epochs": epochs,
                "best_epoch": epochs - 1,
                "val_accuracy": 0.8125,
                "test_accuracy": accuracy,
                "num_test": 400,
                "num_parameters": 598422,
                "cache_digest": "cafe0123",
                "split_digest": "beef4567",
                "optimistic": False,
                "selected_on": "val",
                "warnings": [],
                "environment": environment,
                "wall_s": 5025.0,
                "peak_memory_bytes": 734003200,
                "pair_report": {"label_agreement": 1.0, "num_reachable_heldout": 0},
                "inferred": ["mix.ratio = 0.5"],
                **result,
            }
        )
    )
    np.savez(path / "diagnostics.npz", **diagnostics(method, num_classes, names))
    return path


def make_bare_run(path, **options):
    """Make a run of which the pages have no figures but those of the comparison; figures take time."""
    run = make_run(path, **options)
    (run / "metrics.jsonl").unlink()
    (run / "diagnostics.npz").unlink()
    return run


def epoch_line(epoch, method):
    line = {
        "epoch": epoch,
        "lr": 0.001,
        "train_loss": 2.0 - epoch / 4,
        "loss_terms": {"event_classification": 1.0},
        "train_accuracy": 0.5,
        "val_accuracy": 0.7125 + epoch / 20,
        "val_loss": 1.5,
    }
    if method == "tmkt":
        line["loss_terms"] |= {"image_classification": 1.5, "alignment": 0.01, "modality": 0.6, "ratio": 0.1}
        line |= {"mix_ratio": 0.5, "realised_ratio": 0.49, "realised_ratio_sd": 0.39}
        line |= {"modality_accuracy": 0.9, "ratio_error": 0.2, "cka": 0.8, "cka_shuffled": 0.5}
        line |= {"coefficients": [0.7, 0.72, 0.71, 0.7]}
    return line


def diagnostics(method, num_classes, names):
    names = names or [f"class {i}" for i in range(num_classes)]
    rng = np.random.default_rng(0)
    arrays = {
        "confusion": np.diag(np.full(num_classes, 9)) + np.eye(num_classes, k=1, dtype=np.int64),
        "class_names": np.array(names),
        "firing_layer": np.array(["conv1", "fc1"]),
        "firing_rate_events": np.array([0.125, 0.0625], np.float32),
        "strips": rng.random((2, 4 if method == "tmkt" else 1, NUM_STEPS, 5, 5, 3), np.float32),
        "strip_ids": np.array([f"{names[0]}/0001", f"{names[1]}/0002"]),
        "strip_labels": np.array([names[0], names[1]]),
        "strip_predictions": np.array([names[0], names[2]]),
    }
    if method == "tmkt":
        arrays["firing_rate_images"] = np.array([0.25, 0.375], np.float32)
        arrays["replacement_histogram"] = np.array([250, 190, 150, 110, 300])
    return arrays


def page_of(*runs, out):
    text = write_report(runs, out).read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    page = Page(text)
    assert page.unnamed == []
    assert len(page.ids) == len(set(page.ids))
    for url in page.urls:
        assert url.startswith("data:image/png;base64,") or url.removeprefix("#") in page.ids, url
    assert "script" not in page.tags
    assert re.search(r"url\(|@import|https?://", text) is None
    return page


@pytest.mark.parametrize("method", ["tmkt", "event-only"])
@pytest.mark.parametrize("num_classes", [3, 40])
def test_a_run_gives_a_page_that_stands_alone(tmp_path, method, num_classes):
    run = make_run(tmp_path / "run", method=method, num_classes=num_classes)
    page = page_of(run, out=tmp_path / "report.html")
    for part in (
        "75.00 %",
        "81.25 %",
        "n = 400",
        "598,422",
        "1 h 24 min",
        "700 MiB",
        "3 of 3",
        "cafe0123",
        "beef4567",
    ):
        assert part in page.text
    for part in (
        "mix.ratio = 0.5",
        "2.9.1",
        "seed 0",
        "conv1",
        "predicted class 2 (wrong)",
    ):
        assert part in page.text
    for part in ("Mix schedule", "Guidance and alignment", "Learned share of alignment", "image input"):
        assert (part in page.text) == (method == "tmkt")
    assert ("Most frequent confusions" in page.text) == (num_classes > 20)
    assert page.tags.count("image") == 2
    assert page.tags.count("h1") == 1


def test_test_accuracy_has_its_wilson_interval(tmp_path):
    low, high = wilson_interval(300, 400)
    page = page_of(make_bare_run(tmp_path / "run"), out=tmp_path / "report.html")
    assert f"95 % Wilson interval {100 * low:.2f} to {100 * high:.2f} %" in page.text


def test_class_names_are_text_and_never_markup(tmp_path):
    names = ["<script>alert(1)</script>", '"><img src=x onerror=y>', "a & b"]
    run = make_run(tmp_path / "run", names=names, inferred=["<b>bold</b>"], dataset="</style><script>")
    page = page_of(run, out=tmp_path / "report.html")
    assert "<script>alert" in page.text
    assert "<b>bold</b>" in page.text
    assert "b" not in page.tags


def test_an_optimistic_protocol_is_marked(tmp_path):
    optimistic = make_bare_run(
        tmp_path / "a", optimistic=True, selected_on="test", val_accuracy=None, last_epoch_test_accuracy=0.625
    )
    page = page_of(optimistic, out=tmp_path / "a.html")
    assert "Optimistic protocol." in page.text
    assert "62.50 %" in page.text
    assert "Optimistic" not in page_of(make_bare_run(tmp_path / "b", optimistic=False), out=tmp_path / "b.html").text


def test_a_leak_is_told_beside_the_selection_on_test(tmp_path):
    text = (
        "test_accuracy is optimistic: the epoch is selected on test, and images of held-out recordings are within reach"
    )
    leaking = make_bare_run(tmp_path / "a", optimistic=True, selected_on="test", warnings=[text])
    page = page_of(leaking, out=tmp_path / "a.html").text
    assert "Optimistic protocol." in page
    assert text in page


def test_warnings_of_the_run_are_shown(tmp_path):
    run = make_bare_run(tmp_path / "run", warnings=["alignment was skipped in 2 batches of one sample"])
    assert "alignment was skipped in 2 batches" in page_of(run, out=tmp_path / "report.html").text


def test_an_unfinished_run_says_so(tmp_path):
    run = make_run(tmp_path / "run", epochs=8)
    for name in ("result.json", "diagnostics.npz"):
        (run / name).unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:2]) + lines[2][:40])
    page = page_of(run, out=tmp_path / "report.html")
    assert "Unfinished run." in page.text
    assert "2 of 8" in page.text
    assert "Truncated metrics." in page.text
    assert "76.25 %" in page.text


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


def test_the_same_run_gives_the_same_bytes_and_is_left_alone(tmp_path):
    run = make_run(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    first = write_report([run], tmp_path / "a.html").read_bytes()
    assert write_report([run], tmp_path / "b.html").read_bytes() == first
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.html", "run"]


def test_figures_are_files_beside_the_run(tmp_path):
    run = make_run(tmp_path / "run", method="event-only")
    write_report([run], run / "report.html", figures=run / "figures")
    names = {"accuracy", "loss", "learning-rate", "firing-rates", "confusion", "class-accuracy", "sample-1", "sample-2"}
    files = {path.name: path.read_bytes() for path in (run / "figures").iterdir()}
    assert files.keys() == {f"{name}.{kind}" for name in names for kind in ("pdf", "png")}
    assert all(data.startswith(b"%PDF-" if name.endswith("pdf") else b"\x89PNG") for name, data in files.items())
    write_report([run], run / "report.html", figures=run / "figures")
    assert {path.name: path.read_bytes() for path in (run / "figures").iterdir()} == files


def test_page_adapts_to_mode_and_width(tmp_path):
    text = write_report([make_run(tmp_path / "run")], tmp_path / "report.html").read_text(encoding="utf-8")
    drawings = re.findall("<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) > 10
    for drawing in drawings:
        # Colors are variables that the mode sets; the width is that of the column.
        assert re.search("#[0-9a-f]{6}", drawing) is None
        assert re.match(r'<svg viewBox="0 0 [0-9.]+ [0-9.]+" class="chart"', drawing)
    for mode in (r"\(prefers-color-scheme: dark\)", "print"):
        assert re.search(rf"@media {mode} {{\s*:root {{[^}}]*--event: #", text)
    assert len(text) < 300_000


def test_several_runs_are_grouped_with_mean_and_sd(tmp_path):
    accuracies = (0.70, 0.75, 0.80)
    runs = [make_bare_run(tmp_path / f"t{i}", seed=i, accuracy=a) for i, a in enumerate(accuracies)]
    runs.append(make_run(tmp_path / "e0", method="event-only", accuracy=0.5))
    page = page_of(*runs, out=tmp_path / "report.html")
    assert "4 runs compared" in page.text
    assert "75.00 ± 5.00" in page.text
    assert "tiny · event-only 1 81.25 50.00" in page.text
    assert [i for i in page.ids if i.startswith("run-")] == ["run-1", "run-2", "run-3", "run-4"]


def test_groups_are_split_by_settings_but_not_by_seed(tmp_path):
    runs = [make_run(tmp_path / f"r{n}{s}", seed=s, per_class=n) for n in (10, 30) for s in (0, 1)]
    groups = group_runs([read_run(run) for run in runs])
    assert [(g.name, len(g.runs)) for g in groups] == [
        ("tiny · tmkt · recordings_per_class = 10", 2),
        ("tiny · tmkt · recordings_per_class = 30", 2),
    ]


def test_runs_on_different_splits_are_told_apart(tmp_path):
    runs = [make_bare_run(tmp_path / "a"), make_bare_run(tmp_path / "b", split_digest="other")]
    assert "do not share one split" in page_of(*runs, out=tmp_path / "report.html").text
    runs = [make_bare_run(tmp_path / "c"), make_bare_run(tmp_path / "d")]
    assert "do not share" not in page_of(*runs, out=tmp_path / "other.html").text


def test_an_unfinished_run_is_in_no_mean(tmp_path):
    runs = [make_bare_run(tmp_path / "a", accuracy=0.7), make_bare_run(tmp_path / "b", seed=1)]
    (runs[1] / "result.json").unlink()
    page = page_of(*runs, out=tmp_path / "report.html")
    assert "tiny · tmkt 1 81.25 70.00" in page.text
    assert "unfinished" in page.text


def test_importing_the_report_loads_nothing_heavy():
    heavy = ["torch", "numba", "matplotlib", "optuna", "scipy.stats"]
    code = f"import sys, tmkt_train.report.page; raise SystemExit(not set(sys.modules).isdisjoint({heavy}))"
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False).returncode == 0


def test_optimistic_runs_are_marked_wherever_their_numbers_stand(tmp_path):
    plain = make_bare_run(tmp_path / "a", accuracy=0.7)
    marked = make_bare_run(tmp_path / "b", method="event-only", optimistic=True)
    page = page_of(plain, marked, out=tmp_path / "report.html")
    assert "tiny · event-only optimistic 1 81.25 75.00" in page.text
    assert "tiny · tmkt 1 81.25 70.00" in page.text
    assert "tiny · event-only · optimistic" in page.text
    assert "twin-disjoint optimistic 0" in page.text


def test_unfinished_run_that_chooses_on_test_is_marked(tmp_path):
    run = make_bare_run(tmp_path / "a")
    (run / "result.json").unlink()
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("twin-disjoint", "kt-paper"))
    assert "Optimistic protocol." in page_of(run, out=tmp_path / "a.html").text
    both = page_of(run, make_bare_run(tmp_path / "b"), out=tmp_path / "both.html").text
    assert "kt-paper optimistic unfinished" in both


def test_epochs_count_from_one(tmp_path):
    run = make_run(tmp_path / "a", best_epoch=1)
    page = page_of(run, out=tmp_path / "a.html")
    assert "best epoch 2 of 3" in page.text
    assert "from 0" not in page.text
    assert "2 of 3" in page_of(run, make_bare_run(tmp_path / "b"), out=tmp_path / "b.html").text
    assert epochs_of(read_run(run)) == [1.0, 2.0, 3.0]


def test_a_run_named_twice_counts_once(tmp_path, monkeypatch):
    run = make_bare_run(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    again = write_report([run, Path("a"), Path("a/../a")], tmp_path / "twice.html").read_bytes()
    assert again == write_report([run], tmp_path / "once.html").read_bytes()


def test_alignment_of_the_pairs_is_told_in_words(tmp_path):
    alignment = {
        "num_recordings": 20, "own": 0.25, "own_as_cached": 0.125, "same_class": 0.0625, "other_class": None,
        "own_is_best": 0.75,
    }  # fmt: skip
    run = make_bare_run(tmp_path / "a", pair_report={"label_agreement": 1.0, "alignment": alignment})
    text = page_of(run, out=tmp_path / "a.html").text
    for words in (
        "alignment: recordings compared 20", "alignment with the own image 0.25", "as cached, unshifted 0.125",
        "alignment with images of the class 0.0625",
    ):  # fmt: skip
        assert words in text
    assert re.search(r"align best with their own image 75\.00\s%", text)
    assert "other classes" not in text
    none = make_bare_run(tmp_path / "b", pair_report={"label_agreement": 1.0, "alignment": None})
    assert "alignment with" not in page_of(none, out=tmp_path / "b.html").text


def test_lost_metrics_of_a_finished_run_are_a_notice(tmp_path):
    run = make_run(tmp_path / "run", epochs=8)
    assert "Incomplete metrics." not in page_of(run, out=tmp_path / "report.html").text
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:5]))
    text = page_of(run, out=tmp_path / "report.html").text
    assert "Incomplete metrics. Lines of metrics.jsonl are missing: 5 of 8 epochs." in text
