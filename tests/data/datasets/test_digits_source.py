from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from tmkt_data.datasets import digits_source
from tmkt_data.datasets.digits_source import digits_are_whole, write_digits
from tmkt_data.errors import CatalogueError, TmktError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.formats.atis import decode_atis

PER_CLASS = 2
TOTAL = 10 * PER_CLASS
CHECKOUT = Path(__file__).resolve().parents[3]
WRITE = """
import sys
from pathlib import Path
from tmkt_data.datasets.digits_source import write_digits
for done in write_digits(Path(sys.argv[1]), per_class=int(sys.argv[2])):
    print(done, flush=True)
"""


def files_of(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def run(program: str, root: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, str(root), str(PER_CLASS)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    progress = list(write_digits(root, per_class=PER_CLASS))
    assert progress == list(range(1, TOTAL + 1))
    return root


@pytest.fixture
def tree(written, tmp_path):
    return Path(shutil.copytree(written, tmp_path / "digits"))


class TestWhole:
    def test_tree(self, written):
        names = set(files_of(written))
        pictures = {name for name in names if name.startswith("MNIST_png/Train/")}
        recordings = {name for name in names if name.startswith("N-MNIST/Train/")}
        assert names == pictures | recordings | {"digits.json"}
        assert len(pictures) == len(recordings) == TOTAL
        as_twins = {name.replace("MNIST_png", "N-MNIST").replace(".png", ".bin") for name in pictures}
        assert as_twins == recordings
        assert "MNIST_png/Train/0/00001.png" in pictures

    def test_pictures(self, written):
        for path in written.glob("MNIST_png/Train/*/*.png"):
            with Image.open(path) as picture:
                assert (picture.mode, picture.size, picture.format) == ("L", (28, 28), "PNG")
                pixels = np.asarray(picture)
            assert pixels[0].max() == pixels[-1].max() == 0
            assert pixels.max() > 200
            assert 10 < pixels.mean() < 80

    def test_recordings(self, written):
        for path in written.glob("N-MNIST/Train/*/*.bin"):
            events = decode_atis(path.read_bytes(), sensor_size=SensorSize(34, 34))
            assert 1_000 < len(events) < 7_500
            assert events.num_inversions == 0
            assert not events.num_dropped
            assert events.t[-1] < 300_000
            assert 0.4 < events.p.mean() < 0.6

    def test_stored_pixels_are_those_of_scikit_learn(self):
        expected, labels = load_digits(return_X_y=True)
        digits = digits_source._load_digits(None)
        assert [digit.label for digit in digits] == labels.tolist()
        np.testing.assert_array_equal([digit.pixels.ravel() for digit in digits], expected)

    def test_digits_are_those_of_scikit_learn(self, written):
        pixels, labels = load_digits(return_X_y=True)
        for path in written.glob("MNIST_png/Train/*/*.png"):
            index = int(path.stem) - 1
            assert labels[index] == int(path.parent.name)
            with Image.open(path) as picture:
                small = np.asarray(picture.crop((4, 4, 24, 24)).resize((8, 8), Image.Resampling.BOX), float)
            assert np.corrcoef(small.ravel(), pixels[index])[0, 1] > 0.97

    def test_marker(self, written):
        marker = json.loads((written / "digits.json").read_text())
        assert marker["counts"] == {str(digit): PER_CLASS for digit in range(10)}
        assert marker["version"] == digits_source.SOURCE_VERSION
        assert marker["per_class"] == PER_CLASS
        assert set(marker["digests"]) == {"MNIST_png", "N-MNIST"}
        assert digits_are_whole(written, per_class=PER_CLASS)

    def test_cut_tree_is_not_the_full_one(self, written):
        assert not digits_are_whole(written)
        assert not digits_are_whole(written, per_class=PER_CLASS + 1)

    def test_whole_tree_is_left_alone(self, tree):
        before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
        assert list(write_digits(tree, per_class=PER_CLASS)) == list(range(1, TOTAL + 1))
        assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before

    def test_empty_folder_is_not_whole(self, tmp_path):
        assert not digits_are_whole(tmp_path)
        assert not digits_are_whole(tmp_path / "none")


class TestResume:
    @pytest.mark.parametrize("done", [1, 7, TOTAL])
    def test_interrupted_ends_with_the_same_bytes(self, written, tmp_path, done):
        steps = write_digits(tmp_path, per_class=PER_CLASS)
        for _ in range(done):
            next(steps)
        steps.close()
        assert not digits_are_whole(tmp_path, per_class=PER_CLASS)
        assert not (tmp_path / "digits.json").exists()
        kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.bin")}
        assert len(kept) == done
        list(write_digits(tmp_path, per_class=PER_CLASS))
        assert files_of(tmp_path) == files_of(written)
        assert all(path.stat().st_mtime_ns == time for path, time in kept.items())

    @pytest.mark.parametrize("done", [3, 11])
    def test_killed_ends_with_the_same_bytes(self, written, tmp_path, done):
        command = [sys.executable, "-c", WRITE, str(tmp_path), str(PER_CLASS)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
            for line in process.stdout:
                if int(line) == done:
                    process.kill()
                    break
        list(write_digits(tmp_path, per_class=PER_CLASS))
        assert files_of(tmp_path) == files_of(written)

    def test_leftovers_of_a_killed_writing_go(self, written, tmp_path):
        steps = write_digits(tmp_path, per_class=PER_CLASS)
        next(steps)
        steps.close()
        (tmp_path / "N-MNIST/Train/0/.00001.bin.77.tmp").write_bytes(b"half")
        (tmp_path / "N-MNIST/Train/0/00001.bin").write_bytes(b"1234")
        (tmp_path / "MNIST_png/Train/0/00001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        list(write_digits(tmp_path, per_class=PER_CLASS))
        assert files_of(tmp_path) == files_of(written)

    def test_stopped_while_clearing_keeps_nothing(self, written, tree):
        (tree / "digits.json").unlink()
        (tree / "digits.partial.json").write_text('{"clearing": true}')
        (tree / "N-MNIST/Train/0/00001.bin").write_bytes(b"12345")
        list(write_digits(tree, per_class=PER_CLASS))
        assert files_of(tree) == files_of(written)


class TestMended:
    @pytest.mark.parametrize(
        "harm",
        [
            lambda root: (root / "N-MNIST/Train/0/00001.bin").write_bytes(b"12345" * 900),
            lambda root: (root / "MNIST_png/Train/0/00001.png").unlink(),
            lambda root: (root / "digits.json").write_text("{"),
            lambda root: (root / "digits.json").write_text("[]"),
            lambda root: (root / "digits.json").write_text(
                (root / "digits.json").read_text().replace('"version": "', '"version": "0')
            ),
        ],
        ids=["altered", "missing", "marker cut", "marker of another kind", "another version"],
    )
    def test_ends_with_the_same_bytes(self, written, tree, harm):
        harm(tree)
        assert not digits_are_whole(tree, per_class=PER_CLASS)
        list(write_digits(tree, per_class=PER_CLASS))
        assert files_of(tree) == files_of(written)
        assert digits_are_whole(tree, per_class=PER_CLASS)

    def test_another_version_is_written_anew(self, tree, monkeypatch):
        monkeypatch.setattr(digits_source, "SOURCE_VERSION", "0.0")
        assert not digits_are_whole(tree, per_class=PER_CLASS)
        list(write_digits(tree, per_class=PER_CLASS))
        assert json.loads((tree / "digits.json").read_text())["version"] == "0.0"

    def test_fewer_per_class_leaves_no_other_files(self, tree):
        list(write_digits(tree, per_class=1))
        assert len(list(tree.rglob("*.bin"))) == len(list(tree.rglob("*.png"))) == 10
        assert digits_are_whole(tree, per_class=1)


class TestErrors:
    def test_another_dataset_is_not_touched(self, tmp_path):
        real = tmp_path / "N-MNIST/Train/5/00001.bin"
        real.parent.mkdir(parents=True)
        real.write_bytes(b"12345")
        with pytest.raises(
            CatalogueError,
            match=r"such as N-MNIST/Train/5/00001.bin; give an empty folder$",
        ):
            list(write_digits(tmp_path))
        assert files_of(tmp_path) == {"N-MNIST/Train/5/00001.bin": b"12345"}

    @pytest.mark.parametrize("stranger", ["N-MNIST/Test/7/00001.bin", "MNIST_png/Train/0/99999.png"])
    def test_files_of_others_are_never_removed(self, tree, stranger):
        (tree / stranger).parent.mkdir(parents=True, exist_ok=True)
        (tree / stranger).write_bytes(b"mine")
        before = files_of(tree)
        with pytest.raises(CatalogueError, match=f"holds 1 other file, such as {stranger}"):
            list(write_digits(tree, per_class=PER_CLASS))
        assert files_of(tree) == before

    def test_two_writers_at_once_are_kept_apart(self, tmp_path):
        first = write_digits(tmp_path / "digits", per_class=PER_CLASS)
        next(first)
        with pytest.raises(TmktError, match="another process is writing this dataset; wait for it to end"):
            next(write_digits(tmp_path / "digits", per_class=PER_CLASS))
        list(first)
        assert digits_are_whole(tmp_path / "digits", per_class=PER_CLASS)

    def test_root_is_a_file(self, tmp_path):
        place = tmp_path / "taken"
        place.write_text("a file")
        with pytest.raises(TmktError, match=r"taken: cannot be written"):
            list(write_digits(place))

    def test_full_disk_is_one_line_and_the_next_run_goes_on(self, written, tmp_path):
        # The system refuses files above 2000 bytes: a picture fits, a recording does not.
        program = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
{WRITE}"""
        done = run(program, tmp_path)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("tmkt_data.errors.TmktError: ")
        assert "00001.bin: cannot be written (File too large); free some space and run it again" in done.stderr
        assert not list(tmp_path.rglob("*.bin"))
        assert not list(tmp_path.rglob("*.tmp"))
        list(write_digits(tmp_path, per_class=PER_CLASS))
        assert files_of(tmp_path) == files_of(written)

    def test_per_class_of_nothing(self, tmp_path):
        with pytest.raises(TmktError, match="per_class 0, expected 1 or more"):
            list(write_digits(tmp_path, per_class=0))
