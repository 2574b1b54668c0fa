"""Weights from everywhere: the wheel, folders and a Hub, whole or damaged."""

import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import struct
import time
from functools import cache
from pathlib import Path
from unittest.mock import Mock

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import ssrnet_hub
from ssrnet_hub import Framing, SSRNet, SSRNetHubError, from_pretrained, save_pretrained
from ssrnet_hub.errors import (
    ArchitectureError,
    ConfigError,
    CorruptWeightsError,
    PickleOnlyError,
    UnknownModelError,
    WeightsNotFoundError,
    WrongShapeError,
)
from ssrnet_hub.hub.convert import convert_keras
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.models import zoo
from ssrnet_hub.models.zoo import DEFAULT
from ssrnet_hub.utils.io import file_digest

from ..hub_server import Answer, HubServer, commit_of
from ..programs import Program, run_program

ROOT = Path(__file__).resolve().parents[2]
FILES = ["config.json", "model.safetensors"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    connect = socket.socket.connect

    def refuse(asking, *address):
        # other processes of this machine are asked by files
        if isinstance(asking, socket.socket) and asking.family == socket.AF_UNIX:
            return connect(asking, *address)
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tmp_path):
    """A folder as `save_pretrained` writes it."""
    return save_pretrained(timm.create_model("ssrnet"), tmp_path / "model", extras={"framing": Framing().to_dict()})


