"""Loading from a Hub that misbehaves: what is said of it, and that no cache is the worse for it."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import timm
import torch

from ssrnet_hub import save_pretrained
from ssrnet_hub.hub.check_tensors import write_check
from ssrnet_hub.models import zoo
from ssrnet_hub.utils.io import file_digest, git_digest

from ..hub_server import Answer, HubServer, commit_of
from ..programs import Program
from .test_loading import ROOT, TOKEN, Hub, edit_config, edit_weights

CLIENT = """
import hashlib, json, sys, time, traceback
slept, sleep = [], time.sleep
time.sleep = lambda seconds: (slept.append(seconds), sleep(min(seconds, 0.02)))
import timm
from huggingface_hub import constants
from ssrnet_hub import SSRNetHubError, from_pretrained
make = {"timm": lambda name, **kwargs: timm.create_model(f"hf-hub:{name}", pretrained=True, **kwargs).eval()}
for line in sys.stdin:
    args = json.loads(line)
    constants.HF_HUB_OFFLINE = args.pop("offline", False)
    slept.clear()
    try:
        model = make.get(args.pop("by", None), from_pretrained)(**args)
    except Exception as e:
        typed = isinstance(e, SSRNetHubError)
        answer = {"error": type(e).__name__, "typed": typed, "said": str(e), "traceback": traceback.format_exc()}
    else:
        sha = hashlib.sha256()
        for key, value in sorted(model.state_dict().items()):
            sha.update(f"{key} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        answer = {"V": model.V, "digest": sha.hexdigest(), "training": model.training}
    print(json.dumps({**answer, "slept": slept}), flush=True)
"""


class Loader(Hub):
    """A client that does not wait as long as it says, and for every test a repository and a cache of its own."""

    def __init__(self, server, folders):
        self.server = server
        self.folders = folders
        env = {**os.environ, "HF_ENDPOINT": server.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        env |= {"SSRNET_HUB_OWNER": "zoo-owner", "HF_HUB_DISABLE_XET": "1"}
        self.client = Program("-c", CLIENT, env=env, cwd=ROOT)

    def start(self, **kwargs):
        self.client.stdin.write(json.dumps(kwargs) + "\n")
        self.client.stdin.flush()

    def wait(self):
        return json.loads(self.client.stdout.readline())

    def asked(self, pattern):
        return [path for method, path in self.server.requests if re.search(pattern, f"{method} {path}")]

    def close(self):
        self.client.stdin.close()
        assert self.client.wait(10) == 0


@pytest.fixture(scope="module")
def loaders(tmp_path_factory):
    torch.manual_seed(0)
    top = tmp_path_factory.mktemp("folders")
    folders = {name: save_pretrained(timm.create_model("ssrnet", V=V), top / name) for name, V in (("a", 1), ("b", 2))}
    with HubServer() as server:
        loaders = [Loader(server, folders) for _ in range(2)]
        yield loaders
        for loader in loaders:
            loader.close()


@pytest.fixture
def hub(loaders, request):
    hub = loaders[0]
    hub.server.mend()
    hub.server.lfs = getattr(request, "param", False)
    hub.repo = f"age/n{len(hub.server.repos)}"
    hub.server.add(hub.repo, {"main": hub.folders["a"], "v2.0": hub.folders["b"], "refs/heads/dev": hub.folders["b"]})
    return hub


@pytest.fixture
def cache(tmp_path):
    return {"cache_dir": str(tmp_path / "cache")}


def assert_only_whole_files(cache):
    for path in Path(cache["cache_dir"]).glob("models--*/blobs/*"):
        assert path.name in (file_digest(path), git_digest(path))


REFUSED = ("HubError", "{repo}")
DAMAGED = ("CorruptWeightsError", "Checksum mismatch for {file} of {repo}")
WAIT = Answer(b"", {"Retry-After": "7"}, 429)
FAULTS = [
    ("/revision/", "drop", REFUSED),
    ("/revision/", "500", REFUSED),
    ("/revision/", "503", REFUSED),
    ("/revision/", WAIT, REFUSED),
    ("/tree/", "500", REFUSED),
    ("HEAD .*safetensors", "500", REFUSED),
    ("HEAD .*config", "drop", REFUSED),
    ("GET .*config", "500", REFUSED),
    ("GET .*safetensors", "500", REFUSED),
    ("GET .*safetensors", WAIT, REFUSED),
    ("GET .*safetensors", "drop", REFUSED),
    ("GET .*safetensors", "half", REFUSED),
    ("GET .*config", "half", REFUSED),
    ("GET .*safetensors", "alter", DAMAGED),
    ("GET .*config", "alter", DAMAGED),
]
IDS = [f"{pattern}-{how if isinstance(how, str) else how.status}" for pattern, how, _ in FAULTS]
both = pytest.mark.parametrize("hub", [False, True], ids=["regular", "lfs"], indirect=True)


@both
@pytest.mark.parametrize(("pattern", "how"), [fault[:2] for fault in FAULTS], ids=IDS)
def test_fault_that_passes(hub, cache, pattern, how):
    hub.server.fail(pattern, how)
    answer = hub.loads("a", hub.repo, **cache)
    assert not hub.server.faults and len(hub.asked(pattern)) > 1
    if how is WAIT:
        assert max(answer["slept"]) >= 7
    assert_only_whole_files(cache)
    hub.loads("a", hub.repo, **cache)
    assert not hub.asked("/resolve/")


@both
@pytest.mark.parametrize(("pattern", "how", "outcome"), FAULTS, ids=IDS)
def test_fault_that_stays(hub, cache, pattern, how, outcome):
    error, said = outcome
    said = said.format(repo=hub.repo, file="config.json" if "config" in pattern else "model.safetensors")
    hub.server.fail(pattern, how, times=None)
    hub.refuses(error, said, hub.repo, **cache)
    assert len(hub.asked(pattern)) > 1
    answer = hub.load(hub.repo, local_files_only=True, **cache)
    assert answer["typed"] and not hub.server.requests
    hub.refuses(error, said, hub.repo, **cache)
    hub.server.mend()
    hub.loads("a", hub.repo, **cache)
    assert_only_whole_files(cache)
    hub.loads("a", hub.repo, local_files_only=True, **cache)


@both
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_truncated_file(hub, cache, name):
    hub.server.fail(f"GET .*{name}", "truncate", 1)
    hub.loads("a", hub.repo, **cache)


@both
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_file_that_is_truncated_for_ever(hub, cache, name):
    hub.server.fail(f"GET .*{name}", "truncate", None)
    hub.refuses("HubError", f"Downloading {hub.repo} failed.*should be of size", hub.repo, **cache)
    assert_only_whole_files(cache)
    assert hub.load(hub.repo, local_files_only=True, **cache)["typed"]
    hub.server.mend()
    hub.loads("a", hub.repo, **cache)


@both
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_cache_that_was_damaged(hub, cache, tmp_path, name):
    def damage():
        hub.loads("a", hub.repo, **cache)
        (path,) = tmp_path.glob(f"cache/models--*/snapshots/*/{name}")
        data = path.read_bytes()
        path.resolve().write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])

    damage()
    hub.loads("a", hub.repo, **cache)
    assert hub.asked(f"GET .*{name}")
    damage()
    hub.refuses("CorruptWeightsError", f"Checksum mismatch for {name}", hub.repo, local_files_only=True, **cache)
    assert not hub.server.requests
    assert_only_whole_files(cache)
    hub.loads("a", hub.repo, **cache)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_cache_that_was_damaged_while_the_hub_is_out_of_reach(hub, cache, tmp_path, name):
    hub.loads("a", hub.repo, **cache)
    (path,) = tmp_path.glob(f"cache/models--*/snapshots/*/{name}")
    path.resolve().write_bytes(b"damaged")
    with hub.server.stopped():
        hub.refuses("HubError", "unreachable", hub.repo, **cache)
    hub.loads("a", hub.repo, **cache)


def test_a_cache_that_shares_its_files(hub, cache, tmp_path):
    """The client keeps files that it got in pieces under another digest, beside the repositories, and links to them."""
    hub.loads("a", hub.repo, **cache)
    (path,) = tmp_path.glob("cache/models--*/snapshots/*/model.safetensors")
    blob = path.parent / path.readlink()
    shared = tmp_path / "cache" / "blobs" / "ab" / f"ab{'0' * 62}"
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(shared)
    hub.loads("a", hub.repo, **cache)
    assert not hub.asked("GET .*safetensors") and shared.exists()
    shared.write_bytes(b"damaged")
    hub.loads("a", hub.repo, **cache)
    assert hub.asked("GET .*safetensors")
    assert_only_whole_files(cache)


@pytest.mark.parametrize("link", ["snapshot", "blob"])
def test_what_somebody_linked_into_the_cache_is_not_removed(hub, cache, tmp_path, link):
    hub.loads("a", hub.repo, **cache)
    (path,) = tmp_path.glob("cache/models--*/snapshots/*/model.safetensors")
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes((hub.folders["b"] / "model.safetensors").read_bytes())
    where = path if link == "snapshot" else path.parent / path.readlink()
    where.unlink()
    where.symlink_to(mine)
    hub.load(hub.repo, **cache)
    assert mine.read_bytes() == (hub.folders["b"] / "model.safetensors").read_bytes()


def test_connection_refused(hub, cache):
    with hub.server.stopped():
        hub.refuses("HubError", f"{hub.repo} is not in the cache", hub.repo, **cache)
        hub.refuses("HubError", f"{hub.repo} at revision v2.0", hub.repo, revision="v2.0", **cache)
    hub.loads("a", hub.repo, **cache)


def test_out_of_reach_after_a_download(hub, cache):
    hub.refuses("HubError", "is not in the cache", hub.repo, local_files_only=True, **cache)
    hub.refuses("HubError", "is not in the cache", hub.repo, offline=True, **cache)
    assert not hub.server.requests
    hub.loads("a", hub.repo, **cache)
    hub.loads("b", hub.repo, revision="dev", **cache)
    for args in ({"local_files_only": True}, {"offline": True}, {"offline": True, "local_files_only": True}):
        hub.loads("a", hub.repo, **args, **cache)
        hub.loads("b", hub.repo, revision="dev", **args, **cache)
        hub.refuses("HubError", "v2.0 is not in the cache", hub.repo, revision="v2.0", **args, **cache)
        assert not hub.server.requests
    with hub.server.stopped():
        hub.loads("a", hub.repo, **cache)
        hub.loads("b", hub.repo, revision="dev", **cache)
        hub.loads("a", hub.repo, local_files_only=True, **cache)


@both
@pytest.mark.parametrize("fault", ["drop", "500"])
def test_busy_after_a_download(hub, cache, fault):
    hub.loads("a", hub.repo, **cache)
    hub.server.fail("", fault, times=None)
    if fault == "500":
        hub.loads("a", hub.repo, **cache)
    else:
        hub.refuses("HubError", hub.repo, hub.repo, **cache)
    hub.loads("a", hub.repo, local_files_only=True, **cache)
    hub.loads("a", hub.repo, revision=commit_of(hub.folders["a"]), **cache)
    hub.server.mend()
    hub.loads("a", hub.repo, **cache)


@both
@pytest.mark.parametrize(("folder", "revision"), [("a", "main"), ("b", "dev"), ("b", "v2.0"), ("b", "refs/heads/dev")])
def test_branches_and_tags(hub, cache, folder, revision):
    hub.loads(folder, hub.repo, revision=revision, **cache)
    assert hub.asked("/resolve/.*safetensors")
    hub.loads(folder, hub.repo, revision=revision, **cache)
    assert hub.server.requests and not hub.asked("/resolve/")


@both
@pytest.mark.parametrize("folder", ["a", "b"])
def test_commits(hub, cache, folder):
    commit = commit_of(hub.folders[folder])
    hub.loads(folder, hub.repo, revision=commit, **cache)
    hub.loads(folder, f"{hub.repo}@{commit}", **cache)
    assert not hub.server.requests


def test_branch_that_moved(hub, cache):
    hub.loads("a", hub.repo, **cache)
    hub.server.add(hub.repo, {"main": hub.folders["b"]})
    hub.loads("a", hub.repo, local_files_only=True, **cache)
    hub.server.fail("GET .*safetensors", "500", times=None)
    hub.refuses("HubError", hub.repo, hub.repo, **cache)
    hub.server.mend()
    hub.loads("b", hub.repo, **cache)
    hub.loads("b", hub.repo, local_files_only=True, **cache)


@both
def test_private(hub, cache):
    repo = hub.server.repos[hub.repo]
    repo.private = True
    repo.readers.add(TOKEN)
    for token in (None, False, "hf_stranger-secret"):
        hub.refuses("HubError", "private.*token=", hub.repo, token=token, **cache)
    hub.loads("a", hub.repo, token=TOKEN, **cache)
    hub.server.fail("GET .*safetensors", "half")
    hub.loads("b", hub.repo, revision="dev", token=TOKEN, **cache)
    hub.loads("a", hub.repo, local_files_only=True, **cache)


def load_at_once(loaders, hub, cache):
    for loader in loaders:
        loader.start(name=hub.repo, **cache)
    answers = [loader.wait() for loader in loaders]
    assert all("digest" in answer for answer in answers), [answer.get("traceback") for answer in answers]
    assert_only_whole_files(cache)
    loaded = hub.loads("a", hub.repo, local_files_only=True, **cache)
    assert {answer["digest"] for answer in answers} == {loaded["digest"]}


@both
@pytest.mark.parametrize("fault", [None, "half"])
def test_two_at_once(hub, loaders, cache, fault):
    if fault:
        hub.server.fail("GET .*safetensors", fault)
    load_at_once(loaders, hub, cache)


def test_two_at_once_get_an_altered_file(hub, loaders, tmp_path):
    for i in range(10):
        hub.server.fail("GET .*safetensors", "alter")
        load_at_once(loaders, hub, {"cache_dir": str(tmp_path / str(i))})


@pytest.fixture
def checked(hub, tmp_path):
    """A folder with check tensors, to serve as the test's repository."""
    folder = tmp_path / "checked"
    shutil.copytree(hub.folders["a"], folder)
    write_check(timm.create_model(f"local-dir:{folder}", pretrained=True).eval(), folder / "check.safetensors")
    return folder


def unlike(state):
    state["stages.0.p.weight"] = -state["stages.0.p.weight"]


@both
def test_verify(hub, cache, checked):
    hub.server.add(hub.repo, {"main": checked})
    hub.loads("a", hub.repo, **cache)
    assert not hub.asked("check")
    hub.loads("a", hub.repo, verify=True, **cache)
    assert hub.asked("check")
    hub.loads("a", hub.repo, verify=True, local_files_only=True, **cache)


@both
@pytest.mark.parametrize("how", [{"local_files_only": True}, {"offline": True}], ids=str)
def test_verify_where_only_the_check_tensors_are_missing(hub, cache, checked, how):
    hub.server.add(hub.repo, {"main": checked})
    hub.loads("a", hub.repo, **cache)
    said = f"The check tensors of {hub.repo} are not in the cache .*{cache['cache_dir']}, .* once with verify=True"
    hub.refuses("CheckError", said, hub.repo, verify=True, **how, **cache)
    with hub.server.stopped():
        hub.refuses("CheckError", said, hub.repo, verify=True, **cache)
    hub.loads("a", hub.repo, **how, **cache)
    hub.refuses("HubError", "age/never is not in the cache", "age/never", verify=True, **how, **cache)
    hub.loads("a", hub.repo, verify=True, **cache)
    hub.loads("a", hub.repo, verify=True, **how, **cache)


@pytest.mark.parametrize("place", ["/sys", "/sys/none", "/proc/none", "file", "file/none"])
def test_a_cache_that_cannot_be_written(hub, tmp_path, place):
    if place.startswith("/") and not Path(place).parent.is_dir():
        pytest.skip("this system has no folder that nobody can write to")
    (tmp_path / "file").write_text("no folder")
    folder = str(tmp_path / place)
    how = "as cache_dir=, or set the environment variable HF_HOME"
    hub.refuses("HubError", f"Cannot write {hub.repo} to the cache {folder}: .*{how}", hub.repo, cache_dir=folder)
    said = f"{hub.repo} is not in the cache {folder}, .* cache_dir= or the environment variable HF_HOME"
    hub.refuses("HubError", said, hub.repo, cache_dir=folder, local_files_only=True)


def test_verify_without_check_tensors(hub, cache):
    hub.refuses("CheckError", "no check tensors", hub.repo, verify=True, **cache)
    hub.loads("a", hub.repo, **cache)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: edit_weights(folder, unlike),
        lambda folder: edit_config(folder, lambda config: config["pretrained_cfg"].update(std=[0.1, 0.2, 0.3])),
    ],
    ids=["weights", "std"],
)
def test_verify_refuses_other_answers(hub, cache, checked, damage):
    damage(checked)
    hub.server.add(hub.repo, {"main": checked})
    hub.refuses("CheckError", "output of the model differs from .* in ", hub.repo, verify=True, **cache)
    hub.folders["damaged"] = checked
    hub.loads("damaged", hub.repo, **cache)


