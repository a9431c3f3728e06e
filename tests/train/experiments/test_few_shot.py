import dataclasses
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tmkt_data import PairedFrames
from tmkt_data.datasets.digits import open_digits
from tmkt_data.errors import SpecError
from tmkt_data.pairs.subsets import draw_classes
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_train.cli.main import main
from tmkt_train.data.cache import open_held_out
from tmkt_train.errors import RunError
from tmkt_train.experiments.few_shot import Episodes, choose_sizes, classify_episode, draw_episode, few_shot_accuracy
from tmkt_train.training.run import start_run
from tmkt_train.training.setup import build_setup

from ..conftest import TINY_SPEC, make_recipe

LABELS = np.repeat(np.arange(12), 8)


def test_an_episode_is_classes_with_examples_and_queries_apart():
    for number in range(50):
        rows = draw_episode(LABELS, number, ways=5, shots=2, episodes=Episodes(3, seed=1))
        assert rows.shape == (5, 5)
        assert len(np.unique(rows)) == 25
        assert all(len(set(LABELS[row])) == 1 for row in rows)
        assert len({LABELS[row[0]] for row in rows}) == 5


def test_episodes_are_reproduced_and_reach_every_sample_evenly():
    def draw(number, seed=1):
        return draw_episode(LABELS, number, ways=5, shots=1, episodes=Episodes(2, seed=seed))

    np.testing.assert_array_equal(draw(7), draw(7))
    assert not np.array_equal(draw(7), draw(8))
    assert not np.array_equal(draw(7), draw(7, seed=2))
    counts = np.bincount(np.concatenate([draw(number).ravel() for number in range(2000)]), minlength=96)
    expected = 2000 * 15 / 96
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_classes_with_too_few_recordings_are_not_drawn_and_too_few_classes_are_refused():
    labels = np.array([0] * 2 + [1] * 6 + [2] * 6)
    for number in range(20):
        assert 0 not in labels[draw_episode(labels, number, ways=2, shots=1, episodes=Episodes())]
    with pytest.raises(RunError, match=r"few-shot: 2 classes have 1 \+ 5 recordings or more, expected 3"):
        draw_episode(labels, 0, ways=3, shots=1, episodes=Episodes())


def test_a_query_gets_the_nearest_mean_by_hand():
    features = np.array([[0, 0], [2, 0], [1, 1], [10, 0], [10, 2], [4, 0]], np.float32)
    # Prototypes (1, 0) and (10, 1); the queries are (1, 1), right, and (4, 0), which is nearer to the first.
    assert classify_episode(features, np.array([[0, 1, 2], [3, 4, 5]]), shots=2) == 0.5


def test_noise_is_at_chance_and_the_interval_is_that_of_the_mean():
    features = np.random.default_rng(0).normal(size=(96, 30)).astype(np.float32)
    episodes = Episodes(3, 400, seed=3)
    found = few_shot_accuracy(features, LABELS, ways=4, shots=1, episodes=episodes)
    accuracy, interval = found
    assert accuracy == pytest.approx(0.25, abs=0.04)
    shares = [
        classify_episode(features, draw_episode(LABELS, n, ways=4, shots=1, episodes=episodes), 1) for n in range(400)
    ]
    assert accuracy == pytest.approx(np.mean(shares))
    assert interval == pytest.approx(1.959964 * np.std(shares, ddof=1) / 20)


def test_more_examples_help():
    rng = np.random.default_rng(1)
    features = (np.repeat(rng.normal(size=(12, 20)), 8, 0) + 1.5 * rng.normal(size=(96, 20))).astype(np.float32)
    (one, interval), (four, _) = (
        few_shot_accuracy(features, LABELS, ways=5, shots=k, episodes=Episodes(3, 200)) for k in (1, 4)
    )
    assert four > one + interval


def test_held_out_classes_are_in_no_part_on_either_side(tiny_cache):
    recipe = make_recipe(data__held_out_classes=3)
    setup = build_setup(recipe, tiny_cache, torch.device("cpu"))
    held_out = set(draw_classes(10, 3, seed=0).tolist())
    for frames in (setup.frames, setup.selection):
        assert set(frames.labels.tolist()) == set(range(10)) - held_out
    image_labels = setup.frames.cache.tables["images/label"]
    assert set(image_labels[setup.frames.pools.rows].tolist()) == set(range(10)) - held_out
    found = list(open_held_out(recipe, setup.frames.cache))
    assert [frames.split for frames in found] == ["train", "val", "test"]
    whole = [PairedFrames(tiny_cache, split, pairing="none") for split in ("train", "val", "test")]
    expected = {i for frames in whole for i, label in zip(frames.ids, frames.labels, strict=True) if label in held_out}
    assert {sample for frames in found for sample in frames.ids} == expected


def test_too_many_held_out_classes_are_refused(tiny_cache):
    with pytest.raises(SpecError, match="held-out classes: found 9 of 10, expected 0 to 8"):
        build_setup(make_recipe(data__held_out_classes=9), tiny_cache, torch.device("cpu"))


