"""The demo as a Space: installed from its requirements alone, it answers."""

import os
import re
import runpy
import shutil
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import gradio
import pytest
import yaml
from gradio_client import handle_file

from ssrnet_hub import AgeEstimator

from ..demo_server import serve
from ..programs import make_environment

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo"

prepare_space = runpy.run_path(str(ROOT / "scripts" / "publish_space.py"))["prepare_space"]


@pytest.fixture(scope="module")
def requirements():
    return dict(line.split("==") for line in (DEMO / "requirements.txt").read_text().splitlines())


def test_front_matter(requirements):
    front = yaml.safe_load((DEMO / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert front["sdk"] == "gradio"
    assert front["sdk_version"] == requirements["gradio"] == gradio.__version__
    assert (DEMO / front["app_file"]).is_file()
    assert re.fullmatch(r"3\.\d+", front["python_version"])
    assert len(front["short_description"]) <= 60  # the Hub's limit


def test_requirements_are_what_the_tests_run(requirements):
    assert requirements == {name: version(name) for name in requirements}
    project = tomllib.loads((DEMO.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["demo"]]
    # with what it offers by default it imports no PyTorch
    heavy = {"torch", "torchvision", "timm", "facenet-pytorch"}
    assert requirements.keys() == {re.match(r"[\w-]+", name)[0] for name in needed} - heavy


@pytest.fixture
def python(tmp_path):
    """What serves the Space: where SSRNET_TEST_INSTALL is set, which takes a minute, a Python with its requirements
    alone.
    """
    if not os.environ.get("SSRNET_TEST_INSTALL"):
        return sys.executable
    # as the Hub does: the requirements are installed before the other files are there
    shutil.copy(DEMO / "requirements.txt", tmp_path)
    return make_environment(tmp_path / "venv", "-r", tmp_path / "requirements.txt")


def test_the_space_answers(python, astronaut, estimator: AgeEstimator, tmp_path):
    photo = tmp_path / "astronaut.png"
    astronaut.save(photo)
    with serve(tmp_path, [python, "app.py"], prepare_space(tmp_path / "space")) as demo:
        answer = demo.client().predict(handle_file(photo), api_name="/predict")
    (face,) = estimator(astronaut)
    assert [said["age"] for said in answer["faces"]] == pytest.approx([face.age])
