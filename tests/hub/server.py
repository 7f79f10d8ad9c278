"""A small Hugging Face Hub in memory that speaks over HTTP what the client asks, and misbehaves on demand.

Repositories with commits, branches, tags and pull requests; small files in the commit, .safetensors by LFS from another origin,
as on the Hub; tokens and private repositories. Xet is not spoken: clients run with HF_HUB_DISABLE_XET=1.
"""

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


@dataclasses.dataclass
class Repo:
    """Refs (branches, tags, refs/pr/N) → commits, each commit a whole tree of path → bytes."""

    private: bool = False
    refs: dict[str, str] = dataclasses.field(default_factory=dict)
    trees: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    pull_requests: int = 0

    def commit(self, ref: str, tree: dict[str, bytes]) -> str:
        oid = hashlib.sha1(f"{len(self.trees)} {self.refs.get(ref)} {sorted(tree)}".encode()).hexdigest()
        self.trees[oid], self.refs[ref] = dict(tree), oid
        return oid

    def tree(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        oid = self.refs.get(revision, revision)
        return (oid, self.trees[oid]) if oid in self.trees else None


@dataclasses.dataclass
class Fault:
    """What happens to the next ``times`` requests of a method whose path contains ``part``.

    ``what``: ``"status"`` answers with ``status`` and ``headers``; ``"drop"`` breaks the connection after half of the body;
    ``"short"`` sends half of the body as if it were all; ``"wrong"`` flips the bytes; ``"stall"`` sends half (or, asked to take
    a body, takes half), then waits until the Hub is closed; ``"deaf"`` does what was asked and breaks the connection unanswered.
    """

    method: str
    part: str
    what: str
    times: int = 1
    status: int = 500
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


class Hub:
    """``with Hub() as hub:`` serves at ``hub.url``."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}  # what was uploaded by LFS: SHA-256 → bytes
        self.tokens = {"hf_ada": "ada", "hf_bob": "bob"}  # token → user
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str]] = []
        self.connections: list[socket.socket] = []
        self.ranges: list[str] = []  # of the requests that asked for a part
        self.stalled, self.closed, self.lock = threading.Semaphore(0), threading.Event(), threading.RLock()

    def __enter__(self) -> "Hub":
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url, self.storage = f"http://127.0.0.1:{self.port}", f"http://localhost:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        """From now on nothing answers, on open connections neither."""
        self.closed.set()
        self.server.shutdown()
        self.server.server_close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def add(self, repo: str, files: dict[str, bytes], private: bool = False) -> str:
        """A commit without the client; returns its hash."""
        made = self.repos.setdefault(repo, Repo(private))
        return made.commit("main", files)

    def fault(self, method: str, part: str, what: str, **options) -> None:
        self.faults.append(Fault(method, part, what, **options))

    def count(self, method: str, part: str) -> int:
        return sum(m == method and part in path for m, path in self.requests)

    def taken(self, method: str, path: str) -> Fault | None:
        """The fault that meets this request, used up by it."""
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and fault.part in path:
                    fault.times -= 1
                    return fault
        return None


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".pt"))


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None):
        self.status, self.message, self.code = status, message, code


# Method, path and what answers; {id} is owner/name.
ROUTES = (
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate"),
    ("POST", "/api/models/{id}/preupload/{rev}", "preupload"),
    ("POST", "/api/models/{id}/commit/{rev}", "commit"),
    ("POST", "/api/models/{id}/branch/{rev}", "branch"),
    ("POST", "/api/models/{id}/tag/{rev}", "tag"),
    ("GET", "/api/models/{id}/refs", "refs"),
    ("GET", "/api/models/{id}/tree/{rev}", "listing"),
    ("GET", "/api/models/{id}/revision/{rev}", "info"),
    ("GET", "/api/models/{id}", "info"),
    ("POST", "/{id}.git/info/lfs/objects/batch", "batch"),
    ("PUT", "/lfs/{oid}", "upload"),
    ("POST", "/lfs/{oid}/verify", "verify"),
    ("GET", "/storage/{oid}", "stored"),
    ("GET", "/{id}/resolve/{rev}/{path}", "resolve"),
)


def _pattern(path: str) -> re.Pattern:
    return re.compile(re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>[^/]+{'/[^/]+?' * (m[1] == 'id')})", path))


PATTERNS = [(method, _pattern(path), name) for method, path, name in ROUTES]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        self.query, path = parse_qs(split.query), split.path
        self.hub.requests.append((self.command, path))
        self.faulty = self.hub.taken(self.command, path)
        try:
            self.body = self._read_body()
            if self.faulty and self.faulty.what == "status":
                return self._reply(self.faulty.status, b"no", self.faulty.headers)
            method = "GET" if self.command == "HEAD" else self.command
            for wanted, pattern, name in PATTERNS:
                match = pattern.fullmatch(path)
                if wanted == method and match:
                    with self.hub.lock:
                        answer = getattr(self, f"_{name}")(**{k: unquote(v) for k, v in match.groupdict().items()})
                    return (
                        self._reply(*answer) if isinstance(answer, tuple) else self._reply(200, json.dumps(answer).encode())
                    )
            self._reply(404, b'{"error": "no such page"}')
        except _Refusal as refusal:
            code = {"X-Error-Code": refusal.code} if refusal.code else {}
            body = json.dumps({"error": refusal.message}).encode()
            self._reply(refusal.status, body, {"X-Error-Message": refusal.message, **code})
        except ConnectionError:
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_GET

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        length = int(self.headers.get("Content-Length") or 0)
        if self.faulty and self.faulty.what == "stall" and length:
            self.rfile.read(length // 2)
            self._stall()
        return self.rfile.read(length)

    def _stall(self) -> None:
        self.hub.stalled.release()
        self.hub.closed.wait()
        raise ConnectionError

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        what = self.faulty.what if self.faulty else None
        if what == "deaf":
            raise self._broken()
        body = {"short": body[: len(body) // 2], "wrong": body[::-1]}.get(what, body)
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[: len(body) // 2] if what in ("drop", "stall") else body)
        self.wfile.flush()
        if what == "stall":
            self._stall()
        if what == "drop":
            raise self._broken()

    def _broken(self) -> ConnectionError:
        self.close_connection = True
        return ConnectionError()

    def _user(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.tokens:
            raise _Refusal(401, "Invalid credentials in Authorization header")
        return self.hub.tokens.get(token)

    def _repo(self, name: str) -> Repo:
        user, repo = self._user(), self.hub.repos.get(name)
        if repo is None or (repo.private and user != name.split("/")[0]):
            # As the Hub: who is not logged in is not told whether there is one.
            raise _Refusal(401 if user is None else 404, "Repository not found", "RepoNotFound")
        return repo

    def _writable(self, name: str, proposed: bool = False) -> Repo:
        repo, user = self._repo(name), self._user()
        if user is None:
            raise _Refusal(401, "Invalid username or password.")
        if user != name.split("/")[0] and not proposed:
            raise _Refusal(403, f"{user} may not write to {name}")
        return repo

    def _tree(self, repo: Repo, revision: str) -> tuple[str, dict[str, bytes]]:
        found = repo.tree(revision)
        if found is None:
            raise _Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    def _create(self):
        wanted, user = json.loads(self.body), self._user()
        if user is None:
            raise _Refusal(401, "Invalid username or password.")
        owner = wanted.get("organization") or user
        name = f"{owner}/{wanted['name']}"
        exists = name in self.hub.repos
        if not exists and owner != user:
            raise _Refusal(403, f"You don't have the rights to create a model under the namespace {owner}")
        if not exists:
            self.hub.add(
                name, {".gitattributes": b""}, wanted.get("visibility") == "private" or wanted.get("private") is True
            )
        return (409 if exists else 200, json.dumps({"url": f"{self.hub.url}/{name}"}).encode())

    def _validate(self):
        good = json.loads(self.body)["content"].startswith("---\n")
        return (200 if good else 400, json.dumps({"errors": [] if good else [{"message": "no metadata"}]}).encode())

    def _preupload(self, id: str, rev: str):
        repo = self._writable(id, "create_pr" in self.query)
        _, tree = self._tree(repo, rev)
        return {"files": [self._present(f["path"], tree) for f in json.loads(self.body)["files"]]}

    def _present(self, path: str, tree: dict[str, bytes]) -> dict:
        oid = {} if path not in tree else {"oid": (sha256 if is_large(path) else git_hash)(tree[path])}
        return {"path": path, "uploadMode": "lfs" if is_large(path) else "regular", "shouldIgnore": False, **oid}

    def _batch(self, id: str):
        self._repo(id)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            href = f"{self.hub.storage}/lfs/{wanted['oid']}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append({**wanted, **({} if wanted["oid"] in self.hub.large else {"actions": actions})})
        return {"transfer": "basic", "objects": objects}

    def _upload(self, oid: str):
        if sha256(self.body) != oid:
            raise _Refusal(400, "the hash is another")
        self.hub.large[oid] = self.body
        return {}

    def _verify(self, oid: str):
        if oid not in self.hub.large:
            raise _Refusal(404, "not uploaded")
        return {}

    def _commit(self, id: str, rev: str):
        proposed = "create_pr" in self.query
        repo = self._writable(id, proposed)
        head, tree = self._tree(repo, rev)
        tree, parent = dict(tree), None
        for line in self.body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "header":
                parent = value.get("parentCommit")
            elif key == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.hub.large:
                    raise _Refusal(400, f"{value['path']} was not uploaded")
                tree[value["path"]] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                del tree[value["path"]]
        if parent not in (None, head):
            raise _Refusal(412, "A commit has happened since. Please refresh and try again.")
        address = {}
        if proposed:
            repo.pull_requests += 1
            rev = f"refs/pr/{repo.pull_requests}"
            address = {"pullRequestUrl": f"{self.hub.url}/{id}/discussions/{repo.pull_requests}"}
        oid = repo.commit(rev, tree)
        return {"commitOid": oid, "commitUrl": f"{self.hub.url}/{id}/commit/{oid}", **address}

    def _branch(self, id: str, rev: str):
        return self._ref(id, rev, json.loads(self.body).get("startingPoint", "main"))

    def _tag(self, id: str, rev: str):
        return self._ref(id, json.loads(self.body)["tag"], rev)

    def _ref(self, id: str, name: str, start: str):
        repo = self._writable(id)
        if name in repo.refs:
            raise _Refusal(409, f"{name} exists")
        repo.refs[name], _ = self._tree(repo, start)
        return {}

    def _refs(self, id: str):
        refs = self._repo(id).refs
        return {"branches": [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in refs.items()], "tags": []}

    def _info(self, id: str, rev: str = "main"):
        repo = self._repo(id)
        oid, tree = self._tree(repo, rev)
        return {"id": id, "sha": oid, "private": repo.private, "siblings": [{"rfilename": p} for p in sorted(tree)]}

    def _listing(self, id: str, rev: str):
        entries = []
        for path, content in sorted(self._tree(self._repo(id), rev)[1].items()):
            lfs = {"lfs": {"oid": sha256(content), "size": len(content), "pointerSize": 134}} if is_large(path) else {}
            entries.append({"type": "file", "path": path, "size": len(content), "oid": git_hash(content), **lfs})
        return entries

    def _resolve(self, id: str, rev: str, path: str):
        oid, tree = self._tree(self._repo(id), rev)
        commit = {"X-Repo-Commit": oid}
        if path not in tree:
            body = b'{"error": "Entry not found"}'
            return 404, body, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", **commit}
        content = tree[path]
        if not is_large(path):
            return self._bytes(content, {"ETag": f'"{git_hash(content)}"', **commit})
        self.hub.large[sha256(content)] = content
        linked = {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
        return 302, b"", {"Location": f"{self.hub.storage}/storage/{sha256(content)}", **linked, **commit}

    def _stored(self, oid: str):
        if self.headers.get("Authorization"):
            raise _Refusal(400, "a token that was not meant for the storage")
        return self._bytes(self.hub.large[oid], {"ETag": f'"{oid}"'})

    def _bytes(self, content: bytes, headers: dict[str, str]):
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if not asked:
            return 200, content, headers
        self.hub.ranges.append(asked[0])
        start = int(asked[1])
        return 206, content[start:], {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}", **headers}
