"""A Hugging Face Hub on 127.0.0.1, for the real client to talk to; ``python -m tests.hub_server`` serves one."""

import argparse
import base64
import hashlib
import json
import math
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

# what is asked and answered


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def asks(self, name: str) -> bool:
        """Whether a switch of the query is on."""
        return self.query.get(name, [""])[0].lower() in ("1", "true")


@dataclass(frozen=True)
class Answer:
    """What an endpoint answers. The body is left out of the answer to a HEAD request."""

    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200

    @classmethod
    def json(cls, value: object, status: int = 200, **headers: str) -> "Answer":
        return cls(json.dumps(value).encode(), {"Content-Type": "application/json", **headers}, status)


class Refused(Exception):
    """An endpoint does not do what was asked; ``code`` is what the client tells some of the cases apart by."""

    def __init__(self, status: int, message: str, code: str = "", **headers: str):
        super().__init__(message)
        headers |= {"X-Error-Message": re.sub("[^ -~]", "?", message)} | ({"X-Error-Code": code} if code else {})
        self.answer = Answer.json({"error": message}, status, **headers)


# what a repository is made of


@dataclass(frozen=True)
class Blob:
    """A file's content, kept by git or, where ``lfs``, beside it with a pointer to it in git."""

    data: bytes
    lfs: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @cached_property
    def oid(self) -> str:
        return blob_of(self.pointer if self.lfs else self.data)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid

    def describe(self, oid: str, lfs_oid: str) -> dict[str, Any]:
        """Its sizes and names, the names under the keys that a listing has for them."""
        size = len(self.data)
        lfs = {"lfs": {lfs_oid: self.sha256, "size": size, "pointerSize": len(self.pointer)}} if self.lfs else {}
        return {oid: self.oid, "size": size, **lfs}


@dataclass(frozen=True)
class Commit:
    files: Mapping[str, Blob]
    parent: "Commit | None" = None
    title: str = "initial commit"
    message: str = ""
    date: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")

    @cached_property
    def id(self) -> str:
        listing = listing_of({path: blob.data for path, blob in self.files.items()})
        after = f"\n{self.parent.id} {self.title}\n{self.message}" if self.parent else ""
        return hashlib.sha1((listing + after).encode()).hexdigest()

    @property
    def history(self) -> Iterator["Commit"]:
        commit = self
        while commit:
            yield commit
            commit = commit.parent

    @cached_property
    def tree(self) -> dict[str, dict[str, Any]]:
        """What is listed for every file and folder."""
        folders = {str(folder) for path in self.files for folder in PurePosixPath(path).parents} - {"."}
        tree = {path: {"type": "directory", "oid": blob_of(path.encode()), "size": 0} for path in folders}
        tree |= {path: {"type": "file", **blob.describe("oid", "oid")} for path, blob in self.files.items()}
        return {path: {"path": path, **tree[path]} for path in sorted(tree)}


