"""The three doors of a build folder: what is missing, fill a block, finish."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tmkt_data.cache.build_folder import BlockPlace, BuildFolder, drop_left, open_build_folder
from tmkt_data.cache.format import FrameArray, text_table
from tmkt_data.cache.side_rows import SideRows
from tmkt_data.errors import CacheError
from tmkt_data.files import checksum

ARRAYS = [FrameArray("events/frames", (5, 2), np.dtype("<f2")), FrameArray("images/frames", (1, 3), np.dtype("u1"))]
EVENTS = [BlockPlace("recordings-000000", "events", 0), BlockPlace("recordings-000001", "events", 3)]
IMAGES = BlockPlace("images-000000", "images", 0)
SIGNATURES = {
    place.name: np.arange(count, dtype="u8") + 71 for place, count in zip([*EVENTS, IMAGES], (3, 2, 1), strict=True)
}


def block_of(place: BlockPlace, kept: tuple[bool, ...]) -> dict[str, Any]:
    array = next(array for array in ARRAYS if array.name.startswith(place.side))
    frames = np.arange(len(kept) * array.shape[1], dtype=array.dtype).reshape(len(kept), -1) + place.first
    frames[~np.array(kept)] = 0
    rows = np.zeros(len(kept), [("signature", "<u8"), ("is_kept", "u1"), ("frames_xxh3", "<u8"), ("number", "<i4")])
    rows["signature"], rows["is_kept"] = SIGNATURES[place.name], kept
    rows["number"] = np.arange(len(kept)) + place.first
    rows["frames_xxh3"] = [checksum(row) if is_kept else 0 for row, is_kept in zip(frames, kept, strict=True)]
    return {"rows": rows, "frames": frames, "why": text_table(["bad"] * kept.count(False))}


def opened(path: Path, key: str = "key", **options: Any):
    return open_build_folder(path / "a.h5", key, ARRAYS, **options)


def is_missing(folder: BuildFolder, place: BlockPlace, **options: Any) -> bool:
    return folder.is_missing(place, lambda: SIGNATURES[place.name], **options)


def fill(folder: BuildFolder, kept: tuple[bool, ...] = (True,) * 5) -> None:
    folder.fill(EVENTS[0], block_of(EVENTS[0], kept[:3]))
    folder.fill(EVENTS[1], block_of(EVENTS[1], kept[3:]))
    folder.fill(IMAGES, block_of(IMAGES, (True,)))


def test_a_block_is_missing_until_it_is_filled_and_found_by_the_next_run(tmp_path):
    with opened(tmp_path) as folder:
        # Sources are looked at only for a block that is there.
        assert folder.is_missing(EVENTS[0], lambda: pytest.fail("asked"))
        folder.fill(EVENTS[0], block_of(EVENTS[0], (True,) * 3))
        assert not is_missing(folder, EVENTS[0])
        assert is_missing(folder, EVENTS[1])
    with opened(tmp_path) as folder:
        assert not is_missing(folder, EVENTS[0])
        assert folder.is_missing(EVENTS[0], lambda: SIGNATURES[EVENTS[0].name] + np.uint64(1))
    with opened(tmp_path, fresh=True) as folder:
        assert is_missing(folder, EVENTS[0])


def test_blocks_of_another_plan_are_dropped(tmp_path):
    with opened(tmp_path) as folder:
        fill(folder)
    with opened(tmp_path, "other") as folder:
        assert all(is_missing(folder, place) for place in (*EVENTS, IMAGES))


def test_a_block_without_some_sources_is_missing_only_where_all_are_to_be_kept(tmp_path):
    with opened(tmp_path) as folder:
        fill(folder, (True, False, True, True, True))
        assert is_missing(folder, EVENTS[0])
        assert not is_missing(folder, EVENTS[0], keep_all=False)


@pytest.mark.parametrize("damage", ["block", "frames"])
def test_a_damaged_block_is_missing(tmp_path, damage):
    with opened(tmp_path) as folder:
        fill(folder)
    path = tmp_path / "a.h5.building" / ("recordings-000001.npz" if damage == "block" else "frames.h5")
    data = path.read_bytes()
    part = b"\x47\0\0\0\0\0\0\0" if damage == "block" else block_of(EVENTS[1], (True, True))["frames"].tobytes()
    assert part in data
    path.write_bytes(data.replace(part, part[:-1] + bytes([part[-1] ^ 1]), 1))
    with opened(tmp_path) as folder:
        assert not is_missing(folder, EVENTS[0])
        assert is_missing(folder, EVENTS[1])


@pytest.mark.parametrize(
    ("places", "text"),
    [
        ([EVENTS[0], IMAGES], "blocks of 3 rows of events, expected 5"),
        ([EVENTS[1], IMAGES], "block recordings-000001 begins at row 3, expected 0"),
        ([EVENTS[0], EVENTS[0], EVENTS[1], IMAGES], "block recordings-000000 begins at row 0, expected 3"),
        (EVENTS, "blocks of 0 rows of images, expected 1"),
    ],
)
def test_blocks_that_do_not_hold_every_row_once_are_no_cache(tmp_path, places, text):
    with opened(tmp_path) as folder:
        fill(folder)
        with pytest.raises(CacheError, match=f"{text}; give --force"):
            folder.finish(places, lambda *_: pytest.fail("described"))
    assert not (tmp_path / "a.h5").exists()


@pytest.mark.parametrize("kept", [(True,) * 5, (True, False, True, True, False)])
def test_finish_writes_the_rows_that_are_kept_and_what_it_is_told(tmp_path, kept):
    told: dict[str, Any] = {}

    def describe(events: SideRows, images: SideRows):
        told["kept"], told["why"] = events.is_kept.tolist(), np.concatenate(events.pieces["why"]).tolist()
        told["all"], told["images"] = events.column("number").tolist(), images.kept_column("number").tolist()
        return {"name": "value"}, [("events/number", events.kept_column("number"))]

    with opened(tmp_path) as folder:
        fill(folder, kept)
        folder.finish([*EVENTS, IMAGES], describe)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert told == {"kept": list(kept), "why": [b"bad"] * kept.count(False), "all": [0, 1, 2, 3, 4], "images": [0]}
    frames = np.concatenate([block_of(EVENTS[0], kept[:3])["frames"], block_of(EVENTS[1], kept[3:])["frames"]])
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["events/frames"][:], frames[list(kept)])
        np.testing.assert_array_equal(file["images/frames"][:], block_of(IMAGES, (True,))["frames"])
        assert file["events/number"][:].tolist() == np.flatnonzero(kept).tolist()
        assert file.attrs["name"] == b"value"


def test_what_may_not_become_a_cache_stays_a_folder(tmp_path):
    def refuse(*_: SideRows):
        raise CacheError("changed")

    with opened(tmp_path) as folder:
        fill(folder)
        with pytest.raises(CacheError, match="changed"):
            folder.finish([*EVENTS, IMAGES], refuse)
    with opened(tmp_path) as folder:
        assert not any(is_missing(folder, place) for place in (*EVENTS, IMAGES))
    assert not (tmp_path / "a.h5").exists()


def test_a_block_that_is_gone_is_said(tmp_path):
    with opened(tmp_path) as folder:
        fill(folder)
        (folder.path / "recordings-000001.npz").unlink()
        with pytest.raises(CacheError, match="block recordings-000001 is gone; run it again"):
            folder.finish([*EVENTS, IMAGES], lambda *_: ({}, []))


def test_a_second_builder_is_refused_until_the_first_has_ended(tmp_path):
    with opened(tmp_path), pytest.raises(CacheError, match="another tmkt-data prepare is building this cache"):
        opened(tmp_path).__enter__()
    with opened(tmp_path):
        pass


class TestLeftovers:
    def finished(self, tmp_path: Path) -> Path:
        with opened(tmp_path) as folder:
            fill(folder)
            folder.finish([*EVENTS, IMAGES], lambda *_: ({}, []))
        return tmp_path / "a.h5.building"

    def test_what_a_killed_run_left_of_a_finished_cache_is_removed(self, tmp_path):
        left = self.finished(tmp_path)
        assert not left.exists()
        code = (
            "import os, signal, sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
            "import test_build_folder as tests\n"
            "with tests.opened(Path(sys.argv[1])) as folder:\n    tests.fill(folder)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)], check=False)
        assert (left / "lock").exists()
        drop_left(left, "of another plan")
        assert (left / "recordings-000000.npz").exists()
        drop_left(left, "key")
        assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]

    def test_a_folder_that_lost_its_plan_first_is_none_that_stays_for_ever(self, tmp_path):
        left = self.finished(tmp_path)
        left.mkdir()
        (left / "frames.h5").touch()
        drop_left(left, "key")
        assert not left.exists()

    def test_a_folder_in_use_stays(self, tmp_path):
        with opened(tmp_path) as folder:
            folder.fill(EVENTS[0], block_of(EVENTS[0], (True,) * 3))
            drop_left(folder.path, "key")
            assert not is_missing(folder, EVENTS[0])

    def test_the_lock_is_held_until_nothing_else_is_left(self, tmp_path):
        with opened(tmp_path) as folder:
            fill(folder)
            folder.finish([*EVENTS, IMAGES], lambda *_: ({}, []))
            assert [path.name for path in folder.path.iterdir()] == ["lock"]
            with pytest.raises(CacheError, match="another tmkt-data prepare is building"), opened(tmp_path):
                pass
        assert not folder.path.exists()

    def test_a_pipe_in_place_of_the_cache_is_not_replaced(self, tmp_path):
        os.mkfifo(tmp_path / "a.h5")
        with pytest.raises(CacheError, match=r"a\.h5: a pipe or a device, expected a file"), opened(tmp_path):
            pass
        assert (tmp_path / "a.h5").is_fifo()
        assert not (tmp_path / "a.h5.building").exists()
