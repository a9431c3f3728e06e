"""Files are fetched from a server of our own that breaks off, lies and leads astray, as the web does."""

import hashlib
import http.server
import shutil
import threading

import pytest
from click.testing import CliRunner

from tmkt_data.cli.main import main
from tmkt_data.errors import CatalogueError
from tmkt_data.sources import urls as downloads
from tmkt_data.sources.download import fetch
from tmkt_data.sources.urls import Download

DATA = bytes(range(256)) * 4000
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        match self.path:
            case "/gone":
                self.send_error(404)
            case "/astray" | "/ftp":
                self.send_response(302)
                self.send_header("Location", "ftp://127.0.0.1/x" if self.path == "/ftp" else "file:///etc/passwd")
                self.end_headers()
            case "/moved":
                self.send_response(302)
                self.send_header("Location", "/whole")
                self.end_headers()
            case "/breaks":
                self._answer(DATA[start:], 206, start, sent=300_000)
            case "/no-range":
                self._answer(DATA, 200, None)
            case "/other-part":
                self._answer(DATA, 206, 17)
            case "/page":
                self._answer(b"<html>not here any more</html>", 200, None)
            case "/other":
                self._answer(DATA[::-1][start:], 206, start)
            case "/whole" if start >= len(DATA):
                self.send_error(416)
            case "/whole":
                self._answer(DATA[start:], 206, start)

    def _answer(self, data, status, start, sent=None):
        self.send_response(status)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{len(DATA) - 1}/{len(DATA)}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:sent])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        running.url = f"http://127.0.0.1:{running.server_address[1]}"
        yield running
        running.shutdown()


def fetched(folder, *urls, md5=MD5):
    steps = list(fetch(Download("set.zip", md5, urls), folder))
    assert not (folder / ".set.zip.lock").exists()
    return steps


def test_a_file_comes_whole_and_is_not_fetched_twice(server, tmp_path):
    steps = fetched(tmp_path, f"{server.url}/whole")
    assert (tmp_path / "set.zip").read_bytes() == DATA
    assert steps[-1] == (len(DATA), len(DATA))
    assert fetched(tmp_path, f"{server.url}/whole") == []
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]
    assert len(server.asked) == 1


def test_a_broken_transfer_is_kept_and_goes_on(server, tmp_path):
    with pytest.raises(
        CatalogueError, match=r"^set\.zip: cannot be downloaded \(127\.0\.0\.1:\d+: [^\n]*\); get it by hand"
    ):
        fetched(tmp_path, f"{server.url}/breaks")
    assert (tmp_path / ".set.zip.part").read_bytes() == DATA[:300_000]
    assert not (tmp_path / "set.zip").exists()
    fetched(tmp_path, f"{server.url}/whole")
    assert (tmp_path / "set.zip").read_bytes() == DATA
    assert server.asked[-1] == ("/whole", "bytes=300000-")


def test_sources_are_tried_in_turn_and_go_on_from_each_other(server, tmp_path):
    urls = [f"{server.url}/{name}" for name in ("gone", "breaks", "astray", "other-part", "moved")]
    fetched(tmp_path, "file:///etc/passwd", *urls)
    assert (tmp_path / "set.zip").read_bytes() == DATA
    assert [path for path, _ in server.asked] == ["/gone", "/breaks", "/astray", "/other-part", "/moved", "/whole"]
    assert server.asked[-1][1] == "bytes=300000-"


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    (tmp_path / ".set.zip.part").write_bytes(b"old")
    fetched(tmp_path, f"{server.url}/no-range")
    assert (tmp_path / "set.zip").read_bytes() == DATA


def test_everything_had_come_already(server, tmp_path):
    (tmp_path / ".set.zip.part").write_bytes(DATA)
    fetched(tmp_path, f"{server.url}/whole")
    assert (tmp_path / "set.zip").read_bytes() == DATA


def test_another_content_is_not_put_in_place(server, tmp_path):
    with pytest.raises(CatalogueError) as raised:
        fetched(tmp_path, f"{server.url}/other", f"{server.url}/page")
    found = hashlib.md5(DATA[::-1], usedforsecurity=False).hexdigest()
    host = server.url.removeprefix("http://")
    assert str(raised.value).startswith(
        f"set.zip: cannot be downloaded ({host}: md5 {found}, expected {MD5}; {host}: md5 "
    )
    assert str(raised.value).endswith("; get it by hand, or try again later")
    assert list(tmp_path.iterdir()) == []
    fetched(tmp_path, f"{server.url}/other", md5="")
    assert (tmp_path / "set.zip").read_bytes() == DATA[::-1]
    with pytest.raises(CatalogueError, match="remove it and fetch it again"):
        fetched(tmp_path, f"{server.url}/whole")


