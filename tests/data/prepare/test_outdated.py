"""Caches that an earlier version wrote from recordings that it read wrongly."""

from __future__ import annotations

import os
import struct
from dataclasses import replace

import numpy as np
import pytest
from altered_caches import write_altered
from pictures import png_file
from PIL import Image

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.registry import default_spec, open_catalogue
from tmkt_data.errors import CacheError
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import find_prepared, plan_prepare

OTHER, TIME = 14 << 28, 8 << 28


def event(low, x, y):
    return 1 << 28 | low << 22 | x << 11 | y


def evt2(*words):
    return b"% evt 2.0\n% end\n" + struct.pack(f"<{len(words)}I", *words)


def times(values):
    rows = np.zeros(len(values), [("t", "<i4"), ("x", "u1"), ("y", "u1"), ("p", "?")])
    rows["t"] = values
    return rows


def npy(tmp_path, values):
    np.save(tmp_path / "some.npy", times(values))
    return (tmp_path / "some.npy").read_bytes()


def one_recording(tmp_path):
    """A folder of one class with a recording, and room for its images."""
    root = tmp_path / "own"
    for side in ("events", "images"):
        (root / side / "wave").mkdir(parents=True)
    (root / "tmkt.toml").write_text("sensor_size = [240, 180]\n")
    (root / "events/wave/a.raw").write_bytes(evt2(TIME | 50000000, event(5, 2, 2), event(7, 3, 3)))
    return root


def plan_of(root):
    return plan_prepare(open_catalogue("folder", root), default_spec("folder"), root / "a.h5")


@pytest.mark.parametrize("name", ["a.raw", "a.npy", "a.aedat"])
def test_a_cache_of_an_earlier_version_is_not_taken_for_one_of_now(tmp_path, name):
    end = 2**31
    if name == "a.raw":
        now = evt2(OTHER, event(5, 1, 1), TIME | 50000000, event(5, 2, 2), TIME | 50000100, event(0, 3, 3))
        # What an earlier version read of it: an event before the first time word at its low time.
        as_read_before = evt2(TIME, event(5, 1, 1), TIME | 50000000, event(5, 2, 2), TIME | 50000100, event(0, 3, 3))
    elif name == "a.aedat":
        words = struct.pack(">4I", 1 << 22 | 2 << 12, 5, 3 << 22 | 4 << 12, 90)
        # Its longer name was found to hold the shorter one.
        now = b"#!AER-DAT2.0\n# AEChip: davis.MultiDAVIS240C\n" + words
        as_read_before = b"#!AER-DAT2.0\n# AEChip: davis.DAVIS240C.....\n" + words
    else:
        steps = [1000 * step for step in range(20)]
        before, after = [end - 20_000 + step for step in steps], [-end + step for step in steps]
        now = npy(tmp_path, before + after)
        # It sorted what had wrapped.
        after[0], after[1] = after[1], after[0]
        as_read_before = npy(tmp_path, after + before)
    assert len(now) == len(as_read_before)
    recording = tmp_path / "own" / "events" / "wave" / name
    recording.parent.mkdir(parents=True)
    (tmp_path / "own" / "tmkt.toml").write_text('sensor_size = [240, 180]\nimages = ""\n')
    recording.write_bytes(as_read_before)
    plan = plan_of(tmp_path / "own")
    for _ in prepare_cache(plan):
        pass
    assert find_prepared(plan) is not None
    recording.write_bytes(now)
    # As if the cache had been written of it.
    later = recording.stat().st_mtime + 100
    os.utime(plan.path, (later, later))
    with pytest.raises(CacheError, match=r"wave/a is read differently now: .* \(1 in all\); give --force to prepare"):
        find_prepared(plan_of(tmp_path / "own"))
    if name != "a.aedat":
        for _ in prepare_cache(plan, fresh=True):
            pass
        assert find_prepared(plan) is not None


