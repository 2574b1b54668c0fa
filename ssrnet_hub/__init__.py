"""SSR-Net, the age of a face in 40,531 parameters: models for timm, their weights, and photo to age."""

__version__ = "0.1.0"

from . import telemetry  # noqa: F401  before the libraries that it is about
from .dex import DEXVGG, SSRNetDEX
from .errors import SSRNetHubError
from .estimator import AgeEstimator, Face
from .framing import Framing
from .hub import from_pretrained, save_pretrained
from .plots import plot_breakdown
from .publish import push_to_hub
from .ssrnet import SSRNet
from .stages import Stage
from .zoo import list_models

__all__ = [
    "DEXVGG",
    "AgeEstimator",
    "Face",
    "Framing",
    "SSRNet",
    "SSRNetDEX",
    "SSRNetHubError",
    "Stage",
    "from_pretrained",
    "list_models",
    "plot_breakdown",
    "push_to_hub",
    "save_pretrained",
]
