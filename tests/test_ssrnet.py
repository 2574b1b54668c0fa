"""What every architecture of the package promises, as a model of timm and as a stagewise regression.

An architecture is tested by being registered; its figures go to the tables here.
"""

import copy
import re

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from ssrnet_hub import zoo

PARAMETERS = {"ssrnet": 40_531}
FEATURES = {"ssrnet": 680}
TAPS = {"ssrnet": [(32, 31, 31), (32, 14, 14), (32, 4, 4)]}

EMBEDDED = [name for name in zoo.list_models() if zoo.embedded_folder(name)]


@pytest.fixture(params=zoo.list_architectures())
def name(request):
    return request.param


@pytest.fixture
def model(name):
    return timm.create_model(name).eval()


@pytest.fixture
def x(model):
    return torch.randn(2, *model.pretrained_cfg["input_size"])


def lively(name, **kwargs):
    """A model whose p, eta and delta differ from bin to bin and face to face; a fresh one stands on the fixed grid."""
    model = timm.create_model(name, **kwargs).double().eval()
    for weight in model.get_classifier().parameters():
        nn.init.normal_(weight, std=0.3)
    for key, bias in model.get_classifier().named_parameters():
        if re.search(r"fc\d?\.bias$|p\.bias$", key):
            nn.init.constant_(bias, 1.0)  # alive through every ReLU
    return model


def inputs(model, batch=4):
    like = next(model.parameters())
    return torch.randn(batch, model.in_chans, *model.img_size, dtype=like.dtype)


def assert_equal_tensors(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


def assert_equal_stages(actual, expected):
    assert_equal_tensors(actual.age, expected.age)
    assert len(actual.stages) == len(expected.stages)
    for a, e in zip(actual.stages, expected.stages, strict=True):
        assert_equal_tensors(tuple(a), tuple(e))


# forward and backward


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("num_classes", [1, 5])
def test_forward(name, batch, num_classes):
    model = timm.create_model(name, num_classes=num_classes).eval()
    age = model(inputs(model, batch))
    assert age.shape == (batch, num_classes)
    assert age.isfinite().all()


def test_faces_do_not_see_each_other(name):
    model = lively(name)
    x = inputs(model)
    torch.testing.assert_close(model(x), torch.cat([model(face[None]) for face in x]))


def test_backward_reaches_every_parameter(name):
    model = timm.create_model(name, num_classes=5, drop_rate=0.0).train()
    model(inputs(model)).mean().backward()
    missing = [key for key, weight in model.named_parameters() if weight.grad is None]
    assert not missing
    still = [key for key, weight in model.get_classifier().named_parameters() if not weight.grad.any()]
    assert not still


def test_parameter_count(name, model):
    assert sum(weight.numel() for weight in model.parameters()) == PARAMETERS[name]


def test_dropout_in_training_alone(name):
    model = timm.create_model(name, drop_rate=0.5)
    x = inputs(model)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


def test_in_chans(name):
    model = timm.create_model(name, in_chans=1).eval()
    assert model.in_chans == 1
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 1)


def test_wrong_size_is_refused(model):
    height, width = model.img_size
    with pytest.raises(AssertionError, match=rf"\b{height}\b.*\b{height + 1}\b"):
        model(torch.randn(1, 3, height + 1, width))
    with pytest.raises(AssertionError, match=rf"\b{width}\b.*\b{width - 2}\b"):
        model(torch.randn(1, 3, height, width - 2))


def test_unknown_argument(name):
    with pytest.raises(TypeError, match="no_such_argument"):
        timm.create_model(name, no_such_argument=1)


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


@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize(
    "args",
    [
        {},
        {"stage_bins": (4, 4, 4)},
        {"stage_bins": (5, 2, 3), "V": 10.0},
        {"V": 1, "lambda_local": 0.5},
        {"lambda_d": 0.25},
        {"dynamic_range": False},
    ],
    ids=str,
)
def test_stages_follow_the_paper(name, args, num_classes):
    model = lively(name, num_classes=num_classes, **args)
    x = inputs(model)
    with torch.no_grad():
        age, stages = model.forward_stages(x)
        assert torch.equal(age, model(x))
    torch.testing.assert_close(age, sum(stage.contribution for stage in stages))

    n = () if num_classes == 1 else (num_classes,)
    for stage, s in zip(stages, args.get("stage_bins", (3, 3, 3)), strict=True):
        assert stage.p.shape == stage.eta.shape == (4, *n, s)
        assert stage.delta.shape == stage.width.shape == stage.contribution.shape == (4, num_classes)
        assert (stage.p >= 0).all()
        assert (stage.eta.abs() < 1).all() and (stage.delta.abs() < 1).all()
        assert stage.p.any()
        if args.get("dynamic_range", True):
            assert stage.eta.std() > 1e-3 and stage.delta.std() > 1e-3
        else:
            assert not stage.eta.any() and not stage.delta.any()

    expected, parts = paper_age(stages, args.get("V", 101), args.get("lambda_local", 1), args.get("lambda_d", 1))
    np.testing.assert_allclose(age.numpy(), expected, rtol=1e-12)
    for stage, (width, contribution) in zip(stages, parts, strict=True):
        np.testing.assert_allclose(stage.width.numpy(), width, rtol=1e-12)
        np.testing.assert_allclose(stage.contribution.numpy(), contribution, rtol=1e-12, atol=1e-12)


