"""Find and check weights in the package, a folder, or the Hugging Face Hub. Does not need PyTorch."""

import hashlib
import os
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open

from ..errors import (
    ArchitectureError,
    ConfigError,
    CorruptWeightsError,
    DigestError,
    UnknownModelError,
    WrongShapeError,
)
from ..models import zoo
from ..models.architectures import complete_arguments, list_tensors, model_arguments
from ..models.config import EXTRAS_KEY, check_config
from ..models.preparation import InputConfig
from ..utils.io import file_digest, is_file, is_folder
from .files import CHECK_FILE, CONFIG_FILE, DIGEST_KEY, WEIGHTS_FILE, missing_weights, read_config

__all__ = ["Checkpoint", "describe_folder", "digest_tensors", "find_checkpoint"]

_FLOATS = ("F16", "BF16", "F32", "F64")
"""Dtypes of weights, as safetensors names them."""

_HEADER_SIZE = 1_000_000
"""Maximum header size of a weights file, bytes."""

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_WITH_REVISION = re.compile(r"(?P<name>[\w./-]+)@(?P<revision>[^@\s]+)")


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights with its validated config.

    Attributes:
        folder: Path of the folder.
        architecture: A key of `ARCHITECTURES`.
        args: All constructor arguments of the model.
        input: Size, channels, and normalization of the input.
        license: License of the weights, if the config names one.
        extras: Config entries beyond timm's schema.
    """

    folder: Path
    architecture: str
    args: Mapping[str, Any]
    input: InputConfig
    license: Optional[str]
    extras: dict[str, Any]

    def read_weights(self) -> bytes:
        """Read the weights file.

        Raises:
            CorruptWeightsError: The file cannot be read.
        """
        try:
            return (self.folder / WEIGHTS_FILE).read_bytes()
        except OSError as e:
            raise _damaged(self.folder / WEIGHTS_FILE, e) from e

    def to_tensors(self, weights: bytes) -> dict[str, np.ndarray]:
        """Return the tensors by name; floating point tensors are converted to float32.

        Args:
            weights: Result of `read_weights`.

        Raises:
            CorruptWeightsError: The weights are damaged.
        """
        try:
            return {name: _to_array(entry).reshape(entry["shape"]) for name, entry in deserialize(weights)}
        except SafetensorError as e:
            raise _damaged(self.folder / WEIGHTS_FILE, e) from e

    def bind_calibration(self, tensors: Mapping[str, np.ndarray]) -> "Checkpoint":
        """Return the checkpoint, without a calibration measured on other tensors; warns if one is dropped."""
        calibration = self.extras.get("calibration")
        if not isinstance(calibration, dict) or DIGEST_KEY not in calibration:
            return self
        if digest_tensors(tensors) == calibration[DIGEST_KEY]:
            return self
        warn_of_foreign_calibration(self.folder, stacklevel=6)
        return replace(self, extras={key: value for key, value in self.extras.items() if key != "calibration"})


def find_checkpoint(
    name: Union[str, os.PathLike, None] = None,
    *,
    revision: Optional[str] = None,
    token: Union[str, bool, None] = None,
    cache_dir: Union[str, os.PathLike, None] = None,
    local_files_only: bool = False,
    verify: bool = False,
) -> Checkpoint:
    """Find weights and check that they are complete and fit their config.

    Arguments and errors are those of `from_pretrained`.

    Args:
        name: Name, folder, or repository.
        revision: Branch, tag, or commit on the Hub.
        token: Token for the Hub.
        cache_dir: Folder for downloads.
        local_files_only: Use only files that were downloaded before.
        verify: Also download the check tensors.
    """
    name, revision = _split_revision(zoo.DEFAULT if name is None else name, revision)
    weights = zoo.ZOO.get(name) if isinstance(name, str) else None
    if weights and weights.embedded and not revision:
        folder = weights.folder
    elif not weights and is_folder(name):
        if revision:
            raise UnknownModelError(f"{str(name)!r} is a folder and has no revisions: remove revision={revision!r}.")
        folder = Path(name)
    else:
        repo = _repo_of(weights) if weights else _assert_repo(name)
        # imported only here, since this takes half a second
        from .downloading import download

        files = [CONFIG_FILE, WEIGHTS_FILE, *[CHECK_FILE] * verify]
        folder = download(
            repo, revision, token, None if cache_dir is None else Path(cache_dir), local_files_only, files
        )
        if weights:
            _check_digest(weights, folder, revision)
    return _check_folder(folder)


def describe_folder(folder: Union[str, os.PathLike]) -> Checkpoint:
    """Read and check the config of a folder, without its weights.

    Raises:
        WeightsNotFoundError: There is no config.
        ConfigError: The config is invalid; `ArchitectureError` if it describes another kind of model.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    config = read_config(folder)
    architecture = config.get("architecture")
    if architecture not in zoo.list_architectures():
        raise ArchitectureError(
            f"{path} has the architecture {architecture!r:.100}, which is not an age model. "
            f"Available architectures: {', '.join(zoo.list_architectures())}."
        )
    check_config(config, str(path))
    # as in timm, model_args take precedence
    cfg, own = config["pretrained_cfg"], config.get("model_args", {})
    own = {key: value for key, value in own.items() if value is not None}
    fixed = bool(cfg.get("fixed_input_size"))
    in_chans, *size = cfg.get("input_size", (3, 224, 224))
    args = {"num_classes": config.get("num_classes", cfg.get("num_classes", 1000)), "in_chans": in_chans}
    args |= {"img_size": size} if fixed else {}
    args = complete_arguments(architecture, **{**args, **own})
    has_size = "img_size" in model_arguments(architecture)
    if fixed and not has_size:
        raise ConfigError(f"{path} is invalid: {architecture} does not support fixed_input_size.")
    size = args["img_size"] if fixed else tuple(size)
    for what, stated, actual in (
        ("architecture", cfg.get("architecture") or architecture, architecture),
        ("input_size", (args["in_chans"], *size), (args["in_chans"], *(args["img_size"] if has_size else size))),
        # timm would silently reinitialize the head
        ("num_classes", config.get("num_classes", cfg.get("num_classes", 1000)), args["num_classes"]),
    ):
        if stated != actual:
            raise ConfigError(f"{path} is inconsistent: {what} is {stated!r:.100}, but the model has {actual}.")
    data = InputConfig.from_cfg(cfg, args["in_chans"], size)
    return Checkpoint(folder, architecture, args, data, cfg.get("license"), config.get(EXTRAS_KEY, {}))