def digest(model):
    """A name for the weights of a model; the client of the Hub computes the same."""
    sha = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        sha.update(f"{key} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
    return sha.hexdigest()


@cache
def digest_of(folder, changed):
    """That of the weights in a folder, which were changed then."""
    return digest(from_pretrained(folder))


def assert_same_weights(actual, expected):
    torch.testing.assert_close(actual.state_dict(), expected.state_dict(), rtol=0, atol=0)


def edit_config(folder, edit):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def edit_weights(folder, edit):
    path = folder / "model.safetensors"
    state = load_file(path)
    edit(state)
    save_file(state, path)


# the embedded weights


@pytest.mark.parametrize("name", [None, DEFAULT])
def test_embedded_weights_need_no_network(name):
    model = from_pretrained(name)
    assert isinstance(model, ssrnet_hub.SSRNet)
    assert not any(module.training for module in model.modules())
    assert_same_weights(model, timm.create_model(DEFAULT, pretrained=True))
    assert model(torch.randn(2, 3, 96, 96)).isfinite().all()
    extras = get_extras(model)
    Framing.from_dict(extras["framing"])
    assert 0 < extras["training"]["median_age"] < 101


def test_zoo():
    assert ssrnet_hub.list_models("no-such-*") == []
    assert zoo.embedded_folder("no-such-name") is None
    embedded = ssrnet_hub.list_models()
    assert zoo.DEFAULT in embedded
    for name in embedded:
        folder = zoo.embedded_folder(name)
        assert {path.name for path in folder.iterdir()} == {*FILES, "LICENSE"}
        assert file_digest(folder / "model.safetensors") == zoo.ZOO[name].sha256
        assert get_extras(from_pretrained(name))["framing"] == zoo.ZOO[name].framing.to_dict()
        assert json.loads((folder / "config.json").read_text())["pretrained_cfg"]["license"] == zoo.ZOO[name].license


@pytest.mark.parametrize("owner", [None, "someone"])
def test_models_are_listed_that_load_without_a_network(monkeypatch, owner):
    monkeypatch.delenv(zoo.OWNER_VARIABLE, raising=False)
    if owner:
        monkeypatch.setenv(zoo.OWNER_VARIABLE, owner)
    listed = ssrnet_hub.list_models()
    assert [name for name in ssrnet_hub.list_models(include_hub=True) if zoo.embedded_folder(name)] == listed
    assert ssrnet_hub.list_models("ssrnet_gender*") == ["ssrnet_gender.fairface"]
    for name in listed:
        from_pretrained(name)


def test_every_entry_of_the_zoo_is_a_tag_of_timm():
    assert set(ssrnet_hub.list_models(include_hub=True)) == set(zoo.ZOO) <= set(timm.list_pretrained())
    tags = ("fairface", "imdb", "morph2", "wiki")
    assert ssrnet_hub.list_models("ssrnet_gender*", include_hub=True) == [f"ssrnet_gender.{tag}" for tag in tags]
    for name, weights in zoo.ZOO.items():
        cfg = timm.get_pretrained_cfg(name)
        assert cfg.license == weights.license
        assert cfg.file or cfg.hf_hub_id.endswith(f"/{name}")
        assert bool(cfg.file) == weights.embedded
        model = timm.create_model(name)
        assert get_extras(model)["framing"] == weights.framing.to_dict()
        assert bool(weights.ends) == (model.V == 1)
    assert len({weights.sha256 for weights in zoo.ZOO.values()}) == len(zoo.ZOO)


def test_default_is_the_embedded_one():
    assert_same_weights(from_pretrained(), from_pretrained(zoo.DEFAULT))


def test_device():
    assert all(weight.is_meta for weight in from_pretrained(device="meta").parameters())


def test_model_args():
    model = from_pretrained()
    assert from_pretrained(V=1).V == 1
    five = from_pretrained(num_classes=5, in_chans=1)
    assert five(torch.randn(2, 1, 96, 96)).shape == (2, 5)
    bare = from_pretrained(num_classes=0)
    x = torch.randn(2, 3, 96, 96)
    assert torch.equal(bare(x), model.forward_features(x))


# out to a folder and back


def in_channels_last():
    return timm.create_model("ssrnet", pretrained=True).to(memory_format=torch.channels_last)


def with_new_head():
    model = timm.create_model("ssrnet", pretrained=True)
    model.reset_classifier(5)
    return model


def created(**kwargs):
    return lambda: timm.create_model("ssrnet", **kwargs)


MODELS = {
    "embedded": from_pretrained,
    "channels_last": in_channels_last,
    "new_head": with_new_head,
    "V": created(V=1),
    "stage_bins": created(stage_bins=(4, 5, 6)),
    "lambdas": created(lambda_local=0.5, lambda_d=0.25),
    "in_chans": created(in_chans=1),
    "num_classes": created(num_classes=5),
    "no_classes": created(num_classes=0),
    "fixed_grid": created(dynamic_range=False),
    "img_size": created(img_size=(80, 96)),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_round_trip(tmp_path, make):
    model = make().eval()
    # running statistics of its own, so that their loss shows
    model.train()(torch.randn(8, model.in_chans, *model.img_size))
    model.eval()
    folder = save_pretrained(model, tmp_path / "a" / "b")
    assert sorted(path.name for path in folder.iterdir()) == FILES

    x = torch.randn(2, model.in_chans, *model.img_size)
    for loaded in (
        from_pretrained(folder),
        from_pretrained(str(folder)),
        timm.create_model(f"local-dir:{folder}", pretrained=True).eval(),
    ):
        assert_same_weights(loaded, model)
        assert torch.equal(loaded(x), model.to(memory_format=torch.contiguous_format)(x))
        for name in ("V", "lambda_local", "lambda_d", "stage_bins", "num_classes", "in_chans", "img_size"):
            assert getattr(loaded, name) == getattr(model, name)
        data = timm.data.resolve_model_data_config(model)
        data["input_size"] = (model.in_chans, *model.img_size)
        data["mean"], data["std"] = data["mean"][: model.in_chans], data["std"][: model.in_chans]
        # as JSON, which turns tuples into lists
        assert json.dumps(timm.data.resolve_model_data_config(loaded)) == json.dumps(data)


def test_saving_leaves_the_model_alone(tmp_path):
    model = timm.create_model("ssrnet", dtype=torch.bfloat16).to(memory_format=torch.channels_last).train()
    model.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folder = save_pretrained(model, tmp_path)
    assert model.training
    assert model.stream1[1][0].conv.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(weight.requires_grad for weight in model.parameters())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    # loaded in the precision that models are made in
    assert_same_weights(from_pretrained(folder), model.float())


def test_extras(tmp_path):
    model = from_pretrained()
    assert get_extras(timm.create_model("ssrnet")) == {key: get_extras(model)[key] for key in ("task", "framing")}
    extras = {**get_extras(model), "note": {"list": [1, 2.5, None, "é"]}, "training": "none"}
    first = save_pretrained(
        model, tmp_path / "first", extras={"note": {"list": [1, 2.5, None, "é"]}, "training": "none"}
    )
    loaded = from_pretrained(first)
    assert get_extras(loaded) == extras
    # they are the weights' own: they go along when these are saved again
    assert get_extras(from_pretrained(save_pretrained(loaded, tmp_path / "second"))) == extras
    config = json.loads((first / "config.json").read_text(encoding="utf-8"))
    assert config["ssrnet_hub"] == extras
    assert get_extras(model) != extras


def test_framing_travels_in_the_config(tmp_path):
    framing = Framing(size=64, template=None, margin=0.4)
    folder = save_pretrained(timm.create_model("ssrnet"), tmp_path, extras={"framing": framing.to_dict()})
    assert Framing.from_dict(get_extras(from_pretrained(folder))["framing"]) == framing


def test_extras_are_a_copy():
    model = from_pretrained()
    get_extras(model)["framing"]["size"] = -1
    assert get_extras(model)["framing"]["size"] > 0


def test_saving_over_an_old_folder(tmp_path):
    (tmp_path / "README.md").write_text("kept")
    save_pretrained(timm.create_model("ssrnet", stage_bins=(4, 4, 4)), tmp_path, extras={"old": 1})
    model = timm.create_model("ssrnet")
    save_pretrained(model, tmp_path, extras={"new": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", *FILES]
    loaded = from_pretrained(tmp_path)
    assert_same_weights(loaded, model)
    assert get_extras(loaded) == {**get_extras(model), "new": 2}


def test_same_bytes_each_time(tmp_path):
    model = from_pretrained()
    a, b = (save_pretrained(model, tmp_path / name) for name in "ab")
    c = save_pretrained(from_pretrained(a), tmp_path / "c")
    for name in FILES:
        assert (a / name).read_bytes() == (b / name).read_bytes() == (c / name).read_bytes()


def test_failed_save_leaves_the_old_files(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(TypeError):
        save_pretrained(timm.create_model("ssrnet"), folder, extras={"note": object()})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(os.name == "nt", reason="file modes of POSIX")
def test_weights_are_as_readable_as_any_new_file(folder):
    (folder / "other").touch()
    assert {path.stat().st_mode for path in folder.iterdir()} == {(folder / "other").stat().st_mode}


# names


@pytest.mark.parametrize("name", ["ssrnet.utkfase", "ssrnet", "utkface"])
def test_unknown_name_with_a_near_match(name):
    with pytest.raises(UnknownModelError, match=r"Did you mean [^?]*\bssrnet\.utkface_fairface_aaf\b[^?]*\?") as e:
        from_pretrained(name)
    assert name in str(e.value)
    assert isinstance(e.value, SSRNetHubError)


@pytest.mark.parametrize(
    "name",
    ["xyzzy", "no/such/folder", "/no/such/folder", Path("no/such"), "owner/repo@", "a\0b", "x" * 5000, "owner/-.-"],
    ids=lambda name: str(name)[:20].encode("unicode_escape").decode(),
)
def test_unknown_name(name):
    with pytest.raises(UnknownModelError):
        from_pretrained(name)


def test_file_instead_of_its_folder(folder):
    with pytest.raises(UnknownModelError, match="is not a folder"):
        from_pretrained(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["owner/name@v1", "ssrnet.imdb@v1"])
def test_two_revisions(name):
    with pytest.raises(UnknownModelError, match=rf"'{name}'.*'v2'"):
        from_pretrained(name, revision="v2")


@pytest.mark.parametrize("name", [name for name, weights in zoo.ZOO.items() if not weights.embedded])
def test_without_an_owner_the_error_says_what_to_do(name, monkeypatch):
    monkeypatch.delenv("SSRNET_HUB_OWNER", raising=False)
    with pytest.raises(UnknownModelError, match=re.escape(zoo.ZOO[name].conversion)) as e:
        from_pretrained(name)
    assert "SSRNET_HUB_OWNER" in str(e.value) and zoo.ZOO[name].source in zoo.ZOO[name].conversion


def test_a_name_of_the_zoo_wins_over_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (DEFAULT, "ssrnet.imdb", "mine@v1"):
        save_pretrained(timm.create_model("ssrnet", V=7), name)
    assert from_pretrained(DEFAULT).V == 101
    assert from_pretrained(f"./{DEFAULT}").V == from_pretrained(Path(DEFAULT).absolute()).V == 7
    assert from_pretrained("mine@v1").V == 7
    with pytest.raises(UnknownModelError, match=r"pass '\./ssrnet\.imdb'"):
        from_pretrained("ssrnet.imdb")


# damaged folders


def test_empty_folder(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"has no config\.json") as e:
        from_pretrained(tmp_path)
    assert str(tmp_path) in str(e.value) and isinstance(e.value, SSRNetHubError)


def test_no_weights(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsNotFoundError, match=r"has no model\.safetensors") as e:
        from_pretrained(folder)
    assert not isinstance(e.value, PickleOnlyError)


@pytest.mark.parametrize("damage", ["empty", "header", "truncated", "longer", "text"])
def test_damaged_weights(folder, damage):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "header": data[:100], "truncated": data[:-1], "longer": data + b"\0", "text": b"<html>" * 9}[
            damage
        ]
    )
    with pytest.raises(CorruptWeightsError, match=r"model\.safetensors.*damaged"):
        from_pretrained(folder)


def put(key, value):
    return lambda state: state.update({key: value})


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (put("stages.1.p.weight", torch.zeros(4, 6)), "stages.1.p.weight is 4x6 in the file and 3x6 in the model"),
        (put("stages.2.delta.bias", torch.zeros(())), "stages.2.delta.bias is a scalar in the file and 1 in the model"),
        (put("other", torch.zeros(2)), "other is 2 in the file and missing in the model"),
        (lambda state: state.pop("stages.0.eta.bias"), "stages.0.eta.bias is missing in the file and 3 in the model"),
    ],
    ids=["shape", "scalar", "unexpected", "missing"],
)
def test_weights_of_other_shapes(folder, edit, said):
    edit_weights(folder, edit)
    with pytest.raises(WrongShapeError, match=re.escape(said)) as e:
        from_pretrained(folder)
    assert "more" not in str(e.value)


def test_many_wrong_shapes_are_counted(folder):
    edit_weights(folder, lambda state: state.clear())
    count = len(timm.create_model("ssrnet").state_dict())
    with pytest.raises(WrongShapeError, match=f"and {count - 5} more"):
        from_pretrained(folder)


def test_config_of_another_head_than_the_weights(folder):
    edit_config(folder, lambda config: config["model_args"].update(stage_bins=[4, 4, 4]))
    with pytest.raises(WrongShapeError, match=r"stages\.0"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    "args", [{"stage_bins": (4, 4, 4)}, {"dynamic_range": False}, {"img_size": 64}], ids=lambda args: next(iter(args))
)
def test_model_args_that_the_weights_do_not_fit(args):
    with pytest.raises(WrongShapeError):
        from_pretrained(**args)


@pytest.mark.parametrize("text", ["", "not json", "[1]", '"text"', "{", "[" * 100_000, "\xff"], ids=range(7))
def test_config_is_no_json_object(folder, text):
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"config\.json"):
        from_pretrained(folder)


