"""Metrics of age and gender predictions."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

if TYPE_CHECKING:  # most functions do not need PyTorch
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
    "large_groups",
    "name_range",
    "range_group_metrics",
    "range_metrics",
    "worst_group",
]

RESAMPLES = 2_000
"""Number of bootstrap resamples."""

SHUFFLES = 10_000
"""Number of permutations in the permutation test; the smallest p-value is about 1 / SHUFFLES."""

SMALLEST_GROUP = 20
"""Minimum number of faces for a group to be the best or worst one."""


def age_metrics(predicted: Sequence[float], true: Sequence[float]) -> dict[str, Any]:
    """Compute the usual metrics of age estimation.

    Args:
        predicted: Predicted ages, years.
        true: True ages, years.

    Returns:
        ``mae``, mean absolute error in years, and ``mae_interval``, ``[low, high]``, its 95% confidence interval, from
        a bootstrap over the faces with a fixed seed; ``rmse``, root mean squared error in years; ``cs3``, ``cs5``, and
        ``cs7``, cumulative scores: fraction of errors of at most 3, 5, and 7 years, in [0, 1]; ``bias``, mean of
        predicted minus true ages in years; ``n``, number of faces.

    Raises:
        ValueError: The lengths differ, or are 0.
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
    """Compute the metrics of each group of faces, in alphabetical order.

    Args:
        predicted: Predicted ages, years.
        true: True ages, years.
        groups: Group of each face; faces with None or ``""`` are skipped.

    Returns:
        For each group, ``mae``, ``bias``, ``cs5``, and ``n``, as in `age_metrics`.

    Raises:
        ValueError: The lengths differ, or are 0.
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
    """Compute the metrics of faces whose ages are labeled by a range.

    Args:
        predicted: Predicted ages, years.
        ranges: Labeled range of each face, ``(low, high)``, years; ``high`` is exclusive and may be infinite.

    Returns:
        ``distance``, the mean distance to the range in years, 0 within it, and ``distance_interval``, ``[low, high]``,
        its 95% confidence interval, from a bootstrap over the faces with a fixed seed; ``within``, fraction of ages in
        their range, in [0, 1]; ``n``, number of faces.

    Raises:
        ValueError: The lengths differ, or are 0.
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
    """Compute the metrics of each group of faces whose ages are labeled by a range, in alphabetical order.

    Args:
        predicted: Predicted ages, years.
        ranges: As in `range_metrics`.
        groups: Group of each face; faces with None or ``""`` are skipped.

    Returns:
        For each group, ``distance``, ``within``, and ``n``, as in `range_metrics`.

    Raises:
        ValueError: The lengths differ, or are 0.
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
    """Format a range of ages: ``"20-29"`` for 20 up to, but excluding, 30; ``"70+"`` if it is open."""
    return f"{low:g}+" if math.isinf(high) else f"{low:g}-{high - 1:g}"


def worst_group(groups: Mapping[str, Mapping[str, Any]]) -> Optional[str]:
    """Find the group with the largest MAE or distance, or else the lowest accuracy.

    Args:
        groups: Result of `group_metrics`, `range_group_metrics`, or `gender_group_metrics`.

    Returns:
        Name of the group; None if no group has at least `SMALLEST_GROUP` faces.
    """
    return max(large_groups(groups), key=lambda group: error_of(groups[group]), default=None)


def best_group(groups: Mapping[str, Mapping[str, Any]]) -> Optional[str]:
    """Find the group with the smallest MAE or distance, or else the highest accuracy; see `worst_group`."""
    return min(large_groups(groups), key=lambda group: error_of(groups[group]), default=None)


def large_groups(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names of the groups with at least `SMALLEST_GROUP` faces."""
    return [group for group, figures in groups.items() if figures["n"] >= SMALLEST_GROUP]


def error_of(figures: Mapping[str, Any]) -> float:
    """Return the MAE or distance among metrics, years, or else the error rate."""
    return next((figures[name] for name in ("mae", "distance") if name in figures), 1 - figures.get("accuracy", 0))


