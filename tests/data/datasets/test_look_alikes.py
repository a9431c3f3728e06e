"""Names that are one name in Unicode are one sample; names that only look alike are named."""

from __future__ import annotations

import shutil
import unicodedata
import zipfile

import numpy as np
import pytest
import trees
from click.testing import CliRunner

from tmkt_data import PairedFrames, PrepareSpec
from tmkt_data.cache.reader import Cache
from tmkt_data.cli.main import main
from tmkt_data.datasets.catalogue import some
from tmkt_data.datasets.folder import open_folder
from tmkt_data.datasets.look_alikes import difference, look_alikes, outline
from tmkt_data.datasets.ncaltech101 import open_ncaltech101
from tmkt_data.datasets.splits import SplitCode
from tmkt_data.errors import CatalogueError
from tmkt_data.pairs.report import report_pairs
from tmkt_data.prepare.build import prepare_cache
from tmkt_data.prepare.plan import plan_prepare
from tmkt_data.sources.doctor import compare_digests
from tmkt_data.sources.locate import Locations, find_sources

CAFE, CAFE_D = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def write_pair(root, forms=("NFC", "NFC"), per_class=8):
    names = [f"{name}/prise é {number}" for name in ("café", "thé") for number in range(per_class)]
    return write_named(root, *([unicodedata.normalize(form, name) for name in names] for form in forms))


def write_named(root, recordings, images):
    sides = ({name: number for number, name in enumerate(side)} for side in (recordings, images))
    return trees.write_folder(root, *sides)


def prepared(root, out, **options):
    for _ in prepare_cache(plan_prepare(open_folder(root), PrepareSpec(size=8, time_bins=2, **options), out)):
        pass
    return Cache(out)


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_a_side_copied_by_macos_pairs_exactly_as_the_original(tmp_path, forms):
    caches = {}
    for name, side_forms in (("original", ("NFC", "NFC")), ("copy", forms)):
        root = write_pair(tmp_path / name, side_forms)
        caches[name] = prepared(root, tmp_path / f"{name}.h5")
    assert (tmp_path / "copy.h5").read_bytes() == (tmp_path / "original.h5").read_bytes()
    cache = caches["copy"]
    assert cache.class_names == (CAFE, unicodedata.normalize("NFC", "thé"))
    assert cache.tables["events/twin"].tolist() == list(range(16))
    frames = PairedFrames(cache, "train")
    held_out = np.flatnonzero(cache.splits("events", "twin-disjoint") != SplitCode.TRAIN)
    assert len(held_out) == 4
    assert not set(cache.tables["events/twin"][held_out].tolist()) & set(frames.pools.rows.tolist())
    report = report_pairs(frames)
    assert (report.num_with_twin, report.pool_size, report.num_reachable_heldout) == (12, 12, 0)


def test_a_folder_named_in_the_settings_is_found_in_either_form(tmp_path):
    root = write_pair(tmp_path / "own", per_class=3)
    (root / "images").rename(root / unicodedata.normalize("NFD", "bilder_ä"))
    settings = 'sensor_size = [40, 30]\nimages = "bilder_ä"\n'
    (root / "tmkt.toml").write_text(unicodedata.normalize("NFC", settings))
    assert open_folder(root).num_twins == 6


def test_a_folder_that_is_typed_in_another_form_is_found(tmp_path):
    write_pair(tmp_path / "mesures_e\u0301" / "own", per_class=3)
    typed = Locations(tmp_path / "mesures_\u00e9" / "own")
    with find_sources("folder", typed, unpack_to=tmp_path / "unpacked") as found:
        assert found.catalogue.num_twins == 6


def test_names_of_one_folder_that_become_equal_are_one_line(tmp_path):
    root = write_pair(tmp_path / "own", per_class=2)
    shutil.copy(root / "images" / CAFE / "prise é 0.png", root / "images" / CAFE / f"{CAFE_D}.png")
    shutil.copy(root / "images" / CAFE / "prise é 1.png", root / "images" / CAFE / f"{CAFE}.png")
    with pytest.raises(CatalogueError) as problem:
        open_folder(root)
    assert str(problem.value).endswith(
        rf"images/{CAFE}: two files of one stem: 'cafe\u0301' (NFD) and 'caf\xe9' (NFC) differ only in Unicode "
        "normalization; rename or remove one of them"
    )
    (root / "images" / CAFE / f"{CAFE_D}.png").unlink()
    shutil.copytree(root / "events" / CAFE, root / "events" / CAFE_D)
    with pytest.raises(CatalogueError, match=r"events: two folders of one name: 'cafe\\u0301' \(NFD\) and 'caf\\xe9'"):
        open_folder(root)


