"""A folder of one's own: what is listed, what is read, and what is said when something is missing."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tmkt_data import PairedFrames, PrepareSpec
from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.folder import open_folder
from tmkt_data.datasets.folder_settings import FolderError, read_settings
from tmkt_data.errors import CatalogueError
from tmkt_data.events.events import SensorSize, validate_events
from tmkt_data.events.write import write_events
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import find_prepared, plan_prepare
from tmkt_data.sources.locate import Locations, find_sources

SETTINGS = "sensor_size = [40, 30]\n"
SUFFIXES = (".npz", ".aedat4", ".bin")


def record(seed, size=(40, 30)):
    random = np.random.default_rng(seed)
    t = np.sort(random.integers(0, 100_000, 400))
    x, y = (random.integers(0, side, 400).astype(np.uint16) for side in size)
    return validate_events(t, x, y, random.random(400) < 0.5, sensor_size=SensorSize(*size))


def write_tree(root, settings=SETTINGS, per_class=10, size=(40, 30)):
    root.mkdir(exist_ok=True)
    (root / "tmkt.toml").write_text(settings)
    for label, name in enumerate(("wave", "clap")):
        for side in ("events", "images"):
            (root / side / name).mkdir(parents=True)
        for number in range(per_class):
            path = root / "events" / name / f"take {number}{SUFFIXES[number % 3]}"
            write_events(path, record(100 * label + number, size))
            shade = np.full((30, 40, 3), 60 + 100 * label + number, np.uint8)
            Image.fromarray(shade).save(root / "images" / name / f"take {number}.png")
    return root


def prepared(root, out, **options):
    for _ in prepare_cache(plan_prepare(open_folder(root), PrepareSpec(size=16, **options), out)):
        pass
    return Cache(out)


def test_names_that_are_no_text_are_prepared_and_found_again(tmp_path):
    root = write_tree(tmp_path / "own", per_class=4)
    for side, suffix in (("events", ".npz"), ("images", ".png")):
        path = root / side / "wave" / f"take 0{suffix}"
        path.rename(path.with_name(f"take \udcff{suffix}"))
    cache = prepared(root, tmp_path / "own.h5")
    assert cache.event_ids[-1] == "wave/take \udcff"
    assert cache.tables["events/twin"].tolist() == list(range(8))
    assert find_prepared(plan_prepare(open_folder(root), PrepareSpec(size=16), tmp_path / "own.h5")) == cache.info
    assert PairedFrames(tmp_path / "own.h5", "train").split_digest


def test_files_of_any_format_are_prepared_and_paired_by_stem(tmp_path):
    root = write_tree(tmp_path / "own")
    (root / "events" / "clap" / "notes.txt").write_text("left out")
    catalogue = open_folder(root)
    assert catalogue.class_names == ("clap", "wave")
    assert catalogue.num_twins == 20
    assert catalogue.notes == ("recordings: left out: clap/notes.txt",)
    cache = prepared(root, tmp_path / "own.h5")
    for row, name in enumerate(cache.event_ids):
        label = ("wave", "clap").index(name.split("/")[0])
        number = int(name.split()[-1])
        assert cache.event_frames(np.array([row])).sum() == 400
        assert name == cache.image_ids[int(cache.tables["events/twin"][row])]
        assert (cache.image_frames(np.array([row])) == 60 + 100 * label + number).all()
    frames = PairedFrames(cache, "train")
    assert np.bincount(frames.labels).tolist() == [8, 8]


def test_equal_stems_mean_nothing_where_the_settings_say_so(tmp_path):
    root = write_tree(tmp_path / "own", SETTINGS + 'twins = "none"\n')
    catalogue = open_folder(root)
    assert catalogue.num_twins == 0
    assert not catalogue.unpaired_classes()


def test_what_a_file_leaves_open_stands_in_the_settings(tmp_path):
    root = write_tree(tmp_path / "own", SETTINGS + 'columns = "xytp"\nunit = "ms"\n', per_class=3)
    rows = np.array([(3, 4, 0.0, 1), (5, 6, 100.0, 0)])
    np.save(root / "events" / "wave" / "plain.npy", rows)
    cache = prepared(root, tmp_path / "own.h5")
    row = cache.event_ids.index("wave/plain")
    assert cache.tables["events/t_last_us"][row] == 100_000
    seconds = open_folder(write_tree(tmp_path / "other", SETTINGS + 'columns = "xytp"\nunit = "s"\n', per_class=3))
    first, second = plan_prepare(open_folder(root), PrepareSpec()), plan_prepare(seconds, PrepareSpec())
    assert first.path.name != second.path.name


@pytest.mark.parametrize("shift", [[], ["--shift-x", "1"]])
def test_a_recording_of_another_sensor_is_named_and_the_advice_works(tmp_path, shift):
    root = write_tree(tmp_path / "own", per_class=3)
    (root / "events" / "wave" / "take 2.bin").unlink()
    write_events(root / "events" / "wave" / "large.npz", record(7, (400, 300)))
    command = ["prepare", "folder", "--root", str(root), "--out", str(tmp_path / "own.h5"), *shift]
    out = CliRunner().invoke(main, command)
    assert out.exit_code == 1
    assert (
        "large.npz: declares a sensor of 400 x 300, expected 40 x 30; where all do, give --sensor-size 400x300, else "
        "leave it out with --skip-bad"
    ) in out.output
    assert CliRunner().invoke(main, [*command, "--skip-bad"]).exit_code == 0
    for number, path in enumerate(sorted((root / "events").rglob("*.*"))):
        path.unlink()
        write_events(path.with_suffix(".npz"), record(number, (400, 300)))
    assert CliRunner().invoke(main, [*command, "--force", "--sensor-size", "400x300"]).exit_code == 0


def test_the_command_says_how_to_go_on(tmp_path):
    root = write_tree(tmp_path / "own")
    out = CliRunner().invoke(main, ["prepare", "folder", "--root", str(root), "--out", str(tmp_path / "own.h5")])
    assert out.exit_code == 0, out.output
    assert f"tmkt-train recipe scnn_folder --cache {tmp_path / 'own.h5'}" in out.output


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("", "sensor_size: found None, expected width and height such as [240, 180], 1 to 65536 each"),
        ("sensor_size = [0, 3]", "sensor_size: found [0, 3], expected width and height such as [240, 180], 1 to"),
        ("sensor_size = [true, 3]", "sensor_size: found [True, 3], expected width and height"),
        (SETTINGS + "unit = 'min'", "unit: found 'min', expected one of s, ms, us, ns"),
        (SETTINGS + "events = 3", "events: found 3, expected text"),
        (SETTINGS + "sensor = 3", "unknown 'sensor', expected sensor_size, events, images, twins, columns, unit,"),
        (
            SETTINGS + r'events = "ev\u0000ents"',
            r"events: found 'ev\x00ents', expected text without control characters",
        ),
        (SETTINGS + "events = 'nothere'", "events: found 'nothere', expected a folder of class folders with events"),
        (
            SETTINGS + "images = '../../etc'",
            "images: found '../../etc', expected a folder of class folders with images",
        ),
        ("sensor_size = [", "not valid TOML ("),
    ],
)
def test_settings_that_cannot_be_are_one_line(tmp_path, settings, message):
    with pytest.raises(CatalogueError) as problem:
        open_folder(write_tree(tmp_path / "own", settings, per_class=1))
    assert message in str(problem.value)
    assert "tmkt.toml: " in str(problem.value)
    assert "\n" not in str(problem.value)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_settings_may_begin_with_a_byte_order_mark(tmp_path, encoding):
    path = tmp_path / "tmkt.toml"
    path.write_text('# Größe\nsensor_size = [40, 30]\nunit = "ms"\n', encoding=encoding)
    settings = read_settings(path)
    assert (settings.sensor_size, settings.unit) == ((40, 30), "ms")


def test_what_is_not_there_is_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogueError, match=r"tmkt\.toml: no such file, expected the sensor size in it; create"):
        open_folder(tmp_path / "empty")
    (tmp_path / "empty" / "tmkt.toml").write_text(SETTINGS)
    with pytest.raises(CatalogueError, match=r"^folder: no recordings \(events/wave/first\.aedat4\) found"):
        open_folder(tmp_path / "empty")
    with pytest.raises(CatalogueError, match=r"^folder: no folder found; give the folder with --root"):
        open_folder()


def test_two_files_of_one_stem_are_refused(tmp_path):
    root = write_tree(tmp_path / "own", per_class=2)
    write_events(root / "events" / "wave" / "take 0.bin", record(5))
    with pytest.raises(CatalogueError, match=r"wave: two files with the stem 'take 0', expected one; rename or remove"):
        open_folder(root)


def test_a_folder_that_the_settings_state_is_not_replaced_by_one_that_is_found(tmp_path):
    root = write_tree(tmp_path / "own", SETTINGS + "events = 'nothere'\n", per_class=2)
    with (
        pytest.raises(CatalogueError, match=r"tmkt\.toml: events: found 'nothere'"),
        find_sources("folder", Locations(root), unpack_to=tmp_path / "unpacked"),
    ):
        pass
    (root / "events").rename(tmp_path / "elsewhere")
    (root / "tmkt.toml").write_text(SETTINGS + "events = '../elsewhere'\n")
    assert len(open_folder(root).recordings) == 4


@pytest.mark.parametrize("stated", ["../secret", "/", "a/../../secret"])
def test_settings_out_of_an_archive_do_not_lead_out_of_it(tmp_path, stated):
    root = write_tree(tmp_path / "own", SETTINGS + f"images = '{stated}'\n", per_class=2)
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for path in root.rglob("*.*"):
            archive.write(path, path.relative_to(tmp_path))
    with (
        pytest.raises(CatalogueError, match=rf"tmkt\.toml: images: found '{stated}', which points outside the archive"),
        find_sources("folder", Locations(tmp_path / "own.zip"), unpack_to=tmp_path / "unpacked"),
    ):
        pass


def test_hidden_and_empty_folders_are_no_classes(tmp_path):
    root = write_tree(tmp_path / "own", per_class=3)
    for name in (".git", ".ipynb_checkpoints", "empty"):
        (root / "events" / name).mkdir()
    write_events(root / "events" / ".ipynb_checkpoints" / "take 0.npz", record(1))
    for path in (root / "events/wave/._take 0.npz", root / "images/wave/._take 0.png", root / "images/wave/.DS_Store"):
        path.write_bytes(b"\x00\x05\x16\x07")
    catalogue = open_folder(root)
    assert catalogue.class_names == ("clap", "wave")
    assert len(catalogue.recordings) == len(catalogue.images) == 6
    assert catalogue.notes == (
        "recordings: left out: wave/._take 0.npz",
        "recordings: 2 hidden folders left out: .git, .ipynb_checkpoints",
        "images: left out: wave/._take 0.png",
        "1 folders without a recording or an image left out: empty",
    )


def test_inspect_tells_folders_apart_that_are_read_otherwise(tmp_path):
    shown = {}
    for orientation in ("raw", "jaer"):
        settings = (
            f"orientation = '{orientation}'\nunit = 'ms'\ncolumns = 'xytp'\nkeys = 'table=CD/events'\nchip = 'DVS128'\n"
        )
        root = write_tree(tmp_path / orientation, SETTINGS + settings, per_class=2)
        prepared(root, tmp_path / f"{orientation}.h5")
        shown[orientation] = CliRunner().invoke(main, ["inspect", str(tmp_path / f"{orientation}.h5")]).output
        assert (
            "reader options    unit ms, columns xytp, chip DVS128, keys table=CD/events, orientation "
            f"{orientation} (of AEDAT 2.0)"
        ) in shown[orientation]
    assert shown["raw"] != shown["jaer"]


def test_a_class_that_is_a_broken_link_is_not_left_out(tmp_path):
    root = write_tree(tmp_path / "own", per_class=1)
    (root / "images" / ".hidden").symlink_to("nowhere")
    (tmp_path / "jump").mkdir()
    for side in ("events", "images"):
        (root / side / "jump").symlink_to(tmp_path / "jump")
    assert open_folder(root).class_names == ("clap", "wave")
    (tmp_path / "jump").rmdir()
    with pytest.raises(FolderError) as refused:
        open_folder(root)
    assert refused.value.problems == tuple(
        f"{root / side}: the link jump leads nowhere, expected folders of classes; repair or remove what is broken"
        for side in ("events", "images")
    )
    (root / "events" / "jump").unlink()
    (root / "images" / "loop").symlink_to(root / "images" / "loop")
    with pytest.raises(CatalogueError, match=r"images: the links jump, loop lead nowhere, expected folders of classes"):
        open_folder(root)
