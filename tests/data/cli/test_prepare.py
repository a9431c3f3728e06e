from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import get_args

import h5py
import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data.cache.reader import Cache, read_cache_info
from tmkt_data.cli.console import dataset_advice
from tmkt_data.spec import DEFAULTS, KINDS, OPTIONS, PrepareSpec

from ..test_spec import OTHER_VALUES
from .conftest import one_line, run


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


def test_no_data_exits_with_1_and_tells_the_tree(tmp_path):
    result = run("prepare", "ncaltech101", "--root", tmp_path)
    assert one_line(result).startswith("error: ncaltech101: no recordings")
    for text in (str(tmp_path), "ROOT/Caltech101/airplanes/image_0001.bin", "CC BY 4.0", "tmkt-data prepare digits"):
        assert text in result.stderr


@pytest.mark.parametrize(
    ("file", "content", "advice"),
    [
        ("x.aedat", b"#!AER-DAT2.0\r\n\0\0\0\1\0\0\0\2", "give chip='DVS128' or another (chip in tmkt.toml)"),
        ("x.h5", None, "give their paths, keys='t=PATH,x=PATH,y=PATH,p=PATH' (keys in tmkt.toml)"),
    ],
)
def test_advice_on_a_folder_names_keys_of_its_settings(tmp_path, file, content, advice):
    own = tmp_path / "own" / "events" / "a" / file
    own.parent.mkdir(parents=True)
    if content is None:
        with h5py.File(own, "w") as other:
            other["other/t"] = [1, 2]
    else:
        own.write_bytes(content)
    (tmp_path / "own" / "images" / "a").mkdir(parents=True)
    trees.random_picture(tmp_path / "own" / "images" / "a" / "x.png", np.random.default_rng(0), 16, 16)
    (tmp_path / "own" / "tmkt.toml").write_text("sensor_size = [128, 128]\n")
    for command in (("prepare", "folder", "--out", tmp_path / "a.h5"), ("doctor", "folder", "--deep")):
        result = run(*command, "--root", tmp_path / "own")
        assert result.exit_code == 1
        assert advice in result.output
        assert not re.search("--(chip|keys)", result.output)


def test_advice_of_readers_is_that_of_the_dataset():
    problem = "01.mat: ts has fractions, expected whole numbers; give their unit, unit='s' or another (--unit s)"
    assert dataset_advice(problem, "cepdvs").endswith("or another (prepare --time-unit s)")
    assert dataset_advice("a.h5: no dataset 'x', expected one; check --keys", "folder").endswith(
        "check keys in tmkt.toml"
    )
    assert dataset_advice("a.bin: 3 bytes left", "folder") == "a.bin: 3 bytes left"
    order = "a.npy: 4 columns without names; give their order, columns='txyp' or the like (--columns txyp)"
    assert dataset_advice(order, "folder").endswith(
        "give their order, columns='txyp' or the like (columns in tmkt.toml)"
    )
    assert dataset_advice(order, "cifar10dvs") == (
        "a.npy: 4 columns without names; no file of cifar10dvs, fetch it again"
    )
    assert dataset_advice("a.h5: no dataset 'x', expected one; check --keys", "cifar10dvs").endswith(
        "check whether the file is of cifar10dvs"
    )


def test_skipped_files_and_doctor_name_options_that_there_are(tmp_path):
    own = tmp_path / "own"
    for name, times in (("a", np.arange(40) / 1e3), ("b", np.arange(40))):
        (own / "events" / "wave").mkdir(parents=True, exist_ok=True)
        np.savez(own / "events" / "wave" / f"{name}.npz", t=times, x=np.zeros(40, int), y=np.zeros(40, int),
                 p=np.arange(40) % 2, **({} if name == "a" else {"sensor_size": np.array([9, 9])}))  # fmt: skip
    trees.random_recording(own / "events" / "wave" / "c.bin", np.random.default_rng(0), 8, 8, 50)
    (own / "tmkt.toml").write_text('sensor_size = [8, 8]\nimages = ""\n')
    out = tmp_path / "a.h5"
    made = run("prepare", "folder", "--root", own, "--out", out, "--allow-unpaired", "--skip-bad")
    assert made.exit_code == 0, made.output
    for result in (made, run("inspect", out)):
        assert "skipped: wave/a: a.npz: t is float64 without a unit; give unit='s' or another (unit in tmkt.toml)" in (
            result.output
        )
        assert "--unit" not in result.output
    found = run("doctor", "folder", "--root", own, "--deep").output
    assert "give prepare --sensor-size 9x9, else leave it out with prepare --skip-bad" in found
    assert not re.search("(?<!prepare )--(sensor-size|skip-bad|unit)", found.partition("next:")[0])


