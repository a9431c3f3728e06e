from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from altered_caches import write_altered
from PIL import Image

from tmkt_data.cache.reader import read_cache_info
from tmkt_data.datasets.digits_source import write_digits

from ..conftest import build
from .conftest import one_line, run


def test_inspect_says_which_camera_recorded(nmnist_cache, tmp_path):
    assert "recorded by" not in run("inspect", nmnist_cache).stdout
    assert json.loads(run("inspect", nmnist_cache, "--json").stdout)["is_recorded_as_now"]
    list(write_digits(tmp_path / "digits", per_class=3))
    cache = build("digits", tmp_path / "digits", tmp_path / "digits.h5")
    assert re.search(r"recorded by +the simulated camera of the dataset\n", run("inspect", cache).stdout)

    def change_camera(content):
        facts = json.loads(content.header["facts"])
        facts["recorded_with"][0] -= 1
        content.header["facts"] = json.dumps(facts)

    earlier = write_altered(cache, tmp_path / "earlier.h5", change_camera)
    assert re.search(r"recorded by +an earlier simulated camera of the dataset\n", run("inspect", earlier).stdout)
    for path, is_now in ((cache, True), (earlier, False)):
        assert json.loads(run("inspect", path, "--json").stdout)["is_recorded_as_now"] is is_now


def test_inspect_verify_pairs_and_preview(nmnist_cache, tmp_path):
    shown = run("inspect", nmnist_cache).stdout
    info = read_cache_info(nmnist_cache)
    assert info.digest in shown
    assert "twin-disjoint   train" in shown
    assert f"verified, {info.num_bytes:,} bytes" in run("verify", nmnist_cache).stdout
    report = json.loads(run("pairs", nmnist_cache, "--json", "--no-alignment").stdout)
    assert report["label_agreement"] == 1.0
    assert report["num_reachable_heldout"] == 0
    assert [found["encoder"] for found in report["encoders"]["encoders"]][-1] == "microsaccade"
    assert json.loads(run("pairs", nmnist_cache, "--json", "--no-encoders").stdout)["encoders"] is None
    assert "no path found: the best one correlates 0.0" in one_line(run("pairs", nmnist_cache, "--fit-motion"))
    text = run("pairs", nmnist_cache).stdout
    assert "held-out images   0" in text
    assert "gradient-poisson, saccade and microsaccade are a choice of this project (inferred)" in text
    assert "image encoders" not in run("pairs", nmnist_cache, "--no-encoders").stdout
    out = tmp_path / "sheet.png"
    assert f"wrote {out}" in run("preview", nmnist_cache, "--out", out, "--samples", 2).stdout
    with Image.open(out) as sheet:
        assert sheet.width > 400


def test_preview_as_animation_and_page(nmnist_cache, tmp_path):
    animation, page = tmp_path / "pairs.webp", tmp_path / "pairs.html"
    told = run(
        "preview", nmnist_cache, "--animate", animation, "--html", page, "--duration", 120, "--samples", 1
    ).stdout
    assert re.search(rf"^wrote {animation} \(\d+ x \d+, 10 steps of 120 ms, 0\.\d MB\)$", told, re.MULTILINE)
    assert re.search(rf"^wrote {page} \(0\.\d MB\); open it in a browser$", told, re.MULTILINE)
    assert not nmnist_cache.with_suffix(".png").exists()
    assert "<title>nmnist, train</title>" in page.read_text()
    with Image.open(animation) as file:
        assert file.n_frames == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--animate", "pairs.mp4"), "pairs.mp4: found suffix '.mp4', expected '.webp' or '.gif'"),
        (("--animate", "pairs.gif", "--duration", 1), "duration of a step: found 1 ms, expected 20 to 10000"),
        (("--html", "pairs.png"), "pairs.png: found suffix '.png', expected '.html'; a viewer is a page for a browser"),
    ],
    ids=["animation", "duration", "page"],
)
def test_preview_refuses_a_name_before_it_reads(words, message):
    assert one_line(run("preview", "missing.h5", *words), exit_code=2) == f"error: {message}"


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        ("mnist", "nmnist"),
        ("caltech101", "ncaltech101 and caltech101-twins"),
        ("cifar10", "cifar10dvs"),
        ("omniglot", "nomniglot"),
    ],
)
@pytest.mark.parametrize("command", ["prepare", "doctor", "download"])
def test_an_image_side_names_the_sets_that_use_it(command, name, sets):
    line = one_line(run(command, name), exit_code=2)
    assert (
        f"dataset: '{name}' is the image side of {sets}, not a dataset of its own; give its folder or archive" in line
    )
    assert f"tmkt-data prepare {sets.split()[0]} --images DIR" in line


