"""What a model costs, from its arguments, is what it costs when it is run; and what configs may ask for."""

import math

import pytest
import timm
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssrnet_hub.inference.torch_network import count_faces
from ssrnet_hub.models import zoo
from ssrnet_hub.models.architectures import model_arguments
from ssrnet_hub.models.config import _MODEL_ARGS
from ssrnet_hub.models.cost import LIMITS, Cost, count_cost, faces_at_once


def measure(model, size):
    """The cost of a model on the meta device, by running it."""
    answers = [math.prod(size)]
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda module, x, answer: answers.append(answer.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.empty(1, *size, device="meta"))
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2, sum(answers))


MODELS = [
    *(
        (name, {})
        for name in ("ssrnet", "ssrnet_gender", "ssrnet_wide", "ssrnet_blog", "ssrnet_dex", "dex_vgg16", "dex_resnet10")
    ),
    ("ssrnet", {"stage_bins": (5, 4)}),
    ("ssrnet", {"stage_bins": (7,), "num_classes": 3}),
    ("ssrnet", {"dynamic_range": False}),
    ("ssrnet", {"deep_first": False, "pool_sizes": (8, 4, 1)}),
    ("ssrnet", {"img_size": (80, 96), "in_chans": 1}),
    ("ssrnet", {"layout": ("CRP", "CPR", "C"), "chs": (2, 8, 6), "pool_sizes": (2, 3, 5)}),
    ("ssrnet", {"hidden": 5}),
    ("ssrnet", {"hidden": 5, "dynamic_range": False}),
    ("ssrnet", {"num_classes": 0}),
    ("ssrnet_wide", {"fused_chs": 3, "img_size": 128}),
    ("ssrnet_blog", {"pool_sizes": (6, 4, 2)}),
    ("ssrnet_dex", {"stage_bins": (20,), "num_classes": 2, "img_size": 70}),
    ("ssrnet_dex", {"num_classes": 0}),
    ("dex_vgg16", {"mlp_ratio": 0.1, "in_chans": 1}),
    ("dex_vgg16", {"num_classes": 0}),
    ("dex_resnet10", {"num_classes": 0, "in_chans": 1}),
    ("ssrnet_wide", {"layout": ("SSR", "SRR", "SRR"), "chs": (16, 32, 48, 64)}),
]


@pytest.mark.parametrize(("architecture", "args"), MODELS, ids=str)
def test_the_cost_is_that_of_the_model(architecture, args):
    model = timm.create_model(architecture, device="meta", **args)
    size = (model.in_chans, *getattr(model, "img_size", model.pretrained_cfg["input_size"][1:]))
    assert count_cost(architecture, **args) == measure(model, size)


@pytest.mark.parametrize("side", [32, 100, 223, 224, 256, 300])
def test_the_cost_at_other_sizes(side):
    model = timm.create_model("dex_vgg16", device="meta")
    assert count_cost("dex_vgg16", img_size=side) == measure(model, (3, side, side))


@pytest.mark.parametrize("architecture", zoo.list_architectures())
def test_every_architecture_is_known_and_within_its_limits(architecture):
    assert model_arguments(architecture) <= _MODEL_ARGS.keys()
    limits = LIMITS.get(architecture, LIMITS[None])
    assert all(cost <= limit for cost, limit in zip(count_cost(architecture), limits, strict=True))


def test_50_megabytes_of_weights_are_within_the_limits():
    args = {"layout": ("CPCP", "CPR", "CPR"), "chs": (24, 48, 384, 792), "pool_sizes": (1, 3, 7), "img_size": 96}
    cost = count_cost("ssrnet", **args)
    assert 48_000_000 < 4 * cost.parameters < 50_000_000
    assert all(cost <= limit for cost, limit in zip(cost, LIMITS[None], strict=True))


@pytest.mark.parametrize(
    ("architecture", "args"),
    [
        ("ssrnet", {"img_size": 20}),
        ("ssrnet", {"img_size": (64, 20)}),
        ("ssrnet", {"img_size": 5}),
        ("dex_vgg16", {"img_size": 31}),
    ],
)
def test_too_small_a_picture(architecture, args):
    with pytest.raises(ValueError, match="too small"):
        count_cost(architecture, **args)


def test_few_faces_at_once_of_a_costly_model():
    counts = {name: faces_at_once(name) for name in ("ssrnet", "ssrnet_wide", "dex_vgg16")}
    assert 256 > counts["ssrnet"] > counts["ssrnet_wide"] > 50 and counts["dex_vgg16"] == 2
    for side, most in ((64, 119), (200, 11)):
        model = timm.create_model("ssrnet", img_size=side, device="meta")
        activations = measure(model, (3, side, side)).activations
        assert (
            faces_at_once("ssrnet", img_size=side) == count_faces(model) == most
            and (most + 1) * activations > 32_000_000 >= most * activations
        )
    assert count_faces(nn.Linear(1, 1)) == 256
