"""`tmkt-data prepare tonic:NAME` with tonic itself: what is read, and that nothing is downloaded."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data import PairedFrames, open_catalogue
from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.events.read import load_events

tonic = pytest.importorskip("tonic", reason="tonic is not installed: pip install 'tmkt[tonic]'")


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a download")

    monkeypatch.setattr("tonic.dataset.download_and_extract_archive", refused)
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    return tmp_path / "caches"


def run(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.output


def one_error(code, found, message):
    lines = [line for line in found[1].splitlines() if line.startswith("error: ")]
    assert (found[0], len(lines)) == (code, 1), found[1]
    assert message in lines[0]


def test_real_recordings_of_nmnist_are_paired_with_images_by_class(tmp_path, real_data, caches):
    for folder in (real_data / "nmnist" / "N-MNIST" / "Train").iterdir():
        for file in sorted(folder.iterdir())[:4]:
            copy = tmp_path / "data" / "NMNIST" / "Train" / folder.name / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    images = real_data / "nmnist" / "MNIST_png" / "Train"
    words = ("prepare", "tonic:NMNIST", "--root", tmp_path / "data", "--images", images, "--size", 34, "--time-bins", 5)
    code, out = run(*words)
    assert code == 0, out
    assert "NMNIST for incomplete, or misses the archive; what is there is used" in out
    assert (
        "note: the training part of NMNIST in tonic; splits are drawn from it; tmkt-data prepare nmnist has its" in out
    )
    assert "folder: 40 recordings, 600 images, 40 twins, 10 classes" in out
    assert "tmkt-train recipe scnn_folder --cache" in out
    (path,) = caches.glob("folder-tonic-NMNIST-*-t5-34x34-*.h5")
    cache = Cache(path)
    assert cache.class_names == tuple("0123456789")
    # Each pixel of the sensor is one cell; the reader of tmkt sees the same events in the same files.
    for row in range(0, 40, 7):
        events = load_events(real_data / "nmnist" / "N-MNIST" / "Train" / f"{cache.event_ids[row]}.bin")
        expected = np.zeros((2, 34, 34))
        np.add.at(expected, (events.p.astype(int), events.y, events.x), 1)
        np.testing.assert_array_equal(cache.event_frames([row])[0].sum(axis=0), expected)
    assert PairedFrames(cache, "train", pairing="twin")[0].image.any()
    assert "already prepared" in run(*words)[1]


def test_the_folder_of_the_dataset_itself_is_taken_and_images_may_be_missing(tmp_path, caches):
    root = trees.write_nmnist(tmp_path / "n", per_digit=3, digits=2)
    (root / "N-MNIST").rename(root / "NMNIST")
    code, out = run("prepare", "tonic:nmnist", "--events", root / "NMNIST", "--allow-unpaired", "--size", 8)
    assert code == 0, out
    assert "folder: 6 recordings, 0 images" in out
    assert len(Cache(next(caches.glob("folder-tonic-NMNIST-*.h5"))).event_ids) == 6
    assert len(open_catalogue("folder", next((caches / "tonic").iterdir())).recordings) == 6


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 1, "ROOT/NMNIST: nothing there, expected NMNIST as tonic stores it; tmkt does not download it"),
        ((), 1, "tonic.datasets.NMNIST("),
        (("--images", "ROOT"), 1, "ROOT: no class folders with images, expected CLASS/NAME.png"),
        (("--time-unit", "ms"), 2, "times of tonic are microseconds; omit --time-unit"),
        (("--columns", "xytp"), 2, "the format of tonic:NMNIST is known; omit --columns"),
    ],
)  # fmt: skip
def test_what_cannot_be_opened_is_one_line(tmp_path, words, code, message):
    given = [tmp_path if word == "ROOT" else word for word in words]
    found = run("prepare", "tonic:NMNIST", "--root", tmp_path, *given)
    one_error(code, found, message.replace("ROOT", str(tmp_path)))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("tonic:NMNIST",),
            1,
            "tonic:NMNIST: no folder given, expected the one that holds NMNIST; give it with --root",
        ),
        (("tonic:NMIST", "--root", "."), 2, "expected one of ASLDVS, CIFAR10DVS, "),
        (("tonic:NMIST", "--root", "."), 2, "; did you mean 'NMNIST'?"),
        (("tonic:DSEC", "--root", "."), 2, "tonic:DSEC: needs split and data_selection, which the command line does"),
    ],
)
def test_what_is_no_dataset_of_tonic_is_one_line(words, code, message):
    one_error(code, run("prepare", *words), message)


def test_a_damaged_file_is_one_line_with_its_number(tmp_path):
    root = trees.write_nmnist(tmp_path / "n", per_digit=2, digits=1)
    (root / "N-MNIST").rename(root / "NMNIST")
    path = sorted((root / "NMNIST" / "Train" / "0").iterdir())[1]
    path.write_bytes(path.read_bytes()[:-2])
    found = run("prepare", "tonic:NMNIST", "--root", root, "--images", root / "MNIST_png" / "Train")
    one_error(1, found, "NMNIST[1]: tonic cannot read it (")


def test_without_tonic_the_command_that_installs_it_is_named(tmp_path):
    code = (
        "import sys; sys.modules['tonic'] = None; sys.argv = ['tmkt-data', 'prepare', 'tonic:NMNIST', '--root', '.']; "
        "from tmkt_data.cli.main import main; main()"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr == "error: tonic:NMNIST: needs the package tonic; install it with: pip install 'tmkt[tonic]'\n"