@pytest.fixture(scope="module")
def runs(tiny_cache, tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("runs")
    for name, count in (("plain", 0), ("held", 4)):
        recipe = make_recipe(train__epochs=2, optim__warmup_epochs=0, data__held_out_classes=count)
        list(start_run(recipe, cache=tiny_cache, out=folder / name).train())
    return folder


def few_shot(*arguments):
    return CliRunner().invoke(main, ["few-shot", *map(str, arguments)])


def test_the_command_evaluates_unseen_classes(runs):
    result = few_shot(runs / "held", "--ways", "3", "--shots", "1,5", "--episodes", "50")
    assert result.exit_code == 0, result.output
    record = json.loads((runs / "held" / "few_shot.json").read_text())
    assert record["classes"] == "held out"
    assert (record["num_classes"], record["num_recordings"]) == (4, 48)
    assert [(found["ways"], found["shots"]) for found in record["accuracies"]] == [(3, 1), (3, 5)]
    assert all(0.2 < found["accuracy"] <= 1 for found in record["accuracies"])
    assert "3-way 5-shot" in result.output
    assert "trained on" not in result.output
    assert few_shot(runs / "held", "--ways", "3", "--shots", "1,5", "--episodes", "50").output == result.output


def test_the_command_says_when_classes_were_trained_on(digits_root, tmp_path):
    spec = dataclasses.replace(TINY_SPEC, test_share=0.3)
    for _ in prepare_cache(plan_prepare(open_digits(digits_root), spec, tmp_path / "digits.h5")):
        pass
    recipe = make_recipe(
        train__epochs=1,
        optim__warmup_epochs=0,
        data={"dataset": "digits", "prepare": {"time_bins": 4, "size": 16, "test_share": 0.3}},
    )
    list(start_run(recipe, cache=tmp_path / "digits.h5", out=tmp_path / "run").train())
    arguments = ("--ways", "5", "--shots", "1", "--queries", "1", "--episodes", "20")
    result = few_shot(tmp_path / "run", *arguments, "--cache", tmp_path / "digits.h5")
    assert result.exit_code == 0, result.output
    assert "10, trained on" in result.output
    assert "these classes were trained on" in result.output


def test_a_run_of_many_classes_has_its_top_five(runs):
    result = json.loads((runs / "plain" / "result.json").read_text())
    assert result["test_accuracy"] <= result["test_top5_accuracy"] <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ways", "5"], "4 classes have 1 + 5 recordings or more, expected 5"),
        (["--ways", "0"], "found '0', expected whole numbers from 1 to 10000"),
        (["--ways", "2", "--shots", "one"], "found 'one', expected whole numbers"),
    ],
)
def test_what_cannot_be_is_one_line(runs, arguments, message):
    result = few_shot(runs / "held", *arguments)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_defaults_fit_the_recordings(runs):
    result = few_shot(runs / "held", "--episodes", "20")
    assert result.exit_code == 0, result.output
    record = json.loads((runs / "held" / "few_shot.json").read_text())
    assert [(found["ways"], found["shots"]) for found in record["accuracies"]] == [(4, 1), (4, 5)]
    assert "note: left out 20-way 5-shot: 4 classes have 5 + 5 recordings or more\n" in result.output


TWELVE = np.repeat(np.arange(30), 12)


@pytest.mark.parametrize(
    ("labels", "ways", "shots", "pairs"),
    [
        (TWELVE, None, None, [(5, 1), (20, 1), (5, 5), (20, 5)]),
        (TWELVE[:120], None, None, [(5, 1), (5, 5)]),
        (TWELVE[:24], None, None, [(2, 1), (2, 5)]),
        (np.repeat(np.arange(30), 7), None, None, [(5, 1), (20, 1)]),
        (np.repeat(np.arange(30), 7), (3,), None, [(3, 1)]),
        (TWELVE[:120], None, (2,), [(5, 2)]),
        (TWELVE, (30,), (1, 7), [(30, 1), (30, 7)]),
    ],
)
def test_sizes_of_episodes(labels, ways, shots, pairs):
    assert list(choose_sizes(labels, ways, shots, 5).pairs) == pairs


@pytest.mark.parametrize(
    ("labels", "ways", "shots", "message"),
    [
        (TWELVE[:12], None, None, "1 class has 1 \\+ 5 recordings or more, expected 5"),
        (TWELVE[:120], (5, 11), None, "10 classes have 1 \\+ 5 recordings or more, expected 11"),
        (TWELVE, (5,), (1, 8), "0 classes have 8 \\+ 5 recordings or more, expected 5"),
        (TWELVE, None, (1, 8), "0 classes have 8 \\+ 5 recordings or more, expected 5"),
        (TWELVE[:0], None, None, "0 classes have 1 \\+ 5 recordings"),
    ],
)
def test_sizes_that_were_asked_for_are_not_left_out(labels, ways, shots, message):
    with pytest.raises(RunError, match=message):
        choose_sizes(labels, ways, shots, 5)


def test_an_unfinished_run_is_refused(tiny_cache, tmp_path):
    training = start_run(make_recipe(), cache=tiny_cache, out=tmp_path / "run").train()
    next(training)
    training.close()
    result = few_shot(tmp_path / "run")
    assert result.exit_code == 1
    assert "not finished, expected a result; resume it with: tmkt-train resume" in result.output
