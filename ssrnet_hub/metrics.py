"""How far predicted ages are from true ones."""

import os
from collections.abc import Sequence
from typing import Any, Union

import numpy as np
import torch

__all__ = ["age_metrics", "describe_device"]


def age_metrics(predicted: Sequence[float], true: Sequence[float]) -> dict[str, Any]:
    """The field's figures.

    Args:
        predicted: Ages, years.
        true: Ages, years, as many.

    Returns:
        ``mae``, mean absolute error in years; ``cs5``, cumulative score at 5: share of the errors of at most 5 years,
        in [0, 1]; ``bias``, mean of predicted minus true in years; ``n``.
    """
    if len(predicted) != len(true):
        raise ValueError(f"{len(predicted)} predicted ages, but {len(true)} true ones")
    errors = np.asarray(predicted, float) - np.asarray(true, float)
    return {
        "mae": float(np.abs(errors).mean()),
        "cs5": float((np.abs(errors) <= 5).mean()),
        "bias": float(errors.mean()),
        "n": len(errors),
    }


def describe_device(device: Union[str, torch.device]) -> str:
    """What a figure was measured on, for people: ``"CPU (2 cores), torch 2.15.0"``."""
    device = torch.device(device)
    if device.type == "cpu":
        name = f"CPU ({os.cpu_count()} cores)"
    else:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, torch {torch.__version__.split('+')[0]}"