def digest_tensors(tensors: Mapping[str, np.ndarray]) -> str:
    """Hexadecimal SHA-256 of the names, shapes, and float32 values of floating point tensors."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        # batch counters do not affect the output
        if values.dtype.kind == "f":
            digest.update(f"{name} {tuple(values.shape)}\n".encode() + values.astype("<f4").tobytes())
    return digest.hexdigest()


def warn_of_foreign_calibration(folder: Path, stacklevel: int) -> None:
    """Warn that a calibration is ignored."""
    warnings.warn(
        f"Ignoring the calibration in {folder / CONFIG_FILE}: it was measured on different weights. There are no "
        "intervals, and no face is flagged as unreliable.",
        stacklevel=stacklevel,
    )


def _split_revision(
    name: Union[str, os.PathLike], revision: Optional[str]
) -> tuple[Union[str, os.PathLike], Optional[str]]:
    """Split ``name@revision`` of the zoo or the Hub."""
    match = _WITH_REVISION.fullmatch(name) if isinstance(name, str) else None
    # a folder may have any name
    if not match or is_folder(name):
        return name, revision
    if revision and revision != match["revision"]:
        raise UnknownModelError(f"{name!r} and revision={revision!r} name different revisions: pass only one.")
    return match["name"], match["revision"]


def _repo_of(weights: zoo.Weights) -> str:
    """Return the repository of the zoo's weights on the Hub."""
    if weights.repo:
        return weights.repo
    name = weights.name
    raise UnknownModelError(
        (
            f"Revisions of {name!r} exist only on the Hugging Face Hub. Set"
            if weights.embedded
            else f"{name!r} is not included in this package. To load it from the Hugging Face Hub, set"
        )
        + f" the environment variable {zoo.OWNER_VARIABLE} to the user or organization that published it"
        + (f", or convert the authors' {weights.source}: {weights.conversion}" * bool(weights.source))
        + "."
        + (f" To load the folder of that name, pass {f'.{os.sep}{name}'!r}." if is_folder(name) else "")
    )


