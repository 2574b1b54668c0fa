"""Weights and the Space go to a Hub over HTTP, by the scripts, and come back."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

from ssrnet_hub import Framing, from_pretrained, save_pretrained
from ssrnet_hub.errors import ArchitectureError, CheckError, ConfigError
from ssrnet_hub.hub.cards import render_card
from ssrnet_hub.hub.check_tensors import verify_model, write_check
from ssrnet_hub.hub.convert import convert_keras
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.hub.push import prepare_repository, push_to_hub
from ssrnet_hub.inference.onnx_export import ONNX_FILES, export_onnx
from ssrnet_hub.models import zoo
from ssrnet_hub.models.zoo import DEFAULT

from ..hub_server import HubServer
from ..programs import Program, run_program

ROOT = Path(__file__).resolve().parents[2]
OF_ONNX = {"onnx/model.onnx", "onnx/model_fp16.onnx", "onnx/model_int8.onnx"}
FILES = {"README.md", "check.safetensors", "config.json", "model.safetensors"}
TOKEN = "hf_local"

# the client reads where the Hub is when it is imported, and importing takes seconds: one process runs all scripts
CLIENT = """
import contextlib, io, json, os, runpy, sys, traceback
sys.path.insert(0, os.getcwd())
import ssrnet_hub
for line in sys.stdin:
    asked = json.loads(line)
    for name in ("HF_TOKEN", "SSRNET_HUB_OWNER"):
        os.environ.pop(name, None)
    os.environ.update(asked["env"])
    sys.argv, code = asked["argv"], 0
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if asked["code"]:
                exec(asked["code"], {})
            else:
                runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as e:
            code = e.code
        except BaseException:
            traceback.print_exc()
            code = 99
    print(json.dumps([code or 0, out.getvalue(), err.getvalue()]), flush=True)
"""


class Client:
    def __init__(self, server):
        env = {**os.environ, "HF_ENDPOINT": server.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        self.process = Program("-c", CLIENT, env=env, cwd=ROOT)

    def ask(self, argv=(), code="", token=TOKEN, **env):
        env |= {"HF_TOKEN": token} if token else {}
        self.process.stdin.write(json.dumps({"argv": list(map(str, argv)), "code": code, "env": env}) + "\n")
        self.process.stdin.flush()
        code, out, err = json.loads(self.process.stdout.readline())
        assert "Traceback" not in err, err
        assert not token or token not in out + err
        return code, out, err

    def script(self, name, *args, **kwargs):
        return self.ask([ROOT / "scripts" / f"{name}.py", *args], **kwargs)

    def push(self, *args, **kwargs):
        code, out, err = self.script("push_weights", *args, **kwargs)
        assert code == 0, err
        return out

    def refuses(self, said, name, *args, **kwargs):
        code, _, err = self.script(name, *args, **kwargs)
        assert code == 1
        assert re.search(said, err), err


@pytest.fixture(scope="module")
def hub():
    with HubServer(token=TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def client(hub):
    client = Client(hub)
    yield client
    client.process.stdin.close()
    assert client.process.wait(10) == 0


@pytest.fixture
def folder(tmp_path):
    return save_pretrained(timm.create_model("ssrnet"), tmp_path / "weights", extras={"framing": Framing().to_dict()})


@pytest.fixture
def repo(request):
    """A repository of the test's own."""
    return "me/" + re.sub(r"\W+", "-", request.node.name.removeprefix("test_"))[:60].strip("-")


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pushed_files(hub, repo, revision="main"):
    return {name: data for name, data in hub.files(repo, revision).items() if name != ".gitattributes"}


# weights


def test_round_trip(hub, client, folder, repo, tmp_path):
    out = client.push(folder, "--repo", repo)
    files = pushed_files(hub, repo)
    # timm's config of the architecture is that of weights for research only
    assert set(files) == FILES | {"LICENSE"}
    for name in ("model.safetensors", "config.json"):
        assert files[name] == (folder / name).read_bytes()
    assert len(list(hub.commit(repo, "main").history)) == 2  # the repository's own first one, and ours
    line = f'ssrnet_hub.from_pretrained("{repo}")'
    assert line in out
    code, out, err = client.ask(code=f"import ssrnet_hub\nprint({line}.V)")
    assert (code, out) == (0, "101.0\n"), err


