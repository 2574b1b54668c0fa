"""Load weights from the package, a folder, or the Hugging Face Hub, and save them to a folder."""

import copy
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Optional, TypeVar, Union

import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from ..errors import ConfigError, DeviceError, WrongShapeError
from ..models import pretrained, zoo
from ..models.config import EXTRAS_KEY
from ..utils.io import is_file, replace_file
from ..utils.untrusted import checked, mapping
from .check_tensors import verify_model
from .checkpoints import (
    Checkpoint,
    describe_folder,
    digest_tensors,
    find_checkpoint,
    warn_of_foreign_calibration,
)
from .files import CHECK_FILE, CONFIG_FILE, DIGEST_KEY, WEIGHTS_FILE, read_config

__all__ = ["from_pretrained", "get_extras", "save_pretrained", "tensors_digest"]

_ModuleT = TypeVar("_ModuleT", bound=nn.Module)


def from_pretrained(
    name: Union[str, os.PathLike, None] = None,
    *,
    revision: Optional[str] = None,
    token: Union[str, bool, None] = None,
    cache_dir: Union[str, os.PathLike, None] = None,
    local_files_only: bool = False,
    verify: bool = False,
    device: Union[str, torch.device, None] = None,
    **model_args: Any,
) -> pretrained.AgeModel:
    """Load a model with its weights, in eval mode.

    Its preprocessing is in ``model.pretrained_cfg``, for `timm.data.resolve_model_data_config`. `get_extras` returns
    what the config has beyond timm's schema, such as the framing of faces.

    Args:
        name: A name from the zoo such as ``"ssrnet_wide.utkface_fairface_aaf"``, a folder written by `save_pretrained`,
            or ``"owner/repo"`` or ``"owner/repo@revision"`` on the Hub, tried in this order. Default: the embedded
            weights.
        revision: Branch, tag, or commit on the Hub.
        token: Token for the Hub, or False for none. Default: that of the environment or the login.
        cache_dir: Folder for downloads.
        local_files_only: Use only files that were downloaded before.
        verify: Compare the output of the model with the check tensors next to its weights.
        device: Device of the model.
        **model_args: Constructor arguments of the model, as for `timm.create_model`.

    Raises:
        UnknownModelError: There is no such name or folder.
        HubError: The files could not be downloaded from the Hub.
        WeightsNotFoundError: The config or the weights are missing; `PickleOnlyError` if there is only a pickle.
        ConfigError: The config is invalid, or its model exceeds `cost.LIMITS`; `ArchitectureError` if it describes
            another kind of model.
        CorruptWeightsError: The weights are damaged.
        DigestError: The weights differ from those that the zoo has under this name; with a revision, this is a
            warning.
        WrongShapeError: The weights do not fit the architecture.
        CheckError: The output differs from the check tensors, or there are none.
        DeviceError: The device is not available.
    """
    checkpoint = find_checkpoint(
        name, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only, verify=verify
    )
    return load_checkpoint(checkpoint, verify=verify, device=device, **model_args)


def load_checkpoint(
    checkpoint: Checkpoint,
    *,
    verify: bool = False,
    device: Union[str, torch.device, None] = None,
    **model_args: Any,
) -> pretrained.AgeModel:
    """Load the model of a `Checkpoint`; see `from_pretrained`."""
    folder = checkpoint.folder
    try:
        # independent of PyTorch's default dtype and device
        placed = {"dtype": torch.float32, "device": "cpu", **model_args}
        model = pretrained.assert_age_model(timm.create_model(f"local-dir:{folder}", pretrained=True, **placed)).eval()
    except RuntimeError as e:
        # other errors are due to the machine, such as a lack of memory
        if "loading state_dict" not in str(e):
            raise
        raise WrongShapeError(f"The weights in {folder} do not fit a model created with {model_args}: {e}") from e
    if verify:
        verify_model(model, folder / CHECK_FILE)
    _bind_extras(model, copy.deepcopy(checkpoint.extras), folder, model_args)
    return model if device is None else move_model(model, device)


def move_model(model: _ModuleT, device: Union[str, torch.device]) -> _ModuleT:
    """Move a model to a device, in place.

    Raises:
        DeviceError: The device is not available.
    """
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as e:
        raise DeviceError(f"Device {str(device)!r} is not available: {str(e).splitlines()[0]}") from e


def unwrap(model: _ModuleT) -> _ModuleT:
    """Unwrap a model compiled by `torch.compile`."""
    return getattr(model, "_orig_mod", model)