def _find_near(name: str) -> list[str]:
    """Find up to three zoo names that resemble this one or start like it, with or without the architecture."""

    def likeness(own: str) -> float:
        parts = (own, own.partition(".")[2])
        return max(SequenceMatcher(None, name, part[:n]).ratio() for part in parts for n in (len(part), len(name)))

    return [own for own in sorted(zoo.ZOO, key=likeness, reverse=True) if likeness(own) > 0.5][:3]


def _assert_repo(name: Union[str, os.PathLike]) -> str:
    """Return the name if it is valid for a repository on the Hub."""
    if isinstance(name, str) and _REPO.fullmatch(name) and not name.startswith(".") and not is_file(name):
        return name
    address = re.match(r"(?:hf[-_]hub:|https://huggingface\.co/)([^/]+/[^/]+)", str(name))
    near = list(zoo.weights_of(str(name))) or _find_near(str(name))
    raise UnknownModelError(
        f"{str(name)!r} is not a folder, a name in the zoo, or an owner/repo on the Hugging Face Hub. "
        + (f"For this repository, pass {address[1]!r}. " if address else "")
        + (f"{_what_file(str(name))} " if is_file(name) else "")
        + (f"Did you mean {' or '.join(near)}? " if near else "")
        + f"Names in the zoo: {', '.join(zoo.list_models(include_hub=True))}."
    )


def _what_file(name: str) -> str:
    if Path(name).name == WEIGHTS_FILE:
        return f"It is a file: pass its folder, {Path(name).parent}."
    return "It is a file: convert it with `ssrnet-hub convert`."


def _check_digest(weights: zoo.Weights, folder: Path, revision: Optional[str]) -> None:
    """Check that the weights on the Hub are those of the zoo."""
    file = folder / WEIGHTS_FILE
    digest = file_digest(file)
    if digest == weights.sha256:
        return
    what = (
        f"The weights in {weights.repo} are not those of {weights.name} in the zoo: SHA-256 {digest} instead of "
        f"{weights.sha256}."
    )
    if not revision:
        raise DigestError(f"{what} To load them anyway, pass a revision, or the name of the repository.")
    warnings.warn(f"{what} Loading them anyway, as revision {revision!r} was requested.", stacklevel=4)


def _check_folder(folder: Path) -> Checkpoint:
    """Check that a folder has complete weights that fit its config."""
    checkpoint = describe_folder(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise missing_weights(str(folder), [str(path) for path in folder.iterdir()])
    tensors = list_tensors(checkpoint.architecture, **checkpoint.args)
    expected = {
        name: _describe(list(shape), "I64" if name.endswith(".num_batches_tracked") else "F32")
        for name, shape in tensors.items()
    }
    found = _read_header(weights)
    wrong = [
        f"{k:.100} is {found.get(k, 'missing')} in the file and {expected.get(k, 'missing')} in the model"
        for k in sorted(expected.keys() | found.keys())
        if found.get(k) != expected.get(k)
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise WrongShapeError(f"{weights} does not match its config: {'; '.join(wrong[:5])}{more}.")
    return checkpoint


def _read_header(weights: Path) -> dict[str, str]:
    """Read the shapes of the tensors in a weights file, by name."""
    try:
        with weights.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
        if size > _HEADER_SIZE:
            raise SafetensorError(f"its header has {size:,} bytes, which exceeds the limit of {_HEADER_SIZE:,}")
        with safe_open(weights, framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  the file is not a dict
            return {key: _describe(part.get_shape(), part.get_dtype()) for key, part in slices.items()}
    except (SafetensorError, OSError, struct.error) as e:
        raise _damaged(weights, e) from e


def _describe(shape: list[int], dtype: str) -> str:
    """Describe a tensor by its shape, and by its dtype unless it is a floating point one."""
    return ("x".join(map(str, shape)) or "a scalar") + (f" of {dtype}" if dtype not in _FLOATS else "")


def _damaged(weights: Path, why: Exception) -> CorruptWeightsError:
    return CorruptWeightsError(
        f"{weights} is truncated or damaged ({why}). Delete it, and download or convert it again."
    )


def _to_array(entry: Mapping[str, Any]) -> np.ndarray:
    data, kind = entry["data"], entry["dtype"]
    if kind == "BF16":
        # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    values = np.frombuffer(data, f"<{kind[0].lower()}{int(kind[1:]) // 8}")
    return values.astype(np.float32) if values.dtype.kind == "f" else values