def test_dry_run_writes_what_would_be_pushed(hub, client, folder, repo, tmp_path):
    hub.requests.clear()
    client.push(folder, "--repo", repo, "--dry-run", tmp_path / "dry", token=None)
    assert not hub.requests
    client.push(folder, "--repo", repo)
    assert files_of(tmp_path / "dry") == pushed_files(hub, repo)
    out = client.push(folder, "--repo", repo, "--dry-run", token=None)
    written = Path(out.splitlines()[0].removesuffix(" gets:"))
    assert files_of(written) == files_of(tmp_path / "dry")
    shutil.rmtree(written)


def test_dry_run_replaces_nothing(hub, client, folder, tmp_path):
    """Neither the weights that are to be pushed nor what else lies in a folder."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("mine")
    before = files_of(tmp_path)
    for target in (mine, folder, mine / "README.md"):
        code, _, err = client.script("push_weights", folder, "--repo", "me/name", "--dry-run", target, token=None)
        assert code == 1 and err.startswith(f"error: {target} ") and len(err.splitlines()) == 1
        code, _, err = client.script("publish_space", "--repo", "me/space", "--dry-run", target, token=None)
        assert code == 1 and err.startswith(f"error: {target} ") and len(err.splitlines()) == 1
    assert files_of(tmp_path) == before


def test_what_is_there_is_not_sent_again(hub, client, folder, repo):
    client.push(folder, "--repo", repo)
    head = hub.commit(repo, "main").id
    hub.requests.clear()
    assert f"unchanged: {head}" in client.push(folder, "--repo", repo)
    assert hub.commit(repo, "main").id == head
    assert not [path for method, path in hub.requests if method == "PUT" or "/commit/" in path]


def test_revision_tag_and_pull_request(hub, client, folder, repo, tmp_path):
    other = save_pretrained(
        timm.create_model("ssrnet", V=50), tmp_path / "other", extras={"framing": Framing().to_dict()}
    )
    assert 'revision="v1"' in client.push(folder, "--repo", repo, "--tag", "v1")
    assert 'revision="v1"' in client.push(folder, "--repo", repo, "--tag", "v1")
    client.refuses("the tag 'v1'.* already", "push_weights", other, "--repo", repo, "--tag", "v1", "--revision", "next")
    assert 'revision="dev"' in client.push(other, "--repo", repo, "--revision", "dev", "--message", "half the range")
    assert hub.commit(repo, "dev").title == "half the range"
    assert 'revision="refs/pr/1"' in client.push(other, "--repo", repo, "--create-pr")
    client.refuses("Branch not found", "push_weights", other, "--repo", repo, "--create-pr", "--revision", "nowhere")
    sent = {revision: hub.files(repo, revision)["model.safetensors"] for revision in ("main", "v1", "dev", "refs/pr/1")}
    assert sent["main"] == sent["v1"] == (folder / "model.safetensors").read_bytes()
    assert sent["dev"] == sent["refs/pr/1"] == (other / "model.safetensors").read_bytes()


def test_verify(hub, client, folder, repo):
    client.push(folder, "--repo", repo, "--tag", "v1", "--commit-message", "the first")
    assert hub.commit(repo, "v1").title == "the first"
    code = f"from ssrnet_hub.cli import main\nraise SystemExit(main(['verify', '{repo}', '--revision', 'v1']))"
    code, out, err = client.ask(code=code)
    assert (code, out) == (0, f"{repo}: output matches the check tensors\n"), err


def test_private(hub, client, folder, repo):
    client.push(folder, "--repo", repo, "--private")
    load = f"import ssrnet_hub\nprint(ssrnet_hub.from_pretrained('{repo}', cache_dir='{folder.parent / 'cache'}').V)"
    assert client.ask(code=load)[:2] == (0, "101.0\n")
    code = f"import ssrnet_hub\ntry:\n    ssrnet_hub.from_pretrained('{repo}', cache_dir='{folder.parent / 'new'}')\n"
    code += "except ssrnet_hub.SSRNetHubError as e:\n    print(e)"
    assert "is private" in client.ask(code=code, token=None)[1]


@pytest.mark.parametrize("token", [None, "hf_somebody_else"], ids=["none", "wrong"])
def test_who_may_not_push(hub, client, folder, repo, token):
    client.refuses("--token-file", "push_weights", folder, "--repo", repo, token=token)
    assert repo not in hub.repos


def test_token_file(hub, client, folder, repo, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    out = client.push(folder, "--repo", repo, "--token-file", file, token=None)
    assert TOKEN not in out
    for text, said in (("", "is empty"), ("hf_with a secret space", "Invalid token")):
        file.write_text(text)
        code, out, err = client.script("push_weights", folder, "--repo", repo, "--token-file", file, token=None)
        assert code == 1 and said in err and "secret" not in out + err
    client.refuses(
        "Cannot read the token file",
        "push_weights",
        folder,
        "--repo",
        repo,
        "--token-file",
        tmp_path / "no",
        token=None,
    )


@pytest.mark.parametrize(
    ("where", "how"), [("/preupload/", "404"), *(("/commit/", how) for how in ("cut", "drop", "500", "429"))]
)
def test_a_push_that_dies_leaves_the_repository_as_it_was(hub, client, folder, repo, tmp_path, where, how):
    client.push(folder, "--repo", repo)
    before, files = hub.commit(repo, "main").id, hub.files(repo, "main")
    other = save_pretrained(
        timm.create_model("ssrnet", V=50), tmp_path / "other", extras={"framing": Framing().to_dict()}
    )
    hub.fail(f"/api/models/{repo}{where}", how, times=None)
    code, _, err = client.script("push_weights", other, "--repo", repo)
    hub.mend()
    assert code == 1 and err.count("error: ") == 1 and repo in err
    assert (hub.commit(repo, "main").id, hub.files(repo, "main")) == (before, files)
    client.push(other, "--repo", repo)
    assert hub.files(repo, "main")["model.safetensors"] == (other / "model.safetensors").read_bytes()


def test_a_push_whose_answer_is_lost_is_not_made_twice(hub, client, folder, repo):
    hub.fail(f"/api/models/{repo}/commit/", "lost", times=1)
    client.refuses("Pushing to", "push_weights", folder, "--repo", repo)
    count = len(list(hub.commit(repo, "main").history))
    assert "unchanged" in client.push(folder, "--repo", repo)
    assert len(list(hub.commit(repo, "main").history)) == count


def test_hub_out_of_reach(hub, client, folder, repo):
    with hub.stopped():
        client.refuses("Pushing to", "push_weights", folder, "--repo", repo)


@pytest.mark.parametrize("name", ["no-such-folder", "README.md"])
def test_what_is_no_weights(client, repo, name):
    client.refuses("neither a folder|pickled state dict", "push_weights", ROOT / name, "--repo", repo)


@pytest.mark.parametrize("name", ["a//b", "a/b/c", "lonely"])
def test_impossible_name(client, folder, name):
    client.refuses("not a valid repository name|has no owner", "push_weights", folder, "--repo", name, "--dry-run")


def test_a_checkpoint_is_converted(hub, client, folder, repo, tmp_path):
    model = timm.create_model("ssrnet")
    torch.save(model.state_dict(), tmp_path / "last.pth")
    client.push(tmp_path / "last.pth", "--repo", repo)
    sent = tmp_path / "sent.safetensors"
    sent.write_bytes(hub.files(repo, "main")["model.safetensors"])
    torch.testing.assert_close(load_file(sent), dict(model.state_dict()), rtol=0, atol=0)
    client.push(folder / "model.safetensors", "--repo", repo)
    assert hub.files(repo, "main")["model.safetensors"] == (folder / "model.safetensors").read_bytes()


def export(folder):
    """Its weights in all precisions."""
    faces = torch.randint(256, (4, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (folder / "onnx").mkdir(exist_ok=True)
    for precision, name in ONNX_FILES.items():
        path = folder / "onnx" / Path(name).name
        export_onnx(from_pretrained(folder), path, precision, faces=faces, calibration=faces)


def test_other_files_of_the_folder(hub, client, folder, repo):
    export(folder)
    (folder / "onnx" / "other.onnx").write_bytes(b"an onnx model")
    (folder / "LICENSE").write_text("mine")
    (folder / "log.csv").write_text("private")
    client.push(folder, "--repo", repo)
    assert set(pushed_files(hub, repo)) == FILES | {*OF_ONNX, "LICENSE"}


def test_cards_tell_of_the_onnx_files_that_are_there(folder, tmp_path):
    assert "## ONNX" not in render_card(folder, "me/mine")
    export(folder)
    card = render_card(folder, "me/mine")
    assert "## ONNX\n\n`onnx/model.onnx` takes" in card and "model_int8.onnx" not in card
    # of the default, which were measured
    default = save_pretrained(from_pretrained(DEFAULT), tmp_path / "default")
    assert "| `model_int8.onnx`, int8 |" in render_card(DEFAULT)
    assert "## ONNX" not in render_card(default, "me/mine")
    (default / "onnx").mkdir()
    for row in zoo.ZOO[DEFAULT].record["exports"]["files"]:
        (default / "onnx" / row["file"]).write_bytes(bytes(row["bytes"]))
    assert "| `model_int8.onnx`, int8 |" in render_card(default, "me/mine")
    (default / "onnx" / "model_int8.onnx").write_bytes(b"another")
    assert "model_int8.onnx" not in (card := render_card(default, "me/mine")) and "## ONNX" in card


@pytest.mark.parametrize("name", sorted(OF_ONNX))
def test_onnx_files_of_other_weights(hub, client, folder, repo, name):
    export(folder)
    save_pretrained(timm.create_model("ssrnet"), folder.parent / "retrained")
    for other in OF_ONNX - {name}:
        (folder / other).unlink()
    shutil.copy(folder.parent / "retrained" / "model.safetensors", folder)
    client.refuses("was not exported from the weights in .*: remove it", "push_weights", folder, "--repo", repo)
    (folder / name).write_bytes(b"an onnx model")
    client.refuses("cannot be read as an ONNX model", "push_weights", folder, "--repo", repo)
    (folder / name).unlink()
    client.push(folder, "--repo", repo)
    assert not set(pushed_files(hub, repo)) & OF_ONNX


def test_push_from_python(hub, client, repo):
    code = f"""
