"""What every architecture of the package promises, as a model of timm and as a stagewise regression.

An architecture is tested by being registered; its figures go to the tables here.
"""

import copy
import json
import re
import shutil
import socket
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub.errors import HFValidationError
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from ssrnet_hub import SSRNet
from ssrnet_hub.models import zoo

from ..programs import run_program

PARAMETERS = {
    "ssrnet": 40_531,
    "ssrnet_gender": 40_531,
    "ssrnet_blog": 44_805,
    "ssrnet_dex": 106_713,
    "ssrnet_wide": 248_853,
    "dex_vgg16": 134_674_341,
    "dex_resnet10": 2_693_029,
}
# of the features of a face, and how many the last layers read
FEATURES = {
    "ssrnet": ((680,), 680),
    "ssrnet_gender": ((680,), 680),
    "ssrnet_blog": ((192,), 192),
    "ssrnet_dex": ((680,), 680),
    "ssrnet_wide": ((1088,), 1088),
    "dex_vgg16": ((512, 2, 2), 4096),
    "dex_resnet10": ((256, 3, 3), 256),
}
# reduction and shape
AUTHORS_TAPS = [(2, (32, 31, 31)), (4, (32, 14, 14)), (8, (32, 4, 4))]
TAPS = {
    "ssrnet": AUTHORS_TAPS,
    "ssrnet_gender": AUTHORS_TAPS,
    "ssrnet_dex": AUTHORS_TAPS,
    "ssrnet_wide": [(4, (48, 22, 22)), (8, (64, 10, 10)), (16, (80, 4, 4))],
    "ssrnet_blog": [(2, (32, 31, 31)), (4, (32, 14, 14)), (16, (32, 2, 2))],
    "dex_vgg16": [
        (1, (64, 64, 64)),
        (2, (128, 32, 32)),
        (4, (256, 16, 16)),
        (8, (512, 8, 8)),
        (16, (512, 4, 4)),
        (32, (512, 2, 2)),
    ],
    # timm's ResNet has a fourth layer, which is empty here
    "dex_resnet10": [
        (2, (64, 29, 29)),
        (4, (64, 14, 14)),
        (8, (128, 7, 7)),
        (16, (256, 3, 3)),
        (16, (256, 3, 3)),
    ],
}
STAGE_BINS = {
    "ssrnet": (3, 3, 3),
    "ssrnet_gender": (3, 3, 3),
    "ssrnet_blog": (3, 3, 3),
    "ssrnet_wide": (3, 3, 3),
    "ssrnet_dex": (101,),
    "dex_vgg16": (101,),
    "dex_resnet10": (101,),
}
RANGE = {**dict.fromkeys(STAGE_BINS, 101), "ssrnet_gender": 1}
# side of the input in timm's config; the tests use 64 pixels where an architecture takes any
SIDE = {**dict.fromkeys(STAGE_BINS, 64), "ssrnet_wide": 96, "dex_vgg16": 224}
# what makes an architecture small enough for tests
SMALL = {"dex_vgg16": {"mlp_ratio": 0.005}}

TWO_STREAM = [name for name in STAGE_BINS if name not in ("dex_vgg16", "dex_resnet10")]
EMBEDDED = zoo.list_models()
EMBEDDED_TWO_STREAM = [name for name in EMBEDDED if zoo.ZOO[name].architecture in TWO_STREAM]

two_stream = pytest.mark.parametrize("name", TWO_STREAM)
any_size = pytest.mark.parametrize("name", [name for name in STAGE_BINS if name not in TWO_STREAM])
three_stages = pytest.mark.parametrize("name", [name for name, bins in STAGE_BINS.items() if len(bins) == 3])
one_stage = pytest.mark.parametrize("name", [name for name, bins in STAGE_BINS.items() if len(bins) == 1])


@pytest.fixture(params=zoo.list_architectures())
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return make(name).eval()


@pytest.fixture
def x(model):
    return inputs(model)


