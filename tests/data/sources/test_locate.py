"""Roots of any kind, and the doctor: what the user gives is found, and what is wrong with it is said."""

import dataclasses
import hashlib
import json
import shutil
import zipfile

import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data.cli.main import main
from tmkt_data.datasets.digits_source import write_digits
from tmkt_data.datasets.registry import DATASETS
from tmkt_data.errors import CatalogueError
from tmkt_data.sources.doctor import compare_digests, format_digests, read_digests
from tmkt_data.sources.locate import Locations, find_sources, folders_below
from tmkt_data.sources.urls import DOWNLOADS, check_inside, check_known, known_file

COUNTS = {"airplanes": 3, "ant": 4}


@pytest.fixture
def tree(tmp_path):
    return trees.write_ncaltech(tmp_path / "tree", COUNTS)


def zipped(folder, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent))
    return path


def opened(tmp_path, root=None, events=None, images=None, name="ncaltech101", *, unpack=True):
    said = []
    given = Locations(root, events, images)
    with find_sources(name, given, unpack_to=tmp_path / "unpacked", unpack=unpack, say=said.append) as found:
        return found.catalogue, said


def run(*arguments, env=None):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=env)


def test_the_tree_its_parent_and_the_folder_above_are_found(tmp_path, tree):
    deep = tmp_path / "above" / "mine" / "data"
    deep.parent.mkdir(parents=True)
    shutil.move(tree, deep)
    for root in (deep, deep.parent, deep.parent.parent):
        catalogue, said = opened(tmp_path, root)
        assert catalogue.num_twins == 7
        assert bool(said) == (root != deep)


def test_sides_that_lie_in_different_folders_are_found(tmp_path, tree):
    for side, folder in (("Caltech101", "recordings of mine"), ("101_ObjectCategories", "pictures")):
        (tmp_path / "all" / folder).mkdir(parents=True)
        shutil.move(tree / side, tmp_path / "all" / folder / side)
    catalogue, said = opened(tmp_path, tmp_path / "all")
    assert catalogue.num_twins == 7
    assert "found recordings in" in said[0]


def test_archives_are_unpacked_once_and_found(tmp_path, tree):
    archives = tmp_path / "archives"
    archives.mkdir()
    zipped(tree / "Caltech101", archives / "events.zip")
    zipped(tree / "101_ObjectCategories", archives / "photos.zip")
    for given in ({"root": archives}, {"events": archives / "events.zip", "images": archives / "photos.zip"}):
        catalogue, said = opened(tmp_path, **given)
        assert catalogue.num_twins == 7
        assert sum("unpacking" in line for line in said) == 2
        again, said = opened(tmp_path, **given)
        assert again == catalogue
        assert not any("unpacking" in line for line in said)


def test_a_known_archive_of_another_content_is_refused(tmp_path, tree):
    path = zipped(tree / "Caltech101", tmp_path / "Caltech101.zip")
    with pytest.raises(CatalogueError, match=r"Caltech101\.zip: md5 [0-9a-f]{32}, expected 66201824eabb"):
        opened(tmp_path, events=path, images=tree)
    assert check_known("nmnist", path) is None


def packed(files, path):
    with zipfile.ZipFile(path, "w") as archive:
        for file, name in files.items():
            archive.write(file, name)
    return path


@pytest.fixture
def unchecked(monkeypatch):
    """Known names without digests: the files of these tests are not the published ones."""
    for name in ("nmnist", "ncaltech101"):
        entries = tuple(dataclasses.replace(entry, md5="", sha256="") for entry in DOWNLOADS[name])
        monkeypatch.setitem(DOWNLOADS, name, entries)


