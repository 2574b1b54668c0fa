"""Face age estimation with SSR-Net: timm models, pretrained weights, and a pipeline from photo to age."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .utils import after_import, telemetry  # noqa: F401  telemetry settings precede the libraries that read them

# isort: split
from .errors import SSRNetHubError
from .utils.torch_needed import torch_needed
from .utils.version import __version__

if TYPE_CHECKING:
    from .hub.loading import from_pretrained, save_pretrained
    from .hub.push import push_to_hub
    from .images.alignment import Framing
    from .inference.estimator import AgeEstimator, Face
    from .inference.stages import Stage
    from .inference.visualization import plot_breakdown
    from .models.dex import DEXVGG, SSRNetDEX
    from .models.ssrnet import SSRNet
    from .models.zoo import list_models

__all__ = [
    "DEXVGG",
    "AgeEstimator",
    "Face",
    "Framing",
    "SSRNet",
    "SSRNetDEX",
    "SSRNetHubError",
    "Stage",
    "__version__",
    "from_pretrained",
    "list_models",
    "plot_breakdown",
    "push_to_hub",
    "save_pretrained",
]

_HOMES = {
    "DEXVGG": "models.dex",
    "AgeEstimator": "inference.estimator",
    "Face": "inference.estimator",
    "Framing": "images.alignment",
    "SSRNet": "models.ssrnet",
    "SSRNetDEX": "models.dex",
    "Stage": "inference.stages",
    "from_pretrained": "hub.loading",
    "list_models": "models.zoo",
    "plot_breakdown": "inference.visualization",
    "push_to_hub": "hub.push",
    "save_pretrained": "hub.loading",
}
"""Modules of the names that are imported on first access, since importing PyTorch takes seconds."""

# `timm.create_model("ssrnet")` works whichever package is imported first; the hooks form a chain, so that none of them
# imports a module while another is only partially initialized
after_import.run(f"{__name__}.models.dex", lambda: import_module(".models.pretrained", __name__))
after_import.run(f"{__name__}.models.ssrnet", lambda: import_module(".models.dex", __name__))
after_import.run("timm", lambda: import_module(".models.ssrnet", __name__))


# hidden from type checkers, which would otherwise accept any attribute of this module
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            with torch_needed(f"ssrnet_hub.{name}"):
                value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
            return value
        if name in {home.partition(".")[0] for home in _HOMES.values()}:
            # makes `ssrnet_hub.models.pretrained` and the like available without an explicit import
            with torch_needed(f"ssrnet_hub.{name}"):
                for home in set(_HOMES.values()):
                    import_module(f".{home}", __name__)
            return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
