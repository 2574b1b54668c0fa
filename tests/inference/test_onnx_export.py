"""Weights as ONNX files and exported programs: what they hold, what they answer, and when they are not written."""

import copy
import json
import re

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from PIL import Image
from torch import nn

import ssrnet_hub
from ssrnet_hub import from_pretrained
from ssrnet_hub.errors import ExportError
from ssrnet_hub.hub.loading import get_extras, tensors_digest
from ssrnet_hub.images.loading import load_photo
from ssrnet_hub.inference import onnx_export as export
from ssrnet_hub.inference.backends import Pixels, make_runtime
from ssrnet_hub.inference.onnx_export import ONNX_FILES, export_onnx, export_program, open_session, to_onnx
from ssrnet_hub.inference.onnx_graph import OPSET
from ssrnet_hub.models.fused import OUTPUT_NAMES, fuse
from ssrnet_hub.models.pretrained import new_model
from ssrnet_hub.training.labels import read_labels

from ..models.test_ssrnet import EMBEDDED_TWO_STREAM, TWO_STREAM, make

# of the ages on the astronaut's face, years
LARGEST = {"float32": 1e-4, "float16": 0.5, "int8": 5.0}

every_precision = pytest.mark.parametrize("precision", ONNX_FILES)


@pytest.fixture(scope="module")
def model():
    """The embedded weights. Read-only."""
    return from_pretrained("ssrnet.utkface_fairface_aaf")


@pytest.fixture(scope="module")
def crops(estimator, astronaut):
    """The astronaut's face turned by 24 angles; every other is kept from the calibration."""
    (face,) = estimator(astronaut)
    return [face.crop.rotate(angle, Image.Resampling.BILINEAR) for angle in np.linspace(-30, 30, 24)]


@pytest.fixture(scope="module")
def faces(model, crops):
    return Pixels(model)(crops[::2])


@pytest.fixture(scope="module")
def calibration(model, crops):
    return Pixels(model)(crops[1::2])


@pytest.fixture(scope="module")
def exported(model, faces, calibration, tmp_path_factory):
    """The embedded weights in each precision: the file and the difference that was told."""
    folder = tmp_path_factory.mktemp("onnx")
    return {
        precision: (path, export_onnx(model, path, precision, faces=faces, calibration=calibration))
        for precision, path in ((precision, folder / name) for precision, name in ONNX_FILES.items())
    }


def run(path, pixels):
    return open_session(path).run(OUTPUT_NAMES, {"pixels": pixels.numpy()})


def read_metadata(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def side_by_side(output):
    parts = [torch.cat([getattr(stage, field) for stage in output.stages], 1) for field in OUTPUT_NAMES[1:]]
    return [output.age, *parts]


# the file


@every_precision
def test_the_file_is_good_onnx(exported, precision):
    path, _ = exported[precision]
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    opsets = {opset.domain: opset.version for opset in proto.opset_import}
    assert opsets[""] == OPSET == 17
    # nothing but ONNX's own operators
    assert {node.domain for node in proto.graph.node} <= {"", "ai.onnx"}


@every_precision
def test_inputs_and_outputs_have_names_and_shapes(exported, precision):
    path, _ = exported[precision]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.type, pixels.shape) == ("pixels", "tensor(uint8)", ["batch", 64, 64, 3])
    outputs = session.get_outputs()
    assert [output.name for output in outputs] == list(OUTPUT_NAMES)
    assert {output.type for output in outputs} == {"tensor(float)"}
    assert [output.shape for output in outputs] == [["batch", n] for n in (1, 9, 9, 3, 3, 3)]


@every_precision
@pytest.mark.parametrize("batch", [1, 5])
def test_any_number_of_faces(exported, faces, precision, batch):
    path, _ = exported[precision]
    answer = run(path, faces[:batch])
    assert [part.shape for part in answer] == [(batch, n) for n in (1, 9, 9, 3, 3, 3)]
    for part, whole in zip(answer, run(path, faces), strict=True):
        np.testing.assert_allclose(part, whole[:batch], rtol=0, atol=2e-4 if precision == "float32" else 0.05)


