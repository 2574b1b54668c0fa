"""Weights of others become ours, and nothing else does."""

import csv
import hashlib
import json
import pickle
import re
import shutil
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
import timm
import torch

from ssrnet_hub import AgeEstimator, Framing, SSRNetHubError, from_pretrained, save_pretrained
from ssrnet_hub.cli import main
from ssrnet_hub.errors import ArchitectureError, ConversionError
from ssrnet_hub.hub.convert import convert_blog, convert_keras, convert_torch
from ssrnet_hub.hub.loading import get_extras
from ssrnet_hub.models.zoo import ZOO

from ..programs import run_program

ROOT = Path(__file__).resolve().parents[2]
# the authors' files, and what the zoo calls them
AGE_WEIGHTS = {
    "imdb": "ssrnet.imdb",
    "wiki": "ssrnet.wiki",
    "morph2": "ssrnet.morph2",
    "megaage_asian": "ssrnet.megaage_asian",
}
GENDER_WEIGHTS = {
    "gender_imdb": "ssrnet_gender.imdb",
    "gender_wiki": "ssrnet_gender.wiki",
    "gender_morph2": "ssrnet_gender.morph2",
}
RELEASED = {**AGE_WEIGHTS, **GENDER_WEIGHTS}
AUTHORS_FRAMING = Framing(size=64, template=None, margin=0.4).to_dict()
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

convert_gender = partial(convert_keras, gender=True)


def random_model(name="ssrnet", **kwargs):
    """Every number of the state dict is its own, so that one in the wrong place shows."""
    model = timm.create_model(name, **kwargs).eval()
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


def of_gender(arrays):
    """The authors' names of the same arrays in a file of gender."""
    return {name.replace("pred_age_stage", "pred_stage"): array for name, array in arrays.items()}


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


@pytest.fixture
def gender_file(tmp_path):
    return write_keras(tmp_path / "gender.h5", of_gender(to_keras(random_model("ssrnet_gender"))))


@pytest.fixture
def released(shared, tmp_path):
    """Converts one of the authors' files."""

    def released(name, directory="out"):
        path = shared / "official_weights" / f"{name}.h5"
        return convert_keras(path, tmp_path / directory, gender=name in GENDER_WEIGHTS)

    return released


def normalise(model, rgb):
    """Pixels ``(N, H, W, 3)``, 0 .. 255, as the model's config wants them."""
    data = timm.data.resolve_model_data_config(model)
    x = (rgb.astype(np.float32) / 255 - np.float32(data["mean"])) / np.float32(data["std"])
    return torch.from_numpy(x).permute(0, 3, 1, 2)


def assert_same_weights(actual, expected):
    torch.testing.assert_close(actual.state_dict(), expected.state_dict(), rtol=0, atol=0)


