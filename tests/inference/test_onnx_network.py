"""Weights that are run without PyTorch: the same ages, of every architecture, from whatever place and precision."""

import copy
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from ssrnet_hub import AgeEstimator, from_pretrained, save_pretrained
from ssrnet_hub.errors import CorruptWeightsError, DeviceError
from ssrnet_hub.hub.checkpoints import describe_folder, digest_tensors, find_checkpoint
from ssrnet_hub.hub.loading import tensors_digest
from ssrnet_hub.inference.onnx_network import OnnxNetwork
from ssrnet_hub.models.preprocessing import input_config_of
from ssrnet_hub.models.zoo import ZOO, list_models

from ..models.test_fused import ODD, noise, trained

WEIGHTS = "ssrnet.utkface_fairface_aaf"

AGES = [name for name in list_models("ssrnet*") if ZOO[name].task == "age"]


@pytest.fixture(scope="module")
def crops(estimator, astronaut):
    """The astronaut's face turned by several angles, and grey."""
    (face,) = estimator(astronaut)
    turned = [face.crop.rotate(angle, Image.Resampling.BILINEAR) for angle in (0, -25, -10, 15, 30)]
    return [*turned, face.crop.convert("L")]


def nobody(image):
    """A detector, which these tests need none of."""
    return []


def numbers(face):
    values = [(*stage.p, *stage.eta, stage.delta, stage.width, stage.contribution) for stage in face.stages]
    return [face.raw_age, *(value for row in values for value in row)]


def assert_same(faces, expected, atol=1e-3):
    assert len(faces) == len(expected) > 0
    for face, other in zip(faces, expected, strict=True):
        np.testing.assert_allclose(numbers(face), numbers(other), rtol=0, atol=atol)


@pytest.mark.parametrize("name", AGES)
def test_embedded_weights(name, crops):
    light = AgeEstimator(name, nobody, gender="ssrnet_gender.fairface")
    eager = AgeEstimator(name, nobody, gender="ssrnet_gender.fairface", runtime="eager")
    assert isinstance(light._age, OnnxNetwork) and isinstance(light._gender, OnnxNetwork)
    faces, expected = light.crops(crops), eager.crops(crops)
    assert_same(faces, expected)
    assert [face.reliable for face in faces] == [face.reliable for face in expected]
    for face, other in zip(faces, expected, strict=True):
        assert face.interval() == pytest.approx(other.interval(), abs=1e-2)
    scores = light._gender(crops)[0]
    assert scores == pytest.approx(eager._gender(crops)[0], abs=1e-5) and np.std(scores) > 1e-4
    assert light.batch_size == eager.batch_size and light.framing == eager.framing


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [*((name, {}) for name in ("ssrnet", "ssrnet_blog", "ssrnet_wide", "ssrnet_dex")), *ODD],
    ids=str,
)
def test_weights_of_every_architecture(name, kwargs, tmp_path):
    # of which float32 answers a little else wherever it runs
    model = trained(name, **kwargs).float()
    framing = {} if "in_chans" in kwargs else {"framing": ZOO[WEIGHTS].framing.to_dict()}
    save_pretrained(model, tmp_path, {"task": "gender" if model.V == 1 else "age", **framing})
    checkpoint = find_checkpoint(tmp_path)
    loaded = from_pretrained(tmp_path)
    assert checkpoint.input == input_config_of(loaded)
    pictures = [Image.fromarray(pixels.squeeze(-1).numpy()) for pixels in noise(model, 4)]
    network = OnnxNetwork(checkpoint, ZOO[WEIGHTS].framing, "auto")
    ages, stages = network(pictures)
    pixels = torch.from_numpy(network._prepare(pictures))
    data = checkpoint.input
    mean, std = (torch.tensor(values)[:, None, None] for values in (data.mean, data.std))
    double = loaded.double()
    with torch.no_grad():
        expected = double.forward_stages((pixels.permute(0, 3, 1, 2).double() / 255 - mean) / std)
    scale = max(1.0, float(expected.age.abs().max()))
    assert ages == pytest.approx(expected.age[:, 0].tolist(), abs=2e-3 * scale)
    assert len(stages[0]) == len(expected.stages) and np.std(ages) > 0
    assert_pickles(network, pictures, ages)


