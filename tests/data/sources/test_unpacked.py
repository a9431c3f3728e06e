"""Unpacked archives belong to who reads them, and what is gone from them is never passed over; with real processes."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import trees

from tmkt_data.errors import CatalogueError
from tmkt_data.sources.archives import unpack_archives
from tmkt_data.sources.locate import Locations, find_sources
from tmkt_data.sources.unpacked import complete, in_use, is_recorded, remove_unused, require_whole

HOLD = """
import sys
from pathlib import Path
from tmkt_data.sources.unpacked import complete, in_use
with in_use(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
COUNTS = {"airplanes": 3, "ant": 4}


def zipped(tree, path):
    with zipfile.ZipFile(path, "w") as file:
        for member in sorted(tree.rglob("*.*")):
            file.write(member, member.relative_to(tree))
    return path


@pytest.fixture
def archive(tmp_path):
    tree = trees.write_ncaltech(tmp_path / "tree", COUNTS)
    return zipped(tree / "Caltech101", tmp_path / "recordings.zip")


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("x/1.bin", "x/2.bin", "y/3.bin"):
            file.writestr(name, name * 100)
    for _ in unpack_archives({path: "."}, tmp_path / "out"):
        pass
    return tmp_path / "out"


@contextmanager
def holder(target):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def start(*arguments, caches):
    command = [sys.executable, "-m", "tmkt_data", "prepare", *map(str, arguments), "--unpack"]
    environment = os.environ | {"TMKT_CACHES": str(caches)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(*arguments, caches):
    with start(*arguments, caches=caches) as process:
        said, _ = process.communicate(timeout=240)
    return process.returncode, said


def sources_in(caches):
    return [path for path in (caches / "sources").iterdir() if path.is_dir()]


class TestUse:
    def test_a_process_that_finds_nothing_removes_nothing_that_another_uses(self, tmp_path):
        own, rng = tmp_path / "own", np.random.default_rng(0)
        for number in range(3):
            trees.random_recording(tmp_path / "side" / "wave" / f"{number}.bin", rng, 34, 34, 100)
            trees.random_picture(own / "images" / "wave" / f"{number}.png", rng, 28, 28)
        (own / "tmkt.toml").write_text("sensor_size = [34, 34]\n")
        archive, caches = zipped(tmp_path / "side", tmp_path / "side.zip"), tmp_path / "caches"
        # Alone, these recordings are no dataset: what says so, the settings, lies elsewhere.
        useless = ("folder", "--events", archive)
        given = Locations(own, archive, own / "images")
        with find_sources("folder", given, unpack_to=caches / "sources", unpack=True) as found:
            code, said = run(*useless, caches=caches)
            assert code == 1
            assert "removed" not in said
            assert len(found.catalogue.recordings) == 3
            assert all(Path(source.file).is_file() for source in found.catalogue.recordings)
        (folder,) = sources_in(caches)
        code, said = run(*useless, caches=caches)
        assert code == 1
        assert f"{folder}: unpacked, has no data of the dataset, removed" in said
        assert list(folder.parent.iterdir()) == []

    def test_several_use_it_at_once_and_the_last_leaves_it_free(self, target):
        with holder(target), in_use(target):
            assert not remove_unused(target)
            require_whole(target)
        with in_use(target):
            assert not remove_unused(target)
        assert remove_unused(target)
        assert list(target.parent.glob(".out*")) == []
        with pytest.raises(CatalogueError, match="removed this folder just now; run it again"), in_use(target):
            pass

    def test_who_is_killed_keeps_nothing(self, target):
        with holder(target) as process:
            assert not remove_unused(target)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert len(list(target.parent.glob(".out.*.use"))) == 1
            assert remove_unused(target)
        assert sorted(path.name for path in target.parent.iterdir()) == ["a.zip"]

    def test_the_next_user_removes_what_killed_ones_left(self, target):
        for _ in range(2):
            with holder(target) as process:
                process.send_signal(signal.SIGKILL)
                process.wait()
            assert len(list(target.parent.glob(".out.*.use"))) == 1
        with holder(target), in_use(target):
            assert len(list(target.parent.glob(".out.*.use"))) == 2
        with in_use(target):
            assert len(list(target.parent.glob(".out.*.use"))) == 1
        assert list(target.parent.glob(".out.*")) == []

    def test_two_at_once_unpack_once_and_lose_nothing(self, tmp_path):
        tree = trees.write_nmnist(tmp_path / "tree", per_digit=30, test_per_digit=10)
        archive, caches, ends = zipped(tree, tmp_path / "set.zip"), tmp_path / "caches", []
        running = [
            start("nmnist", "--root", archive, "--out", tmp_path / f"{number}.h5", "--workers", 1, caches=caches)
            for number in range(3)
        ]
        for process in running:
            said, _ = process.communicate(timeout=240)
            ends.append(process.returncode)
            if process.returncode:
                assert said.count("\n") <= 2, said
                assert "another process is unpacking there; wait for it to end" in said
            else:
                assert "nmnist: 120 recordings, 120 images" in said
        assert 0 in ends
        (folder,) = sources_in(caches)
        require_whole(folder)
        assert not list(folder.parent.glob(".*.use"))
        contents = {(tmp_path / f"{number}.h5").read_bytes() for number, end in enumerate(ends) if end == 0}
        assert len(contents) == 1


class TestWhole:
    def prepare(self, tmp_path, archive, *more):
        given = ("ncaltech101", "--events", archive, "--images", tmp_path / "tree" / "101_ObjectCategories")
        return run(*given, "--out", tmp_path / "a.h5", *more, caches=tmp_path / "caches")

    @pytest.mark.parametrize("damage", ["gone", "shorter", "whole class"])
    def test_files_that_are_gone_are_an_error_and_no_smaller_dataset(self, tmp_path, archive, damage):
        given = Locations(None, archive, tmp_path / "tree" / "101_ObjectCategories")
        with find_sources("ncaltech101", given, unpack_to=tmp_path / "caches" / "sources", unpack=True):
            pass
        (folder,) = sources_in(tmp_path / "caches")
        path = folder / "ant" / "image_0002.bin"
        match damage:
            case "gone":
                path.unlink()
            case "shorter":
                os.truncate(path, path.stat().st_size - 5)
            case _:
                shutil.rmtree(folder / "ant")
        number = 4 if damage == "whole class" else 1
        for more in ((), ("--skip-bad",)):
            code, said = self.prepare(tmp_path, archive, *more)
            assert code == 1
            assert f"{folder}: {number} of 7 unpacked files are gone or have another size" in said
            assert "ant/image_0002.bin" in said
            assert "remove the folder and run it again" in said
            assert not (tmp_path / "a.h5").exists()
        shutil.rmtree(folder)
        code, said = self.prepare(tmp_path, archive)
        assert code == 0, said
        assert "7 recordings" in said

    def test_added_files_and_hidden_ones_are_no_matter(self, target):
        (target / "x" / "tmkt.toml").touch()
        (target / "y" / ".DS_Store").touch()
        require_whole(target)
        (target / "y" / "3.bin").unlink()
        with pytest.raises(CatalogueError, match=r"1 of 3 unpacked files are gone or have another size \(y/3.bin\)"):
            require_whole(target)

    def test_a_damaged_record_is_one_line(self, target):
        (target.parent / "out.files.json").write_text("{")
        with pytest.raises(CatalogueError, match=r"out\.files\.json: found no JSON; it is damaged, remove it and run"):
            require_whole(target)

    def test_what_an_earlier_version_unpacked_is_unpacked_again(self, tmp_path, archive):
        code, said = self.prepare(tmp_path, archive)
        assert code == 0, said
        (folder,) = sources_in(tmp_path / "caches")
        record = folder.with_name(f"{folder.name}.files.json")
        assert len(json.loads(record.read_text())) == 7
        record.unlink()
        (folder / "ant" / "image_0001.bin").unlink()
        assert not is_recorded(folder)
        with holder(folder):
            code, said = self.prepare(tmp_path, archive)
            assert code == 1
            assert "another process is using this folder; wait for it to end" in said
        code, said = self.prepare(tmp_path, archive)
        assert code == 0, said
        assert "unpacking again, since an earlier version unpacked" in said
        assert "7 recordings" in said
        require_whole(folder)

    def test_a_process_killed_anywhere_while_unpacking_leaves_nothing_that_looks_whole(self, tmp_path, archive):
        big = tmp_path / "big.zip"
        with zipfile.ZipFile(archive) as small, zipfile.ZipFile(big, "w") as file:
            for member in small.namelist():
                file.writestr(member, small.read(member))
            for number in range(2000):
                file.writestr(f"bonsai/note_{number:04d}.txt", b"0" * 100)
        code = (
            "import sys\nfrom pathlib import Path\nfrom tmkt_data.sources.archives import unpack_archives\n"
            "for _ in unpack_archives({Path(sys.argv[1]): '.'}, Path(sys.argv[2])):\n    print(flush=True)\n"
        )
        for number in (0, 2, 5):
            target = tmp_path / "out" / str(number)
            command = [sys.executable, "-c", code, str(big), str(target)]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                for _ in range(number * 400 + 1):
                    process.stdout.readline()
                process.stdout.close()
                time.sleep(0.01 * number)
                process.kill()
            assert not target.exists() or len(list(target.rglob("*.*"))) == 2007
            for _ in unpack_archives({big: "."}, target):
                pass
            require_whole(target)
            assert len(list(target.rglob("*.*"))) == 2007
        assert not list((tmp_path / "out").glob(".*.partial"))


def test_a_folder_that_was_removed_just_now_is_said(target):
    shutil.rmtree(target)
    said = r"out: another process removed this folder just now; run it again$"
    with pytest.raises(CatalogueError, match=said), in_use(target):
        pass
    with pytest.raises(CatalogueError, match=r"out: cannot be searched \(No such file or directory\); run it again$"):
        require_whole(target)
    assert [path.name for path in target.parent.iterdir() if path.name.startswith(".")] == []


def test_a_damaged_record_is_said_and_a_folder_without_one_is_taken_as_it_is(target):
    record = target.with_name("out.files.json")
    record.write_text("{")
    with pytest.raises(
        CatalogueError, match=r"out\.files\.json: found no JSON; it is damaged, remove it and run it again"
    ):
        require_whole(target)
    record.unlink()
    require_whole(target)
    assert not is_recorded(target)


def test_a_folder_that_cannot_be_removed_stays(target):
    # Where it would be renamed to, there is something.
    with in_use(target):
        assert not remove_unused(target)
    (target.with_name(".out.partial")).write_bytes(b"a file of the user")
    assert not remove_unused(target)
    require_whole(target)


@pytest.fixture
def partial(tmp_path):
    folder = tmp_path / ".a.partial"
    for name in ("x/1.bin", "x/y/2.bin"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1234")
    return folder


class TestDisk:
    """What is unpacked is on disk before it has its name, and the disks of others are not waited for."""

    @pytest.fixture(autouse=True)
    def _own_files_only(self, monkeypatch):
        def everything() -> None:
            raise AssertionError("waits for every file system of the machine")

        monkeypatch.setattr(os, "sync", everything)

    def test_the_file_system_is_asked_once(self, partial, tmp_path):
        complete(partial, tmp_path / "a")
        require_whole(tmp_path / "a")

    @pytest.mark.parametrize("system", [None, lambda _: ctypes.set_errno(errno.ENOSYS) or -1])
    def test_each_file_and_folder_where_that_cannot_be(self, partial, tmp_path, monkeypatch, system):
        library = type("Library", (), {} if system is None else {"syncfs": staticmethod(system)})
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
        synced, real = set(), os.fsync

        def fsync(handle):
            synced.add(os.fstat(handle).st_ino)
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        inodes = {path.stat().st_ino for path in (partial, *partial.rglob("*"))}
        complete(partial, tmp_path / "a")
        assert inodes <= synced

    def test_a_disk_that_fails_leaves_no_folder(self, tmp_path, monkeypatch):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("x/1.bin", b"1234")
        broken = type("Library", (), {"syncfs": staticmethod(lambda _: ctypes.set_errno(errno.EIO) or -1)})
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: broken)
        with pytest.raises(CatalogueError, match=r"cannot be unpacked \(Input/output error\)"):
            list(unpack_archives({tmp_path / "a.zip": "."}, tmp_path / "out" / "a"))
        assert list((tmp_path / "out").iterdir()) == []
