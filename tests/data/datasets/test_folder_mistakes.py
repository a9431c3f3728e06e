"""A folder of one's own: all of its mistakes at once, nested class folders, and the name of its cache."""

from __future__ import annotations

import shutil

import pytest
import trees
from click.testing import CliRunner
from pictures import encoded, noise, png_file
from PIL import Image

from tmkt_data import PrepareSpec
from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.folder import open_folder
from tmkt_data.datasets.folder_settings import FolderError, read_settings
from tmkt_data.prepare.plan import plan_prepare

SCENES = {"wave/a": 1, "wave/b": 2, "clap/a": 3, "clap/b": 4}


def write(root, recordings=SCENES, images=SCENES, settings="sensor_size = [40, 30]\n"):
    trees.write_folder(root, recordings, images)
    (root / "tmkt.toml").write_text(settings)
    return root


def prepare(root, *options):
    result = CliRunner().invoke(main, ["prepare", "folder", "--root", str(root), "--size", "16", *options])
    return result.exit_code, result.output


def test_mistakes_of_settings_and_folders_are_told_at_once(tmp_path):
    root = write(
        tmp_path / "own",
        {"wave/a": 1, "clap/a": 2, "Hello/a": 3},
        {"Wave/a": 1, "clap/a": 2, "hello/a": 3},
        "sensor_siz = [40, 30]\nunit = 'msec'\norientation = 'jear'\nstream = -1\n",
    )
    shutil.copy(root / "images/clap/a.png", root / "images/clap/a.jpg")
    code, out = prepare(root)
    assert code == 1
    known = "sensor_size, events, images, twins, columns, unit, orientation, chip, keys, stream"
    assert out.splitlines() == [
        f"error: tmkt.toml: unknown 'sensor_siz', expected {known}; did you mean 'sensor_size'?",
        "tmkt.toml: sensor_size: found None, expected width and height such as [240, 180], 1 to 65536 each",
        "tmkt.toml: unit: found 'msec', expected one of s, ms, us, ns; did you mean 'ms'?",
        "tmkt.toml: orientation: found 'jear', expected one of raw, jaer, cifar10dvs; did you mean 'jaer'?",
        "tmkt.toml: stream: found -1, expected the number of an event stream, 0 or more",
        f"{root}/images/clap: two files with the stem 'a', expected one; rename or remove one of them",
        f"{root}: class folders 'Hello' and 'hello' differ only in case; rename one of them as the other",
        f"{root}: class folders 'wave' and 'Wave' differ only in case; rename one of them as the other",
    ]


def test_both_folders_that_the_settings_state_wrongly_are_named(tmp_path):
    root = write(tmp_path / "own", settings="sensor_size = [40, 30]\nevents = 'ev'\nimages = 'im'\nunit = 3\n")
    with pytest.raises(FolderError) as found:
        open_folder(root)
    assert [line.split(": found")[0].split("tmkt.toml: ")[1] for line in found.value.problems] == [
        "unit", "events", "images"
    ]  # fmt: skip


def test_settings_take_the_words_of_the_command_line(tmp_path):
    path = tmp_path / "tmkt.toml"
    path.write_text("sensor_size = [40, 30]\ntime_unit = 'ms'\naedat2_layout = 'jaer'\n")
    assert (read_settings(path).unit, read_settings(path).orientation) == ("ms", "jaer")
    path.write_text("sensor_size = [40, 30]\ntime_unit = 'minutes'\n")
    with pytest.raises(FolderError, match="toml: unit: found 'minutes', expected one of s, ms, us, ns"):
        read_settings(path)
    path.write_text("sensor_size = [40, 30]\ntime_unit = 'ms'\nunit = 'ms'\n")
    with pytest.raises(
        FolderError, match="toml: time_unit: found beside unit, which is another name of it; remove one"
    ):
        read_settings(path)


def test_class_folders_one_folder_deeper_are_explained(tmp_path):
    nested = {f"{part}/{name}": number for part in ("test", "train") for name, number in SCENES.items()}
    root = write(tmp_path / "own", nested, nested)
    code, out = prepare(root)
    assert code == 1
    assert out.splitlines()[0] == (
        f"error: {root}/events: found class folders within test, train, expected recordings in class folders directly "
        'below; move the class folders up, or choose with events = "events/test" in tmkt.toml'
    )
    assert out.splitlines()[1].startswith(f"{root}/images: found class folders within test, train, expected images in")
    for side in ("events", "images"):
        shutil.rmtree(root / side / "test")
    code, out = prepare(root)
    assert out.startswith(
        f"error: {root}/events: found class folders within train, expected recordings in class folders"
    )
    (root / "tmkt.toml").write_text('sensor_size = [40, 30]\nevents = "events/train"\n')
    code, out = prepare(root, "--out", str(tmp_path / "a.h5"))
    assert (code, "images/train" in out) == (0, True)


