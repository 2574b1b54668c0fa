"""Weights as they lie in the wheel, a folder or the Hugging Face Hub: found and checked. Needs no PyTorch."""

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
"""Types of weights, by the names of safetensors."""

_HEADER_SIZE = 1_000_000
"""Largest header of a file of weights, bytes."""

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_WITH_REVISION = re.compile(r"(?P<name>[\w./-]+)@(?P<revision>[^@\s]+)")


@dataclass(frozen=True)
class Checkpoint:
    """A folder of weights and what its config says, checked.

    Attributes:
        folder: Where it is.
        architecture: A key of `ARCHITECTURES`.
        args: All arguments of the model's constructor.
        input: What the model wants to see.
        license: Of the weights, if the config says.
        extras: What the config says beyond timm's schema.
    """

    folder: Path
    architecture: str
    args: Mapping[str, Any]
    input: InputConfig
    license: Optional[str]
    extras: dict[str, Any]

    def read_weights(self) -> bytes:
        """The content of the file of weights.

        Raises:
            CorruptWeightsError: It cannot be read.
        """
        try:
            return (self.folder / WEIGHTS_FILE).read_bytes()
        except OSError as e:
            raise _damaged(self.folder / WEIGHTS_FILE, e) from e

    def to_tensors(self, weights: bytes) -> dict[str, np.ndarray]:
        """The weights by their names: numbers of floating point in float32, the rest as it is.

        Args:
            weights: What `read_weights` answered.

        Raises:
            CorruptWeightsError: They are damaged.
        """
        try:
            return {name: _to_array(entry).reshape(entry["shape"]) for name, entry in deserialize(weights)}
        except SafetensorError as e:
            raise _damaged(self.folder / WEIGHTS_FILE, e) from e

    def bind_calibration(self, tensors: Mapping[str, np.ndarray]) -> "Checkpoint":
        """The same without a calibration that was measured on other tensors than these, with a warning."""
        calibration = self.extras.get("calibration")
        if not isinstance(calibration, dict) or DIGEST_KEY not in calibration:
            return self
        if digest_tensors(tensors) == calibration[DIGEST_KEY]:
            return self
        warn_of_strange_calibration(self.folder, stacklevel=6)
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
    """Find weights and check that they are whole and fit their config.

    Args:
        name: As all others, as for `from_pretrained`, which raises the same.
        revision: Branch, tag or commit on the Hub.
        token: Token for the Hub.
        cache_dir: Where downloads are kept.
        local_files_only: Only what has been downloaded before.
        verify: Download the check tensors as well.
    """
    name, revision = _split_revision(zoo.DEFAULT if name is None else name, revision)
    weights = zoo.ZOO.get(name) if isinstance(name, str) else None
    if weights and weights.embedded and not revision:
        folder = weights.folder
    elif not weights and is_folder(name):
        if revision:
            raise UnknownModelError(f"{str(name)!r} is a folder, so it has no revision {revision!r}.")
        folder = Path(name)
    else:
        repo = _repo_of(weights) if weights else _assert_repo(name)
        # its import takes half a second
        from .downloading import download

        files = [CONFIG_FILE, WEIGHTS_FILE, *[CHECK_FILE] * verify]
        folder = download(
            repo, revision, token, None if cache_dir is None else Path(cache_dir), local_files_only, files
        )
        if weights:
            _check_digest(weights, folder, revision)
    return _check_folder(folder)


def describe_folder(folder: Union[str, os.PathLike]) -> Checkpoint:
    """What a folder's config says, checked; the weights are not looked at.

    Raises:
        WeightsNotFoundError: There is no config.
        ConfigError: The config is damaged; `ArchitectureError` where it is of another kind of model.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    config = read_config(folder)
    architecture = config.get("architecture")
    if architecture not in zoo.list_architectures():
        raise ArchitectureError(
            f"{path} is of the architecture {architecture!r:.100}, not of an age model. "
            f"Known ones: {', '.join(zoo.list_architectures())}."
        )
    check_config(config, str(path))
    # as timm reads it: what the model's arguments say comes first
    cfg, own = config["pretrained_cfg"], config.get("model_args", {})
    own = {key: value for key, value in own.items() if value is not None}
    fixed = bool(cfg.get("fixed_input_size"))
    in_chans, *size = cfg.get("input_size", (3, 224, 224))
    args = {"num_classes": config.get("num_classes", cfg.get("num_classes", 1000)), "in_chans": in_chans}
    args |= {"img_size": size} if fixed else {}
    args = complete_arguments(architecture, **{**args, **own})
    has_size = "img_size" in model_arguments(architecture)
    if fixed and not has_size:
        raise ConfigError(f"{path} does not describe a model that can be built: {architecture} has no size of its own.")
    size = args["img_size"] if fixed else tuple(size)
    for what, said, made in (
        ("architecture", cfg.get("architecture") or architecture, architecture),
        ("input_size", (args["in_chans"], *size), (args["in_chans"], *(args["img_size"] if has_size else size))),
        # timm would start the head afresh, without a word
        ("num_classes", config.get("num_classes", cfg.get("num_classes", 1000)), args["num_classes"]),
    ):
        if said != made:
            raise ConfigError(f"{path} is at odds with itself: its {what} is {said!r:.100}, but the model's {made}.")
    data = InputConfig.from_cfg(cfg, args["in_chans"], size)
    return Checkpoint(folder, architecture, args, data, cfg.get("license"), config.get(EXTRAS_KEY, {}))


def digest_tensors(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of weights' floating point tensors, in hexadecimal: of their names, shapes and values, as float32."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        # counters of batches change no answer
        if values.dtype.kind == "f":
            digest.update(f"{name} {tuple(values.shape)}\n".encode() + values.astype("<f4").tobytes())
    return digest.hexdigest()


def warn_of_strange_calibration(folder: Path, stacklevel: int) -> None:
    """Say that a calibration is left out."""
    warnings.warn(
        f"The calibration in {folder / CONFIG_FILE} was measured on other weights than those beside it, and is not "
        "used: there are no intervals, and no face is called unreliable.",
        stacklevel=stacklevel,
    )


def _split_revision(
    name: Union[str, os.PathLike], revision: Optional[str]
) -> tuple[Union[str, os.PathLike], Optional[str]]:
    """``name@revision`` of the zoo or the Hub, taken apart."""
    match = _WITH_REVISION.fullmatch(name) if isinstance(name, str) else None
    # a folder may be called anything
    if not match or is_folder(name):
        return name, revision
    if revision and revision != match["revision"]:
        raise UnknownModelError(f"{name!r} names a revision of its own, and revision={revision!r} another: give one.")
    return match["name"], match["revision"]


def _repo_of(weights: zoo.Weights) -> str:
    """The repository of the zoo's weights on the Hub."""
    if weights.repo:
        return weights.repo
    name = weights.name
    raise UnknownModelError(
        f"{name!r} {'has revisions only' if weights.embedded else 'is not part of this package, but'} on the Hugging "
        f"Face Hub: set the environment variable {zoo.OWNER_VARIABLE} to the user or organization whose it is there"
        + (f", or convert the authors' {weights.source}: {weights.conversion}" * bool(weights.source))
        + "."
        + (f" The folder of that name is loaded as {f'.{os.sep}{name}'!r}." if is_folder(name) else "")
    )


