"""The weights that have a name."""

import inspect
from pathlib import Path
from typing import Any, Optional

import timm
from torch import nn

from . import ssrnet

__all__ = [
    "DEFAULT",
    "count_parameters",
    "embedded_folder",
    "list_architectures",
    "list_models",
    "model_arguments",
    "new_model",
]

DEFAULT = "ssrnet.utkface"
"""Name of the weights that `from_pretrained` loads when given none."""

_MODULES = ("ssrnet",)


def list_models(pattern: str = "") -> list[str]:
    """Names of the zoo, ``architecture.tag``, that match a wildcard pattern (all without one)."""
    return [name for name in timm.list_models(pattern, module=_MODULES, pretrained=True) if "." in name]


def list_architectures() -> list[str]:
    """Names of the architectures of this package, for `timm.create_model`."""
    return timm.list_models(module=_MODULES)


def model_arguments() -> set[str]:
    """Names of the constructor arguments that the config of weights may set."""
    return set(inspect.signature(ssrnet.SSRNet).parameters) - {"device", "dtype"}


def count_parameters(name: str) -> int:
    """Trainable parameters of an architecture, or of weights of the zoo by their name."""
    return sum(p.numel() for p in timm.create_model(name, device="meta").parameters())


def new_model(architecture: str, **pretrained_cfg: Any) -> nn.Module:
    """A model with random weights, in training mode.

    Args:
        architecture: One of `list_architectures`.
        **pretrained_cfg: What timm's config of the weights to come says otherwise than the architecture's default; of
            the default's origin it says nothing.
    """
    overlay = {"tag": None, "license": None, "file": None, **pretrained_cfg}
    return timm.create_model(architecture, pretrained_cfg_overlay=overlay)


def embedded_folder(name: str) -> Optional[Path]:
    """The folder of weights that are part of this package, or None."""
    if name not in list_models():
        return None
    file = timm.get_pretrained_cfg(name).file
    return Path(file).parent if file else None
