"""The fused form of the two-stream networks: its outputs, what it is refused for, and that it is a copy."""

import itertools

import numpy as np
import pytest
import timm
import torch
from PIL import Image, ImageOps
from torch import nn

from ssrnet_hub import from_pretrained
from ssrnet_hub.errors import ExportError, SSRNetHubError
from ssrnet_hub.inference.backends import Pixels
from ssrnet_hub.models.fused import OUTPUT_NAMES, FusedSSRNet, fuse, has_fused_form, split_outputs

from .test_ssrnet import EMBEDDED_TWO_STREAM, RANGE, STAGE_BINS, TWO_STREAM, lively, make, two_stream

# arguments that change what there is to fuse
ODD = [
    *itertools.product(["ssrnet", "ssrnet_gender", "ssrnet_blog"], [{"stage_bins": (2, 4, 5)}]),
    *itertools.product(["ssrnet", "ssrnet_blog"], [{"dynamic_range": False}, {"lambda_local": 0.3, "lambda_d": -0.6}]),
    *itertools.product(TWO_STREAM, [{"in_chans": 1}, {"img_size": (70, 90)}]),
    ("ssrnet", {"stage_bins": (1, 3, 1)}),
    *itertools.product(["ssrnet", "ssrnet_blog", "ssrnet_wide"], [{"stage_bins": (5, 4)}, {"stage_bins": (9,)}]),
    ("ssrnet", {"layout": ("CR", "PPC", "RPCP"), "chs": (8, 6, 4), "pool_sizes": (1, 2, 8)}),
    ("ssrnet", {"layout": ("SR", "SP", "RSR"), "chs": (8, 6, 4), "pool_sizes": (1, 2, 8)}),
    ("ssrnet_dex", {"stage_bins": (7,), "V": 70.0}),
]

odd = pytest.mark.parametrize("name, kwargs", ODD, ids=str)


def trained(name, **kwargs):
    """A lively model whose normalisations have seen pictures; some turn their input round, as weights may."""
    model = lively(name, **kwargs)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.momentum = None
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.bias, std=0.1)
    expect(model.train(), noise(model, 8))
    return model.eval()


def noise(model, batch=3):
    return torch.randint(0, 256, (batch, *model.img_size, model.in_chans), dtype=torch.uint8)


