"""What users of other libraries reach for: names, slices, transforms, layouts, and how it looks in a notebook."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, default_collate

from tmkt_data import PairedFrames
from tmkt_data.errors import SpecError


@pytest.fixture(scope="module")
def frames(nmnist_cache):
    return PairedFrames(nmnist_cache, "train", encoder="poisson", seed=2)


def equal(samples, expected):
    assert len(samples) == len(expected)
    for one, other in zip(samples, expected, strict=True):
        assert one[2:] == other[2:]
        for side in (0, 1):
            np.testing.assert_array_equal(one[side], other[side])


def test_names_of_torchvision_and_tonic(frames):
    assert frames.classes == [str(digit) for digit in range(10)]
    assert frames.targets.tolist() == [frames[at].label for at in range(len(frames))]
    assert frames.sensor_size == (34, 34, 2)


@pytest.mark.parametrize("part", [slice(2, 5), slice(None, None, -7), slice(-3, None), slice(4, 4)])
def test_a_slice_is_its_samples(frames, part):
    equal(frames[part], [frames[at] for at in range(len(frames))[part]])


def test_items_are_read_together_and_are_those_of_single_reads(frames):
    asked = [3, (3, 1), -1, 0]
    equal(frames.__getitems__(asked), [frames[at] for at in asked])
    assert frames.__getitems__([]) == []
    with pytest.raises(IndexError, match="index 10000, expected"):
        frames.__getitems__([0, 10_000])


def test_a_loader_reads_a_batch_at_once(frames, monkeypatch):
    calls = []
    whole = PairedFrames._read
    monkeypatch.setattr(PairedFrames, "_read", lambda self, at, *rest: calls.append(len(at)) or whole(self, at, *rest))
    batches = list(DataLoader(frames, batch_size=16))
    assert calls == [len(batch.label) for batch in batches]
    one = default_collate([frames[at] for at in range(16)])
    assert (batches[0].image == one.image).all()
    assert batches[0].label.tolist() == one.label.tolist()


@pytest.mark.parametrize("encoder", ["repeat", "poisson", "gradient"])
@pytest.mark.parametrize("time_first", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("writable", [False, True])
def test_layouts_hold_the_same_numbers(nmnist_cache, encoder, time_first, dtype, writable):
    frames = PairedFrames(nmnist_cache, "train", encoder=encoder)
    plain = frames.read([4, 0, 4])
    batch = frames.read([4, 0, 4], time_first=time_first, dtype=dtype, writable=writable)
    for one, other in ((batch.image, plain.image), (batch.events, plain.events)):
        assert one.dtype == dtype
        np.testing.assert_array_equal(one.swapaxes(0, 1) if time_first else one, other.astype(dtype))
        if writable:
            assert one.flags.writeable
            assert one.flags.c_contiguous
            assert one.flags.owndata or one.base.flags.owndata
    if writable:
        batch.image[:] = -1
        np.testing.assert_array_equal(frames.read([4]).image, plain.image[:1])


def test_a_type_that_cannot_hold_counts_is_refused(frames):
    with pytest.raises(SpecError, match=r"^dtype: found uint8, expected float16, float32 or float64; counts do not"):
        frames.read([0], dtype=np.uint8)


def test_samples_own_their_frames(nmnist_cache):
    for encoder in ("repeat", "poisson", "gradient", "saccade"):
        frames = PairedFrames(nmnist_cache, "train", encoder=encoder)
        one, other = frames.__getitems__([0, 0])
        before = other.image.copy()
        one.image[:] = 7
        one.events[:] = 7
        np.testing.assert_array_equal(other.image, before)
        np.testing.assert_array_equal(frames[0].image, before)


def test_one_vocabulary(frames):
    sample, batch = frames[3], frames.read([3])
    assert sample._fields == batch._fields
    assert (batch.labels, batch.indices, batch.image_indices) == (batch.label, batch.position, batch.image_index)
    equal(batch.samples(), [sample])


def test_transforms(nmnist_cache):
    plain = PairedFrames(nmnist_cache, "train")
    seen = []

    def crop(image, events):
        seen.append(1)
        return image[..., 2:6], events[..., 2:6]

    frames = PairedFrames(nmnist_cache, "train", transform=lambda f: f + 1, target_transform=str, transforms=crop)
    sample = frames[5]
    np.testing.assert_array_equal(sample.image, plain[5].image[..., 2:6] + 1)
    np.testing.assert_array_equal(sample.events, plain[5].events[..., 2:6] + 1)
    assert sample.label == str(plain[5].label)
    assert [one.label for one in frames[:3]] == [str(one.label) for one in plain[:3]]
    assert len(seen) == 4
    np.testing.assert_array_equal(frames.read([5]).events, plain.read([5]).events)


def test_keep_classes(nmnist_cache):
    frames = PairedFrames(nmnist_cache, "train", keep_classes=[0, 2])
    assert set(frames.targets.tolist()) == {0, 2}
    assert len(frames.classes) == 10


def test_it_says_what_it_is(frames, nmnist_cache):
    assert repr(frames) == (
        f"PairedFrames('{nmnist_cache.name}', 'train', pairing='same-class', encoder='poisson', "
        f"{len(frames.pools.rows)} images: {len(frames)} recordings, 10 classes, frames [10, 2, 34, 34], epoch 0)"
    )
    alone = PairedFrames(nmnist_cache, "test", pairing="none")
    assert "encoder" not in repr(alone)


@pytest.mark.parametrize(
    ("pairing", "encoder"), [("same-class", "repeat"), ("twin", "saccade"), ("none", "repeat"), ("twin", "poisson")]
)
def test_a_notebook_shows_the_first_pairs(nmnist_cache, pairing, encoder):
    frames = PairedFrames(nmnist_cache, "train", pairing=pairing, encoder=encoder)
    page = frames._repr_html_()
    pictures = re.findall(r'<img alt="(\w+), 10 time steps" src="data:image/png;base64,([^"]+)">', page)
    assert [name for name, _ in pictures] == ["image", "events"] * 3
    for _, data in pictures:
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            assert picture.size == (10 * (2 * 34 + 2), 2 * 34)
            assert (np.asarray(picture).std() > 5) or pairing == "none"
    assert page.count("<tr>") == 3
    assert "&lt;" not in page
