"""ssrnet-hub verify."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from ssrnet_hub import from_pretrained, save_pretrained
from ssrnet_hub.hub.check_tensors import write_check
from ssrnet_hub.hub.convert import convert_keras
from ssrnet_hub.models import zoo
from ssrnet_hub.models.pretrained import new_model
from ssrnet_hub.models.zoo import ZOO

EMBEDDED = [name for name, weights in ZOO.items() if weights.embedded]


@pytest.fixture
def folder(tmp_path):
    """Weights of one's own, with check tensors."""
    folder = save_pretrained(new_model("ssrnet"), tmp_path / "weights")
    write_check(from_pretrained(folder), folder / "check.safetensors")
    return folder


@pytest.mark.parametrize("name", EMBEDDED)
def test_weights_of_the_package(run, name):
    assert run("verify", name) == (0, f"{name}: weights are identical to {name} in the zoo\n", "")


def test_weights_of_the_package_that_were_changed(run, monkeypatch, tmp_path):
    (tmp_path / "weights").mkdir()
    save_pretrained(new_model("ssrnet"), tmp_path / "weights" / "ssrnet.utkface_fairface_aaf")
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path)
    code, out, err = run("verify", "ssrnet.utkface_fairface_aaf")
    assert (code, out) == (1, "") and "was modified" in err


@pytest.mark.parametrize("spelling", [[], ["--weights"]])
def test_a_folder(run, folder, spelling):
    assert run("verify", *spelling, folder) == (0, f"{folder}: output matches the check tensors\n", "")


def test_a_folder_that_was_changed(run, folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["stages.0.p.bias"] = tensors["stages.0.p.bias"] + torch.tensor([1.0, 0, 0])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    code, out, err = run("verify", folder)
    assert (code, out) == (1, "") and "differ" in err


def test_a_folder_without_check_tensors(run, folder):
    (folder / "check.safetensors").unlink()
    code, out, err = run("verify", folder)
    assert (code, out) == (1, "") and "no check tensors" in err


def test_converted_weights(run, shared, tmp_path):
    convert_keras(shared / "official_weights" / "wiki.h5", tmp_path / "wiki")
    assert run("verify", tmp_path / "wiki")[:2] == (
        0,
        f"{tmp_path / 'wiki'}: weights are identical to ssrnet.wiki in the zoo\n",
    )


@pytest.mark.parametrize("name", ["ssrnet.nothing", "ssrnet.imdb"])
def test_weights_that_are_not_there(run, name, monkeypatch):
    monkeypatch.delenv("SSRNET_HUB_OWNER", raising=False)
    code, out, err = run("verify", name)
    assert (code, out) == (1, "") and name in err
