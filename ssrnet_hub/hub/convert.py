"""Convert weights released by others to this package's format."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Union

import numpy as np
import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from ..errors import ConversionError
from ..images.alignment import AUTHORS_FRAMING
from ..models.pretrained import new_model
from ..models.zoo import AUTHORS_INPUT, FEMALE_MALE, ZOO
from ..utils.io import file_digest, is_file
from .checkpoints import describe_folder
from .files import CONFIG_FILE, WEIGHTS_FILE
from .loading import save_pretrained

__all__ = ["convert_blog", "convert_keras", "convert_torch"]


def convert_keras(path: Union[str, os.PathLike], directory: Union[str, os.PathLike], *, gender: bool = False) -> Path:
    """Convert a weights file of the paper's authors (Keras 2, HDF5), and write it as `save_pretrained` does.

    The authors' network takes BGR pixels in [0, 255], and the detector's box widened by 0.4 of its size on each side.
    The converted model takes RGB; range and framing are in its config.

    Args:
        path: One of the authors' files, such as ``imdb.h5``, ``wiki.h5``, ``morph2.h5``, or ``megaage_asian.h5``.
        directory: Target folder; nothing is written unless the conversion succeeds.
        gender: The weights predict gender; the result is an ``ssrnet_gender``.

    Returns:
        The directory.

    Raises:
        ConversionError: The file is damaged, or not one of the authors'.
    """
    model = new_model("ssrnet_gender" if gender else "ssrnet", **AUTHORS_INPUT, license="apache-2.0")
    layers = _read_keras(path)
    state = {}
    kind = "gender" if gender else "age"
    for key, layer, convert in _keras_layout("pred_stage" if gender else "pred_age_stage"):
        array = layers.pop(layer, None)
        if array is None:
            other = any(name.startswith("pred_age_stage" if gender else "pred_stage") for name in layers)
            raise ConversionError(
                f"{path} has no {layer}, so it is not a file of the SSR-Net authors' {kind} weights"
                + (f" but of their {'age' if gender else 'gender'} weights." if other else ".")
            )
        try:
            state[key] = torch.from_numpy(np.ascontiguousarray(convert(array)))
        except (TypeError, ValueError) as e:
            raise ConversionError(f"In {path}, {layer} has the wrong shape for SSR-Net: {array.shape}.") from e
    if layers:
        raise ConversionError(f"{path} has layers that are not in SSR-Net: {', '.join(sorted(layers)[:5])}.")
    _load(model, state, path)
    _swap_channels(model)
    extras: dict[str, Any] = {"task": "gender" if gender else "age", "framing": AUTHORS_FRAMING.to_dict()}
    if gender:
        # the file does not specify the genders at scores 0 and 1; they are known only for weights in the zoo
        with tempfile.TemporaryDirectory() as temporary:
            digest = file_digest(save_pretrained(model, temporary) / WEIGHTS_FILE)
        extras["ends"] = next((w.ends for w in ZOO.values() if w.sha256 == digest), FEMALE_MALE)
    return save_pretrained(model, directory, extras)


def convert_blog(path: Union[str, os.PathLike], directory: Union[str, os.PathLike], *, bgr: bool = False) -> Path:
    """Convert a pickled state dict of the blog post's PyTorch network to an ``ssrnet_blog``.

    The pickle is loaded with ``weights_only=True``, which rejects code. The post does not specify preprocessing, so the
    config gets common values: mean and standard deviation of ImageNet, and the detector's box widened as for the
    authors' weights. Edit it if yours differ.

    Args:
        path: The file, such as ``model.pth``. The state dict may be nested under ``"state_dict"``,
            ``"model_state_dict"``, or ``"model"``.
        directory: Target folder; nothing is written unless the conversion succeeds.
        bgr: The network was trained on BGR images, as OpenCV loads them, with ImageNet's mean and standard deviation
            in RGB order. The converted model takes RGB.

    Returns:
        The directory.

    Raises:
        ConversionError: The file is damaged, or not a state dict of this network.
    """
    layout = dict(_blog_layout())
    state = {}
    for name, tensor in _read_pickle(path).items():
        layer, _, weight = name.rpartition(".")
        if layer not in layout:
            raise ConversionError(f"{path} contains {name}, so it is not a state dict of the blog post's network.")
        state[f"{layout[layer]}.{weight}"] = tensor
    input: dict[str, Any] = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    if bgr:
        input = {key: values[::-1] for key, values in input.items()}
    model = new_model("ssrnet_blog", **input)
    _load(model, state, path)
    if bgr:
        _swap_channels(model)
    return save_pretrained(model, directory, {"task": "age", "framing": AUTHORS_FRAMING.to_dict()})


def convert_torch(path: Union[str, os.PathLike], directory: Union[str, os.PathLike]) -> Path:
    """Convert a pickled state dict of a model of this package to safetensors.

    The pickle is loaded with ``weights_only=True``, which rejects code. The model is the one described by
    ``config.json`` in the same folder; without that file, an ``ssrnet`` with the default preprocessing.

    Args:
        path: The file, such as ``pytorch_model.bin``.
        directory: Target folder; nothing is written unless the conversion succeeds.

    Returns:
        The directory.

    Raises:
        ConversionError: The file is damaged, or not a state dict of this model.
        ConfigError: ``config.json`` is invalid, or describes another kind of model.
    """
    path = Path(path)
    state = _read_pickle(path)
    has_config = (path.parent / CONFIG_FILE).is_file()
    extras = describe_folder(path.parent).extras if has_config else {}
    model = timm.create_model(f"local-dir:{path.parent}") if has_config else new_model("ssrnet")
    _load(model, state, path)
    return save_pretrained(model, directory, extras)


def _read_pickle(path: Union[str, os.PathLike]) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as e:
        raise ConversionError(f"Cannot read {path}: {e.strerror or e}.") from e
    except Exception as e:  # a pickle is a program; a damaged one can raise anything
        raise ConversionError(
            f"Cannot load {path} as a pickled state dict: it is damaged, or contains more than tensors."
        ) from e
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ConversionError(f"{path} does not contain a state dict.")
    if any(v.is_complex() or v.dtype == torch.bool for v in state.values()):
        raise ConversionError(f"{path} contains complex or boolean tensors.")
    # data parallel training adds this prefix
    return {k.removeprefix("module."): v for k, v in state.items()}


def _swap_channels(model: nn.Module) -> None:
    """Make a two-stream network trained on BGR take RGB."""
    with torch.no_grad():
        for stream in ("stream1", "stream2"):
            weight = model.get_parameter(f"{stream}.0.0.conv.weight")
            weight.copy_(weight.flip(1))


def _load(model: nn.Module, state: dict[str, Tensor], path: Union[str, os.PathLike]) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as e:
        raise ConversionError(f"{path} does not fit the architecture: {e}") from e


def _read_keras(path: Union[str, os.PathLike]) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError as e:
        raise ConversionError("Reading Keras files requires h5py: pip install 'ssrnet_hub[convert]'") from e

    if not is_file(path):
        raise ConversionError(f"{path} is not a file.")
    layers: dict[str, np.ndarray] = {}

    def collect(name: str, item: Union[h5py.Group, h5py.Dataset]) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ConversionError(f"{path} refers to another file for {name}, which is not allowed.")
            if item.size + sum(array.size for array in layers.values()) > 1_000_000:
                raise ConversionError(f"{path} is too large for SSR-Net: {name} has the shape {item.shape}.")
            group, weight = name.split("/")[0], name.split("/")[-1].removesuffix(":0")
            layers[f"{group}/{weight}"] = np.asarray(item, dtype=np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(collect)
    except ConversionError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as e:
        raise ConversionError(f"Cannot read {path} as a Keras weights file: {e}") from e
    return layers


_Convert = Callable[[np.ndarray], np.ndarray]


_BLOCKS = ("0.0", "1.0", "2.0", "2.2")
"""The four convolutional blocks of a stream, in our state dict."""


def _keras_layout(pred: str) -> Iterator[tuple[str, str, _Convert]]:
    """Yield the key in our state dict, the name in the authors' file, and the function that reorders the axes."""
    norm = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    for stream in (1, 2):
        for i, block in enumerate(_BLOCKS, start=1 + 4 * (stream - 1)):
            yield from _layer(f"stream{stream}.{block}.conv", f"conv2d_{i}", _conv)
            for ours, theirs in norm.items():
                yield f"stream{stream}.{block}.bn.{ours}", f"batch_normalization_{i}/{theirs}", np.asarray
    for k in range(3):
        yield from _layer(f"fusions.{k}.conv1", f"conv2d_{10 + 2 * k}", _conv)
        yield from _layer(f"fusions.{k}.conv2", f"conv2d_{9 + 2 * k}", _conv)
        yield from _layer(f"stages.{k}.fc1", f"dense_{3 * k + 2}", _dense_of_map)
        yield from _layer(f"stages.{k}.fc2", f"dense_{3 * k + 1}", _dense_of_map)
        yield from _layer(f"stages.{k}.fc", f"dense_{3 * k + 3}", np.transpose)
        yield from _layer(f"stages.{k}.p", f"{pred}{k + 1}", np.transpose)
        yield from _layer(f"stages.{k}.eta", f"local_delta_stage{k + 1}", np.transpose)
        yield from _layer(f"stages.{k}.delta", f"delta_s{k + 1}", _dense_of_map)