def assert_same_files(a, b):
    for name in ("model.safetensors", "config.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


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
    assert get_extras(converted) == {"task": "age", "framing": AUTHORS_FRAMING}
    data = timm.data.resolve_model_data_config(converted)
    assert tuple(data["mean"]) == (0, 0, 0)
    assert tuple(data["std"]) == (1 / 255,) * 3
    assert data["input_size"] == (3, 64, 64)

    cfg = json.loads((directory / "config.json").read_text())["pretrained_cfg"]
    assert cfg["license"] == "apache-2.0"
    assert not {"file", "hf_hub_id", "tag"} & cfg.keys()  # nothing of the embedded weights


def test_keras_of_gender(tmp_path):
    model = random_model("ssrnet_gender")
    directory = convert_gender(write_keras(tmp_path / "weights.h5", of_gender(to_keras(model))), tmp_path / "out")
    converted = from_pretrained(directory)
    assert_same_weights(converted, model)
    assert converted.V == 1
    assert get_extras(converted) == {"task": "gender", "framing": AUTHORS_FRAMING, "ends": ["female", "male"]}
    assert get_extras(timm.create_model(f"local-dir:{directory}")) == get_extras(converted)
    config = json.loads((directory / "config.json").read_text())
    assert config["architecture"] == "ssrnet_gender"
    assert config["pretrained_cfg"]["license"] == "apache-2.0"
    assert config["pretrained_cfg"]["mean"] == [0, 0, 0] and config["pretrained_cfg"]["std"] == [1 / 255] * 3


def test_same_bytes_each_time(tmp_path, keras_file):
    assert_same_files(*(convert_keras(keras_file, tmp_path / name) for name in "ab"))


@pytest.mark.parametrize("name", RELEASED)
def test_released_weights_answer_as_in_keras(shared, released, name):
    golden = np.load(shared / "golden" / "keras_outputs.npz")
    directory = released(name)
    model = from_pretrained(directory)
    assert_same_weights(timm.create_model(f"local-dir:{directory}", pretrained=True), model)

    x = normalise(model, golden["input_bgr_uint8_nhwc"][..., ::-1])
    with torch.inference_mode():
        output = model(x)
        age, stages = model.forward_stages(x)
    assert torch.equal(output, age)
    atol = 1e-5 if name in GENDER_WEIGHTS else 1e-4
    np.testing.assert_allclose(age.numpy(), golden[f"{name}/prediction"], rtol=0, atol=atol)
    for k, stage in enumerate(stages, start=1):
        for part in ("p", "eta", "delta"):
            ours = getattr(stage, part).numpy()
            np.testing.assert_allclose(ours, golden[f"{name}/{part}_stage{k}"], rtol=0, atol=1e-5, err_msg=part)


@pytest.mark.parametrize("name", RELEASED)
def test_released_weights_are_those_of_the_zoo(released, name):
    weights = ZOO[RELEASED[name]]
    assert weights.source == f"{name}.h5"
    directory = released(name)
    for folder in (directory, released(name, "again")):
        assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() == weights.sha256
    model = from_pretrained(directory)
    assert model.pretrained_cfg["architecture"] == weights.architecture
    assert get_extras(model) == weights.extras


def test_all_of_the_zoo_that_the_authors_released():
    assert {weights.name for weights in ZOO.values() if weights.source} == set(RELEASED.values())


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("gender_imdb", ["female", "male"]),
        ("gender_wiki", ["female", "male"]),
        ("gender_morph2", ["male", "female"]),
    ],
)
def test_who_is_at_which_end(shared, released, name, ends):
    directory = released(name)
    assert get_extras(from_pretrained(directory))["ends"] == ends

    folder = shared / "data" / "utkface"
    with (folder / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "val" and int(row["age"]) >= 18]
    rows = rows[:: len(rows) // 120]
    faces = AgeEstimator(gender=directory, detector=lambda image: []).crops([folder / row["file"] for row in rows])
    scores = {
        gender: np.mean([face.gender_score for face, row in zip(faces, rows, strict=True) if row["gender"] == gender])
        for gender in ("female", "male")
    }
    assert scores["male"] > scores["female"] + 0.3, scores


@pytest.mark.parametrize("name", RELEASED)
def test_released_weights_of_the_other_kind_are_refused(shared, tmp_path, name):
    convert, other = (convert_keras, "gender") if name in GENDER_WEIGHTS else (convert_gender, "age")
    path = shared / "official_weights" / f"{name}.h5"
    assert_refused(convert, path, f"but of their {other} weights", tmp_path / "out")


def test_the_other_kind_is_refused(tmp_path, keras_file, gender_file):
    said = "no pred_age_stage1/kernel, so it is not a file of .* age weights but of their gender weights"
    assert_refused(convert_keras, gender_file, said, tmp_path / "out")
    said = "no pred_stage1/kernel, so it is not a file of .* gender weights but of their age weights"
    assert_refused(convert_gender, keras_file, said, tmp_path / "out")


def test_a_keras_file_of_many_arrays(tmp_path, keras_file):
    """Packed, they are small on disk."""
    with h5py.File(keras_file, "a") as file:
        for i in range(3):
            file.create_dataset(f"more/{i}", data=np.zeros(900_000, np.float32), compression="gzip")
    assert keras_file.stat().st_size < 1_000_000
    assert_refused(convert_keras, keras_file, "too large for SSR-Net", tmp_path / "out")


def test_a_keras_file_cannot_take_arrays_from_elsewhere(tmp_path, keras_file):
    """What is published as weights must not be what lies in another file of this machine."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(12))
    for source in ("external", "virtual"):
        path = tmp_path / f"{source}.h5"
        shutil.copyfile(keras_file, path)
        with h5py.File(path, "a") as file:
            name = "pred_age_stage1/pred_age_stage1/bias:0"
            del file[name]
            if source == "external":
                file.create_dataset(name, (3,), "f4", external=[(str(secret), 0, 12)])
            else:
                layout = h5py.VirtualLayout((3,), "f4")
                layout[:] = h5py.VirtualSource(str(secret), "a", (3,))
                file.create_virtual_dataset(name, layout)
        assert_refused(convert_keras, path, "refers to another file for .*, which is not allowed", tmp_path / "out")


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.1, 0.5, 0.99])
def test_truncated_keras_file(tmp_path, keras_file, gender_file, share):
    for convert, path in ((convert_keras, keras_file), (convert_gender, gender_file)):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        assert_refused(convert, path, "as a Keras weights file", tmp_path / "out")


def test_what_is_no_keras_file(tmp_path):
    text = tmp_path / "weights.h5"
    text.write_text("These are no weights.")
    assert_refused(convert_keras, text, "as a Keras weights file", tmp_path / "out")
    for path in (tmp_path / "none.h5", tmp_path):
        assert_refused(convert_keras, path, "is not a file", tmp_path / "out")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda arrays: arrays.clear(), "has no conv2d_1/kernel"),
        (lambda arrays: arrays.pop("dense_7/dense_7/bias:0"), "has no dense_7/bias"),
        (lambda arrays: arrays.update({"dense_10/dense_10/bias:0": np.zeros(3)}), "not in SSR-Net: dense_10/bias"),
        (lambda arrays: arrays.update({"conv2d_1/conv2d_1/kernel:0": np.zeros((3, 3, 3, 8))}), r"stream1\.0\.0\.conv"),
        (lambda arrays: arrays.update({"conv2d_1/conv2d_1/kernel:0": np.zeros(32)}), r"conv2d_1/kernel.*\(32,\)"),
        (lambda arrays: arrays.update({"dense_1/dense_1/kernel:0": np.zeros((90, 3))}), r"stages\.0\.fc2"),
        (lambda arrays: arrays.update({"dense_1/dense_1/kernel:0": np.zeros((7, 3))}), r"dense_1/kernel.*\(7, 3\)"),
        (lambda arrays: arrays.update({"delta_s1/delta_s1/bias:0": np.array([b"text"])}), "Cannot read"),
        (
            lambda arrays: arrays.update({"dense_1/dense_1/kernel:0": np.zeros((1001, 1000))}),
            "too large for SSR-Net.*1001, 1000",
        ),
    ],
    ids=["empty", "missing", "more", "shape", "flat", "other_map", "no_map", "text", "large"],
)
def test_keras_file_of_another_network(tmp_path, edit, said):
    arrays = to_keras(random_model())
    edit(arrays)
    assert_refused(convert_keras, write_keras(tmp_path / "weights.h5", arrays), said, tmp_path / "out")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda arrays: arrays.clear(), r"has no conv2d_1/kernel, so it is not a file of .* gender weights\."),
        (lambda arrays: arrays.pop("pred_stage2/pred_stage2/bias:0"), r"no pred_stage2/bias, so .* gender weights\."),
        (
            lambda arrays: arrays.update({"pred_age_stage1/kernel:0": np.zeros((6, 3))}),
            "SSR-Net: pred_age_stage1/kernel",
        ),
        (lambda arrays: arrays.update({"pred_stage1/pred_stage1/kernel:0": np.zeros((6, 2))}), r"stages\.0\.p"),
    ],
    ids=["empty", "missing", "both", "shape"],
)
def test_gender_file_of_another_network(tmp_path, edit, said):
    arrays = of_gender(to_keras(random_model()))
    edit(arrays)
    assert_refused(convert_gender, write_keras(tmp_path / "weights.h5", arrays), said, tmp_path / "out")


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
    folder = save_pretrained(model, tmp_path / "in", extras={"note": [1]})
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
@pytest.mark.parametrize("convert", [convert_torch, convert_blog])
def test_code_in_a_pickle_does_not_run(tmp_path, convert, wrap, torch_file):
    trace = tmp_path / "it-ran"
    path = tmp_path / "weights.bin"
    value = wrap(Code(trace))
    if torch_file:
        torch.save(value, path)
    else:
        path.write_bytes(pickle.dumps(value, protocol=2))
    assert_refused(convert, path, "Cannot (load|read)", tmp_path / "out")
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
    assert_refused(convert_torch, pickled(value), "not contain a state dict|not fit", tmp_path / "out")
    assert_refused(
        convert_blog, pickled(value), "not contain a state dict|not fit|contains a, so it is not", tmp_path / "out"
    )


def test_torch_file_of_other_shapes(tmp_path, pickled):
    path = pickled(random_model(stage_bins=(4, 4, 4)).state_dict())
    assert_refused(convert_torch, path, r"does not fit.*\n.*stages\.0", tmp_path / "out")


@pytest.mark.parametrize(
    "data", [b"", b"These are no weights.", b"hello world", b"<html>", b"\x80\x02.", b"PK\x03\x04", b"\x80\x02]q\x00"]
)
def test_what_is_no_torch_file(tmp_path, data):
    path = tmp_path / "weights.bin"
    path.write_bytes(data)
    for convert in (convert_torch, convert_blog):
        assert_refused(convert, path, "Cannot (load|read)", tmp_path / "out")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("legacy", [False, True])
def test_truncated_torch_file(tmp_path, pickled, share, legacy):
    path = pickled(random_model().state_dict(), _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for convert in (convert_torch, convert_blog):
        assert_refused(convert, path, "Cannot (load|read)", tmp_path / "out")


@pytest.mark.parametrize("convert", [convert_torch, convert_blog])
def test_refusal_does_not_advise_to_run_the_code(tmp_path, convert):
    path = tmp_path / "weights.bin"
    torch.save({"code": Code(tmp_path / "it-ran")}, path)
    with pytest.raises(ConversionError) as e:
        convert(path, tmp_path / "out")
    assert "weights_only" not in str(e.value)


# the blog post's network

# our name of a layer by that of the post's class
BLOG_LAYERS = {
    "stream1_k1.0": "stream1.0.0.conv",
    "stream1_k1.1": "stream1.0.0.bn",
    "stream1_k2.0": "stream1.1.0.conv",
    "stream1_k2.1": "stream1.1.0.bn",
    "stream1_k3.0": "stream1.2.0.conv",
    "stream1_k3.1": "stream1.2.0.bn",
    "stream1_k3.4": "stream1.2.2.conv",
    "stream1_k3.5": "stream1.2.2.bn",
    "stream2_k1.0": "stream2.0.0.conv",
    "stream2_k1.1": "stream2.0.0.bn",
    "stream2_k2.0": "stream2.1.0.conv",
    "stream2_k2.1": "stream2.1.0.bn",
    "stream2_k3.0": "stream2.2.0.conv",
    "stream2_k3.1": "stream2.2.0.bn",
    "stream2_k3.4": "stream2.2.2.conv",
    "stream2_k3.5": "stream2.2.2.bn",
    "s1_pre1.0": "fusions.0.conv1",
    "s2_pre1.0": "fusions.0.conv2",
    "s1_pre2.0": "fusions.1.conv1",
    "s2_pre2.0": "fusions.1.conv2",
    "s1_pre3.0": "fusions.2.conv1",
    "s2_pre3.0": "fusions.2.conv2",
    "s1_dr1.1": "stages.0.fc1",
    "s2_dr1.1": "stages.0.fc2",
    "s1_dr2.1": "stages.1.fc1",
    "s2_dr2.1": "stages.1.fc2",
    "s1_dr3.1": "stages.2.fc1",
    "s2_dr3.1": "stages.2.fc2",
    **{f"vec_p{k}.0": f"stages.{k - 1}.p" for k in (1, 2, 3)},
    **{f"eta{k}.0": f"stages.{k - 1}.eta" for k in (1, 2, 3)},
    **{f"delta_k{k}.0": f"stages.{k - 1}.delta" for k in (1, 2, 3)},
}


def to_blog(model):
    """The state dict of the post's class that would become this model."""
    theirs = {ours: theirs for theirs, ours in BLOG_LAYERS.items()}
    state = {}
    for key, value in model.state_dict().items():
        layer, weight = key.rsplit(".", 1)
        state[f"{theirs[layer]}.{weight}"] = value
    return state


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state}], ids=["bare", "wrapped"])
def test_blog_answers_as_the_posts_class(shared, tmp_path, pickled, wrap):
    golden = np.load(shared / "golden" / "blog_variant.npz")
    state = {key.removeprefix("state/"): torch.from_numpy(golden[key]) for key in golden if key.startswith("state/")}
    directory = convert_blog(pickled(wrap(state)), tmp_path / "out")
    model = from_pretrained(directory)
    assert_same_weights(timm.create_model(f"local-dir:{directory}", pretrained=True), model)
    with torch.inference_mode():
        output = model(torch.from_numpy(golden["input_nchw"]))
    np.testing.assert_allclose(output[:, 0].numpy(), golden["output"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}], ids=["bare", "wrapped"]
)
def test_blog(tmp_path, pickled, wrap, legacy):
    model = random_model("ssrnet_blog")
    path = pickled(wrap(to_blog(model)), _use_new_zipfile_serialization=not legacy)
    directory = convert_blog(path, tmp_path / "out")
    assert directory == tmp_path / "out"
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "model.safetensors"]
    converted = from_pretrained(directory)
    assert_same_weights(converted, model)
    assert converted.V == 101
    assert get_extras(converted) == {"task": "age", "framing": AUTHORS_FRAMING}
    config = json.loads((directory / "config.json").read_text())
    assert config["architecture"] == "ssrnet_blog"
    cfg = config["pretrained_cfg"]
    assert tuple(cfg["mean"]) == IMAGENET_MEAN and tuple(cfg["std"]) == IMAGENET_STD
    assert not {"file", "hf_hub_id", "license", "tag"} & cfg.keys()