@pytest.mark.parametrize("architecture", ["resnet18", "no_such_model", None, ["ssrnet"]], ids=str)
def test_config_of_another_architecture(folder, architecture):
    edit_config(folder, lambda config: config.update(architecture=architecture))
    with pytest.raises(ArchitectureError, match=r"not an age model.*ssrnet") as e:
        from_pretrained(folder)
    assert str(architecture) in str(e.value)


@pytest.mark.parametrize(
    "edit",
    [
        lambda config: config.pop("pretrained_cfg"),
        lambda config: config.update(pretrained_cfg=None),
        lambda config: config["pretrained_cfg"].update(unknown=1),
        lambda config: config["pretrained_cfg"].update(first_conv=5),
        lambda config: config["pretrained_cfg"].update(label_offset="x"),
        lambda config: config.update(model_args=None),
        lambda config: config["model_args"].update(V="a century"),
        lambda config: config["model_args"].update(unknown=1),
        lambda config: config["model_args"].update(stage_bins=[3, 3, 3, 3]),
        lambda config: config["model_args"].update(checkpoint_path="weights.pth"),
        lambda config: config.update(num_classes="one"),
        lambda config: config.update(num_classes=None),
        lambda config: config.update(ssrnet_hub=[1]),
    ],
    ids=[
        "no_cfg",
        "null_cfg",
        "unknown_cfg",
        "first_conv",
        "label_offset",
        "null_args",
        "V",
        "unknown_arg",
        "stage_bins",
        "checkpoint_path",
        "num_classes",
        "null_classes",
        "extras",
    ],
)
def test_config_that_describes_no_model(folder, edit):
    edit_config(folder, edit)
    with pytest.raises(ConfigError, match=r"config\.json"):
        from_pretrained(folder)


