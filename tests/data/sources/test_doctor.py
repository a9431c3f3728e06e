"""What the doctor says of a set: what is missing, what lies elsewhere, and whether both sides are whole."""

from __future__ import annotations

import errno
import json
import shutil
import zipfile

import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data.cli.main import main
from tmkt_data.datasets import digits, fashion, ncaltech101, nmnist
from tmkt_data.datasets.completeness import contiguous_ids
from tmkt_data.datasets.folder import open_folder
from tmkt_data.datasets.recording_reader import RecordingReader
from tmkt_data.errors import EventError
from tmkt_data.events.slices import slice_faults
from tmkt_data.files import opened
from tmkt_data.sources.doctor import diagnose, read_digests
from tmkt_data.sources.misplaced import find_misplaced

COUNTS = {"ant": 4, "crab": 6, "emu": 3}


def run(*arguments, env=None):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=env)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A whole set of three classes."""
    monkeypatch.setattr(ncaltech101, "NUM_RECORDINGS", COUNTS)
    return trees.write_ncaltech(tmp_path / "tree", COUNTS)


@pytest.fixture
def numbers(tmp_path, monkeypatch):
    """A whole set of numbers that count across digits."""
    monkeypatch.setattr(nmnist, "_NUM_RECORDINGS", {"Train": 6, "Test": 3})
    root = trees.write_nmnist(tmp_path / "n", per_digit=2, test_per_digit=1, digits=3)
    for side in ("N-MNIST", "MNIST_png"):
        for number, path in enumerate(sorted(path for path in (root / side / "Test").rglob("*.*")), start=1):
            path.rename(path.with_stem(f"{number:05d}"))
    return root


def found(*arguments):
    result = run("doctor", *arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_a_whole_set_of_both_sides_is_complete(tree):
    code, seen = found("ncaltech101", "--root", tree)
    assert code == 0, seen
    assert (seen["expected"], seen["expected_images"], seen["twins"]) == (13, 13, 13)


def test_what_was_not_looked_at_is_said(tree):
    for options, shown, is_decoded in (((), "not looked at; --deep does", False), (("--deep",), "checked", True)):
        assert f"times, polarity   {shown}" in run("doctor", "ncaltech101", "--root", tree, *options).output
        assert found("ncaltech101", "--root", tree, *options)[1]["is_decoded"] is is_decoded


def test_what_only_decoding_finds_is_skipped_by_the_next_command(tree):
    path = tree / "Caltech101/crab/image_0006.bin"
    # Whole events of a sensor that is larger, in size as before.
    path.write_bytes(b"\xff" * path.stat().st_size)
    code, seen = found("ncaltech101", "--root", tree)
    assert (code, seen["problems"], "--skip-bad" in seen["next_command"]) == (0, [], False)
    code, seen = found("ncaltech101", "--root", tree, "--deep")
    assert code == 1
    assert [problem.partition(":")[0] for problem in seen["problems"]] == ["recording crab/image_0006"]
    assert seen["next_command"].endswith(f"--root {tree} --skip-bad")
    path.write_bytes(b"")
    assert found("ncaltech101", "--root", tree, "--deep")[1]["next_command"].count("--skip-bad") == 1


@pytest.fixture
def own(tmp_path):
    """A folder of one's own, whose recordings lack a setting."""
    root = trees.write_folder(tmp_path / "own", {"a/1": 1, "b/2": 2}, {"a/1": 1, "b/2": 2})
    np.save(root / "events/a/3.npy", np.zeros((5, 4), np.int64))
    return root


