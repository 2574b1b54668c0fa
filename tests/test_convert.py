"""Weights of others become ours, and nothing else does."""

import hashlib
import json
import pickle
import re
import runpy
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import timm
import torch

from ssrnet_hub import Framing, SSRNetHubError, from_pretrained, save_pretrained
from ssrnet_hub.convert import convert_keras, convert_torch
from ssrnet_hub.errors import ArchitectureError, ConversionError
from ssrnet_hub.hub import get_extras

ROOT = Path(__file__).resolve().parent.parent
AGE_WEIGHTS = ("imdb", "wiki", "morph2", "megaage_asian")
GENDER_WEIGHTS = ("gender_imdb", "gender_wiki", "gender_morph2")


def random_model(**kwargs):
    """Every number of the state dict is its own, so that one in the wrong place shows."""
    model = timm.create_model("ssrnet", **kwargs).eval()
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape) + 0.1 if key.endswith("running_var") else torch.randn(value.shape))
    return model


# our name of a layer by the authors'; they number layers of a kind in the order of their making
LAYERS = {
    "conv2d_1": "stream1.0.0.conv",
    "conv2d_2": "stream1.1.0.conv",
    "conv2d_3": "stream1.2.0.conv",
    "conv2d_4": "stream1.2.2.conv",
    "conv2d_5": "stream2.0.0.conv",
    "conv2d_6": "stream2.1.0.conv",
    "conv2d_7": "stream2.2.0.conv",
    "conv2d_8": "stream2.2.2.conv",
    "conv2d_9": "fusions.0.conv2",
    "conv2d_10": "fusions.0.conv1",
    "conv2d_11": "fusions.1.conv2",
    "conv2d_12": "fusions.1.conv1",
    "conv2d_13": "fusions.2.conv2",
    "conv2d_14": "fusions.2.conv1",
    "dense_1": "stages.0.fc2",
    "dense_2": "stages.0.fc1",
    "dense_3": "stages.0.fc",
    "dense_4": "stages.1.fc2",
    "dense_5": "stages.1.fc1",
    "dense_6": "stages.1.fc",
    "dense_7": "stages.2.fc2",
    "dense_8": "stages.2.fc1",
    "dense_9": "stages.2.fc",
    **{f"pred_age_stage{k}": f"stages.{k - 1}.p" for k in (1, 2, 3)},
    **{f"local_delta_stage{k}": f"stages.{k - 1}.eta" for k in (1, 2, 3)},
    **{f"delta_s{k}": f"stages.{k - 1}.delta" for k in (1, 2, 3)},
}
# a side of the map that a dense layer reads flattened: 4x4 cells for stage 1, 3x3 for the others
SIDES = {160: 4, 90: 3}


def to_keras(model):
    """The arrays of the authors' file, by name, that would become this model."""
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    arrays = {}
    for theirs, ours in LAYERS.items():
        weight = state[f"{ours}.weight"]
        if theirs in ("conv2d_1", "conv2d_5"):
            weight = weight[:, ::-1]  # they read blue, green, red
        if weight.ndim == 4:
            kernel = np.moveaxis(weight, (2, 3, 1, 0), (0, 1, 2, 3))
        elif side := SIDES.get(weight.shape[1]):
            # channels come last where they flatten
            kernel = np.stack([np.moveaxis(row.reshape(10, side, side), 0, 2).ravel() for row in weight], axis=1)
        else:
            kernel = weight.T
        arrays[f"{theirs}/{theirs}/kernel:0"] = kernel
        arrays[f"{theirs}/{theirs}/bias:0"] = state[f"{ours}.bias"]
    for i in range(1, 9):
        bn, norm = LAYERS[f"conv2d_{i}"].replace("conv", "bn"), f"batch_normalization_{i}"
        arrays[f"{norm}/{norm}/gamma:0"] = state[f"{bn}.weight"]
        arrays[f"{norm}/{norm}/beta:0"] = state[f"{bn}.bias"]
        arrays[f"{norm}/{norm}/moving_mean:0"] = state[f"{bn}.running_mean"]
        arrays[f"{norm}/{norm}/moving_variance:0"] = state[f"{bn}.running_var"]
    return arrays


