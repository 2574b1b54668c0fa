"""What computes the answers: the same ages whatever it is, and what is told where there is none."""

import dataclasses

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from ssrnet_hub import AgeEstimator, from_pretrained
from ssrnet_hub.errors import RuntimeUnavailableError, SSRNetHubError
from ssrnet_hub.inference.backends import RUNTIMES, Pixels, make_runtime

from ..models.test_ssrnet import TWO_STREAM, make

BATCHES = (1, 2, 3, 16, 17, 40)


@pytest.fixture(scope="module")
def crops(estimator, astronaut):
    """The astronaut's face turned by 40 angles."""
    (face,) = estimator(astronaut)
    return [face.crop.rotate(angle, Image.Resampling.BILINEAR) for angle in np.linspace(-30, 30, max(BATCHES))]


@pytest.fixture(scope="module")
def expected(estimator, crops):
    """The eager answers for the crops, gender included."""
    eager = AgeEstimator(detector=estimator.detector, gender="ssrnet_gender.fairface", runtime="eager")
    return eager.crops(crops)


@pytest.fixture
def model():
    return from_pretrained()


def numbers(face):
    """All that a network answered of a face."""
    stages = [np.hstack(dataclasses.astuple(stage)) for stage in face.stages]
    return np.hstack([face.raw_age, *stages])


def assert_same(faces, expected):
    assert len(faces) == len(expected)
    for face, other in zip(faces, expected, strict=True):
        assert numbers(face) == pytest.approx(numbers(other), rel=0, abs=1e-3)


def assert_same_output(actual, expected, atol=1e-3):
    torch.testing.assert_close(actual.age, expected.age, rtol=0, atol=atol)
    assert len(actual.stages) == len(expected.stages)
    for one, other in zip(actual.stages, expected.stages, strict=True):
        torch.testing.assert_close(tuple(one), tuple(other), rtol=0, atol=atol)


# the same answers


@pytest.mark.parametrize("kind", RUNTIMES)
def test_every_runtime_tells_the_same_ages(kind, estimator, crops, expected):
    # turned faces are of different ages, or agreement would say little
    assert np.std([face.raw_age for face in expected]) > 1
    other = AgeEstimator(detector=estimator.detector, gender="ssrnet_gender.fairface", runtime=kind)
    for count in BATCHES:
        faces = other.crops(crops[:count])
        assert_same(faces, expected[:count])
        scores = [face.gender_score for face in faces]
        assert scores == pytest.approx([face.gender_score for face in expected[:count]], abs=1e-5)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_every_runtime_without_gender(kind, estimator, crops, expected):
    faces = AgeEstimator(detector=estimator.detector, runtime=kind).crops(crops[:3])
    assert_same(faces, expected[:3])
    assert [face.gender_score for face in faces] == [None] * 3


@pytest.mark.parametrize("kind", RUNTIMES)
@pytest.mark.parametrize(
    "name, kwargs",
    [
        *((name, {}) for name in TWO_STREAM),
        ("ssrnet", {"stage_bins": (2, 4, 5), "img_size": (70, 90)}),
        ("ssrnet", {"dynamic_range": False, "in_chans": 1}),
    ],
    ids=str,
)
def test_every_runtime_of_every_architecture(kind, name, kwargs):
    model = make(name, **kwargs).eval()
    pixels = torch.randint(0, 256, (3, *model.img_size, model.in_chans), dtype=torch.uint8)
    output = make_runtime(model, kind)(pixels)
    assert_same_output(output, make_runtime(model, "eager")(pixels))
    assert [stage.p.shape[1] for stage in output.stages] == list(model.stage_bins)


@pytest.mark.parametrize("kind", RUNTIMES)
def test_no_faces_no_ages(kind, model):
    output = make_runtime(model, kind)(torch.zeros(0, 96, 96, 3, dtype=torch.uint8))
    assert output.age.shape == (0, 1)
    assert [tuple(stage.p.shape) for stage in output.stages] == [(0, 3)] * 3


@pytest.mark.parametrize("kind", RUNTIMES)
def test_a_runtime_leaves_the_pixels(kind, model, crops):
    pixels = Pixels(model)(crops[:3])
    before = pixels.clone()
    run = make_runtime(model, kind)
    first = run(pixels)
    ages = first.age.clone()
    run(pixels[1:].contiguous())
    # nor does a later answer take the place of an earlier one
    assert torch.equal(pixels, before) and torch.equal(first.age, ages)


def test_eager_is_the_model_as_it_is(model, crops):
    transform = timm.data.create_transform(**timm.data.resolve_input_data_config(model))
    with torch.no_grad():
        expected = model.forward_stages(torch.stack([transform(crop) for crop in crops[:3]]))
    assert_same_output(make_runtime(model, "eager")(Pixels(model)(crops[:3])), expected, atol=1e-5)