@dataclass
class Repo:
    """A model, dataset or Space: its refs by their full names, and all commits that were ever made to it.

    ``readers`` are the tokens for what is private or gated.
    """

    kind: str
    id: str
    readers: set[str] = field(default_factory=set)
    private: bool = False
    gated: bool = False
    sdk: str | None = None
    refs: dict[str, Commit] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    titles: dict[int, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where it is on the site, and its name in `HubServer.repos`."""
        return self.id if self.kind == "models" else f"{self.kind}/{self.id}"

    def find(self, revision: str) -> Commit:
        for ref in (revision, f"refs/heads/{revision}", f"refs/tags/{revision}"):
            if ref in self.refs:
                return self.refs[ref]
        if revision not in self.commits:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[revision]

    def move(self, ref: str, commit: Commit) -> None:
        self.refs[ref] = self.commits[commit.id] = commit

    def open_pull_request(self, title: str, commit: Commit) -> int:
        number = 1 + sum(ref.startswith("refs/pr/") for ref in self.refs)
        self.titles[number] = title
        self.move(f"refs/pr/{number}", commit)
        return number


def blob_of(data: bytes) -> str:
    """Name of a file's content, as git gives it."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def listing_of(files: Mapping[str, bytes]) -> str:
    return "\n".join(f"{blob_of(files[path])} {path}" for path in sorted(files))


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def commit_of(folder: Path) -> str:
    """The commit that a `HubServer` has a folder as."""
    return hashlib.sha1(listing_of(read_files(folder)).encode()).hexdigest()


def is_ignored(path: str, rules: str) -> bool:
    """Whether a .gitignore leaves a file out; of its language only names and ``*`` are understood."""
    names = [rule.strip().strip("/") for rule in rules.splitlines() if not rule.startswith("#")]
    folders = [str(folder) for folder in PurePosixPath(path).parents]
    return any(fnmatch(part, name) for part in (path, *path.split("/"), *folders) for name in names)


# the Hub

Endpoint = Callable[..., Any]
ROUTES: list[tuple[str, re.Pattern, bool, Endpoint]] = []


def route(method: str, path: str, writes: bool = False) -> Callable[[Endpoint], Endpoint]:
    """Say what an endpoint answers, HEAD where it does GET; what is in braces are its arguments."""
    path = path.replace("{api}", "/api/(?P<repo>(?:models|datasets|spaces)/[^/]+/[^/]+)")
    path = path.replace("{site}", "/(?P<repo>(?:(?:datasets|spaces)/)?[^/]+/[^/]+)").replace("{path}", "(?P<path>.+)")
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))

    def register(endpoint: Endpoint) -> Endpoint:
        ROUTES.append((method, pattern, writes, endpoint))
        return endpoint

    return register


@dataclass
class Fault:
    pattern: str
    how: str | Answer
    times: float