def test_files_within_folders_of_a_class_are_named(tmp_path):
    root = write(tmp_path / "own", SCENES | {"wave/day 2/c": 5, "wave/day 2/d": 6}, SCENES)
    listed, explained = open_folder(root).notes
    assert listed == "recordings: left out: wave/day 2"
    assert explained == (
        "recordings: 2 files in folders within class folders left out, such as wave/day 2/c.bin; only files directly "
        "in a class folder are of the class, move them up"
    )


def test_classes_of_one_side_that_look_alike_are_named(tmp_path):
    root = write(tmp_path / "own", {"wave/a": 1, "Wave/b": 2}, {}, 'sensor_size = [40, 30]\nimages = ""\n')
    assert open_folder(root).notes == ("folders 'Wave' and 'wave' differ only in case; they are two classes",)


def test_a_class_without_images_is_asked_about(tmp_path):
    root = write(tmp_path / "own", SCENES, {"waves/a": 1, "clap/a": 3, "clap/b": 4})
    code, out = prepare(root)
    assert (code, out.splitlines()[-1].endswith("; are images of 'wave' those in 'waves'?")) == (1, True)


def test_two_folders_with_equal_names_have_caches_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    first, second = write(tmp_path / "monday" / "my data"), write(tmp_path / "tuesday" / "my data")
    shutil.copy(second / "events/wave/b.bin", second / "events/wave/a.bin")
    names = []
    for root in (first, second):
        assert prepare(root, "--duplicates", "keep")[0] == 0
        names.append(sorted(path.name for path in (tmp_path / "caches").glob("*.h5")))
    assert len(names[0]) == 1
    assert set(names[0]) < set(names[1])
    assert names[0][0].startswith("folder-my-data-")
    assert "already prepared" in prepare(first, "--duplicates", "keep")[1]
    (tmp_path / "link").symlink_to(first)
    assert "already prepared" in prepare(tmp_path / "link", "--duplicates", "keep")[1]


def test_a_cache_of_before_is_still_the_one_of_its_folder_only(tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    root, other = write(tmp_path / "own"), write(tmp_path / "other")
    shutil.copy(other / "events/wave/b.bin", other / "events/wave/a.bin")
    # Before, names of caches said nothing of the folder.
    plan = plan_prepare(open_folder(root), PrepareSpec(size=16))
    earlier = plan.path.with_name(plan.path.name.replace(f"-{plan.catalogue.own_name}", ""))
    assert prepare(root, "--out", str(earlier))[0] == 0
    assert f"already prepared: {earlier}" in prepare(root)[1]
    assert prepare(other, "--duplicates", "keep")[0] == 0
    assert len(list((tmp_path / "caches").glob("*.h5"))) == 2


def test_images_that_cannot_be_read_are_told_at_once_and_unusual_ones_are_read(tmp_path):
    root = write(tmp_path / "own")
    folder, plain = root / "images" / "wave", Image.fromarray(noise(30, 40))
    bad = {
        "empty.png": (b"", "no image that Pillow can read (0 bytes); fetch it again"),
        "text.png": (b"hello", "no image that Pillow can read (5 bytes); fetch it again"),
        "cut.png": (encoded(plain, "PNG")[:900], "damaged image (image file is truncated); fetch it again"),
        "half.jpg": (encoded(plain)[:500], "damaged image ("),
        "deep.png": (png_file(40, 30, depth=16, rows=bytes(30 * 241)), "more than 8 bits a channel, expected"),
        "gray.png": (encoded(Image.new("I;16", (4, 3)), "PNG"), "pixels of type I;16, expected 8 bits"),
        "large.png": (png_file(10_000, 10_000), "10000 x 10000 pixels, expected at most 64000000; scale it down"),
        "huge.png": (png_file(30_000, 30_000), "900000000 pixels, expected at most 64000000; scale it down"),
    }  # fmt: skip
    for name, (data, _) in bad.items():
        (folder / name).write_bytes(data)
    for mode in ("CMYK", "P", "1", "L"):
        plain.convert(mode).save(folder / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}")
    plain.crop((0, 0, 1, 1)).save(folder / "pixel.png")
    Image.new("RGB", (10_000, 3)).save(folder / "wide.png")
    code, out = prepare(root, "--out", str(tmp_path / "a.h5"))
    assert (code, "error: cannot read 8 files; fix them and run again" in out) == (1, True), out
    for name, (_, message) in bad.items():
        assert f"{name}: {message}" in out
    code, out = prepare(root, "--out", str(tmp_path / "a.h5"), "--skip-bad")
    assert (code, out.count("skipped: ")) == (0, 8), out
    assert Cache(tmp_path / "a.h5").info.num_images == 10
