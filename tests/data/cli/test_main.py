from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trees
from click.testing import CliRunner, Result
from PIL import Image

from tmkt_data.cache.reader import Cache, read_cache_info
from tmkt_data.cli.main import main


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="tmkt-data")


def one_line(result: Result, exit_code: int = 1) -> str:
    assert result.exit_code == exit_code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.output
    assert "Traceback" not in result.output
    return errors[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return trees.write_nmnist(tmp_path / "root", per_digit=6, test_per_digit=1, digits=3)


def test_prepare_says_what_it_writes_what_came_of_it_and_what_is_next(root, tmp_path):
    out = tmp_path / "a.h5"
    result = run("prepare", "nmnist", "--root", root, "--out", out, "--workers", 2)
    assert result.exit_code == 0
    assert "nmnist: 21 recordings, 21 images, 21 twins, 10 classes" in result.stdout
    assert "note: 18 of 60000 recordings of Train; missing: 00019, 00020, " in result.stdout
    assert f"writing {out}, about 0.5 MB" in result.stdout
    assert f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB, digest {read_cache_info(out).digest[:16]}" in result.stdout
    assert "0 outside the sensor" in result.stdout
    assert f"tmkt-data preview {out}" in result.stdout
    assert f"tmkt-train recipe scnn_nmnist --cache {out}" in result.stdout


def test_the_same_choice_is_prepared_already_and_another_is_not(root, tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    assert run("prepare", "nmnist", "--root", root).exit_code == 0
    (path,) = (tmp_path / "caches").glob("*.h5")
    written = path.stat().st_mtime_ns
    again = run("prepare", "nmnist", "--root", root)
    assert "already prepared" in again.stdout
    assert path.stat().st_mtime_ns == written
    assert run("prepare", "nmnist", "--root", root, "--time-bins", 4).exit_code == 0
    assert len(list((tmp_path / "caches").glob("*.h5"))) == 2
    assert run("prepare", "nmnist", "--root", root, "--force").exit_code == 0
    assert path.stat().st_mtime_ns > written
    assert "prepared: " in run("datasets").stdout


def test_another_cache_is_not_overwritten(root, tmp_path):
    out = tmp_path / "a.h5"
    assert run("prepare", "nmnist", "--root", root, "--out", out).exit_code == 0
    before = out.read_bytes()
    assert "holds another cache" in one_line(run("prepare", "nmnist", "--root", root, "--out", out, "--time-bins", 3))
    assert out.read_bytes() == before


def test_inspect_verify_pairs_and_preview(nmnist_cache, tmp_path):
    shown = run("inspect", nmnist_cache).stdout
    info = read_cache_info(nmnist_cache)
    assert info.digest in shown
    assert "twin-disjoint   train" in shown
    assert f"whole, {info.num_bytes:,} bytes" in run("verify", nmnist_cache).stdout
    report = json.loads(run("pairs", nmnist_cache, "--json", "--no-alignment").stdout)
    assert report["label_agreement"] == 1.0
    assert report["num_reachable_heldout"] == 0
    assert "held-out in reach 0" in run("pairs", nmnist_cache).stdout
    out = tmp_path / "sheet.png"
    assert f"wrote {out}" in run("preview", nmnist_cache, "--out", out, "--samples", 2).stdout
    with Image.open(out) as sheet:
        assert sheet.width > 400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "nmist"], "did you mean 'nmnist'?"),
        (["prepare", "digits", "--size", "2"], "size: found 2, expected a whole number from 4 to 1024"),
        (["prepare", "digits", "--resize", "cubic"], "resize: found 'cubic', expected one of sum, bilinear, area"),
        (["prepare", "digits", "--bin-rule", "even"], "bin_rule: found 'even'"),
        (["prepare", "digits", "--representation", "voxel", "--bin-rule", "tonic"], "leave bin_rule at 'exact'"),
        (["prepare", "digits", "--val-share", "0.6", "--test-share", "0.6"], "leave recordings to train on"),
    ],
)
def test_a_wrong_choice_is_wrong_usage(arguments, message):
    assert message in one_line(run(*arguments), exit_code=2)


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
    assert f"dataset: '{name}' is the image side of {sets}, not a set of its own; give its folder or archive" in line
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
        f"error: {target}: is there already; give --force to replace it, or another name"
    )
    assert target.read_bytes() == b"mine"
    assert run("convert", source, target, "--force").exit_code == 0
    assert run("events", target).exit_code == 0


def test_usage_mistakes_exit_with_2():
    assert run("prepare").exit_code == 2
    assert run("preprare", "digits").exit_code == 2
    assert run("prepare", "digits", "--time-bins", "ten").exit_code == 2


def test_no_data_exits_with_1_and_tells_the_tree(tmp_path):
    result = run("prepare", "ncaltech101", "--root", tmp_path)
    assert one_line(result).startswith("error: ncaltech101: no recordings")
    for text in (str(tmp_path), "ROOT/Caltech101/airplanes/image_0001.bin", "CC BY 4.0", "tmkt-data prepare digits"):
        assert text in result.stderr