def test_unreadable_files_are_listed_and_can_be_left_out(root, tmp_path):
    (root / "N-MNIST/Train/0/00002.bin").write_bytes(b"123")
    (root / "MNIST_png/Train/1/00008.png").write_bytes(b"text, no image")
    out = tmp_path / "a.h5"
    arguments = ("prepare", "nmnist", "--root", root, "--out", out)
    result = run(*arguments)
    assert "cannot read 2 files" in one_line(result)
    assert "0/train-00002: 00002.bin: 3 bytes left after 0 whole events of 5 bytes" in result.stderr
    assert "1/train-00008: 00008.png: no image that Pillow can read (14 bytes)" in result.stderr
    assert not out.exists()
    result = run(*arguments, "--skip-bad")
    assert result.exit_code == 0, result.output
    cache = Cache(out)
    assert "0/train-00002" not in cache.event_ids
    assert "1/train-00008" not in cache.image_ids
    assert "skipped: 0/train-00002: 00002.bin: 3 bytes left" in result.stdout
    assert "skipped: 1/train-00008" in run("inspect", out).stdout
    assert "already prepared" in run(*arguments, "--skip-bad").stdout
    assert "was prepared without 2 unreadable files" in one_line(run(*arguments))


@pytest.mark.parametrize("content", [b"", b"1234567", b"\x89HDF\r\n\x1a\n.."])
def test_a_bad_recording_is_one_line(root, tmp_path, content):
    (root / "N-MNIST/Train/0/00001.bin").write_bytes(content)
    assert "cannot read 1 file;" in one_line(run("prepare", "nmnist", "--root", root, "--out", tmp_path / "a.h5"))


def test_a_recording_outside_the_sensor_is_refused(root, tmp_path):
    (root / "N-MNIST/Train/0/00001.bin").write_bytes(b"\xff\xff\x00\x00\x01" * 9)
    result = run("prepare", "nmnist", "--root", root, "--out", tmp_path / "a.h5")
    assert "9 of 9 events lie outside the 34 x 34 sensor" in result.stderr


def test_a_class_without_images_is_refused_unless_asked_for(root, tmp_path):
    shutil.rmtree(root / "MNIST_png/Train/2")
    shutil.rmtree(root / "MNIST_png/Test/2")
    arguments = ("prepare", "nmnist", "--root", root, "--out", tmp_path / "a.h5")
    assert "1 class with recordings but no images (2)" in one_line(run(*arguments))
    assert not (tmp_path / "a.h5").exists()
    assert run(*arguments, "--allow-unpaired").exit_code == 0
    assert "no images of that class" in one_line(run("pairs", tmp_path / "a.h5"))


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
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 130, errors
    assert "stopped; finished work is kept" in errors
    assert "Traceback" not in errors
    assert not out.exists()
    assert list(building.glob("*.npz"))
    again = run(*command[3:])
    assert again.exit_code == 0
    assert not building.exists()


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_the_command_line_knows_every_option(name):
    from tmkt_data.cli.main import prepare

    spec = PrepareSpec(**{name: OTHER_VALUES[name]})
    parsed = prepare.make_context("prepare", ["digits", *spec.command_options(PrepareSpec())]).params
    assert parsed[name] == OTHER_VALUES[name]


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_help_says_what_every_option_means_takes_and_does_by_default(name):
    from tmkt_data.cli.main import main

    result = CliRunner().invoke(main, ["prepare", "--help"], terminal_width=80)
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    assert f"--{name.replace('_', '-')} " in text
    assert f" {OPTIONS[name].text} " in text
    if KINDS[name] not in (int, float, tuple[int, int]):
        assert all(choice in text for choice in get_args(KINDS[name]))
    default = OPTIONS[name].absent or DEFAULTS[name]
    after = text.partition(OPTIONS[name].text)[2].partition("[default: ")[2]
    assert re.match(rf"{re.escape(str(default))}( or the dataset's)?(; |\])", after)
    assert all(len(line) <= 80 for line in result.output.splitlines())


def test_a_device_is_not_replaced_and_a_finished_cache_leaves_no_folder_of_its_build(root, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    # A link to the device: where this goes wrong, only the link is lost.
    (tmp_path / "null").symlink_to("/dev/null")
    for out in (tmp_path / "pipe", tmp_path / "null"):
        said = one_line(run("prepare", "nmnist", "--root", root, "--out", out, "--force"))
        assert said == f"error: {out}: a pipe or a device, expected a file; name another"
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "null").is_char_device()
    out = tmp_path / "a.h5"
    assert run("prepare", "nmnist", "--root", root, "--out", out).exit_code == 0
    # As a run leaves it that is killed when the cache has its name.
    (tmp_path / "a.h5.building").mkdir()
    (tmp_path / "a.h5.building" / "lock").touch()
    (tmp_path / "a.h5.building" / "events.rows").touch()
    assert "already prepared" in run("prepare", "nmnist", "--root", root, "--out", out).stdout
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("a.h5")) == ["a.h5"]