import timm, ssrnet_hub
model = timm.create_model("ssrnet", V=42)
extras = {{"framing": ssrnet_hub.Framing().to_dict(), "note": "mine"}}
push = ssrnet_hub.push_to_hub(model, "{repo}", tag="v1", extras=extras)
print(push.changed, ssrnet_hub.from_pretrained("{repo}@v1", verify=True).V)
"""
    code, out, err = client.ask(code=code)
    assert (code, out) == (0, "True 42.0\n"), err
    assert json.loads(hub.files(repo, "main")["config.json"])["ssrnet_hub"]["note"] == "mine"


def test_push_to_hub_takes_the_names_of_the_hub(hub, client, repo):
    code = f"""
import timm, ssrnet_hub
model = timm.create_model("ssrnet")
push = ssrnet_hub.push_to_hub(
    model, "{repo}", commit_message="Mine", private=True, revision="dev", create_pr=False, token="{TOKEN}"
)
print(push.revision)
"""
    code, out, err = client.ask(code=code, token=None)
    assert (code, out) == (0, "dev\n"), err
    assert hub.repos[repo].private
    assert hub.commit(repo, "dev").title == "Mine"
    assert not pushed_files(hub, repo)


@pytest.mark.parametrize("name", ["ssrnet.utkface_fairface_aaf", "ssrnet_gender.fairface"])
def test_the_code_of_a_card_runs(hub, client, repo, name, astronaut, tmp_path):
    # as weights of one's own, which are loaded from the repository
    weights = save_pretrained(
        timm.create_model(name.split(".")[0]), tmp_path / "own", get_extras(from_pretrained(name))
    )
    client.push(weights, "--repo", repo)
    astronaut.save(tmp_path / "photo.jpg")
    astronaut.crop((160, 60, 290, 190)).save(tmp_path / "crop.png")
    blocks = re.findall(r"```python\n(.*?)```", hub.files(repo, "main")["README.md"].decode(), re.DOTALL)
    assert len(blocks) == 2 and all(repo in block for block in blocks)
    for block in blocks:
        answer = "score" if "score =" in block else "age" if "age =" in block else "model.V"
        code, out, err = client.ask(code=f"import os; os.chdir({str(tmp_path)!r})\n{block}\nprint(float({answer}))")
        assert code == 0, err
        assert re.search(r"^-?\d+\.\d+$", out, re.MULTILINE)


@pytest.mark.parametrize("keyword", ["message", "framing", "branch"])
def test_unknown_keywords_are_refused(folder, tmp_path, keyword):
    model = from_pretrained(folder)
    with pytest.raises(TypeError, match=keyword):
        save_pretrained(model, tmp_path / "other", **{keyword: "mistyped"})
    with pytest.raises(TypeError, match=keyword):
        push_to_hub(model, "me/mine", **{keyword: "mistyped"})
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("training", ["my chips", {"minutes": "long"}, {"average_of": 5}], ids=str)
def test_a_training_of_odd_types_is_not_pushed(folder, tmp_path, training):
    folder = save_pretrained(from_pretrained(folder), tmp_path / "odd", extras={"training": training})
    with pytest.raises(ConfigError, match=r"config\.json, training"):
        prepare_repository(folder, tmp_path / "files", "me/mine")
    assert not (tmp_path / "files").exists()
    with pytest.raises(ConfigError, match=r"config\.json, training"):
        push_to_hub(from_pretrained(folder), "me/mine")


# check tensors


def test_check_tensors(folder, tmp_path):
    model = from_pretrained(folder)
    check = write_check(model, tmp_path / "check.safetensors")
    assert check.read_bytes() == write_check(model, tmp_path / "again.safetensors").read_bytes()
    verify_model(model, check)
    with torch.no_grad():
        model.stages[1].p.bias += 0.01
    with pytest.raises(CheckError, match=r"age, stage2\.p"):
        verify_model(model, check)


@pytest.mark.parametrize(
    "change",
    [
        {"pixels": torch.zeros(4, 3, 64, 64)},
        {"pixels": torch.zeros(4, 3, 65, 64, dtype=torch.uint8)},
        {"pixels": torch.zeros(4, 1, 64, 64, dtype=torch.uint8)},
        {"pixels": torch.zeros(0, 3, 64, 64, dtype=torch.uint8)},
        {"pixels": torch.zeros(17, 3, 64, 64, dtype=torch.uint8)},
        {"pixels": torch.zeros((), dtype=torch.uint8)},
        {"other": torch.zeros(21_000_000, dtype=torch.uint8)},
    ],
    ids=lambda change: str({key: tuple(value.shape) for key, value in change.items()}),
)
def test_check_tensors_that_are_none(folder, change):
    check = write_check(from_pretrained(folder), folder / "check.safetensors")
    save_file({**load_file(check), **change}, check)
    with pytest.raises(CheckError, match="no valid check tensors"):
        from_pretrained(folder, verify=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.complex64, torch.bool], ids=str)
def test_check_tensors_of_another_type(folder, dtype):
    check = write_check(from_pretrained(folder), folder / "check.safetensors")
    tensors = load_file(check)
    save_file({**tensors, "age": tensors["age"].to(dtype)}, check)
    with pytest.raises(CheckError, match=r"differs from .* in .*age"):
        from_pretrained(folder, verify=True)


def test_check_tensors_of_another_kind_of_model(tmp_path):
    model = timm.create_model("resnet18", device="meta")
    for check in (write_check, verify_model):
        with pytest.raises(ArchitectureError, match="ResNet"):
            check(model, tmp_path / "check.safetensors")
    assert not any(tmp_path.iterdir())


def test_check_tensors_notice_other_preprocessing(folder, tmp_path):
    check = write_check(from_pretrained(folder), folder / "check.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config["pretrained_cfg"]["std"] = [0.4, 0.5, 0.5]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckError, match="differ"):
        from_pretrained(folder, verify=True)
    assert from_pretrained(folder).V == 101
    check.unlink()
    with pytest.raises(CheckError, match="no check tensors"):
        from_pretrained(folder, verify=True)


def test_a_folder_that_does_not_answer_as_it_says_is_not_pushed(hub, client, folder, repo):
    check = write_check(from_pretrained(folder), folder / "check.safetensors")
    tensors = load_file(check)
    tensors["age"] = tensors["age"] + 1
    save_file(tensors, check)
    client.refuses("differs from .* in .*age", "push_weights", folder, "--repo", repo)
    assert repo not in hub.repos


# the authors' weights and the zoo


def test_from_the_authors_file_to_a_stranger(hub, client, shared, repo, tmp_path):
    golden = np.load(shared / "golden" / "keras_outputs.npz")
    pixels = tmp_path / "pixels.npy"
    np.save(pixels, golden["input_bgr_uint8_nhwc"][..., ::-1].transpose(0, 3, 1, 2).astype(np.float32))
    client.push(convert_keras(shared / "official_weights" / "imdb.h5", tmp_path / "imdb"), "--repo", repo)
    code = f"""