def write_keras(path, arrays):
    """A file as Keras 2.0 writes it: a group a layer, those without weights too, and their names as attributes."""
    with h5py.File(path, "w") as file:
        layers = [*dict.fromkeys(name.split("/")[0] for name in arrays), "activation_1", "pred_a"]
        file.attrs.update(layer_names=np.array(layers, "S"), backend=np.bytes_("tensorflow"), keras_version="2.0.6")
        for layer in layers:
            names = [name.partition("/")[2] for name in arrays if name.split("/")[0] == layer]
            file.create_group(layer).attrs["weight_names"] = np.array(names, "S")
        for name, array in arrays.items():
            file[name] = array
    return path


@pytest.fixture
def keras_file(tmp_path):
    return write_keras(tmp_path / "weights.h5", to_keras(random_model()))


def assert_same_weights(actual, expected):
    torch.testing.assert_close(actual.state_dict(), expected.state_dict(), rtol=0, atol=0)


def assert_refused(convert, path, said, directory):
    with pytest.raises(ConversionError, match=said) as e:
        convert(path, directory)
    assert str(path) in str(e.value)
    assert isinstance(e.value, SSRNetHubError)
    assert not directory.exists()


# the authors' files


def test_keras(tmp_path):
    model = random_model()
    directory = convert_keras(write_keras(tmp_path / "weights.h5", to_keras(model)), tmp_path / "out")
    assert directory == tmp_path / "out"
    converted = from_pretrained(directory)
    assert_same_weights(converted, model)
    assert_same_weights(timm.create_model(f"local-dir:{directory}", pretrained=True), model)
    assert converted.V == 101
    assert get_extras(converted) == {"framing": Framing(size=64, template=None, margin=0.4).to_dict()}
    data = timm.data.resolve_model_data_config(converted)
    assert tuple(data["mean"]) == (0, 0, 0)
    assert tuple(data["std"]) == (1 / 255,) * 3
    assert data["input_size"] == (3, 64, 64)

    cfg = json.loads((directory / "config.json").read_text())["pretrained_cfg"]
    assert cfg["license"] == "apache-2.0"
    assert not {"file", "hf_hub_id", "tag"} & cfg.keys()  # nothing of the embedded weights


def test_same_bytes_each_time(tmp_path, keras_file):
    a, b = (convert_keras(keras_file, tmp_path / name) for name in "ab")
    for name in ("model.safetensors", "config.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes()


@pytest.mark.parametrize("name", AGE_WEIGHTS)
def test_released_weights_answer_as_in_keras(shared, tmp_path, name):
    golden = np.load(shared / "golden" / "keras_outputs.npz")
    directory = convert_keras(shared / "official_weights" / f"{name}.h5", tmp_path / "out")
    model = from_pretrained(directory)
    assert_same_weights(timm.create_model(f"local-dir:{directory}", pretrained=True), model)

    rgb = golden["input_bgr_uint8_nhwc"][..., ::-1].astype(np.float32) / 255
    data = timm.data.resolve_model_data_config(model)
    x = torch.from_numpy((rgb - np.float32(data["mean"])) / np.float32(data["std"])).permute(0, 3, 1, 2)
    with torch.inference_mode():
        output = model(x)
        age, stages = model.forward_stages(x)
    assert torch.equal(output, age)
    np.testing.assert_allclose(age.numpy(), golden[f"{name}/prediction"], rtol=0, atol=1e-4)
    for k, stage in enumerate(stages, start=1):
        for part in ("p", "eta", "delta"):
            ours = getattr(stage, part).numpy()
            np.testing.assert_allclose(ours, golden[f"{name}/{part}_stage{k}"], rtol=0, atol=1e-5, err_msg=part)

    again = convert_keras(shared / "official_weights" / f"{name}.h5", tmp_path / "again")
    assert (again / "model.safetensors").read_bytes() == (directory / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", GENDER_WEIGHTS)
def test_released_gender_weights_are_refused(shared, tmp_path, name):
    path = shared / "official_weights" / f"{name}.h5"
    assert_refused(convert_keras, path, "not an age weights file", tmp_path / "out")


def test_gender_weights_are_refused(tmp_path):
    arrays = {name.replace("pred_age_stage", "pred_stage"): array for name, array in to_keras(random_model()).items()}
    path = write_keras(tmp_path / "gender.h5", arrays)
    assert_refused(convert_keras, path, "no pred_age_stage1/kernel: it is not an age", tmp_path / "out")


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.99])
def test_truncated_keras_file(tmp_path, keras_file, share):
    data = keras_file.read_bytes()
    keras_file.write_bytes(data[: int(len(data) * share)])
    assert_refused(convert_keras, keras_file, "cannot be read as a Keras weights file", tmp_path / "out")


