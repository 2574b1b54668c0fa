"""Register the zoo's weights with timm, and create models of this package."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Optional, Union

import timm
from timm.models import generate_default_cfgs, register_model
from torch import nn

from ..errors import ArchitectureError
from . import dex, ssrnet
from .dex import DEXVGG, DEXResNet
from .ssrnet import SSRNet
from .zoo import weights_of

__all__ = ["AgeModel", "assert_age_model", "new_model"]

AgeModel = Union[SSRNet, DEXVGG, DEXResNet]
"""A model of this package, for type checkers."""


def _register_weights() -> None:
    """Register the architectures again, with their weights as tags, which the models' own modules do not know."""
    for module in (ssrnet, dex):
        for architecture, bare in list(module.default_cfgs.items()):
            cfgs = {name: replace(bare.default, **origin) for name, origin in weights_of(architecture).items()}
            if cfgs:
                module.default_cfgs.update(generate_default_cfgs(cfgs))
                with warnings.catch_warnings():
                    # timm warns of every repeated registration
                    message = re.escape(f"Overwriting {architecture} in registry with {module.__name__}.")
                    warnings.filterwarnings("ignore", message, UserWarning)
                    register_model(getattr(module, architecture))


_register_weights()


def new_model(
    architecture: str,
    drop_rate: Optional[float] = None,
    model_args: Optional[Mapping[str, Any]] = None,
    **pretrained_cfg: Any,
) -> AgeModel:
    """Create a model with random weights, in training mode.

    Args:
        architecture: One of `zoo.list_architectures`.
        drop_rate: Dropout. Default: that of the architecture.
        model_args: Other arguments of the model's constructor.
        **pretrained_cfg: Entries of timm's config that replace the architecture's defaults. Tag, license, and origin of
            the default weights are removed.
    """
    overlay = {"tag": None, "license": None, "file": None, "hf_hub_id": None, **pretrained_cfg}
    args = {"drop_rate": drop_rate, **(model_args or {})}
    return assert_age_model(timm.create_model(architecture, pretrained_cfg_overlay=overlay, **args))


def assert_age_model(model: nn.Module) -> AgeModel:
    """Return a model created by timm, with its type narrowed for type checkers.

    Raises:
        ArchitectureError: The model is not from this package.
    """
    if not isinstance(model, (SSRNet, DEXVGG, DEXResNet)):
        raise ArchitectureError(f"A {type(model).__name__} is not an age model of this package.")
    return model
