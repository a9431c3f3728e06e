import subprocess
import sys
from pathlib import Path

import pytest
import trees
from click.testing import CliRunner
from conftest import build

from tmkt_data.cache.build_folder import not_being_built
from tmkt_data.cache.remove import remove_cache
from tmkt_data.cli.main import main
from tmkt_data.errors import CacheError

READER = (
    "import mmap, sys\n"
    "with open(sys.argv[1], 'rb') as file:\n"
    "    held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)\n"
    "print('reads', flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TMKT_CACHES", str(tmp_path / "caches"))
    scenes = {f"{name}/{at}": 10 * label + at for label, name in enumerate(("clap", "wave")) for at in range(3)}
    root = trees.write_folder(tmp_path / "own", scenes, scenes)
    (tmp_path / "caches").mkdir()
    return build("folder", root, tmp_path / "caches" / "folder-a.h5", size=8, time_bins=2)


def remove(*arguments, **given):
    return CliRunner().invoke(main, ["remove", *map(str, arguments)], **given)


def test_one_file_or_all_of_a_dataset(cache):
    num_bytes = cache.stat().st_size
    other = cache.with_name("folder-b.h5")
    other.write_bytes(cache.read_bytes())
    (cache.parent / "folder-notes.h5").write_bytes(b"mine")
    assert remove(other, "--yes").exit_code == 0
    assert not other.exists()
    other.write_bytes(cache.read_bytes())
    found = remove("folder", input="y\n")
    assert found.exit_code == 0, found.output
    assert "removed 2 caches" in found.stdout
    assert f"{2 * num_bytes / 1e6:.1f} MB" in found.stdout
    assert [path.name for path in sorted(cache.parent.iterdir())] == ["folder-notes.h5"]
    assert remove("folder").stderr.startswith("error: ")


def test_index_is_removed_with_its_shards(cache, tmp_path):
    given = ["--root", tmp_path / "own", "--size", "8", "--time-bins", "2", "--shards", "3", "--workers", "1"]
    out = tmp_path / "sharded" / "many.h5"
    made = CliRunner().invoke(main, ["prepare", "folder", *map(str, given), "--out", str(out)])
    assert made.exit_code == 0, made.output
    assert len(list(out.parent.rglob("*.h5"))) == 4
    found = remove(out, "--yes")
    assert found.exit_code == 0, found.output
    assert list(out.parent.iterdir()) == []
    assert cache.is_file()


def test_nothing_is_removed_unless_it_is_said(cache):
    for answer in ("n\n", "\n"):
        found = remove("folder", input=answer)
        assert found.exit_code == 1
        assert "nothing was removed" in found.stderr
    assert cache.is_file()


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("own/tmkt.toml", "not a cache|no cache|tmkt.toml"),
        ("none.h5", "none.h5: no such file"),
        ("digits", "no cache of digits"),
        ("nmist", "did you mean 'nmnist'?"),
    ],
)
def test_what_is_no_cache_stays(cache, tmp_path, monkeypatch, target, message):
    monkeypatch.chdir(tmp_path)
    found = remove(target, "--yes")
    assert found.exit_code in (1, 2)
    assert found.stderr.startswith("error: ")
    assert any(part in found.stderr for part in message.split("|"))
    assert (tmp_path / "own" / "tmkt.toml").is_file()
    assert cache.is_file()


def test_cache_that_is_being_built_stays(cache):
    with not_being_built(cache):
        found = remove(cache, "--yes")
    assert (found.exit_code, cache.is_file()) == (1, True)
    assert "another tmkt-data prepare is building this cache" in found.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="readers are found on Linux")
def test_cache_that_is_being_read_stays(cache):
    with subprocess.Popen(
        [sys.executable, "-c", READER, str(cache)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout.readline() == b"reads\n"
        with pytest.raises(CacheError, match=f"process {reader.pid} is reading it"):
            remove_cache(cache)
        assert cache.is_file()
        reader.stdin.close()
    remove_cache(cache)
    assert not cache.exists()