def test_what_is_no_keras_file(tmp_path):
    text = tmp_path / "weights.h5"
    text.write_text("These are no weights.")
    for path in (text, tmp_path / "none.h5", tmp_path):
        assert_refused(convert_keras, path, "cannot be read as a Keras weights file", tmp_path / "out")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda arrays: arrays.clear(), "has no conv2d_1/kernel"),
        (lambda arrays: arrays.pop("dense_7/dense_7/bias:0"), "has no dense_7/bias"),
        (lambda arrays: arrays.update({"dense_10/dense_10/bias:0": np.zeros(3)}), "SSR-Net has not: dense_10/bias"),
        (lambda arrays: arrays.update({"conv2d_1/conv2d_1/kernel:0": np.zeros((3, 3, 3, 8))}), r"stream1\.0\.0\.conv"),
        (lambda arrays: arrays.update({"conv2d_1/conv2d_1/kernel:0": np.zeros(32)}), r"conv2d_1/kernel.*\(32,\)"),
        (lambda arrays: arrays.update({"dense_1/dense_1/kernel:0": np.zeros((90, 3))}), r"stages\.0\.fc2"),
        (lambda arrays: arrays.update({"dense_1/dense_1/kernel:0": np.zeros((7, 3))}), r"dense_1/kernel.*\(7, 3\)"),
        (lambda arrays: arrays.update({"delta_s1/delta_s1/bias:0": np.array([b"text"])}), "cannot be read"),
        (lambda arrays: arrays.update({"dense_1/dense_1/kernel:0": np.zeros((1001, 1000))}), "1001, 1000.*no SSR-Net"),
    ],
    ids=["empty", "missing", "more", "shape", "flat", "other_map", "no_map", "text", "large"],
)
def test_keras_file_of_another_network(tmp_path, edit, said):
    arrays = to_keras(random_model())
    edit(arrays)
    assert_refused(convert_keras, write_keras(tmp_path / "weights.h5", arrays), said, tmp_path / "out")