def _find_near(name: str) -> list[str]:
    """Up to three names of the zoo that resemble or begin like this one, with or without their architecture."""

    def likeness(own: str) -> float:
        parts = (own, own.partition(".")[2])
        return max(SequenceMatcher(None, name, part[:n]).ratio() for part in parts for n in (len(part), len(name)))

    return [own for own in sorted(zoo.ZOO, key=likeness, reverse=True) if likeness(own) > 0.5][:3]


def _assert_repo(name: Union[str, os.PathLike]) -> str:
    """The name, if it can be that of a repository on the Hub."""
    if isinstance(name, str) and _REPO.fullmatch(name) and not name.startswith(".") and not is_file(name):
        return name
    address = re.match(r"(?:hf[-_]hub:|https://huggingface\.co/)([^/]+/[^/]+)", str(name))
    near = list(zoo.weights_of(str(name))) or _find_near(str(name))
    raise UnknownModelError(
        f"{str(name)!r} is no folder, no name of the zoo and no owner/repo on the Hugging Face Hub. "
        + (f"Write {address[1]!r}. " if address else "")
        + (f"{_what_file(str(name))} " if is_file(name) else "")
        + (f"Did you mean {' or '.join(near)}? " if near else "")
        + f"The zoo has: {', '.join(zoo.list_models(include_hub=True))}."
    )


def _what_file(name: str) -> str:
    if Path(name).name == WEIGHTS_FILE:
        return f"It is a file: name its folder, {Path(name).parent}."
    return "It is a file: `ssrnet-hub convert` makes a folder of weights of it."


def _check_digest(weights: zoo.Weights, folder: Path, revision: Optional[str]) -> None:
    """Check that what the Hub has under a name of the zoo is what the zoo means by it."""
    file = folder / WEIGHTS_FILE
    digest = file_digest(file)
    if digest == weights.sha256:
        return
    what = f"{weights.repo} has other weights than the zoo's {weights.name}: sha256 {digest}, not {weights.sha256}."
    if not revision:
        raise DigestError(f"{what} To load them all the same, name a revision, or the repository itself.")
    warnings.warn(f"{what} They are loaded, since revision {revision!r} was asked for.", stacklevel=4)


def _check_folder(folder: Path) -> Checkpoint:
    """Check that a folder holds whole weights that fit its config."""
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
        f"{k:.100}: {found.get(k, 'nothing')} in the file, {expected.get(k, 'nothing')} in the model"
        for k in sorted(expected.keys() | found.keys())
        if found.get(k) != expected.get(k)
    ]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise WrongShapeError(f"{weights} does not fit its config. {'; '.join(wrong[:5])}{more}.")
    return checkpoint


def _read_header(weights: Path) -> dict[str, str]:
    """What tensors a file of weights has."""
    try:
        with weights.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
        if size > _HEADER_SIZE:
            raise SafetensorError(f"its header has {size:,} bytes, more than the limit of {_HEADER_SIZE:,}")
        with safe_open(weights, framework="np") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118  the file is no dict
            return {key: _describe(part.get_shape(), part.get_dtype()) for key, part in slices.items()}
    except (SafetensorError, OSError, struct.error) as e:
        raise _damaged(weights, e) from e


def _describe(shape: list[int], dtype: str) -> str:
    """A tensor's shape, and its type where that is not one that weights are converted from."""
    return ("x".join(map(str, shape)) or "a number") + (f" of {dtype}" if dtype not in _FLOATS else "")


def _damaged(weights: Path, why: Exception) -> CorruptWeightsError:
    return CorruptWeightsError(
        f"{weights} is truncated or damaged ({why}). Delete it and download or convert it again."
    )


def _to_array(entry: Mapping[str, Any]) -> np.ndarray:
    data, kind = entry["data"], entry["dtype"]
    if kind == "BF16":
        # the first half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    values = np.frombuffer(data, f"<{kind[0].lower()}{int(kind[1:]) // 8}")
    return values.astype(np.float32) if values.dtype.kind == "f" else values
