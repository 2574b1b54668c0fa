"""Names of the files of weights, and the error if one is missing."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import ConfigError, PickleOnlyError, WeightsNotFoundError
from ..utils.untrusted import checked, mapping, read_json

__all__ = ["CHECK_FILE", "CONFIG_FILE", "DIGEST_KEY", "WEIGHTS_FILE", "missing_weights", "read_config"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CHECK_FILE = "check.safetensors"
"""Check tensors; optional."""
DIGEST_KEY = "tensors_sha256"
"""Key of a calibration or an ONNX file: the `tensors_digest` of the weights that it was made from."""

_PICKLES = (".bin", ".pth", ".pt", ".pth.tar", ".ckpt", ".pkl")


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config of a folder of weights; only checks that it is a JSON object.

    Raises:
        WeightsNotFoundError: There is no config.
        ConfigError: The config cannot be read as JSON.
    """
    path = folder / CONFIG_FILE
    try:
        config = read_json(path)
    except FileNotFoundError as e:
        raise WeightsNotFoundError(
            f"{folder} has no {CONFIG_FILE}. Pass a folder written by save_pretrained, with {CONFIG_FILE} and "
            f"{WEIGHTS_FILE}."
        ) from e
    except (OSError, ValueError) as e:
        raise ConfigError(f"Cannot read {path} as JSON: {e}.") from e
    return checked(str(path), mapping, config)


def missing_weights(where: str, names: Iterable[str], fetch: str = "") -> WeightsNotFoundError:
    """The error for missing weights, given the names of the files that exist; ``fetch`` is a download command."""
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if not pickles:
        return WeightsNotFoundError(f"{where} has no {WEIGHTS_FILE}.")
    pickled = shlex.quote(pickles[0])
    fetch = f"download it ({fetch.replace('PICKLE', pickled)}) and " if fetch else ""
    return PickleOnlyError(
        f"{where} has only a pickle ({pickles[0]}), which could run arbitrary code when loaded. "
        f"To convert it to safetensors, {fetch}run the following, with {CONFIG_FILE} in the same folder: "
        f"ssrnet-hub convert --from torch {pickled} OUT_DIR"
    )