def test_blog_gives_the_same_bytes_each_time(tmp_path, pickled):
    path = pickled(to_blog(random_model("ssrnet_blog")))
    assert_same_files(*(convert_blog(path, tmp_path / name) for name in "ab"))


@pytest.mark.parametrize("bgr", [False, True])
def test_blog_sees_the_channels_it_was_trained_on(tmp_path, pickled, bgr):
    network = timm.create_model("ssrnet_blog").eval()  # of random numbers alone the output is often infinite
    converted = from_pretrained(convert_blog(pickled(to_blog(network)), tmp_path / "out", bgr=bgr))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    pixels[..., 2] //= 4  # little blue
    as_trained = pixels[..., ::-1] if bgr else pixels
    x = np.float32((as_trained / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(converted(normalise(converted, pixels)), network(torch.from_numpy(x)))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda state: state.clear(), "does not fit"),
        (lambda state: state.pop("eta2.0.bias"), r"does not fit.*\n.*stages\.1\.eta\.bias"),
        (lambda state: state.update({"vec_p4.0.bias": torch.zeros(3)}), r"contains vec_p4\.0\.bias, so it is not"),
        (lambda state: state.update({"vec_p1.0.scale": torch.zeros(3)}), r"does not fit.*\n.*stages\.0\.p\.scale"),
        (lambda state: state.update({"s1_dr1.1.weight": torch.zeros(32, 16)}), r"does not fit.*\n.*stages\.0\.fc1"),
        (lambda state: state.update(random_model("ssrnet_blog").state_dict()), "not a state dict of the blog post"),
    ],
    ids=["empty", "missing", "layer", "weight", "shape", "ours"],
)
def test_blog_state_of_another_network(tmp_path, pickled, edit, said):
    state = to_blog(random_model("ssrnet_blog"))
    edit(state)
    assert_refused(convert_blog, pickled(state), said, tmp_path / "out")


