"""How far predicted ages are from true ones."""

import os
from collections.abc import Sequence
from typing import Any, Union

import numpy as np
import torch

__all__ = ["age_metrics", "describe_device", "gender_metrics"]


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


def gender_metrics(scores: Sequence[float], genders: Sequence[str]) -> dict[str, Any]:
    """How often a score of gender is on the right side of 0.5.

    Args:
        scores: From 0, female, to 1, male.
        genders: ``"female"`` or ``"male"``, as many.

    Returns:
        ``accuracy``, share of the faces on the right side, in [0, 1], a score of 0.5 being on neither;
        ``balanced_accuracy``, the mean of that over the two; ``n``.
    """
    if len(scores) != len(genders):
        raise ValueError(f"{len(scores)} scores, but {len(genders)} genders")
    scores, male = np.asarray(scores, float), np.asarray(genders) == "male"
    right = np.where(male, scores > 0.5, scores < 0.5)
    return {
        "accuracy": float(right.mean()),
        "balanced_accuracy": float((right[male].mean() + right[~male].mean()) / 2),
        "n": len(scores),
    }


def describe_device(device: Union[str, torch.device]) -> str:
    """What a figure was measured on, for people: ``"CPU (2 cores), torch 2.15.0"``."""
    device = torch.device(device)
    if device.type == "cpu":
        name = f"CPU ({os.cpu_count()} cores)"
    else:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, torch {torch.__version__.split('+')[0]}"