def test_a_recording_that_was_left_out_is_not_in_the_cache_and_so_not_outdated(tmp_path):
    root = one_recording(tmp_path)
    (root / "tmkt.toml").write_text('sensor_size = [240, 180]\nimages = ""\n')
    words = struct.pack(">2I", 1 << 22 | 2 << 12, 5)
    (root / "events/wave/b.aedat").write_bytes(b"#!AER-DAT2.0\n# AEChip: davis.MultiDAVIS240C\n" + words)
    plan = plan_of(root)
    for _ in prepare_cache(plan, skip_bad=True):
        pass
    found = find_prepared(plan, skip_bad=True)
    assert found is not None
    assert [entry["id"] for entry in found.skipped] == ["wave/b"]


def turned_jpeg(path):
    mark = Image.Exif()
    mark[0x0112] = 6
    Image.fromarray(np.arange(30 * 40, dtype=np.uint8).reshape(30, 40)).save(path, exif=mark, quality=95)


def transparent_png(path):
    pixels = np.zeros((30, 40, 4), np.uint8)
    pixels[5:20, 10:30] = (90, 200, 10, 255)
    Image.fromarray(pixels).save(path)


WRITERS = {"turned.jpg": turned_jpeg, "transparent.png": transparent_png}


@pytest.mark.parametrize("name", WRITERS)
def test_a_cache_with_images_as_they_are_stored_is_not_taken_for_one_of_now(tmp_path, name):
    root = one_recording(tmp_path)
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(root / "images/wave/plain.png")
    image = root / "images/wave" / name
    WRITERS[name](image)
    plan = plan_of(root)
    for _ in prepare_cache(plan):
        pass
    assert find_prepared(plan) is not None
    # What an earlier version wrote, which did not look at this.
    whole = image.read_bytes()
    Image.open(image).convert("RGB").save(image, exif=b"")
    for _ in prepare_cache(plan_prepare(plan.catalogue, plan.spec, tmp_path / "before.h5")):
        pass
    image.write_bytes(whole)
    row = Cache(plan.path).image_ids.index(f"wave/{image.stem}")
    before = Cache(tmp_path / "before.h5").image_frames([row])[0]

    def change(content):
        assert not np.array_equal(content.frames["images/frames"][row], before)
        content.frames["images/frames"][row] = before

    write_altered(plan.path, tmp_path / "altered.h5", change).replace(plan.path)
    later = image.stat().st_mtime + 100
    os.utime(plan.path, (later, later))
    with pytest.raises(
        CacheError, match=rf"image wave/{image.stem} is read differently now: .* \(1 in all\); give --fo"
    ):
        find_prepared(plan_of(root))


def test_an_image_of_more_than_8_bits_that_was_cut_is_read_differently_now(tmp_path):
    root = one_recording(tmp_path)
    image = root / "images/wave/a.png"
    Image.fromarray(np.full((2, 3, 3), 7, np.uint8)).save(image)
    rows = b"".join(b"\0" + bytes([7, 200] * 9) for _ in range(2))
    deep = png_file(3, 2, depth=16, rows=rows)
    image.write_bytes(image.read_bytes().ljust(len(deep), b"\0"))
    plan = plan_of(root)
    for _ in prepare_cache(plan):
        pass
    image.write_bytes(deep.ljust(image.stat().st_size, b"\0"))
    later = image.stat().st_mtime + 100
    os.utime(plan.path, (later, later))
    with pytest.raises(CacheError, match=r"image wave/a is read differently now"):
        find_prepared(plan_of(root))


def test_frames_that_were_baked_with_an_edge_where_the_image_ends_are_read_differently_now(tmp_path):
    root = one_recording(tmp_path)
    for name in "abcdefghijklmnopqrst":
        Image.fromarray(np.full((30, 30), 200, np.uint8)).save(root / f"images/wave/{name}.png")
    spec = replace(default_spec("folder"), bake="gradient")
    plan = plan_prepare(open_catalogue("folder", root), spec, root / "a.h5")
    for _ in prepare_cache(plan):
        pass
    assert find_prepared(plan) is not None

    def change(content):
        assert not content.frames["images/spikes"].any()
        # An earlier version, in the column where an image ends; the others are black there.
        content.frames["images/spikes"][11, :, :, :, 35] = 9

    write_altered(plan.path, tmp_path / "altered.h5", change).replace(plan.path)
    with pytest.raises(CacheError, match=r"image wave/a is read differently now: .* \(20 in all\); give --fo"):
        find_prepared(plan)
