"""Finding faces and telling ages imports no PyTorch, and does without it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssrnet_hub.models.zoo import DEFAULT

HEAVY = ("torch", "torchvision", "timm", "facenet_pytorch")

# as where they are not installed
WITHOUT = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""

# what is imported is written down, by whichever process
TOLD = f"""
import os, sys

class Told:
    def find_spec(self, name, path=None, target=None):
        if name in {HEAVY}:
            with open(os.environ["TOLD"], "a") as file:
                print(name, file=file)

sys.meta_path.insert(0, Told())
"""

CHECK = f"""
import sys
found = [name for name in (*{HEAVY}, "onnx") if name in sys.modules]
assert not found, found
"""


# of which classes Gradio makes type stubs, which takes seconds
STUBS = """
import ast
stubs, segment = [], ast.get_source_segment
ast.get_source_segment = lambda code, node: stubs.append(node.name) or segment(code, node)
"""


def python(code, *arguments, cwd=None, expected=0):
    # a package that a test run has found is not to be found by chance
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV_")}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == expected, done.stdout + done.stderr
    return done.stdout


def command(*arguments):
    return f"import sys\nfrom ssrnet_hub.cli import main\ncode = main({[str(a) for a in arguments]})\nassert not code\n"


@pytest.fixture(scope="module")
def photo(astronaut, tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "astronaut.png"
    astronaut.save(path)
    return path


@pytest.fixture(scope="module")
def film(astronaut, tmp_path_factory):
    from .pictures import write_film

    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_film(path, [astronaut.resize((256, 256))] * 3)
    return path


def uses(photo, film, folder):
    """What has to do without PyTorch, by names."""
    est = "from ssrnet_hub import AgeEstimator\nest = AgeEstimator(gender='ssrnet_gender.fairface')\n"
    return {
        "names": "import ssrnet_hub\nassert ssrnet_hub.list_models()\n",
        "crops": f"{est}(face,) = est.crops([{str(photo)!r}])\nassert face.interval() and face.gender_score\n",
        "estimator": f"{est}(face,) = est({str(photo)!r})\nassert 15 < face.age < 60, face.explain()\n",
        "boxes": f"{est}(face,) = est({str(photo)!r}, boxes=[(170, 60, 290, 200)])\nassert face.aligned\n",
        "copies": f"import copy, pickle\n{est}pickle.loads(pickle.dumps(est))({str(photo)!r})\ncopy.deepcopy(est)\n",
        "models": command("models"),
        "predict": command("predict", photo, "--explain", "--annotate", folder / "copies"),
        "json": command("predict", photo, "--json", "--gender", "ssrnet_gender.fairface"),
        "film": command("film", film, "--output", folder / "film.mp4", "--csv", folder / "film.csv"),
        "page": STUBS + "import ssrnet_hub.webapp.page, ssrnet_hub.webapp.server, ssrnet_hub.webapp.limits as limits\n"
        "assert set(stubs) <= {'BlocksEvents'}, stubs\n"
        "from ssrnet_hub.webapp.model_cache import ModelCache\n"
        "ModelCache(limits.Limits())['ssrnet_wide.utkface_fairface_aaf']\n"
        "from ssrnet_hub.hub.cards import render_card\nrender_card('ssrnet.imdb')\n",
    }


NAMES = list(uses(Path(), Path(), Path()))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_heavy_is_imported(name, photo, film, tmp_path):
    python(uses(photo, film, tmp_path)[name] + CHECK)


@pytest.mark.parametrize("name", NAMES)
def test_what_works_without_pytorch(name, photo, film, tmp_path):
    python(WITHOUT + uses(photo, film, tmp_path)[name])


JOB = """
import json, sys
from ssrnet_hub.batch.local import Task, predict_files

def main():
    tasks = [Task(f"{k}.png", sys.argv[1]) for k in range(3)]
    print(predict_files(tasks, sys.argv[2], workers=1))

# its workers are started as fresh processes
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("missing", [False, True])
def test_the_folder_job(missing, photo, tmp_path):
    # a module that is imported by workers as well, which begin with what sitecustomize says
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "sitecustomize.py").write_text(WITHOUT if missing else TOLD)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).resolve().parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "TOLD": str(tmp_path / "told")}
    done = subprocess.run(
        [sys.executable, tmp_path / "job.py", photo, tmp_path / "ages.jsonl"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "told").exists(), (tmp_path / "told").read_text()
    rows = [json.loads(line) for line in (tmp_path / "ages.jsonl").read_text().splitlines()]
    assert [len(row["faces"]) for row in rows] == [1, 1, 1] and not any(row["error"] for row in rows)


# what cannot be had without

ASKED = {
    "from_pretrained": "import ssrnet_hub\nssrnet_hub.from_pretrained()",
    "a class": "from ssrnet_hub import SSRNet",
    "eager": "from ssrnet_hub import AgeEstimator\nAgeEstimator(runtime='eager')",
    "a device": "from ssrnet_hub import AgeEstimator\nAgeEstimator(device='cuda')",
    "to a device": "from ssrnet_hub import AgeEstimator\nAgeEstimator(detector=list).to('cuda')",
    "the model": "from ssrnet_hub import AgeEstimator\nAgeEstimator(detector=list).model",
    "the device": "from ssrnet_hub import AgeEstimator\nAgeEstimator(detector=list).device",
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_missing_is_said(name):
    code = f"""
from ssrnet_hub.errors import MissingPackageError, SSRNetHubError
try:
    exec({ASKED[name]!r})
except SSRNetHubError as e:
    assert isinstance(e, MissingPackageError) and isinstance(e, ImportError)
    assert "PyTorch" in str(e) and "pip install ssrnet_hub" in str(e), e
else:
    raise AssertionError("it worked")
"""
    python(WITHOUT + code)


@pytest.mark.parametrize("arguments", [("verify", DEFAULT), ("predict", "x.png", "--runtime", "eager")])
def test_a_command_says_what_is_missing(arguments):
    code = f"""
import contextlib, io
from ssrnet_hub.cli import main
said = io.StringIO()
with contextlib.redirect_stderr(said):
    assert main({list(arguments)}) == 1
(line,) = said.getvalue().splitlines()
assert line.startswith("error: ") and "PyTorch" in line and "pip install ssrnet_hub" in line, line
"""
    python(WITHOUT + code)