@pytest.mark.usefixtures("unchecked")
def test_archives_of_one_side_beside_the_files_of_the_other(tmp_path):
    root = trees.write_nmnist(tmp_path / "n") / "N-MNIST"
    data = tmp_path / "DATA"
    data.mkdir()
    for part in ("Train", "Test"):
        packed({file: file.relative_to(root) for file in (root / part).rglob("*.bin")}, data / f"{part}.zip")
    trees.write_mnist_idx(data, [0] * 4 + [1] * 4 + [2] * 4, part="train")
    trees.write_mnist_idx(data, [0] * 2 + [1] * 2 + [2] * 2, part="t10k")
    catalogue, said = opened(tmp_path, data, name="nmnist")
    assert len(catalogue.recordings) == len(catalogue.images) == 18
    assert any("found recordings in" in line and f"images in {data}" in line for line in said)
    again, said = opened(tmp_path, data, name="nmnist")
    assert again == catalogue
    assert not any("unpacking" in line for line in said)


@pytest.mark.usefixtures("unchecked")
def test_an_archive_of_recordings_beside_unpacked_photographs(tmp_path, tree):
    zipped(tree / "Caltech101", tree / "Caltech101.zip")
    shutil.rmtree(tree / "Caltech101")
    catalogue, _ = opened(tmp_path, tree)
    assert catalogue.num_twins == 7


def test_archives_that_are_not_looked_into_are_said(tmp_path, tree):
    zipped(tree / "Caltech101", tree / "mine.zip")
    shutil.rmtree(tree / "Caltech101")
    hint = rf"note: not searched: 1 archive in {tree} \(mine\.zip\); give one with --root, --events or --images"
    with pytest.raises(CatalogueError, match=hint):
        opened(tmp_path, tree)
    catalogue, _ = opened(tmp_path, tree, events=tree / "mine.zip")
    assert catalogue.num_twins == 7


def test_more_folders_than_are_searched_are_said(tmp_path):
    for number in range(41):
        (tmp_path / "many" / f"{number:02d}").mkdir(parents=True)
    with pytest.raises(
        CatalogueError, match=rf"note: {tmp_path}/many has more than the 40 folders that were searched; "
    ):
        opened(tmp_path, tmp_path / "many")
    shutil.rmtree(tmp_path / "many" / "00")
    with pytest.raises(CatalogueError) as raised:
        opened(tmp_path, tmp_path / "many")
    assert "searched" not in str(raised.value)


def test_what_held_nothing_of_the_set_is_removed_and_what_held_a_side_stays(tmp_path, tree):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("hello")
    with pytest.raises(CatalogueError, match="has no data of the dataset, removed"):
        opened(tmp_path, zipped(tmp_path / "notes", tmp_path / "notes.zip"))
    assert list((tmp_path / "unpacked").iterdir()) == []
    with pytest.raises(CatalogueError, match="ncaltech101: no images"):
        opened(tmp_path, zipped(tree / "Caltech101", tmp_path / "half.zip"))
    assert len([path for path in (tmp_path / "unpacked").iterdir() if path.is_dir()]) == 1


def test_known_archives_inside_another_are_checked(tmp_path, tree, monkeypatch):
    inner = zipped(tree / "Caltech101", tmp_path / "Caltech101.zip")
    outer = packed({inner: "N-Caltech101/Caltech101.zip"}, tmp_path / "mendeley.zip")
    with pytest.raises(CatalogueError, match=r"^Caltech101\.zip: md5 [0-9a-f]{32}, expected 66201824eabb"):
        opened(tmp_path, events=outer, images=tree)
    md5 = hashlib.md5(inner.read_bytes(), usedforsecurity=False).hexdigest()
    entries = tuple(dataclasses.replace(e, md5=md5) if e.name == inner.name else e for e in DOWNLOADS["ncaltech101"])
    monkeypatch.setitem(DOWNLOADS, "ncaltech101", entries)
    assert opened(tmp_path, events=outer, images=tree)[0].num_twins == 7


def test_a_whole_record_has_a_sha256(tmp_path, tree):
    record = zipped(tree / "Caltech101", tmp_path / "cy6cvx3ryv-1.zip")
    with pytest.raises(CatalogueError, match=r"cy6cvx3ryv-1\.zip: sha256 [0-9a-f]{64}, expected 5cf34932049665c4"):
        opened(tmp_path, events=record, images=tree)


