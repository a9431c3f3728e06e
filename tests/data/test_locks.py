"""A lock is held by one process at a time, and ends with it."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tmkt_data.errors import CacheError, TmktError
from tmkt_data.locks import lock, locked_folder

NO_FLOCK = [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK]
HOLD = """
import sys
from pathlib import Path
from tmkt_data.errors import TmktError
from tmkt_data.locks import lock
with lock(Path(sys.argv[1]), TmktError("busy")):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_free(path: Path) -> bool:
    try:
        with lock(path, CacheError("busy")):
            return True
    except CacheError as refused:
        assert str(refused) == "busy"  # noqa: PT017 - both outcomes are asked for
        return False


def test_a_lock_is_held_by_one_and_removed_by_who_holds_it(tmp_path):
    path = tmp_path / "lock"
    with lock(path, TmktError("busy")):
        assert not is_free(path)
        assert names(tmp_path) == ["lock"]
    assert names(tmp_path) == []
    assert is_free(path)


def test_a_file_of_before_is_no_obstacle(tmp_path):
    (tmp_path / "lock").write_bytes(b"")
    assert is_free(tmp_path / "lock")


def test_a_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not is_free(path)
        holder.kill()
        holder.wait()
        assert path.exists()
        assert is_free(path)


def test_a_forked_child_does_not_keep_a_lock(tmp_path):
    path = tmp_path / "lock"
    context = multiprocessing.get_context("fork")
    with lock(path, TmktError("busy")):
        child = context.Process(target=time.sleep, args=(60,))
        child.start()
        assert not is_free(path)
    try:
        assert is_free(path)
    finally:
        child.kill()
        child.join()


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(CacheError, match=r"lock: cannot be written \((Not a directory|File exists)\); check its folder"),
        lock(tmp_path / "file" / "lock", CacheError("busy")),
    ):
        pass


@pytest.mark.parametrize("number", NO_FLOCK)
def test_where_the_file_system_has_no_locks_a_marker_file_takes_their_place(tmp_path, monkeypatch, number):
    def missing(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", missing)
    path = tmp_path / "lock"
    with lock(path, TmktError("busy")):
        assert names(tmp_path) == ["lock", "lock.soft"]
        with (
            pytest.raises(CacheError, match=r"^busy \(if there is none, remove .*lock\.soft\)$"),
            lock(path, CacheError("busy")),
        ):
            pass
        assert names(tmp_path) == ["lock", "lock.soft"]
    assert names(tmp_path) == []


def test_the_marker_of_a_killed_process_is_ignored(tmp_path, monkeypatch):
    def missing(*_: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    path = tmp_path / "lock"
    code = f"import fcntl\ndef missing(*_): raise OSError({errno.ENOSYS}, 'none')\nfcntl.flock = missing\n{HOLD}"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CacheError, match="busy"), lock(path, CacheError("busy")):
            pass
        holder.kill()
        holder.wait()
    assert "lock.soft" in names(tmp_path)
    with lock(path, CacheError("busy")):
        pass
    assert names(tmp_path) == []


def test_other_failures_are_not_taken_for_a_missing_lock(tmp_path, monkeypatch):
    def broken(*_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with (
        pytest.raises(CacheError, match=r"cannot be written \(Input/output error\)"),
        lock(tmp_path / "lock", CacheError("busy")),
    ):
        pass
    assert not (tmp_path / "lock.soft").exists()


def test_a_folder_is_made_and_locked(tmp_path):
    with locked_folder(tmp_path / "a", "set.lock", ["b", "c"]):
        assert names(tmp_path / "a") == ["b", "c", "set.lock"]
        with (
            pytest.raises(TmktError, match="a: another process is writing this dataset; wait for it to end"),
            locked_folder(tmp_path / "a", "set.lock"),
        ):
            pass
    assert names(tmp_path / "a") == ["b", "c"]


def test_a_lock_is_waited_for(tmp_path):
    path = tmp_path / "lock"
    code = HOLD.replace("sys.stdin.read()", "import time; time.sleep(1)")
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(CacheError, match="busy"), lock(path, CacheError("busy"), wait_s=0.05):
            pass
        with lock(path, CacheError("busy"), wait_s=30):
            pass
    assert names(tmp_path) == []


def test_a_system_that_allows_no_lock_is_not_taken_for_one_that_is_held(tmp_path, monkeypatch):
    def denied(*_: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(fcntl, "flock", denied)
    with (
        pytest.raises(CacheError, match=r"lock: cannot be written \(Permission denied\); check its folder"),
        lock(tmp_path / "lock", CacheError("busy")),
    ):
        pass


def test_a_folder_below_a_file_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TmktError, match=r"file/set: .*Not a directory"), locked_folder(tmp_path / "file/set", ".lock"):
        pass
