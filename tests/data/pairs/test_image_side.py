"""Encoders that imitate events: their units, their gain, and how they agree with recordings."""

from __future__ import annotations

import numpy as np
import pytest
import trees
from conftest import build

from tmkt_data.cache.reader import Cache
from tmkt_data.datasets.cameras import camera_of
from tmkt_data.datasets.splits import SPLIT_CODES
from tmkt_data.errors import SpecError
from tmkt_data.images.log_intensity import Scene, saccade_frames, stored_changes, stored_response, unit_response
from tmkt_data.pairs.event_scale import EVENT_SCALES, scale_events
from tmkt_data.pairs.image_side import IMITATORS, GainRows, ImageSide
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.simulate.saccade import DrawnKeys, paths_in_cells

ALL = np.arange(20)


def keys_of(count):
    return DrawnKeys(0, 0, np.arange(count, dtype=np.uint64), np.zeros(count, np.int64))


def correlation(frames, others):
    return np.array([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in zip(frames, others, strict=True)])


@pytest.fixture(scope="module")
def digits_cache(tmp_path_factory):
    root = trees.write_nmnist(tmp_path_factory.mktemp("digits"), per_digit=12, test_per_digit=3, digits=4)
    return build("nmnist", root, root / "small.h5", size=17, time_bins=5)


@pytest.mark.parametrize("encoder", IMITATORS)
def test_frames_are_counts_with_the_mean_of_the_recordings(nmnist_cache, encoder):
    frames = PairedFrames(nmnist_cache, "train", encoder=encoder)
    batch = frames.read(np.arange(len(frames)))
    assert batch.image.dtype == np.float32
    assert batch.image.shape == batch.events.shape
    assert batch.image.min() >= 0
    side = frames.image_side
    images = side.frames(frames.pools.rows, keys_of(len(frames.pools.rows)))
    # Paths of their own change more or less than the camera's, on which the gain is measured; counts are drawn.
    off = {"microsaccade": 0.25, "gradient-poisson": 0.03}.get(encoder, 0.01)
    assert images.mean() == pytest.approx(batch.events.mean(), rel=off)


