"""The files of weights: their names, and what is said where one is missing."""

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
"""Check tensors, which need not be there."""
DIGEST_KEY = "tensors_sha256"
"""Key of a calibration for the `tensors_digest` of what it was measured on."""

_PICKLES = (".bin", ".pth", ".pt", ".pth.tar", ".ckpt", ".pkl")


def read_config(folder: Path) -> dict[str, Any]:
    """The config of a folder of weights, of which nothing is checked but that it is an object.

    Raises:
        WeightsNotFoundError: There is none.
        ConfigError: It is damaged.
    """
    path = folder / CONFIG_FILE
    try:
        config = read_json(path)
    except FileNotFoundError as e:
        raise WeightsNotFoundError(
            f"{folder} has no {CONFIG_FILE}. A folder with weights, as save_pretrained writes it, "
            f"holds {CONFIG_FILE} and {WEIGHTS_FILE}."
        ) from e
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} is not readable as JSON: {e}.") from e
    return checked(str(path), mapping, config)


def missing_weights(where: str, names: Iterable[str], fetch: str = "") -> WeightsNotFoundError:
    """The error where there are no weights, by the names of the files that are there; ``fetch`` downloads one."""
    pickles = sorted(name for name in names if name.endswith(_PICKLES))
    if not pickles:
        return WeightsNotFoundError(f"{where} has no {WEIGHTS_FILE}.")
    pickled = shlex.quote(pickles[0])
    fetch = f"download it ({fetch.replace('PICKLE', pickled)}) and " if fetch else ""
    return PickleOnlyError(
        f"{where} has its weights only as a pickle ({pickles[0]}), which could run code when loaded. "
        f"To convert it once, {fetch}with its {CONFIG_FILE} beside it run: "
        f"ssrnet-hub convert --from torch {pickled} OUT_DIR"
    )
