"""How far predicted ages are from true ones."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

if TYPE_CHECKING:  # most of this needs none
    import torch

__all__ = [
    "RESAMPLES",
    "SHUFFLES",
    "SMALLEST_GROUP",
    "age_band",
    "age_metrics",
    "auroc",
    "best_group",
    "compare_errors",
    "describe_device",
    "error_of",
    "gender_group_metrics",
    "gender_metrics",
    "group_metrics",
    "name_range",
    "range_group_metrics",
    "range_metrics",
    "worst_group",
]

RESAMPLES = 2_000
"""Of the bootstrap."""

SHUFFLES = 10_000
"""Of the permutation test, whose smallest p-value is about 1 / SHUFFLES."""

SMALLEST_GROUP = 20
"""Faces a group needs to be called the worst."""


def age_metrics(predicted: Sequence[float], true: Sequence[float]) -> dict[str, Any]:
    """The field's figures.

    Args:
        predicted: Ages, years.
        true: Ages, years, as many.

    Returns:
        ``mae``, mean absolute error in years, and ``mae_interval``, ``[low, high]``, its 95 % interval by a bootstrap
        over the faces, the same every time; ``rmse``, root of the mean squared error in years; ``cs3``, ``cs5``,
        ``cs7``, cumulative scores: share of the errors of at most so many years, in [0, 1]; ``bias``, mean of predicted
        minus true in years; ``n``.

    Raises:
        ValueError: There are not as many of the one as of the other, or none at all.
    """
    errors = _errors(predicted, true)
    distances = np.abs(errors)
    return {
        "mae": float(distances.mean()),
        "mae_interval": _interval(distances),
        "rmse": float(np.sqrt((errors**2).mean())),
        **{f"cs{years}": float((distances <= years).mean()) for years in (3, 5, 7)},
        "bias": float(errors.mean()),
        "n": len(errors),
    }


def group_metrics(
    predicted: Sequence[float], true: Sequence[float], groups: Sequence[Optional[str]]
) -> dict[str, dict[str, Any]]:
    """The figures of each group of faces, the groups in alphabetical order.

    Args:
        predicted: Ages, years.
        true: Ages, years, as many.
        groups: What each face belongs to, as many; faces of None or ``""`` are passed over.

    Returns:
        Of each group ``mae``, ``bias``, ``cs5`` and ``n``, as in `age_metrics`.

    Raises:
        ValueError: There are not as many of each, or none at all.
    """
    errors = _errors(predicted, true)
    return {
        group: {
            "mae": float(np.abs(errors[part]).mean()),
            "bias": float(errors[part].mean()),
            "cs5": float((np.abs(errors[part]) <= 5).mean()),
            "n": int(part.sum()),
        }
        for group, part in _split(groups, len(errors)).items()
    }


def range_metrics(predicted: Sequence[float], ranges: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """How far ages are from ranges that the true ones are known to lie in.

    Args:
        predicted: Ages, years.
        ranges: Of each the lowest age, and the first that is above it, years, as many; the latter may be infinite.

    Returns:
        ``distance``, the mean distance to the range in years, 0 within it, and ``distance_interval``, ``[low, high]``,
        its 95 % interval by a bootstrap over the faces, the same every time; ``within``, share of the ages in their
        range, in [0, 1]; ``n``.

    Raises:
        ValueError: There are not as many of the one as of the other, or none at all.
    """
    distances, within = _distances(predicted, ranges)
    return {
        "distance": float(distances.mean()),
        "distance_interval": _interval(distances),
        "within": float(within.mean()),
        "n": len(distances),
    }


def range_group_metrics(
    predicted: Sequence[float], ranges: Sequence[tuple[float, float]], groups: Sequence[Optional[str]]
) -> dict[str, dict[str, Any]]:
    """The figures of each group of faces whose ages are known by their range, the groups in alphabetical order.

    Args:
        predicted: Ages, years.
        ranges: As in `range_metrics`.
        groups: What each face belongs to, as many; faces of None or ``""`` are passed over.

    Returns:
        Of each group ``distance``, ``within`` and ``n``, as in `range_metrics`.

    Raises:
        ValueError: There are not as many of each, or none at all.
    """
    distances, within = _distances(predicted, ranges)
    return {
        group: {
            "distance": float(distances[part].mean()),
            "within": float(within[part].mean()),
            "n": int(part.sum()),
        }
        for group, part in _split(groups, len(distances)).items()
    }


def name_range(low: float, high: float) -> str:
    """A range of ages as people write it: ``"20-29"`` for 20 up to, but not, 30; ``"70+"`` for an open one."""
    return f"{low:g}+" if math.isinf(high) else f"{low:g}-{high - 1:g}"


def worst_group(groups: Mapping[str, Mapping[str, Any]]) -> Optional[str]:
    """The group with the largest MAE or distance, or where there is neither the smallest accuracy.

    Args:
        groups: What `group_metrics`, `range_group_metrics` or `gender_group_metrics` answered.

    Returns:
        Its name; None where no group has at least `SMALLEST_GROUP` faces.
    """
    return max(_large(groups), key=lambda group: error_of(groups[group]), default=None)


def best_group(groups: Mapping[str, Mapping[str, Any]]) -> Optional[str]:
    """The group with the smallest MAE or distance, or the largest accuracy; see `worst_group`."""
    return min(_large(groups), key=lambda group: error_of(groups[group]), default=None)


def _large(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [group for group, figures in groups.items() if figures["n"] >= SMALLEST_GROUP]


def error_of(figures: Mapping[str, Any]) -> float:
    """The MAE or distance among figures, years, or where there is neither the share of wrong answers."""
    return next((figures[name] for name in ("mae", "distance") if name in figures), 1 - figures.get("accuracy", 0))


def age_band(age: float) -> str:
    """The ten years that an age lies in: ``"0-9"``, ``"10-19"``, ... ``"70-79"``, ``"80+"``; below 0 counts as 0."""
    first = 10 * int(max(age, 0) // 10)
    return f"{first}-{first + 9}" if first < 80 else "80+"


def compare_errors(a: Sequence[float], b: Sequence[float], true: Sequence[float]) -> dict[str, Any]:
    """Whether one set of weights is nearer the truth than another on the same faces.

    Args:
        a: Ages by the one, years.
        b: Ages by the other, years, as many.
        true: Ages, years, as many.

    Returns:
        ``mae_a``, ``mae_b``; ``difference``, the first minus the second in years, and ``difference_interval``,
        ``[low, high]``, its 95 % interval by a bootstrap over the faces; ``p_value``, two-sided, of a permutation test
        that flips the signs of the faces' differences; ``nearer_a`` and ``nearer_b``, the shares of the faces where
        the one is nearer and where the other is, in [0, 1], the rest being ties; ``n``. The same every time.

    Raises:
        ValueError: There are not as many of each, or none at all.
    """
    distances_a, distances_b = np.abs(_errors(a, true)), np.abs(_errors(b, true))
    differences = distances_a - distances_b
    return {
        "mae_a": float(distances_a.mean()),
        "mae_b": float(distances_b.mean()),
        "difference": float(differences.mean()),
        "difference_interval": _interval(differences),
        "p_value": _sign_flip_test(differences),
        "nearer_a": float((differences < 0).mean()),
        "nearer_b": float((differences > 0).mean()),
        "n": len(differences),
    }


def gender_metrics(scores: Sequence[float], genders: Sequence[str]) -> dict[str, Any]:
    """How often a score of gender is on the right side of 0.5.

    Args:
        scores: From 0, female, to 1, male.
        genders: ``"female"`` or ``"male"``, as many.

    Returns:
        ``accuracy``, share of the faces on the right side, in [0, 1], a score of 0.5 being on neither;
        ``balanced_accuracy``, the mean of that over the two, or that of the one there is; ``n``.

    Raises:
        ValueError: There are not as many of the one as of the other, or none at all.
    """
    right, who = _right(scores, genders), np.asarray(genders)
    balanced = np.mean([right[who == gender].mean() for gender in np.unique(who)])
    return {"accuracy": float(right.mean()), "balanced_accuracy": float(balanced), "n": len(right)}


def gender_group_metrics(
    scores: Sequence[float], genders: Sequence[str], groups: Sequence[Optional[str]]
) -> dict[str, dict[str, Any]]:
    """How often a score of gender is on the right side, for each group of faces, in alphabetical order.

    Args:
        scores: From 0, female, to 1, male.
        genders: ``"female"`` or ``"male"``, as many.
        groups: What each face belongs to, as many; faces of None or ``""`` are passed over.

    Returns:
        Of each group ``accuracy`` and ``n``, as in `gender_metrics`.

    Raises:
        ValueError: There are not as many of each, or none at all.
    """
    right = _right(scores, genders)
    return {
        group: {"accuracy": float(right[part].mean()), "n": int(part.sum())}
        for group, part in _split(groups, len(right)).items()
    }


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """How often a score of a positive is above one of a negative: the area under the ROC curve; ties count half."""
    # scikit-learn's answers the same, and would be a dependency for this alone
    p, n = np.asarray(positive, float), np.sort(np.asarray(negative, float))
    below, above = np.searchsorted(n, p, "left"), np.searchsorted(n, p, "right")
    return float((below + above).mean() / (2 * len(n)))


def describe_device(device: Union[str, "torch.device"]) -> str:
    """What a figure was measured on, for people: ``"CPU (2 cores), torch 2.15.0"``."""
    import torch

    device = torch.device(device)
    if device.type == "cpu":
        name = f"CPU ({os.cpu_count()} cores)"
    else:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{name}, torch {torch.__version__.split('+')[0]}"


def _errors(predicted: Sequence[float], true: Sequence[float]) -> np.ndarray:
    _assert_paired(len(predicted), "predicted ages", len(true), "true ones")
    return np.asarray(predicted, float) - np.asarray(true, float)


def _distances(predicted: Sequence[float], ranges: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """How far each age is from its range, years, and whether it is within."""
    _assert_paired(len(predicted), "predicted ages", len(ranges), "ranges")
    ages, (low, high) = np.asarray(predicted, float), np.asarray(ranges, float).T
    return np.maximum(np.maximum(low - ages, ages - high), 0), (low <= ages) & (ages < high)


def _right(scores: Sequence[float], genders: Sequence[str]) -> np.ndarray:
    _assert_paired(len(scores), "scores", len(genders), "genders")
    male = np.asarray(scores, float)
    return np.where(np.asarray(genders) == "male", male > 0.5, male < 0.5)


def _assert_paired(ours: int, name: str, theirs: int, other: str) -> None:
    if ours != theirs:
        raise ValueError(f"{ours} {name}, but {theirs} {other}")
    if not ours:
        raise ValueError(f"no {name}")


def _split(groups: Sequence[Optional[str]], n: int) -> dict[str, np.ndarray]:
    """Which faces are of each group, ``(n,)`` booleans."""
    _assert_paired(n, "faces", len(groups), "groups")
    labels = np.array([group or "" for group in groups])
    return {str(group): labels == group for group in np.unique(labels) if group}


def _blocks(times: int, n: int) -> list[int]:
    """How many of ``times`` draws of ``n`` numbers to make at once for them to fit into memory."""
    most = max(4_000_000 // n, 1)
    return [min(most, times - done) for done in range(0, times, most)]


def _interval(values: np.ndarray) -> list[float]:
    """The 95 % interval of a mean by the percentiles of a bootstrap, ``[low, high]``."""
    rng, n = np.random.default_rng(0), len(values)
    means = [values[rng.integers(n, size=(draws, n))].mean(1) for draws in _blocks(RESAMPLES, n)]
    return np.quantile(np.concatenate(means), (0.025, 0.975)).tolist()


def _sign_flip_test(differences: np.ndarray) -> float:
    """The two-sided p-value that a mean is not 0 only by chance, were either sign of each value as likely."""
    rng, n = np.random.default_rng(0), len(differences)
    total, extreme = differences.sum(), 0
    for draws in _blocks(SHUFFLES, n):
        flipped = total - 2 * (rng.integers(2, size=(draws, n), dtype=np.int8) @ differences)
        # sums in another order differ in their last digits
        extreme += int((np.abs(flipped) >= abs(total) - 1e-9).sum())
    return (extreme + 1) / (SHUFFLES + 1)
