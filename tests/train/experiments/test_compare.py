import csv
import dataclasses
import shutil

import pytest
from PIL import Image

from tmkt_train.cli.text import comparison_lines
from tmkt_train.errors import RecipeError, RunError, RunInterruptedError
from tmkt_train.experiments.compare import train_runs
from tmkt_train.experiments.compare_report import comparison_curves, write_comparison
from tmkt_train.experiments.jobs import RunEnded, RunStarted
from tmkt_train.experiments.plan import RunOptions, plan_comparison
from tmkt_train.experiments.slots import Slots
from tmkt_train.experiments.table import group_rows, run_rows
from tmkt_train.recipe.recipe import recipe_text
from tmkt_train.training.folder import RunFolder

from ..conftest import make_recipe
from ..report.pages import Page
from ..training.runs import StopAfter, assert_same_run
from .conftest import without_pages

SHORT = ["train.epochs=2"]


@pytest.fixture(scope="module")
def recipes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    for name, method in (("tiny_event_only", "event-only"), ("tiny_kt", "kt"), ("tiny", "tmkt")):
        recipe = make_recipe(name=name, method__name=method)
        (folder / f"{name}.toml").write_text(recipe_text(recipe), encoding="utf-8")
    return folder


def plan(recipes, out, cache, names=("tiny_event_only", "tiny"), settings=SHORT, **others):
    options = RunOptions(tuple(settings), cache, out, others.pop("slots", Slots()))
    others = {"num_seeds": 2, "shares": (0.3, 1.0)} | others
    comparison = plan_comparison([str(recipes / f"{name}.toml") for name in names], options, **others)
    return dataclasses.replace(comparison, runs=without_pages(comparison.runs))


def finish(comparison, notes=()):
    problems = {p.run.folder: p.problem for p in train_runs(comparison.runs) if isinstance(p, RunEnded) and p.problem}
    rows = run_rows(comparison, problems)
    groups = group_rows(rows)
    return rows, groups, write_comparison(comparison, rows, groups, notes)


