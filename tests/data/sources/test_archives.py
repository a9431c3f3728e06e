"""Archives are unpacked whole or not at all, and nothing in them gets out of the folder or fills the disk."""

import gzip
import io
import shutil
import stat
import tarfile
import tracemalloc
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmkt_data.errors import CatalogueError
from tmkt_data.locks import lock
from tmkt_data.sources.archive_members import ArchiveLimits, safe_name
from tmkt_data.sources.archives import is_archive, unpack_archives

TREE = {"a/one.bin": b"12345", "a/two.bin": b"", "b/three.jpg": b"jpg" * 1000}


def as_zip(path, tree=TREE, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, data in tree.items():
            archive.writestr(name, data)
    return path


def as_tar(path, tree=TREE, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in tree.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def unpacked(archive, target, **options):
    count = len(list(unpack_archives({archive: "."}, target, **options)))
    assert not [path for path in target.parent.iterdir() if path.name.startswith(".")]
    return count


def tree_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"])
def test_every_kind_comes_out_as_it_went_in(tmp_path, suffix):
    path = tmp_path / f"set{suffix}"
    if suffix == ".zip":
        as_zip(path)
    else:
        as_tar(path, mode={"tgz": "w:gz", "tar": "w"}.get(suffix[1:], f"w:{suffix[5:]}"))
    assert is_archive(path)
    assert unpacked(path, tmp_path / "out") == 3
    assert tree_of(tmp_path / "out") == TREE


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    npz = as_zip(tmp_path / "a.npz").read_bytes()
    path = as_tar(tmp_path / "set.tar", {"a/one.bin": b"12345", "a/two.npz": npz})
    assert zipfile.is_zipfile(path)
    assert unpacked(path, tmp_path / "out") == 2
    assert tree_of(tmp_path / "out") == {"a/one.bin": b"12345", "a/two.npz": npz}


def test_archives_inside_are_unpacked_one_level_deep(tmp_path):
    deep = as_zip(tmp_path / "deep.zip", {"x": b"1"}).read_bytes()
    inner = as_zip(tmp_path / "i.zip", {"Caltech101/ant/image_0001.bin": b"12345", "more.zip": deep}).read_bytes()
    photos = as_tar(tmp_path / "p.tar.gz", {"101_ObjectCategories/ant/image_0001.jpg": b"j"}, "w:gz").read_bytes()
    outer = as_zip(tmp_path / "o.zip", {"Caltech101.zip": inner, "caltech-101/photos.tar.gz": photos, "readme": b"r"})
    unpacked(outer, tmp_path / "out")
    assert tree_of(tmp_path / "out") == {
        "Caltech101/ant/image_0001.bin": b"12345",
        "caltech-101/101_ObjectCategories/ant/image_0001.jpg": b"j",
        "more.zip": deep,
        "readme": b"r",
    }


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path):
    (tmp_path / "out").mkdir()
    assert unpacked(as_zip(tmp_path / "a.zip"), tmp_path / "out") == 0
    assert tree_of(tmp_path / "out") == {}


def names_in(path):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    with tarfile.open(path) as archive:
        return archive.getnames()


UNSAFE = [
    "../evil",
    "/etc/evil",
    "a/../../evil",
    "a\\..\\evil",
    "C:evil",
    "a\nb",
    "a\x00b",
    "\x1b[2J",
    "..",
    "./..",
    "a" * 2000,
]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_would_escape_is_refused_and_nothing_stays(tmp_path, name, kind):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = inside / f"set.{kind}"
    (as_zip if kind == "zip" else as_tar)(path, {"good": b"1", name: b"evil"})
    found = names_in(path)
    if name not in found:
        pytest.skip("Python's writer has mended the name")
    with pytest.raises(CatalogueError) as raised:
        unpacked(path, inside / "out")
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert str(raised.value).startswith(f"set.{kind}: ")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inside", f"set.{kind}"]


@given(st.text(min_size=1, max_size=40))
def test_a_safe_name_stays_below_the_folder(name):
    try:
        path = safe_name(name, "here")
    except CatalogueError as refused:
        text = str(refused)
    else:
        assert not path.is_absolute()
        assert ".." not in path.parts
        text = ""
    assert "\n" not in text


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(CatalogueError, match=r"set\.tar: member 'link' is a link or a device; it is unsafe"):
        unpacked(tmp_path / "set.tar", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(CatalogueError, match="'link' is a link or a device"):
        unpacked(tmp_path / "set.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "nested"])
def test_a_bomb_is_cut_off_and_leaves_nothing(tmp_path, kind):
    zeros = bytes(40 << 20)
    if kind == "zip":
        path = as_zip(tmp_path / "set.zip", {"zeros": zeros})
    elif kind == "tar.gz":
        path = as_tar(tmp_path / "set.tar.gz", {"zeros": zeros}, "w:gz")
    else:
        inner = as_zip(tmp_path / "inner.zip", {"zeros": zeros}).read_bytes()
        path = as_zip(tmp_path / "set.zip", {"inner.zip": inner})
    assert path.stat().st_size < 100_000
    with pytest.raises(CatalogueError, match=r"unpacks to more than 200 times its size; it looks like a zip bomb"):
        unpacked(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_zip_that_lies_about_sizes_is_cut_off_all_the_same(tmp_path):
    path = as_zip(tmp_path / "set.zip", {"zeros": bytes(40 << 20)})
    size = (40 << 20).to_bytes(4, "little")
    data = path.read_bytes()
    assert data.count(size) == 2
    path.write_bytes(data.replace(size, (10).to_bytes(4, "little")))
    with pytest.raises(CatalogueError, match=r"zip bomb|damaged"):
        unpacked(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_too_many_members_are_refused(tmp_path):
    path = as_zip(tmp_path / "set.zip", {str(number): b"" for number in range(11)})
    with pytest.raises(CatalogueError, match="more than 10 members; it looks like a zip bomb"):
        unpacked(path, tmp_path / "out", limits=ArchiveLimits(members=10))


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -1, -30])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_cut_archive_is_one_line_and_leaves_nothing(tmp_path, kind, cut):
    whole = tmp_path / f"whole.{kind}"
    (as_zip if kind == "zip" else lambda p: as_tar(p, mode="w:gz"))(whole)
    path = tmp_path / f"set.{kind}"
    path.write_bytes(whole.read_bytes()[:cut])
    with pytest.raises(CatalogueError) as raised:
        unpacked(path, tmp_path / "out")
    assert str(raised.value).startswith(f"set.{kind}: ")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_an_encrypted_member_is_named(tmp_path):
    path = as_zip(tmp_path / "set.zip")
    data = bytearray(path.read_bytes())
    for start in (b"PK\x03\x04", b"PK\x01\x02"):
        at = -1
        while (at := data.find(start, at + 1)) >= 0:
            data[at + (6 if start[2] == 3 else 8)] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(CatalogueError, match=r"member 'a/one\.bin' is encrypted; unpack it yourself"):
        unpacked(path, tmp_path / "out")


def test_two_archives_may_share_a_folder_but_not_a_file(tmp_path):
    one, two = as_zip(tmp_path / "one.zip", {"a/1": b"1"}), as_zip(tmp_path / "two.zip", {"a/2": b"2"})
    for _ in unpack_archives({one: ".", two: "."}, tmp_path / "out"):
        pass
    assert tree_of(tmp_path / "out") == {"a/1": b"1", "a/2": b"2"}
    again = as_zip(tmp_path / "again.zip", {"a/1": b"other"})
    with pytest.raises(CatalogueError, match=r"again\.zip: duplicate member '1'"):
        for _ in unpack_archives({one: ".", again: "."}, tmp_path / "clash"):
            pass
    assert not (tmp_path / "clash").exists()


def test_an_interrupted_unpacking_leaves_nothing_and_the_next_one_is_whole(tmp_path):
    steps = unpack_archives({as_zip(tmp_path / "a.zip"): "."}, tmp_path / "out")
    next(steps)
    steps.close()
    assert not (tmp_path / "out").exists()
    assert unpacked(tmp_path / "a.zip", tmp_path / "out") == 3


def test_a_second_process_is_refused_and_leaves_the_work_of_the_first(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    archive = as_zip(tmp_path / "a.zip")
    with lock(tmp_path / ".out.lock", CatalogueError("held")):
        with pytest.raises(CatalogueError, match="another process is unpacking there"):
            unpacked(archive, tmp_path / "out")
        assert (tmp_path / ".out.partial").is_dir()
        assert (tmp_path / ".out.lock").is_file()
    assert unpacked(archive, tmp_path / "out") == 3


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_what_macos_adds_is_passed_over(tmp_path, kind):
    double = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(200)
    photos = as_tar(tmp_path / "p.tar.gz", {"a/._one.jpg": double, "a/one.jpg": b"jpg"}, "w:gz").read_bytes()
    tree = {"photos.tar.gz": photos, "__MACOSX/._photos.tar.gz": double, "._b.zip": double, "b/._two.jpg": double}
    path = tmp_path / f"set.{kind}"
    (as_zip if kind == "zip" else lambda p, t: as_tar(p, t, "w:gz"))(path, tree)
    unpacked(path, tmp_path / "out")
    assert tree_of(tmp_path / "out") == {"a/one.jpg": b"jpg"}


def header_bomb(path, kind, size):
    entry = tarfile.TarInfo("././@LongLink")
    entry.type, entry.size = kind, size
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(entry.tobuf(tarfile.USTAR_FORMAT))
        for _ in range(size >> 20):
            out.write(b"a" * (1 << 20))


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_that_would_fill_the_memory_is_not_read(tmp_path, kind):
    header_bomb(tmp_path / "set.tar.gz", kind, 100 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(
            CatalogueError, match=r"^set\.tar\.gz: a header of more than 1,048,576 bytes; it looks like a"
        ):
            unpacked(tmp_path / "set.tar.gz", tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "out").exists()


def test_headers_one_after_the_other_are_bounded_too(tmp_path):
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for number in range(20):
            body = tarfile.TarInfo.create_pax_global_header({f"key{number}": "a" * 100_000})
            archive.fileobj.write(body)
    with pytest.raises(CatalogueError, match=r"set\.tar: a header of more than"):
        unpacked(tmp_path / "set.tar", tmp_path / "out")


def test_long_names_and_attributes_of_usual_size_come_through(tmp_path):
    tree = {f"{'d' * 90}/{number}/{'n' * 150}.bin": b"1" for number in range(30)}
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tmp_path / f"set{form}.tar"
        with tarfile.open(path, "w", format=form) as archive:
            for name in tree:
                entry = tarfile.TarInfo(name)
                entry.size, entry.pax_headers = 1, {"comment": "c" * 5000}
                archive.addfile(entry, io.BytesIO(b"1"))
        unpacked(path, tmp_path / f"out{form}")
        assert tree_of(tmp_path / f"out{form}") == tree


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")])
def test_a_file_that_is_a_folder_too_names_the_archive(tmp_path, names):
    path = as_zip(tmp_path / "set.zip", dict.fromkeys(names, b"1"))
    with pytest.raises(CatalogueError, match=r"^set\.zip: .*it is damaged"):
        unpacked(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archives_inside_are_checked_before_they_are_unpacked(tmp_path):
    inner = as_zip(tmp_path / "i.zip", {"x": b"1"}).read_bytes()
    outer = as_zip(tmp_path / "o.zip", {"known.zip": inner, "y": b"2"})

    def refuse(archive, path):
        assert archive == outer
        assert path.read_bytes() == inner
        raise CatalogueError(f"{path.name}: another")

    with pytest.raises(CatalogueError, match=r"^known\.zip: another"):
        unpacked(outer, tmp_path / "out", check=refuse)
    assert not (tmp_path / "out").exists()


def test_a_name_in_utf_8_without_the_flag_that_says_so_is_read_as_it_was_written(tmp_path):
    path = as_zip(tmp_path / "set.zip", {"caf\u00e9/a.bin": b"1", "cafe/b.bin": b"2"})
    # macOS leaves bit 11 of the flags at 0, in the header of the member and in the directory.
    data = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        data[data.index(magic) + place] &= ~0x08
    path.write_bytes(data)
    unpacked(path, tmp_path / "out")
    assert tree_of(tmp_path / "out") == {"caf\u00e9/a.bin": b"1", "cafe/b.bin": b"2"}


def test_a_name_of_another_code_page_is_kept(tmp_path):
    path = as_zip(tmp_path / "set.zip", {"caf\u00e9/a.bin": b"1"})
    data = path.read_bytes().replace("caf\u00e9".encode(), b"caf\x82e")
    data = bytearray(data)
    for magic, place in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        data[data.index(magic) + place] &= ~0x08
    path.write_bytes(data)
    unpacked(path, tmp_path / "out")
    assert tree_of(tmp_path / "out") == {"caf\u00e9e/a.bin": b"1"}


@pytest.mark.parametrize("mode", ["gz", "bz2", "xz"])
def test_damaged_data_of_a_packed_tar_name_the_archive(tmp_path, mode):
    tree = {f"a/{number}.bin": bytes(range(256)) * 40 for number in range(20)}
    path = as_tar(tmp_path / f"set.tar.{mode}", tree, f"w:{mode}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = bytes(byte ^ 0x5A for byte in data[len(data) // 2 :])
    path.write_bytes(data)
    with pytest.raises(CatalogueError, match=rf"^set\.tar\.{mode}: cannot be unpacked \([^\n]*\); it is damaged"):
        unpacked(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_target_below_a_file_is_one_line(tmp_path):
    path = as_zip(tmp_path / "set.zip")
    (tmp_path / "file").touch()
    with pytest.raises(CatalogueError, match=r"cannot be unpacked \(Not a directory\); check it and its folder|file: "):
        list(unpack_archives({path: "."}, tmp_path / "file" / "out"))


def test_a_full_disk_is_said_before_anything_is_unpacked(tmp_path, monkeypatch):
    path = as_zip(tmp_path / "set.zip")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(CatalogueError, match=r"no space left to unpack set\.zip; free some and run it again"):
        list(unpack_archives({path: "."}, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