@pytest.mark.parametrize(
    "arguments",
    [
        *(["inspect"], ["verify"], ["preview"], ["pairs"], ["events"]),
        *(["convert"], ["prepare", "digits", "--out"], ["doctor", "digits", "--against"]),
    ],
)
def test_a_folder_in_place_of_a_file_is_one_line(tmp_path, arguments):
    more = ["a.npz"] if arguments == ["convert"] else []
    line = one_line(run(*arguments, tmp_path, *more))
    assert line == f"error: {tmp_path}: a folder, expected a file; name one file in it"


def test_names_with_line_breaks_and_escapes_forge_no_line(root, tmp_path, nmnist_cache):
    name = "a\nerror: forged\x1b[2J\u2028"
    strange = tmp_path / name
    shutil.copytree(root, strange)
    (strange / "N-MNIST/Train/0/00001.bin").write_bytes(b"1")
    out = tmp_path / f"{name}.h5"
    shutil.copy(nmnist_cache, out)
    (tmp_path / f"{name}.bin").write_bytes(b"1")
    for arguments in (
        ("prepare", "nmnist", "--root", tmp_path / "no" / name),
        ("prepare", "nmnist", "--root", strange, "--out", out),
        ("prepare", "nmnist", "--root", strange, "--out", tmp_path / "b" / name, "--skip-bad"),
        ("doctor", "nmnist", "--root", strange),
        ("download", "cepdvs", "--to", strange),
        ("inspect", out),
        ("inspect", tmp_path / f"{name}.bin"),
        ("verify", out),
        ("events", tmp_path / f"{name}.bin"),
        ("convert", out, tmp_path / f"{name}.bin"),
    ):
        result = run(*arguments)
        assert "\x1b" not in result.output, arguments
        assert "\u2028" not in result.output, arguments
        assert not any(line.startswith("error: forged") for line in result.output.splitlines()), arguments
        assert r"a\nerror: forged\x1b[2J\u2028" in result.output, arguments


def test_an_existing_file_is_not_converted_over(tmp_path, root):
    source, target = root / "N-MNIST/Train/0/00001.bin", tmp_path / "a.npz"
    target.write_bytes(b"mine")
    assert one_line(run("convert", source, target)) == (
        f"error: {target}: already exists; give --force to replace it, or another name"
    )
    assert target.read_bytes() == b"mine"
    assert run("convert", source, target, "--force").exit_code == 0
    assert run("events", target).exit_code == 0


def test_usage_mistakes_exit_with_2():
    assert run("prepare").exit_code == 2
    assert run("preprare", "digits").exit_code == 2
    assert run("prepare", "digits", "--time-bins", "ten").exit_code == 2


@pytest.mark.parametrize("command", ["inspect", "verify", "pairs", "preview"])
def test_a_damaged_cache_is_one_line_everywhere(nmnist_cache, tmp_path, command):
    path = tmp_path / "bad.h5"
    path.write_bytes(nmnist_cache.read_bytes()[:-100])
    assert "the file is truncated" in one_line(run(command, path))
    assert "no such file" in one_line(run(command, tmp_path / "none.h5"))
    assert [file.name for file in tmp_path.iterdir()] == ["bad.h5"]


def test_help_is_quick_to_load():
    heavy = "{'numba', 'h5py', 'torch', 'scipy', 'sklearn', 'rich', 'numpy'}"
    code = f"import sys; import tmkt_data.cli.main; print(sorted({heavy} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_tmkt_data_runs_without_torch(nmnist_cache):
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['spikingjelly'] = None\n"
        "from tmkt_data import PairedFrames; frames = PairedFrames(sys.argv[1], encoder='poisson')\n"
        "print(frames[0].image.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(nmnist_cache)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(10, 2, 34, 34)", done.stderr


def test_a_fault_of_ours_is_said_to_be_one(monkeypatch, nmnist_cache):
    monkeypatch.delenv("TMKT_DEBUG", raising=False)
    monkeypatch.setitem(sys.modules, "tmkt_data.pairs.report", None)
    text = one_line(run("pairs", nmnist_cache))
    assert "internal error of tmkt" in text
    assert os.environ.get("TMKT_DEBUG") is None