@pytest.fixture(scope="module")
def whole(recipes, tiny_cache, tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "out"
    comparison = plan(recipes, out, tiny_cache)
    return comparison, *finish(comparison)


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_layout_and_seeds(whole):
    comparison = whole[0]
    found = {path.relative_to(comparison.out).as_posix() for path in comparison.out.glob("runs/*/*/*")}
    assert found == {
        f"runs/{name}/share-{share}/seed-{seed}"
        for name in ("tiny_event_only", "tiny") for share in ("0.3", "1.0") for seed in (3, 4)
    }  # fmt: skip
    recipe = RunFolder(comparison.out / "runs/tiny/share-0.3/seed-4").read_recipe()
    assert (recipe.seed, recipe.data.event_share, recipe.train.epochs) == (4, 0.3, 2)


def test_table_says_what_the_runs_say(whole):
    comparison = whole[0]
    table = read_csv(comparison.out / "table.csv")
    assert len(table) == 8
    assert [row["recipe"] for row in table] == ["tiny_event_only"] * 4 + ["tiny"] * 4
    for row in table:
        result = RunFolder(comparison.out / row["path"]).read_result()
        assert float(row["test_accuracy"]) == result["test_accuracy"]
        assert float(row["last_epoch_accuracy"]) == result["last_epoch_val_accuracy"]
        assert float(row["last_epoch_test_accuracy"]) == result["last_epoch_test_accuracy"]
        assert int(row["seed"]) == result["seed"]
        assert int(row["num_train"]) == result["num_train"] == (100 if row["event_share"] == "1.0" else 30)
        assert (row["status"], row["optimistic"], row["selected_on"]) == ("finished", "false", "val")
        assert int(row["best_epoch"]) == result["best_epoch"]


ACCURACIES = {
    ("tiny_event_only", 0.3): (0.5, 0.6), ("tiny_event_only", 1.0): (0.8, 0.9),
    ("tiny", 0.3): (0.7, 0.7), ("tiny", 1.0): (0.7, 0.9),
}  # fmt: skip


@pytest.fixture
def uneven(whole, tmp_path):
    """The comparison with other accuracies in its results: those of the tiny runs hardly differ."""
    comparison = dataclasses.replace(whole[0], out=tmp_path)
    rows = []
    for row in whole[1]:
        recipe, folder = row.run.recipe, tmp_path / row.run.folder.relative_to(whole[0].out)
        accuracy = ACCURACIES[recipe.name, recipe.data.event_share][recipe.seed - 3]
        run = dataclasses.replace(row.run, folder=folder)
        result = row.result | {"test_accuracy": accuracy, "last_epoch_test_accuracy": accuracy - 0.25}
        rows.append(dataclasses.replace(row, run=run, result=result))
    return comparison, rows, group_rows(rows)


def test_summary_against_hand_values(uneven):
    comparison, _, groups = uneven
    write_comparison(*uneven)
    lines = {(line["recipe"], line["event_share"]): line for line in read_csv(comparison.out / "summary.csv")}
    assert lines["tiny", "0.3"]["num_train"] == "30"
    expected = {
        # mean, sd = |a - b| / sqrt(2), gain of each seed, their mean; two seeds have no interval
        ("tiny", "0.3"): (0.7, 0.0, 0.2, 0.1, 0.15),
        ("tiny", "1.0"): (0.8, 0.1414214, -0.1, 0.0, -0.05),
    }
    names = ("mean_test_accuracy", "sd_test_accuracy", "difference_seed_3", "difference_seed_4", "mean_difference")
    for key, values in expected.items():
        line = lines[key]
        assert [float(line[name]) for name in names] == pytest.approx(values, abs=1e-6)
        assert (line["ci95_low"], line["ci95_high"]) == ("", "")
        assert (line["n"], line["num_pairs"], line["baseline"]) == ("2", "2", "tiny_event_only")
    base = lines["tiny_event_only", "1.0"]
    assert (float(base["mean_test_accuracy"]), base["mean_difference"], base["baseline"]) == (0.85, "", "")
    ends = [lines["tiny", "1.0"][f"{name}_last_epoch_test_accuracy"] for name in ("mean", "sd")]
    assert [float(end) for end in ends] == pytest.approx([0.55, 0.1414214], abs=1e-6)
    text = list(comparison_lines(groups))
    assert text[1] == "  tiny_event_only         30%  2   55.0 ± 7.1  30.0 ± 7.1  baseline"
    assert text[4] == "  tiny                   100%  2  80.0 ± 14.1 55.0 ± 14.1  -5.0"
    page = Page((comparison.out / "report.html").read_text(encoding="utf-8")).text
    assert "+20.00 +10.00 +15.00 " in page
    assert "+78.53" not in page
    assert "80.00 % 14.14 55.00 % 14.14" in page


def test_figure_is_a_picture_of_lines(uneven):
    write_comparison(*uneven)
    with Image.open(uneven[0].out / "figure.png") as picture:
        assert picture.format == "PNG"
        assert 800 <= picture.width <= 1600
        assert 500 <= picture.height <= 1200
        colors = {color for _, color in picture.convert("RGB").getcolors(100_000)}
    assert {(0x00, 0x67, 0xA8), (0xC1, 0x4F, 0x00)} <= colors


def test_page_is_whole_and_loads_nothing(whole):
    comparison, rows, groups, files = whole
    page = Page((comparison.out / "report.html").read_text(encoding="utf-8"))
    assert page.unnamed == []
    # The only addresses are those of the runs' own reports.
    assert len(page.links) == 8
    assert {comparison.out / url for url in page.links} == {row.run.folder / "report.html" for row in rows}
    for words in ("2 recipes compared", "seeds 3, 4", "Differences, seed by seed", "mix.ratio", "unused", "30 %"):
        assert words in page.text, words
    assert "svg" in page.tags
    assert "Optimistic" not in page.text
    for name in ("accuracy on validation", "training loss"):
        assert f"Every finished run, one color per recipe and share: {name} over the epochs." in page.text
    assert (comparison.out / "curves.pdf").read_bytes().startswith(b"%PDF")
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in write_comparison(comparison, rows, groups)] == before


