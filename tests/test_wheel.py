"""The wheel works on its own: weights included, no network, away from the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCardData
from PIL import Image

from ssrnet_hub import list_models
from ssrnet_hub.hub.cards import render_card

from .programs import make_environment, run_program

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
x = torch.randn(2, 3, 96, 96)
model = ssrnet_hub.from_pretrained()
same = timm.create_model("ssrnet_wide", pretrained=True).eval()
assert torch.equal(model(x), same(x))
sys.exit(main(["predict", sys.argv[2]]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
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
    assert wheel.stat().st_size < 10_000_000
    return wheel


@pytest.fixture(scope="module")
def installed(wheel):
    """A folder into which the wheel, and nothing else, was installed."""
    folder = wheel.parent
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
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = run_program("-c", USE, installed, "photo.png", cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    assert "photo.png  1" in result.stdout


LIGHT = """
import importlib.util, json, sys
from pathlib import Path

from ssrnet_hub import AgeEstimator, SSRNetHubError
from ssrnet_hub.batch.local import Task, predict_files
from ssrnet_hub.cli import main

def run(photo):
    assert not any(map(importlib.util.find_spec, ("torch", "torchvision", "timm", "facenet_pytorch", "onnx")))
    assert main(["predict", photo, "--explain"]) == 0 and main(["models"]) == 0
    (face,) = AgeEstimator(gender="ssrnet_gender.fairface")(photo)
    predict_files([Task("one", photo), Task("two", photo)], "ages.jsonl", workers=2)
    rows = [json.loads(line) for line in Path("ages.jsonl").read_text().splitlines()]
    ages = [found["age"] for row in rows for found in row["faces"]]
    try:
        from ssrnet_hub import from_pretrained
    except SSRNetHubError as e:
        assert "PyTorch" in str(e) and "pip install ssrnet_hub" in str(e), e
    else:
        raise AssertionError("there is a PyTorch")
    print(json.dumps([face.age, *ages]))

if __name__ == "__main__":
    run(sys.argv[1])
"""


@pytest.mark.skipif(not os.environ.get("SSRNET_TEST_INSTALL"), reason="SSRNET_TEST_INSTALL is not set: takes minutes")
def test_wheel_without_pytorch(wheel, astronaut, estimator, tmp_path):
    # as README says
    python = make_environment(tmp_path / "venv", "-r", ROOT / "requirements-light.txt")
    make_environment(tmp_path / "venv", "--no-deps", wheel)
    astronaut.save(tmp_path / "photo.png")
    (tmp_path / "light.py").write_text(LIGHT)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [python, "light.py", "photo.png"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    (face,) = estimator(astronaut)
    assert json.loads(result.stdout.splitlines()[-1]) == pytest.approx([face.age] * 3, abs=1e-3)


def test_what_is_installed_without_pytorch_is_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {line.split("#")[0].strip() for line in (ROOT / "requirements-light.txt").read_text().splitlines()} - {""}
    left_out = {line for line in project["dependencies"] if re.match("torch|timm|facenet|jinja2", line)}
    assert asked == set(project["dependencies"]) - left_out and len(left_out) == 5


COMMANDS = """
import contextlib, io, os, socket, sys
from pathlib import Path

def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")

socket.socket.connect = socket.getaddrinfo = refuse

import ssrnet_hub
from ssrnet_hub.cli import command

site, labels, official = sys.argv[1:]
assert Path(command.__file__).is_relative_to(site), command.__file__
before = {path: path.stat().st_mtime_ns for path in Path(site).rglob("*") if "__pycache__" not in path.parts}


def run(*arguments):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = command.main(list(arguments))
        except SystemExit as e:
            code = e.code
    return code or 0, said.getvalue()


def succeed(*arguments):
    code, said = run(*arguments)
    assert code == 0, said
    return said


for module in command.COMMANDS:
    name = module.__name__.rpartition(".")[2]
    assert f"usage: ssrnet-hub {name}" in succeed(name, "--help")