@pytest.mark.parametrize("wrong", ["page", "other"])
def test_a_wrong_mirror_does_not_block_a_good_one(server, tmp_path, wrong):
    fetched(tmp_path, f"{server.url}/{wrong}", f"{server.url}/whole")
    assert (tmp_path / "set.zip").read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


@pytest.mark.parametrize("stale", [b"another file's beginning", DATA + b"and more", b"x" * len(DATA)])
def test_a_stale_part_is_fetched_anew(server, tmp_path, stale):
    (tmp_path / ".set.zip.part").write_bytes(stale)
    fetched(tmp_path, f"{server.url}/whole")
    assert (tmp_path / "set.zip").read_bytes() == DATA
    assert server.asked[-1] == ("/whole", "bytes=0-")


def test_a_redirect_to_a_file_is_not_followed(server, tmp_path):
    for path, address in (("astray", "file:///etc/passwd"), ("ftp", "ftp://127.0.0.1/x")):
        with pytest.raises(CatalogueError, match=rf"set\.zip: cannot be downloaded \([^\n]*{address}"):
            fetched(tmp_path, f"{server.url}/{path}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_line(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CatalogueError, match=r"set\.zip: cannot be written \(.*\); partial data is kept$"):
        fetched(tmp_path / "file" / "folder", f"{server.url}/whole")


def test_a_disk_without_room_is_one_line_before_anything_is_written(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1))
    with pytest.raises(CatalogueError, match=r": 0 MB free, needed [\d.]+ MB; free some space$"):
        fetched(tmp_path, f"{server.url}/whole")
    assert not (tmp_path / "set.zip").exists()


def test_no_server_at_all_is_one_line(tmp_path):
    with pytest.raises(CatalogueError) as raised:
        fetched(tmp_path, "http://127.0.0.1:1/x")
    assert "\n" not in str(raised.value)


class TestCommand:
    @pytest.fixture
    def known(self, server, monkeypatch):
        entries = (Download("set.zip", MD5, (f"{server.url}/gone", f"{server.url}/whole")),)
        monkeypatch.setitem(downloads.DOWNLOADS, "fashion", entries)

    @pytest.mark.usefixtures("known")
    def test_the_license_comes_first_and_no_is_taken_for_an_answer(self, server, tmp_path):
        result = CliRunner().invoke(main, ["download", "fashion", "--to", str(tmp_path)], input="n\n")
        assert result.exit_code == 1
        assert "license: images MIT" in result.output
        assert server.asked == []

    @pytest.mark.usefixtures("known")
    def test_a_fetched_set_names_the_next_command(self, tmp_path):
        result = CliRunner().invoke(main, ["download", "fashion", "--to", str(tmp_path), "--yes"])
        assert result.exit_code == 0, result.output
        assert "set.zip: MD5 verified" in result.output
        assert f"next: tmkt-data prepare fashion --root {tmp_path}" in result.output
        assert (tmp_path / "set.zip").read_bytes() == DATA

    def test_where_nothing_answers_the_steps_by_hand_are_said(self, server, monkeypatch, tmp_path):
        entries = (Download("set.zip", MD5, (f"{server.url}/gone",)),)
        monkeypatch.setitem(downloads.DOWNLOADS, "fashion", entries)
        result = CliRunner().invoke(main, ["download", "fashion", "--to", str(tmp_path), "--yes"])
        assert result.exit_code == 1
        assert "by hand: set.zip" in result.output
        assert "1. get images: apt install dataset-fashion-mnist" in result.output
        assert "2. put the files below" in result.output
        assert "simulated while" not in result.output
        assert f"tmkt-data doctor fashion --root {tmp_path}" in result.output

    def test_a_set_that_only_a_person_can_get_says_so(self, tmp_path):
        result = CliRunner().invoke(main, ["download", "cepdvs", "--to", str(tmp_path)])
        assert result.exit_code == 1
        assert "1. get both: https://1drv.ms" in result.output

    @pytest.mark.parametrize("name", ["digits", "folder"])
    def test_where_there_is_nothing_to_fetch_it_says_so(self, tmp_path, name):
        result = CliRunner().invoke(main, ["download", name, "--to", str(tmp_path)])
        assert result.exit_code == 0
        assert f"{name}: nothing to download; next: tmkt-data prepare {name}" in result.output
        assert "by hand" not in result.output

    def test_other_packings_are_not_asked_for(self, tmp_path):
        result = CliRunner().invoke(main, ["download", "dvsgesture", "--to", str(tmp_path), "--yes"])
        assert "by hand: DvsGesture.tar.gz\n" in result.output