def assert_pickles(network, pictures, ages):
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert other(pictures)[0] == ages


@pytest.fixture
def folder(tmp_path):
    """A copy of the default weights."""
    return shutil.copytree(ZOO[WEIGHTS].folder, tmp_path / "weights")


def change_tensors(folder, change):
    file = folder / "model.safetensors"
    save_file({k: change(v) if v.is_floating_point() else v for k, v in load_file(file).items()}, file)


@pytest.mark.filterwarnings("ignore:The calibration in")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_another_precision(dtype, folder, crops):
    change_tensors(folder, lambda value: value.to(dtype))
    light, eager = (AgeEstimator(folder, nobody, runtime=kind) for kind in ("auto", "eager"))
    assert isinstance(light._age, OnnxNetwork)
    assert_same(light.crops(crops), eager.crops(crops))


def test_the_digest_is_that_of_the_model():
    checkpoint = find_checkpoint()
    digest = digest_tensors(checkpoint.to_tensors(checkpoint.read_weights()))
    assert digest == tensors_digest(from_pretrained()) == checkpoint.extras["calibration"]["tensors_sha256"]


def test_a_calibration_of_other_weights(folder, crops):
    change_tensors(folder, lambda value: value * 1.01)
    with pytest.warns(UserWarning, match="measured on different weights") as warned:
        estimator = AgeEstimator(folder, nobody)
    assert warned[0].filename == __file__
    assert not estimator.calibrated and AgeEstimator(detector=nobody).calibrated
    (face,) = estimator.crops(crops[:1])
    assert face.interval() is None and face.reliable is None


def test_damaged_weights(folder):
    checkpoint = describe_folder(folder)
    weights = checkpoint.read_weights()
    with pytest.raises(CorruptWeightsError, match="truncated or damaged"):
        checkpoint.to_tensors(weights[:-10])
    (folder / "model.safetensors").write_bytes(weights[:-10])
    with pytest.raises(CorruptWeightsError, match="truncated or damaged"):
        AgeEstimator(folder)


# the model


def test_the_model_is_there_once_it_is_asked_for(crops):
    estimator = AgeEstimator(detector=nobody)
    (face,) = estimator.crops(crops[:1])
    model = estimator.model
    assert isinstance(model, nn.Module) and model is estimator.model is estimator._age.model
    assert_same(AgeEstimator(model, nobody, runtime="eager").crops(crops[:1]), [face])


@pytest.mark.parametrize("fate", ["gone", "others"])
def test_the_model_is_that_of_the_estimator(fate, folder, crops):
    estimator = AgeEstimator(folder, nobody)
    if fate == "gone":
        shutil.rmtree(folder)
    else:
        change_tensors(folder, lambda value: value * 1.1)
    for one in (estimator, pickle.loads(pickle.dumps(estimator))):
        assert tensors_digest(one.model) == tensors_digest(from_pretrained(WEIGHTS))
        assert_same(one.crops(crops[:2]), AgeEstimator(WEIGHTS, nobody).crops(crops[:2]), atol=0)


# elsewhere


def test_to_the_cpu_and_elsewhere(crops):
    estimator = AgeEstimator(detector=nobody, device=torch.device("cpu"))
    network = estimator._age
    assert estimator.to("cpu")._age is network and estimator.device == torch.device("cpu")
    with pytest.raises(DeviceError):
        estimator.to("nowhere")
    assert estimator._age is network
    with pytest.raises(DeviceError):
        AgeEstimator(device="nowhere")


def test_several_threads(crops):
    estimator = AgeEstimator(detector=nobody)
    expected = [face.raw_age for face in estimator.crops(crops)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: [face.raw_age for face in estimator.crops(crops)], range(32)))
    assert all(ages == expected for ages in answers)