def test_changing_the_model_changes_eager_alone(model, crops):
    pixels = Pixels(model)(crops[:2])
    runs = {kind: make_runtime(model, kind) for kind in ("eager", "torch", "onnx")}
    before = make_runtime(model, "eager")(pixels).age
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    for kind, run in runs.items():
        changed = (run(pixels).age - before).abs().min() > 0.1
        assert changed == (kind == "eager"), kind


# the choice of one


def test_the_fastest_is_taken(model):
    assert type(make_runtime(model)) is type(make_runtime(model, "onnx"))
    assert len({type(make_runtime(model, kind)) for kind in ("onnx", "torch", "eager")}) == 3


@pytest.mark.parametrize("kind", ["", "ONNX", "tensorrt", None])
def test_an_unknown_runtime(kind, model):
    with pytest.raises(RuntimeUnavailableError, match=r"auto, onnx, torch, eager.*" + repr(kind)):
        make_runtime(model, kind)
    with pytest.raises(SSRNetHubError):
        AgeEstimator(runtime=kind)


def test_double_precision_is_not_for_onnx_runtime(model, crops, expected):
    model.double()
    with pytest.raises(RuntimeUnavailableError, match="float64"):
        make_runtime(model, "onnx")
    for kind in ("auto", "torch", "eager"):
        output = make_runtime(model, kind)(Pixels(model)(crops[:3]))
        assert output.age.dtype == torch.float64
        assert output.age[:, 0].tolist() == pytest.approx([face.raw_age for face in expected[:3]], abs=1e-3)
    assert type(make_runtime(model)) is type(make_runtime(model, "torch"))


def test_a_torch_without_torchscript(monkeypatch, model, crops, expected):
    asked = []

    def trace(*args, **kwargs):
        asked.append(args)
        raise RuntimeError("TorchScript is gone")

    monkeypatch.setattr("torch.jit.trace", trace)
    run = make_runtime(model, "torch")
    assert asked
    for count in (1, 40):
        ages = run(Pixels(model)(crops[:count])).age[:, 0].tolist()
        assert ages == pytest.approx([face.raw_age for face in expected[:count]], abs=1e-3)


def test_a_model_without_a_fused_form():
    model = make("dex_vgg16").eval()
    pixels = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    run = make_runtime(model)
    assert type(run) is type(make_runtime(model, "eager"))
    x = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(model.pretrained_cfg["mean"])[:, None, None]) / torch.tensor(
        model.pretrained_cfg["std"]
    )[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(run(pixels).age, model(x))
    for kind in ("onnx", "torch"):
        with pytest.raises(RuntimeUnavailableError, match="eager"):
            make_runtime(model, kind)


@pytest.mark.filterwarnings("ignore:This model has no framing")
def test_an_estimator_with_a_model_without_a_fused_form(estimator, crops):
    model = make("dex_vgg16")
    (face,) = AgeEstimator(model, detector=estimator.detector).crops(crops[:1])
    transform = timm.data.create_transform(**timm.data.resolve_input_data_config(model))
    with torch.no_grad():
        assert face.raw_age == pytest.approx(model.eval()(transform(crops[0])[None]).item(), abs=1e-3)


# from pictures to pixels


def pictures():
    """Of every mode and shape that a crop may have."""
    rng = np.random.default_rng(0)
    for width, height in ((128, 128), (64, 64), (37, 90), (200, 30), (1, 1)):
        for channels in ((3,), (), (4,)):
            yield Image.fromarray(rng.integers(0, 256, (height, width, *channels), dtype=np.uint8))


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("ssrnet", {}),
        ("ssrnet_gender", {}),
        ("ssrnet_blog", {}),
        ("dex_vgg16", {}),
        ("ssrnet", {"in_chans": 1}),
        ("ssrnet", {"img_size": (70, 90)}),
        ("ssrnet", {"pretrained_cfg_overlay": {"crop_pct": 0.8, "interpolation": "bicubic"}}),
        ("ssrnet", {"pretrained_cfg_overlay": {"crop_pct": 0.8, "crop_mode": "border"}}),
        ("ssrnet", {"pretrained_cfg_overlay": {"crop_mode": "squash"}}),
    ],
    ids=str,
)
def test_pixels_are_what_timm_makes_of_pictures(name, kwargs):
    model = make(name, **kwargs).eval()
    data = timm.data.resolve_input_data_config(model)
    transform = timm.data.create_transform(**data)
    mode = "RGB" if data["input_size"][0] == 3 else "L"
    expected = torch.stack([transform(picture.convert(mode)) for picture in pictures()])
    pixels = Pixels(model)(pictures())
    assert pixels.dtype == torch.uint8
    assert tuple(pixels.shape[1:]) == (*data["input_size"][1:], data["input_size"][0])
    mean, std = (torch.tensor(data[key])[:, None, None] for key in ("mean", "std"))
    normalised = (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std
    torch.testing.assert_close(normalised, expected, rtol=0, atol=0)


def test_pixels_leave_the_pictures(model):
    made = list(pictures())
    before = [picture.tobytes() for picture in made]
    Pixels(model)(made)
    assert [picture.tobytes() for picture in made] == before
