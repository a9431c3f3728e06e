from __future__ import annotations

import hashlib
import pickle
import random
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from altered_caches import write_altered
from conftest import build

from tmkt_data.cache.format import LEADING_BYTES, LeadingBlock, decode_leading_block, encode_leading_block
from tmkt_data.cache.reader import Cache, read_cache_info, read_tables
from tmkt_data.cache.stored_frames import _widen
from tmkt_data.cache.verify import verify_cache
from tmkt_data.datasets.splits import PROTOCOLS
from tmkt_data.errors import CacheError, SpecError
from tmkt_data.events.events import validate_events
from tmkt_data.events.formats.atis import write_atis
from tmkt_data.pairs.paired_frames import PairedFrames


def verify(path: Path) -> None:
    for _ in verify_cache(path):
        pass


def test_the_file_is_plain_hdf5_behind_a_readable_block(nmnist_cache):
    with h5py.File(nmnist_cache) as file:
        cache = Cache(nmnist_cache)
        assert file.attrs["format"] == b"tmkt-cache"
        assert file["events/frames"].shape == (60, 10, 2, 34, 34)
        assert file["events/frames"].dtype == np.uint8
        assert file["images/frames"].shape == (60, 34, 34)
        np.testing.assert_array_equal(file["events/frames"][:], cache.event_frames(np.arange(60)))
        assert [name.decode() for name in file["events/id"][:3]] == list(cache.event_ids[:3])
        for protocol in PROTOCOLS:
            np.testing.assert_array_equal(file[f"events/split/{protocol}"][:], cache.splits("events", protocol))
    text = nmnist_cache.read_bytes()[:LEADING_BYTES].decode()
    assert text.startswith("tmkt-cache 3\ndigest ")
    assert text.endswith("\n")


def test_the_leading_block_states_size_and_hash(nmnist_cache):
    data = nmnist_cache.read_bytes()
    block = decode_leading_block(data[:LEADING_BYTES], "x")
    assert block.num_bytes == len(data)
    starts = range(LEADING_BYTES, len(data), 1 << 20)
    assert len(starts) == 2
    pieces = b"".join(hashlib.sha256(data[start : start + (1 << 20)]).digest() for start in starts)
    assert block.pieces == hashlib.sha256(pieces).hexdigest()
    assert encode_leading_block(block) == data[:LEADING_BYTES]


def test_the_info_tells_what_is_inside(nmnist_cache):
    info = read_cache_info(nmnist_cache)
    assert (info.dataset, info.num_recordings, info.num_images) == ("nmnist", 60, 60)
    assert info.spec.size == 34
    assert info.facts["sensor_size"] == [34, 34]
    assert [note.partition(";")[0] for note in info.notes] == [
        "48 of 60000 recordings of Train",
        "12 of 10000 recordings of Test",
        "48 of 60000 images of Train",
        "12 of 10000 images of Test",
    ]
    assert info.digest == Cache(nmnist_cache).info.digest
    assert info.num_bytes == nmnist_cache.stat().st_size


def test_the_digest_changes_with_one_pixel(nmnist_root, nmnist_cache, tmp_path):
    copy = tmp_path / "tree"
    shutil.copytree(nmnist_root, copy)
    recording = copy / "N-MNIST/Train/0/00001.bin"
    data = bytearray(recording.read_bytes())
    data[0] ^= 1
    recording.write_bytes(data)
    changed = read_cache_info(build("nmnist", copy, tmp_path / "changed.h5"))
    assert changed.plan == read_cache_info(nmnist_cache).plan
    assert changed.digest != read_cache_info(nmnist_cache).digest


def test_counts_beyond_a_byte_are_those_of_their_table(nmnist_cache, tmp_path):
    def change(content):
        content.frames["events/frames"][:] = 0
        content.tables["events/overflow_start"][:] = [0, 0, 1, 1, 3, *[4] * 56]
        for name, values in (("cell", [7, 5, 9, 2]), ("count", [300, 256, 70_000, 999])):
            table = content.tables[f"events/overflow_{name}"]
            content.tables[f"events/overflow_{name}"] = np.array(values, table.dtype)

    frames = Cache(write_altered(nmnist_cache, tmp_path / "a.h5", change)).event_frames([3, 2, 1, 4, 3])
    flat = frames.reshape(5, -1)
    assert [(np.flatnonzero(row).tolist(), row[row > 0].tolist()) for row in flat] == [
        ([5, 9], [256, 70_000]), ([], []), ([7], [300]), ([2], [999]), ([5, 9], [256, 70_000]),
    ]  # fmt: skip


