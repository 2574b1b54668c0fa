"""The wheel works on its own: weights included, no network, away from the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

USE = """
import socket, sys

def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.getaddrinfo = refuse

from pathlib import Path
import timm, torch
import ssrnet_hub
from ssrnet_hub.cli import main

assert Path(ssrnet_hub.__file__).is_relative_to(sys.argv[1]), ssrnet_hub.__file__
x = torch.randn(2, 3, 64, 64)
model = ssrnet_hub.from_pretrained()
same = timm.create_model("ssrnet", pretrained=True).eval()
assert torch.equal(model(x), same(x))
sys.exit(main(["predict", sys.argv[2]]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which the wheel, and nothing else, was installed."""
    folder = tmp_path_factory.mktemp("wheel")
    # a copy, since setuptools leaves its build folder behind
    source = folder / "source"
    shutil.copytree(ROOT / "ssrnet_hub", source / "ssrnet_hub", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    # no isolation: the build's own tools are those of this environment, so nothing is downloaded
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 2_000_000
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        folder / "site",
    ]
    subprocess.run([*install, wheel], check=True, capture_output=True)
    return folder / "site"


def test_wheel_predicts_without_network(installed, astronaut, tmp_path):
    astronaut.save(tmp_path / "photo.png")
    result = subprocess.run(
        [sys.executable, "-c", USE, installed, "photo.png"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "photo.png  1" in result.stdout


def test_wheel_carries_licences_and_types(installed):
    (licences,) = installed.glob("ssrnet_hub-*.dist-info/licenses")
    names = {path.relative_to(licences).as_posix() for path in licences.rglob("*") if path.is_file()}
    assert {"LICENSE", "NOTICE", "ssrnet_hub/models/weights/ssrnet.utkface/LICENSE"} <= names
    assert (installed / "ssrnet_hub" / "py.typed").is_file()