@pytest.mark.parametrize("num_classes", [5, None])
def test_config_that_would_drop_the_head(folder, num_classes):
    """timm starts a head afresh, silently, where it takes the weights' number of classes for another."""
    model = from_pretrained(folder)

    def edit(config):
        config.pop("num_classes")
        config["pretrained_cfg"].pop("num_classes")
        if num_classes:
            config["num_classes"] = num_classes

    edit_config(folder, edit)
    try:
        loaded = from_pretrained(folder)
    except ConfigError:
        return
    assert_same_weights(loaded, model)


def test_config_cannot_send_elsewhere_for_the_weights(folder):
    model = from_pretrained(folder)
    elsewhere = {"file": "/no/such/file.pth", "url": "http://127.0.0.1:9/w.pth", "hf_hub_id": "a/b"}
    edit_config(folder, lambda config: config["pretrained_cfg"].update(elsewhere))
    assert_same_weights(from_pretrained(folder), model)


def test_pickle_beside_the_weights_is_passed_over(folder):
    model = from_pretrained(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80 no pickle")
    assert_same_weights(from_pretrained(folder), model)


@pytest.mark.parametrize("file", ["weights.pt", "weights.pth", "weights.pth.tar", "weights.ckpt", "weights.pkl"])
def test_pickle_only(folder, file):
    (folder / "model.safetensors").rename(folder / file)
    with pytest.raises(PickleOnlyError, match=re.escape(file)):
        from_pretrained(folder)


def test_command_that_converts_a_pickle(tmp_path):
    model = timm.create_model("ssrnet", V=1)
    folder = save_pretrained(model, tmp_path / "my model", extras={"note": 1})
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(PickleOnlyError) as e:
        from_pretrained(folder)

    command = re.search(r"ssrnet-hub (convert .* OUT_DIR)", str(e.value))[1]
    arguments = [str(tmp_path / "out") if part == "OUT_DIR" else part for part in shlex.split(command)]
    run = run_program("-m", "ssrnet_hub.cli", *arguments, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    converted = from_pretrained(tmp_path / "out")
    assert_same_weights(converted, model)
    assert converted.V == 1 and get_extras(converted)["note"] == 1


# the Hub, by the real client in a process of its own: it reads where the Hub is when it is imported

CLIENT = """
import hashlib, json, sys, traceback, warnings
from ssrnet_hub import SSRNetHubError, from_pretrained
for line in sys.stdin:
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            model = from_pretrained(**json.loads(line))
    except Exception as e:
        typed = isinstance(e, SSRNetHubError)
        answer = {"error": type(e).__name__, "typed": typed, "said": str(e), "traceback": traceback.format_exc()}
    else:
        sha = hashlib.sha256()
        for key, value in sorted(model.state_dict().items()):
            sha.update(f"{key} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        warned = [str(w.message) for w in warned if w.category is UserWarning]
        answer = {"V": model.V, "digest": sha.hexdigest(), "training": model.training, "warned": warned}
    print(json.dumps(answer), flush=True)
"""

TOKEN = "hf_0123456789secret"


class Hub:
    """The server and a client that talks to it."""

    def __init__(self, server, folders):
        self.server = server
        self.folders = folders
        env = {**os.environ, "HF_ENDPOINT": server.url, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        env["SSRNET_HUB_OWNER"] = "zoo-owner"
        self.client = Program("-c", CLIENT, env=env, cwd=ROOT)

    def load(self, name, **kwargs):
        """What comes of ``from_pretrained(name, **kwargs)`` in the client."""
        self.server.requests.clear()
        self.client.stdin.write(json.dumps({"name": name, **kwargs}) + "\n")
        self.client.stdin.flush()
        return json.loads(self.client.stdout.readline())

    def loads(self, folder, name, **kwargs):
        answer = self.load(name, **kwargs)
        assert "error" not in answer, answer["traceback"]
        weights = self.folders[folder] / "model.safetensors"
        assert answer["digest"] == digest_of(weights.parent, weights.stat().st_mtime_ns)
        assert not answer["training"]
        return answer

    def refuses(self, error, said, name, **kwargs):
        answer = self.load(name, **kwargs)
        assert answer.get("typed"), answer
        assert answer["error"] == error
        assert re.search(said, answer["said"]), answer["said"]
        assert "secret" not in answer["traceback"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    torch.manual_seed(0)
    top = tmp_path_factory.mktemp("hub")
    folders = {name: save_pretrained(timm.create_model("ssrnet", V=V), top / name) for name, V in (("a", 1), ("b", 2))}
    for name in ("pickle", "bare-pickle", "other", "damaged"):
        folders[name] = top / name
        shutil.copytree(folders["a"], top / name)
    for name in ("pickle", "bare-pickle"):
        (top / name / "model.safetensors").rename(top / name / "pytorch_model.bin")
    (top / "bare-pickle" / "config.json").unlink()
    (top / "damaged" / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    edit_config(top / "other", lambda config: config.update(architecture="resnet18"))
    (top / "empty").mkdir()
    (top / "empty" / "README.md").write_text("nothing yet")
    folders["empty"] = top / "empty"

    repos = {"age/plain": {"main": folders["a"], "v2.0": folders["b"], "refs/pr/1": folders["b"]}}
    for name in ("private", "gated", "never", "hangs-up", "portal", "busy"):
        repos[f"age/{name}"] = {"main": folders["a"]}
    for name in ("pickle", "bare-pickle", "other", "damaged", "empty"):
        repos[f"age/{name}"] = {"main": folders[name]}
    folders["utkface"] = zoo.embedded_folder(DEFAULT)
    repos[f"zoo-owner/{DEFAULT}"] = {"main": folders["utkface"], "other": folders["b"]}
    repos["zoo-owner/ssrnet.imdb"] = {"main": folders["a"]}
    with HubServer(repos, private={"age/private": TOKEN}, gated={"age/gated": TOKEN}) as server:
        server.fail("/api/models/age/hangs-up", "drop", times=None)
        server.fail("/api/models/age/busy", "503", times=None)
        portal = Answer(b"<html>Welcome! Please log in.</html>", {"Content-Type": "text/html"})  # as of a hotel
        server.fail("/api/models/age/portal", portal, times=None)
        hub = Hub(server, folders)
        yield hub
        hub.client.stdin.close()
        assert hub.client.wait(10) == 0


@pytest.fixture
def cache(tmp_path):
    return {"cache_dir": str(tmp_path)}


@pytest.fixture(autouse=True)
def network_of_the_server(request, monkeypatch, no_network):
    """The server of this process needs sockets; what it serves is asked for by another process."""
    if "hub" in request.fixturenames:
        monkeypatch.undo()


def test_hub_repo(hub, cache):
    hub.loads("a", "age/plain", **cache)
    assert ("GET", "/api/models/age/plain/revision/main") in hub.server.requests
    hub.loads("a", "age/plain", **cache)
    assert not [path for _, path in hub.server.requests if "/resolve/" in path]  # from the cache


def test_hub_revisions(hub, cache):
    hub.loads("b", "age/plain@v2.0", **cache)
    hub.loads("b", "age/plain", revision="v2.0", **cache)
    hub.loads("b", "age/plain@v2.0", revision="v2.0", **cache)
    hub.loads("b", "age/plain@refs/pr/1", **cache)
    hub.loads("b", f"age/plain@{commit_of(hub.folders['b'])}", **cache)
    hub.loads("a", "age/plain@main", **cache)


def test_hub_model_args(hub, cache):
    assert hub.load("age/plain", **cache)["V"] == 1
    assert hub.load("age/plain", V=3, **cache)["V"] == 3


def test_hub_downloads_only_what_it_needs(hub, cache, tmp_path):
    hub.refuses("WeightsNotFoundError", "age/empty", "age/empty", **cache)
    hub.refuses("PickleOnlyError", "age/pickle", "age/pickle", **cache)
    assert {path.name for path in tmp_path.glob("models--*/snapshots/*/*")} == {"config.json"}


def test_hub_names_of_the_zoo(hub, cache):
    assert not hub.loads("utkface", DEFAULT, **cache)["warned"]
    assert not hub.server.requests  # it is embedded
    assert not hub.loads("utkface", f"{DEFAULT}@main", **cache)["warned"]
    assert hub.server.requests


def test_hub_other_weights_under_a_name_of_the_zoo(hub, cache):
    theirs, ours = file_digest(hub.folders["a"] / "model.safetensors"), zoo.ZOO["ssrnet.imdb"].sha256
    hub.refuses("DigestError", f"zoo-owner/ssrnet.imdb.*{theirs}.*{ours}", "ssrnet.imdb", **cache)
    (warning,) = hub.loads("a", "ssrnet.imdb", revision="main", **cache)["warned"]
    assert theirs in warning and ours in warning
    (warning,) = hub.loads("b", f"{DEFAULT}@other", **cache)["warned"]
    assert "'other'" in warning
    # whoever names the repository means what is in it
    assert not hub.loads("a", "zoo-owner/ssrnet.imdb", **cache)["warned"]


def test_hub_has_the_weights_of_the_authors(shared, tmp_path, cache):
    folders = {}
    for name in ("ssrnet.wiki", "ssrnet_gender.wiki"):
        source = shared / "official_weights" / zoo.ZOO[name].source
        folders[name] = convert_keras(source, tmp_path / name, gender="gender" in name)
    with HubServer({f"zoo-owner/{name}": {"main": folder} for name, folder in folders.items()}) as server:
        hub = Hub(server, folders)
        for name in folders:
            assert not hub.loads(name, name, **cache)["warned"]
            assert ("GET", f"/zoo-owner/{name}/resolve/{commit_of(folders[name])}/model.safetensors") in server.requests


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf-hub:me/mine@dev", "pass 'me/mine@dev'"),
        ("hf_hub:me/mine", "pass 'me/mine'"),
        ("https://huggingface.co/me/mine", "pass 'me/mine'"),
        ("./nothing", "'./nothing' is not a folder"),
        ("weights/model.safetensors", "pass its folder, weights"),
        ("weights/model.h5", "ssrnet-hub convert"),
    ],
)
def test_names_that_others_take(name, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    for suffix in ("safetensors", "h5"):
        (tmp_path / "weights" / f"model.{suffix}").touch()
    with pytest.raises(UnknownModelError, match=re.escape(said)):
        from_pretrained(name)


def test_hub_unknown_repo(hub, cache):
    hub.refuses("HubError", "Repository age/nothing not found on the Hub", "age/nothing", **cache)
    hub.refuses("HubError", "Repository age/nothing not found on the Hub", "age/nothing", token=TOKEN, **cache)


def test_hub_unknown_revision(hub, cache):
    hub.refuses("HubError", "Revision 'v9' not found in age/plain", "age/plain@v9", **cache)


def test_hub_impossible_name(hub, cache):
    hub.refuses("UnknownModelError", "is not a valid repository name", "age/two--dashes", **cache)


def test_hub_private_repo(hub, cache):
    hub.refuses("HubError", r"private.*token=", "age/private", **cache)
    hub.refuses("HubError", r"private.*token=", "age/private", token="hf_another-secret", **cache)
    hub.loads("a", "age/private", token=TOKEN, **cache)


def test_hub_gated_repo(hub, cache):
    hub.refuses("HubError", "gated repository: accept its terms", "age/gated", **cache)
    hub.refuses("HubError", "gated repository: accept its terms", "age/gated", token="hf_another-secret", **cache)
    hub.loads("a", "age/gated", token=TOKEN, **cache)


@pytest.mark.parametrize("token", [TOKEN + "\n", "hf_sécret-secret"], ids=["line_break", "not_ascii"])
def test_hub_token_that_cannot_be_sent(hub, cache, token):
    hub.refuses("HubError", "token", "age/private", token=token, **cache)


def test_hub_token_that_is_not_there(hub, cache):
    hub.refuses("HubError", "[Tt]oken", "age/plain", token=True, **cache)


def test_hub_other_architecture(hub, cache):
    hub.refuses("ArchitectureError", "resnet18", "age/other", **cache)


def test_hub_damaged_weights(hub, cache):
    hub.refuses("CorruptWeightsError", "damaged", "age/damaged", **cache)


@pytest.mark.parametrize("repo", ["age/pickle", "age/bare-pickle"])
def test_hub_pickle_only(hub, cache, repo):
    hub.refuses("PickleOnlyError", rf"{repo} .*ssrnet-hub convert --from torch pytorch_model\.bin", repo, **cache)


@pytest.mark.parametrize("repo", ["age/hangs-up", "age/portal", "age/busy"])
def test_hub_misbehaves(hub, cache, repo):
    hub.refuses("HubError", repo, repo, **cache)


def test_hub_out_of_reach(hub, cache):
    hub.loads("a", "age/plain", **cache)
    hub.loads("b", "age/plain@v2.0", **cache)
    with hub.server.stopped():
        hub.loads("a", "age/plain", **cache)
        hub.loads("b", "age/plain", revision="v2.0", local_files_only=True, **cache)
        hub.refuses("HubError", "age/plain at revision v1 is not in the cache", "age/plain@v1", **cache)
        hub.refuses("HubError", "age/never is not in the cache", "age/never", **cache)
        hub.refuses("HubError", "age/never is not in the cache", "age/never", local_files_only=True, **cache)
    hub.refuses("HubError", "age/never is not in the cache", "age/never", local_files_only=True, **cache)
    assert not hub.server.requests
    hub.loads("a", "age/never", **cache)


def test_hub_out_of_reach_after_half_a_download(hub, cache):
    """Only the config of a repository without safetensors is in the cache."""
    hub.refuses("PickleOnlyError", "age/pickle", "age/pickle", **cache)
    with hub.server.stopped():
        hub.refuses("WeightsNotFoundError", "has no model.safetensors", "age/pickle", local_files_only=True, **cache)
        started = time.monotonic()
        hub.refuses("WeightsNotFoundError", "age/pickle", "age/pickle", **cache)
        assert time.monotonic() - started < 10


def test_framing_of_a_model_that_timm_loads_from_a_folder(tmp_path):
    framing = Framing(size=64, template=None, margin=0.4).to_dict()
    folder = save_pretrained(from_pretrained(), tmp_path / "first", extras={"framing": framing})
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert get_extras(model) == {"task": "age", "framing": framing}
    again = save_pretrained(model, tmp_path / "second")
    assert get_extras(from_pretrained(again)) == {"task": "age", "framing": framing}


@pytest.mark.parametrize(
    "change",
    [
        {"pretrained_cfg": {"crop_pct": 1e-5}},
        {"pretrained_cfg": {"interpolation": "nonsense"}},
        {"pretrained_cfg": {"std": [0, 0, 0]}},
        {"pretrained_cfg": {"mean": "abc"}},
        {"model_args": {"img_size": [20000, 20000]}},
        {"model_args": {"stage_bins": [3_000_000, 3, 3]}},
        {"model_args": {"features_only": True}},
        {"model_args": {"device": "meta"}},
        {"model_args": {"V": -5}},
        {"model_args": {"V": float("nan")}},
    ],
    ids=str,
)
def test_hostile_configs(tmp_path, change):
    folder = save_pretrained(from_pretrained(), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    for key, values in change.items():
        config[key] = {**config[key], **values}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises((ConfigError, WrongShapeError)):
        from_pretrained(folder)


@pytest.mark.parametrize("error", [MemoryError("none left"), OSError("I/O"), ImportError("no timm.x")], ids=repr)
def test_errors_that_are_none_of_the_config_are_passed_on(monkeypatch, error):
    monkeypatch.setattr(timm, "create_model", Mock(side_effect=error))
    with pytest.raises(type(error)) as e:
        from_pretrained()
    assert e.value is error


def test_a_lack_of_memory_is_no_wrong_shape(monkeypatch):
    error = torch.OutOfMemoryError("CUDA out of memory")
    monkeypatch.setattr(SSRNet, "load_state_dict", Mock(side_effect=error))
    with pytest.raises(torch.OutOfMemoryError):
        from_pretrained()


HUGE = 10**400
DEEP = [[]]
for _ in range(300):
    DEEP = [DEEP]
BOUNDS = {
    "layout": ({"layout": ["C" + "R" * 20_000, "CP", "CPC"]}, {}),
    "layers": ({"layout": ["C" + "R" * 19, "R" * 20, "R" * 20], "chs": [32], "img_size": [300, 300]}, {}),
    "layout_type": ({"layout": "CPC"}, {}),
    "layout_parts": ({"layout": [["C", "P"], "CP", "CPC"]}, {}),
    "chs": ({"chs": [32, 32, 32, 10**6]}, {}),
    "chs_count": ({"chs": [32] * 100}, {}),
    "chs_few": ({"chs": [32, 32, 32]}, {}),
    "chs_odd": ({"chs": [32, 32, 32, 31]}, {}),
    "layout_letters": ({"layout": ["CX", "CP", "CPC"]}, {}),
    "layout_empty": ({"layout": ["CP", "", "CPC"]}, {}),
    "chs_huge": ({"chs": [32, 32, 32, HUGE]}, {}),
    "chs_text": ({"chs": ["32"] * 4}, {}),
    "img_size": ({"img_size": [1024, 1024]}, {}),
    "img_size_one": ({"img_size": 10**9}, {}),
    "img_size_short": ({"img_size": [64]}, {}),
    "img_size_none": ({"img_size": None}, {}),
    "input_size": ({}, {"input_size": [3, 1024, 1024]}),
    "input_size_text": ({}, {"input_size": ["3", "64", "64"]}),
    "input_size_none": ({}, {"input_size": None}),
    "in_chans": ({"in_chans": 10**6}, {}),
    "num_classes": ({"num_classes": 10**6}, {"num_classes": 10**6}),
    "stage_bins": ({"stage_bins": [10**5, 3, 3]}, {}),
    "stage_bins_all": ({"stage_bins": [1000] * 3, "num_classes": 1000}, {"num_classes": 1000}),
    "stage_bins_deep": ({"stage_bins": [[3], 3, 3]}, {}),
    "hidden": ({"hidden": 10**7}, {}),
    "hidden_zero": ({"hidden": 0}, {}),
    "fused_chs": ({"fused_chs": 10**5}, {}),
    "pool_sizes": ({"pool_sizes": [0, 4, 8]}, {}),
    "pool_sizes_huge": ({"pool_sizes": [1, 1, HUGE]}, {}),
    "features": ({"fused_chs": 1000, "pool_sizes": [1, 1, 1], "hidden": 4000}, {}),
    "macs": ({"chs": [512] * 4, "img_size": 256}, {"input_size": [3, 256, 256]}),
    "activations": ({"chs": [30, 2, 2, 2], "img_size": 500}, {"input_size": [3, 500, 500]}),
    "V": ({"V": 1e300}, {}),
    "V_true": ({"V": True}, {}),
    "lambda_d": ({"lambda_d": 1e30}, {}),
    "norm_eps": ({"norm_eps": 0}, {}),
    "drop_rate": ({"drop_rate": 2}, {}),
    "dynamic_range": ({"dynamic_range": "no"}, {}),
    "crop_pct": ({}, {"crop_pct": 0.01}),
    "crop_pct_text": ({}, {"crop_pct": "1"}),
    "test_crop_pct": ({}, {"test_crop_pct": 1e-9}),
    "test_input_size": ({}, {"test_input_size": [3, 10**6, 10**6]}),
    "crop_mode": ({}, {"crop_mode": ["center"]}),
    "interpolation": ({}, {"interpolation": "random"}),
    "interpolation_list": ({}, {"interpolation": ["bilinear"]}),
    "mean": ({}, {"mean": [[0.5], 0.5, 0.5]}),
    "mean_empty": ({}, {"mean": []}),
    "mean_huge": ({}, {"mean": [1e30] * 3}),
    "std": ({}, {"std": [1e-300] * 3}),
    "std_huge": ({}, {"std": [HUGE] * 3}),
    "first_conv": ({}, {"first_conv": {"a": 1}}),
    "classifier": ({}, {"classifier": [1]}),
    "label_offset": ({}, {"label_offset": [1]}),
    "pool_size": ({}, {"pool_size": "x"}),
    "license": ({}, {"license": ["mit"]}),
    "fixed_input_size": ({}, {"fixed_input_size": "no"}),
    "other_input_size": ({}, {"fixed_input_size": False, "input_size": [3, 96, 96]}),
    "architecture": ({}, {"architecture": "resnet18"}),
    "surrogates": ({}, {"license": "\ud800"}),
    "depth": ({}, {"notes": DEEP}),
}


@pytest.mark.parametrize(("model_args", "cfg"), BOUNDS.values(), ids=BOUNDS)
def test_what_a_config_may_ask_for(folder, monkeypatch, model_args, cfg):
    def edit(config):
        config["model_args"].update(model_args)
        config["pretrained_cfg"].update(cfg)

    edit_config(folder, edit)
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"config\.json") as e:
        from_pretrained(folder)
    assert time.monotonic() - started < 5 and len(str(e.value)) < 1000


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"chs": [512] * 4, "img_size": 256}, r"60(,\d{3}){3} multiply-adds per face, .*exceeds .* 1,000,000,000"),
        ({"chs": [30, 2, 2, 2], "img_size": 500}, r"1\d,\d{3},\d{3} activations per face, .*exceeds .* 3,000,000"),
        ({"fused_chs": 1000, "pool_sizes": [1, 1, 1], "hidden": 4000}, r"\d parameters, .*exceeds .* 12,500,000"),
        ({"img_size": 1024}, r"model_args\.img_size is not a whole number from 16 to 512, but 1024"),
        ({"stage_bins": [3, 3, 3_000_000]}, r"stage_bins\[2\] is not a whole number from 1 to 1,000, but 3000000"),
    ],
    ids=["macs", "activations", "parameters", "img_size", "stage_bins"],
)
def test_bounds_are_named(folder, args, said):
    edit_config(folder, lambda config: config["model_args"].update(args))
    with pytest.raises(ConfigError, match=said):
        from_pretrained(folder)