assert "torch" not in sys.modules
assert "SHA-256" in succeed("convert", "--help") and "identical to" in succeed("verify", "ssrnet.utkface_fairface_aaf")
if official != "-":
    assert "  converted/model.safetensors" in succeed("convert", "--from", "keras", official, "converted")
    assert "ssrnet.imdb in the zoo" in succeed("verify", "converted")
chips = ("--labels", labels)
toy = ("--epochs", "1", "--batch-size", "8", "--set-aside", "0", "--cpu")
assert "'epoch': 1" in succeed("train", "--recipe", "ssrnet.utkface", *chips, "--output", "run", *toy)
assert "README.md" in succeed("push", "run", "--repo", "me/mine", "--dry-run", "files")
assert "output matches the check tensors" in succeed("verify", "files")
assert '"n": 20' in succeed("evaluate", "--weights", "run", *chips, "--split", "val", "--json")
assert "model.onnx" in succeed("export", "--weights", "run", "--output", "exported")
code, said = run("evaluate", *chips, "--split", "val", "--record", "--weights", "ssrnet.utkface_fairface_aaf")
assert code == 1 and "Results are recorded in a clone" in said, said
assert before == {path: path.stat().st_mtime_ns for path in Path(site).rglob("*") if "__pycache__" not in path.parts}
"""


def test_commands_of_the_wheel(installed, tmp_path):
    folder = tmp_path / "chips"
    folder.mkdir()
    rows = ["file,age,split"]
    for number in range(36):
        Image.new("RGB", (128, 128), (number, 5 * number, 255 - 5 * number)).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{number},{'train' if number < 16 else 'val'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    shared = os.environ.get("SSRNET_SHARED")
    official = Path(shared, "official_weights", "imdb.h5") if shared else "-"
    result = subprocess.run(
        [sys.executable, "-c", COMMANDS, installed, folder / "labels.csv", official],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def test_wheel_carries_licences_and_types(installed):
    (licences,) = installed.glob("ssrnet_hub-*.dist-info/licenses")
    names = {path.relative_to(licences).as_posix() for path in licences.rglob("*") if path.is_file()}
    assert {"LICENSE", "NOTICE"} <= names
    metadata = Parser().parsestr((licences.parent / "METADATA").read_text(encoding="utf-8"))
    declared = set(metadata["License-Expression"].lower().split(" and "))
    assert "apache-2.0" in declared and set(metadata.get_all("License-File")) == names
    embedded = list_models()
    assert embedded
    for weights in embedded:
        card = ModelCardData(**yaml.safe_load(render_card(weights).split("---")[1]))
        assert (f"licenseref-{card.license_name}" if card.license == "other" else card.license) in declared
        assert f"ssrnet_hub/models/weights/{weights}/LICENSE" in names
    assert (installed / "ssrnet_hub" / "py.typed").is_file()


def test_type_checkers_see_the_types(installed, tmp_path):
    venv.create(tmp_path / "venv")
    (site,) = tmp_path.glob("venv/lib/*/site-packages")
    (site / "ssrnet_hub").symlink_to(installed / "ssrnet_hub")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    uses, mistaken = tmp_path / "uses.py", tmp_path / "mistaken.py"
    uses.write_text((ROOT / "tests" / "typed_uses.py").read_text(encoding="utf-8"))
    mistaken.write_text(f"{uses.read_text()}AgeEstimator()(Path('photo.jpg'))[0].years")
    # the settings and the cache of the project, since the types of torch take a minute to read
    options = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]
    python = ["--python-executable", tmp_path / "venv" / "bin" / "python"]
    said = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *python, uses, mistaken], cwd=tmp_path, capture_output=True, text=True
    )
    (error,) = re.findall(r".*error.*", said.stdout.rpartition("Found 1 error")[0])
    assert error.startswith("mistaken.py:") and '"Face" has no attribute "years"' in error, said.stdout + said.stderr