@pytest.mark.parametrize(
    ("recording", "image", "message"),
    [
        ("Take 1", "take 1", "'wave/Take 1' and 'wave/take 1' differ only in case"),
        (
            "take 1",
            "take\u200b 1",
            r"'wave/take 1' and 'wave/take\u200b 1' differ only in invisible characters (U+200B ZERO WIDTH SPACE)",
        ),
        ("take 1 ", "take 1", "'wave/take 1 ' and 'wave/take 1' differ only in spaces"),
        (
            "take \u0661",
            "take 1",
            r"'wave/take \u0661' and 'wave/take 1' differ only in digits of another script (U+0661 ARABIC",
        ),
        ("Take  1", "take 1", "'wave/Take  1' and 'wave/take 1' differ only in spaces and case"),
    ],
)
def test_twins_that_only_look_alike_are_refused_with_what_differs(tmp_path, recording, image, message):
    root = write_named(tmp_path / "own", [f"wave/{recording}", "clap/a"], [f"wave/{image}", "clap/a"])
    with pytest.raises(CatalogueError) as problem:
        open_folder(root)
    assert f"1 recording without a twin, but an image looks as if it was: {message}" in str(problem.value)
    assert str(problem.value).endswith("; rename one of them as the other")
    (root / "tmkt.toml").write_text('sensor_size = [40, 30]\ntwins = "none"\n')
    assert open_folder(root).num_twins == 0


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ("Wave", "class folders 'wave' and 'Wave' differ only in case; rename one of them as the other"),
        ("wave ", "class folders 'wave' and 'wave ' differ only in spaces"),
        ("wave\ufeff", r"class folders 'wave' and 'wave\ufeff' differ only in invisible characters (U+FEFF ZERO WIDTH"),
    ],
)
def test_class_folders_that_only_look_alike_say_what_differs(tmp_path, there, message):
    root = write_named(tmp_path / "own", ["wave/a", "clap/a"], [f"{there}/a", "clap/a"])
    command = ["prepare", "folder", "--root", str(root), "--out", str(tmp_path / "own.h5")]
    out = CliRunner().invoke(main, command)
    assert out.exit_code == 1
    assert message in out.output
    assert out.output.count("\n") == 1


def test_names_in_both_spellings_on_both_sides_are_as_they_were(tmp_path):
    names = ["a/1", "A/1", "a/x", "a/X"]
    catalogue = open_folder(write_named(tmp_path / "own", names, names))
    assert catalogue.class_names == ("A", "a")
    assert catalogue.num_twins == 4


def test_digits_of_another_script_are_left_out_and_shown(tmp_path):
    for folder, suffix in (("Caltech101", "bin"), ("101_ObjectCategories", "jpg")):
        for name in ("image_0001", "image_000\u0662"):
            path = tmp_path / folder / "ant" / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"12345")
    (tmp_path / "101_ObjectCategories" / "Bass").mkdir()
    catalogue = open_ncaltech101(tmp_path)
    assert [source.id for source in catalogue.images] == ["ant/image_0001"]
    assert r"images: files left out: 'ant/image_000\u0662.jpg'" in catalogue.notes
    assert "images: folders 'Bass' and 'bass' differ only in case; rename it if it is that class" in catalogue.notes


def test_members_of_a_zip_without_the_flag_of_utf_8_have_their_names(tmp_path):
    root = write_pair(tmp_path / "own", per_class=3)
    path = tmp_path / "own.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, file.relative_to(root))
    data = path.read_bytes()
    # As the archiver of macOS writes them: bit 11 of the flags is not set.
    data = data.replace(b"PK\x03\x04\x14\x00\x00\x08", b"PK\x03\x04\x14\x00\x00\x00")
    path.write_bytes(data.replace(b"PK\x01\x02\x14\x03\x14\x00\x00\x08", b"PK\x01\x02\x14\x03\x14\x00\x00\x00"))
    with zipfile.ZipFile(path) as archive:
        assert not any(entry.flag_bits & 0x800 for entry in archive.infolist())
    with find_sources("folder", Locations(path, None, root / "images"), unpack_to=tmp_path / "unpacked") as found:
        assert found.catalogue.class_names == (CAFE, unicodedata.normalize("NFC", "thé"))
        assert found.catalogue.num_twins == 6


def test_digests_of_a_copy_by_macos_agree():
    assert not compare_digests({f"a/{CAFE}.png": "1"}, {f"a/{CAFE_D}.png": "1"})


def test_outlines_and_differences():
    assert outline("\uff21B") == outline("ab")
    assert list(look_alikes(["a", "b"], ["A", "b"])) == [("a", "A")]
    assert difference("Wave 1\u200b", "wave 1").startswith(r"'Wave 1\u200b' and 'wave 1' differ only in invisible")
    assert some(["ant ", "bee"]) == "'ant ', bee"