class HubServer:
    """The Hub's endpoints for reading and writing repositories, which it keeps in memory.

        with HubServer({"owner/name": {"main": folder}}) as hub:
            ...  # a client with HF_ENDPOINT=hub.url, and to write HF_TOKEN=hub.token

    ``requests`` is what was asked for, as methods and paths; ``repos`` has the repositories.

    Args:
        repos: A folder for every revision of every repository, as for `add`.
        private: Repositories that are there only for who sends this token.
        gated: Repositories of which only who sends this token gets files; None for nobody.
        token: Who sends it may read and write everything. Who sends another, or none, may read what is public.
        lfs: Keep safetensors and large files as LFS objects, for a client with HF_HUB_DISABLE_XET=1 to upload.
        port: Where to listen; by default anywhere at first, and there again after that.
    """

    USER = "local"
    LARGE = 10_000_000
    FAULTS = ("drop", "cut", "lost", "half", "truncate", "alter")

    def __init__(
        self,
        repos: Mapping[str, Mapping[str, Path]] | None = None,
        private: Mapping[str, str] | None = None,
        gated: Mapping[str, str | None] | None = None,
        token: str = "hf_local",
        lfs: bool = False,
        port: int = 0,
    ):
        self.token = token
        self.lfs = lfs
        self.repos: dict[str, Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self._objects: dict[str, bytes] = {}
        self._started: set[str] = set()
        self._lock = threading.RLock()
        self._port = port
        self._server: _Server | None = None
        private, gated = private or {}, gated or {}
        for name, revisions in (repos or {}).items():
            repo = self.add(name, revisions)
            repo.private, repo.gated = name in private, name in gated
            repo.readers |= {private.get(name), gated.get(name)} - {None}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "HubServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._server = _Server(self, self._port)
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.stop()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The Hub is out of reach for a while, at the same address."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def add(self, name: str, revisions: Mapping[str, Path]) -> Repo:
        """Make a repository of folders.

        Args:
            name: ``owner/name``, or ``spaces/owner/name``.
            revisions: ``main`` is a branch, a full name like ``refs/heads/dev`` or ``refs/pr/1`` is what it says, and
                anything else is a tag.
        """
        kind, _, rest = name.partition("/")
        repo = Repo(kind, rest, {self.token}) if "/" in rest else Repo("models", name, {self.token})
        for revision, folder in revisions.items():
            commit = Commit({path: self._blob(path, data) for path, data in read_files(folder).items()})
            folders = "" if revision.startswith("refs/") else "refs/heads/" if revision == "main" else "refs/tags/"
            repo.move(folders + revision, commit)
        with self._lock:
            self.repos[name] = repo
        return repo

    def commit(self, repo: str, revision: str = "main") -> Commit:
        with self._lock:
            return self.repos[repo].find(revision)

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """What a revision of a repository consists of."""
        return {path: blob.data for path, blob in self.commit(repo, revision).files.items()}

    def fail(self, pattern: str, how: str | Answer = "500", times: int | None = 1) -> None:
        """Let requests go wrong.

        Args:
            pattern: Which; searched for in what reads ``GET /owner/name/resolve/main/config.json``.
            how: An answer to give instead, or the status of one (429 asks the client to wait for a second), or

                - ``"drop"``: hang up once the request is read, and do nothing;
                - ``"cut"``: hang up in the middle of the request's body;
                - ``"lost"``: do what was asked for, and hang up instead of saying so;
                - ``"half"``: hang up in the middle of the answer's body;
                - ``"truncate"``: answer half of the body, as though it were the whole;
                - ``"alter"``: answer the body with another byte in its middle.

                The last three pass a HEAD request by.
            times: How many of them; None for all until `mend`.
        """
        if isinstance(how, str) and how.isdigit():
            how = Answer.json({"error": how}, int(how), **({"Retry-After": "1"} if how == "429" else {}))
        if not isinstance(how, Answer) and how not in self.FAULTS:
            raise ValueError(f"how={how!r} is no Answer, no status and none of {', '.join(self.FAULTS)}")
        with self._lock:
            self.faults.append(Fault(pattern, how, math.inf if times is None else times))

    def mend(self) -> None:
        """Let nothing go wrong any more."""
        with self._lock:
            self.faults.clear()

    # what its connections call

    def receive(self, method: str, path: str) -> str | Answer | None:
        """Note a request, and say how it is to fail."""
        with self._lock:
            self.requests.append((method, path))
            for fault in self.faults:
                passed_by = method == "HEAD" and fault.how in ("half", "truncate", "alter")
                if re.search(fault.pattern, f"{method} {path}") and not passed_by:
                    fault.times -= 1
                    self.faults = [fault for fault in self.faults if fault.times]
                    return fault.how
        return None

    def answer(self, request: Request) -> Answer:
        method = "GET" if request.method == "HEAD" else request.method
        for expected, pattern, writes, endpoint in ROUTES:
            match = pattern.fullmatch(request.path)
            if match and method == expected:
                arguments = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
                with self._lock:
                    try:
                        if "repo" in arguments:
                            arguments["repo"] = self._find(arguments["repo"], request.token)
                        if writes and request.token != self.token:
                            raise Refused(403 if request.token else 401, "This takes a token with the right to write")
                        answer = endpoint(self, request, **arguments)
                    except Refused as e:
                        return e.answer
                return answer if isinstance(answer, Answer) else Answer.json(answer)
        return Answer.json({"error": "Sorry, we can't find the page you are looking for."}, 404)

    def _find(self, name: str, token: str | None) -> Repo:
        """The repository that who sends the token may see."""
        repo = self.repos.get(name.removeprefix("models/"))
        if not repo or (repo.private and token not in repo.readers):
            raise Refused(404 if token else 401, "Repository not found", "RepoNotFound")
        return repo

    def _blob(self, path: str, data: bytes) -> Blob:
        blob = Blob(data, self._is_lfs(path, len(data)))
        if blob.lfs:
            self._objects[blob.sha256] = data
        return blob

    def _is_lfs(self, path: str, size: int) -> bool:
        return self.lfs and (path.endswith(".safetensors") or size > self.LARGE)

    # users and repositories

    @route("GET", "/api/whoami-v2")
    def whoami(self, request: Request) -> object:
        if request.token != self.token:
            raise Refused(401, "Invalid credentials in Authorization header")
        return {"type": "user", "name": self.USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}}

    @route("POST", "/api/repos/create", writes=True)
    def create_repo(self, request: Request) -> object:
        asked = request.json
        repo = Repo(f"{asked.get('type') or 'model'}s", f"{asked.get('organization') or self.USER}/{asked['name']}")
        repo.readers = {self.token}
        repo.private = asked.get("visibility") == "private" or bool(asked.get("private"))
        repo.sdk = asked.get("sdk")
        created = {"url": f"{self.url}/{repo.path}", "name": repo.id}
        if repo.path in self.repos:
            return Answer.json({"error": f"You already created {repo.path}", **created}, 409)
        files = {".gitattributes": Blob(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")}
        if repo.sdk:
            files["README.md"] = Blob(f"---\ntitle: {asked['name']}\nsdk: {repo.sdk}\n---\n".encode())
        repo.move("refs/heads/main", Commit(files))
        self.repos[repo.path] = repo
        return created

    @route("GET", "{api}(?:/revision/{revision})?")
    def info(self, request: Request, repo: Repo, revision: str = "main") -> object:
        commit = repo.find(revision)
        siblings = [
            {"rfilename": path, **(blob.describe("blobId", "sha256") if request.asks("blobs") else {})}
            for path, blob in sorted(commit.files.items())
        ]
        space = {"sdk": repo.sdk} if repo.kind == "spaces" else {}
        access = {"private": repo.private, "gated": "manual" if repo.gated else False, "disabled": False}
        dates = {"createdAt": [*commit.history][-1].date, "lastModified": commit.date}
        return {"id": repo.id, "sha": commit.id, "siblings": siblings, **access, **dates, **space}

    # what a revision has

    @route("GET", "{api}/tree/{revision}(?:/{path})?")
    def list_tree(self, request: Request, repo: Repo, revision: str, path: str = "") -> object:
        tree = repo.find(revision).tree
        if path and path not in tree:
            raise Refused(404, f"{path} does not exist on {revision}", "EntryNotFound")
        names = [name for name in tree if name.startswith(f"{path}/" if path else "")]
        if not request.asks("recursive"):
            names = [name for name in names if PurePosixPath(name).parent == PurePosixPath(path)]
        return [tree[name] for name in names]

    @route("GET", "{api}/commits/{revision}")
    def list_commits(self, request: Request, repo: Repo, revision: str) -> object:
        authors = [{"user": self.USER}]
        return [
            {"authors": authors, **{name: getattr(commit, name) for name in ("id", "title", "message", "date")}}
            for commit in repo.find(revision).history
        ]

    @route("GET", "{site}/resolve/{revision}/{path}")
    def download(self, request: Request, repo: Repo, revision: str, path: str) -> Answer:
        if repo.gated and request.token not in repo.readers:
            raise Refused(403 if request.token else 401, f"Access to {repo.id} is restricted", "GatedRepo")
        commit = repo.find(revision)
        headers = {"X-Repo-Commit": commit.id}
        if path not in commit.files:
            raise Refused(404, "Entry not found", "EntryNotFound", **headers)
        blob = commit.files[path]
        size = len(blob.data)
        headers |= {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        headers |= {"X-Linked-Size": str(size), "X-Linked-Etag": f'"{blob.etag}"'} if blob.lfs else {}
        span = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
        if not span or span[0] == "bytes=-":
            return Answer(blob.data, headers)
        start = int(span[1]) if span[1] else max(0, size - int(span[2]))
        end = min(size, int(span[2]) + 1) if span[1] and span[2] else size
        if start >= end:
            return Answer(b"", {**headers, "Content-Range": f"bytes */{size}"}, 416)
        return Answer(blob.data[start:end], {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}, 206)

    # commits

    @route("POST", "/api/validate-yaml")
    def validate_card(self, request: Request) -> object:
        """Only whether there is front matter, and an end to it; not what it says."""
        content = request.json["content"]
        if not content.startswith("---\n"):
            return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
        if not re.search(r"\n---\s*(\n|$)", content):
            return Answer.json({"errors": [{"message": "the yaml metadata has no end"}], "warnings": []}, 400)
        return {"errors": [], "warnings": []}

    @route("POST", "{api}/preupload/{revision}", writes=True)
    def prepare_commit(self, request: Request, repo: Repo, revision: str) -> object:
        files = repo.find(revision).files
        rules = request.json.get("gitIgnore") or files.get(".gitignore", Blob(b"")).data.decode()

        def prepare(path: str, size: int) -> object:
            mode = "lfs" if self._is_lfs(path, size) else "regular"
            oid = files[path].etag if path in files else None
            return {"path": path, "uploadMode": mode, "shouldIgnore": is_ignored(path, rules), "oid": oid}

        return {"files": [prepare(file["path"], file["size"]) for file in request.json["files"]]}

    @route("POST", "{api}/commit/{revision}", writes=True)
    def create_commit(self, request: Request, repo: Repo, revision: str) -> object:
        head = repo.find(revision)
        header, *operations = (json.loads(line) for line in request.body.splitlines())
        header = header["value"]
        if not head.id.startswith(header.get("parentCommit", "")):
            raise Refused(412, "A commit has happened since. Please refresh and try again.")
        files = dict(head.files)
        for operation in operations:
            self._apply(files, operation["key"], operation["value"])
        commit = Commit(files, head, header["summary"], header.get("description", ""))
        created = {"success": True, "commitOid": commit.id, "commitUrl": f"{self.url}/{repo.path}/commit/{commit.id}"}
        if request.asks("create_pr"):
            number = repo.open_pull_request(commit.title, commit)
            return {**created, "pullRequestUrl": f"{self.url}/{repo.path}/discussions/{number}"}
        ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
        if ref not in repo.refs:
            raise Refused(400, f"{revision} is neither a branch nor a pull request")
        repo.move(ref, commit)
        return created

    def _apply(self, files: dict[str, Blob], key: str, value: Mapping[str, Any]) -> None:
        """Do to the files what a line of a commit says."""
        path = value["path"]
        if key == "file":
            content = value["content"].encode()
            files[path] = Blob(base64.b64decode(content) if value.get("encoding") == "base64" else content)
        elif key == "lfsFile":
            if value["oid"] not in self._objects:
                raise Refused(400, f"The LFS object {value['oid']} of {path} has not been uploaded")
            files[path] = Blob(self._objects[value["oid"]], lfs=True)
        elif key in ("deletedFile", "deletedFolder"):
            inside = f"{path.rstrip('/')}/"
            gone = [name for name in files if (name == path if key == "deletedFile" else name.startswith(inside))]
            if not gone:
                raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
            for name in gone:
                del files[name]
        else:
            raise Refused(400, f"Unknown operation {key}")

    # LFS objects

    @route("POST", "{site}[.]git/info/lfs/objects/batch", writes=True)
    def start_uploads(self, request: Request, repo: Repo) -> object:
        objects = request.json["objects"]
        verify = {"href": f"{self.url}/{repo.path}.git/info/lfs/verify"}
        for file in objects:
            if file["oid"] not in self._objects:
                self._started.add(file["oid"])
                file["actions"] = {"upload": {"href": f"{self.url}/lfs/{file['oid']}"}, "verify": verify}
        return {"objects": objects}

    @route("PUT", "/lfs/{oid}")
    def upload(self, request: Request, oid: str) -> Answer:
        """Comes without a token: that the upload was started is right enough."""
        if oid not in self._started:
            raise Refused(403, "This upload has not been started")
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise Refused(400, "What was uploaded has another sha256")
        self._objects[oid] = request.body
        return Answer()

    @route("POST", "{site}[.]git/info/lfs/verify", writes=True)
    def verify_upload(self, request: Request, repo: Repo) -> Answer:
        if len(self._objects.get(request.json["oid"], b"")) != request.json["size"]:
            raise Refused(404, "No such object")
        return Answer()

    # branches, tags and pull requests

    @route("GET", "{api}/refs")
    def list_refs(self, request: Request, repo: Repo) -> object:
        def refs(prefix: str) -> list[dict[str, str]]:
            names = sorted(ref for ref in repo.refs if ref.startswith(prefix))
            return [{"name": ref[len(prefix) :], "ref": ref, "targetCommit": repo.refs[ref].id} for ref in names]

        lists = {"branches": refs("refs/heads/"), "tags": refs("refs/tags/"), "pullRequests": refs("refs/pr/")}
        return {**lists, "converts": []}

    @route("POST", "{api}/branch/{name}", writes=True)
    def create_branch(self, request: Request, repo: Repo, name: str) -> object:
        return self._create_ref(repo, "refs/heads/", name, request.json.get("startingPoint") or "main")

    @route("POST", "{api}/tag/{revision}", writes=True)
    def create_tag(self, request: Request, repo: Repo, revision: str) -> object:
        return self._create_ref(repo, "refs/tags/", request.json["tag"], revision)

    def _create_ref(self, repo: Repo, kind: str, name: str, revision: str) -> object:
        if name.startswith("refs/"):
            raise Refused(400, f"Invalid reference for a branch or tag: {name}")
        if kind + name in repo.refs:
            raise Refused(409, f"Reference already exists: {name}")
        repo.move(kind + name, repo.find(revision))
        return {}

    @route("DELETE", "{api}/(?P<kind>branch|tag)/{name}", writes=True)
    def delete_ref(self, request: Request, repo: Repo, kind: str, name: str) -> object:
        ref = f"refs/{'heads' if kind == 'branch' else 'tags'}/{name}"
        if ref == "refs/heads/main":
            raise Refused(403, "main cannot be deleted")
        if not repo.refs.pop(ref, None):
            raise Refused(404, f"No such reference: {ref}", "RevisionNotFound")
        return {}

    @route("POST", "{api}/discussions", writes=True)
    def create_pull_request(self, request: Request, repo: Repo) -> object:
        return {"num": repo.open_pull_request(request.json["title"], repo.find("main"))}

    @route("GET", "{api}/discussions/{number}")
    def pull_request(self, request: Request, repo: Repo, number: str) -> object:
        commit = repo.find(f"refs/pr/{number}")
        about = {"num": int(number), "title": repo.titles.get(int(number), commit.title), "author": {"name": self.USER}}
        state = {"isPullRequest": True, "status": "draft", "createdAt": commit.date, "events": []}
        changes = {"changes": {"base": "refs/heads/main"}, "filesWithConflicts": []}
        return {**about, **state, **changes, "repo": {"name": repo.id, "type": repo.kind[:-1]}}


# its connections


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, hub: HubServer, port: int):
        self.hub = hub
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Connection)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self.connections.add(connection)
        return connection, address

    def close_request(self, request: socket.socket) -> None:
        self.connections.discard(request)
        super().close_request(request)

    def stop(self) -> None:
        """Hang up on everyone; a connection that is kept alive would go on being answered."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def respond(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        fault = hub.receive(self.command, url.path)
        if self.headers["Transfer-Encoding"]:
            self.close_connection = True
            self.send(Answer(status=411), None)
            return
        size = int(self.headers["Content-Length"] or 0)
        body = self.rfile.read(size // 2 if fault == "cut" else size)
        if fault in ("cut", "drop") or len(body) < size:
            self.close_connection = True
            return
        if isinstance(fault, Answer):
            answer = fault
        else:
            answer = hub.answer(Request(self.command, url.path, parse_qs(url.query), self.headers, body))
        if fault == "lost":
            self.close_connection = True
            return
        self.send(answer, fault)

    def send(self, answer: Answer, fault: object) -> None:
        body = answer.body
        middle = len(body) // 2
        if fault == "truncate":
            body = body[:middle]
        elif fault == "alter" and body:
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if fault == "half":
            body = body[:middle]
            self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = respond

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hub_server",
        description=__doc__,
        epilog="Its one token is hf_local. Point a client at it by HF_ENDPOINT; with --lfs also HF_HUB_DISABLE_XET=1.",
    )
    parser.add_argument("--port", type=int, default=0, help="where to listen; anywhere by default")
    parser.add_argument("--lfs", action="store_true", help="keep safetensors and large files as LFS objects")
    args = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with HubServer(port=args.port, lfs=args.lfs) as hub:
        print(hub.url, flush=True)
        while not ended.wait(1):
            pass


if __name__ == "__main__":
    main()