import json, os, sys
import numpy as np, timm, torch
import ssrnet_hub
x = torch.from_numpy(np.load({str(pixels)!r}))
models = [ssrnet_hub.from_pretrained({repo!r}, verify=True)]
models += [timm.create_model("hf-hub:" + {repo!r}, pretrained=True).eval()]
assert models[1].pretrained_cfg["mean"] == (0, 0, 0) or list(models[1].pretrained_cfg["mean"]) == [0, 0, 0]
with torch.no_grad():
    print(json.dumps([model(x)[:, 0].tolist() for model in models]))
"""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1", "HF_HOME": str(tmp_path / "home")}

    def load():
        result = run_program("-c", code, env=env, cwd=ROOT)
        assert result.returncode == 0, result.stderr
        for ages in json.loads(result.stdout):
            np.testing.assert_allclose(ages, golden["imdb/prediction"].ravel(), atol=1e-3)

    load()
    with hub.stopped():
        env["HF_HUB_OFFLINE"] = "1"
        load()
        del env["HF_HUB_OFFLINE"]
        load()


def test_publishing_the_zoo(hub, client, shared, tmp_path):
    args = ("maintain/publish_zoo", "--owner", "zoo", "--official-weights", shared / "official_weights")
    hub.fail("/api/models/zoo/ssrnet.wiki/commit/", "500", times=None)
    code, out, err = client.script(*args)
    hub.mend()
    assert code == 1 and "ssrnet.wiki" in err and out.count("pushed: ") == len(zoo.ZOO) - 1
    heads = {name: hub.commit(f"zoo/{name}", "main").id for name in zoo.ZOO}

    code, out, err = client.script(*args)
    assert code == 0, err
    assert out.count("unchanged: ") == len(zoo.ZOO) - 1 and "pushed: zoo/ssrnet.wiki" in out
    hub.requests.clear()
    code, out, err = client.script(*args)
    assert code == 0 and out.count("unchanged: ") == len(zoo.ZOO), err
    assert not [path for method, path in hub.requests if method == "PUT" or "/commit/" in path]
    assert {name for name in heads if hub.commit(f"zoo/{name}", "main").id != heads[name]} == {"ssrnet.wiki"}

    load = "import ssrnet_hub, timm\nfor name in ssrnet_hub.models.zoo.ZOO:\n"
    load += "    a = ssrnet_hub.from_pretrained(name, revision='main', verify=True)\n    print(name, a.V)\n"
    code, out, err = client.ask(code=f"import warnings\nwarnings.simplefilter('error')\n{load}", SSRNET_HUB_OWNER="zoo")
    assert code == 0 and len(out.splitlines()) == len(zoo.ZOO), err


def test_publishing_the_zoo_without_the_authors_files(hub, client, tmp_path):
    code, out, err = client.script("maintain/publish_zoo", "--owner", "mine")
    ours = [name for name, weights in zoo.ZOO.items() if weights.embedded]
    assert code == 0 and out.count("skipped: ") == len(zoo.ZOO) - len(ours), err
    assert [name for name in hub.repos if name.startswith("mine/")] == [f"mine/{name}" for name in ours]
    files = pushed_files(hub, "mine/ssrnet.utkface_fairface_aaf")
    assert set(files) == FILES | {"LICENSE"}
    card = ModelCard(files["README.md"].decode())
    assert card.data.license_link == "LICENSE" and 'from_pretrained("mine/ssrnet.utkface_fairface_aaf")' in card.text

    code, _, err = client.script("maintain/publish_zoo", "--owner", "mine", "--official-weights", tmp_path)
    assert code == 1 and "imdb.h5" in err


# the Space


def test_publishing_the_space(hub, client, tmp_path):
    code, _, err = client.script("publish_space", "--repo", "me/space")
    assert code == 0, err
    files = {name: data for name, data in hub.files("spaces/me/space", "main").items() if name != ".gitattributes"}
    code, _, err = client.script("publish_space", "--repo", "me/space", "--dry-run", tmp_path, token=None)
    assert code == 0 and files_of(tmp_path) == files, err
    assert {"app.py", "README.md", "requirements.txt", "ssrnet_hub/__init__.py", "LICENSE"} <= set(files)
    assert f"ssrnet_hub/models/weights/{DEFAULT}/model.safetensors" in files
    assert not [name for name in files if "__pycache__" in name]

    head = hub.commit("spaces/me/space", "main").id
    assert f"unchanged: {head}" in client.script("publish_space", "--repo", "me/space")[1]
