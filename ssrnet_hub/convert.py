"""Weights that others released, to weights of this package."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Union

import numpy as np
import timm
import torch
from torch import Tensor, nn

from .errors import ConversionError
from .framing import Framing
from .hub import CONFIG_FILE, read_model_config, save_pretrained
from .zoo import new_model

__all__ = ["convert_keras", "convert_torch"]


def convert_keras(path: Union[str, os.PathLike], directory: Union[str, os.PathLike]) -> Path:
    """Convert a weights file of the paper's authors (Keras 2, HDF5) and write it as `save_pretrained` does.

    The authors' network reads blue, green, red in 0 .. 255 and the detector's box widened by 0.4 of its size on each
    side. The result reads red, green, blue, and its config says the rest.

    Args:
        path: One of their age weights: ``imdb.h5``, ``wiki.h5``, ``morph2.h5`` or ``megaage_asian.h5``.
        directory: Where to; nothing is written there unless the conversion succeeds.

    Returns:
        The directory.

    Raises:
        ConversionError: Not such a file, or a damaged one.
    """
    model = new_model("ssrnet", mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), license="apache-2.0")
    layers = _read_keras(path)
    state = {}
    for key, layer, convert in _keras_layout():
        array = layers.pop(layer, None)
        if array is None:
            raise ConversionError(f"{path} has no {layer}: it is not an age weights file of the SSR-Net authors.")
        try:
            state[key] = torch.from_numpy(np.ascontiguousarray(convert(array)))
        except (TypeError, ValueError) as e:
            raise ConversionError(f"{path} has {layer} in another shape than SSR-Net: {array.shape}.") from e
    if layers:
        raise ConversionError(f"{path} has layers that SSR-Net has not: {', '.join(sorted(layers)[:5])}.")
    for stream in (1, 2):
        key = f"stream{stream}.0.0.conv.weight"
        state[key] = state[key].flip(1)
    _load(model, state, path)
    return save_pretrained(model, directory, framing=Framing(size=64, template=None, margin=0.4).to_dict())


def convert_torch(path: Union[str, os.PathLike], directory: Union[str, os.PathLike]) -> Path:
    """Convert a pickled state dict of a model of this package to safetensors.

    The pickle is read with ``weights_only=True``: one with code in it is refused. A ``config.json`` beside it says
    which model it is of; without one, it is taken for an ``ssrnet`` with the default preprocessing.

    Args:
        path: The file, such as ``pytorch_model.bin``.
        directory: Where to; nothing is written there unless the conversion succeeds.

    Returns:
        The directory.

    Raises:
        ConversionError: Not such a file, or a damaged one.
        ConfigError: The config beside it is damaged or of another kind of model.
    """
    path = Path(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as e:
        raise ConversionError(f"{path} cannot be read: {e.strerror or e}.") from e
    except Exception as e:  # a pickle is a program; a damaged one fails anyhow
        raise ConversionError(
            f"{path} cannot be read as a pickled state dict: it is damaged, or holds more than tensors."
        ) from e
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise ConversionError(f"{path} holds no state dict.")
    has_config = (path.parent / CONFIG_FILE).is_file()
    extras = read_model_config(path.parent)[1] if has_config else {}
    model = timm.create_model(f"local-dir:{path.parent}") if has_config else new_model("ssrnet")
    _load(model, state, path)
    return save_pretrained(model, directory, **extras)


def _load(model: nn.Module, state: dict[str, Tensor], path: Union[str, os.PathLike]) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as e:
        raise ConversionError(f"{path} does not fit the architecture: {e}") from e


def _read_keras(path: Union[str, os.PathLike]) -> dict[str, np.ndarray]:
    try:
        import h5py
    except ImportError as e:
        raise ConversionError("Keras files are read by h5py: pip install h5py, or the extra convert.") from e

    layers: dict[str, np.ndarray] = {}

    def collect(name: str, item: Union[h5py.Group, h5py.Dataset]) -> None:
        if isinstance(item, h5py.Dataset):
            if item.size > 1_000_000:
                raise ConversionError(f"{path} holds an array of shape {item.shape}: it is no SSR-Net.")
            group, weight = name.split("/")[0], name.split("/")[-1].removesuffix(":0")
            layers[f"{group}/{weight}"] = np.asarray(item, dtype=np.float32)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(collect)
    except ConversionError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as e:
        raise ConversionError(f"{path} cannot be read as a Keras weights file: {e}") from e
    return layers


_Convert = Callable[[np.ndarray], np.ndarray]


def _keras_layout() -> Iterator[tuple[str, str, _Convert]]:
    """Key of our state dict, name in the authors' file, and how to bring the array to our order of axes."""
    blocks = ("0.0", "1.0", "2.0", "2.2")
    norm = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    for stream in (1, 2):
        for i, block in enumerate(blocks, start=1 + 4 * (stream - 1)):
            yield from _layer(f"stream{stream}.{block}.conv", f"conv2d_{i}", _conv)
            for ours, theirs in norm.items():
                yield f"stream{stream}.{block}.bn.{ours}", f"batch_normalization_{i}/{theirs}", np.asarray
    for k in range(3):
        yield from _layer(f"fusions.{k}.conv1", f"conv2d_{10 + 2 * k}", _conv)
        yield from _layer(f"fusions.{k}.conv2", f"conv2d_{9 + 2 * k}", _conv)
        yield from _layer(f"stages.{k}.fc1", f"dense_{3 * k + 2}", _dense_of_map)
        yield from _layer(f"stages.{k}.fc2", f"dense_{3 * k + 1}", _dense_of_map)
        yield from _layer(f"stages.{k}.fc", f"dense_{3 * k + 3}", np.transpose)
        yield from _layer(f"stages.{k}.p", f"pred_age_stage{k + 1}", np.transpose)
        yield from _layer(f"stages.{k}.eta", f"local_delta_stage{k + 1}", np.transpose)
        yield from _layer(f"stages.{k}.delta", f"delta_s{k + 1}", _dense_of_map)


def _layer(ours: str, theirs: str, convert: _Convert) -> Iterator[tuple[str, str, _Convert]]:
    yield f"{ours}.weight", f"{theirs}/kernel", convert
    yield f"{ours}.bias", f"{theirs}/bias", np.asarray


def _conv(kernel: np.ndarray) -> np.ndarray:
    """Height, width, in, out to out, in, height, width."""
    return kernel.transpose(3, 2, 0, 1)


def _dense_of_map(kernel: np.ndarray) -> np.ndarray:
    """A dense layer on a flattened square map of 10 channels: from channels last to channels first."""
    side = round((len(kernel) / 10) ** 0.5)
    return kernel.reshape(side, side, 10, -1).transpose(3, 2, 0, 1).reshape(-1, len(kernel))