def expect(model, pixels):
    """What the model answers for pixels normalised as its config says."""
    data = timm.data.resolve_input_data_config(model)
    like = next(model.parameters())
    mean, std = (like.new_tensor(data[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        return model.forward_stages((pixels.permute(0, 3, 1, 2).to(like) / 255 - mean) / std)


def side_by_side(output):
    """The outputs of `FusedSSRNet`, by names, from what `forward_stages` does."""
    return {
        "age": output.age,
        **{field: torch.cat([getattr(stage, field) for stage in output.stages], 1) for field in OUTPUT_NAMES[1:]},
    }


def assert_outputs(answer, output, rtol, atol):
    assert len(answer) == len(OUTPUT_NAMES)
    for (field, expected), actual in zip(side_by_side(output).items(), answer, strict=True):
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, msg=lambda m, field=field: f"{field}: {m}")


def assert_alive(model, output):
    """That the answers differ from face to face, so that agreement with them says something."""
    assert output.age.isfinite().all()
    assert output.age.std() > 1e-3 * model.V
    fields = side_by_side(output)
    assert fields["p"].std() > 1e-3
    if len(output.stages) > 1 and model.dynamic_range:
        assert fields["eta"].std() > 1e-2
        assert fields["delta"].std() > 1e-2


@pytest.fixture(scope="module")
def pictures(estimator, astronaut):
    """The astronaut's face, straight, turned, mirrored and grey."""
    (face,) = estimator(astronaut)
    pictures = [face.crop.rotate(angle, Image.Resampling.BILINEAR) for angle in (0, -25, -10, 15, 30)]
    return [*pictures, ImageOps.mirror(face.crop), face.crop.convert("L")]


@pytest.fixture(scope="module")
def faces(estimator, pictures):
    """Their pixels as the default weights want them."""
    return Pixels(estimator.model)(pictures)


# the same answers


@two_stream
def test_fused_predicts_as_the_model(name):
    model = trained(name)
    pixels = noise(model, 8)
    expected = expect(model, pixels)
    assert_alive(model, expected)
    assert_outputs(fuse(model)(pixels), expected, rtol=1e-8, atol=1e-8)


@odd
def test_fused_predicts_as_the_model_with_other_arguments(name, kwargs):
    model = trained(name, **kwargs)
    pixels = noise(model, 8)
    expected = expect(model, pixels)
    assert_alive(model, expected)
    assert_outputs(fuse(model)(pixels), expected, rtol=1e-8, atol=1e-8)


@two_stream
def test_fused_in_single_precision(name):
    model = make(name).eval()
    pixels = noise(model)
    answer = fuse(model)(pixels)
    assert all(part.dtype == torch.float32 for part in answer)
    assert_outputs(answer, expect(model, pixels), rtol=0, atol=1e-4 * RANGE[name] / 101)


@pytest.mark.parametrize("name", EMBEDDED_TWO_STREAM)
def test_fused_embedded_weights_on_a_real_face(name, pictures):
    model = from_pretrained(name)
    faces = Pixels(model)(pictures)
    expected = expect(model, faces)
    assert_alive(model, expected)
    assert_outputs(fuse(model)(faces), expected, rtol=0, atol=1e-4)
    double = model.double()
    assert_outputs(fuse(double)(faces), expect(double, faces), rtol=0, atol=1e-9)


@two_stream
def test_output_shapes(name):
    model = make(name).eval()
    for batch in (1, 5):
        answer = dict(zip(OUTPUT_NAMES, fuse(model)(noise(model, batch)), strict=True))
        stages, bins = len(STAGE_BINS[name]), sum(STAGE_BINS[name])
        widths = {"age": 1, "p": bins, "eta": bins, "delta": stages, "width": stages, "contribution": stages}
        assert {field: tuple(part.shape) for field, part in answer.items()} == {
            field: (batch, width) for field, width in widths.items()
        }


@pytest.mark.parametrize("kwargs", [{}, {"stage_bins": (2, 4, 5)}], ids=str)
def test_split_outputs(kwargs):
    model = trained("ssrnet", **kwargs)
    pixels = noise(model)
    output = split_outputs(fuse(model)(pixels), model.stage_bins)
    expected = expect(model, pixels)
    torch.testing.assert_close(output.age, expected.age)
    assert len(output.stages) == len(expected.stages)
    for actual, stage in zip(output.stages, expected.stages, strict=True):
        torch.testing.assert_close(tuple(actual), tuple(stage))


def test_faces_do_not_see_each_other(faces, estimator):
    fused = fuse(estimator.model)
    for part, whole in zip(zip(*map(fused, faces.split(1)), strict=True), fused(faces), strict=True):
        torch.testing.assert_close(torch.cat(part), whole, rtol=0, atol=1e-4)


def test_normalisation_as_the_config_has_it():
    model = trained("ssrnet", pretrained_cfg_overlay={"mean": (0.1, 0.5, 0.8), "std": (0.2, 0.9, 0.4)})
    pixels = noise(model)
    assert_outputs(fuse(model)(pixels), expect(model, pixels), rtol=1e-8, atol=1e-8)
    # by hand, without a config
    fused = FusedSSRNet(model, (0.1, 0.5, 0.8), (0.2, 0.9, 0.4))
    assert_outputs(fused(pixels), expect(model, pixels), rtol=1e-8, atol=1e-8)
    assert not torch.allclose(FusedSSRNet(model, (0.5,) * 3, (0.5,) * 3)(pixels)[0], fused(pixels)[0])


# a copy


@two_stream
def test_changing_the_model_leaves_the_fused_form(name):
    model = trained(name)
    pixels = noise(model)
    fused = fuse(model)
    before = fused(pixels)
    with torch.no_grad():
        for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
            tensor.add_(1)
    assert all(map(torch.equal, fused(pixels), before))


@two_stream
def test_fusing_leaves_the_model(name):
    model = trained(name)
    pixels = noise(model)
    before, state = expect(model, pixels), {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    fused = fuse(model)
    for tensor in (*fused.parameters(), *fused.buffers()):
        tensor.add_(1)
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(expect(model, pixels).age, before.age)
    assert [module.training for module in model.modules()] == modes
    assert all(weight.requires_grad for weight in model.parameters())


def test_halving_leaves_the_model(faces):
    model = from_pretrained()
    fuse(model).half_streams()
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_fused_form_is_for_answering_alone():
    fused = fuse(make("ssrnet").eval())
    assert not any(module.training for module in fused.modules())
    assert not list(fused.parameters()) and not any(weight.requires_grad for weight in fused.buffers())


# what has none


@pytest.mark.parametrize("num_classes", [0, 2, 5])
@two_stream
def test_several_outputs_have_no_fused_form(name, num_classes):
    model = make(name, num_classes=num_classes).eval()
    assert not has_fused_form(model)
    with pytest.raises(ExportError, match="one output"):
        fuse(model)


@two_stream
def test_training_mode_has_no_fused_form(name):
    model = make(name).train()
    assert not has_fused_form(model)
    with pytest.raises(ExportError, match="eval mode"):
        fuse(model)
    assert has_fused_form(model.eval())


def test_other_networks_have_no_fused_form():
    for model in (make("dex_vgg16").eval(), nn.Linear(1, 1).eval()):
        assert not has_fused_form(model)
        with pytest.raises(ExportError, match=type(model).__name__):
            fuse(model)
    assert issubclass(ExportError, SSRNetHubError)


# half precision


@pytest.mark.parametrize("name", EMBEDDED_TWO_STREAM)
def test_half_streams_on_a_real_face(name, pictures):
    model = from_pretrained(name)
    faces = Pixels(model)(pictures)
    fused = fuse(model).half_streams()
    kinds = {
        (step.operator, fused.get_buffer(step.inputs[1]).dtype)
        for step in fused.graph.steps
        if step.inputs[1:2] and step.operator in ("Conv", "Gemm")
    }
    assert kinds == {("Conv", torch.float16), ("Gemm", torch.float32)}
    age, *others = fused(faces)
    assert age.dtype == torch.float32
    difference = (age - expect(model, faces).age).abs().max()
    # half precision leaves a trace, and no more
    assert 0 < difference < 0.5 * model.V / 101
    assert all(np.isfinite(part.numpy()).all() for part in others)