@every_precision
def test_the_file_answers_as_the_model(exported, model, faces, precision):
    path, told = exported[precision]
    expected = side_by_side(make_runtime(model, "eager")(faces))
    answer = run(path, faces)
    difference = np.abs(answer[0] - expected[0].numpy()).max()
    assert difference == pytest.approx(told, abs=1e-4)
    assert 0 <= told <= LARGEST[precision]
    assert np.std(answer[0]) > 1
    for part, theirs in zip(answer, expected, strict=True):
        np.testing.assert_allclose(part, theirs.numpy(), rtol=0, atol=LARGEST[precision])


def test_each_precision_is_what_it_says(exported):
    kinds = {}
    for precision, (path, _) in exported.items():
        graph = onnx.load(path).graph
        kinds[precision] = {weight.data_type for weight in graph.initializer if len(weight.dims) == 4}
        assert any(node.op_type == "DequantizeLinear" for node in graph.node) == (precision == "int8")
    assert kinds == {"float32": {TensorProto.FLOAT}, "float16": {TensorProto.FLOAT16}, "int8": {TensorProto.INT8}}
    assert exported["float16"][0].stat().st_size < exported["float32"][0].stat().st_size


@every_precision
def test_metadata(exported, model, precision):
    path, _ = exported[precision]
    metadata = read_metadata(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map.items() >= metadata.items()
    plain = {
        "architecture": "ssrnet",
        "weights": "ssrnet.utkface_fairface_aaf",
        "tensors_sha256": tensors_digest(model),
        "ssrnet_hub": ssrnet_hub.__version__,
        "precision": precision,
        "color": "RGB",
        "interpolation": "bilinear",
        "license": "other",
    }
    assert {key: metadata[key] for key in plain} == plain
    numbers = {"opset": 17, "stage_bins": [3, 3, 3], "V": 101.0, "framing": get_extras(model)["framing"]}
    assert {key: json.loads(metadata[key]) for key in numbers} == numbers
    assert ssrnet_hub.Framing.from_dict(json.loads(metadata["framing"])) == ssrnet_hub.Framing()
    for words in ("input", "output"):
        assert len(metadata[words]) > 20
    # the quantizer notes its own steps
    assert {key for key in metadata if not key.startswith("onnx.")} == {*plain, *numbers, "input", "output"}


def test_metadata_of_other_weights(tmp_path):
    model = make("ssrnet", in_chans=1, stage_bins=(2, 4, 5), V=70.0).eval()
    faces = torch.randint(0, 256, (2, 64, 64, 1), dtype=torch.uint8)
    export_onnx(model, tmp_path / "grey.onnx", faces=faces)
    metadata = read_metadata(tmp_path / "grey.onnx")
    assert metadata["color"] == "gray"
    assert json.loads(metadata["stage_bins"]) == [2, 4, 5]
    assert json.loads(metadata["V"]) == 70


def test_metadata_of_weights_without_a_name(tmp_path, faces):
    model = new_model("ssrnet", interpolation="bicubic").eval()
    export_onnx(model, tmp_path / "model.onnx", faces=faces)
    metadata = read_metadata(tmp_path / "model.onnx")
    assert (metadata["weights"], metadata["license"], metadata["interpolation"]) == ("", "unknown", "bicubic")
    assert json.loads(metadata["framing"]) is None


@pytest.mark.parametrize("name", EMBEDDED_TWO_STREAM)
def test_embedded_weights(tmp_path, crops, name):
    model = from_pretrained(name)
    faces = Pixels(model)(crops[::2])
    assert export_onnx(model, tmp_path / "model.onnx", faces=faces) <= 1e-4
    assert read_metadata(tmp_path / "model.onnx")["weights"] == name


@pytest.mark.parametrize(
    "name, kwargs",
    [
        *((name, {}) for name in TWO_STREAM),
        ("ssrnet", {"stage_bins": (2, 4, 5), "lambda_local": 0.3, "lambda_d": -0.6}),
        ("ssrnet", {"dynamic_range": False, "img_size": (70, 90)}),
        ("ssrnet_blog", {"in_chans": 1}),
    ],
    ids=str,
)
def test_onnx_of_every_architecture(name, kwargs):
    model = make(name, **kwargs).eval()
    for weight in model.get_classifier().parameters():
        nn.init.normal_(weight, std=0.03)
    fused = fuse(model)
    content = to_onnx(fused.graph)
    proto = onnx.load_from_string(content)
    onnx.checker.check_model(proto, full_check=True)
    # nothing that onnx does not know, nor would write otherwise
    assert proto.SerializeToString() == content
    pixels = torch.randint(0, 256, (3, *model.img_size, model.in_chans), dtype=torch.uint8)
    answer = open_session(content).run(OUTPUT_NAMES, {"pixels": pixels.numpy()})
    for part, expected in zip(answer, fused(pixels), strict=True):
        np.testing.assert_allclose(part, expected.numpy(), rtol=1e-5, atol=1e-4)


def test_metadata_are_text_or_json(model):
    proto = onnx.load_from_string(
        to_onnx(fuse(model).graph, {"word": "é", "number": 1.5, "nothing": None, "list": [1, "a"]})
    )
    said = {entry.key: entry.value for entry in proto.metadata_props}
    assert said == {"word": "é", "number": "1.5", "nothing": "null", "list": '[1, "a"]'}
    assert not onnx.load_from_string(to_onnx(fuse(model).graph)).metadata_props


def test_constants_are_those_of_the_graph(model):
    graph = fuse(model).graph
    for one in (graph, graph.half_streams()):
        proto = onnx.load_from_string(to_onnx(one))
        written = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
        assert written.keys() == one.constants.keys()
        for name, value in one.constants.items():
            np.testing.assert_array_equal(written[name], value, strict=True)


def test_ages_on_all_of_the_validation_chips(shared, model, exported):
    labels = read_labels(shared / "data" / "utkface" / "labels.csv", "val")
    assert len(labels) > 1000
    pixels = Pixels(model)(load_photo(label.path) for label in labels)
    session, eager = open_session(exported["float32"][0]), make_runtime(model, "eager")
    ages = np.concatenate([session.run(["age"], {"pixels": part.numpy()})[0] for part in pixels.split(32)])
    expected = torch.cat([eager(part).age for part in pixels.split(32)]).numpy()
    assert np.std(expected) > 10
    assert np.abs(ages - expected).max() < 1e-4


# when nothing is written


def assert_nothing_written(folder):
    assert list(folder.iterdir()) == []


def test_a_file_that_does_not_agree_is_not_written(tmp_path, monkeypatch, model, faces):
    def fuse_badly(model):
        other = copy.deepcopy(model)
        other.lambda_local += 0.01
        return fuse(other)

    monkeypatch.setattr(export, "fuse", fuse_badly)
    with pytest.raises(ExportError, match=r"differ by up to.*model\.onnx was not written"):
        export_onnx(model, tmp_path / "model.onnx", faces=faces)
    assert_nothing_written(tmp_path)


def test_the_least_difference_is_too_much_for_no_tolerance(tmp_path, monkeypatch, model, faces, calibration):
    monkeypatch.setattr(export, "_TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="was not written"):
        export_onnx(model, tmp_path / "model.onnx", faces=faces)
    assert_nothing_written(tmp_path)
    # the others may differ
    export_onnx(model, tmp_path / "half.onnx", "float16", faces=faces)
    assert (tmp_path / "half.onnx").exists()


def test_answers_that_are_no_numbers_are_not_written(tmp_path, faces):
    model = from_pretrained("ssrnet.utkface_fairface_aaf")
    nn.init.constant_(model.stages[0].p.bias, float("nan"))
    with pytest.raises(ExportError, match="nan"):
        export_onnx(model, tmp_path / "model.onnx", faces=faces)
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize("precision", ["", "float64", "FLOAT32", None])
def test_an_unknown_precision(tmp_path, model, faces, precision):
    with pytest.raises(ExportError, match="float32, float16, int8.*" + re.escape(repr(precision))):
        export_onnx(model, tmp_path / "model.onnx", precision, faces=faces)
    assert_nothing_written(tmp_path)


def test_int8_without_calibration(tmp_path, model, faces):
    with pytest.raises(ExportError, match="calibration"):
        export_onnx(model, tmp_path / "model.onnx", "int8", faces=faces)
    assert_nothing_written(tmp_path)


@pytest.mark.parametrize(
    "made",
    [
        lambda: make("dex_vgg16").eval(),
        lambda: make("ssrnet", num_classes=3).eval(),
        lambda: make("ssrnet").train(),
        lambda: nn.Linear(1, 1).eval(),
    ],
    ids=["dex_vgg16", "several outputs", "training", "another network"],
)
def test_models_without_a_fused_form(tmp_path, faces, made):
    model = made()
    with pytest.raises(ExportError, match="no fused form"):
        export_onnx(model, tmp_path / "model.onnx", faces=faces)
    with pytest.raises(ExportError, match="no fused form"):
        export_program(model, tmp_path / "model.pt2")
    assert_nothing_written(tmp_path)


# whole or not at all


@every_precision
def test_an_existing_file_is_replaced_whole(tmp_path, model, faces, calibration, precision):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old" * 1_000_000)
    export_onnx(model, path, precision, faces=faces, calibration=calibration)
    onnx.checker.check_model(onnx.load(path))
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_an_existing_file_is_left_where_the_new_one_fails(tmp_path, monkeypatch, model, faces, calibration):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(export, "_TOLERANCE", -1.0)
        with pytest.raises(ExportError):
            export_onnx(model, path, faces=faces)

    def fail(*args, **kwargs):
        raise OSError("No space left on device")

    for broken in ("open_session", "_quantize"):
        with monkeypatch.context() as patch:
            patch.setattr(export, broken, fail)
            with pytest.raises(OSError, match="No space left"):
                export_onnx(model, path, "int8", faces=faces, calibration=calibration)
    with monkeypatch.context() as patch:
        patch.setattr("torch.export.save", fail)
        with pytest.raises(OSError, match="No space left"):
            export_program(model, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


def test_exporting_leaves_the_model(tmp_path, faces, calibration):
    model = from_pretrained("ssrnet.utkface_fairface_aaf")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for precision in ONNX_FILES:
        export_onnx(model, tmp_path / "model.onnx", precision, faces=faces, calibration=calibration)
    export_program(model, tmp_path / "model.pt2")
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not model.training


# an exported program


def test_an_exported_program_answers_as_the_model(tmp_path, model, faces):
    path = tmp_path / "model.pt2"
    path.write_bytes(b"old")
    export_program(model, path)
    program = torch.export.load(path).module()
    eager = make_runtime(model, "eager")
    for batch in (1, 2, 5, 12):
        with torch.no_grad():
            answer = program(faces[:batch])
        for part, expected in zip(answer, side_by_side(eager(faces[:batch])), strict=True):
            torch.testing.assert_close(part, expected, rtol=0, atol=1e-4)


# sessions


def test_a_session_takes_a_path_or_bytes(exported, faces):
    path, _ = exported["float32"]
    answers = [
        open_session(source, threads).run(["age"], {"pixels": faces.numpy()})[0]
        for source, threads in ((path, None), (str(path), 1), (path.read_bytes(), 2))
    ]
    for other in answers[1:]:
        np.testing.assert_allclose(other, answers[0], rtol=0, atol=1e-4)


def test_a_session_has_as_many_threads_as_it_is_told(exported):
    path, _ = exported["float32"]
    for asked, expected in ((1, 1), (3, 3), (None, torch.get_num_threads())):
        assert open_session(path, asked).get_session_options().intra_op_num_threads == expected
