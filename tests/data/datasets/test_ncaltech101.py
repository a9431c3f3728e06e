from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tmkt_data.datasets.ncaltech101 import NUM_RECORDINGS
from tmkt_data.events.formats.atis import read_atis

TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_ncaltech_tree.py"
SPEC = importlib.util.spec_from_file_location("make_ncaltech_tree", TOOL)
make_ncaltech_tree = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_ncaltech_tree)


def digest(root: Path) -> dict[str, int]:
    return {path.relative_to(root).as_posix(): hash(path.read_bytes()) for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    make_ncaltech_tree.make_tree(root, per_class=2, num_events=2_000)
    return root


def test_full_counts():
    assert len(NUM_RECORDINGS) == 101
    assert sum(NUM_RECORDINGS.values()) == 8709
    assert sum(make_ncaltech_tree.NUM_IMAGES.values()) == 9144
    gray = {
        name: sum(make_ncaltech_tree.is_gray(name, number) for number in range(1, count + 1))
        for name, count in make_ncaltech_tree.NUM_IMAGES.items()
    }
    assert {name: number for name, number in gray.items() if number} == make_ncaltech_tree.GRAY


def test_layout(tree):
    assert len(list(tree.glob("Caltech101/*/image_*.bin"))) == 2 * 101
    assert len(list(tree.glob("101_ObjectCategories/*/image_*.jpg"))) == 2 * 102
    assert not (tree / "Caltech101/Faces").exists()
    assert (tree / "101_ObjectCategories/BACKGROUND_Google/tmp").is_file()


def test_images(tree):
    with Image.open(tree / "101_ObjectCategories/car_side/image_0001.jpg") as picture:
        assert (picture.mode, picture.format) == ("L", "JPEG")
    with Image.open(tree / "101_ObjectCategories/BACKGROUND_Google/image_0002.jpg") as picture:
        assert picture.size == (2799, 3999)
    with Image.open(tree / "101_ObjectCategories/airplanes/image_0001.jpg") as picture:
        assert picture.mode == "RGB"
    with Image.open(tree / "101_ObjectCategories/BACKGROUND_Google/tmp") as picture:
        assert picture.size == (184, 140)


def test_recordings_read_back(tree):
    for path in tree.glob("Caltech101/*/*.bin"):
        events = read_atis(path)
        left, top, right, bottom = events.extent
        assert 300 < len(events) < 9_000
        assert left <= 12
        assert top <= 12
        assert right <= 232
        assert bottom <= 172
        assert events.t[-1] < 300_000
        assert events.num_inversions == 0
        with Image.open(tree / "101_ObjectCategories" / path.parent.name / f"{path.stem}.jpg") as picture:
            aspect = picture.width / picture.height
        if path.parent.name != "BACKGROUND_Google":
            assert (right - 5) / (bottom - 5) == pytest.approx(aspect, rel=0.15)


def test_content_depends_on_class_and_number(tree):
    def small(name: str, number: int) -> np.ndarray:
        with Image.open(tree / f"101_ObjectCategories/{name}/image_{number:04d}.jpg") as picture:
            return np.asarray(picture.convert("L").resize((32, 32)), float)

    assert np.abs(small("watch", 1) - small("watch", 2)).mean() > 5
    assert np.abs(small("watch", 1) - small("airplanes", 1)).mean() > 5


def test_same_seed_same_bytes_other_seed_others(tree, tmp_path):
    def write(name: str, seed: int) -> dict[str, int]:
        make_ncaltech_tree.write_class(tmp_path / name, "watch", per_class=2, num_events=2_000, seed=seed)
        return digest(tmp_path / name)

    same, other = write("same", 0), write("other", 1)
    whole = digest(tree)
    assert all(whole[name] == content for name, content in same.items())
    assert len(same) == 4
    assert all(whole[name] != content for name, content in other.items())


def test_runs_as_a_script(tmp_path):
    command = [sys.executable, str(TOOL), str(tmp_path), "--per-class", "1", "--events-per-recording", "200"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TOOL.parents[2])
    assert done.stdout == f"{tmp_path}: 101 recordings\n"
    assert len(list(tmp_path.glob("Caltech101/*/image_0001.bin"))) == 101