def _blog_layout() -> Iterator[tuple[str, str]]:
    """Yield the name of each layer in the post's class and in ours."""
    blocks = (("k1.0", "k1.1"), ("k2.0", "k2.1"), ("k3.0", "k3.1"), ("k3.4", "k3.5"))
    for stream in (1, 2):
        for block, (conv, bn) in zip(_BLOCKS, blocks, strict=True):
            yield f"stream{stream}_{conv}", f"stream{stream}.{block}.conv"
            yield f"stream{stream}_{bn}", f"stream{stream}.{block}.bn"
        for k in range(3):
            yield f"s{stream}_pre{k + 1}.0", f"fusions.{k}.conv{stream}"
            yield f"s{stream}_dr{k + 1}.1", f"stages.{k}.fc{stream}"
    for k in range(3):
        yield f"vec_p{k + 1}.0", f"stages.{k}.p"
        yield f"eta{k + 1}.0", f"stages.{k}.eta"
        yield f"delta_k{k + 1}.0", f"stages.{k}.delta"


def _layer(ours: str, theirs: str, convert: _Convert) -> Iterator[tuple[str, str, _Convert]]:
    yield f"{ours}.weight", f"{theirs}/kernel", convert
    yield f"{ours}.bias", f"{theirs}/bias", np.asarray


def _conv(kernel: np.ndarray) -> np.ndarray:
    """Reorder (height, width, in, out) to (out, in, height, width)."""
    return kernel.transpose(3, 2, 0, 1)


def _dense_of_map(kernel: np.ndarray) -> np.ndarray:
    """Reorder a dense layer on a flattened square map of 10 channels from channels last to channels first."""
    side = round((len(kernel) / 10) ** 0.5)
    return kernel.reshape(side, side, 10, -1).transpose(3, 2, 0, 1).reshape(-1, len(kernel))