@cache
def made_once(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return timm.create_model(name, **SMALL.get(name, {}))


def make(name, **kwargs):
    if kwargs:
        return timm.create_model(name, **{**SMALL.get(name, {}), **kwargs})
    return copy.deepcopy(made_once(name))  # faster, where there are many weights


def lively(name, **kwargs):
    """A model whose p, eta and delta differ from bin to bin and face to face; a fresh one stands on the fixed grid."""
    model = make(name, **kwargs).double().eval()
    for weight in model.get_classifier().parameters():
        nn.init.normal_(weight, std=0.3)
    for key, bias in model.get_classifier().named_parameters():
        if re.search(r"fc\d?\.bias$|p\.bias$", key):
            nn.init.constant_(bias, 1.0)  # alive through every ReLU
    return model


def inputs(model, batch=2):
    like = next(model.parameters())
    return torch.randn(batch, model.in_chans, *getattr(model, "img_size", (64, 64)), dtype=like.dtype)


def small(name, x):
    """One input, and no more of it than there must be: bfloat16 is slow on many CPUs."""
    return x[:1] if name in TWO_STREAM else x[:1, :, :32, :32]


def side(name):
    return SIDE[name] if name in TWO_STREAM else 64


def assert_equal_tensors(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def layers_named(cfg, field):
    return [cfg[field]] if isinstance(cfg[field], str) else list(cfg[field])


def assert_equal_stages(actual, expected):
    assert_equal_tensors(actual.age, expected.age)
    assert len(actual.stages) == len(expected.stages)
    for a, e in zip(actual.stages, expected.stages, strict=True):
        assert_equal_tensors(tuple(a), tuple(e))


# forward and backward


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("num_classes", [1, 5])
def test_forward(name, batch, num_classes):
    model = make(name, num_classes=num_classes).eval()
    age = model(inputs(model, batch))
    assert age.shape == (batch, num_classes)
    assert age.isfinite().all()


@pytest.mark.parametrize("training", [False, True])
def test_forward_stages_answers_the_age_of_forward(name, training):
    model = make(name, num_classes=2).train(training)
    x = inputs(model)
    with torch.no_grad(), torch.random.fork_rng():
        age = model(x)
    assert_equal_tensors(model.forward_stages(x).age, age)


def test_faces_do_not_see_each_other(name):
    model = lively(name)
    x = inputs(model)
    torch.testing.assert_close(model(x), torch.cat([model(face[None]) for face in x]))


def test_backward_reaches_every_parameter(name):
    model = make(name, num_classes=5, drop_rate=0.0).train()
    model(inputs(model)).mean().backward()
    missing = [key for key, weight in model.named_parameters() if weight.grad is None]
    assert not missing
    still = [key for key, weight in model.get_classifier().named_parameters() if not weight.grad.any()]
    assert not still


def test_parameter_count(name):
    assert zoo.count_parameters(name) == PARAMETERS[name]


def test_state_dict_holds_weights_and_batch_statistics_alone(model):
    statistics = [
        key for key in model.state_dict() if re.search(r"\bbn\d?\.(running_mean|running_var|num_batches)", key)
    ]
    weights = [key for key, _ in model.named_parameters()]
    assert sorted(weights + statistics) == sorted(model.state_dict())


def test_dropout_in_training_alone(name):
    model = make(name, drop_rate=0.5)
    x = inputs(model)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_in_chans(name):
    model = make(name, in_chans=1).eval()
    assert model.in_chans == 1
    assert model(torch.randn(2, 1, side(name), side(name))).shape == (2, 1)


@two_stream
def test_wrong_size_is_refused(model):
    height, width = model.img_size
    with pytest.raises(AssertionError, match=rf"\b{height}\b.*\b{height + 1}\b"):
        model(torch.randn(1, 3, height + 1, width))
    with pytest.raises(AssertionError, match=rf"\b{width}\b.*\b{width - 2}\b"):
        model(torch.randn(1, 3, height, width - 2))


@any_size
@pytest.mark.parametrize("size", [(32, 32), (96, 64), (256, 224)])
def test_any_size(name, model, size):
    x = torch.randn(1, 3, *size)
    features = model.forward_features(x)
    if name == "dex_vgg16":
        assert features.shape == (1, model.num_features, size[0] // 32, size[1] // 32)
    assert model.forward_head(features).shape == (1, 1)


def test_unknown_argument(name):
    with pytest.raises(TypeError, match="no_such_argument"):
        timm.create_model(name, no_such_argument=1)


@one_stage
@pytest.mark.parametrize("argument", ["lambda_local", "lambda_d", "dynamic_range"])
def test_one_stage_has_nothing_to_move(name, argument):
    with pytest.raises(TypeError, match=argument):
        timm.create_model(name, device="meta", **{argument: 1})


@pytest.mark.parametrize("V", [0, -1.0, float("inf"), float("nan")])
def test_range_of_no_use(name, V):
    with pytest.raises(ValueError, match=r"\bV\b"):
        timm.create_model(name, device="meta", V=V)


@three_stages
@pytest.mark.parametrize("argument", ["lambda_local", "lambda_d"])
def test_lambda_of_no_use(name, argument):
    with pytest.raises(ValueError, match="lambda"):
        make(name, **{argument: float("nan")})


@pytest.mark.parametrize("count", [0, 1])
def test_stage_bins_of_another_count(name, count):
    most = len(STAGE_BINS[name])
    with pytest.raises(ValueError, match=rf"stage_bins .*\b{most} stage"):
        timm.create_model(name, device="meta", stage_bins=(3,) * ((most + 1) * count))


@three_stages
def test_fewer_stages_read_the_first_taps(name):
    model, full = (lively(name, stage_bins=bins) for bins in ((5, 4), (5, 4, 3)))
    full.load_state_dict(model.state_dict(), strict=False)
    x = inputs(model)
    stages = model.forward_stages(x).stages
    assert len(stages) == 2
    for stage, expected in zip(stages, full.forward_stages(x).stages, strict=False):
        assert_equal_tensors(tuple(stage), tuple(expected))


def test_stage_without_bins(name):
    with pytest.raises(ValueError, match="stage_bins"):
        timm.create_model(name, device="meta", stage_bins=(0,) * len(STAGE_BINS[name]))


@three_stages
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("layout", ("CP", "CPCPC")),
        ("layout", ("CP", "CP", "")),
        ("layout", ("CP", "CP", "CXC")),
        ("layout", ("PC", "CP", "CPC")),
        ("chs", (32, 32)),
        ("chs", (32, 32, 32, 0)),
        ("chs", (32, 32, 32, 5)),
    ],
)
def test_streams_of_no_use(name, argument, value):
    with pytest.raises(ValueError, match=argument):
        make(name, **{"layout": ("CP", "CP", "CPCP"), "chs": (32, 32, 32, 32), argument: value})


# the stagewise regression


def paper_age(stages, V, lambda_local, lambda_d):
    """Equations 3 to 7 of the paper, in NumPy: the age, and each stage's width and contribution."""
    age, bins, parts = 0, 1, []
    for stage in stages:
        p, eta, delta = (v.numpy() for v in (stage.p, stage.eta, stage.delta))
        s = p.shape[-1]
        shifted = np.arange(s) + lambda_local * eta
        bins = bins * s * (1 + lambda_d * delta)
        contribution = np.einsum("...i,...i->...", p, shifted).reshape(delta.shape) * V / bins
        age = age + contribution
        parts.append((V / bins, contribution))
    return age, parts


STAGE_ARGS = {
    3: [
        {},
        {"stage_bins": (4, 4, 4)},
        {"stage_bins": (5, 2, 3), "V": 10.0},
        {"V": 1, "lambda_local": 0.5},
        {"lambda_d": 0.25},
        {"dynamic_range": False},
    ],
    1: [{}, {"stage_bins": (7,)}, {"stage_bins": (5,), "V": 10.0}],
}


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize(
    ("name", "args"), [(name, args) for name, bins in STAGE_BINS.items() for args in STAGE_ARGS[len(bins)]], ids=str
)
def test_stages_follow_the_paper(name, args, num_classes):
    model = lively(name, num_classes=num_classes, **args)
    x = inputs(model)
    with torch.no_grad():
        age, stages = model.forward_stages(x)
    torch.testing.assert_close(age, sum(stage.contribution for stage in stages))

    n = () if num_classes == 1 else (num_classes,)
    moving = args.get("dynamic_range", len(STAGE_BINS[name]) > 1)
    for stage, s in zip(stages, args.get("stage_bins", STAGE_BINS[name]), strict=True):
        assert stage.p.shape == stage.eta.shape == (2, *n, s)
        assert stage.delta.shape == stage.width.shape == stage.contribution.shape == (2, num_classes)
        assert (stage.p >= 0).all()
        assert (stage.eta.abs() < 1).all() and (stage.delta.abs() < 1).all()
        assert stage.p.any()
        if moving:
            assert stage.eta.std() > 1e-3 and stage.delta.std() > 1e-6
        else:
            assert not stage.eta.any() and not stage.delta.any()

    V = args.get("V", RANGE[name])
    expected, parts = paper_age(stages, V, args.get("lambda_local", 1), args.get("lambda_d", 1))
    np.testing.assert_allclose(age.numpy(), expected, rtol=1e-12)
    for stage, (width, contribution) in zip(stages, parts, strict=True):
        np.testing.assert_allclose(stage.width.numpy(), width, rtol=1e-12)
        np.testing.assert_allclose(stage.contribution.numpy(), contribution, rtol=1e-12, atol=1e-12)


@one_stage
def test_one_stage_answers_the_expected_value(name):
    model = lively(name)
    with torch.no_grad():
        age, (stage,) = model.forward_stages(inputs(model))
    p = stage.p.numpy()
    assert p.std(axis=0).max() > 1e-3
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(age.numpy(), p @ np.arange(101)[:, None], rtol=1e-12)


def functions_of(state, norm_eps):
    """Convolution, convolution with normalisation and dense layer, by the key of their weights."""

    def conv(key, x, padding=0):
        return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"], padding=padding)

    def dense(key, x):
        return F.linear(x, state[f"{key}.weight"], state[f"{key}.bias"])

    def block(key, x, padding=0):
        x, bn = conv(f"{key}.conv", x, padding), f"{key}.bn"
        mean, var, weight, bias = (state[f"{bn}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias, eps=norm_eps)

    return conv, block, dense


def authors_features(state, x):
    """What each stage of the authors' network reads of stream 1 and of stream 2."""
    conv, block, _ = functions_of(state, 1e-3)
    taps = []
    for stream, act, pool in (("stream1", F.relu, F.avg_pool2d), ("stream2", torch.tanh, F.max_pool2d)):
        shallow = pool(act(block(f"{stream}.0.0", x)), 2)
        middle = pool(act(block(f"{stream}.1.0", shallow)), 2)
        deep = act(block(f"{stream}.2.2", pool(act(block(f"{stream}.2.0", middle)), 2)))
        taps.append((deep, middle, shallow))

    for k, (tap1, tap2, size) in enumerate(zip(*taps, (1, 4, 8), strict=True)):
        x1 = F.avg_pool2d(conv(f"fusions.{k}.conv1", tap1).relu(), size).flatten(1)
        x2 = F.max_pool2d(conv(f"fusions.{k}.conv2", tap2).relu(), size).flatten(1)
        yield x1, x2


def authors_network(state, x):
    _, _, dense = functions_of(state, 1e-3)
    outputs = []
    for k, (x1, x2) in enumerate(authors_features(state, x)):
        delta = dense(f"stages.{k}.delta", x1 * x2).tanh()
        h = dense(f"stages.{k}.fc1", x1).relu() * dense(f"stages.{k}.fc2", x2).relu()
        h = dense(f"stages.{k}.fc", h).relu()
        outputs.append((dense(f"stages.{k}.p", h).relu(), dense(f"stages.{k}.eta", h).tanh(), delta))
    return outputs


def posts_network(state, x):
    """The variant of the blog post."""
    conv, block, dense = functions_of(state, 1e-5)
    taps1, taps2 = [], []
    x1 = x2 = x
    for level, keys in enumerate((["0.0"], ["1.0"], ["2.0", "2.2"])):
        for key in keys:
            x1 = F.avg_pool2d(block(f"stream1.{key}", x1).relu(), 2)
            x2 = F.max_pool2d(block(f"stream2.{key}", x2).tanh(), 2)
        taps1.append(conv(f"fusions.{level}.conv1", x1).relu().amax((2, 3)))
        taps2.append(conv(f"fusions.{level}.conv2", x2).relu().mean((2, 3)))

    outputs = []
    for k, (x1, x2) in enumerate(zip(taps1, taps2, strict=True)):
        h = dense(f"stages.{k}.fc1", x1).relu() * dense(f"stages.{k}.fc2", x2).relu()
        assert h.shape[1] == 16
        delta = dense(f"stages.{k}.delta", x1 * x2).tanh()
        outputs.append((dense(f"stages.{k}.p", h).relu(), dense(f"stages.{k}.eta", h).tanh(), delta))
    return outputs


def softmax_stage(logits):
    p = logits.exp() / logits.exp().sum(1, keepdim=True)
    return [(p, torch.zeros_like(p), torch.zeros_like(p[:, :1]))]


def dex_network(state, x):
    _, _, dense = functions_of(state, 1e-3)
    features = [stream for both in authors_features(state, x) for stream in both]
    return softmax_stage(dense("stages.0.fc", torch.cat(features, 1)))


def wide_network(state, x):
    conv, block, dense = functions_of(state, 1e-3)
    taps = []
    for stream, act, pool in (("stream1", F.relu, F.avg_pool2d), ("stream2", torch.tanh, F.max_pool2d)):
        shallow = pool(act(block(f"{stream}.0.0", x)), 2)
        shallow = pool(act(block(f"{stream}.0.2", shallow)), 2)
        middle = pool(act(block(f"{stream}.1.0", shallow)), 2)
        middle = middle + act(block(f"{stream}.1.2", middle, padding=1))
        deep = pool(act(block(f"{stream}.2.0", middle)), 2)
        deep = deep + act(block(f"{stream}.2.2", deep, padding=1))
        taps.append((deep, middle, shallow))

    outputs = []
    for k, (tap1, tap2, size) in enumerate(zip(*taps, (1, 3, 7), strict=True)):
        x1 = F.avg_pool2d(conv(f"fusions.{k}.conv1", tap1).relu(), size).flatten(1)
        x2 = F.max_pool2d(conv(f"fusions.{k}.conv2", tap2).relu(), size).flatten(1)
        h = dense(f"stages.{k}.fc1", x1).relu() * dense(f"stages.{k}.fc2", x2).relu()
        delta = dense(f"stages.{k}.delta", x1 * x2).tanh()
        outputs.append((dense(f"stages.{k}.p", h).relu(), dense(f"stages.{k}.eta", h).tanh(), delta))
    return outputs


def resnet_network(state, x):
    def conv(name, norm, x, stride, padding):
        x = F.conv2d(x, state[f"{name}.weight"], stride=stride, padding=padding)
        statistics = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
        return F.batch_norm(x, *statistics, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=1e-5)

    x = F.max_pool2d(conv("conv1", "bn1", x, 2, 0).relu(), 3, 2)
    for block in ("layer1.0", "layer2.0", "layer2.1", "layer3.0", "layer3.1"):
        narrows = block in ("layer2.0", "layer3.0")
        y = conv(f"{block}.conv1", f"{block}.bn1", x, 1 + narrows, 1 - narrows).relu()
        y = conv(f"{block}.conv2", f"{block}.bn2", y, 1, 1)
        if narrows:
            x = F.avg_pool2d(x, 2)
            x = torch.cat([x, torch.zeros_like(x)], 1)
            # dlib lays the smaller of both into the corner of the larger one
            y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        x = (x + y).relu()
    return softmax_stage(x.mean((2, 3)) @ state["fc.weight"].T + state["fc.bias"])


def vgg_network(state, x):
    conv, _, dense = functions_of(state, None)
    layer = 0
    for depth in (2, 2, 3, 3, 3):
        for _ in range(depth):
            x = conv(f"features.{layer}", F.pad(x, (1, 1, 1, 1))).relu()
            layer += 2
        x = F.max_pool2d(x, 2)
        layer += 1
    x = conv("pre_logits.fc1", F.adaptive_avg_pool2d(x, 7)).relu()
    return softmax_stage(dense("head.fc", conv("pre_logits.fc2", x).relu().flatten(1)))


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("ssrnet", authors_network),
        ("ssrnet_gender", authors_network),
        ("ssrnet_blog", posts_network),
        ("ssrnet_dex", dex_network),
        ("ssrnet_wide", wide_network),
        ("dex_vgg16", vgg_network),
        ("dex_resnet10", resnet_network),
    ],
)
@torch.no_grad()
def test_network_is_that_of_its_origin(name, network):
    model = lively(name)
    model.train()(inputs(model, 4))  # running statistics that differ from those of a fresh model
    x = inputs(model.eval())
    for stage, expected in zip(model.forward_stages(x).stages, network(model.state_dict(), x), strict=True):
        torch.testing.assert_close((stage.p, stage.eta, stage.delta), expected)


@two_stream
def test_batch_statistics_move_as_in_keras(model):
    # what Keras calls a momentum of 0.99
    assert {norm.momentum for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.01}


def test_ssrnet_gender_is_ssrnet_but_for_its_range():
    model, gender = lively("ssrnet"), make("ssrnet_gender").double().eval()
    gender.load_state_dict(model.state_dict())
    x = inputs(model)
    (age, stages), (score, scored) = model.forward_stages(x), gender.forward_stages(x)
    torch.testing.assert_close(101 * score, age)
    for a, b in zip(stages, scored, strict=True):
        assert_equal_tensors((a.p, a.eta, a.delta), (b.p, b.eta, b.delta))
        torch.testing.assert_close(a.width, 101 * b.width)
    assert make("ssrnet_gender", V=2).V == 2


def test_dropout_is_on_all_that_p_and_eta_read_and_not_on_delta(name):
    model = lively(name, drop_rate=1.0)
    x = inputs(model)
    for norm in model.train().modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eval()
    dropped, kept = model.forward_stages(x).stages, model.eval().forward_stages(x).stages
    for a, b in zip(dropped, kept, strict=True):
        assert_equal_tensors((a.p, a.eta), (a.p[:1].expand_as(a.p), a.eta[:1].expand_as(a.eta)))
        assert b.p.std(0).any()
        assert_equal_tensors(a.delta, b.delta)


@pytest.mark.parametrize(("name", "shared"), [("ssrnet", True), ("ssrnet_blog", False)])
def test_whether_p_and_eta_share_dropout_masks(name, shared):
    model = lively(name, drop_rate=0.5)
    for stage in model.stages:
        stage.eta.load_state_dict(stage.p.state_dict())
    x = inputs(model)
    for training in (False, True):
        stages = model.train(training).forward_stages(x).stages
        assert all(stage.p.any() for stage in stages)
        same = [torch.allclose(stage.p.tanh(), stage.eta.relu()) for stage in stages]
        assert all(same) if shared or not training else not any(same)


def test_fresh_model_stands_on_the_fixed_grid(name, model, x):
    age, stages = model.forward_stages(x)
    width = RANGE[name]
    for stage, s in zip(stages, STAGE_BINS[name], strict=True):
        width /= s
        assert not stage.eta.any() and not stage.delta.any()
        torch.testing.assert_close(stage.width, torch.full_like(age, width))
    assert ((age > 0) & (age < RANGE[name])).all()


@one_stage
def test_fresh_stage_is_near_the_uniform_distribution(name, model, x):
    (stage,) = model.forward_stages(x).stages
    assert stage.p.max() < 1.5 / STAGE_BINS[name][0]


@three_stages
def test_without_dynamic_range_there_are_no_weights_for_it(name):
    keys = make(name, dynamic_range=False).state_dict().keys()
    dropped = make(name).state_dict().keys() - keys
    assert dropped and all("eta" in key or "delta" in key for key in dropped)
    assert not [key for key in keys if "eta" in key.split(".") or "delta" in key.split(".")]


@two_stream
@pytest.mark.parametrize("img_size", [96, (80, 72)])
def test_img_size(name, img_size):
    model = make(name, img_size=img_size).eval()
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    assert model.img_size == (height, width)
    x = torch.randn(2, 3, height, width)
    assert model(x).shape == (2, 1)
    assert model.forward_features(x).shape == (2, model.num_features)
    with pytest.raises(AssertionError, match=str(height)):
        model(torch.randn(2, 3, 64, 64))


@two_stream
def test_img_size_too_small(name):
    with pytest.raises(ValueError, match="too small"):
        make(name, img_size=16)


# scripting, tracing, exporting, compiling


def test_torchscript(name):
    model = lively(name, num_classes=2)
    x = inputs(model)
    scripted = torch.jit.script(model)
    assert_equal_tensors(scripted(x), model(x))
    assert_equal_stages(scripted.forward_stages(x), model.forward_stages(x))


def test_torchscript_of_features(name):
    model = make(name, num_classes=0).eval()
    x = inputs(model)
    assert_equal_tensors(torch.jit.script(model)(x), model(x))


@three_stages
def test_torchscript_without_dynamic_range(name):
    model = make(name, dynamic_range=False).eval()
    x = inputs(model)
    assert_equal_tensors(torch.jit.script(model)(x), model(x))


def test_fx(name):
    model = lively(name)
    x = inputs(model)
    *_, last = timm.models.get_graph_node_names(model)[1]
    (age,) = timm.models.create_feature_extractor(model, [last])(x).values()
    assert_equal_tensors(age, model(x))


@two_stream
def test_fx_without_leaf_modules(name):
    model = lively(name)
    x = inputs(model)
    assert_equal_tensors(torch.fx.symbolic_trace(model)(x), model(x))


def test_export_with_dynamic_batch(name):
    model = lively(name)
    program = torch.export.export(model, (inputs(model, 2),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    x = inputs(model, 5)
    torch.testing.assert_close(program.module()(x), model(x))


def test_compile_without_graph_breaks(name):
    model = lively(name)
    x = inputs(model)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))
    torch._dynamo.reset()


# precision and devices


def test_autocast_answers_in_the_precision_of_the_weights(name, model, x):
    x = small(name, x)
    expected = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        age = model(x)
        stages = model.forward_stages(x).stages
    assert age.dtype == torch.float32
    assert all(v.dtype == torch.float32 for stage in stages for v in stage)
    assert not torch.equal(age, expected)  # it did run in bfloat16
    torch.testing.assert_close(age, expected, rtol=0.05, atol=model.V / 100)


def test_autocast_leaves_bins_where_delta_is_low():
    model = make("ssrnet").eval()
    with torch.no_grad():
        for head in model.stages:
            head.delta.bias.fill_(-5.0)
    with torch.autocast("cpu", torch.bfloat16):
        stages = model.forward_stages(inputs(model)).stages
    assert all((stage.delta > -1).all() and stage.width.isfinite().all() for stage in stages)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype(name, dtype):
    model = make(name, dtype=dtype).eval()
    assert {v.dtype for v in model.state_dict().values() if v.is_floating_point()} == {dtype}
    assert model(small(name, inputs(model))).dtype == dtype
    converted = make(name).eval()
    converted(small(name, inputs(converted)))
    assert converted.to(dtype)(small(name, inputs(converted))).dtype == dtype


def test_meta_device(name):
    model = make(name, device="meta", dtype=torch.float64).eval()
    tensors = [*model.parameters(), *model.buffers()]
    assert all(v.is_meta for v in tensors)
    assert {v.dtype for v in tensors if v.is_floating_point()} == {torch.float64}
    assert model(torch.randn(2, 3, side(name), side(name), device="meta", dtype=torch.float64)).shape == (2, 1)


# features


def test_forward_head(name, model, x):
    shape, hidden = FEATURES[name]
    features = model.forward_features(x)
    assert features.shape == (2, *shape)
    assert model.num_features == shape[0]
    assert_equal_tensors(model.forward_head(features), model(x))
    assert model.forward_head(features, pre_logits=True).shape == (2, hidden)
    assert model.head_hidden_size == hidden


@two_stream
def test_features_are_all_that_the_stages_read(model, x):
    features = model.forward_features(x)
    assert_equal_tensors(model.forward_head(features, pre_logits=True), features)


def test_without_classes_the_model_answers_its_features(name, model, x):
    bare = make(name, num_classes=0).eval()
    bare.load_state_dict(model.state_dict(), strict=False)
    assert not list(bare.get_classifier().parameters())
    assert_equal_tensors(bare(x), model.forward_head(model.forward_features(x), pre_logits=True))
    model.reset_classifier(0)
    assert_equal_tensors(model(x), bare(x))
    for headless in (bare, model):
        with pytest.raises(AssertionError, match="num_classes=0"):
            headless.forward_stages(x)


@pytest.mark.parametrize("kwargs", [{}, {"feature_cls": "getter"}, {"feature_cls": "fx"}, {"feature_cls": "hook"}])
def test_features_only(name, kwargs):
    model = make(name, features_only=True, **kwargs).eval()
    x = torch.randn(2, 3, side(name), side(name))
    assert model.feature_info.channels() == [shape[0] for _, shape in TAPS[name]]
    assert model.feature_info.reduction() == [reduction for reduction, _ in TAPS[name]]
    assert [tuple(tap.shape) for tap in model(x)] == [(2, *shape) for _, shape in TAPS[name]]

    last = make(name, features_only=True, out_indices=(-1,), **kwargs).eval()
    last.load_state_dict(model.state_dict(), strict=False)
    (tap,) = last(x)
    assert_equal_tensors(tap, model(x)[-1])


def test_forward_intermediates(name, model, x):
    features, taps = model.forward_intermediates(x)
    assert_equal_tensors(features, model.forward_features(x))
    assert [tuple(tap.shape[1:]) for tap in taps] == [shape for _, shape in TAPS[name]]

    for indices, expected in (
        (1, taps[-1:]),
        (2, taps[-2:]),
        ([0], taps[:1]),
        ([0, 2], [taps[0], taps[2]]),
        ([-1], taps[-1:]),
    ):
        assert_equal_tensors(model.forward_intermediates(x, indices, intermediates_only=True), expected)
        assert_equal_tensors(model.forward_intermediates(x, indices, stop_early=True)[1], expected)


def test_forward_intermediates_refuses(name, model, x):
    count = len(TAPS[name])
    for kwargs in ({"indices": count + 1}, {"indices": 0}, {"indices": [count]}, {"output_fmt": "NLC"}):
        with pytest.raises((ValueError, AssertionError)):
            model.forward_intermediates(x, **kwargs)


@pytest.mark.parametrize("level", [0, 1, -1])
def test_prune(name, model, x, level):
    index = range(len(TAPS[name]))[level]
    taps = model.forward_intermediates(x, intermediates_only=True)
    full = sum(weight.numel() for weight in model.parameters())
    take = model.prune_intermediate_layers([index])
    assert take == [index]
    assert_equal_tensors(model.forward_intermediates(x, take, intermediates_only=True), [taps[index]])
    assert_equal_tensors(model.forward_features(x), taps[index])
    assert_equal_tensors(model(x), taps[index])
    assert sum(weight.numel() for weight in model.parameters()) < full

    model.train().forward_features(x).sum().backward()
    assert not [key for key, weight in model.named_parameters() if weight.grad is None]


def test_prune_can_keep_the_head(name, model, x):
    expected = model(x)
    model.prune_intermediate_layers([len(TAPS[name]) - 1], prune_head=False)
    assert_equal_tensors(model(x), expected)


# what trainers ask of a model


def test_reset_classifier(name):
    model = make(name, drop_rate=0.0).double().train()
    full = sum(weight.numel() for weight in model.parameters())
    for n in (0, 5, 1):
        model.reset_classifier(n)
        assert model.num_classes == n
        assert len(list(model.get_classifier().parameters())) > 0 or n == 0
        assert model(inputs(model)).shape == (2, n or model.head_hidden_size)
        assert {weight.dtype for weight in model.parameters()} == {torch.float64}
        assert all(module.training for module in model.modules())
    assert sum(weight.numel() for weight in model.parameters()) == full

    model.eval().to("meta").reset_classifier(2)
    assert all(weight.is_meta for weight in model.parameters())
    assert not any(module.training for module in model.modules())


def test_reset_classifier_keeps_the_rest_frozen(model):
    model.requires_grad_(False)
    model.reset_classifier(0)
    assert not [key for key, weight in model.named_parameters() if weight.requires_grad]
    model.reset_classifier(2)
    head = {id(weight) for weight in model.get_classifier().parameters()}
    assert head == {id(weight) for weight in model.parameters() if weight.requires_grad}


@two_stream
def test_reset_classifier_has_no_pooling_to_offer(model):
    model.reset_classifier(2, None)
    with pytest.raises(ValueError, match="avg"):
        model.reset_classifier(2, "avg")


@pytest.mark.parametrize("coarse", [False, True])
def test_group_matcher(model, x, coarse):
    matcher = model.group_matcher(coarse=coarse)
    patterns = [p for spec in matcher.values() for p in ([spec] if isinstance(spec, str) else [s[0] for s in spec])]
    model.forward_features(x).sum().backward()
    head = {key for key, weight in model.named_parameters() if weight.grad is None}
    # timm takes what no pattern names for the head
    keys = {key for key, _ in model.named_parameters()}
    assert head == {key for key in keys if not any(re.match(pattern, key) for pattern in patterns)}

    layers = timm.models.group_parameters(model, matcher, reverse=True)
    assert layers.keys() == keys
    assert {layers[f"{conv}.weight"] for conv in layers_named(model.pretrained_cfg, "first_conv")} == {0}
    last = max(layers.values())
    assert {layers[key] for key in head} == {last}
    assert last >= (2 if coarse else 3)


@two_stream
def test_grad_checkpointing_changes_nothing(name):
    plain = make(name).train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.set_grad_checkpointing()
    x = inputs(plain, 8)
    taken = []
    for model in (plain, checkpointed):
        torch.manual_seed(1)  # of the dropout
        age = model(x)
        age.sum().backward()
        torch.optim.SGD(model.parameters(), lr=1e-4).step()
        taken.append((age, {key: weight.grad for key, weight in model.named_parameters()}))
    torch.testing.assert_close(taken[1], taken[0])
    # the weights after the step, the running statistics and how many batches they have seen
    torch.testing.assert_close(checkpointed.state_dict(), plain.state_dict())
    counts = [v for key, v in checkpointed.state_dict().items() if key.endswith("num_batches_tracked")]
    assert counts and all(count == 1 for count in counts)
    assert all(norm.track_running_stats for norm in checkpointed.modules() if isinstance(norm, nn.BatchNorm2d))


@two_stream
def test_grad_checkpointing_keeps_fewer_activations(model, x):
    def saved():
        count = 0

        def pack(tensor):
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model.train()(x)
        return count

    plain = saved()
    model.set_grad_checkpointing()
    assert saved() < plain / 2
    model.set_grad_checkpointing(False)
    assert saved() == plain


# timm


def test_timm_lists_the_architectures():
    assert "ssrnet" in timm.list_models("ssrnet*")
    assert set(zoo.list_architectures()) == set(PARAMETERS) <= set(timm.list_models())
    assert set(zoo.list_models(include_hub=True)) <= set(timm.list_pretrained())


def ask_timm(*imports, **kwargs):
    """What timm lists and takes for the default of ssrnet, in a process of its own that has these modules alone."""
    code = f"""
import warnings
warnings.filterwarnings("error", category=UserWarning)
import {", ".join(imports)}
import json, timm
modules = ["ssrnet", "dex"]
lists = timm.list_models(module=modules), [n for n in timm.list_models(module=modules, pretrained=True) if "." in n]
default = timm.create_model("ssrnet").pretrained_cfg
print(json.dumps([*lists, default.get("tag"), default.get("license"), default.get("file"), default["mean"]]))
"""
    done = run_program("-c", code, **kwargs)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_model_files_need_nothing_of_the_package(tmp_path):
    (tmp_path / "models").mkdir()
    for name in ("architectures", "layers", "ssrnet", "dex"):
        shutil.copy(Path(zoo.__file__).with_name(f"{name}.py"), tmp_path / "models")
    answer = ask_timm("models.ssrnet", "models.dex", cwd=tmp_path)
    assert answer == [zoo.list_architectures(), [], None, None, None, [0.5, 0.5, 0.5]]


def test_weights_are_tags_whatever_is_imported_first():
    weights = zoo.ZOO["ssrnet.utkface_fairface_aaf"]
    file = str(weights.folder / "model.safetensors")
    known, pretrained, *default = ask_timm(SSRNet.__module__)
    assert known == zoo.list_architectures()
    assert pretrained == zoo.list_models(include_hub=True)
    assert default == [weights.name.split(".")[1], weights.license, file, [0.5, 0.5, 0.5]]


def test_config_names_layers_that_exist(name, model):
    cfg, keys = model.pretrained_cfg, model.state_dict().keys()
    assert cfg["num_classes"] == model.num_classes
    assert tuple(cfg["input_size"]) == (model.in_chans, SIDE[name], SIDE[name])
    assert cfg["fixed_input_size"] == (name in TWO_STREAM)
    for field in ("classifier", "first_conv"):
        assert all(f"{layer}.weight" in keys for layer in layers_named(cfg, field))


def assert_loads(create, model):
    """What loads the weights of ``model`` also loads them into its kin."""
    x = inputs(model)
    assert_equal_tensors(create().eval()(x), model(x))

    features = model.forward_features(x)
    bare = create(num_classes=0).eval()
    assert_equal_tensors(bare(x), model.forward_head(features, pre_logits=True))

    five = create(num_classes=5).eval()
    assert five(x).shape == (2, 5)
    assert_equal_tensors(five.forward_features(x), features)

    # the weights of the three channels are added, so a grey picture reads the same
    grey = create(in_chans=1).eval()
    torch.testing.assert_close(grey(x[:, :1]), model(x[:, :1].expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-3)

    taps = create(features_only=True).eval()(x)
    assert_equal_tensors(taps, model.forward_intermediates(x, intermediates_only=True))


def test_weights_from_a_file(name, tmp_path):
    model = lively(name).float()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    overlay = {"file": str(tmp_path / "model.safetensors")}
    assert_loads(partial(make, name, pretrained=True, pretrained_cfg_overlay=overlay), model)


@pytest.mark.parametrize("name", EMBEDDED)
def test_pretrained(name):
    model = timm.create_model(name, pretrained=True).eval()
    x = inputs(model)
    assert not torch.equal(model(x), timm.create_model(name).eval()(x))
    assert_loads(partial(timm.create_model, name, pretrained=True), model)


@pytest.mark.parametrize("name", ["ssrnet", "ssrnet_wide"])
def test_default_weights_of_an_architecture(name):
    assert timm.create_model(name, pretrained=True).pretrained_cfg["tag"] == zoo.DEFAULT.split(".")[1]


@pytest.mark.parametrize("name", [name for name in zoo.list_models(include_hub=True) if name not in EMBEDDED])
def test_weights_on_the_hub_want_an_owner(name, monkeypatch):
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(HFValidationError, match=zoo.OWNER_VARIABLE):
        timm.create_model(name, pretrained=True)
    assert not asked


def test_transform_reads_the_whole_chip(name):
    data = timm.data.resolve_model_data_config(timm.create_model(name, device="meta"))
    side = SIDE[name]
    assert data["input_size"] == (3, side, side)
    assert data["crop_pct"] == 1.0
    chip = Image.new("RGB", (2 * side, 2 * side))
    chip.paste("white", (0, 0, 8, 8))
    x = timm.data.create_transform(**data)(chip)
    assert x.shape == (3, side, side)
    white, black = ((v - torch.tensor(data["mean"])) / torch.tensor(data["std"]) for v in (1.0, 0.0))
    torch.testing.assert_close(x[:, 0, 0], white)
    torch.testing.assert_close(x[:, -1, -1], black)
