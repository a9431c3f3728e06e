import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tmkt_train.report.comparison import group_runs, overlay
from tmkt_train.report.overview import epochs_of
from tmkt_train.report.page import write_report
from tmkt_train.report.statistics import wilson_interval
from tmkt_train.training.record import read_run

from .pages import make_bare_run, make_run, page_of


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
    assert files.keys() == {f"{name}.{kind}" for name in names for kind in ("pdf", "png", "svg")}
    starts = {".pdf": b"%PDF-", ".png": b"\x89PNG", ".svg": b"<?xml"}
    assert all(data.startswith(starts[name[-4:]]) for name, data in files.items())
    # Again, without those of the diagnostics, which take most of the time.
    (run / "diagnostics.npz").unlink()
    write_report([run], run / "report.html", figures=run / "again")
    again = {path.name: path.read_bytes() for path in (run / "again").iterdir()}
    assert again.keys() >= {f"{name}.{kind}" for name in ("accuracy", "loss") for kind in ("pdf", "png", "svg")}
    assert again == {name: files[name] for name in again}


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


@pytest.mark.parametrize(("num_classes", "is_other"), [(0, False), (2, True)])
def test_a_run_that_holds_classes_out_is_measured_on_other_samples(tmp_path, num_classes, is_other):
    runs = [make_bare_run(tmp_path / "a"), make_bare_run(tmp_path / "b")]
    recipe = runs[1] / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("[data]", f"[data]\nheld_out_classes = {num_classes}"))
    assert ("do not share one split" in page_of(*runs, out=tmp_path / "report.html").text) == is_other


def test_control_characters_of_a_title_are_no_part_of_a_page(tmp_path):
    runs = [make_bare_run(tmp_path / name) for name in "ab"]
    recipe = runs[0] / "recipe.toml"
    recipe.write_text('title = "one\\u0000two\\u001b[31m"\n' + recipe.read_text())
    text = page_of(*runs, out=tmp_path / "report.html").text
    assert "one\ufffdtwo\ufffd[31m" in text
    assert not {"\0", "\x1b"} & set((tmp_path / "report.html").read_text(encoding="utf-8"))


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


def test_problems_and_copies_of_the_pairs_are_told_in_words(tmp_path):
    verdicts = [{"severity": "warning", "text": "test has no recording of 1 class (8)"}]
    copies = {"recordings": 0, "examples": ["a/1 and b/2", "c/3 and d/4"]}
    report = {"label_agreement": 1.0, "verdicts": verdicts, "duplicates": copies}
    text = page_of(make_bare_run(tmp_path / "a", pair_report=report), out=tmp_path / "a.html").text
    assert "problems of these pairs warning: test has no recording of 1 class (8)" in text
    assert "examples of these copies a/1 and b/2; c/3 and d/4" in text
    none = make_bare_run(tmp_path / "b", pair_report={"verdicts": [], "duplicates": {"examples": []}})
    text = page_of(none, out=tmp_path / "b.html").text
    assert "problems of these pairs none" in text
    assert "examples of these copies none" in text
    altered = make_bare_run(tmp_path / "c", pair_report={"verdicts": [3, {"text": None}, []]})
    assert 'problems of these pairs 3; {"text": null}; []' in page_of(altered, out=tmp_path / "c.html").text


def test_a_recipe_that_was_edited_after_the_start_is_a_notice(tmp_path):
    run, words = make_run(tmp_path / "run"), "recipe.toml was changed after the start"
    recipe = run / "recipe.toml"
    recipe.write_text(f"# A comment changes nothing.\n{recipe.read_text()}")
    assert words not in page_of(run, out=tmp_path / "report.html").text
    recipe.write_text(recipe.read_text().replace("ratio = 0.5", "ratio = 0.25"))
    assert words in page_of(run, out=tmp_path / "report.html").text


def test_lost_metrics_of_a_finished_run_are_a_notice(tmp_path):
    run = make_run(tmp_path / "run", epochs=8)
    assert "Incomplete metrics." not in page_of(run, out=tmp_path / "report.html").text
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:5]))
    text = page_of(run, out=tmp_path / "report.html").text
    assert "Incomplete metrics. Lines of metrics.jsonl are missing: 5 of 8 epochs." in text


def test_the_curves_of_several_runs_are_in_one_figure(tmp_path):
    runs = [make_run(tmp_path / f"t{seed}", seed=seed) for seed in range(2)]
    runs.append(make_run(tmp_path / "e0", method="event-only", epochs=5))
    drawing = overlay(group_runs([read_run(run) for run in runs]), "val_accuracy", "accuracy on validation (%)", 100)
    assert drawing.about.summary == (
        "Each run's accuracy on validation (%) over the epochs; at the end tiny · tmkt · epochs = 3: 81.25, 81.25; "
        "tiny · event-only · epochs = 5: 91.25."
    )
    runs = [make_run(tmp_path / f"b{seed}", method="event-only", seed=seed) for seed in range(2)]
    for run in runs:
        # The figures that only one run has take time.
        (run / "diagnostics.npz").unlink()
    write_report(runs, tmp_path / "report.html", figures=tmp_path / "figures")
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {f"accuracy-on-validation.{kind}" for kind in ("pdf", "svg", "png")} <= names
    assert {f"accuracy-{number}.pdf" for number in (1, 2)} <= names
    assert "accuracy.pdf" not in names


def test_how_a_run_was_started_is_told(tmp_path):
    run = make_bare_run(tmp_path / "run")
    file = run / "environment.json"
    started = {"date": "2026-11-27T16:20:31+00:00", "host": "lab-7", "command": "tmkt-train recipe 'my <b>.toml'"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"started": started | {"commit": "0123456789ab-dirty"}}))
    page = page_of(run, out=tmp_path / "report.html")
    assert "2026-11-27 16:20 · lab-7 · commit 0123456789ab-dirty" in page.text
    # Each word is an element of its own, so that no line breaks within it.
    assert "tmkt-train recipe 'my <b>.toml'" in page.text
    assert "started" not in page.text
    assert "lab-7" not in page_of(make_bare_run(tmp_path / "old"), out=tmp_path / "old.html").text
