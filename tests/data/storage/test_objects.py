"""Objects of stores, listed and read through fsspec: HTTP, memory and files; what is wrong in one line."""

import os
import socket
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tmkt_data.cache.fetched import local_copy
from tmkt_data.errors import CacheError, StoreError
from tmkt_data.storage import connection, objects
from tmkt_data.storage.objects import StoredObject, find_object, list_objects, md5_token
from tmkt_data.storage.store_urls import checked_url, object_at
from tmkt_data.storage.transfer import read_object

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def served(tmp_path):
    """A folder, and the URL that a web server gives it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    yield system
    system.rm("/", recursive=True)


def test_files_of_a_web_server_are_listed_and_read(served):
    folder, url = served
    (folder / "a b").mkdir()
    for name in ("one.bin", "a b/ü.bin"):
        (folder / name).write_bytes(name.encode())
    found = {item.name: item for item in list_objects(url)}
    assert set(found) == {"one.bin", "a b/ü.bin"}
    for name, item in found.items():
        assert item.num_bytes == len(name.encode())
        assert abs(item.modified_ns - (folder / name).stat().st_mtime_ns) <= 10**9
        assert read_object(object_at(url, name), item.num_bytes, item.token) == name.encode()
    os.utime(folder / "one.bin", (1, 1))
    with pytest.raises(StoreError, match=r"/one\.bin: was changed since it was listed; run it again"):
        read_object(object_at(url, "one.bin"), found["one.bin"].num_bytes, found["one.bin"].token)


def test_what_a_web_server_lacks_or_one_that_is_gone_is_one_line(served):
    _, url = served
    with pytest.raises(StoreError, match=r"/none: cannot be listed \(no such object, folder or bucket\); check the"):
        list(list_objects(f"{url}/none"))
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:9: cannot be listed \(no connection, .*\); check the store"):
        list(list_objects("http://127.0.0.1:9"))


@pytest.mark.parametrize(
    ("status", "problem"),
    [
        (None, r"no connection, .*\); check the store and the network, and run it again"),
        (403, r"access denied\); check the credentials of the store, and their rights"),
        (500, r"500, .*\); check the store, and run it again"),
        (404, None),
        (410, None),
    ],
)
def test_an_object_is_missing_only_where_the_store_says_so(served, monkeypatch, status, problem):
    _, url = served
    if status is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
    else:
        monkeypatch.setattr(SimpleHTTPRequestHandler, "send_head", lambda handler: handler.send_error(status))
    url += "/cache.h5"
    if problem is None:
        assert find_object(url) is None
        with pytest.raises(CacheError, match="no such object; check the URL, or make it with tmkt-data prepare"):
            local_copy(url)
        return
    for ask in (find_object, local_copy):
        with pytest.raises(StoreError, match=rf"/cache\.h5: cannot be read \({problem}$"):
            ask(url)


def test_objects_below_a_url_are_those_of_that_folder_alone(memory):
    for name in ("set/a/1.bin", "set/2.bin", "set2/3.bin", "settings"):
        memory.pipe(f"/bucket/{name}", name.encode())
    assert sorted(item.name for item in list_objects("memory://bucket/set")) == ["2.bin", "a/1.bin"]
    assert [item.name for item in list_objects("memory://bucket/settings")] == [""]
    with pytest.raises(StoreError, match="no such object"):
        list(list_objects("memory://bucket/se"))


def test_links_to_files_are_not_left_out(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"bytes")
    (tmp_path / "b.bin").symlink_to("a.bin")
    assert {item.name: item.num_bytes for item in list_objects(tmp_path.as_uri())} == {"a.bin": 5, "b.bin": 5}


def test_what_cannot_be_read_is_listed_without_a_size(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"bytes")
    (tmp_path / "to_nothing").symlink_to("none")
    (tmp_path / "to_a_folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    found = {item.name: item.num_bytes for item in list_objects(tmp_path.as_uri())}
    assert found == {"a.bin": 5, "to_nothing": -1, "to_a_folder": -1, "pipe": -1}


def test_folders_of_a_web_server_that_lead_around_in_a_circle_are_one_line(served):
    folder, url = served
    (folder / "around").symlink_to(folder)
    (folder / "a.bin").write_bytes(b"bytes")
    with pytest.raises(StoreError, match=r"\d: found folders 33 deep, such as around, expected at most 32; is"):
        list(list_objects(url))


def test_more_than_one_circle_of_folders_is_not_listed_without_end(served, monkeypatch):
    folder, url = served
    for name in ("around", "about"):
        (folder / name).symlink_to(folder)
    monkeypatch.setattr(objects, "MAX_OBJECTS", 50)
    with pytest.raises(
        StoreError, match=r"\d: found more than 50 objects and folders, expected fewer; give the folder"
    ):
        list(list_objects(url))


def test_an_object_of_a_server_that_tells_no_size_is_one_line(served, monkeypatch):
    folder, url = served
    (folder / "a.h5").write_bytes(b"bytes")
    sent = SimpleHTTPRequestHandler.send_header
    monkeypatch.setattr(
        SimpleHTTPRequestHandler,
        "send_header",
        lambda self, name, value: None if name == "Content-Length" else sent(self, name, value),
    )
    with pytest.raises(
        StoreError, match=r"/a\.h5: found an object of unknown size, expected .*; download it, and give"
    ):
        find_object(f"{url}/a.h5")


@pytest.mark.parametrize("data", [b"longer", b"same!"])
def test_an_object_that_was_replaced_is_not_read(memory, data):
    memory.pipe("/bucket/set/a.bin", b"bytes")
    (item,) = list_objects("memory://bucket/set")
    assert read_object("memory://bucket/set/a.bin", item.num_bytes, item.token) == b"bytes"
    memory.pipe("/bucket/set/a.bin", data)
    with pytest.raises(StoreError, match=r"set/a\.bin: was changed since it was listed"):
        read_object("memory://bucket/set/a.bin", item.num_bytes, item.token)
    memory.rm("/bucket/set/a.bin")
    with pytest.raises(StoreError, match=r"a\.bin: cannot be read \(no such object"):
        read_object("memory://bucket/set/a.bin", item.num_bytes, item.token)


def test_a_folder_that_cannot_be_read_is_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a.bin").write_bytes(b"1")
    (tmp_path / "closed").mkdir()
    listed = os.scandir

    def refuse(path):
        if str(path).rstrip("/").endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(StoreError, match=r"cannot be listed \(access denied\); check the credentials"):
        list(list_objects(tmp_path.as_uri()))


@pytest.mark.parametrize(
    ("info", "same"),
    [
        ({"ETag": '"5D41402ABC4B2A76B9719D911017C592"'}, True),
        ({"md5Hash": "XUFAKrxLKna5cZ2REBfFkg==", "etag": "CAE="}, True),
        ({"content_settings": {"content_md5": bytearray.fromhex("5d41402abc4b2a76b9719d911017c592")}}, True),
        ({"ETag": '"5d41402abc4b2a76b9719d911017c592-2"'}, False),
        ({"mtime": 1.5}, False),
    ],
)
def test_where_a_store_says_the_md5_it_is_asked_once(info, same):
    token = md5_token(bytes.fromhex("5d41402abc4b2a76b9719d911017c592"))
    assert (StoredObject.of("name", info).token == token) is same


@pytest.mark.parametrize(
    ("info", "ns"),
    [
        ({"mtime": 2.5}, 2_500_000_000),
        ({"updated": "1970-01-01T00:00:03Z"}, 3 * 10**9),
        ({"Last-Modified": "Thu, 01 Jan 1970 00:00:04 GMT"}, 4 * 10**9),
        ({"size": 3}, 0),
    ],
)
def test_times_of_change_are_understood_as_stores_give_them(info, ns):
    assert StoredObject.of("name", info).modified_ns == ns


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://me:secret@host/a", r"https://host/a: found a URL with a password or a signature"),
        ("https://host/a?X-Amz-Signature=secret", r"https://host/a: found a URL with a password or a signature"),
        ("https://secret@host/a", r"https://host/a: found a URL with a password or a signature"),
        ("az://box/a?sv=1&sig=secret", r"az://box/a: found a URL with a password or a signature"),
        ("s3://key:sec/secret@bucket/a", r"^s3://bucket/a: found a URL with a password or a signature"),
        ("s3://key:12/secret@bucket/a", r"^s3://bucket/a: found a URL with a password or a signature"),
        ("s3://key:sec?secret@bucket/a", r"^s3://bucket/a: found a URL with a password or a signature"),
        ("sftp://user:12/secret@host/a.h5", r"^sftp://host/a\.h5: found a URL with a password or a signature"),
        ("ftp://user:5/secret@host/a", r"^ftp://host/a: found a URL with a password or a signature"),
        ("ssh://u:80/secret@cret@host/a", r"^ssh://host/a: found a URL with a password or a signature"),
        ("sftp://user:/secret@host/a", r"^sftp://host/a: found a URL with a password or a signature"),
        ("http://me:sec#secret@host:80/a", r"^http://host:80/a: found a URL with a password or a signature"),
        ("s3://[secret@bucket/a", r"^bucket/a: expected a URL such as s3://bucket/folder"),
        ("s3://bucket/a\x1b[2J", r"^s3://bucket/a\\x1b\[2J: expected a URL"),
        ("zip://a.bin::s3://bucket/a.zip", r"expected a URL such as s3://bucket/folder"),
        ("s3://", r"expected a URL such as s3://bucket/folder"),
    ],
)
def test_urls_with_secrets_or_without_a_place_are_refused_and_secrets_not_shown(url, text):
    with pytest.raises(StoreError, match=text) as refused:
        checked_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        *("s3://bucket/a@b", "http://host:80/a@b", "hdfs://host:8020/a@b", "sftp://me@host:22/a@b", "sftp://host:22/a"),
        "file:///a@b:c",
    ],
)
def test_what_is_no_secret_is_taken(url):
    assert checked_url(f"{url}/") == url


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("Cannot connect to host 127.0.0.1:40312"), "no connection, Cannot connect to host 127.0.0.1:40312"),
        (OSError("An error occurred (403) when calling HeadObject"), "access denied"),
        (OSError("AccessDenied: no"), "access denied"),
    ],
)
def test_numbers_in_a_port_are_no_refusal(error, reason):
    assert connection._why(error)[0] == reason


def test_what_has_to_be_installed_is_said(monkeypatch):
    with pytest.raises(StoreError, match=r"nosuch://a: cannot be listed \(Protocol not known: nosuch\); check the URL"):
        list(list_objects("nosuch://a"))
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(StoreError, match=r"\(found no fsspec\); install it with: pip install 'tmkt\[stores\]'"):
        list(list_objects("s3://never-opened-before/a"))