def test_curves_of_all_finished_runs_are_in_one_figure(whole):
    _, rows, *_ = whole
    accuracy, loss = comparison_curves([*rows[:-1], dataclasses.replace(rows[-1], result=None)])
    assert (accuracy.about.name, loss.about.name) == ("accuracy-on-validation", "training-loss")
    ends = [RunFolder(row.run.folder).metrics.read()[0][-1]["train_loss"] for row in rows]
    of = {
        (row.run.recipe.name, row.run.recipe.data.event_share, row.run.recipe.seed): at for at, row in enumerate(rows)
    }
    told = []
    for name, label in (("tiny_event_only", "event-only"), ("tiny", "tmkt")):
        for share in (0.3, 1.0):
            known = [of[name, share, seed] for seed in (3, 4) if of[name, share, seed] != len(rows) - 1]
            told.append(f"{label} {100 * share:.0f} %: " + ", ".join(f"{ends[at]:.4g}" for at in known))
    assert loss.about.summary == f"Each run's training loss over the epochs; at the end {'; '.join(told)}."
    assert comparison_curves([]) == []
    gone = dataclasses.replace(rows[0], run=dataclasses.replace(rows[0].run, folder=rows[0].run.folder / "gone"))
    assert comparison_curves([gone]) == []


def test_text_is_at_most_80_columns(whole):
    lines = list(comparison_lines(whole[2]))
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80
    assert "baseline" in lines[1]


