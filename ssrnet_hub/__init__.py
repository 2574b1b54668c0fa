"""SSR-Net, the age of a face in 40,531 parameters: models for timm, their weights, and photo to age."""

from .utils import telemetry  # noqa: F401  before the libraries that it is about

# isort: split
from .errors import SSRNetHubError
from .hub.loading import from_pretrained, save_pretrained
from .hub.push import push_to_hub
from .images.alignment import Framing
from .inference.estimator import AgeEstimator, Face
from .inference.stages import Stage
from .inference.visualization import plot_breakdown
from .models.dex import DEXVGG, SSRNetDEX
from .models.pretrained import list_models
from .models.ssrnet import SSRNet
from .utils.version import __version__

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
