"""Transfers from a server of this machine that breaks off, changes its file or lies; archives that would escape."""

import hashlib
import io
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flmm.cli import data_get
from flmm.cli.data_get import SETS, Source
from flmm.cli.main import main
from flmm.download import download, remote_size, unpack

CONTENT = bytes(range(256)) * 4000  # a megabyte


class Server(ThreadingHTTPServer):
    """Serves `files`; breaks off after `limit` bytes, `breaks` times; notes what is asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {}, []
        self.breaks, self.limit, self.ranges, self.tag, self.status = 0, 0, True, '"one"', 200

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        content = self.server.files.get(self.path[1:])
        wanted = self.headers.get("Range")
        if body:
            self.server.asked.append(wanted)
        if content is None or self.server.status != 200:
            self.send_error(404 if content is None else self.server.status)
            return
        start, status = 0, 200
        if wanted and self.server.ranges and self.headers.get("If-Range") == self.server.tag:
            start, status = int(wanted[6:-1]), 206
        if start >= len(content) > 0 and status == 206:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) - start))
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.end_headers()
        rest = content[start:]
        if body and self.server.breaks:
            self.server.breaks -= 1
            rest = rest[: self.server.limit]
            self.close_connection = True
        if body:
            self.wfile.write(rest)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    server.files["a.bin"] = CONTENT
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def leftovers(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_and_its_size(server, tmp_path):
    download(server.url("a.bin"), tmp_path / "deep/a.bin", hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "deep/a.bin").read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["a.bin"]
    assert remote_size(server.url("a.bin")) == len(CONTENT)
    assert remote_size(server.url("none")) is None
    assert remote_size("http://127.0.0.1:1/") is None


def test_a_transfer_that_breaks_goes_on(server, tmp_path):
    server.breaks, server.limit = 3, 300_000
    download(server.url("a.bin"), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_what_is_kept_of_a_transfer_that_breaks_every_time(server, tmp_path):
    server.breaks, server.limit = 5, 100_000
    with pytest.raises(OSError, match="broken off 5 times .* 500000 bytes are kept"):
        download(server.url("a.bin"), tmp_path / "a.bin", pause=0)
    assert leftovers(tmp_path) == ["a.bin.part", "a.bin.tag"]
    download(server.url("a.bin"), tmp_path / "a.bin", pause=0)
    assert server.asked[-1] == "bytes=500000-"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert leftovers(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("why", ["another version", "no ranges", "no version"])
def test_a_file_that_cannot_be_gone_on_with_is_fetched_again(server, tmp_path, why):
    server.breaks, server.limit = 5, 1000
    server.tag = None if why == "no version" else server.tag
    with pytest.raises(OSError, match="broken off"):
        download(server.url("a.bin"), tmp_path / "a.bin", pause=0)
    server.tag = '"two"' if why == "another version" else server.tag
    server.ranges = why != "no ranges"
    server.files["a.bin"] = CONTENT[::-1]
    download(server.url("a.bin"), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]


def test_a_part_that_is_complete_already(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    (tmp_path / "a.bin.tag").write_text('"one"')
    download(server.url("a.bin"), tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_checksum(server, tmp_path):
    with pytest.raises(ValueError, match="SHA-256 is .*, published is 00"):
        download(server.url("a.bin"), tmp_path / "a.bin", "00" * 32)
    assert leftovers(tmp_path) == []


def test_a_server_that_refuses(server, tmp_path):
    with pytest.raises(OSError, match="404 Not Found; fetch the file by hand"):
        download(server.url("none"), tmp_path / "a.bin", pause=0)
    server.status = 503
    with pytest.raises(OSError, match="503"):
        download(server.url("a.bin"), tmp_path / "a.bin", pause=0)
    assert len(server.asked) == 1 + 5


def zipped(*members, link=None):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


@pytest.mark.parametrize("name", ["../out.txt", "/out.txt", "a/../../out.txt", "..\\out.txt", "C:/out.txt"])
def test_archives_stay_in_their_folder(tmp_path, name):
    (tmp_path / "x.zip").write_bytes(zipped(("good.txt", "good"), (name, "evil")))
    with pytest.raises(ValueError, match="leaves .* nothing was unpacked"):
        unpack(tmp_path / "x.zip", tmp_path / "in")
    assert leftovers(tmp_path) == ["x.zip"]


def test_links_and_damage_are_refused(tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped(("good.txt", "good"), link="bad"))
    with pytest.raises(ValueError, match="'bad' is a link"):
        unpack(tmp_path / "x.zip", tmp_path / "in")
    (tmp_path / "x.zip").write_bytes(zipped(("good.txt", "good"))[:-30])
    with pytest.raises(ValueError, match=r"x\.zip is damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "in")
    damaged = zipped(("good.txt", "good" * 100)).replace(b"goodgoodgood", b"goodbaadgood", 1)
    (tmp_path / "x.zip").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"x\.zip is damaged"):
        unpack(tmp_path / "x.zip", tmp_path / "in")
    assert not (tmp_path / "in/good.txt").exists()


def test_unpacking_goes_on(tmp_path):
    (tmp_path / "x.zip").write_bytes(zipped(("a/one.txt", "one"), ("a/two.txt", "two")))
    unpack(tmp_path / "x.zip", tmp_path)
    (tmp_path / "a/two.txt").unlink()
    before = (tmp_path / "a/one.txt").stat().st_mtime_ns
    assert sorted(path.name for path in unpack(tmp_path / "x.zip", tmp_path)) == ["one.txt", "two.txt"]
    assert (tmp_path / "a/one.txt").stat().st_mtime_ns == before
    assert (tmp_path / "a/two.txt").read_text() == "two"


def test_a_disk_that_fills_up_is_named_and_nothing_half_written_is_left(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("pictures/1.jpg", b"1")
    monkeypatch.setattr("flmm.download.shutil.copyfileobj", full)
    with pytest.raises(ValueError, match=r"1\.jpg cannot be written \(No space left on device\): make room and run"):
        unpack(archive, tmp_path)
    assert list((tmp_path / "pictures").iterdir()) == []


def test_a_data_set(server, tmp_path, capsys):
    inner = zipped(("panoptic_val2017/1.png", "picture"))
    server.files["p.zip"] = zipped(
        ("annotations/panoptic_val2017.json", "{}"), ("annotations/panoptic_val2017.zip", inner)
    )
    made = ("coco/annotations/panoptic_val2017.json", "coco/annotations/panoptic_val2017")
    sources = [
        Source("p.zip", server.url("p.zip"), "coco", made),
        Source("gone.zip", server.url("gone.zip"), "coco", ("coco/gone",)),
        Source("captions", "https://example.org/#downloads", "coco", ("coco/captions.json",)),
    ]
    assert data_get.get(sources, tmp_path, dry_run=True) == 1
    assert leftovers(tmp_path) == []
    assert data_get.get(sources, tmp_path) == 1
    printed = capsys.readouterr().out
    assert "by hand" in printed
    assert "gone.zip: the server says 404" in printed
    assert leftovers(tmp_path) == ["1.png", "panoptic_val2017.json"]
    asked = len(server.asked)
    assert data_get.get(sources[:1], tmp_path) == 0
    assert "nothing is missing" in capsys.readouterr().out
    assert len(server.asked) == asked
    server.files["p.zip"] = zipped(("../evil", "evil"))
    assert data_get.get(sources[:1], tmp_path / "other") == 1
    assert not (tmp_path / "evil").exists()


def test_the_command_knows_its_sources(tmp_path, capsys):
    assert main(["data", "get", "reasonseg", "png", "--root", str(tmp_path)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "by hand" in printed
    assert "dvlab-research/LISA" in printed
    assert main(["data", "get", "reasonseg", "--only", "train2017.zip", "--root", str(tmp_path)]) == 1
    assert "has no such file" in capsys.readouterr().err
    urls = [source.url for sources in SETS.values() for source in sources if not source.by_hand]
    assert len(urls) == len(set(urls)) == 4 + 3 + 11
    assert all(url.startswith("http") and " " not in url for url in urls)
