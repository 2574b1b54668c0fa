"""What is known of the architectures without PyTorch is what PyTorch and timm make of them."""

import dataclasses
import inspect

import pytest
import timm

from ssrnet_hub.models import zoo
from ssrnet_hub.models.architectures import ARCHITECTURES, complete_arguments, list_tensors, model_arguments
from ssrnet_hub.models.config import _PRETRAINED_CFG

from .test_cost import MODELS


def make(architecture, **args):
    return timm.create_model(architecture, device="meta", **args)


@pytest.mark.parametrize(("architecture", "args"), MODELS, ids=str)
def test_the_tensors_are_those_of_the_model(architecture, args):
    tensors = {name: tuple(value.shape) for name, value in make(architecture, **args).state_dict().items()}
    assert list_tensors(architecture, **args) == tensors


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_defaults_are_those_of_the_model(architecture):
    model = make(architecture)
    parameters = inspect.signature(type(model)).parameters
    assert model_arguments(architecture) == parameters.keys() - {"device", "dtype"}
    args = complete_arguments(architecture)
    # an entry point may have others than the class, which keeps those
    kept = {name: value for name, value in args.items() if hasattr(model, name) and name not in ("chs", "global_pool")}
    assert kept.keys() >= {"stage_bins", "V", "num_classes"}
    assert {name: getattr(model, name) for name in kept} == kept


def test_the_defaults_of_the_class():
    parameters = inspect.signature(type(make("ssrnet"))).parameters
    defaults = ARCHITECTURES["ssrnet"].defaults
    assert {name: p.default for name, p in parameters.items() if name in defaults} == defaults


def test_timm_lists_what_the_zoo_does():
    modules = ["ssrnet", "dex"]
    assert zoo.list_architectures() == timm.list_models(module=modules)
    for pattern in ("", "ssrnet", "ssrnet_gender*", "*.utkface", "*wide*", "nothing"):
        theirs = [name for name in timm.list_models(pattern, module=modules, pretrained=True) if name in zoo.ZOO]
        assert zoo.list_models(pattern, include_hub=True) == theirs


def test_configs_may_say_what_timm_knows():
    fields = dataclasses.fields(timm.get_pretrained_cfg("ssrnet"))
    assert {field.name for field in fields} == _PRETRAINED_CFG.keys()
