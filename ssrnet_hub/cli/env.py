"""`ssrnet-hub env`: what a bug report needs."""

import argparse
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..utils.version import __version__

__all__ = ["add_parser"]

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "facenet-pytorch",
    "huggingface_hub",
    "safetensors",
    "numpy",
    "Pillow",
    "onnx",
    "onnxruntime",
    "gradio",
    "av",
    "trackers",
    "pillow-heif",
    "h5py",
    "accelerate",
    "pyarrow",
    "ray",
)

SETTINGS = ("SSRNET_HUB_OWNER", "HF_HUB_OFFLINE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
ADDRESSES = ("HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
"""Reported as set, without the value."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    env = commands.add_parser(
        "env",
        help="Print versions and settings for a bug report",
        description="Print versions, system, device, runtime, and cache folders for a bug report. Tokens and passwords "
        "are left out.",
    )
    env.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    for name, value in describe():
        print(f"- {name}: {value}")
    return 0


def describe() -> Iterator[tuple[str, Any]]:
    """Versions by name; a broken library is reported, not fatal."""
    from importlib.util import find_spec

    yield "ssrnet_hub", __version__
    yield "installed in", at_home(Path(__file__).resolve().parents[2])
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", f"{platform.platform()}, {platform.machine()}"
    yield "CPU cores", os.cpu_count()
    for library in LIBRARIES:
        yield library, version_of(library)
    yield "device", describe_devices()
    yield "runtime auto", "onnx" if find_spec("onnxruntime") else "not installed"
    yield from describe_caches()
    for variable in SETTINGS:
        if variable in os.environ:
            yield variable, os.environ[variable]
    for variable in ADDRESSES:
        if variable in os.environ:
            yield variable, host_of(os.environ[variable])
    for variable in TOKENS:
        yield variable, "set" if os.environ.get(variable) else "not set"


def version_of(library: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def describe_devices() -> str:
    try:
        import torch

        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        mps = torch.backends.mps.is_available()
        threads = f"CPU, {torch.get_num_threads()} threads"
    except Exception as e:  # whatever a broken installation raises, which is what the report is about
        return f"PyTorch does not load: {e!r:.300}"
    return ", ".join([*(f"cuda:{number} {name}" for number, name in enumerate(names)), *["mps"] * mps, threads])


def describe_caches() -> Iterator[tuple[str, str]]:
    try:
        from huggingface_hub import constants
    except Exception as e:  # as above
        yield "cache of the Hub", f"huggingface_hub does not load: {e!r:.300}"
        return
    for name in ("HF_HOME", "HF_HUB_CACHE"):
        folder = Path(getattr(constants, name))
        yield name, at_home(folder) + ("" if folder.is_dir() else " (missing)")


def at_home(path: Path) -> str:
    """A path without the name of whose it is."""
    home = Path.home()
    return f"~{os.sep}{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def host_of(address: str) -> str:
    """An address without its user, password, path and query, any of which may be secret."""
    scheme, separator, rest = address.partition("://")
    if not (separator and scheme.isalnum()):
        scheme, separator, rest = "", "", address
    return scheme + separator + re.split(r"[/?#]", rest.rpartition("@")[2])[0]
