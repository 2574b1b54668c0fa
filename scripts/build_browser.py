"""Put together the page that estimates ages in the browser, or its npm package: python scripts/build_browser.py --output DIR.

DIR is a static site: any server of files will do. Node.js 20 or later and npm are needed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional, Union

from ssrnet_hub.errors import ArchitectureError, MissingPackageError, OutputError, SSRNetHubError
from ssrnet_hub.hub.checkpoints import Checkpoint, find_checkpoint
from ssrnet_hub.images.alignment import Framing
from ssrnet_hub.inference import cascade_onnx
from ssrnet_hub.inference.calibration import Calibration
from ssrnet_hub.inference.network import Network
from ssrnet_hub.inference.onnx_graph import to_onnx
from ssrnet_hub.inference.onnx_network import OnnxNetwork
from ssrnet_hub.models.folding import fold
from ssrnet_hub.models.zoo import DEFAULT
from ssrnet_hub.utils.io import make_empty_folder
from ssrnet_hub.utils.version import __version__

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "demo" / "browser"


def write_model(weights: Union[str, os.PathLike, None], folder: Path) -> None:
    """Write what the estimator in JavaScript reads: the age network, the detector's three, and what the weights say.

    Raises:
        ArchitectureError: The weights have no form that it runs, or estimate no age.
    """
    checkpoint = find_checkpoint(weights)
    if not OnnxNetwork.takes(checkpoint):
        raise ArchitectureError(f"{checkpoint.architecture} is not run in the browser: SSR-Net with one output is.")
    tensors = checkpoint.to_tensors(checkpoint.read_weights())
    checkpoint = checkpoint.bind_calibration(tensors)
    data = checkpoint.input
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(to_onnx(fold(checkpoint.args, tensors, data.mean, data.std)))
    for name in ("pnet", "rnet", "onet"):
        shutil.copy(Path(cascade_onnx.__file__).parent / "mtcnn" / f"{name}.onnx", folder)
    config = describe(checkpoint, DEFAULT if weights is None else str(weights))
    (folder / "config.json").write_text(json.dumps(config, separators=(",", ":")), encoding="utf-8")


def describe(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """What is said of weights besides their graph, as `demo/browser/src/model.js` has it."""
    data, args = checkpoint.input, checkpoint.args
    network = Network(checkpoint.extras, float(args["V"]), args["in_chans"], None, 1)
    channels, height, width = data.input_size
    if network.task != "age" or height != width or data.crop_mode != "center":
        raise ArchitectureError("The weights have to estimate ages, from a square input that is cut from the center.")
    if data.interpolation not in ("bilinear", "bicubic"):
        raise ArchitectureError(f"The interpolation {data.interpolation} is not done in the browser.")
    calibration = checkpoint.extras.get("calibration")
    return {
        "name": Path(name).name,
        "license": checkpoint.license or "unknown",
        "version": __version__,
        "V": network.V,
        "stage_bins": list(args["stage_bins"]),
        "input": {
            "channels": channels,
            "size": height,
            "scaled": int(height / data.crop_pct),
            "interpolation": data.interpolation,
        },
        "framing": network.framing.to_dict(),
        "template": Framing().to_dict()["template"],
        "calibration": None if calibration is None else Calibration.from_dict(calibration).to_dict(),
    }