def test_recordings_that_need_a_setting_are_not_to_be_skipped(own):
    _, seen = found("folder", "--root", own, "--deep")
    assert "give their order" in seen["problems"][0]
    assert seen["next_command"].endswith(f"--root {own}")
    shown = run("doctor", "folder", "--root", own, "--deep").output
    assert f"\nnext, once these files can be read: tmkt-data prepare folder --root {own}\n" in shown
    # Nor beside files that can be skipped: all would be.
    (own / "events/b/4.bin").write_bytes(b"")
    assert found("folder", "--root", own)[1]["next_command"].endswith("--skip-bad")
    _, seen = found("folder", "--root", own, "--deep")
    assert len(seen["problems"]) == 2
    assert seen["next_command"].endswith(f"--root {own}")


def test_a_file_that_the_system_refuses_is_not_to_be_skipped(tree, monkeypatch):
    real = RecordingReader.open

    def open_some(reader, source):
        if source.id == "crab/image_0006":
            with opened(source.path, EventError):
                raise OSError(errno.EACCES, "Permission denied")
        return real(reader, source)

    monkeypatch.setattr(RecordingReader, "open", open_some)
    code, seen = found("ncaltech101", "--root", tree, "--deep")
    assert (code, len(seen["problems"])) == (1, 1)
    assert seen["problems"][0].endswith("that is no fault of the file: check the disk, permissions and limits")
    assert "--skip-bad" not in seen["next_command"]


@pytest.mark.parametrize(
    ("path", "side"),
    [("Caltech101/crab/image_0006.bin", "recordings"), ("101_ObjectCategories/crab/image_0006.jpg", "images")],
)
def test_a_missing_sample_of_either_side_is_missing(tree, path, side):
    (tree / path).unlink()
    code, seen = found("ncaltech101", "--root", tree)
    assert code == 1
    assert seen[f"missing_{side}"] == 1
    assert any(f"12 of 13 {side}; missing: crab/image_0006" in note for note in seen["notes"])
    assert f"{tree}" in seen["next_command"]


def test_a_sample_in_the_folder_of_another_class_is_misplaced(tree):
    shutil.move(tree / "Caltech101/crab/image_0006.bin", tree / "Caltech101/ant/image_0006.bin")
    shutil.move(tree / "101_ObjectCategories/crab/image_0005.jpg", tree / "101_ObjectCategories/image_0005.jpg")
    code, seen = found("ncaltech101", "--root", tree)
    assert code == 1
    assert seen["misplaced"] == [
        "Caltech101/ant/image_0006.bin seems to be recording crab/image_0006; move it there",
        "101_ObjectCategories/image_0005.jpg seems to be image crab/image_0005; move it there",
    ]
    assert seen["unexpected"] == []


def test_a_folder_in_another_case_is_misplaced(tree):
    (tree / "Caltech101/crab").rename(tree / "Caltech101/Crab")
    result = run("doctor", "ncaltech101", "--root", tree)
    assert result.exit_code == 1
    assert "missing           6 recordings, 0 images" in result.output
    assert "misplaced         6" in result.output
    assert "Caltech101/Crab/image_0001.bin seems to be recording crab/image_0001; move it there" in result.output


def test_a_file_that_may_be_several_says_so_and_one_too_many_is_unexpected(tree):
    shutil.move(tree / "Caltech101/ant/image_0001.bin", tree / "lost_image.bin")
    for name in ("ant", "crab"):
        (tree / f"Caltech101/{name}/image_0003.bin").unlink()
    shutil.copy(tree / "Caltech101/emu/image_0001.bin", tree / "image_0003.bin")
    shutil.copy(tree / "Caltech101/emu/image_0001.bin", tree / "Caltech101/emu/image_0009.bin")
    code, seen = found("ncaltech101", "--root", tree)
    assert code == 1
    assert seen["missing_recordings"] == 3
    assert seen["misplaced"] == [
        "image_0003.bin seems to be one of 2 missing recordings (ant/image_0003, crab/image_0003); move it there"
    ]
    assert seen["unexpected"] == ["1 recording not part of the dataset: emu/image_0009"]


