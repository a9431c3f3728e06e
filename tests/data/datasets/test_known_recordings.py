"""Recordings of known images from datasets of several kinds."""

from __future__ import annotations

import numpy as np
import pytest
import trees
from PIL import Image

from tmkt_data.datasets.known_recordings import read_known
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import Events, SensorSize
from tmkt_data.events.formats.atis import read_atis, write_atis


def test_nmnist_lies_at_the_center_of_its_sensor(tmp_path):
    root = trees.write_nmnist(tmp_path, per_digit=3, test_per_digit=1, digits=2)
    known = read_known(root)
    assert known.dataset == "nmnist"
    assert known.sensor_size == (34, 34)
    assert (len(known.fitted), len(known.held_out)) == (4, 4)
    assert not {one.id for one in known.fitted} & {one.id for one in known.held_out}
    one = known.fitted[0]
    digit, part = one.id.split("/")
    name = f"{digit}/{part.removeprefix('train-').removeprefix('test-')}"
    side = "Train" if "train" in part else "Test"
    (recording,) = root.rglob(f"*/{side}/{name}.bin")
    (picture,) = root.rglob(f"*/{side}/{name}.png")
    pixels = np.asarray(Image.open(picture))
    assert (one.light[3:31, 3:31] == pixels).all()
    assert (one.light[:3, 3:31] == pixels[0]).all()
    events = read_atis(recording)
    assert one.events.t[0] == 0
    assert (one.events.t == events.t - events.t[0]).all()


def test_few_are_evenly_spaced(tmp_path):
    root = trees.write_nmnist(tmp_path, per_digit=6, test_per_digit=0, digits=2)
    known = read_known(root, 3)
    assert [one.id[0] for one in (known.fitted[0], known.held_out[0], known.fitted[1])] == ["0", "0", "1"] or len(
        known.fitted + known.held_out
    ) == 3
    assert len(read_known(root, 1).held_out) == 0


def test_folder_without_recordings_of_images_is_refused(tmp_path):
    with pytest.raises(CatalogueError, match="no such folder"):
        read_known(tmp_path / "none")
    (tmp_path / "images" / "cat").mkdir(parents=True)
    with pytest.raises(CatalogueError, match="no recordings with their images, expected a folder as for prepare"):
        read_known(tmp_path)


def test_cropped_recordings_see_the_middle_of_their_image(tmp_path):
    root = trees.write_ncaltech(tmp_path, {"ant": 2, "bee": 2})
    picture = np.zeros((182, 242, 3), np.uint8)
    picture[5:, 4:] = 90
    picture[5, 4] = 200
    for path in root.glob("101_ObjectCategories/*/*.jpg"):
        Image.fromarray(picture).save(path, "PNG")
    one = read_known(root).fitted[0]
    assert one.window == (4, 5, (234, 172))
    assert one.light.shape == (185, 244)
    seen = one.light[5:, 4:]
    assert (seen[0, 0], seen[1, 1], one.light[0, 0]) == (200, 90, 0)


def test_hot_pixels_are_left_out_and_counted(tmp_path):
    root = trees.write_nmnist(tmp_path, per_digit=2, test_per_digit=0, digits=2)
    before = read_known(root)
    path = sorted(root.rglob("*.bin"))[0]
    events = read_atis(path)
    hot = np.full(500, 7, np.uint16)
    t = np.sort(np.concatenate([events.t, np.linspace(events.t[0], events.t[-1], 500).astype(np.int64)]))
    x, y = np.concatenate([events.x, hot]), np.concatenate([events.y, hot])
    write_atis(path, Events(t, x, y, np.concatenate([events.p, hot > 0]), SensorSize(34, 34), len(t)))
    after = read_known(root)
    assert after.num_hot >= before.num_hot + 500
    assert len(after.fitted[0].events) <= len(events)
