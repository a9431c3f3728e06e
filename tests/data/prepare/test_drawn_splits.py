"""Samples of equal content under different names, through `prepare`: refused, kept together, or kept and counted."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data import PairedFrames
from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.duplicates import duplicates_in
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.errors import CatalogueError
from tmkt_data.pairs.report import report_pairs
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.drawn_splits import duplicate_rule, refuse_early
from tmkt_data.prepare.plan import find_prepared, plan_prepare

SMALL = {"size": 8, "time_bins": 2}


def plan_of(name, root, out, **options):
    catalogue = open_catalogue(name, root)
    return plan_prepare(catalogue, dataclasses.replace(default_spec(name), **SMALL, **options), out)


def prepared(name, root, out, **options):
    for _ in prepare_cache(plan_of(name, root, out, **options)):
        pass
    return Cache(out)


def names(per_class=30):
    return [f"{name}/{number:02d}" for name in ("clap", "wave") for number in range(per_class)]


@pytest.fixture
def copied_root(tmp_path):
    """The last 20 recordings of each class are the first ten twice; the pictures are all different."""
    scenes = {name: 100 * ("wave" in name) + int(name[-2:]) % 10 for name in names()}
    return trees.write_folder(tmp_path / "own", scenes, {name: 1000 + at for at, name in enumerate(names())})


def test_copies_across_drawn_splits_are_refused_before_anything_is_decoded(copied_root, tmp_path):
    (copied_root / "images" / "wave" / "00.png").write_bytes(b"not read, since the copies are found before")
    plan = plan_of("folder", copied_root, tmp_path / "own.h5")
    with pytest.raises(CatalogueError) as problem:
        list(prepare_cache(plan))
    text = str(problem.value)
    assert text.startswith("folder: 12 recordings of val or test have the content of one in another split, such as")
    assert text.count(" = clap/") == 2
    assert text.endswith(
        "; remove the copies, or give --duplicates together to move each with its copies into one split, or "
        "--duplicates keep"
    )
    assert "\n" not in text
    assert not list(tmp_path.glob("own.h5*"))


@pytest.mark.parametrize("num_equal", [4095, 4096, 4097, 5000])
def test_files_of_equal_size_are_copies_only_where_all_bytes_are_equal(copied_root, num_equal):
    start = np.random.default_rng(0).bytes(num_equal)
    for at, path in enumerate(sorted((copied_root / "events").rglob("*.bin"))):
        path.write_bytes(start + bytes([at]) * (5000 - num_equal))
    catalogue = open_catalogue("folder", copied_root)
    if num_equal < 5000:
        refuse_early(catalogue, default_spec("folder"))
        return
    with pytest.raises(CatalogueError, match="recordings of val or test have the content of one in another split"):
        refuse_early(catalogue, default_spec("folder"))


def test_equal_images_are_refused_too(tmp_path):
    images = dict.fromkeys(names(8), 7)
    root = trees.write_folder(tmp_path / "own", {name: at for at, name in enumerate(names(8))}, images)
    command = ["prepare", "folder", "--root", str(root), "--out", str(tmp_path / "own.h5"), "--size", "8"]
    out = CliRunner().invoke(main, command)
    assert out.exit_code == 1
    assert "error: folder: 4 images of val or test have the content of one in another split" in out.output
    out = CliRunner().invoke(main, [*command, "--duplicates", "keep"])
    assert out.exit_code == 0, out.output
    assert "warning: 4 images of val or test have the content of one in another split, such as image" in out.output
    assert out.output.index("warning: ") < out.output.index("train: ")


def test_copies_kept_together_are_in_one_split_with_their_twins(copied_root, tmp_path):
    cache = prepared("folder", copied_root, tmp_path / "own.h5", duplicates="together")
    for protocol in ("twin-disjoint", "kt-paper"):
        codes, images = (cache.splits(side, protocol) for side in ("events", "images"))
        assert codes.tolist() == images.tolist()
        for number in range(10):
            for first in (0, 30):
                assert len({codes[first + number + shift] for shift in (0, 10, 20)}) == 1
        found = duplicates_in(cache.tables, protocol)
        assert (found.recordings, found.images, found.repeated_recordings) == (0, 0, 60)
    assert PairedFrames(cache, "train").split_digest
    kept = prepared("folder", copied_root, tmp_path / "kept.h5", duplicates="keep")
    first = np.arange(60) % 30 < 10
    before, after = (of.splits("events", "twin-disjoint")[first] for of in (kept, cache))
    assert before.tolist() == after.tolist()


def test_copies_that_are_kept_are_counted_by_pairs_and_inspect(copied_root, tmp_path):
    path = tmp_path / "own.h5"
    cache = prepared("folder", copied_root, path, duplicates="keep")
    codes = cache.splits("events", "twin-disjoint")
    content = [100 * (row >= 30) + row % 10 for row in range(60)]
    lowest = {scene: min(codes[row] for row in range(60) if content[row] == scene) for scene in content}
    expected = sum(codes[row] > lowest[content[row]] for row in range(60))
    report = report_pairs(PairedFrames(path))
    assert report.duplicates.recordings == expected == 12
    assert report.verdicts[0].severity == "warning"
    assert report.verdicts[0].text.startswith("12 recordings of val or test have the content of one in another split")
    out = json.loads(CliRunner().invoke(main, ["pairs", str(path), "--json", "--no-alignment"]).output)
    assert out["duplicates"]["recordings"] == 12
    assert out["verdicts"][0] == {"severity": "warning", "text": report.verdicts[0].text}
    shown = CliRunner().invoke(main, ["inspect", str(path)]).output
    assert "12 recordings of val or test have the content of one in another split" in shown


def test_a_cache_of_before_that_holds_copies_is_not_taken(copied_root, tmp_path):
    path = tmp_path / "own.h5"
    prepared("folder", copied_root, path, duplicates="keep")
    plan = plan_of("folder", copied_root, path, duplicates="keep")
    assert find_prepared(plan) is not None
    refusing = dataclasses.replace(plan, spec=dataclasses.replace(plan.spec, duplicates=None))
    with pytest.raises(CatalogueError, match="12 recordings of val or test have the content"):
        find_prepared(refusing)


def test_copies_are_found_at_the_end_where_files_may_be_left_out(copied_root, tmp_path):
    (copied_root / "images" / "wave" / "00.png").write_bytes(b"left out")
    plan = plan_of("folder", copied_root, tmp_path / "own.h5")
    with pytest.raises(CatalogueError, match="12 recordings of val or test have the content"):
        list(prepare_cache(plan, skip_bad=True))
    assert not plan.path.exists()


def test_published_splits_stay_and_their_copies_are_counted(tmp_path):
    root = trees.write_nmnist(tmp_path / "nmnist", per_digit=12, test_per_digit=3, digits=2)
    for folder, suffix in (("N-MNIST", "bin"), ("MNIST_png", "png")):
        shutil.copy(root / folder / "Train" / "0" / f"00001.{suffix}", root / folder / "Test" / "0" / f"00025.{suffix}")
    cache = prepared("nmnist", root, tmp_path / "a.h5")
    found = duplicates_in(cache.tables, "twin-disjoint")
    assert (found.recordings, found.images) == (1, 1)
    assert found.examples[0] == "recording 0/test-00025 (test) = 0/train-00001 (train)"
    together = prepared("nmnist", root, tmp_path / "b.h5", duplicates="together")
    codes = dict(zip(together.event_ids, together.splits("events", "twin-disjoint").tolist(), strict=True))
    assert codes["0/test-00025"] == codes["0/train-00001"] == SplitCode.TEST
    with pytest.raises(CatalogueError, match="nmnist: 1 recording and 1 image of val or test have the content"):
        prepared("nmnist", root, tmp_path / "c.h5", duplicates="refuse")


@pytest.mark.parametrize(
    ("name", "options", "rule"),
    [
        ("folder", {}, "refuse"),
        ("folder", {"duplicates": "keep"}, "keep"),
        ("nmnist", {}, "keep"),
        ("nmnist", {"test_share": 0.2}, "refuse"),
        ("nmnist", {"duplicates": "together"}, "together"),
    ],
)
def test_the_default_refuses_where_splits_are_drawn(tmp_path, nmnist_root, name, options, rule):
    own = {name: at for at, name in enumerate(names(2))}
    root = nmnist_root if name == "nmnist" else trees.write_folder(tmp_path / "own", own, own)
    spec = dataclasses.replace(default_spec(name), **options)
    assert duplicate_rule(open_catalogue(name, root), spec) == rule


def test_without_copies_the_bytes_are_the_same_under_every_rule(tmp_path):
    own = {name: at for at, name in enumerate(names(6))}
    root = trees.write_folder(tmp_path / "own", own, own)
    caches = {
        rule: prepared("folder", root, tmp_path / f"{rule}.h5", duplicates=rule)
        for rule in (None, "refuse", "together", "keep")
    }
    tables = [cache.tables for cache in caches.values()]
    assert all((tables[0][key] == other[key]).all() for other in tables[1:] for key in other)
    assert '"duplicates"' not in caches[None].header["spec"]
