"""Estimators elsewhere: copied, pickled, sent to spawned processes, used in forked ones."""

import copy
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch

from ssrnet_hub import AgeEstimator, from_pretrained
from ssrnet_hub.inference.backends import RUNTIMES, make_runtime
from ssrnet_hub.inference.onnx_export import export_onnx


@pytest.fixture(scope="module")
def photo(astronaut):
    """One face and little else, to be quick."""
    return astronaut.crop((120, 20, 320, 250))


@pytest.fixture(scope="module")
def expected(estimator, photo):
    (face,) = estimator(photo)
    return face


def pickled(estimator):
    return pickle.loads(pickle.dumps(estimator))


def assert_same(faces, expected):
    (face,) = faces
    assert face.age == pytest.approx(expected.age, abs=1e-3)
    assert face.box == pytest.approx(expected.box, abs=1e-3)
    assert face.interval() == pytest.approx(expected.interval(), abs=1e-3)
    assert [stage.contribution for stage in face.stages] == pytest.approx(
        [stage.contribution for stage in expected.stages], abs=1e-3
    )


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_copy_tells_the_same_age(kind, duplicate, photo, expected):
    estimator = AgeEstimator(runtime=kind, gender="ssrnet_gender.fairface")
    (before,) = estimator(photo)
    other = duplicate(estimator)
    assert type(other._age._runtime) is type(estimator._age._runtime)
    assert_same(other(photo), expected)
    assert other(photo)[0].gender_score == pytest.approx(before.gender_score, abs=1e-5)
    # more than a few, which other threads compute
    assert [face.age for face in other.crops([before.crop] * 20)] == pytest.approx([expected.age] * 20, abs=1e-3)
    assert_same(estimator(photo), expected)


def test_a_copy_of_own_settings(photo):
    estimator = AgeEstimator(min_face=0.3, max_pixels=100_000)
    other = pickled(estimator)
    assert (other.max_pixels, other.detector.min_face, other.framing) == (100_000, 0.3, estimator.framing)
    assert other.model is other._age.model and other.model is not estimator.model


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_a_copy_has_the_weights_of_the_estimator(kind, photo, expected):
    # which those runtimes copied: what was done to the model since does not count
    estimator = AgeEstimator(runtime=kind)
    with torch.no_grad():
        for weight in estimator.model.parameters():
            weight.mul_(1.1)
    assert_same(pickled(estimator)(photo), expected)


def test_spawned_workers(photo, expected):
    estimators = [AgeEstimator(runtime=kind) for kind in RUNTIMES]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for faces in [pool.submit(estimator, photo) for estimator in estimators]:
            assert_same(faces.result(timeout=300), expected)


FORKS = """
import json, multiprocessing, os, sys, time
from PIL import Image
from ssrnet_hub import AgeEstimator

SECONDS = 60

def ages(faces):
    return [face.age for face in faces]

photo = Image.open(sys.argv[1])
estimators = {kind: AgeEstimator(runtime=kind) for kind in ("onnx", "torch", "eager")}
(face,) = estimators["torch"](photo)

def on_photo():
    return ages(estimators["onnx"](photo))

detector = estimators["torch"].detector

cases = {
    "nothing": lambda: None,
    "garbage": estimators.clear,
    "new": lambda: ages(AgeEstimator()(photo)),
    "detector": lambda: [found.score for found in detector(photo)],
    "locator": lambda: [found.score for found in detector.locate(photo, [face.box])],
}
for kind, estimator in estimators.items():
    cases[f"photo {kind}"] = lambda estimator=estimator: ages(estimator(photo))
    cases[f"crops {kind}"] = lambda estimator=estimator: ages(estimator.crops([face.crop] * 20))
# all are used before the first fork
expected = {name: work() for name, work in cases.items() if name != "garbage"}
answers = {}

for name, work in cases.items():
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, json.dumps(work()).encode())
        # as a program ends, which deletes what it has
        sys.exit()
    os.close(writing)
    deadline = time.monotonic() + SECONDS
    while not (ended := os.waitpid(child, os.WNOHANG)[0]) and time.monotonic() < deadline:
        time.sleep(0.05)
    if not ended:
        os.kill(child, 9)
        os.waitpid(child, 0)
    answers[name] = json.loads(os.read(reading, 10000) or '"no answer"') if ended else "does not end"
    os.close(reading)

with multiprocessing.get_context("fork").Pool(1) as pool:
    try:
        answers["pool"] = pool.apply_async(on_photo).get(SECONDS)
    except multiprocessing.TimeoutError:
        answers["pool"] = "does not end"
expected["pool"] = on_photo()
json.dump([answers, expected], sys.stdout)
"""


@pytest.fixture(scope="module")
def forked(photo, tmp_path_factory):
    """What forked processes answered by case, and what the process itself had answered."""
    path = tmp_path_factory.mktemp("forks") / "photo.png"
    photo.save(path)
    # with threads, which a forked process does not have
    env = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    run = subprocess.run([sys.executable, "-c", FORKS, path], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


CASES = ["nothing", "garbage", "new", "detector", "locator", "pool"]
CASES += [f"{what} {kind}" for what in ("photo", "crops") for kind in ("onnx", "torch", "eager")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.parametrize("case", CASES)
def test_a_forked_process_answers_and_ends(forked, case):
    answers, expected = forked
    # another number of threads adds up in another order
    assert answers[case] == (pytest.approx(expected[case], abs=0.02) if expected.get(case) else None)


# what torch.compile made


@pytest.fixture
def compiled():
    # whatever computes it: a compiler takes minutes
    return torch.compile(from_pretrained(), backend="eager")


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_compiled_model(kind, compiled, photo, expected):
    estimator = AgeEstimator(compiled, runtime=kind)
    assert type(estimator.model) is type(compiled._orig_mod)
    assert_same(estimator(photo), expected)
    assert_same(pickled(estimator)(photo), expected)


def test_a_compiled_model_of_gender(photo, expected):
    gender = torch.compile(from_pretrained("ssrnet_gender.fairface"), backend="eager")
    (face,) = AgeEstimator(gender=gender)(photo)
    (other,) = AgeEstimator(gender="ssrnet_gender.fairface")(photo)
    assert face.gender_score == pytest.approx(other.gender_score, abs=1e-5)


def test_eager_runs_what_was_compiled():
    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return graph.forward

    model = from_pretrained()
    pixels = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    compiled = torch.compile(model, backend=backend)
    output = make_runtime(compiled, "eager")(pixels)
    assert seen
    torch.testing.assert_close(output.age, make_runtime(model, "eager")(pixels).age, rtol=0, atol=1e-3)
    count = len(seen)
    make_runtime(compiled, "torch")(pixels)
    assert len(seen) == count


def test_a_compiled_model_is_exported(compiled, tmp_path):
    pixels = torch.randint(0, 256, (2, 96, 96, 3), dtype=torch.uint8)
    assert export_onnx(compiled, tmp_path / "model.onnx", faces=pixels) < 1e-3