def authors_network(state, x):
    """p, eta and delta of the authors' network for each stage, from a state dict of ours, as one functional program."""

    def conv(key, x):
        return F.conv2d(x, state[f"{key}.weight"], state[f"{key}.bias"])

    def dense(key, x):
        return F.linear(x, state[f"{key}.weight"], state[f"{key}.bias"])

    def block(key, x):
        x, bn = conv(f"{key}.conv", x), f"{key}.bn"
        mean, var, weight, bias = (state[f"{bn}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias, eps=1e-3)

    taps = []
    for stream, act, pool in (("stream1", F.relu, F.avg_pool2d), ("stream2", torch.tanh, F.max_pool2d)):
        shallow = pool(act(block(f"{stream}.0.0", x)), 2)
        middle = pool(act(block(f"{stream}.1.0", shallow)), 2)
        deep = act(block(f"{stream}.2.2", pool(act(block(f"{stream}.2.0", middle)), 2)))
        taps.append((deep, middle, shallow))

    outputs = []
    for k, (tap1, tap2, size) in enumerate(zip(*taps, (1, 4, 8), strict=True)):
        x1 = F.avg_pool2d(conv(f"fusions.{k}.conv1", tap1).relu(), size).flatten(1)
        x2 = F.max_pool2d(conv(f"fusions.{k}.conv2", tap2).relu(), size).flatten(1)
        delta = dense(f"stages.{k}.delta", x1 * x2).tanh()
        h = dense(f"stages.{k}.fc1", x1).relu() * dense(f"stages.{k}.fc2", x2).relu()
        h = dense(f"stages.{k}.fc", h).relu()
        outputs.append((dense(f"stages.{k}.p", h).relu(), dense(f"stages.{k}.eta", h).tanh(), delta))
    return outputs


def test_ssrnet_is_the_network_of_the_authors():
    model = lively("ssrnet")
    model.train()(inputs(model, 16))  # running statistics that differ from those of a fresh model
    x = inputs(model.eval())
    for stage, expected in zip(model.forward_stages(x).stages, authors_network(model.state_dict(), x), strict=True):
        torch.testing.assert_close((stage.p, stage.eta, stage.delta), expected)
    # what Keras calls a momentum of 0.99
    assert {norm.momentum for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)} == {0.01}


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


def test_fresh_model_stands_on_the_fixed_grid(model, x):
    age, stages = model.forward_stages(x)
    for k, stage in enumerate(stages, start=1):
        assert not stage.eta.any() and not stage.delta.any()
        torch.testing.assert_close(stage.width, torch.full_like(age, 101 / 3**k))
    assert ((age > 0) & (age < 101)).all()


def test_without_dynamic_range_there_are_no_weights_for_it(name):
    keys = timm.create_model(name, dynamic_range=False).state_dict().keys()
    dropped = timm.create_model(name).state_dict().keys() - keys
    assert dropped and all("eta" in key or "delta" in key for key in dropped)
    assert not [key for key in keys if "eta" in key.split(".") or "delta" in key.split(".")]


def test_stage_bins_of_another_count(name):
    with pytest.raises(ValueError, match="three stages"):
        timm.create_model(name, stage_bins=(3, 3))


@pytest.mark.parametrize("img_size", [96, (80, 72)])
def test_img_size(name, img_size):
    model = timm.create_model(name, img_size=img_size).eval()
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    assert model.img_size == (height, width)
    x = torch.randn(2, 3, height, width)
    assert model(x).shape == (2, 1)
    assert model.forward_features(x).shape == (2, model.num_features)
    with pytest.raises(AssertionError, match=str(height)):
        model(torch.randn(2, 3, 64, 64))


def test_img_size_too_small(name):
    with pytest.raises(ValueError, match="too small"):
        timm.create_model(name, img_size=16)


# scripting, tracing, exporting, compiling


def test_torchscript(name):
    model = lively(name, num_classes=2)
    x = inputs(model)
    scripted = torch.jit.script(model)
    assert_equal_tensors(scripted(x), model(x))
    assert_equal_stages(scripted.forward_stages(x), model.forward_stages(x))


@pytest.mark.parametrize("kwargs", [{"num_classes": 0}, {"dynamic_range": False}], ids=str)
def test_torchscript_of_variants(name, kwargs):
    model = timm.create_model(name, **kwargs).eval()
    x = inputs(model)
    assert_equal_tensors(torch.jit.script(model)(x), model(x))


def test_fx(name):
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


def test_autocast_answers_in_the_precision_of_the_weights(model, x):
    expected = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        age = model(x)
        stages = model.forward_stages(x).stages
    assert age.dtype == torch.float32
    assert all(v.dtype == torch.float32 for stage in stages for v in stage)
    assert not torch.equal(age, expected)  # it did run in bfloat16
    torch.testing.assert_close(age, expected, rtol=0.05, atol=1.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype(name, dtype):
    model = timm.create_model(name, dtype=dtype).eval()
    assert {v.dtype for v in model.state_dict().values() if v.is_floating_point()} == {dtype}
    assert model(inputs(model)).dtype == dtype
    converted = timm.create_model(name).eval()
    converted(inputs(converted))
    assert converted.to(dtype)(inputs(converted)).dtype == dtype


def test_meta_device(name):
    model = timm.create_model(name, device="meta", dtype=torch.float64).eval()
    tensors = [*model.parameters(), *model.buffers()]
    assert all(v.is_meta for v in tensors)
    assert {v.dtype for v in tensors if v.is_floating_point()} == {torch.float64}
    assert model(torch.randn(2, 3, 64, 64, device="meta", dtype=torch.float64)).shape == (2, 1)


# features


def test_forward_head(model, x):
    features = model.forward_features(x)
    assert features.shape == (2, model.num_features)
    assert torch.equal(model.forward_head(features), model(x))
    assert torch.equal(model.forward_head(features, pre_logits=True), features)


def test_num_features(name, model):
    assert model.num_features == model.head_hidden_size == FEATURES[name]


def test_without_classes_the_model_answers_its_features(name, model, x):
    bare = timm.create_model(name, num_classes=0).eval()
    bare.load_state_dict(model.state_dict(), strict=False)
    assert not list(bare.get_classifier().parameters())
    assert_equal_tensors(bare(x), model.forward_features(x))
    model.reset_classifier(0)
    assert_equal_tensors(model(x), bare(x))


@pytest.mark.parametrize("kwargs", [{}, {"feature_cls": "getter"}, {"feature_cls": "fx"}, {"feature_cls": "hook"}])
def test_features_only(name, kwargs):
    model = timm.create_model(name, features_only=True, **kwargs).eval()
    x = torch.randn(2, 3, 64, 64)
    assert model.feature_info.channels() == [shape[0] for shape in TAPS[name]]
    assert model.feature_info.reduction() == [2, 4, 8]
    assert [tuple(tap.shape) for tap in model(x)] == [(2, *shape) for shape in TAPS[name]]

    last = timm.create_model(name, features_only=True, out_indices=(2,), **kwargs).eval()
    last.load_state_dict(model.state_dict(), strict=False)
    (tap,) = last(x)
    assert_equal_tensors(tap, model(x)[2])


def test_forward_intermediates(name, model, x):
    features, taps = model.forward_intermediates(x)
    assert_equal_tensors(features, model.forward_features(x))
    assert [tuple(tap.shape[1:]) for tap in taps] == TAPS[name]

    for indices, expected in ((1, taps[2:]), (2, taps[1:]), ([0], taps[:1]), ([0, 2], taps[::2]), ([-1], taps[2:])):
        assert_equal_tensors(model.forward_intermediates(x, indices, intermediates_only=True), expected)
        assert_equal_tensors(model.forward_intermediates(x, indices, stop_early=True)[1], expected)


@pytest.mark.parametrize("kwargs", [{"indices": 4}, {"indices": 0}, {"indices": [3]}, {"output_fmt": "NLC"}], ids=str)
def test_forward_intermediates_refuses(model, x, kwargs):
    with pytest.raises((ValueError, IndexError)):
        model.forward_intermediates(x, **kwargs)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_prune(name, model, x, index):
    taps = model.forward_intermediates(x, intermediates_only=True)
    full = sum(weight.numel() for weight in model.parameters())
    take = model.prune_intermediate_layers([index])
    assert take == [index]
    assert_equal_tensors(model.forward_intermediates(x, take, intermediates_only=True), [taps[index]])
    assert_equal_tensors(model.forward_features(x), taps[index])
    assert sum(weight.numel() for weight in model.parameters()) < full

    model.train().forward_features(x).sum().backward()
    assert not [key for key, weight in model.named_parameters() if weight.grad is None]


def test_prune_can_keep_the_head(model, x):
    expected = model(x)
    model.prune_intermediate_layers([2], prune_head=False)
    assert_equal_tensors(model(x), expected)


# what trainers ask of a model


def test_reset_classifier(name):
    model = timm.create_model(name, drop_rate=0.0).double().train()
    for n in (0, 5, 1):
        model.reset_classifier(n)
        assert model.num_classes == n
        assert len(list(model.get_classifier().parameters())) > 0 or n == 0
        assert model(inputs(model)).shape == (4, n or model.num_features)
        assert {weight.dtype for weight in model.parameters()} == {torch.float64}
        assert all(module.training for module in model.modules())
    assert sum(weight.numel() for weight in model.parameters()) == PARAMETERS[name]

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


def test_reset_classifier_has_no_pooling_to_offer(model):
    model.reset_classifier(2, None)
    with pytest.raises(ValueError, match="avg"):
        model.reset_classifier(2, "avg")


@pytest.mark.parametrize("coarse", [False, True])
def test_group_matcher(model, coarse):
    matcher = model.group_matcher(coarse=coarse)
    patterns = [p for spec in matcher.values() for p in ([spec] if isinstance(spec, str) else [s[0] for s in spec])]
    keys = [key for key, _ in model.named_parameters()]
    head = {id(weight) for weight in model.get_classifier().parameters()}
    # timm takes what no pattern names for the head
    unnamed = {key for key in keys if not any(re.match(pattern, key) for pattern in patterns)}
    assert unnamed == {key for key, weight in model.named_parameters() if id(weight) in head}

    layers = timm.models.group_parameters(model, matcher, reverse=True)
    assert layers.keys() == set(keys)
    assert {layers[f"{conv}.weight"] for conv in model.pretrained_cfg["first_conv"]} == {0}
    last = max(layers.values())
    assert {layers[key] for key, weight in model.named_parameters() if id(weight) in head} == {last}
    assert last >= (2 if coarse else 3)


def test_grad_checkpointing_changes_nothing(name):
    plain = timm.create_model(name).train()
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
    assert set(zoo.list_architectures()) <= set(timm.list_models())
    assert set(zoo.list_models()) <= set(timm.list_pretrained())


def test_config_names_layers_that_exist(model):
    cfg, keys = model.pretrained_cfg, model.state_dict().keys()
    assert cfg["num_classes"] == model.num_classes
    assert tuple(cfg["input_size"]) == (model.in_chans, *model.img_size)
    for field in ("classifier", "first_conv"):
        names = cfg[field]
        for layer in [names] if isinstance(names, str) else names:
            assert f"{layer}.weight" in keys


@pytest.mark.parametrize("name", EMBEDDED)
def test_pretrained(name):
    x = torch.randn(2, 3, 64, 64)
    model = timm.create_model(name, pretrained=True).eval()
    assert not torch.equal(model(x), timm.create_model(name).eval()(x))
    assert_equal_tensors(timm.create_model(name, pretrained=True).eval()(x), model(x))

    bare = timm.create_model(name, pretrained=True, num_classes=0).eval()
    assert_equal_tensors(bare(x), model.forward_features(x))

    five = timm.create_model(name, pretrained=True, num_classes=5).eval()
    assert five(x).shape == (2, 5)
    assert_equal_tensors(five.forward_features(x), model.forward_features(x))

    # the weights of the three channels are added, so a grey picture reads the same
    grey = timm.create_model(name, pretrained=True, in_chans=1).eval()
    torch.testing.assert_close(grey(x[:, :1]), model(x[:, :1].expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-3)

    taps = timm.create_model(name, pretrained=True, features_only=True).eval()(x)
    assert_equal_tensors(taps, model.forward_intermediates(x, intermediates_only=True))


def test_default_weights_of_the_architecture():
    model = timm.create_model("ssrnet", pretrained=True)
    assert f"ssrnet.{model.pretrained_cfg['tag']}" == zoo.DEFAULT


@pytest.mark.parametrize("name", zoo.list_architectures())
def test_transform_reads_the_whole_chip(name):
    data = timm.data.resolve_model_data_config(timm.create_model(name))
    assert data["input_size"] == (3, 64, 64)
    assert data["crop_pct"] == 1.0
    chip = Image.new("RGB", (128, 128))
    chip.paste("white", (0, 0, 8, 8))
    x = timm.data.create_transform(**data)(chip)
    assert x.shape == (3, 64, 64)
    white, black = ((v - torch.tensor(data["mean"])) / torch.tensor(data["std"]) for v in (1.0, 0.0))
    torch.testing.assert_close(x[:, 0, 0], white)
    torch.testing.assert_close(x[:, -1, -1], black)