def test_shards_are_written_used_as_one_cache_and_made_again_alone(root, tmp_path):
    out, one = tmp_path / "a.h5", tmp_path / "one.h5"
    command = ("prepare", "nmnist", "--root", root, "--out", out)
    assert run("prepare", "nmnist", "--root", root, "--out", one).exit_code == 0
    result = run(*command, "--shards", 3)
    assert result.exit_code == 0
    assert f"wrote {out}: " in result.stdout
    assert f"digest {read_cache_info(one).digest[:16]}" in result.stdout
    for name in ("verify", "preview"):
        assert run(name, out).exit_code == 0
    for name in ("pairs", "inspect"):
        ours, theirs = run(name, out), run(name, one)
        assert (ours.exit_code, ours.exception is None) == (theirs.exit_code, theirs.exception is None)
        lines = {line for line in theirs.stdout.splitlines() if not re.match(" +(file|size) ", line)}
        assert lines <= {line.replace("a.h5", "one.h5") for line in ours.stdout.splitlines()}
    assert "already prepared" in run(*command, "--shards", 3).stdout
    whole, second = out.read_bytes(), out.with_name("a.h5.shards") / "00002-of-00003.h5"
    lost = second.read_bytes()
    second.unlink()
    assert "a.h5: a.h5.shards/00002-of-00003.h5 is missing; restore it, or run the same" in one_line(run("verify", out))
    # The form of a cache that is there is kept where none is asked for.
    again = run(*command)
    assert f"making shard 2 of 3 again: {second} is missing" in again.stdout
    assert (out.read_bytes(), second.read_bytes()) == (whole, lost)
    assert "expected 2 shards; use it as it is" in one_line(run(*command, "--shards", 2))
    assert run(*command, "--force").exit_code == 0
    assert out.read_bytes() == one.read_bytes()


def test_force_leaves_no_shard_of_the_cache_that_it_replaced_and_loses_none_if_it_fails(root, tmp_path):
    out, shards = tmp_path / "a.h5", tmp_path / "a.h5.shards"
    command = ("prepare", "nmnist", "--root", root, "--out", out)
    run(*command, "--shards", 3)
    assert run(*command, "--force", "--shards", 2).exit_code == 0
    assert sorted(path.name for path in shards.iterdir()) == ["00001-of-00002.h5", "00002-of-00002.h5"]
    source = sorted(root.rglob("*.bin"))[0]
    whole = source.read_bytes()
    source.write_bytes(b"123")
    assert "cannot read 1 file" in one_line(run(*command, "--force"))
    assert run("verify", out).exit_code == 0
    source.write_bytes(whole)
    (shards / "00001-of-00002.h5").write_bytes(b"damaged")
    (shards / "notes.txt").write_text("mine")
    result = run(*command, "--force")
    assert result.exit_code == 0
    assert f"replaced, as in use or damaged: 1 shard ({shards / '00001-of-00002.h5'}); remove" in result.stdout
    assert sorted(path.name for path in shards.iterdir()) == ["00001-of-00002.h5", "notes.txt"]
    assert run("verify", out).exit_code == 0


def test_shards_of_a_size_are_written_only_where_one_is_larger(root, tmp_path):
    command = ("prepare", "nmnist", "--root", root)
    assert run(*command, "--out", tmp_path / "one.h5", "--shard-size", "1GB").exit_code == 0
    assert read_cache_info(tmp_path / "one.h5").shards is None
    assert run(*command, "--out", tmp_path / "some.h5", "--shard-size", "0.2MB").exit_code == 0
    assert len(read_cache_info(tmp_path / "some.h5").shards) == 3
    wrong = run(*command, "--shard-size", "many")
    assert "--shard-size: found 'many', expected a size such as 1GB or 500MB" in one_line(wrong, 2)
    both = run(*command, "--shard-size", "1GB", "--shards", 2)
    assert (both.exit_code, "give --shards or --shard-size, not both" in both.stderr) == (2, True)


def test_options_of_readers_say_what_files_of_a_folder_leave_open(tmp_path, root):
    own = tmp_path / "own"
    (own / "events" / "wave").mkdir(parents=True)
    for number in range(4):
        rows = np.stack([np.arange(40) % 8, np.arange(40) % 8, np.arange(40) + number, np.arange(40) % 2], axis=1)
        np.save(own / "events" / "wave" / f"{number}.npy", rows)
    (own / "tmkt.toml").write_text('sensor_size = [8, 8]\nimages = ""\n')
    make = ("folder", "--root", own, "--allow-unpaired", "--out", tmp_path / "a.h5")
    assert run("prepare", *make).exit_code == 1
    assert run("doctor", "folder", "--root", own, "--deep").exit_code == 1
    found = run("doctor", "folder", "--root", own, "--deep", "--columns", "xytp", "--time-unit", "ms")
    assert found.exit_code == 0, found.output
    assert f"tmkt-data prepare folder --root {own} --time-unit ms --columns xytp" in found.output
    made = run("prepare", *make, "--columns", "xytp", "--time-unit", "ms")
    assert made.exit_code == 0, made.output
    assert Cache(tmp_path / "a.h5").tables["events/t_last_us"].tolist() == [39_000, 40_000, 41_000, 42_000]
    refused = run("prepare", "nmnist", "--root", root, "--columns", "xytp")
    assert (refused.exit_code, refused.output) == (
        2,
        "error: --columns: found 'xytp', but the format of nmnist is known; omit --columns\n",
    )
    refused = run("prepare", *make, "--aedat2-layout", "left").output
    assert refused == "error: --aedat2-layout: found 'left', expected one of raw, jaer, cifar10dvs\n"