def test_archives_inside_another_packing_are_not_those_of_equal_name(tmp_path):
    for outer, expected in (("CIFAR10DVS.zip", None), ("mine.zip", CatalogueError)):
        inner = tmp_path / "airplane.zip"
        inner.write_bytes(b"re-encoded")
        if expected is None:
            assert check_inside("cifar10dvs", tmp_path / outer, inner) is None
        else:
            with pytest.raises(expected):
                check_inside("cifar10dvs", tmp_path / outer, inner)


def test_a_file_that_is_no_archive_and_a_folder_of_nothing_are_one_block(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CatalogueError, match="a file, expected a folder, a zip or a tar"):
        opened(tmp_path, tmp_path / "notes.txt")
    with pytest.raises(CatalogueError, match="ncaltech101: no recordings"):
        opened(tmp_path, tmp_path)


def test_of_several_folders_of_ones_own_none_is_chosen(tmp_path):
    for name in ("monday", "tuesday"):
        recording = tmp_path / "all" / name / "events" / "wave" / "a.bin"
        recording.parent.mkdir(parents=True)
        trees.random_recording(recording, np.random.default_rng(0), 34, 34, 20)
        (tmp_path / "all" / name / "tmkt.toml").write_text('sensor_size = [34, 34]\nimages = ""\n')
    # Settings below others are of the same folder.
    shutil.copy(tmp_path / "all/monday/tmkt.toml", tmp_path / "all/monday/events/tmkt.toml")
    with pytest.raises(
        CatalogueError, match=r"all: found 2 folders with tmkt\.toml \(monday, tuesday\), expected one; give"
    ):
        opened(tmp_path, tmp_path / "all", name="folder")
    shutil.rmtree(tmp_path / "all" / "tuesday")
    catalogue, said = opened(tmp_path, tmp_path / "all", name="folder")
    assert catalogue.recordings.ids.tolist() == [b"wave/a"]
    assert said == [f"found in {tmp_path / 'all' / 'monday'}"]


def test_a_loop_of_links_ends(tmp_path, tree):
    (tree / "loop").symlink_to(tree)
    (tree / "Caltech101" / "loop").symlink_to(tmp_path)
    catalogue, _ = opened(tmp_path, tree)
    assert catalogue.num_twins == 7
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "self").symlink_to(tmp_path / "empty")
    assert list(folders_below(tmp_path / "empty")) == []
    with pytest.raises(CatalogueError, match="ncaltech101: no recordings"):
        opened(tmp_path, tmp_path / "empty")


def test_a_name_with_a_newline_is_one_line_on_the_screen(tmp_path, tree):
    (tree / "Caltech101" / "air\nerror: planes").mkdir()
    shutil.copy(tree / "Caltech101/ant/image_0001.bin", tree / "Caltech101/air\nerror: planes/image_0001.bin")
    (tree / "Caltech101" / "ant" / "image_0002.bin").write_bytes(b"")
    (tree / "Caltech101" / "ant" / "note\x1b[2J.txt").write_bytes(b"")
    result = run("prepare", "ncaltech101", "--root", tree, "--out", tmp_path / "a.h5")
    assert result.exit_code == 1
    assert "\nerror: planes" not in result.output
    assert r"folders left out: 'air\nerror: planes'" in result.output
    assert r"'ant/note\x1b[2J.txt'" in result.output


def test_a_folder_that_cannot_be_searched_has_none_below(tmp_path):
    assert list(folders_below(tmp_path / "removed")) == []
    (tmp_path / "a" / "b").mkdir(parents=True)
    found = folders_below(tmp_path)
    assert next(found) == tmp_path / "a"
    (tmp_path / "a" / "b").rmdir()
    (tmp_path / "a").rmdir()
    assert list(found) == []


def test_the_search_below_a_folder_is_bounded(tmp_path):
    for number in range(60):
        (tmp_path / f"{number:02d}" / "inside").mkdir(parents=True)
    assert len(list(folders_below(tmp_path))) == 40


