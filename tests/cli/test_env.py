"""ssrnet-hub env: what a bug report needs, and no secrets."""

import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import ssrnet_hub
from ssrnet_hub.cli.env import at_home, host_of


def lines(out):
    return dict(line.removeprefix("- ").split(": ", 1) for line in out.splitlines())


def test_env(run, monkeypatch):
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    code, out, err = run("env")
    assert (code, err) == (0, "")
    said = lines(out)
    assert said["ssrnet_hub"] == ssrnet_hub.__version__
    for library in (
        "torch",
        "torchvision",
        "timm",
        "huggingface_hub",
        "safetensors",
        "Pillow",
        "gradio",
        "onnxruntime",
    ):
        assert said[library] == version(library)
    assert said["device"].endswith(" threads") and said["runtime auto"] in ("onnx", "torch")
    assert said["HF_HOME"].removesuffix(" (missing)") == os.environ["HF_HOME"]
    assert said["HF_TOKEN"] == "not set"


def test_secrets(run, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for number, variable in enumerate(("HTTPS_PROXY", "http_proxy", "ALL_PROXY", "HF_ENDPOINT")):
        scheme = ("http://", "", "socks5://", "https://")[number]
        monkeypatch.setenv(variable, f"{scheme}user:pass/word@proxy{number}.example.org:80/secret?key=secret")
    code, out, _ = run("env")
    said = lines(out)
    assert code == 0 and said["HF_TOKEN"] == "set" and said["HTTPS_PROXY"] == "http://proxy0.example.org:80"
    assert not [word for word in ("secret", "user:", "pass", "word") if word in out]


@pytest.mark.parametrize("library", ["torch", "huggingface_hub"])
def test_a_broken_library_is_no_reason_to_stop(run, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    code, out, err = run("env")
    assert (code, err) == (0, "")
    assert "does not load" in out and "- HF_TOKEN: " in out


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://proxy:3128", "http://proxy:3128"),
        ("proxy:3128", "proxy:3128"),
        ("user:p@ss@proxy:3128", "proxy:3128"),
        ("http://user:p://a@proxy/", "http://proxy"),
        ("user:p://a@proxy", "proxy"),
        ("http://user:p/w@proxy?x", "http://proxy"),
        ("", ""),
    ],
)
def test_addresses_without_what_may_be_secret(address, shown):
    assert host_of(address) == shown


def test_paths_without_whose_they_are():
    assert at_home(Path.home() / "cache") == f"~{os.sep}cache"
    assert at_home(Path(os.sep, "cache")) == f"{os.sep}cache"