def test_counts_beyond_a_byte_are_exact(tmp_path, nmnist_root):
    root = tmp_path / "tree"
    shutil.copytree(nmnist_root, root)
    many = 1000
    write_atis(
        root / "N-MNIST/Train/0/00001.bin",
        validate_events(np.arange(many), np.full(many, 3), np.full(many, 4), np.ones(many, bool)),
    )
    cache = Cache(build("nmnist", root, tmp_path / "many.h5", time_bins=2))
    row = cache.event_ids.index("0/train-00001")
    frames = cache.event_frames(np.array([row - 1 if row else 1, row, row]))
    assert frames[1].sum() == many
    assert sorted(frames[1][frames[1] > 0].tolist()) == [500.0, 500.0]
    np.testing.assert_array_equal(frames[1], frames[2])
    assert frames[0].max() <= 255
    with h5py.File(tmp_path / "many.h5") as file:
        assert file["events/frames"][row].max() == 255
        assert file["events/overflow_start"][-1] == len(file["events/overflow_cell"]) == 2


def test_counts_beyond_a_byte_stay_in_their_recording(tmp_path, nmnist_root):
    root = tmp_path / "tree"
    shutil.copytree(nmnist_root, root)
    paths = sorted((root / "N-MNIST/Train/0").glob("*.bin"))[:3]
    for x, path in enumerate(paths):
        count = 600 + 200 * x
        events = validate_events(np.arange(count), np.full(count, x), np.full(count, 4), np.ones(count, bool))
        write_atis(path, events)
    cache = Cache(build("nmnist", root, tmp_path / "many.h5", time_bins=2))
    rows = [cache.event_ids.index(f"0/train-{path.stem}") for path in paths]
    assert np.diff(rows).tolist() == [1, 1]
    for frames, count in zip(cache.event_frames(rows), (600, 800, 1000), strict=True):
        assert sorted(frames[frames > 0].tolist()) == [count / 2] * 2


def test_tables_that_were_changed_in_place_are_found_on_opening(nmnist_cache, tmp_path):
    copy = shutil.copy(nmnist_cache, tmp_path / "copy.h5")
    with h5py.File(copy, "r+") as file:
        file["events/t_last_us"][7] += 1
    with pytest.raises(
        CacheError, match=r"^copy\.h5: the tables were changed after they were written; prepare it again$"
    ):
        Cache(copy)


def test_a_twin_that_is_no_row_is_found_on_opening(nmnist_cache, tmp_path):
    path = write_altered(
        nmnist_cache, tmp_path / "a.h5", lambda content: content.tables["events/twin"].__setitem__(3, 60)
    )
    with pytest.raises(CacheError, match=r"^a\.h5: .*twin"):
        Cache(path)


def test_a_pickled_cache_is_the_same_file_or_an_error(nmnist_root, nmnist_cache, tmp_path):
    path = shutil.copy(nmnist_cache, tmp_path / "a.h5")
    cache = Cache(path)
    pickled = pickle.dumps(cache)
    again = pickle.loads(pickled)
    assert (again.info, again.event_ids, again.image_ids) == (cache.info, cache.event_ids, cache.image_ids)
    np.testing.assert_array_equal(again.event_frames([5, 0]), cache.event_frames([5, 0]))
    other = build("nmnist", nmnist_root, tmp_path / "b.h5", time_bins=2)
    other.replace(path)
    with pytest.raises(CacheError, match=r"a\.h5: was replaced by another cache after it was opened; open it again$"):
        pickle.loads(pickled)


def test_images_have_ids_and_spikes_only_where_they_were_baked(nmnist_root, nmnist_cache, tmp_path):
    cache = Cache(nmnist_cache)
    with h5py.File(nmnist_cache) as file:
        assert list(cache.image_ids) == [name.decode() for name in file["images/id"][:]]
    with cache.checked_once():
        np.testing.assert_array_equal(cache.image_frames([3]), cache.image_frames([3, 4])[:1])
    assert cache.has_spikes is False
    with pytest.raises(
        CacheError, match=r": no spike frames; prepare it with `tmkt-data prepare --bake`, or draw them$"
    ):
        cache.image_spikes([0])
    baked = Cache(build("nmnist", nmnist_root, tmp_path / "baked.h5", time_bins=2, bake="poisson"))
    assert baked.has_spikes is True
    assert set(np.unique(baked.image_spikes([0, 1]))) == {0, 1}