class TestDoctor:
    def test_a_whole_small_tree_is_incomplete_and_says_what_is_missing(self, tree):
        result = run("doctor", "ncaltech101", "--root", tree)
        assert result.exit_code == 1
        assert "recordings        7 of 8709" in result.output
        assert "7 of 8709 recordings; missing: BACKGROUND_Google (all 467), " in result.output
        assert f"next: tmkt-data prepare ncaltech101 --root {tree}" in result.output

    def test_damaged_files_are_named(self, tree):
        (tree / "Caltech101/ant/image_0001.bin").write_bytes(b"")
        (tree / "Caltech101/ant/image_0002.bin").write_bytes(b"123456")
        (tree / "101_ObjectCategories/ant/image_0003.jpg").write_bytes(b"no picture")
        shallow = run("doctor", "ncaltech101", "--root", tree)
        assert "recording ant/image_0001: image_0001.bin is empty" in shallow.output
        assert (
            "recording ant/image_0002: image_0002.bin has 6 bytes, not a multiple of the event size" in shallow.output
        )
        assert "image_0003.jpg" not in shallow.output
        deep = run("doctor", "ncaltech101", "--root", tree, "--deep")
        assert "image ant/image_0003: image_0003.jpg: no image that Pillow can read" in deep.output
        assert deep.output.count("ant/image_0001: ") == 1
        assert "--skip-bad" in deep.output

    def test_a_complete_set_exits_with_zero(self, tmp_path):
        list(write_digits(tmp_path, per_class=1))
        # What is there is told by its name, so one file may stand for all others.
        for first in (tmp_path / "N-MNIST/Train/0/00001.bin", tmp_path / "MNIST_png/Train/0/00001.png"):
            for number in range(11, 1798):
                first.with_stem(f"{number:05d}").hardlink_to(first)
        result = run("doctor", "digits", "--root", tmp_path, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.output)
        assert found["is_complete"] is True
        assert found["recordings"] == found["twins"] == 1797

    def test_digests_are_written_and_compared(self, tmp_path, tree):
        sums = tmp_path / "sums.txt"
        run("doctor", "ncaltech101", "--root", tree, "--digests", sums)
        assert len(read_digests(sums)) == 14
        assert "changed:" not in run("doctor", "ncaltech101", "--root", tree, "--against", sums).output
        path = tree / "Caltech101" / "ant" / "image_0004.bin"
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.write_bytes(bytes(data))
        (tree / "101_ObjectCategories/ant/image_0001.jpg").unlink()
        result = run("doctor", "ncaltech101", "--root", tree, "--against", sums)
        assert "1 file changed: Caltech101/ant/image_0004.bin" in result.output
        assert "1 file missing: 101_ObjectCategories/ant/image_0001.jpg" in result.output

    def test_nothing_there_is_the_block_that_helps(self, tmp_path):
        result = run("doctor", "nomniglot", "--root", tmp_path)
        assert result.exit_code == 1
        assert "get it from:" in result.output


def test_lists_of_digests_come_back_and_strange_lines_are_named(tmp_path):
    digests = {"a b/c": "0" * 64, "d": "f" * 64}
    (tmp_path / "sums").write_text(format_digests(digests))
    assert read_digests(tmp_path / "sums") == digests
    assert compare_digests(digests, digests) == []
    (tmp_path / "sums").write_text("hello\n")
    with pytest.raises(CatalogueError, match=r"sums, row 1: found 'hello', expected a SHA-256 and a path"):
        read_digests(tmp_path / "sums")


def test_every_known_file_belongs_to_a_dataset_and_has_one_name():
    assert set(DOWNLOADS) <= set(DATASETS)
    for name, entries in DOWNLOADS.items():
        assert len({entry.name for entry in entries}) == len(entries)
        for entry in entries:
            assert len(entry.md5) in (0, 32)
            assert len(entry.sha256) in (0, 64)
            assert all(url.startswith(("http://", "https://")) for url in entry.urls)
            assert known_file(name, entry.name) is entry


def test_images_of_one_archive_are_read_from_the_unpacked_files(tmp_path):
    root = trees.write_nmnist(tmp_path / "n", per_digit=2, test_per_digit=1, digits=2)
    catalogue, _ = opened(tmp_path, zipped(root, tmp_path / "n.zip"), name="nmnist")
    assert catalogue.num_twins == 6
    assert np.all([source.path.is_file() for source in catalogue.recordings])
