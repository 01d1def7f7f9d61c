"""A server of this machine that speaks the Hugging Face hub's API: repositories, downloads, uploads, refusals."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import _http

TOKEN = "hf_of_the_test"
LARGE = (".safetensors", ".bin", ".pth", ".png")  # what the hub keeps apart from git


class HubServer(ThreadingHTTPServer):
    """Holds `repositories`: name -> commit -> path -> content, the newest commit last.

    Attributes:
        private: Repositories that only `TOKEN` may see.
        gated: Repositories whose license nobody has accepted.
        tags: (repository, revision) -> commit.
        asked: Method and path of every request.
        ranges: Ranges that downloads asked for.
        breaks: So many times a download of more than `limit` bytes breaks off there.
        damaged: Paths that are sent with a wrong byte.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories, self.objects, self.asked = {}, {}, []
        self.ranges = []
        self.private, self.gated, self.tags, self.damaged = set(), set(), {}, set()
        self.breaks, self.limit = 0, 1000

    def go_offline(self, monkeypatch):
        """What HF_HUB_OFFLINE=1 does when a process starts."""
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        forget_sessions()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, name, files):
        """Adds a commit with changed files; returns its name."""
        commits = self.repositories.setdefault(name, {})
        before = list(commits.values())[-1] if commits else {}
        commit = hashlib.sha1(f"{name} {len(commits)}".encode()).hexdigest()
        commits[commit] = {**before, **files}
        return commit

    def files(self, name):
        """The files of the newest commit."""
        return list(self.repositories[name].values())[-1]


def forget_sessions():
    """Closes the connections of huggingface_hub: they keep whether it was offline."""
    _http.close_session()


def digest(path, content):
    """What the hub calls a file: SHA-256 of a large one, git's digest of a small one."""
    if path.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.route("HEAD")

    def do_GET(self):
        self.route("GET")

    def do_PUT(self):
        self.server.asked.append(("PUT", self.path))
        self.server.objects[self.path.rpartition("/")[2]] = self.body()
        self.say(200, {})

    def do_POST(self):
        self.server.asked.append(("POST", self.path))
        body = self.body()
        if self.path == "/api/validate-yaml":
            return self.say(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, message="Invalid credentials in Authorization header")
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        if self.path.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        kind, name, revision = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(\w+)/(.+)", self.path).group(2, 1, 3)
        if kind == "preupload":
            files = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(body)["files"]
            ]
            return self.say(200, {"files": files})
        return self.take_commit(name, revision, body)

    def create(self, asked):
        name = f"{asked['organization']}/{asked['name']}"
        there = name in self.server.repositories
        if not there:
            self.server.commit(name, {".gitattributes": b""})
            private = asked.get("private") or asked.get("visibility") == "private"  # the second since 1.0
            self.server.private |= {name} if private else set()
        self.say(409 if there else 200, {"url": f"{self.server.url}/{name}", "name": name})

    def batch(self, asked):
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/objects/{one['oid']}"}}}
            for one in asked["objects"]
            if one["oid"] not in self.server.objects
        ]
        self.say(200, {"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")

    def take_commit(self, name, revision, body):
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
        commit = self.server.commit(name, files)
        address = f"{self.server.url}/{name}/commit/{commit}"
        self.say(200, {"success": True, "commitOid": commit, "commitUrl": address, "hookOutput": ""})

    def route(self, method):
        self.server.asked.append((method, self.path))
        path = self.path.partition("?")[0]
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        name, revision = api.group(1, 3) if api else file.group(1, 2)
        files = self.found(name, revision or "main")
        if files is None:
            return None
        commit, files = files
        if file:
            return self.send_file(method, commit, file[3], files)
        if api[2] == "tree":
            return self.say(200, [entry(path, content) for path, content in files.items()])
        siblings = [{"rfilename": path} for path in files]
        return self.say(200, {"id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": False})

    def found(self, name, revision):
        """Commit and files, or nothing after a refusal."""
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        commits = self.server.repositories.get(name)
        if commits is None or name in self.server.private and not known:
            return self.refuse(404 if known else 401, "RepoNotFound")
        if name in self.server.gated:
            return self.refuse(403, "GatedRepo")
        commit = list(commits)[-1] if revision == "main" else self.server.tags.get((name, revision), revision)
        if commit not in commits:
            return self.refuse(404, "RevisionNotFound")
        return commit, commits[commit]

    def send_file(self, method, commit, path, files):
        if path not in files:
            return self.refuse(404, "EntryNotFound")
        content, name = files[path], digest(path, files[path])
        if path in self.server.damaged:
            content = bytes([content[0] ^ 1]) + content[1:]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted else 0
        if wanted:
            self.server.ranges.append(wanted[0])
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{name}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        rest = content[start:]
        if method == "GET" and self.server.breaks and len(rest) > self.server.limit:
            self.server.breaks -= 1
            rest = rest[: self.server.limit]
            self.close_connection = True
        if method == "GET":
            self.wfile.write(rest)
        return None

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def refuse(self, status, code=None, message=None):
        self.say(status, {"error": code or message}, **{"X-Error-Code": code, "X-Error-Message": message})

    def say(self, status, content, kind="application/json", **headers):
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        for key, value in headers.items():
            if value:
                self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    def log_message(self, *args):
        pass


def entry(path, content):
    """A file of a tree's listing."""
    name = digest(path, content)
    large = {"lfs": {"oid": name, "size": len(content), "pointerSize": 130}} if path.endswith(LARGE) else {}
    return {"type": "file", "path": path, "size": len(content), "oid": name[:40], **large}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The server, as the hub of this process, with an empty cache; logged in with its token."""
    server = HubServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cache = str(tmp_path / "hub_cache")
    for name, value in {
        "ENDPOINT": server.url,
        "HF_HUB_CACHE": cache,
        "HUGGINGFACE_HUB_CACHE": cache,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value, raising=False)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    forget_sessions()
    yield server
    forget_sessions()
    server.shutdown()
    server.server_close()