@pytest.mark.parametrize("scale", EVENT_SCALES)
@pytest.mark.parametrize("encoder", IMITATORS)
def test_the_event_scale_means_the_same_on_both_sides(nmnist_cache, encoder, scale):
    raw = PairedFrames(nmnist_cache, "train", encoder=encoder).read(ALL).image
    found = PairedFrames(nmnist_cache, "train", encoder=encoder, scale=scale).read(ALL).image
    expected = np.array(np.floor(raw + 0.5) if scale == "binary" else raw)
    np.testing.assert_allclose(found, scale_events(expected, scale), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("encoder", ["repeat", "poisson"])
def test_intensities_keep_their_meaning_at_every_event_scale(nmnist_cache, encoder):
    raw = PairedFrames(nmnist_cache, "train", encoder=encoder).read(ALL).image
    np.testing.assert_array_equal(raw, PairedFrames(nmnist_cache, encoder=encoder, scale="log1p").read(ALL).image)


def test_saccades_are_the_changes_along_the_path_of_the_camera(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", pairing="twin", encoder="saccade")
    batch = frames.read(ALL)
    images = frames.cache.image_frames(batch.image_indices)
    path = paths_in_cells(camera_of("nmnist").path, 10, np.ones((20, 2)))
    scene = Scene(np.tile(np.array([3, 31, 3, 31], np.int32), (20, 1)), is_negative=True)
    expected = saccade_frames(images, path, 10, scene=scene) * np.float32(frames.image_side.gain)
    np.testing.assert_array_equal(batch.image, expected)


def test_the_gain_does_not_depend_on_what_is_held_out(nmnist_cache):
    cache = Cache(nmnist_cache)
    train, val = (PairedFrames(cache, split, encoder="saccade") for split in ("train", "val"))
    is_training = cache.splits("events", "twin-disjoint") == SPLIT_CODES["train"]
    mean = cache.event_frames(np.flatnonzero(is_training)).mean(dtype=np.float64)
    changes = ImageSide(cache, "saccade", "raw", GainRows(np.zeros(0, np.int64), train.pools.rows))
    assert changes.gain == 1
    unit = changes.frames(train.pools.rows, keys_of(0)).mean(dtype=np.float64)
    assert train.image_side.gain == pytest.approx(mean / unit, rel=1e-6)
    few = PairedFrames(cache, "train", encoder="saccade", event_share=0.2)
    own = cache.event_frames(few.rows).mean(dtype=np.float64)
    assert few.image_side.gain == pytest.approx(own / unit, rel=1e-6)
    # An image is shown alike whether it is trained on or evaluated.
    assert val.image_side.gain == train.image_side.gain
    few_of_test = PairedFrames(cache, "test", encoder="saccade", event_share=0.2)
    assert few_of_test.image_side.gain == few.image_side.gain
    twins = [PairedFrames(cache, split, encoder="saccade", pairing="twin") for split in ("train", "test")]
    assert twins[0].image_side.gain == twins[1].image_side.gain


def test_random_paths_change_with_epoch_and_occurrence_and_those_of_the_camera_do_not(nmnist_cache):
    for encoder, changes in (("microsaccade", True), ("saccade", False), ("gradient", False)):
        frames = PairedFrames(nmnist_cache, "train", pairing="twin", encoder=encoder)
        first = frames.read(ALL).image
        again = frames.read(ALL, np.ones(20, np.int64)).image
        frames.set_epoch(1)
        next_epoch = frames.read(ALL).image
        assert (again != first).any() == (next_epoch != first).any() == changes
        frames.set_epoch(0)
        np.testing.assert_array_equal(frames.read(ALL[::-1]).image[::-1], first)


def test_drawn_gradients_have_the_repeated_ones_as_their_mean(nmnist_cache):
    still = PairedFrames(nmnist_cache, "train", pairing="twin", encoder="gradient").read(ALL).image
    frames = PairedFrames(nmnist_cache, "train", pairing="twin", encoder="gradient-poisson")
    batches = []
    for epoch in range(20):
        frames.set_epoch(epoch)
        batches.append(frames.read(ALL).image)
        np.testing.assert_array_equal(frames.read(ALL[::-1]).image[::-1], batches[-1])
    assert (batches[0] != batches[1]).any()
    drawn = np.stack(batches).astype(np.float64)
    np.testing.assert_array_equal(drawn, np.trunc(drawn))
    # 20 epochs, 10 bins and 2 channels of one rate.
    rate, means = still[:, 0, 0], drawn.mean(axis=(0, 2, 3))
    assert np.abs(means - rate).max() < 6 * np.sqrt(rate.max() / 400)
    assert means.mean() == pytest.approx(rate.mean(), rel=0.02)
    assert drawn.var(axis=(0, 2, 3)).mean() == pytest.approx(rate.mean(), rel=0.05)
    assert not drawn[:, np.broadcast_to(still == 0, drawn.shape[1:])].any()


def test_drawn_gradients_differ_with_every_word_of_their_key_only(nmnist_cache):
    first = PairedFrames(nmnist_cache, "train", pairing="twin", encoder="gradient-poisson", seed=1)
    again = PairedFrames(nmnist_cache, "train", pairing="twin", encoder="gradient-poisson", seed=1)
    other = PairedFrames(nmnist_cache, "train", pairing="twin", encoder="gradient-poisson", seed=2)
    image = first.read(ALL).image
    np.testing.assert_array_equal(again.read(ALL).image, image)
    np.testing.assert_array_equal(np.stack([first[at].image for at in ALL]), image)
    assert (first.read(ALL, np.ones(20, np.int64)).image != image).any()
    assert (other.read(ALL).image != image).any()


def test_a_rate_too_large_to_draw_is_one_clear_line(nmnist_cache):
    camera = camera_of("nmnist")._replace(threshold=1e-3)
    with pytest.raises(
        SpecError, match=r"Poisson counts: found a mean of 1\d\d\d in a cell and time bin, expected 0 to"
    ):
        PairedFrames(nmnist_cache, encoder="gradient-poisson", camera=camera).read(ALL)


def test_gradients_are_repeated_as_a_view(nmnist_cache):
    image = PairedFrames(nmnist_cache, "train", encoder="gradient").read(ALL).image
    assert image.strides[1:3] == (0, 0)
    assert not image.flags.writeable


def test_a_voxel_grid_has_signed_saccades(nmnist_root, tmp_path):
    path = build("nmnist", nmnist_root, tmp_path / "voxels.h5", representation="voxel")
    frames = PairedFrames(path, "train", pairing="twin", encoder="saccade")
    batch = frames.read(ALL)
    assert batch.image.shape == batch.events.shape == (20, 10, 1, 34, 34)
    assert batch.image.min() < 0 < batch.image.max()
    assert np.abs(batch.image).mean() == pytest.approx(np.abs(batch.events).mean(), rel=0.2)


def test_inverted_recordings_have_inverted_saccades(nmnist_root, tmp_path):
    for more in ({}, {"representation": "voxel"}):
        plain = build("nmnist", nmnist_root, tmp_path / f"plain{len(more)}.h5", **more)
        inverted = build("nmnist", nmnist_root, tmp_path / f"inverted{len(more)}.h5", polarity="inverted", **more)
        one, other = (PairedFrames(path, "train", encoder="saccade").read(ALL).image for path in (plain, inverted))
        np.testing.assert_array_equal(-one if more else one[:, :, ::-1], other)


@pytest.mark.parametrize("bake", ["gradient", "saccade"])
def test_baked_frames_are_those_of_the_encoder_but_for_their_rounding(nmnist_root, tmp_path, bake):
    path = build("nmnist", nmnist_root, tmp_path / "baked.h5", bake=bake)
    for scale in ("raw", "log1p", "max"):
        drawn, stored = (
            PairedFrames(path, "train", pairing="twin", encoder=encoder, scale=scale).read(ALL).image
            for encoder in (bake, "baked")
        )
        assert stored.dtype == np.float32
        assert correlation(drawn, stored).min() > 0.999
        assert stored.mean() == pytest.approx(drawn.mean(), rel=0.01)
        assert ((stored == 0) == (drawn < 2 * drawn[drawn > 0].min())).mean() > 0.9


def test_stored_bytes_are_roots_of_changes():
    changes = stored_changes()[stored_response()]
    true = unit_response(2)
    assert stored_changes()[0] == 0
    assert stored_changes()[-1] == true[-1] == 8
    # Half a byte, on the scale of the root.
    np.testing.assert_allclose(np.sqrt(changes / 8), np.sqrt(true / 8), atol=0.501 / 255)


def test_what_cannot_be_baked_is_one_clear_line(nmnist_root, tmp_path, monkeypatch):
    text = "bake: found 'saccade' with representation 'voxel', whose frames are signed and take no bytes"
    with pytest.raises(SpecError, match=text):
        build("nmnist", nmnist_root, tmp_path / "voxel.h5", bake="saccade", representation="voxel")
    monkeypatch.setattr("tmkt_data.datasets.cameras.camera_of", lambda _: None)
    with pytest.raises(SpecError, match="found 'saccade' for nmnist, whose camera path is unknown"):
        build("nmnist", nmnist_root, tmp_path / "unknown.h5", bake="saccade")


def test_other_sizes_and_bins_are_served(digits_cache):
    for encoder in IMITATORS:
        image = PairedFrames(digits_cache, "train", encoder=encoder).read(ALL).image
        assert image.shape == (20, 5, 2, 17, 17)
        assert image.any()


def test_a_dataset_of_unknown_motion_is_refused_only_where_its_path_is_needed(nmnist_cache, monkeypatch):
    monkeypatch.setattr("tmkt_data.datasets.cameras.camera_of", lambda _: None)
    text = "found 'saccade' for nmnist, whose camera path is unknown; use 'microsaccade'"
    with pytest.raises(SpecError, match=text):
        PairedFrames(nmnist_cache, encoder="saccade")
    assert PairedFrames(nmnist_cache, encoder="saccade", pairing="none").read(ALL).image.max() == 0
    assert PairedFrames(nmnist_cache, encoder="microsaccade").read(ALL).image.any()


def test_recordings_that_were_turned_do_not_fit_the_path(nmnist_root, tmp_path):
    path = build("nmnist", nmnist_root, tmp_path / "turned.h5", orientation="flip-x")
    with pytest.raises(SpecError, match="found 'saccade' with orientation 'flip-x', expected 'as-is'"):
        PairedFrames(path, encoder="saccade")


@pytest.mark.real_data
def test_saccades_agree_with_real_recordings_of_digits(real_data, tmp_path):
    cache = Cache(build("nmnist", real_data / "nmnist", tmp_path / "nmnist.h5"))
    rows = np.linspace(0, len(cache.event_ids) - 1, 120).astype(np.int64)
    twins = cache.tables["events/twin"][rows]
    events = scale_events(cache.event_frames(rows), "log1p")
    found = {}
    for encoder in ("repeat", "gradient", "saccade"):
        side = ImageSide(cache, encoder, "log1p", GainRows(rows, twins))
        found[encoder] = correlation(side.frames(twins, keys_of(120)), events).mean()
    assert found == pytest.approx({"repeat": 0.314, "gradient": 0.378, "saccade": 0.798}, abs=0.005)


@pytest.mark.real_data
@pytest.mark.parametrize(("canvas", "expected"), [("tight", 0.438), ("fixed", 0.588)])
def test_saccades_agree_with_the_real_photograph(real_data, tmp_path, canvas, expected):
    root = tmp_path / "both"
    root.mkdir()
    for name in ("ncaltech101", "caltech101"):
        (root / name).symlink_to(real_data / name)
    cache = Cache(build("ncaltech101", root, tmp_path / "face.h5", canvas=canvas, size=48))
    images = np.arange(len(cache.image_ids))
    events = scale_events(cache.event_frames([0]), "log1p")
    twin = int(cache.tables["events/twin"][0])
    side = ImageSide(cache, "saccade", "log1p", GainRows(np.zeros(1, np.int64), np.array([twin])))
    scores = correlation(side.frames(images, keys_of(0)), np.broadcast_to(events, (len(images), *events.shape[1:])))
    assert scores[twin] == pytest.approx(expected, abs=0.005)
    assert np.argmax(scores) == twin


def test_a_threshold_sets_the_mean_of_drawn_gradients(nmnist_cache):
    graded = PairedFrames(nmnist_cache, encoder="gradient")
    camera = camera_of("nmnist")._replace(threshold=0.3)
    found = PairedFrames(nmnist_cache, encoder="gradient-poisson", camera=camera).read(ALL).image
    expected = graded.read(ALL).image.mean(dtype=np.float64) / graded.image_side.gain / 0.3
    assert found.mean(dtype=np.float64) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("encoder", [encoder for encoder in IMITATORS if encoder != "gradient-poisson"])
def test_a_threshold_makes_whole_counts_that_fall_as_it_rises(nmnist_cache, encoder):
    graded = PairedFrames(nmnist_cache, encoder=encoder)
    changes = graded.read(ALL).image.astype(np.float64) / graded.image_side.gain
    rates = []
    for threshold in (0.1, 0.2, 0.4, 0.8):
        camera = camera_of("nmnist")._replace(threshold=threshold)
        found = PairedFrames(nmnist_cache, encoder=encoder, camera=camera).read(ALL).image
        # One step of a change at the edge of a count, as changes were rounded twice.
        off = np.abs(found - np.trunc(changes / threshold))
        near = np.abs(changes / threshold - np.round(changes / threshold)) < 1e-4
        assert not off[~near].any()
        np.testing.assert_array_equal(found, np.trunc(found))
        rates.append(float(found.mean()))
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > rates[1] > rates[-1]


def test_a_threshold_that_is_not_above_zero_is_refused(nmnist_cache):
    with pytest.raises(SpecError, match="camera: found threshold 0, expected a change of log intensity from"):
        PairedFrames(nmnist_cache, encoder="gradient", camera=camera_of("nmnist")._replace(threshold=0))


class TestBackground:
    """Background activity of the camera: Poisson counts on top of what the image changes."""

    @staticmethod
    def frames(cache, rate, encoder="saccade", threshold=None, seed=0):
        camera = camera_of("nmnist")._replace(background_rate=rate, threshold=threshold)
        return PairedFrames(cache, "train", pairing="twin", encoder=encoder, camera=camera, seed=seed)

    @pytest.mark.parametrize("threshold", [None, 0.2])
    @pytest.mark.parametrize("rate", [0.002, 0.05, 1.0])
    def test_what_it_adds_has_the_statistics_of_poisson_counts_of_its_rate(self, nmnist_cache, rate, threshold):
        clean, noisy = (self.frames(nmnist_cache, r, threshold=threshold) for r in (0.0, rate))
        added = noisy.read(ALL).image.astype(np.float64) - clean.read(ALL).image
        n = added.size
        np.testing.assert_allclose(added, np.round(added), atol=1e-5)
        assert added.min() > -1e-5
        assert added.mean() == pytest.approx(rate, abs=4 * np.sqrt(rate / n) + 1e-3 * rate)
        assert added.var() == pytest.approx(rate, abs=4 * np.sqrt((rate + 2 * rate**2) / n) + 2e-3 * rate)
        # Every bin and channel alike, outside the image too.
        of_planes = added.mean(axis=(0, 3, 4))
        assert np.abs(of_planes - rate).max() < 4.5 * np.sqrt(rate / (n / of_planes.size)) + 1e-3 * rate
        assert added[..., 0].any() or rate < 0.01

    @pytest.mark.parametrize("encoder", ["saccade", "microsaccade"])
    def test_it_is_a_function_of_seed_epoch_and_sample(self, nmnist_cache, encoder):
        frames = self.frames(nmnist_cache, 0.1, encoder)
        image = frames.read(ALL).image
        np.testing.assert_array_equal(frames.read(ALL[::-1]).image[::-1], image)
        np.testing.assert_array_equal(self.frames(nmnist_cache, 0.1, encoder).read([3]).image[0], image[3])
        assert (frames.read(ALL, np.ones(20, np.int64)).image != image).any()
        assert (self.frames(nmnist_cache, 0.1, encoder, seed=5).read(ALL).image != image).any()
        frames.set_epoch(1)
        assert (frames.read(ALL).image != image).any()
        assert frames.image_side.is_drawn

    def test_one_channel_has_as_much_of_either_sign(self, nmnist_root, tmp_path):
        path = build("nmnist", nmnist_root, tmp_path / "voxels.h5", representation="voxel")
        clean, noisy = (self.frames(path, rate, threshold=0.2).read(ALL).image for rate in (0.0, 0.1))
        added = (noisy - clean).astype(np.float64)
        n = added.size
        assert added.mean() == pytest.approx(0, abs=4 * np.sqrt(0.2 / n))
        assert added.var() == pytest.approx(0.2, rel=0.05)

    def test_without_it_nothing_is_drawn(self, nmnist_cache):
        frames = self.frames(nmnist_cache, 0.0)
        assert not frames.image_side.is_drawn
        np.testing.assert_array_equal(frames.read(ALL).image, PairedFrames(
            nmnist_cache, "train", pairing="twin", encoder="saccade").read(ALL).image)  # fmt: skip

    @pytest.mark.parametrize("rate", [-0.1, 1e-6, 11, float("nan"), True])
    def test_a_rate_out_of_range_is_one_clear_line(self, nmnist_cache, rate):
        with pytest.raises(SpecError, match=r"camera: found background_rate .*, expected 0 or mean events of a"):
            self.frames(nmnist_cache, rate)
