from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import trees
from conftest import build
from torch.utils.data import DataLoader

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.registry import open_catalogue
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.errors import CacheError, PairingError, SpecError
from tmkt_data.events.events import SensorSize
from tmkt_data.events.frames import FrameSpec, event_frames
from tmkt_data.events.read import load_events
from tmkt_data.images.encode import poisson_frames, repeat_frames
from tmkt_data.pairs.arguments import MAX_COUNTER
from tmkt_data.pairs.event_scale import EVENT_SCALES, scale_events
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.pairs.report import report_pairs
from tmkt_data.random_keys import Purpose, draw_key


def test_a_sample_is_the_recording_beside_an_image_of_its_class(nmnist_root, nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", seed=3)
    cache = Cache(nmnist_cache)
    sources = {source.id: source for source in open_catalogue("nmnist", nmnist_root).recordings}
    for at in (0, 7, len(frames) - 1):
        sample = frames[at]
        events = load_events(sources[frames.ids[at]].path)
        expected = event_frames(events, FrameSpec(num_bins=10, height=34, width=34), sensor_size=SensorSize(34, 34))
        np.testing.assert_array_equal(sample.events, expected.frames)
        assert sample.events.sum() == len(events)
        assert cache.tables["images/label"][sample.image_index] == sample.label
        image = cache.image_frames(np.array([sample.image_index]))[0]
        np.testing.assert_array_equal(sample.image, repeat_frames(image, 10))
        shape = (frames.num_time_bins, frames.num_channels, *frames.size)
        assert sample.image.shape == sample.events.shape == shape == (10, 2, 34, 34)
        assert sample.image.dtype == sample.events.dtype == np.float32


def test_the_earlier_name_of_the_time_bins_still_works(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train")
    assert frames.num_steps == frames.num_time_bins == frames.spec.time_bins == 10


def test_a_batch_is_its_samples(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", encoder="poisson")
    batch = frames.read([5, 0, 5], [0, 0, 1])
    for row, (at, occurrence) in enumerate([(5, 0), (0, 0), (5, 1)]):
        sample = frames[at, occurrence]
        np.testing.assert_array_equal(batch.image[row], sample.image)
        np.testing.assert_array_equal(batch.events[row], sample.events)
        assert batch.labels[row] == sample.label
        assert batch.indices[row] == sample.position
        assert batch.image_indices[row] == sample.image_index
    assert (batch.image[0] != batch.image[2]).any()


def test_images_change_with_the_epoch_and_events_do_not(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", encoder="poisson")
    first = frames.read(np.arange(len(frames)))
    frames.set_epoch(1)
    second = frames.read(np.arange(len(frames)))
    np.testing.assert_array_equal(first.events, second.events)
    assert (first.image_indices != second.image_indices).any()
    frames.set_epoch(0)
    np.testing.assert_array_equal(first.image, frames.read(np.arange(len(frames))).image)


def test_poisson_frames_are_those_of_the_key(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "val", encoder="poisson", seed=9)
    frames.set_epoch(4)
    sample = frames[1]
    key = draw_key(9, 4, frames.uids[1], 0, Purpose.POISSON)
    image = frames.cache.image_frames(np.array([sample.image_index]))[0]
    np.testing.assert_array_equal(sample.image, poisson_frames(image, 10, key=key))


def collect(frames: PairedFrames, **options: object) -> list[np.ndarray]:
    parts = list(DataLoader(frames, batch_size=5, **options))
    return [np.concatenate([np.asarray(part[field]) for part in parts]) for field in range(6)]


# A spawned process imports torch; whichever encoder it has, it is given the same pickle.
@pytest.mark.parametrize(
    ("encoder", "workers"),
    [
        ("repeat", [(1, "fork"), (2, "fork")]),
        ("poisson", [(2, "fork"), (2, "spawn")]),
        ("microsaccade", [(1, "fork"), (2, "fork")]),
    ],
)
def test_any_number_of_workers_forked_or_spawned_gives_the_same(nmnist_cache, encoder, workers):
    frames = PairedFrames(nmnist_cache, "train", encoder=encoder, seed=2)
    frames.set_epoch(3)
    frames[0]
    plain = collect(frames)
    direct = frames.read(np.arange(len(frames)))
    np.testing.assert_array_equal(plain[0], direct.image)
    for number, context in workers:
        loaded = collect(frames, num_workers=number, multiprocessing_context=context)
        for mine, theirs in zip(plain, loaded, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_a_replaced_cache_is_not_taken_for_the_opened_one(nmnist_cache, nmnist_root, tmp_path):
    copy = shutil.copy(nmnist_cache, tmp_path / "copy.h5")
    text = pickle.dumps(PairedFrames(copy, "train"))
    shutil.copy(build("nmnist", nmnist_root, tmp_path / "other.h5", time_bins=4), copy)
    with pytest.raises(CacheError, match="was replaced by another cache after it was opened"):
        pickle.loads(text)


def test_a_relative_path_survives_a_change_of_folder(nmnist_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(nmnist_cache.parent)
    frames = PairedFrames(nmnist_cache.name, "train")
    monkeypatch.chdir(tmp_path)
    assert frames[0].events.sum() > 0
    assert pickle.loads(pickle.dumps(frames))[0].events.sum() > 0


def test_an_empty_batch_is_empty(nmnist_cache):
    batch = PairedFrames(nmnist_cache, "train").read([])
    assert batch.events.shape == batch.image.shape == (0, 10, 2, 34, 34)


def test_positions_outside_the_split_are_refused(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train")
    last = len(frames) - 1
    for least, most in ((-1, -1), (-1, 0), (0, last + 1), (last + 1, last + 1)):
        with pytest.raises(IndexError, match=f"^indices {least} to {most}, expected 0 to {last}$"):
            frames.read([least, most])
    assert frames.read([0, last]).indices.tolist() == [0, last]
    assert not frames.read([0]).image.flags.writeable


def test_twin_pairing_gives_the_own_image(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", pairing="twin")
    rows = frames.read(np.arange(len(frames))).image_indices
    assert [frames.cache.image_ids[row] for row in rows] == list(frames.ids)


def test_no_pairing_gives_zeros(nmnist_cache):
    batch = PairedFrames(nmnist_cache, "train", pairing="none").read([0, 1])
    assert not batch.image.any()
    assert batch.image.shape == batch.events.shape
    assert batch.image_indices.tolist() == [-1, -1]


def test_no_heldout_image_can_be_drawn_for_training(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train")
    codes = frames.cache.splits("events", "twin-disjoint")
    held_out = {frames.cache.event_ids[row] for row in np.flatnonzero(codes >= SplitCode.VAL)}
    assert held_out
    assert not held_out & {frames.cache.image_ids[row] for row in frames.pools.rows}
    report = report_pairs(frames)
    assert report.num_reachable_heldout == 0
    assert report.label_agreement == 1.0
    assert report.num_recordings == report.num_with_twin == len(frames)


def test_the_report_sees_a_leak_when_there_is_one(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train")
    test_rows = np.flatnonzero(frames.cache.splits("images", "twin-disjoint") == SplitCode.TEST)
    frames.pools.rows[:2] = test_rows[:2]
    assert report_pairs(frames).num_reachable_heldout == 2


def test_a_leaking_pool_reaches_the_images_of_held_out_recordings(nmnist_cache):
    honest, whole, drawn = (
        PairedFrames(nmnist_cache, "train", image_pool=pool) for pool in ("split", "all", "shuffled-prefix")
    )
    codes = honest.cache.splits("events", "twin-disjoint")
    assert report_pairs(whole).num_reachable_heldout == int((codes >= SplitCode.VAL).sum()) > 0
    assert drawn.pools.sizes().tolist() == honest.pools.sizes().tolist()
    assert set(drawn.pools.rows) <= set(whole.pools.rows)
    assert 0 < report_pairs(drawn).num_reachable_heldout < len(drawn.pools.rows)
    assert drawn.ids == whole.ids == honest.ids
    other = PairedFrames(nmnist_cache, "train", image_pool="shuffled-prefix", seed=5)
    assert set(other.pools.rows) != set(drawn.pools.rows)


@pytest.mark.parametrize("choices", [{"split": "val"}, {"split": "train", "pairing": "twin"}])
def test_a_leaking_pool_is_for_training_pairs_alone(nmnist_cache, choices):
    with pytest.raises(SpecError, match=r"^image pool: found 'all' with split .+, expected 'split'; "):
        PairedFrames(nmnist_cache, **choices, image_pool="all")


def test_per_class_keeps_so_many_of_each_and_more_keeps_the_same_ones(nmnist_cache):
    few = PairedFrames(nmnist_cache, "train", per_class=2)
    more = PairedFrames(nmnist_cache, "train", per_class=5)
    assert np.bincount(few.labels, minlength=10)[:4].tolist() == [2, 2, 2, 2]
    assert set(few.ids) < set(more.ids)
    assert len(few.pools.rows) == len(more.pools.rows) == len(PairedFrames(nmnist_cache, "train"))
    assert set(few.ids) != set(PairedFrames(nmnist_cache, "train", per_class=2, seed=5).ids)


def test_event_share_keeps_a_share_of_each_class_and_a_larger_one_keeps_the_same(nmnist_cache):
    whole = PairedFrames(nmnist_cache, "train")
    counts = np.bincount(whole.labels)
    some, more, least = (PairedFrames(nmnist_cache, "train", event_share=share) for share in (0.3, 0.7, 1e-6))
    assert np.bincount(some.labels).tolist() == [max(1, round(0.3 * n)) for n in counts]
    assert np.bincount(least.labels).tolist() == [1] * len(counts)
    assert set(least.ids) < set(some.ids) < set(more.ids) < set(whole.ids)
    assert some.pools.rows.tolist() == whole.pools.rows.tolist()
    assert some.split_digest == whole.split_digest


def test_image_share_keeps_a_share_of_the_images_and_all_recordings(nmnist_cache):
    whole = PairedFrames(nmnist_cache, "train")
    some, more = (PairedFrames(nmnist_cache, "train", image_share=share) for share in (0.3, 0.7))
    assert some.ids == whole.ids
    kept = [max(1, round(0.3 * n)) if n else 0 for n in whole.pools.sizes().tolist()]
    assert some.pools.sizes().tolist() == kept
    assert set(some.pools.rows) < set(more.pools.rows) < set(whole.pools.rows)
    positions = np.arange(len(some))
    drawn = some.image_rows(positions, np.zeros(len(some), np.int64))
    assert set(drawn) <= set(some.pools.rows)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"event_share": 0.0}, "event share: found 0.0, expected above 0 and at most 1"),
        ({"image_share": 1.5}, "image share: found 1.5, expected above 0 and at most 1"),
        ({"event_share": "0.5"}, "event share: found '0.5', expected a number above 0 and at most 1"),
        ({"event_share": None, "per_class": 2}, "event share: found None, expected a number above 0 and at most 1"),
        ({"event_share": 0.5, "per_class": 2}, "event share: found 0.5 with 2 recordings per class"),
        ({"image_share": 0.5, "pairing": "twin"}, "image share: found 0.5 with pairing 'twin'"),
    ],
)
def test_shares_that_make_no_sense_are_refused(nmnist_cache, choices, message):
    with pytest.raises(SpecError, match=message):
        PairedFrames(nmnist_cache, "train", **choices)


def test_pickling_reopens_the_file(nmnist_cache, tmp_path):
    copy = shutil.copy(nmnist_cache, tmp_path / "copy.h5")
    frames = PairedFrames(copy, "train")
    frames.set_epoch(2)
    again = pickle.loads(pickle.dumps(frames))
    np.testing.assert_array_equal(frames.read([0]).image, again.read([0]).image)
    text = pickle.dumps(frames)
    Path(copy).unlink()
    with pytest.raises(CacheError, match="no such file"):
        pickle.loads(text)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "training"}, "split: found 'training', expected one of train, val, test"),
        ({"pairing": "random"}, "pairing: found 'random'"),
        ({"encoder": "rate"}, "encoder: found 'rate'"),
        ({"scale": "norm"}, "event scale: found 'norm'"),
        ({"seed": -1}, r"seed: found -1, expected 0 to 2\*\*63 - 1"),
        ({"seed": 2**63}, "seed: found 9223372036854775808, expected 0 to"),
        ({"image_pool": "train"}, "image pool: found 'train', expected one of split, all, shuffled-prefix"),
        ({"per_class": 0}, "recordings per class: found 0"),
    ],
)
def test_unknown_choices_are_one_line(nmnist_cache, options, message):
    with pytest.raises(SpecError, match=message):
        PairedFrames(nmnist_cache, **options)


def test_the_largest_seed_and_epoch_draw_images(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", seed=MAX_COUNTER)
    frames.set_epoch(MAX_COUNTER)
    assert frames.epoch == frames[0].epoch == MAX_COUNTER == 2**63 - 1
    assert frames.cache.tables["images/label"][frames[0].image_index] == frames[0].label
    with pytest.raises(SpecError, match=r"epoch: found 9223372036854775808, expected 0 to 2\*\*63 - 1"):
        frames.set_epoch(MAX_COUNTER + 1)


def test_recordings_without_an_image_to_pair_with_are_refused(tmp_path):
    recordings = {f"{name}/take {at}": 10 * label + at for label, name in enumerate("abc") for at in range(5)}
    images = {name: scene for name, scene in recordings.items() if name[0] == "a"} | {"c/other": 99}
    root = trees.write_folder(tmp_path / "own", recordings, images)
    cache = Cache(build("folder", root, tmp_path / "own.h5", size=24, time_bins=3))
    # Drawn all the same, the images of b would be those of another class.
    with pytest.raises(PairingError, match=r"own.h5: train has recordings of b but no images of that class"):
        PairedFrames(cache, "train")
    with pytest.raises(PairingError, match=r"of train have no twin image, such as b/take \d; use pairing 'same-class'"):
        PairedFrames(cache, "train", pairing="twin")
    with pytest.raises(PairingError, match="have no twin image, such as c/"):
        PairedFrames(cache, "train", pairing="twin", keep_classes=[0, 2])
    drawn = PairedFrames(cache, "train", keep_classes=[0, 2])
    rows = drawn.read(np.arange(len(drawn))).image_indices
    assert cache.tables["images/label"][rows].tolist() == drawn.labels.tolist()
    assert set(drawn.labels) == {0, 2}
    assert len(PairedFrames(cache, "train", pairing="twin", keep_classes=[0])) == (drawn.labels == 0).sum()
    assert set(PairedFrames(cache, "train", pairing="none").labels) == {0, 1, 2}


def test_what_the_cache_lacks_is_said(nmnist_cache):
    with pytest.raises(CacheError, match="found protocol 'official', expected one of kt-paper, twin-disjoint"):
        PairedFrames(nmnist_cache, protocol="official")
    with pytest.raises(CacheError, match="no spike frames"):
        PairedFrames(nmnist_cache, encoder="baked")
    with pytest.raises(PairingError, match="no recording in split 'val' of kt-paper"):
        PairedFrames(nmnist_cache, "val", protocol="kt-paper")
    frames = PairedFrames(nmnist_cache)
    for wrong in (len(frames), -len(frames) - 1):
        with pytest.raises(IndexError):
            frames[wrong]
    with pytest.raises(IndexError):
        frames.read([0, len(frames)])
    with pytest.raises(SpecError, match="epoch"):
        frames.set_epoch(-1)
    assert [frames[at].position for at in (-1, -len(frames))] == [len(frames) - 1, 0]


@pytest.mark.parametrize("bake", ["repeat", "poisson"])
def test_baked_spikes_are_read_back(nmnist_root, tmp_path, bake):
    path = build("nmnist", nmnist_root, tmp_path / "baked.h5", bake=bake)
    frames = PairedFrames(path, "train", encoder="baked")
    sample = frames[3]
    image = frames.cache.image_frames(np.array([sample.image_index]))[0]
    if bake == "repeat":
        np.testing.assert_array_equal(sample.image, repeat_frames(image, 10))
    else:
        assert set(np.unique(sample.image)) == {0.0, 1.0}
        assert abs(sample.image.mean() - image.mean() / 255) < 0.02


def test_scales():
    rng = np.random.default_rng(0)
    frames = rng.poisson(2.0, (3, 4, 2, 5, 5)).astype(np.float32)
    frames[0] = 0
    scaled = {scale: scale_events(frames.copy(), scale) for scale in EVENT_SCALES}
    np.testing.assert_array_equal(scaled["raw"], frames)
    np.testing.assert_array_equal(scaled["clip1"], np.minimum(frames, 1))
    np.testing.assert_array_equal(scaled["binary"], frames > 0)
    np.testing.assert_allclose(scaled["log1p"], np.log1p(frames), rtol=1e-6)
    np.testing.assert_allclose(scaled["max"], frames / np.maximum(frames.max((1, 3, 4), keepdims=True), 1e-12))
    signed = scale_events(-frames, "log1p")
    np.testing.assert_allclose(signed, -np.log1p(frames), rtol=1e-6)


def test_a_voxel_cache_has_one_channel_on_both_sides(nmnist_root, tmp_path):
    frames = PairedFrames(build("nmnist", nmnist_root, tmp_path / "voxel.h5", representation="voxel"), "train")
    sample = frames[0]
    assert sample.image.shape == sample.events.shape == (10, 1, 34, 34)
    assert sample.events.min() < 0 < sample.events.max()