@pytest.mark.parametrize(("how", "error"), [("500", "HubError"), ("alter", "CorruptWeightsError")])
def test_verify_when_the_check_tensors_do_not_come(hub, cache, checked, how, error):
    hub.server.add(hub.repo, {"main": checked})
    hub.server.fail("GET .*check", how, times=None)
    hub.refuses(error, hub.repo, hub.repo, verify=True, **cache)
    hub.loads("a", hub.repo, **cache)
    hub.server.mend()
    hub.loads("a", hub.repo, verify=True, **cache)


@both
def test_name_of_the_zoo(hub, cache):
    hub.server.add("zoo-owner/ssrnet.imdb", {"main": hub.folders["b"]})
    theirs, ours = file_digest(hub.folders["b"] / "model.safetensors"), zoo.ZOO["ssrnet.imdb"].sha256
    hub.refuses("DigestError", f"{theirs}.*{ours}", "ssrnet.imdb", **cache)
    hub.refuses("DigestError", f"{theirs}.*{ours}", "ssrnet.imdb", local_files_only=True, **cache)
    hub.loads("b", "zoo-owner/ssrnet.imdb", **cache)
    hub.server.fail("GET .*safetensors", "alter", times=None)
    hub.refuses("CorruptWeightsError", "zoo-owner/ssrnet.imdb", "ssrnet.imdb", cache_dir=cache["cache_dir"] + "-other")


@both
def test_timm(hub, cache):
    hub.loads("a", hub.repo, by="timm", **cache)
    hub.loads("b", f"{hub.repo}@v2.0", by="timm", **cache)
    hub.loads("a", hub.repo, local_files_only=True, **cache)
