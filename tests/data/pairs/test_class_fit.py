"""Good pairs are not suspected; shuffled ones, and classes swapped on one side, are."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import trees
from click.testing import CliRunner
from conftest import build
from scipy import special

from tmkt_data import PairedFrames
from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.pairs.class_fit import SwappedClass, _t_bound, fit_classes, mean_share, share_below, some_others
from tmkt_data.pairs.report import content_verdicts, measure_alignment, report_pairs
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare

CLASSES = ("clap", "jump", "nod", "wave")
PER_CLASS = 12
OWN = {f"{name}/take {at}": 100 * label + at for label, name in enumerate(CLASSES) for at in range(PER_CLASS)}


def shuffled(seed):
    """Scenes of the images where each class is shuffled."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(PER_CLASS) for _ in CLASSES]
    return {name: 100 * (scene // 100) + int(orders[scene // 100][scene % 100]) for name, scene in OWN.items()}


def swapped(one, other):
    """Scenes of the images where two classes are swapped."""
    to = {one: other, other: one}
    return {f"{to.get(name.split('/')[0], name.split('/')[0])}/{name.split('/')[1]}": at for name, at in OWN.items()}


def cache_of(folder, images):
    root = trees.write_folder(folder / "own", OWN, images)
    return Cache(build("folder", root, folder / "own.h5", size=24, time_bins=3))


def prepare(folder, *options):
    command = ["prepare", "folder", "--root", str(folder / "own"), "--out", str(folder / "again.h5"), "--size", "24"]
    return CliRunner().invoke(main, [*command, *options])


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return cache_of(tmp_path_factory.mktemp("good"), OWN)


def errors(cache):
    report = report_pairs(PairedFrames(cache), alignment=True, thorough=True)
    return [verdict.text for verdict in report.verdicts if verdict.severity == "error"]


def test_good_pairs_are_not_suspected(good):
    report = report_pairs(PairedFrames(good), alignment=True, thorough=True)
    assert report.verdicts == ()
    assert not report.looks_wrong
    assert report.alignment.own_above_class.low > 0.95
    out = CliRunner().invoke(main, ["pairs", str(good.info.path)])
    assert out.exit_code == 0
    assert "no problems found: these pairs can be trained on" in out.output


def test_a_file_is_measured_once_and_another_of_its_name_again(good, tmp_path):
    path = shutil.copy(good.info.path, tmp_path / "cache.h5")
    first, again = (report_pairs(PairedFrames(Cache(path)), alignment=True).alignment for _ in range(2))
    assert first is again
    assert first == measure_alignment(good)
    cache_of(tmp_path, shuffled(0)).info.path.replace(path)
    other = Cache(path)
    assert report_pairs(PairedFrames(other), alignment=True).alignment == measure_alignment(other) != first


@pytest.mark.parametrize(("size", "num_errors"), [(11, 0), (12, 1)])
def test_frames_of_few_rows_do_not_tell_whether_images_fit(tmp_path, size, num_errors):
    # Right pairs of real N-MNIST fit no better than others at 8 x 8.
    root = trees.write_folder(tmp_path / "own", OWN, shuffled(0))
    cache = Cache(build("folder", root, tmp_path / "own.h5", size=size, time_bins=1))
    assert len(content_verdicts(cache)) == num_errors
    verdicts = report_pairs(PairedFrames(cache), alignment=True).verdicts
    assert [verdict.severity for verdict in verdicts] == ["error" if num_errors else "warning"]
    assert num_errors or verdicts[0].text.startswith(
        "whether the pairing is right cannot be told from frames of 11 x 11: own images fit better than "
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_a_shuffled_pairing_looks_wrong_and_exits_with_one(tmp_path, seed):
    cache = cache_of(tmp_path, shuffled(seed))
    found = errors(cache)
    assert len(found) == 1
    assert found[0].startswith("this pairing looks wrong: own images fit the recordings no better than others (0.")
    fit = measure_alignment(cache).own_above_class
    assert 0.3 < fit.low < 0.5 < fit.high < 0.7
    out = CliRunner().invoke(main, ["pairs", str(cache.info.path)])
    assert out.exit_code == 1
    assert f"error: {found[0]}" in out.output
    told = prepare(tmp_path)
    assert told.exit_code == 1
    assert "error: this pairing looks wrong: own images fit the recordings no better than others (better than" in (
        told.stderr
    )
    assert "twins = 'none' in tmkt.toml" in told.stderr
    assert told.stderr.splitlines()[-1] == (
        f"error: {tmp_path / 'again.h5'} is complete, but results on it would be wrong (1 error above); fix the "
        "dataset, then prepare again"
    )
    assert f"check:   tmkt-data pairs {tmp_path / 'again.h5'}" in told.stdout
    assert "train: " not in told.output
    shown = CliRunner().invoke(main, ["pairs", str(cache.info.path), "--json"])
    assert shown.exit_code == 1
    assert '"severity": "error"' in shown.output
    assert '"own_above_class": {' in shown.output


def test_two_classes_swapped_on_one_side_are_named_by_pairs_and_prepare(tmp_path):
    cache = cache_of(tmp_path, swapped("jump", "wave"))
    found = fit_classes(cache).swapped
    assert {(item.name, item.other) for item in found} == {("jump", "wave"), ("wave", "jump")}
    assert all(item.other_share == 1 and item.own_share < 0.85 for item in found)
    assert any(text.startswith("the images of class jump look misplaced: its recordings fit") for text in errors(cache))
    out = prepare(tmp_path)
    assert out.exit_code == 1
    assert "error: the images of class jump look misplaced" in out.output
    assert "train: " not in out.output
    # The same where there is nothing to do, and where nothing but errors is printed.
    again = prepare(tmp_path, "--quiet")
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.splitlines() == [line for line in out.stderr.splitlines() if line.startswith("error: ")]
    found = json.loads(prepare(tmp_path, "--json").stdout)
    assert (found["train"], {verdict["severity"] for verdict in found["verdicts"]}) == (None, {"error"})
    quiet = CliRunner().invoke(main, ["pairs", str(cache.info.path), "--no-encoders", "--quiet"])
    assert (quiet.exit_code, quiet.stdout) == (1, "")
    assert "error: the images of class jump look misplaced" in quiet.stderr


def test_classes_with_stems_of_their_own_are_seen_to_be_swapped_by_name(tmp_path):
    own = {f"{name}/{name} {at}": 100 * label + at for label, name in enumerate(CLASSES) for at in range(4)}
    images = {
        name.replace("jump/", "@/").replace("wave/", "jump/").replace("@/", "wave/"): at for name, at in own.items()
    }
    trees.write_folder(tmp_path / "own", own, images)
    out = prepare(tmp_path)
    assert out.exit_code == 1
    assert (
        "error: the images of class jump look misplaced: 4 of its recordings have no image of their name in it, but in "
        "class wave; are two class folders of one side swapped?"
    ) in out.output
    assert CliRunner().invoke(main, ["pairs", str(tmp_path / "again.h5")]).exit_code == 1


def test_pairs_of_too_few_recordings_are_not_judged(tmp_path):
    names = {f"{name}/{at}": 10 * label + at for label, name in enumerate(CLASSES[:2]) for at in range(3)}
    images = dict(zip(names, np.roll(list(names.values()), 1).tolist(), strict=True))
    root = trees.write_folder(tmp_path / "own", names, images)
    cache = Cache(build("folder", root, tmp_path / "own.h5", size=24, time_bins=3))
    report = report_pairs(PairedFrames(cache), alignment=True, thorough=True)
    assert not report.looks_wrong
    assert any("whether the pairing is right cannot be told" in verdict.text for verdict in report.verdicts)


def test_uniform_images_say_nothing(tmp_path):
    images = {f"{name}/take {at}": 0 for name in CLASSES for at in range(PER_CLASS)}
    root = trees.write_folder(tmp_path / "own", OWN, images)
    for number, path in enumerate(sorted((root / "images").rglob("*.png"))):
        trees.Image.fromarray(np.full((30, 40), number, np.uint8)).save(path)
    cache = Cache(build("folder", root, tmp_path / "own.h5", size=24, time_bins=3))
    assert measure_alignment(cache).own_above_class is None
    assert not fit_classes(cache).swapped
    assert not report_pairs(PairedFrames(cache), alignment=True, thorough=True).looks_wrong


def test_the_interval_holds_its_level_where_own_and_others_are_exchangeable():
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(1000):
        scores = rng.random((30, 9))
        fit = mean_share([share_below(row[0], row[1:]) for row in scores])
        outside += not fit.low <= 0.5 <= fit.high
    assert outside <= 25


@pytest.mark.parametrize(
    ("own", "others", "share"), [(1.0, [0, 0], 1.0), (0.0, [1, 1, 0, 1], 0.125), (0.0, [0, 0], None), (1.0, [], None)]
)
def test_the_share_of_others_below(own, others, share):
    assert share_below(own, np.array(others, float)) == share


def test_one_share_has_no_interval():
    assert mean_share([0.5]) is None
    assert mean_share([0.0, 1.0]).low == 0


def test_the_interval_of_a_mean_is_that_of_the_t_distribution():
    # By hand: deviations of 0.2582 and 0.2986 over the root of 4, times 3.182446, the 97.5 % point of 3 degrees.
    assert mean_share([0.2, 0.4, 0.6, 0.8], 0.95) == pytest.approx((0.5, 0.0891478, 0.9108522), abs=1e-6)
    # A deviation of 0.2 over the root of 3, times that of 2 / 3, the 75 % point of 2 degrees.
    assert mean_share([0.2, 0.4, 0.6], 0.5) == pytest.approx((0.4, 0.3057191, 0.4942809), abs=1e-6)
    assert mean_share([0.2, 0.4, 0.6, 0.9], 0.95) == pytest.approx((0.525, 0.0498472, 1.0), abs=1e-5)


def test_others_change_with_the_recording_and_never_hold_the_own_image():
    rows = np.arange(10)
    assert some_others(rows, 3, 0).tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert some_others(rows, 3, 1).tolist() == [9, 0, 1, 2, 4, 5, 6, 7]
    assert some_others(rows, 3, 2).tolist() == [8, 9, 0, 1, 2, 4, 5, 6]
    assert some_others(rows[4:8], 5, 1).tolist() == [4, 6, 7]


@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_the_bound_of_student_is_that_of_scipy(confidence):
    degrees = [*range(1, 120), 1000, 20_000]
    expected = [special.stdtrit(number, 0.5 + confidence / 2) for number in degrees]
    np.testing.assert_allclose([_t_bound(number, confidence) for number in degrees], expected, rtol=1e-11)


def real_cache(catalogue, out):
    for _ in prepare_cache(plan_prepare(catalogue, default_spec("nmnist"), out)):
        pass
    return Cache(out)


def test_the_real_pairs_of_nmnist_are_good(real_data, tmp_path):
    cache = real_cache(open_catalogue("nmnist", real_data / "nmnist"), tmp_path / "real.h5")
    assert not errors(cache)
    assert measure_alignment(cache).own_above_class.low > 0.95
    assert not fit_classes(cache).swapped


def test_real_images_in_a_wrong_order_within_each_digit_look_wrong(real_data, tmp_path):
    catalogue = open_catalogue("nmnist", real_data / "nmnist")
    wrong = []
    for label in range(10):
        own = [source for source in catalogue.images if source.label == label]
        for source, other in zip(own, [own[-1], *own[:-1]], strict=True):
            wrong.append(source._replace(file=other.file, num_bytes=other.num_bytes))
    wrong.sort(key=lambda source: source.id.encode())
    found = errors(real_cache(dataclasses.replace(catalogue, images=tuple(wrong)), tmp_path / "wrong.h5"))
    assert any(text.startswith("this pairing looks wrong") for text in found)


def test_swapped_classes_are_plain_values():
    assert dataclasses.asdict(SwappedClass("a", "b", 0.5, 1.0))["other"] == "b"