def test_images_are_read_at_the_largest_size_that_is_kept(nmnist_root, nmnist_cache, tmp_path):
    path = build("nmnist", nmnist_root, tmp_path / "fine.h5", size=17, time_bins=2, image_scale=2, refractory_us=1000)
    fine, plain = Cache(path), Cache(nmnist_cache)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(fine.finest_frames([3, 1]), file["images/fine"][:4][[3, 1]])
        np.testing.assert_array_equal(fine.image_frames([3, 1]), file["images/frames"][:4][[3, 1]])
    assert fine.finest_frames([3, 1]).shape == (2, 34, 34)
    np.testing.assert_array_equal(plain.finest_frames([3, 1]), plain.image_frames([3, 1]))


def test_tables_are_read_by_name_where_they_are(nmnist_cache, tmp_path):
    found = read_tables(nmnist_cache, ["events/label", "images/spikes_xxh3", "images/label"])
    assert list(found) == ["events/label", "images/label"]
    assert found["events/label"].tolist() == Cache(nmnist_cache).tables["events/label"].tolist()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["events/label"] = [1, 2, 3]
    with pytest.raises(CacheError, match=r"^other\.h5: not a tmkt cache"):
        read_tables(tmp_path / "other.h5", ["events/label"])


def test_what_the_header_has_more_is_named(nmnist_cache, tmp_path):
    path = write_altered(nmnist_cache, tmp_path / "a.h5", lambda content: content.header.update(author="x"))
    with pytest.raises(CacheError, match=r"^a\.h5: attributes \['author', 'dataset', .*expected \['dataset', "):
        Cache(path)


def test_the_protocols_that_there_are_are_named(nmnist_cache):
    with pytest.raises(CacheError, match=r"found protocol 'x', expected one of kt-paper, twin-disjoint$"):
        Cache(nmnist_cache).splits("events", "x")


def test_ids_of_a_file_that_was_overwritten_are_refused(nmnist_cache, tmp_path):
    copy = shutil.copy(nmnist_cache, tmp_path / "copy.h5")
    cache = Cache(copy)
    assert cache.id_table("images")[0].decode() == cache.image_ids[0]
    with Path(copy).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    with pytest.raises(CacheError, match=r"copy\.h5"):
        cache.id_table("events")


@pytest.mark.parametrize("place", ["leading", "structure", "tables", "event frames", "image frames", "end"])
def test_a_flipped_bit_is_found(nmnist_cache, tmp_path, place):
    with h5py.File(nmnist_cache) as file:
        events, images = file["events/frames"].id.get_offset(), file["images/frames"].id.get_offset()
        labels = file["events/label"].id.get_offset()
    size = nmnist_cache.stat().st_size
    at = {
        "leading": 30,
        "structure": LEADING_BYTES + 3,
        "tables": labels + 5,
        "event frames": events + 12_345,
        "image frames": images + 77,
        "end": size - 1,
    }[place]
    data = bytearray(nmnist_cache.read_bytes())
    data[at] ^= 0x10
    path = tmp_path / "flipped.h5"
    path.write_bytes(data)
    with pytest.raises(CacheError, match=r"^flipped\.h5: [^\n]*$"):
        verify(path)


def test_every_flip_anywhere_is_one_clear_error(nmnist_cache, tmp_path):
    whole = nmnist_cache.read_bytes()
    path = tmp_path / "flipped.h5"
    rng = random.Random(0)
    with h5py.File(nmnist_cache) as file:
        first = file["events/frames"].id.get_offset()
    places = [rng.randrange(len(whole)) for _ in range(40)]
    places += [rng.randrange(first) for _ in range(120)]
    places += [rng.randrange(len(whole) - 60_000, len(whole)) for _ in range(80)]
    for at in places:
        data = bytearray(whole)
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with pytest.raises(CacheError, match=r"^[^\n]*flipped\.h5[^\n]*$"):
            verify(path)