def test_failed_conversion_leaves_an_old_one(tmp_path, keras_file):
    directory = convert_keras(keras_file, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    keras_file.write_bytes(b"")
    with pytest.raises(ConversionError):
        convert_keras(keras_file, directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


# pickles


@pytest.fixture
def pickled(tmp_path):
    def pickled(value, **kwargs):
        path = tmp_path / "pytorch_model.bin"
        torch.save(value, path, **kwargs)
        return path

    return pickled


def test_torch(tmp_path, pickled):
    model = random_model()
    directory = convert_torch(pickled(model.state_dict()), tmp_path / "out")
    assert_same_weights(from_pretrained(directory), model)
    assert get_extras(from_pretrained(directory)) == {}
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("legacy", [False, True])
def test_torch_checkpoint_of_a_trainer(tmp_path, pickled, legacy):
    model = random_model()
    checkpoint = {"state_dict": model.state_dict(), "epoch": 3}
    path = pickled(checkpoint, _use_new_zipfile_serialization=not legacy)
    assert_same_weights(from_pretrained(convert_torch(path, tmp_path / "out")), model)


def test_torch_with_its_config(tmp_path):
    model = random_model(V=7, stage_bins=(4, 3, 2))
    folder = save_pretrained(model, tmp_path / "in", note=[1])
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "weights.pt")
    converted = from_pretrained(convert_torch(folder / "weights.pt", tmp_path / "out"))
    assert_same_weights(converted, model)
    assert converted.V == 7 and converted.stage_bins == (4, 3, 2)
    assert get_extras(converted)["note"] == [1]

    (folder / "config.json").write_text('{"architecture": "resnet18"}')
    with pytest.raises(ArchitectureError, match="resnet18"):
        convert_torch(folder / "weights.pt", tmp_path / "out2")
    assert not (tmp_path / "out2").exists()


class Code:
    """Runs when a careless reader unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("wrap", [lambda code: code, lambda code: {"weight": torch.zeros(1), "code": code}])
@pytest.mark.parametrize("torch_file", [True, False])
def test_code_in_a_pickle_does_not_run(tmp_path, wrap, torch_file):
    trace = tmp_path / "it-ran"
    path = tmp_path / "weights.bin"
    value = wrap(Code(trace))
    if torch_file:
        torch.save(value, path)
    else:
        path.write_bytes(pickle.dumps(value, protocol=2))
    assert_refused(convert_torch, path, "cannot be read", tmp_path / "out")
    assert not trace.exists()

    # the code is there to run
    if torch_file:
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert trace.exists()


@pytest.mark.parametrize(
    "value",
    [[1, 2], torch.zeros(3), {}, {"a": 1}, {"a": torch.zeros(1)}, {1: torch.zeros(1)}, {("a",): torch.zeros(1)}],
    ids=["list", "tensor", "empty", "number", "other_key", "int_key", "tuple_key"],
)
def test_torch_file_of_something_else(tmp_path, pickled, value):
    assert_refused(convert_torch, pickled(value), "no state dict|does not fit", tmp_path / "out")


def test_torch_file_of_other_shapes(tmp_path, pickled):
    path = pickled(random_model(stage_bins=(4, 4, 4)).state_dict())
    assert_refused(convert_torch, path, r"does not fit.*\n.*stages\.0", tmp_path / "out")


@pytest.mark.parametrize(
    "data", [b"", b"These are no weights.", b"hello world", b"<html>", b"\x80\x02.", b"PK\x03\x04", b"\x80\x02]q\x00"]
)
def test_what_is_no_torch_file(tmp_path, data):
    path = tmp_path / "weights.bin"
    path.write_bytes(data)
    assert_refused(convert_torch, path, "cannot be read", tmp_path / "out")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_torch_file(tmp_path, pickled, share, legacy):
    path = pickled(random_model().state_dict(), _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert_refused(convert_torch, path, "cannot be read", tmp_path / "out")


def test_refusal_does_not_advise_to_run_the_code(tmp_path):
    path = tmp_path / "weights.bin"
    torch.save({"code": Code(tmp_path / "it-ran")}, path)
    with pytest.raises(ConversionError) as e:
        convert_torch(path, tmp_path / "out")
    assert "weights_only" not in str(e.value)


# the script


def assert_printed_digest(printed, directory):
    path = directory / "model.safetensors"
    assert printed == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}\n"


def test_script(tmp_path, keras_file):
    command = [sys.executable, "scripts/convert_weights.py", "--from", "keras", keras_file, tmp_path / "out"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert_printed_digest(run.stdout, tmp_path / "out")


@pytest.fixture
def script(monkeypatch):
    """Runs the script in this process, for its exit code."""

    def script(*args):
        monkeypatch.setattr(sys, "argv", ["convert_weights.py", *map(str, args)])
        return runpy.run_path(str(ROOT / "scripts" / "convert_weights.py"))["main"]()

    return script


def test_script_from_torch(tmp_path, pickled, script, capsys):
    assert script("--from", "torch", pickled(random_model().state_dict()), tmp_path / "out") == 0
    assert_printed_digest(capsys.readouterr().out, tmp_path / "out")


def test_script_refuses(tmp_path, script, capsys):
    text = tmp_path / "text.h5"
    text.write_text("These are no weights.")
    assert script("--from", "keras", text, tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"error: .*text\.h5 cannot be read.*\n", printed.err)
    assert not (tmp_path / "out").exists()
