"""What is said before training: empty splits, classes of one recording, names that miss each other."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
import trees
from click.testing import CliRunner
from conftest import build
from PIL import Image

from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.pairs.verdicts import CacheTables, table_verdicts
from tmkt_data.spec import Encoder, EventScale, PrepareSpec

NO_VAL_OR_TEST = (
    "val and test have no recording in twin-disjoint; there is nothing to select an epoch by or test on, add "
    "recordings or use larger shares"
)
ONE_EACH = (
    "3 classes of 1 recording (clap, nod, wave): a class is learned and tested only if it is in every split; add "
    "recordings"
)


def tables_of(recordings, images, codes):
    events, pictures = (np.array([name.encode() for name in side], "S20") for side in (recordings, images))
    twins = [images.index(name) if name in images else -1 for name in recordings]
    classes = sorted({name.split("/")[0] for name in (*recordings, *images)})
    tables = {
        "events/id": events,
        "images/id": pictures,
        "events/twin": np.array(twins),
        "events/label": np.array([classes.index(name.split("/")[0]) for name in recordings]),
        "events/split/twin-disjoint": np.array(codes, np.uint8),
        "images/label": np.array([classes.index(name.split("/")[0]) for name in images]),
        "images/split/twin-disjoint": np.ones(len(images), np.uint8),
    }
    for side, names in (("events", recordings), ("images", images)):
        tables |= {
            f"{side}/source_bytes": np.arange(len(names)),
            f"{side}/source_xxh3": np.zeros(len(names), np.uint64),
        }
    return CacheTables(tables, classes, PrepareSpec())


def texts(known, protocol="twin-disjoint"):
    return [(verdict.severity, verdict.text) for verdict in table_verdicts(known, protocol)]


def test_one_recording_a_class_is_said_by_prepare_and_pairs(tmp_path):
    own = {"clap/a": 1, "nod/a": 2, "wave/a": 3}
    root = trees.write_folder(tmp_path / "own", own, own)
    out = CliRunner().invoke(main, ["prepare", "folder", "--root", str(root), "--out", str(tmp_path / "a.h5")])
    assert out.exit_code == 0, out.output
    lines = out.output.splitlines()
    told = [line.removeprefix("warning: ") for line in lines if line.startswith("warning: ")]
    assert told == [NO_VAL_OR_TEST, ONE_EACH]
    assert lines.index(f"warning: {ONE_EACH}") < next(at for at, line in enumerate(lines) if line.startswith("train:"))
    again = CliRunner().invoke(main, ["prepare", "folder", "--root", str(root), "--out", str(tmp_path / "a.h5")])
    assert f"warning: {NO_VAL_OR_TEST}" in again.output
    shown = CliRunner().invoke(main, ["pairs", str(tmp_path / "a.h5"), "--json", "--no-alignment"])
    assert shown.exit_code == 0
    assert json.loads(shown.output)["verdicts"] == [
        {"severity": "warning", "text": text} for text in (NO_VAL_OR_TEST, ONE_EACH)
    ]


def test_classes_of_one_image_have_nothing_to_compare_with(tmp_path):
    own = {"clap/a": 1, "nod/a": 2, "wave/a": 3}
    build("folder", trees.write_folder(tmp_path / "own", own, own), tmp_path / "a.h5", size=24, time_bins=2)
    out = CliRunner().invoke(main, ["pairs", str(tmp_path / "a.h5"), "--no-encoders"])
    assert out.exit_code == 0, out.output
    assert "same class        nothing to compare" in out.output


@pytest.mark.parametrize("options", [{"val_share": 0.0}, {"val_share": 0.0, "test_share": 0.0}])
def test_splits_that_are_not_asked_for_are_not_missed(tmp_path, options):
    own = {f"{name}/{at}": 10 * label + at for label, name in enumerate(("clap", "wave")) for at in range(4)}
    root = trees.write_folder(tmp_path / "own", own, own)
    cache = Cache(build("folder", root, tmp_path / "a.h5", size=8, time_bins=2, **options))
    assert not table_verdicts(CacheTables.of(cache), "twin-disjoint")


def test_classes_without_images_are_told_before_the_command_that_trains(tmp_path):
    recordings = {f"{name}/{at}": 10 * label + at for label, name in enumerate(("clap", "wave")) for at in range(10)}
    images = {name: seed for name, seed in recordings.items() if name.startswith("clap")}
    root = trees.write_folder(tmp_path / "own", recordings, images)
    given = ["prepare", "folder", "--root", str(root), "--out", str(tmp_path / "a.h5"), "--allow-unpaired"]
    out = CliRunner().invoke(main, given)
    assert out.exit_code == 0, out.output
    lines = out.output.splitlines()
    found = [at for at, line in enumerate(lines) if "train has recordings of 1 class (wave), but no images" in line]
    assert len(found) == 1
    assert lines[-1].startswith("train:   tmkt-train recipe scnn_folder --cache ")
    assert lines[-1].endswith(" --set method.name=event-only")
    assert "method.name" not in CliRunner().invoke(main, ["prepare", "folder", "--root", str(trees.write_folder(
        tmp_path / "both", recordings, recordings)), "--out", str(tmp_path / "b.h5")]).output  # fmt: skip


def test_a_class_that_a_split_lacks_is_named():
    names = ["a/1", "a/2", "a/3", "b/1", "b/2"]
    assert texts(tables_of(names, names, [1, 2, 3, 1, 2])) == [("warning", "test has no recording of 1 class (b)")]
    assert not texts(tables_of(names, names, [1, 2, 3, 0, 0]))


def test_names_of_a_cache_of_before_that_miss_each_other_are_an_error():
    recordings = ["cafe\u0301/1", "cafe\u0301/2", "th/1", "th/2", "th/3"]
    images = ["caf\u00e9/1", "caf\u00e9/2", "th/1", "th/2", "th/3"]
    found = texts(tables_of(recordings, images, [1, 3, 1, 2, 3]))
    assert found[0][0] == "error"
    assert found[0][1] == (
        "2 recordings without a twin, but an image looks as if it was, and may be drawn while its recording is held "
        r"out: 'cafe\u0301/1' (NFD) and 'caf\xe9/1' (NFC) differ only in Unicode normalization; rename one of them and "
        "prepare again"
    )


def test_stems_of_several_classes_and_single_strays_prove_nothing():
    recordings = ["a/1", "a/2", "a/3", "b/1", "b/2"]
    assert not [
        text for kind, text in texts(tables_of(recordings, ["c/1", "d/1", "c/2", "d/2"], [1] * 5)) if kind == "error"
    ]
    one = ["a/1", "a/2", "b/3", "b/1", "b/2"]
    assert not [text for kind, text in texts(tables_of(recordings, one, [1] * 5)) if kind == "error"]


OWN = {f"{name}/{at}": 10 * label + at for label, name in enumerate(("clap", "wave")) for at in range(4)}
FLAT = (
    "warning: 3 images without contrast, of one gray value (clap/1, wave/0, wave/2): nothing can be learned from their "
    "content, and encoders gradient and saccade make empty frames of them; check these files\n"
)


@pytest.fixture
def with_flat_images(tmp_path):
    root = trees.write_folder(tmp_path / "own", OWN, OWN)
    for name, size, color in (("clap/1", (40, 30), 0), ("wave/0", (1, 1), 90), ("wave/2", (40, 10), (200, 100, 50))):
        Image.new("RGB", size, color).save(root / "images" / f"{name}.png")
    return root


def said(*words):
    out = CliRunner().invoke(main, [*map(str, words)])
    assert out.exit_code == 0, out.output
    return out.output


@pytest.mark.parametrize(("canvas", "decode"), [("fixed", "full"), ("tight", "scaled")])
def test_images_without_contrast_are_said_wherever_a_cache_is_reported(with_flat_images, tmp_path, canvas, decode):
    given = "prepare", "folder", "--root", with_flat_images, "--canvas", canvas, "--image-decode", decode
    assert FLAT in said(*given, "--out", tmp_path / "a.h5")
    # Again, when there is nothing left to do.
    assert FLAT in said(*given, "--out", tmp_path / "a.h5")
    assert FLAT in said("inspect", tmp_path / "a.h5")
    (verdict,) = json.loads(said("inspect", tmp_path / "a.h5", "--json"))["verdicts"]
    assert f"{verdict['severity']}: {verdict['text']}\n" == FLAT
    assert FLAT in said("pairs", tmp_path / "a.h5", "--no-alignment", "--no-encoders")


def test_images_without_contrast_are_said_of_shards_plans_and_stores(with_flat_images, tmp_path):
    pytest.importorskip("fsspec")
    given = "folder", "--root", with_flat_images, "--size", 16, "--time-bins", 2
    said("plan", *given, "--cache", tmp_path / "a.h5", "--out", tmp_path / "plan", "--shards", 2)
    said("prepare", "--plan", tmp_path / "plan", "--shard", "1/2")
    said("prepare", "--plan", tmp_path / "plan", "--shard", "2/2")
    assert FLAT in said("prepare", "--plan", tmp_path / "plan", "--finish")
    assert said("prepare", *given, "--out", f"{(tmp_path / 'store').as_uri()}/a.h5", "--shards", 2).count(FLAT) == 1


@pytest.fixture(scope="module")
def flat_digits(tmp_path_factory):
    root = trees.write_nmnist(tmp_path_factory.mktemp("flat"), per_digit=2, test_per_digit=1, digits=2)
    for path in (root / "MNIST_png").rglob("*.png"):
        Image.new("L", (28, 28), 77).save(path)
    return build("nmnist", root, root / "a.h5", size=17, time_bins=3, bake="gradient")


@pytest.mark.parametrize("encoder", get_args(Encoder))
def test_images_without_contrast_become_frames_of_finite_values(flat_digits, encoder):
    """Whatever the event scale divides by. Encoders that imitate events give no event at all."""
    for scale in get_args(EventScale):
        frames = PairedFrames(flat_digits, "train", encoder=encoder, scale=scale)
        image = frames.read(np.arange(len(frames))).image
        assert np.isfinite(image).all()
        assert frames.image_side.imitates_events == (not image.any())