def test_a_changed_frame_is_found_when_it_is_read_and_not_before(nmnist_cache, tmp_path):
    with h5py.File(nmnist_cache) as file:
        start = file["events/frames"].id.get_offset()
        bytes_each = file["events/frames"][0].nbytes
    data = bytearray(nmnist_cache.read_bytes())
    data[start + 3 * bytes_each + 9] ^= 1
    path = tmp_path / "flipped.h5"
    path.write_bytes(data)
    cache = Cache(path)
    cache.event_frames(np.array([0, 1, 2, 4]))
    with pytest.raises(CacheError, match="row 3 of events/frames was changed after it was written"):
        cache.event_frames(np.array([2, 3]))


@pytest.mark.parametrize("left", [0, 5, 100, LEADING_BYTES, 5_000, -1])
def test_a_cut_file_is_refused_on_opening(nmnist_cache, tmp_path, left):
    data = nmnist_cache.read_bytes()
    path = tmp_path / "cut.h5"
    path.write_bytes(data[:left])
    with pytest.raises(
        CacheError, match=r"^cut\.h5: (not a tmkt cache|the first 512 bytes|.*the file is truncated)[^\n]*$"
    ):
        Cache(path)


def test_a_longer_file_is_refused(nmnist_cache, tmp_path):
    path = tmp_path / "long.h5"
    path.write_bytes(nmnist_cache.read_bytes() + b"x")
    with pytest.raises(CacheError, match="bytes, expected"):
        Cache(path)


def test_another_version_is_named(nmnist_cache, tmp_path):
    data = nmnist_cache.read_bytes()
    block = decode_leading_block(data[:LEADING_BYTES], "x")
    newer = LeadingBlock(9, block.num_bytes, block.pieces, block.digest)
    path = tmp_path / "newer.h5"
    path.write_bytes(encode_leading_block(newer) + data[LEADING_BYTES:])
    with pytest.raises(CacheError, match=r"^newer.h5: cache format 9, this tmkt reads format 3; prepare it again$"):
        Cache(path)


def test_what_is_no_cache_is_said(tmp_path):
    with pytest.raises(CacheError, match="no such file"):
        Cache(tmp_path / "none.h5")
    with pytest.raises(CacheError, match="Is a directory"):
        Cache(tmp_path)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["x"] = [1, 2, 3]
    with pytest.raises(CacheError, match="not a tmkt cache"):
        Cache(other)


def test_rows_outside_the_cache_are_refused(nmnist_cache):
    for rows in ([60], [-1]):
        with pytest.raises(CacheError, match="has rows 0 to 59"):
            Cache(nmnist_cache).event_frames(np.array(rows))


def test_reading_leaves_the_file_as_it_was(nmnist_cache):
    before = nmnist_cache.read_bytes()
    frames = PairedFrames(nmnist_cache, "train", scale="log1p")
    batch = frames.read(np.arange(len(frames)))
    batch.events[:] = -1
    assert nmnist_cache.read_bytes() == before
    assert frames.read([0]).events.min() >= 0


def test_messages_name_no_traceback(nmnist_cache, tmp_path):
    path = tmp_path / "cut.h5"
    path.write_bytes(nmnist_cache.read_bytes()[:-1])
    with pytest.raises(CacheError) as caught:
        Cache(path)
    assert re.fullmatch(r"cut\.h5: \d+ bytes, expected \d+; .*", str(caught.value))


def test_halves_are_widened_exactly():
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16)
    out = np.empty(len(halves), np.float32)
    _widen(halves, out)
    np.testing.assert_array_equal(out, halves.astype(np.float32))


def test_rows_are_numbers_not_rounded_and_not_a_mask(nmnist_cache):
    cache = Cache(nmnist_cache)
    for rows in ([1.5], np.ones(60, bool), 3, [[0, 1]]):
        for read in (cache.event_frames, cache.image_frames, cache.finest_frames):
            with pytest.raises(
                SpecError, match=r"^rows: found (float64|bool|int64) of shape .*, expected numbers of rows"
            ):
                read(rows)
    assert cache.event_frames([]).shape[0] == 0
    with pytest.raises(CacheError, match=r"has rows 0 to 59, asked for -2$"):
        cache.image_frames([5, -2])
