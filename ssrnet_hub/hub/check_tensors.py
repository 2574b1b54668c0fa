"""Check tensors: a few inputs with the expected outputs of the model, saved next to its weights."""

import os
from pathlib import Path
from typing import Union

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..errors import CheckError
from ..models.preprocessing import Normalize
from ..models.pretrained import AgeModel, assert_age_model
from ..utils.inference_mode import inference
from ..utils.io import replace_file
from .files import CHECK_FILE

__all__ = ["CHECK_FILE", "verify_model", "write_check"]


_MAX_SIZE = 20_000_000
"""Maximum size of the file of check tensors, bytes."""

_TOLERANCE = 1e-4
"""Relative and absolute tolerance; for ages, the absolute tolerance is this times the range V."""


def write_check(model: nn.Module, path: Union[str, os.PathLike]) -> Path:
    """Write check tensors of a model: ``pixels``, random 8-bit images with a fixed seed, and the outputs for them."""
    model = assert_age_model(model)
    _, height, width = timm.data.resolve_input_data_config(model)["input_size"]
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(256, (4, model.in_chans, 5, 5), generator=generator, device="cpu").float()
    pixels = nn.functional.interpolate(coarse, (height, width), mode="bilinear").round().to(torch.uint8)
    with replace_file(path) as temporary:
        save_file({"pixels": pixels, **_run_model(model, pixels)}, temporary)
    return Path(path)


def verify_model(model: nn.Module, path: Union[str, os.PathLike]) -> None:
    """Check that the output of a model matches the check tensors.

    Raises:
        CheckError: It does not, or there are no check tensors.
    """
    model = assert_age_model(model)
    size = timm.data.resolve_input_data_config(model)["input_size"]
    if not Path(path).is_file():
        raise CheckError(
            f"{Path(path).parent} has no check tensors ({Path(path).name}). `ssrnet-hub push` writes them; with "
            "--dry-run FOLDER, nothing is pushed."
        )
    try:
        if Path(path).stat().st_size > _MAX_SIZE:
            raise ValueError(f"it has more than {_MAX_SIZE:,} bytes")
        expected = load_file(path)
        pixels = expected.pop("pixels")
        if pixels.dtype != torch.uint8 or pixels.shape[1:] != size or not 1 <= len(pixels) <= 16:
            raise ValueError(f"pixels are {tuple(pixels.shape)} of {pixels.dtype}, not (N, *{size}) of uint8, N <= 16")
        actual = _run_model(model, pixels)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AssertionError) as e:
        raise CheckError(f"{path} has no valid check tensors for this model: {e!r:.300}") from e
    wrong = [key for key in sorted(actual.keys() | expected.keys()) if not _agree(key, actual, expected, model.V)]
    if wrong:
        raise CheckError(
            f"The output of the model differs from {path} in {', '.join(wrong)}. Either the weights or their config "
            "changed after the check tensors were written, or this machine computes wrong results."
        )


def _run_model(model: AgeModel, pixels: Tensor) -> dict[str, Tensor]:
    like = next(model.parameters())
    with inference():
        age, stages = model.forward_stages(Normalize(model)(pixels).to(like.device, like.dtype))
    outputs = {"age": age}
    for k, stage in enumerate(stages, start=1):
        outputs |= {f"stage{k}.{key}": getattr(stage, key) for key in ("p", "eta", "delta")}
    return {key: value.float().cpu().contiguous() for key, value in outputs.items()}


def _agree(key: str, actual: dict[str, Tensor], expected: dict[str, Tensor], V: float) -> bool:
    if key not in actual or key not in expected:
        return False
    if actual[key].shape != expected[key].shape or actual[key].dtype != expected[key].dtype:
        return False
    tolerance = _TOLERANCE * (V if key == "age" else 1)
    return torch.allclose(actual[key], expected[key], rtol=_TOLERANCE, atol=tolerance, equal_nan=True)