def test_unreadable_files_are_listed_and_can_be_left_out(root, tmp_path):
    (root / "N-MNIST/Train/0/00002.bin").write_bytes(b"123")
    (root / "MNIST_png/Train/1/00008.png").write_bytes(b"text, no image")
    out = tmp_path / "a.h5"
    arguments = ("prepare", "nmnist", "--root", root, "--out", out)
    result = run(*arguments)
    assert "2 files cannot be read" in one_line(result)
    assert "0/train-00002: 00002.bin: 3 bytes left after 0 whole events of 5 bytes" in result.stderr
    assert "1/train-00008: 00008.png: no image that Pillow can read (14 bytes)" in result.stderr
    assert not out.exists()
    result = run(*arguments, "--skip-bad")
    assert result.exit_code == 0, result.output
    cache = Cache(out)
    assert "0/train-00002" not in cache.event_ids
    assert "1/train-00008" not in cache.image_ids
    assert "left out: 0/train-00002: 00002.bin: 3 bytes left" in result.stdout
    assert "left out: 1/train-00008" in run("inspect", out).stdout
    assert "already prepared" in run(*arguments, "--skip-bad").stdout
    assert "was prepared without 2 unreadable files" in one_line(run(*arguments))


@pytest.mark.parametrize("content", [b"", b"1234567", b"\x89HDF\r\n\x1a\n.."])
def test_a_bad_recording_is_one_line(root, tmp_path, content):
    (root / "N-MNIST/Train/0/00001.bin").write_bytes(content)
    assert "1 files cannot be read" in one_line(run("prepare", "nmnist", "--root", root, "--out", tmp_path / "a.h5"))


def test_a_recording_outside_the_sensor_is_refused(root, tmp_path):
    (root / "N-MNIST/Train/0/00001.bin").write_bytes(b"\xff\xff\x00\x00\x01" * 9)
    result = run("prepare", "nmnist", "--root", root, "--out", tmp_path / "a.h5")
    assert "9 of 9 events lie outside the 34 x 34 sensor" in result.stderr


def test_a_class_without_images_is_refused_unless_asked_for(root, tmp_path):
    shutil.rmtree(root / "MNIST_png/Train/2")
    shutil.rmtree(root / "MNIST_png/Test/2")
    arguments = ("prepare", "nmnist", "--root", root, "--out", tmp_path / "a.h5")
    assert "1 classes have recordings and no image (2)" in one_line(run(*arguments))
    assert not (tmp_path / "a.h5").exists()
    assert run(*arguments, "--allow-unpaired").exit_code == 0
    assert "no image of that class" in one_line(run("pairs", tmp_path / "a.h5"))


@pytest.mark.parametrize("command", ["inspect", "verify", "pairs", "preview"])
def test_a_damaged_cache_is_one_line_everywhere(nmnist_cache, tmp_path, command):
    path = tmp_path / "bad.h5"
    path.write_bytes(nmnist_cache.read_bytes()[:-100])
    assert "the file is cut" in one_line(run(command, path))
    assert "no such file" in one_line(run(command, tmp_path / "none.h5"))
    assert [file.name for file in tmp_path.iterdir()] == ["bad.h5"]


def test_an_unwritable_place_is_one_line(root, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in one_line(
        run("prepare", "nmnist", "--root", root, "--out", tmp_path / "file" / "a.h5")
    )


def test_the_next_command_fits_what_was_prepared(root, tmp_path):
    out = tmp_path / "with space.h5"
    result = run("prepare", "nmnist", "--root", root, "--out", out, "--time-bins", 4)
    assert f"tmkt-train recipe scnn_nmnist --cache '{out}' --set data.prepare.time_bins=4" in result.stdout


def test_samples_without_twins_are_reported(root, tmp_path):
    (root / "MNIST_png/Train/1/00008.png").unlink()
    (root / "N-MNIST/Train/0/00001.bin").unlink()
    result = run("prepare", "nmnist", "--root", root, "--out", tmp_path / "a.h5")
    assert "note: 1 recordings have no twin, such as 1/train-00008" in result.stdout
    assert "note: 1 images have no twin, such as 0/train-00001" in result.stdout


def test_ctrl_c_keeps_what_is_finished(tmp_path):
    root = trees.write_nmnist(tmp_path / "root", per_digit=60, test_per_digit=0, digits=10)
    out = tmp_path / "a.h5"
    command = [sys.executable, "-m", "tmkt_data", "prepare", "nmnist", "--root", str(root), "--out", str(out),
               "--size", "64", "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    building = tmp_path / "a.h5.building"
    while process.poll() is None and len(list(building.glob("*.npz"))) < 2:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "stopped; what is finished is kept" in errors
    assert "Traceback" not in errors
    assert not out.exists()
    assert list(building.glob("*.npz"))
    again = run(*command[3:])
    assert again.exit_code == 0
    assert not building.exists()


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
    assert "this is a fault of tmkt, not yours" in text
    assert os.environ.get("TMKT_DEBUG") is None
