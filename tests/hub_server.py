"""A small read-only Hugging Face Hub on 127.0.0.1, for the real client to talk to."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Answer:
    """What an endpoint answers. The body is left out of the answer to a HEAD request."""

    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200

    @classmethod
    def json(cls, value: object, status: int = 200, **headers: str) -> "Answer":
        return cls(json.dumps(value).encode(), {"Content-Type": "application/json", **headers}, status)


class Refused(Exception):
    """An endpoint that does not hand out what was asked for; ``code`` is what the client tells the cases apart by."""

    def __init__(self, status: int, code: str):
        super().__init__(code)
        self.answer = Answer.json({"error": code}, status, **{"X-Error-Code": code, "X-Error-Message": code})


class HubServer:
    """The Hub's endpoints for reading models; an endpoint that answers None hangs up.

        with HubServer({"owner/name": {"main": folder}}) as hub:
            ...  # a client with HF_ENDPOINT=hub.url

    Args:
        repos: The folder of every revision of every repository. A revision can be asked for by its commit as well.
        private: Repositories that are there only for who sends this token.
        gated: Repositories of which only who sends this token gets files; None for nobody.
    """

    ROUTES = (
        (r"/api/models/([^/]+/[^/]+)", "model_info"),
        (r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", "model_info"),
        (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", "tree"),
        (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
    )

    def __init__(
        self,
        repos: Mapping[str, Mapping[str, Path]],
        private: Mapping[str, str] | None = None,
        gated: Mapping[str, str | None] | None = None,
    ):
        self.repos = repos
        self.private = private or {}
        self.gated = gated or {}
        self.requests: list[tuple[str, str]] = []
        self._port = 0
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "HubServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The Hub is out of reach for a while, at the same address."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def model_info(self, token: str | None, repo: str, revision: str = "main") -> Answer:
        folder = self.find(token, repo, revision)
        siblings = [{"rfilename": name} for name in list_files(folder)]
        return Answer.json({"id": repo, "modelId": repo, "sha": commit_of(folder), "siblings": siblings})

    def tree(self, token: str | None, repo: str, revision: str) -> Answer:
        folder = self.find(token, repo, revision)
        files = {name: (folder / name).read_bytes() for name in list_files(folder)}
        return Answer.json(
            [{"type": "file", "path": name, "size": len(data), "oid": blob_of(data)} for name, data in files.items()]
        )

    def resolve(self, token: str | None, repo: str, revision: str, file: str) -> Answer:
        folder = self.find(token, repo, revision)
        if repo in self.gated and (token is None or token != self.gated[repo]):
            raise Refused(403 if token else 401, "GatedRepo")
        if file not in list_files(folder):
            raise Refused(404, "EntryNotFound")
        data = (folder / file).read_bytes()
        return Answer(data, {"X-Repo-Commit": commit_of(folder), "ETag": f'"{blob_of(data)}"'})

    def find(self, token: str | None, repo: str, revision: str) -> Path:
        """The folder of a revision that who sends the token may see."""
        revisions = self.repos.get(repo)
        if revisions is None or (repo in self.private and token != self.private[repo]):
            raise Refused(404 if token else 401, "RepoNotFound")
        for name, folder in revisions.items():
            if revision in (name, commit_of(folder)):
                return folder
        raise Refused(404, "RevisionNotFound")

    def _answer(self, method: str, target: str, authorization: str | None) -> Answer | None:
        path = urlsplit(target).path
        self.requests.append((method, path))
        token = authorization.removeprefix("Bearer ") if authorization else None
        for pattern, endpoint in self.ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                try:
                    return getattr(self, endpoint)(token, *map(unquote, match.groups()))
                except Refused as e:
                    return e.answer
        return Answer(status=404)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def respond(self) -> None:
                answer = hub._answer(self.command, self.path, self.headers["Authorization"])
                if answer is None:
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)

            do_GET = do_HEAD = respond

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def list_files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def blob_of(data: bytes) -> str:
    """Name of a file's content, as git gives it."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def commit_of(folder: Path) -> str:
    """Name of a folder's content, in the form of a commit."""
    listing = [f"{blob_of((folder / name).read_bytes())} {name}" for name in list_files(folder)]
    return hashlib.sha1("\n".join(listing).encode()).hexdigest()
