"""The weights that have a name."""

from pathlib import Path
from typing import Optional

import timm

from . import ssrnet  # noqa: F401  registers the architectures

__all__ = ["DEFAULT", "embedded_folder", "list_architectures", "list_models"]

DEFAULT = "ssrnet.utkface"
"""Name of the weights that `from_pretrained` loads when given none."""

_MODULES = ("ssrnet",)


def list_models(pattern: str = "") -> list[str]:
    """Names of the zoo, ``architecture.tag``, that match a wildcard pattern (all without one)."""
    return [name for name in timm.list_models(pattern, module=_MODULES, pretrained=True) if "." in name]


def list_architectures() -> list[str]:
    """Names of the architectures of this package, for `timm.create_model`."""
    return timm.list_models(module=_MODULES)


def embedded_folder(name: str) -> Optional[Path]:
    """The folder of weights that are part of this package, or None."""
    if name not in list_models():
        return None
    file = timm.get_pretrained_cfg(name).file
    return Path(file).parent if file else None