def save_pretrained(
    model: nn.Module, directory: Union[str, os.PathLike], extras: Optional[Mapping[str, Any]] = None
) -> Path:
    """Write ``model.safetensors`` and ``config.json``, for `from_pretrained` and for timm's ``local-dir:``.

    Args:
        model: A model of this package; its device, precision, and memory layout do not matter.
        directory: Target folder; created if it does not exist. Files are replaced atomically.
        extras: Keys to add to or replace in `get_extras` of the model, with JSON values. A ``calibration`` is saved
            with the digest of the tensors, and dropped if its digest does not match them.

    Returns:
        The directory.

    Raises:
        ConfigError: The model was not created by `from_pretrained` or timm, the directory cannot be created, or
            `from_pretrained` would reject the config.
    """
    model = unwrap(model)
    if getattr(model, "pretrained_cfg", {}).get("architecture") not in zoo.list_architectures():
        raise ConfigError(
            f"Cannot save this {type(model).__name__}: create the model with from_pretrained or "
            'timm.create_model("ssrnet", ...), which takes the same arguments.'
        )
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigError(f"Cannot create {directory}: {e.strerror or e}.") from e
    kept = _drop_foreign_calibration({**get_extras(model), **(extras or {})}, model)
    model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format)
    with tempfile.TemporaryDirectory(prefix=".save-", dir=directory) as temporary:
        save_for_hf(model, temporary, model_config={EXTRAS_KEY: kept} if kept else None, safe_serialization=True)
        try:
            describe_folder(temporary)
        except ConfigError as e:
            reason = str(e).replace(temporary, str(directory))
            raise ConfigError(f"Nothing was saved, since from_pretrained would reject the config. {reason}") from e
        for name in (WEIGHTS_FILE, CONFIG_FILE):
            with replace_file(directory / name) as path:
                Path(temporary, name).replace(path)
    return directory


def get_extras(model: nn.Module) -> dict[str, Any]:
    """Config entries of a model's weights beyond timm's schema, such as ``framing`` and ``training``.

    A ``calibration`` belongs to the tensors it was measured on. It is dropped once they change, for example by
    training, but kept if only the precision or the device changes.

    For a model that timm created from a folder or a zoo name, only ``task``, ``framing``, and ``ends`` (of a gender
    score) are returned; for any other model, an empty dict.
    """
    extras = getattr(model, "ssrnet_hub_extras", None)
    if extras is not None:
        return _drop_foreign_calibration(copy.deepcopy(extras), model, getattr(model, "ssrnet_hub_digests", ()))
    # timm may have loaded the config without the weights, so entries on their training are left out
    cfg = getattr(model, "pretrained_cfg", {})
    if cfg.get("source") == "local-dir" and is_file(Path(cfg["file"], CONFIG_FILE)):
        extras = read_config(Path(cfg["file"])).get(EXTRAS_KEY, {})
        extras = checked(f"In {cfg['file']}, {EXTRAS_KEY}", mapping, extras)
        return {key: value for key, value in extras.items() if key in ("task", "framing", "ends")}
    weights = zoo.ZOO.get(f"{cfg.get('architecture')}.{cfg.get('tag')}")
    return weights.extras if weights else {}


def tensors_digest(model: nn.Module, dtype: Optional[torch.dtype] = None) -> str:
    """Hexadecimal SHA-256 of the names, shapes, and float32 values of a model's floating point tensors.

    Args:
        model: The model, on any device.
        dtype: Precision to round the values to first. Default: none.
    """
    tensors: dict[str, Tensor] = getattr(model, "_orig_mod", model).state_dict()  # of a compiled model
    return digest_tensors(
        {
            name: tensor.detach().to("cpu", dtype or tensor.dtype).float().contiguous().numpy()
            for name, tensor in tensors.items()
            if tensor.is_floating_point()
        }
    )


def _drop_foreign_calibration(extras: dict[str, Any], model: nn.Module, digests: Iterable[str] = ()) -> dict[str, Any]:
    """Drop a calibration that was measured on tensors other than the model's. One without a digest is kept.

    Args:
        extras: Extras of the model; modified in place and returned.
        model: The model.
        digests: Digests of other tensors for which the calibration is valid.
    """
    calibration = extras.get("calibration")
    if isinstance(calibration, dict):
        digest = tensors_digest(model)
        if digest in (calibration.get(DIGEST_KEY, digest), *digests):
            extras["calibration"] = {**calibration, DIGEST_KEY: digest}
        else:
            del extras["calibration"]
    return extras


def _bind_extras(model: nn.Module, extras: dict[str, Any], folder: Path, model_args: Iterable[str]) -> None:
    """Attach the extras of its config to a newly loaded model."""
    had = "calibration" in extras
    vars(model)["ssrnet_hub_extras"] = _drop_foreign_calibration(extras, model)
    if had and "calibration" not in extras:
        warn_of_foreign_calibration(folder, stacklevel=5)
    # with another V, for example, the same tensors predict other ages
    if set(model_args) - {"drop_rate"}:
        extras.pop("calibration", None)
    if "calibration" in extras:
        halves = (torch.float16, torch.bfloat16)
        vars(model)["ssrnet_hub_digests"] = tuple(tensors_digest(model, dtype) for dtype in halves)