def age_band(age: float) -> str:
    """Return the decade of an age: ``"0-9"``, ``"10-19"``, ... ``"70-79"``, ``"80+"``; ages below 0 count as 0."""
    first = 10 * int(max(age, 0) // 10)
    return f"{first}-{first + 9}" if first < 80 else "80+"


def compare_errors(a: Sequence[float], b: Sequence[float], true: Sequence[float]) -> dict[str, Any]:
    """Compare the errors of two sets of weights on the same faces.

    Args:
        a: Ages predicted by the first, years.
        b: Ages predicted by the second, years.
        true: True ages, years.

    Returns:
        ``mae_a`` and ``mae_b``; ``difference``, the first minus the second in years, and ``difference_interval``,
        ``[low, high]``, its 95% confidence interval, from a bootstrap over the faces; ``p_value``, two-sided, of a
        permutation test that flips the signs of the faces' differences; ``nearer_a`` and ``nearer_b``, fractions of
        the faces where the first and the second are nearer to the truth, in [0, 1], the rest being ties; ``n``, number
        of faces. Seeds are fixed.

    Raises:
        ValueError: The lengths differ, or are 0.
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
    """Compute the accuracy of gender scores, with a threshold of 0.5.

    Args:
        scores: Scores from 0 (female) to 1 (male).
        genders: True genders, ``"female"`` or ``"male"``.

    Returns:
        ``accuracy``, in [0, 1], where a score of 0.5 is always wrong; ``balanced_accuracy``, the mean accuracy of the
        genders present; ``n``, number of faces.

    Raises:
        ValueError: The lengths differ, or are 0.
    """
    right, who = _right(scores, genders), np.asarray(genders)
    balanced = np.mean([right[who == gender].mean() for gender in np.unique(who)])
    return {"accuracy": float(right.mean()), "balanced_accuracy": float(balanced), "n": len(right)}


def gender_group_metrics(
    scores: Sequence[float], genders: Sequence[str], groups: Sequence[Optional[str]]
) -> dict[str, dict[str, Any]]:
    """Compute the accuracy of gender scores for each group of faces, in alphabetical order.

    Args:
        scores: Scores from 0 (female) to 1 (male).
        genders: True genders, ``"female"`` or ``"male"``.
        groups: Group of each face; faces with None or ``""`` are skipped.

    Returns:
        For each group, ``accuracy`` and ``n``, as in `gender_metrics`.

    Raises:
        ValueError: The lengths differ, or are 0.
    """
    right = _right(scores, genders)
    return {
        group: {"accuracy": float(right[part].mean()), "n": int(part.sum())}
        for group, part in _split(groups, len(right)).items()
    }


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Compute the area under the ROC curve from the scores of positives and negatives; ties count half."""
    # the same as scikit-learn's, which would be a dependency for this alone
    p, n = np.asarray(positive, float), np.sort(np.asarray(negative, float))
    below, above = np.searchsorted(n, p, "left"), np.searchsorted(n, p, "right")
    return float((below + above).mean() / (2 * len(n)))


def describe_device(device: Union[str, "torch.device"]) -> str:
    """Describe the device of a measurement: ``"CPU (2 cores), torch 2.15.0"``."""
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
    """Return the distance of each age to its range, years, and whether it is within."""
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
    """Return a mask of the faces of each group, ``(n,)`` booleans."""
    _assert_paired(n, "faces", len(groups), "groups")
    labels = np.array([group or "" for group in groups])
    return {str(group): labels == group for group in np.unique(labels) if group}


def _blocks(times: int, n: int) -> list[int]:
    """Split ``times`` draws of ``n`` numbers into blocks that fit into memory."""
    most = max(4_000_000 // n, 1)
    return [min(most, times - done) for done in range(0, times, most)]


def _interval(values: np.ndarray) -> list[float]:
    """Compute the 95% confidence interval of a mean, ``[low, high]``, as percentiles of a bootstrap."""
    rng, n = np.random.default_rng(0), len(values)
    means = [values[rng.integers(n, size=(draws, n))].mean(1) for draws in _blocks(RESAMPLES, n)]
    return np.quantile(np.concatenate(means), (0.025, 0.975)).tolist()


def _sign_flip_test(differences: np.ndarray) -> float:
    """Compute the two-sided p-value of a mean under the hypothesis that both signs of each value are equally likely."""
    rng, n = np.random.default_rng(0), len(differences)
    total, extreme = differences.sum(), 0
    for draws in _blocks(SHUFFLES, n):
        flipped = total - 2 * (rng.integers(2, size=(draws, n), dtype=np.int8) @ differences)
        # the last digits depend on the order of summation
        extreme += int((np.abs(flipped) >= abs(total) - 1e-9).sum())
    return (extreme + 1) / (SHUFFLES + 1)
