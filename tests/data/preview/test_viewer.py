from __future__ import annotations

import base64
import json
import re
import zlib
from typing import get_args

import numpy as np
import pytest
from viewer_caches import STEPS, write_folder_cache, write_nmnist_caches

from tmkt_data.errors import SpecError
from tmkt_data.pairs.paired_frames import PairedFrames
from tmkt_data.preview import viewer
from tmkt_data.preview.colors import GROUND, OFF, ON, event_colors, gray_colors
from tmkt_data.preview.viewer import viewer_page, write_viewer
from tmkt_data.spec import Encoder

PLACE = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    return write_nmnist_caches(tmp_path_factory.mktemp("viewer"))


def told(page):
    (text,) = PLACE.findall(page)
    return json.loads(text)


def unpacked(text, height=34, width=34):
    levels = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return levels.reshape(-1, height, width)


@pytest.mark.parametrize("name", ["counts", "voxels", "baked"])
def test_every_side_of_every_pair_is_in_it(caches, name):
    frames = PairedFrames(caches[name], seed=3)
    content = told(viewer_page(frames, num_samples=3))
    encoders = [one["name"] for one in content["encoders"]]
    assert ("baked" in encoders) == (name == "baked")
    assert encoders == [name for name in get_args(Encoder) if name != "baked" or frames.cache.has_spikes]
    assert len(content["pairs"]) == 3
    for pair in content["pairs"]:
        position = frames.ids.index(pair["id"])
        batch = frames.read([position])
        assert pair["class"] == frames.class_names[int(batch.labels[0])]
        assert list(pair["images"]) == encoders
        assert unpacked(pair["events"]).shape == (2 * STEPS, 34, 34)
        off, on = unpacked(pair["events"])[:2].astype(float) / 255
        both = np.minimum(on, off)[..., None]
        colors = (
            (1 - np.maximum(on, off))[..., None] * GROUND + (on[..., None] - both) * ON + (off[..., None] - both) * OFF
        )
        colors += both * viewer.LIGHT["both"]
        assert np.abs(colors - event_colors(batch.events[0])[0]).max() <= 1.5
        gray = gray_colors(batch.image[0].mean(axis=1))[0, ..., 0]
        np.testing.assert_array_equal(unpacked(pair["images"]["repeat"]), gray[None])
        drawn = PairedFrames(caches[name], seed=3, encoder="poisson").read([position])
        expected = gray_colors(drawn.image[0].mean(axis=1))[..., 0]
        np.testing.assert_array_equal(unpacked(pair["images"]["poisson"]), expected)


def test_it_is_whole_and_the_same_again(caches, tmp_path):
    frames = PairedFrames(caches["counts"])
    size = write_viewer(tmp_path / "a.html", frames, num_samples=24)
    assert write_viewer(tmp_path / "b.html", frames, num_samples=24) == size == (tmp_path / "a.html").stat().st_size
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text()
    assert size < 1_000_000
    rest = PLACE.sub("", page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link[^>]*href=\"(?!data:)|<(?:script|img)[^>]* src", rest)


def test_no_name_ends_its_script(tmp_path):
    cache, name = write_folder_cache(tmp_path)
    page = viewer_page(PairedFrames(cache, pairing="none"), num_samples=50)
    assert page.count("</script>") == 2
    assert "<!--" not in page
    content = told(page)
    assert any(name in pair["id"] for pair in content["pairs"])
    assert content["encoders"] == []
    assert all(pair["images"] == {} for pair in content["pairs"])


def test_a_page_too_large_is_refused(caches, monkeypatch):
    frames = PairedFrames(caches["counts"])
    first = told(viewer_page(frames, num_samples=4))["pairs"][0]
    one = len(first["events"]) + sum(map(len, first["images"].values()))
    monkeypatch.setattr(viewer, "MAX_BYTES", 2.5 * one)
    message = r"viewer: 4 samples of 5 steps and 34 x 34 cells take more than 0 MB; 2 fit, give --samples 2"
    with pytest.raises(SpecError, match=message):
        viewer_page(frames, num_samples=4)
    monkeypatch.setattr(viewer, "MAX_BYTES", 100)
    with pytest.raises(SpecError, match=r"1 sample of 5 steps .* take more .*; prepare fewer or smaller frames"):
        viewer_page(frames, num_samples=1)


def test_it_refuses(caches, tmp_path):
    with pytest.raises(SpecError, match=r"pairs\.png: found suffix '\.png', expected '\.html'"):
        write_viewer(tmp_path / "pairs.png", PairedFrames(caches["counts"]))
    with pytest.raises(SpecError, match="samples of a viewer: found 0, expected 1 or more"):
        viewer_page(PairedFrames(caches["counts"]), num_samples=0)
    assert not list(tmp_path.iterdir())
