"""The Hub that the tests talk to, by the real client: what it keeps and hands out, and what comes of its faults."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ..hub_server import Answer, HubServer, commit_of

ROOT = Path(__file__).resolve().parents[2]

CLIENT = """
import json, sys
from pathlib import Path
from huggingface_hub import *
api = HfApi()
read = lambda folder: {path.relative_to(folder).as_posix(): path.read_bytes().decode("latin-1")
                       for path in sorted(Path(folder).rglob("*")) if path.is_file()}
for line in sys.stdin:
    code, names = json.loads(line)
    try:
        answer = {"value": eval(code, {**globals(), **names})}
    except Exception as e:
        answer = {"error": [kind.__name__ for kind in type(e).__mro__], "said": f"{e} {e.__cause__}"}
    print(json.dumps(answer, default=vars), flush=True)
"""


def environment(home, **variables):
    """As where nothing is set for the client but this."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {**env, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **variables}


class Client:
    """The client in a process of its own: it reads where the Hub is when it is imported."""

    def __init__(self, home, url, **variables):
        env = environment(home, HF_ENDPOINT=url, HF_TOKEN="hf_local", **variables)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, "-c", CLIENT], env=env, cwd=ROOT, text=True, **pipes)
        self.names = {}

    def _answer(self, code, names):
        names = {**self.names, **names}
        names = {name: str(value) if isinstance(value, Path) else value for name, value in names.items()}
        self.process.stdin.write(json.dumps([code, names]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __call__(self, code, **names):
        """What an expression is in the client."""
        answer = self._answer(code, names)
        assert "error" not in answer, answer
        return answer["value"]

    def raises(self, error, said, code, **names):
        answer = self._answer(code, names)
        assert error in answer.get("error", ()), answer
        assert re.search(said, answer["said"]), answer["said"]

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0


class Hub:
    """A Hub and a client, and for every test a repository, a folder to upload and a cache of its own."""

    def __init__(self, server, client):
        self.server = server
        self.client = client

    def requests(self, pattern):
        return [f"{method} {path}" for method, path in self.server.requests if re.search(pattern, f"{method} {path}")]

    @property
    def history(self):
        return [commit.title for commit in self.server.commit(self.repo).history]


FILES = {
    "README.md": b"---\nlicense: mit\n---\nA card",
    "config.json": b"{}",
    "sub/folder/empty": b"",
    "model.safetensors": bytes(range(256)) * 1200,
}


def write_files(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


@contextmanager
def serve(home, variables, **kwargs):
    with HubServer(**kwargs) as server:
        client = Client(home, server.url, **variables)
        yield Hub(server, client)
        client.close()


@pytest.fixture(scope="module")
def regular(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("home"), {}) as hub:
        yield hub


@pytest.fixture(scope="module")
def lfs(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("home"), {"HF_HUB_DISABLE_XET": "1"}, lfs=True) as hub:
        yield hub


def prepare(hub, request, tmp_path):
    hub.server.mend()
    hub.repo = f"me/{request.function.__name__}"
    hub.folder = write_files(tmp_path / "folder", FILES)
    hub.client.names = {"repo": hub.repo, "folder": hub.folder, "cache": tmp_path / "cache", "more": {}}
    hub.server.add(hub.repo, {"main": hub.folder})
    hub.server.requests.clear()
    return hub


@pytest.fixture
def hub(regular, request, tmp_path):
    return prepare(regular, request, tmp_path)


@pytest.fixture
def lfs_hub(lfs, request, tmp_path):
    return prepare(lfs, request, tmp_path)


@pytest.fixture(params=["regular", "lfs"])
def either(request, tmp_path):
    return prepare(request.getfixturevalue(request.param), request, tmp_path)


def text(files):
    return {name: data.decode("latin-1") for name, data in files.items()}


UPLOAD = "api.upload_folder(repo_id=repo, folder_path=folder, **more).oid"
DOWNLOAD = "read(api.snapshot_download(repo, cache_dir=cache, **more))"
WEIGHTS = "Path(api.hf_hub_download(repo, 'model.safetensors', cache_dir=cache)).read_bytes().decode('latin-1')"
COMMIT = "api.upload_file(repo_id=repo, path_in_repo='new', path_or_fileobj=b'new', commit_message='new', **more).oid"
CACHED = "sorted(path.name for path in Path(cache).glob('*/snapshots/*/*'))"


# reading and writing


@pytest.mark.parametrize("kind", ["model", "space"])
def test_round_trip(either, kind):
    server, client = either.server, either.client
    client.names.update(repo="me/new", to={"repo_id": "me/new", "repo_type": kind}, kind=kind)
    path = "me/new" if kind == "model" else "spaces/me/new"
    assert not client("api.repo_exists(**to)")
    sdk = ", space_sdk='gradio'" * (kind == "space")
    assert client(f"api.create_repo(**to{sdk})") == f"{server.url}/{path}"
    assert client("api.repo_exists(**to)")
    client.raises("HfHubHTTPError", "409", f"api.create_repo(**to{sdk})")
    assert client(f"api.create_repo(**to{sdk}, exist_ok=True)") == f"{server.url}/{path}"
    before, weights = server.files(path), f"the weights of {path}".encode() * 1000
    write_files(either.folder, {"model.safetensors": weights})
    assert ".gitattributes" in before and ("README.md" in before) == (kind == "space")

    oid = client("api.upload_folder(**to, folder_path=folder, commit_message='first', commit_description='long').oid")
    assert server.commit(path).id == oid and server.files(path) == {**before, **FILES, "model.safetensors": weights}
    files = server.files(path)
    assert client("read(api.snapshot_download(**to, cache_dir=cache))") == text(files)
    assert client("Path(api.hf_hub_download(**to, filename='config.json', cache_dir=cache)).read_text()") == "{}"
    assert client("api.list_repo_files(**to)") == sorted(files)
    assert client("[entry.path for entry in api.list_repo_tree(**to)]") == [
        ".gitattributes",
        "README.md",
        "config.json",
        "model.safetensors",
        "sub",
    ]
    assert client("[entry.path for entry in api.list_repo_tree(**to, path_in_repo='sub')]") == ["sub/folder"]
    client.raises("EntryNotFoundError", "404", "list(api.list_repo_tree(**to, path_in_repo='nothing'))")
    commits = client("[(commit.title, commit.message) for commit in api.list_repo_commits(**to)]")
    assert commits == [["first", "long"], ["initial commit", ""]]

    info = client("[vars(s) for s in api.repo_info(**to, files_metadata=True).siblings if s.rfilename[0] == 'm'][0]")
    assert info["size"] == len(weights)
    assert bool(info["lfs"]) == bool(either.requests("PUT /lfs/")) == server.lfs
    assert client("[api.repo_info(**to).sha, api.repo_info(**to, revision='main').private]") == [oid, False]
    assert not either.requests("xet")


def test_a_file_at_a_time(hub):
    client, server = hub.client, hub.server
    oid = client(COMMIT)
    assert server.files(hub.repo) == {**FILES, "new": b"new"}
    client("api.delete_file('config.json', repo)")
    client("api.delete_folder('sub', repo)")
    assert sorted(server.files(hub.repo)) == ["README.md", "model.safetensors", "new"]
    client.raises("EntryNotFoundError", "doesn't exist", "api.delete_file('config.json', repo)")
    client.raises("HfHubHTTPError", "A commit has happened since", UPLOAD, more={"parent_commit": oid})
    assert len(hub.history) == 4
    assert client("api.list_repo_files(repo, revision=oid)", oid=oid) == sorted([*FILES, "new"])
    client(UPLOAD, more={"delete_patterns": "n*", "parent_commit": server.commit(hub.repo).id})
    assert server.files(hub.repo) == FILES


def test_nothing_new_makes_no_commit(either):
    oid = either.server.commit(either.repo).id
    assert either.client(UPLOAD) == oid
    assert either.client("api.upload_file(repo_id=repo, path_in_repo='config.json', path_or_fileobj=b'{}').oid") == oid
    assert not either.requests("/commit/|PUT")
    (either.folder / "config.json").write_text("{ }")
    assert either.client(UPLOAD) != oid
    assert len(either.history) == 2 and not either.requests("PUT")


def test_ignored_files(hub):
    rules = b"# rules\n*.log\nout/\n/sub/no\n"
    write_files(hub.folder, {".gitignore": rules, "a.log": b"1", "sub/out/b": b"2", "sub/no": b"3", "out.txt": b"4"})
    hub.client(UPLOAD)
    assert set(hub.server.files(hub.repo)) == {*FILES, ".gitignore", "out.txt"}


def test_card_is_looked_at(hub):
    (hub.folder / "README.md").write_text("---\nlicense: mit\nno end")
    hub.client.raises("ValueError", "the yaml metadata has no end", UPLOAD)
    assert len(hub.history) == 1


def test_branches_and_tags(hub):
    client, server = hub.client, hub.server
    first = server.commit(hub.repo).id
    client("api.create_tag(repo, tag='v1')")
    client("api.create_branch(repo, branch='dev/a')")
    for call in ("api.create_tag(repo, tag='v1'{})", "api.create_branch(repo, branch='dev/a'{})"):
        client.raises("HfHubHTTPError", "409", call.format(""))
        client(call.format(", exist_ok=True"))
    client.raises("BadRequestError", "Invalid reference", "api.create_branch(repo, branch='refs/pr/5')")
    client.raises("RevisionNotFoundError", "404", "api.create_tag(repo, tag='v2', revision='nothing')")

    on_branch = client(COMMIT, more={"revision": "dev/a"})
    on_main = client("api.delete_file('config.json', repo).oid")
    client("api.create_tag(repo, tag='v2', revision='dev/a')")
    client.raises("BadRequestError", "neither a branch", COMMIT, more={"revision": "v1"})
    refs = client("api.list_repo_refs(repo)")
    assert {ref["name"]: ref["target_commit"] for ref in refs["branches"]} == {"dev/a": on_branch, "main": on_main}
    assert {ref["name"]: ref["target_commit"] for ref in refs["tags"]} == {"v1": first, "v2": on_branch}
    for revision, files in (("v1", FILES), ("dev/a", {**FILES, "new": b"new"}), (first, FILES)):
        assert client(DOWNLOAD, more={"revision": revision}) == text(files)

    client("api.delete_tag(repo, tag='v1')")
    client("api.delete_branch(repo, branch='dev/a')")
    client.raises("RevisionNotFoundError", "404", "api.delete_tag(repo, tag='v1')")
    client.raises("HfHubHTTPError", "403", "api.delete_branch(repo, branch='main')")
    assert client("[api.revision_exists(repo, name) for name in ('v1', 'v2', 'dev/a', 'main')]") == [0, 1, 0, 1]


@pytest.mark.parametrize("upload", ["api.create_commit(repo, [CommitOperationAdd('a', b'a')], **more).oid", UPLOAD])
def test_pull_requests(hub, upload):
    client = hub.client
    write_files(hub.folder, {"a": b"a"})
    before = hub.server.commit(hub.repo).id
    to = {"create_pr": True, "commit_message": "Please"}
    for number in (1, 2):
        assert client(upload.replace(".oid", ".pr_url"), more=to) == f"{hub.server.url}/{hub.repo}/discussions/{number}"
    assert hub.server.commit(hub.repo).id == before
    refs = "api.list_repo_refs(repo, include_pull_requests=True).pull_requests"
    assert client(f"[ref.ref for ref in {refs}]") == ["refs/pr/1", "refs/pr/2"]
    more = {"revision": "refs/pr/1"}
    assert client(DOWNLOAD, more=more) == text({**FILES, "a": b"a"})
    client(COMMIT, more=more)
    assert hub.server.files(hub.repo, "refs/pr/1") == {**FILES, "a": b"a", "new": b"new"}
    assert hub.server.commit(hub.repo).id == before


def test_unknown(hub):
    client = hub.client
    for code in ("api.model_info('me/no')", DOWNLOAD, WEIGHTS, UPLOAD, COMMIT, "api.create_tag('me/no', tag='v')"):
        client.raises("RepositoryNotFoundError", "404", code, repo="me/no")
    client.raises("RepositoryNotFoundError", "401", "api.model_info('me/no', token=False)")
    client.raises("RepositoryNotFoundError", "404", "api.space_info(repo)")
    for code in ("api.model_info(repo, **more)", "api.list_repo_files(repo, **more)", DOWNLOAD, UPLOAD):
        for revision in ("v9", "日\n"):
            client.raises("RevisionNotFoundError", "404", code, more={"revision": revision})
    client.raises("EntryNotFoundError", "404", "api.hf_hub_download(repo, 'nothing', cache_dir=cache)")
    assert client("[api.file_exists(repo, name) for name in ('config.json', 'nothing')]") == [True, False]


def test_private_and_gated(hub, tmp_path):
    client = hub.client
    repos = {name: {"main": hub.folder} for name in ("me/private", "me/gated", "me/never")}
    options = {"private": {"me/private": "hf_friend"}, "gated": {"me/gated": "hf_friend", "me/never": None}}
    with HubServer(repos, **options) as server:
        other = Client(tmp_path / "home", server.url)
        other.names = {"cache": tmp_path / "cache"}
        info = "api.model_info(repo, token=token).sha"
        file = "api.hf_hub_download(repo, 'config.json', cache_dir=cache, token=token)"
        for token in (False, "hf_stranger"):
            for code in (info, file):
                other.raises("RepositoryNotFoundError", "40[14]", code, repo="me/private", token=token)
        for repo in ("me/gated", "me/never"):
            assert other(info, repo=repo, token=False) == server.commit(repo).id
            for token in (False, "hf_stranger", *["hf_friend"] * (repo == "me/never")):
                other.raises("GatedRepoError", "restricted", file, repo=repo, token=token)
        for repo in ("me/private", "me/gated"):
            other(info, repo=repo, token="hf_friend")
            other(file, repo=repo, token="hf_friend")
        assert other("[api.model_info(name).private for name in ('me/private', 'me/gated')]") == [True, False]
        assert other("[api.model_info(name).gated for name in ('me/private', 'me/gated')]") == [False, "manual"]
        other.close()

    client("api.create_repo('me/secret', private=True)")
    assert client("[api.repo_exists('me/secret', token=token) for token in (None, False)]") == [True, False]


def test_writing_takes_the_token(hub):
    client = hub.client
    assert client("api.whoami()['name']") == "local"
    client.raises("HfHubHTTPError", "[Ii]nvalid", "api.whoami(token='hf_stranger')")
    for token, status in ((False, 401), ("hf_stranger", 403)):
        for code in ("api.create_repo('me/other', **more)", "api.create_tag(repo, tag='v', **more)", COMMIT, UPLOAD):
            client.raises("HfHubHTTPError", str(status), code, more={"token": token})
    assert "me/other" not in hub.server.repos and len(hub.history) == 1
    assert list(hub.server.repos[hub.repo].refs) == ["refs/heads/main"]


def test_revisions_of_folders(hub, tmp_path):
    folders = {name: write_files(tmp_path / name, {**FILES, "name": name.encode()}) for name in "abc"}
    revisions = {"main": folders["a"], "v2.0": folders["b"], "refs/pr/1": folders["c"], "refs/heads/dev": folders["c"]}
    hub.server.add("spaces/me/seeded", revisions)
    refs = hub.client("api.list_repo_refs('me/seeded', repo_type='space', include_pull_requests=True)")
    named = {kind: {ref["name"]: ref["target_commit"] for ref in refs[kind] or ()} for kind in refs}
    a, b, c = map(commit_of, folders.values())
    expected = {"branches": {"main": a, "dev": c}, "tags": {"v2.0": b}, "pull_requests": {"1": c}, "converts": {}}
    assert named == expected
    pull_request = "api.create_pull_request('me/seeded', 'Another', repo_type='space')"
    assert hub.client(f"{pull_request}.git_reference") == "refs/pr/2"


def test_ranges_on_a_connection_that_is_kept(hub):
    data = FILES["model.safetensors"]
    connection = http.client.HTTPConnection(urlsplit(hub.server.url).netloc)
    path = f"/{hub.repo}/resolve/main/model.safetensors"

    def get(span, method="GET"):
        connection.request(method, path, b"a body that is not asked for", {"Range": span})
        response = connection.getresponse()
        return response.status, response.headers["Content-Range"], response.read()

    size = len(data)
    connection.connect()
    connected = connection.sock
    assert get("") == (200, None, data)
    assert get("bytes=5-") == (206, f"bytes 5-{size - 1}/{size}", data[5:])
    assert get("bytes=5-9") == (206, f"bytes 5-9/{size}", data[5:10])
    assert get("bytes=-7") == (206, f"bytes {size - 7}-{size - 1}/{size}", data[-7:])
    assert get(f"bytes=5-{size * 2}") == (206, f"bytes 5-{size - 1}/{size}", data[5:])
    assert get(f"bytes={size}-") == (416, f"bytes */{size}", b"")
    assert get("bytes=5-9", "HEAD") == (206, f"bytes 5-9/{size}", b"")
    assert connection.sock is connected
    with hub.server.stopped(), pytest.raises((http.client.HTTPException, OSError)):
        get("")
    connection.close()


# what comes of faults

STATUS = "HfHubHTTPError"
HUNG_UP = "RemoteProtocolError"


@pytest.mark.parametrize(
    ("pattern", "how", "error"),
    [
        ("HEAD .*safetensors", "500", None),
        ("HEAD .*safetensors", "429", None),
        ("HEAD .*safetensors", "drop", HUNG_UP),
        ("GET .*safetensors", "500", STATUS),
        ("GET .*safetensors", "429", None),
        ("GET .*safetensors", "drop", None),
        ("safetensors", "half", None),
        ("safetensors", "truncate", "OSError"),
        ("/revision/", "500", "LocalEntryNotFoundError"),
        ("/revision/", "429", "LocalEntryNotFoundError"),
        ("/revision/", "drop", HUNG_UP),
        ("/tree/", "half", None),
    ],
)
def test_faults_of_a_download(hub, pattern, how, error):
    hub.server.fail(pattern, how)
    started = time.monotonic()
    if error:
        hub.client.raises(error, "", DOWNLOAD)
        assert "model.safetensors" not in hub.client(CACHED)
        assert len(hub.requests(pattern)) == 1 + (how == "truncate")  # it is not tried again
    else:
        assert hub.client(DOWNLOAD) == text(FILES)
        assert len(hub.requests(pattern)) > 1
        assert "GET" not in pattern or time.monotonic() - started > (2 if how == "429" else 1)
    assert not hub.server.faults
    assert hub.client(DOWNLOAD) == text(FILES)


def test_altered_download_is_not_noticed(either):
    either.server.fail("safetensors", "alter")
    altered = either.client(WEIGHTS).encode("latin-1")
    assert sum(a != b for a, b in zip(altered, FILES["model.safetensors"], strict=True)) == 1
    assert either.client(WEIGHTS).encode("latin-1") == altered
    checks = "[mismatch['path'] for mismatch in api.verify_repo_checksums(repo, cache_dir=cache).mismatches]"
    assert either.client(checks) == ["model.safetensors"]


@pytest.mark.parametrize("size", [9, 23])
def test_download_goes_on_where_it_broke_off(hub, monkeypatch, size):
    """The client writes every 10 MiB; what it has not written it asks for again."""
    data = os.urandom(1 << 20) * size
    hub.server.add(hub.repo, {"main": write_files(hub.folder, {"model.safetensors": data})})
    asked, answer = [], hub.server.answer

    def note(request):
        if request.method == "GET":
            asked.append(request.headers["Range"])
        return answer(request)

    monkeypatch.setattr(hub.server, "answer", note)
    hub.server.fail("safetensors", "half")
    path = hub.client("api.hf_hub_download(repo, 'model.safetensors', cache_dir=cache)")
    assert Path(path).read_bytes() == data
    assert asked == [None, "bytes=10485760-" if size > 20 else None]


def test_out_of_reach(hub):
    with hub.server.stopped():
        hub.client.raises("LocalEntryNotFoundError", "refused", DOWNLOAD)
        hub.client.raises("ConnectError", "refused", UPLOAD)
        threading.Timer(0.5, hub.server.start).start()
        assert hub.client(WEIGHTS).encode("latin-1") == FILES["model.safetensors"]  # tried until it is back
        hub.server.stop()
    hub.client(DOWNLOAD)
    with hub.server.stopped():
        assert hub.client(DOWNLOAD) == text(FILES)


@pytest.mark.parametrize(
    ("pattern", "how", "error"),
    [
        ("/preupload/", "cut", None),
        ("/commit/", "500", STATUS),
        ("/commit/", "429", STATUS),
        ("/commit/", "cut", HUNG_UP),
        ("/commit/", "drop", HUNG_UP),
        ("/commit/", "lost", HUNG_UP),
    ],
)
def test_faults_of_a_commit(hub, pattern, how, error):
    """Of `create_commit`, which tries but once to commit."""
    hub.server.fail(pattern, how)
    if not error:
        hub.client(COMMIT)
    else:
        hub.client.raises(error, "", COMMIT)
        assert ("new" in hub.server.files(hub.repo)) == (how == "lost")
        hub.client(COMMIT)
    assert hub.history == ["new", "initial commit"]


@pytest.mark.parametrize(("how", "commits"), [("500", 1), ("cut", 1), ("lost", 2)])
@pytest.mark.skipif(not find_spec("hf_xet"), reason="hf_xet is not installed")
def test_faults_of_a_folder(hub, how, commits):
    """`upload_folder` with hf_xet tries to commit again, even where that has happened."""
    write_files(hub.folder, {"new": b"new" * 100_000})
    hub.server.fail("/commit/", how)
    assert hub.client(UPLOAD) == hub.server.commit(hub.repo).id
    assert len(hub.history) == 1 + commits
    assert hub.server.files(hub.repo)["new"] == b"new" * 100_000


@pytest.mark.parametrize(
    ("pattern", "how", "error"),
    [
        ("/objects/batch", "500", None),
        ("PUT", "cut", None),
        ("PUT", "lost", None),
        ("PUT", "403", "RuntimeError"),
        ("/commit/", "cut", HUNG_UP),
    ],
)
def test_faults_of_lfs(lfs_hub, pattern, how, error):
    data = os.urandom(3_000_000)
    write_files(lfs_hub.folder, {"config.json": b"{ }", "model.safetensors": data})
    lfs_hub.server.fail(pattern, how)
    if error:
        lfs_hub.client.raises(error, "", UPLOAD)
        assert lfs_hub.server.files(lfs_hub.repo) == FILES and len(lfs_hub.history) == 1
        lfs_hub.server.requests.clear()
    lfs_hub.client(UPLOAD)
    assert lfs_hub.server.files(lfs_hub.repo) == {**FILES, "config.json": b"{ }", "model.safetensors": data}
    assert len(lfs_hub.history) == 2
    assert bool(lfs_hub.requests("PUT")) == (pattern != "/commit/")  # not what has been uploaded


def test_client_that_dies_while_it_uploads(hub):
    header = {"key": "header", "value": {"summary": "half"}}
    file = {"key": "file", "value": {"path": "new", "content": "", "encoding": "base64"}}
    lines = f"{json.dumps(header)}\n{json.dumps(file)}\n"
    head = f"POST /api/models/{hub.repo}/commit/main HTTP/1.1\r\nAuthorization: Bearer hf_local\r\nContent-Length: "
    before = hub.server.commit(hub.repo)
    for length in (len(lines) + 10, len(lines)):
        assert hub.server.commit(hub.repo) is before
        with socket.create_connection(("127.0.0.1", urlsplit(hub.server.url).port)) as connection:
            connection.sendall(f"{head}{length}\r\n\r\n{lines}".encode())
            connection.shutdown(socket.SHUT_WR)
            answer = connection.makefile("rb").read()
        assert (b"commitOid" in answer) == (length == len(lines))
    assert hub.history == ["half", "initial commit"]


def test_faults_are_counted(hub):
    for how in ("404", Answer(b"<html>", {"Content-Type": "text/html"})):
        hub.server.fail("whoami", how, times=2)
    for error in ("HfHubHTTPError", "HfHubHTTPError", "JSONDecodeError", "JSONDecodeError"):
        hub.client.raises(error, "", "api.whoami()")
    hub.client("api.whoami()")
    hub.server.fail("whoami", times=None)
    for _ in range(3):
        hub.client.raises("HfHubHTTPError", "500", "api.whoami()")
    hub.server.mend()
    hub.client("api.whoami()")
    with pytest.raises(ValueError, match="explode"):
        hub.server.fail("", "explode")


# the command

STOCK = """
import sys
from pathlib import Path
from huggingface_hub import HfApi, snapshot_download
api = HfApi()
api.create_repo("me/model")
oid = api.upload_folder(repo_id="me/model", folder_path=sys.argv[1]).oid
assert api.upload_folder(repo_id="me/model", folder_path=sys.argv[1]).oid == oid
api.create_tag("me/model", tag="v1")
folder = Path(snapshot_download("me/model", revision="v1"))
for path in Path(sys.argv[1]).rglob("*"):
    assert path.is_dir() or (folder / path.relative_to(sys.argv[1])).read_bytes() == path.read_bytes()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command(tmp_path, number):
    command = [sys.executable, "-m", "tests.hub_server"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    server = subprocess.Popen(command, cwd=ROOT, **pipes)
    url = server.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    if number == signal.SIGTERM:
        env = environment(tmp_path / "home", HF_ENDPOINT=url, HF_TOKEN="hf_local")
        folder = write_files(tmp_path / "folder", FILES)
        run = subprocess.run([sys.executable, "-c", STOCK, folder], env=env, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
    server.send_signal(number)
    assert server.communicate(timeout=10) == ("", "") and server.returncode == 0