def test_failed_conversion_of_the_blog_leaves_an_old_one(tmp_path, pickled):
    state = to_blog(random_model("ssrnet_blog"))
    directory = convert_blog(pickled(state), tmp_path / "out")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    del state["delta_k3.0.weight"]
    with pytest.raises(ConversionError):
        convert_blog(pickled(state), directory)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_no_file_of_the_blog(tmp_path):
    for path in (tmp_path / "none.pth", tmp_path):
        assert_refused(convert_blog, path, "Cannot read", tmp_path / "out")


# the command


def assert_printed_digest(printed, directory):
    path = directory / "model.safetensors"
    assert printed == f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path}\n"


def test_command(tmp_path, keras_file):
    command = ("-m", "ssrnet_hub.cli", "convert", "--from", "keras", keras_file, tmp_path / "out")
    run = run_program(*command, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert_printed_digest(run.stdout, tmp_path / "out")


def convert(*args):
    """The exit code of the command, run in this process."""
    return main(["convert", *map(str, args)])


def test_command_from_torch(tmp_path, pickled, capsys):
    assert convert("--from", "torch", pickled(random_model().state_dict()), tmp_path / "out") == 0
    assert_printed_digest(capsys.readouterr().out, tmp_path / "out")


def test_command_gender(tmp_path, gender_file, capsys):
    assert convert("--from", "keras", "--gender", gender_file, tmp_path / "out") == 0
    assert_printed_digest(capsys.readouterr().out, tmp_path / "out")
    assert_same_files(tmp_path / "out", convert_gender(gender_file, tmp_path / "expected"))


@pytest.mark.parametrize("bgr", [False, True])
def test_command_from_blog(tmp_path, pickled, capsys, bgr):
    path = pickled(to_blog(random_model("ssrnet_blog")))
    assert convert("--from", "blog", *["--bgr"] * bgr, path, tmp_path / "out") == 0
    assert_printed_digest(capsys.readouterr().out, tmp_path / "out")
    assert_same_files(tmp_path / "out", convert_blog(path, tmp_path / "expected", bgr=bgr))


@pytest.mark.parametrize(
    ("option", "source"), [("--gender", "blog"), ("--gender", "torch"), ("--bgr", "keras"), ("--bgr", "torch")]
)
def test_command_options_of_another_source(tmp_path, capsys, option, source):
    with pytest.raises(SystemExit) as e:
        convert("--from", source, option, tmp_path / "weights", tmp_path / "out")
    assert e.value.code == 2
    assert f"error: {option} requires --from {'keras' if option == '--gender' else 'blog'}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command_refuses(tmp_path, capsys):
    text = tmp_path / "text.h5"
    text.write_text("These are no weights.")
    assert convert("--from", "keras", text, tmp_path / "out") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert re.fullmatch(r"error: Cannot read .*text\.h5 as a Keras weights file.*\n", printed.err)
    assert not (tmp_path / "out").exists()