def test_a_number_under_two_digits_is_misplaced_and_its_image_says_which(numbers):
    assert found("nmnist", "--root", numbers)[0] == 0
    shutil.copy(numbers / "N-MNIST/Train/1/00003.bin", numbers / "N-MNIST/Train/2/00003.bin")
    code, seen = found("nmnist", "--root", numbers)
    assert code == 1
    assert seen["misplaced"] == [
        "recordings 1/train-00003 and 2/train-00003 have the same number; all but one are misplaced",
        "recording 2/train-00003: its image is 1/train-00003; one of them is misplaced",
    ]
    (numbers / "N-MNIST/Train/1/00003.bin").unlink()
    assert found("nmnist", "--root", numbers)[1]["misplaced"][0].startswith("recording 2/train-00003: its image is 1/")


def test_a_number_that_is_missing_may_lie_beside_the_digits(numbers):
    shutil.move(numbers / "N-MNIST/Test/1/00002.bin", numbers / "N-MNIST/Test/00002.bin")
    (numbers / "MNIST_png/Train/0/00001.png").unlink()
    code, seen = found("nmnist", "--root", numbers)
    assert code == 1
    assert (seen["missing_recordings"], seen["missing_images"]) == (1, 1)
    assert seen["misplaced"] == ["N-MNIST/Test/00002.bin seems to be recording test-00002; move it there"]
    assert any("5 of 6 images of Train; missing: 00001" in note for note in seen["notes"])


@pytest.mark.parametrize(
    ("dataset", "name", "missing", "ids"),
    [
        ("cifar10dvs", "dog/cifar10_cat_7.aedat", ["cat/0007", "dog/0007"], ("cat/0007",)),
        ("cepdvs", "old/1891.mat", ["flowers/01891"], ("flowers/01891",)),
        ("nomniglot", "x/0394.aedat4", ["0394/01", "0394/02", "0395/01"], ("0394/01", "0394/02")),
        ("nomniglot", "x/0394_02.png", ["0394/01", "0394/02"], ("0394/02",)),
        ("folder", "x/one.bin", ["x/one"], None),
    ],
)
def test_names_of_files_say_which_sample_they_are(tmp_path, dataset, name, missing, ids):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_bytes(b"")
    seen = list(find_misplaced(dataset, [tmp_path], missing, set(), {path.suffix}))
    assert seen == ([] if ids is None else [(path, ids)])
    assert list(find_misplaced(dataset, [tmp_path], missing, {path}, {path.suffix})) == []


def test_images_that_are_counted_alone_are_counted(tmp_path, monkeypatch):
    trees.write_mnist_idx(tmp_path, [0, 1, 2])
    monkeypatch.setattr(fashion, "_NUM_IMAGES", 3)
    assert found("fashion", "--root", tmp_path)[0] == 0
    monkeypatch.setattr(fashion, "_NUM_IMAGES", 4)
    assert found("fashion", "--root", tmp_path)[0] == 1


def test_contiguous_numbers_are_what_a_set_of_any_size_declares():
    assert contiguous_ids(["a/image_0001", "a/image_0003", "b/image_0001"]) == (
        *("a/image_0001", "a/image_0002", "a/image_0003"),
        "b/image_0001",
    )


def test_digests_agree_between_a_folder_and_an_archive_of_it(tmp_path, tree):
    sums, env = tmp_path / "sums.txt", {"TMKT_CACHES": str(tmp_path / "caches")}
    assert run("doctor", "ncaltech101", "--root", tree, "--digests", sums).exit_code == 0
    (tmp_path / "moved").mkdir()
    with zipfile.ZipFile(tmp_path / "moved" / "set.zip", "w") as archive:
        for file in tree.rglob("*.*"):
            archive.write(file, file.relative_to(tree.parent))
    shutil.move(tree, tmp_path / "moved" / "elsewhere")
    for root in (tmp_path / "moved" / "set.zip", tmp_path / "moved", tmp_path / "moved" / "elsewhere"):
        result = run("doctor", "ncaltech101", "--root", root, "--against", sums, env=env)
        assert result.exit_code == 0, result.output
    again = tmp_path / "again.txt"
    run("doctor", "ncaltech101", "--root", tmp_path / "moved" / "set.zip", "--digests", again, env=env)
    assert read_digests(again) == read_digests(sums)
    assert "Caltech101/ant/image_0001.bin" in read_digests(again)