def test_a_config_is_not_parsed_unless_it_is_small(folder):
    with (folder / "config.json").open("ab") as file:
        file.write(b" " * 2_000_000)
    with pytest.raises(ConfigError, match=r"more than 2,000,000 bytes"):
        from_pretrained(folder)


@pytest.mark.parametrize(
    "text", ['{"a": ' * 5000 + "1" + "}" * 5000, "[" + "[]," * 300_000 + "1]", "1" * 5000, "1e999"]
)
def test_what_is_in_a_config_is_bounded(folder, text):
    edit_config(folder, lambda config: config["ssrnet_hub"].update(note="HERE"))
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"HERE"', text))
    with pytest.raises(ConfigError, match=r"Cannot read .*config\.json as JSON"):
        from_pretrained(folder)


@pytest.mark.parametrize("extras", [[1], "x", 5, None, True], ids=str)
def test_extras_of_a_model_that_timm_loads_are_an_object(folder, extras):
    edit_config(folder, lambda config: config.update(ssrnet_hub=extras))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    with pytest.raises(ConfigError, match="ssrnet_hub"):
        get_extras(model)


@pytest.mark.parametrize(
    "extras",
    [{"note": float("nan")}, {"note": [10**400]}, {"note": DEEP}, {"note": "\ud800"}, {"note": "a" * 2_000_000}],
    ids=["nan", "huge", "deep", "surrogate", "long"],
)
def test_nothing_is_saved_that_could_not_be_loaded(folder, extras):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigError, match=r"Nothing was saved") as e:
        save_pretrained(timm.create_model("ssrnet"), folder, extras=extras)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert str(folder / "config.json") in str(e.value)


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
HEADERS = {
    "huge": safetensors({"a": ONE, "__metadata__": {"x": "y" * 2_000_000}}, bytes(8)),
    "longer_than_the_file": struct.pack("<Q", 2**62) + b"{}",
    "overlap": safetensors({"a": ONE, "b": ONE}, bytes(8)),
    "hole": safetensors({"a": {**ONE, "data_offsets": [8, 16]}}, bytes(16)),
    "backwards": safetensors({"a": {**ONE, "data_offsets": [8, 0]}}, bytes(8)),
    "too_short": safetensors({"a": {**ONE, "shape": [3]}}, bytes(8)),
    "overflow": safetensors({"a": {**ONE, "shape": [2**62, 2**62]}}, bytes(8)),
    "negative": safetensors({"a": {**ONE, "shape": [-2]}}, bytes(8)),
    "dtype": safetensors({"a": {**ONE, "dtype": "object"}}, bytes(8)),
    "deep": safetensors(b'{"a":' * 5000),
    "list": safetensors([1]),
    "twice": safetensors(b'{"a":' + json.dumps(ONE).encode() + b',"a":' + json.dumps(ONE).encode() + b"}", bytes(8)),
    "metadata": safetensors({"__metadata__": {"a": 1}}),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_headers_of_weights(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    # one that safetensors takes does not fit the model
    with pytest.raises((CorruptWeightsError, WrongShapeError)) as e:
        from_pretrained(folder)
    assert len(str(e.value)) < 2000


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.int64], ids=str)
def test_weights_are_real_numbers(folder, dtype):
    edit_weights(folder, lambda state: state.update({"stages.0.p.bias": state["stages.0.p.bias"].to(dtype)}))
    with pytest.raises(WrongShapeError, match=r"stages\.0\.p\.bias is 3 of \w+ in the file and 3 in the model"):
        from_pretrained(folder)


def test_counts_are_whole_numbers(folder):
    key = "stream1.0.0.bn.num_batches_tracked"
    edit_weights(folder, lambda state: state.update({key: state[key].float()}))
    with pytest.raises(WrongShapeError, match=r"is a scalar in the file and a scalar of I64 in the model"):
        from_pretrained(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_another_precision(folder, dtype):
    def edit(state):
        state.update({key: value.to(dtype) for key, value in state.items() if value.is_floating_point()})

    edit_weights(folder, edit)
    assert next(from_pretrained(folder).parameters()).dtype == torch.float32


def test_a_revision_is_for_the_hub(tmp_path):
    for name in (None, DEFAULT, save_pretrained(from_pretrained(), tmp_path)):
        with pytest.raises(UnknownModelError, match=r"(?i)revision"):
            from_pretrained(name, revision="main")