def test_finished_runs_are_taken_as_they_are(whole, recipes, tiny_cache):
    out = whole[0].out
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*") if path.is_file()}
    comparison = plan(recipes, out, tiny_cache)
    assert [run.status for run in comparison.runs] == ["finished"] * 8
    assert list(train_runs(comparison.runs)) == []
    assert {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*") if path.is_file()} == before


def test_report_that_a_killed_process_did_not_write_is_written(whole, recipes, tiny_cache, tmp_path):
    shutil.copytree(whole[0].out, tmp_path / "out")
    comparison = plan(recipes, tmp_path / "out", tiny_cache)
    assert not list(comparison.out.glob("runs/**/report.html"))
    run = dataclasses.replace(comparison.runs[0], has_report=True)
    (run.folder / ".lock").touch()
    assert list(train_runs([run, *comparison.runs[1:]])) == []
    assert list(comparison.out.glob("runs/**/report.html")) == [run.folder / "report.html"]
    assert (run.folder / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert not (run.folder / ".lock").exists()


def test_every_run_of_a_comparison_has_a_page(recipes, tiny_cache, tmp_path):
    names = [str(recipes / "tiny.toml"), str(recipes / "tiny_kt.toml")]
    runs = plan_comparison(names, RunOptions(tuple(SHORT), tiny_cache, tmp_path / "out"), num_seeds=2).runs
    assert [run.has_report for run in runs] == [True] * 4
    list(train_runs(runs[:1]))
    assert (runs[0].folder / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")


def test_one_more_recipe_trains_itself_alone(whole, recipes, tiny_cache, tmp_path):
    shutil.copytree(whole[0].out, tmp_path / "out")
    names = ("tiny_event_only", "tiny_kt", "tiny")
    comparison = plan(recipes, tmp_path / "out", tiny_cache, names, num_seeds=1, shares=(0.3,))
    begun = [p.run.label for p in train_runs(comparison.runs) if isinstance(p, RunStarted)]
    assert begun == ["tiny_kt share 0.3 seed 3"]
    groups = group_rows(run_rows(comparison, {}))
    assert [(group.recipe, group.spread.num, group.spread.sd) for group in groups] == [(n, 1, None) for n in names]


def test_interrupted_comparison_ends_as_an_undisturbed_one(whole, recipes, tiny_cache, tmp_path):
    comparison = plan(recipes, tmp_path / "out", tiny_cache, num_seeds=1)
    stops = 0
    for asks in (7, 9, 30, 500):
        try:
            list(train_runs(comparison.runs, StopAfter(asks)))
        except RunInterruptedError:
            stops += 1
    assert stops >= 3
    states = [run.status for run in comparison.runs]
    assert states == ["finished"] * 4
    for run in comparison.runs:
        assert_same_run(run.folder, whole[0].out / run.folder.relative_to(comparison.out))


def test_run_killed_while_being_set_up_is_started_anew(recipes, tiny_cache, tmp_path):
    comparison = plan(recipes, tmp_path / "out", tiny_cache, names=("tiny_event_only",), num_seeds=1, shares=())
    folder = comparison.runs[0].folder
    folder.mkdir(parents=True)
    (folder / "environment.json").write_text("{}")
    (folder / ".recipe.toml.0a1b2c3d.tmp").write_text("name = ")
    assert comparison.runs[0].status == "missing"
    assert finish(comparison)[0][0].problem is None
    # What is no trace of a run is not touched.
    (tmp_path / "other" / folder.relative_to(comparison.out)).mkdir(parents=True)
    (tmp_path / "other" / folder.relative_to(comparison.out) / "thesis.tex").write_text("all of it")
    other = plan(recipes, tmp_path / "other", tiny_cache, names=("tiny_event_only",), num_seeds=1, shares=())
    assert "not empty, expected a new folder" in finish(other)[0][0].problem


def test_stop_before_the_first_run_starts_none(recipes, tiny_cache, tmp_path):
    comparison = plan(recipes, tmp_path / "out", tiny_cache)
    with pytest.raises(RunInterruptedError):
        list(train_runs(comparison.runs, lambda: True))
    assert not (tmp_path / "out" / "runs").exists()


def test_run_that_fails_is_told_and_the_others_go_on(recipes, tiny_cache, tmp_path):
    exploding = make_recipe(name="exploding", optim__learning_rate=1e30, optim__min_learning_rate=0.0)
    (tmp_path / "exploding.toml").write_text(recipe_text(exploding), encoding="utf-8")
    names = [str(tmp_path / "exploding.toml"), str(recipes / "tiny.toml")]
    options = RunOptions(tuple(SHORT), tiny_cache, tmp_path / "out")
    comparison = plan_comparison(names, options, num_seeds=1)
    rows, groups, _ = finish(dataclasses.replace(comparison, runs=without_pages(comparison.runs)))
    assert [row.result is None for row in rows] == [True, False]
    assert "NaN or infinite" in rows[0].problem
    table = read_csv(tmp_path / "out" / "table.csv")
    assert [row["status"] for row in table] == ["failed", "finished"]
    assert table[0]["test_accuracy"] == ""
    assert "NaN or infinite" in table[0]["problem"]
    assert (groups[0].spread.mean, groups[1].difference.mean) == (None, None)
    lines = list(comparison_lines(groups))
    assert "failed" in lines[1]
    assert "no common seed" in lines[2]
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "1 of 2 runs have no result" in page.text
    assert "failed: epoch 2" in page.text
    assert [run.status for run in plan_comparison(names, options, num_seeds=1).runs] == ["interrupted", "finished"]


def test_choosing_on_test_is_a_red_notice(recipes, tiny_cache, tmp_path):
    settings = [*SHORT, "data.protocol=kt-paper"]
    comparison = plan(recipes, tmp_path / "out", tiny_cache, num_seeds=1, shares=(), settings=settings)
    _, groups, _ = finish(comparison, ["a note"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'class="notice alarm"' in page
    assert "Optimistic, selected on test." in Page(page).text
    assert "a note" in Page(page).text
    table = read_csv(tmp_path / "out" / "table.csv")
    assert {(row["optimistic"], row["selected_on"]) for row in table} == {("true", "test")}
    assert all("*" in line for line in list(comparison_lines(groups))[1:])


def test_another_recipe_in_the_folder_is_refused(whole, recipes, tiny_cache):
    out = whole[0].out
    with pytest.raises(RunError, match=r"seed-3: holds a run with mix.ratio = 0.5, expected 0.7; choose another"):
        plan(recipes, out, tiny_cache, names=("tiny",), settings=[*SHORT, "mix.ratio=0.7"])
    # Words change nothing.
    assert len(plan(recipes, out, tiny_cache, settings=[*SHORT, "description=other"]).runs) == 8


def test_recipe_edited_in_the_folder_is_refused(whole, recipes, tiny_cache, tmp_path):
    shutil.copytree(whole[0].out, tmp_path / "out")
    edited = tmp_path / "out/runs/tiny/share-0.3/seed-3/recipe.toml"
    edited.write_text(edited.read_text().replace("ratio = 0.5", "ratio = 0.7"), encoding="utf-8")
    with pytest.raises(RunError, match=r"expected the recipe that the run was started with"):
        plan(recipes, tmp_path / "out", tiny_cache, names=("tiny",), settings=[*SHORT, "mix.ratio=0.7"])


def test_another_cache_is_refused(whole, recipes, tiny_cache, tmp_path):
    shutil.copytree(whole[0].out, tmp_path / "out")
    folder = RunFolder(tmp_path / "out/runs/tiny/share-0.3/seed-3")
    folder.write_environment(folder.read_environment() | {"cache_digest": "0" * 64})
    with pytest.raises(RunError, match="holds a run on a cache of digest 000000000000, expected"):
        plan(recipes, tmp_path / "out", tiny_cache)


def test_other_test_recordings_have_no_difference(recipes, tiny_cache, tmp_path):
    paper = make_recipe(name="paper", data__protocol="kt-paper")
    (tmp_path / "paper.toml").write_text(recipe_text(paper), encoding="utf-8")
    names = [str(recipes / "tiny.toml"), str(tmp_path / "paper.toml")]
    with pytest.raises(RunError, match=r"paper: its \d+ test recordings \(digits, kt-paper\) are not the 10 of tiny"):
        plan_comparison(names, RunOptions(cache=tiny_cache, out=tmp_path / "out"), num_seeds=1)
    assert not (tmp_path / "out").exists()


def test_classes_that_one_recipe_holds_out_are_no_test_of_the_other(recipes, tiny_cache, tmp_path):
    held = make_recipe(name="held", data=make_recipe().data.model_dump() | {"held_out_classes": 4})
    (tmp_path / "held.toml").write_text(recipe_text(held), encoding="utf-8")
    names = [str(recipes / "tiny.toml"), str(tmp_path / "held.toml")]
    with pytest.raises(RunError, match=r"held: its 6 test recordings \(digits, twin-disjoint\) are not the 10 of tiny"):
        plan_comparison(names, RunOptions(cache=tiny_cache, out=tmp_path / "out"), num_seeds=1)
    options = RunOptions(("data.held_out_classes=4",), tiny_cache, tmp_path / "out")
    assert len(plan_comparison(names, options, num_seeds=1).runs) == 2


def test_other_seed_is_a_note(recipes, tiny_cache, tmp_path):
    (tmp_path / "other.toml").write_text(recipe_text(make_recipe(name="other", seed=9)), encoding="utf-8")
    names = [str(recipes / "tiny.toml"), str(tmp_path / "other.toml")]
    comparison = plan_comparison(names, RunOptions(cache=tiny_cache, out=tmp_path / "out"), num_seeds=2)
    assert comparison.notes == ("other has seed 9; all runs take the seeds of tiny",)
    assert sorted(run.recipe.seed for run in comparison.runs) == [3, 3, 4, 4]


@pytest.mark.parametrize(
    ("names", "options", "error", "message"),
    [
        (("tiny", "tiny"), {}, RunError, "found twice, expected each recipe once"),
        (
            ("tiny",),
            {"settings": ["train.num_threads=auto"], "slots": Slots(2)},
            RunError,
            "'auto' with 2 runs at once, expected a number.*add --set train.num_threads=1",
        ),
        (
            ("tiny",),
            {"slots": Slots(1, ("0",), is_chosen=True)},
            RunError,
            "tiny: train.device is 'cpu', expected 'auto' or 'cuda' with --devices; omit --devices, or add --set",
        ),
        (("tiny",), {"settings": ["data.event_share=0.3"]}, RunError, "found together with --event-share"),
        (("tiny",), {"settings": ["train.epoch=3"]}, RecipeError, "did you mean train.epochs"),
        (("tiny",), {"settings": ["data.recordings_per_class=3"]}, RecipeError, "data.event_share"),
        (("tiny", "absent"), {}, RecipeError, "no such recipe file"),
    ],
)
def test_bad_plans_are_refused_before_anything_is_written(
    recipes, tiny_cache, tmp_path, names, options, error, message
):
    with pytest.raises(error, match=message):
        plan(recipes, tmp_path / "out", tiny_cache, names, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_folder_that_cannot_be_made_is_refused(recipes, tiny_cache, tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"file.*: cannot be written \(.*choose another folder with --out"):
        plan(recipes, tmp_path / place, tiny_cache)