class TestMadeByTmkt:
    def test_digits_that_are_not_made_name_the_command(self, tmp_path):
        result = run("doctor", "digits", env={"TMKT_CACHES": str(tmp_path)})
        assert result.exit_code == 1
        assert (
            f"error: digits: not generated yet, found nothing in {tmp_path / 'digits-source'}; next: tmkt-data"
            in result.output
        )

    def test_digits_are_looked_for_where_prepare_puts_them(self, tmp_path, monkeypatch):
        monkeypatch.setattr(digits, "_NUM_DIGITS", 12)
        root = trees.write_nmnist(tmp_path / "digits-source", per_digit=4, test_per_digit=0)
        assert root.is_dir()
        result = run("doctor", "digits", env={"TMKT_CACHES": str(tmp_path)})
        assert result.exit_code == 0, result.output

    def test_photographs_whose_recordings_are_not_made_name_the_command(self, tmp_path):
        root = trees.write_ncaltech(tmp_path / "photos", {}, images={"ant": 3, "emu": 3})
        result = run("doctor", "caltech101-twins", "--root", root, env={"TMKT_CACHES": str(tmp_path / "caches")})
        assert result.exit_code == 1
        assert "write_twins" not in result.output
        assert (
            "error: caltech101-twins: recordings of 6 photographs are not simulated yet; next: "
            f"tmkt-data prepare caltech101-twins --root {root}\n"
        ) in result.output
        env = {"TMKT_CACHES": str(tmp_path / "caches")}
        assert run("prepare", "caltech101-twins", "--root", root, env=env).exit_code == 0
        assert run("doctor", "caltech101-twins", "--root", root, env=env).exit_code == 0


class TestSlices:
    ROWS = tuple((i, 1000 * i, 1000 * i + 1000) for i in range(4))

    @pytest.fixture
    def recording(self, tmp_path, monkeypatch):
        path = tmp_path / "0394.aedat4"
        times = np.array([(t,) for t in range(0, 4001, 10)], [("t", np.int64)])
        monkeypatch.setattr("tmkt_data.events.slices._whole", lambda _: times)
        return path

    def write(self, path, rows):
        text = "".join(f"{number},{start},{end}\n" for number, start, end in rows)
        path.with_suffix(".csv").write_text("number,start,end\n" + text)

    def test_rows_that_are_exact_and_apart_are_not_mentioned(self, recording):
        self.write(recording, self.ROWS)
        assert slice_faults(recording) == []

    def test_inexact_and_overlapping_rows_are_named(self, recording):
        rows = [*self.ROWS[:1], (1, 995, 2000), (2, 2000, 3000), (3, 2990, 3999)]
        self.write(recording, rows)
        assert slice_faults(recording) == [
            "0394.csv: each of rows 2, 4 begins before the row above ends",
            "0394.csv: each of rows 2, 4 begins or ends at the time of no event; the next one is taken",
        ]

    def test_what_cannot_be_read_is_an_error(self, recording):
        self.write(recording, [])
        with pytest.raises(EventError):
            slice_faults(recording)


def test_a_folder_of_ones_own_declares_nothing(tmp_path):
    root = tmp_path / "own"
    trees.random_picture(root / "images/wave/a.png", np.random.default_rng(0), 40, 30)
    (root / "events/wave").mkdir(parents=True)
    (root / "events/wave/a.bin").write_bytes(b"12345")
    (root / "tmkt.toml").write_text("sensor_size = [40, 30]\n")
    assert diagnose(open_folder(root), []).is_complete
