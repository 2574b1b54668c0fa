"""How far predicted ages are from true ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["age_metrics"]


def age_metrics(predicted: Sequence[float], true: Sequence[float]) -> dict[str, Any]:
    """The field's figures.

    Args:
        predicted: Ages, years.
        true: Ages, years, as many.

    Returns:
        ``mae``, mean absolute error in years; ``cs5``, cumulative score at 5: share of the errors of at most 5 years,
        in [0, 1]; ``bias``, mean of predicted minus true in years; ``n``.
    """
    errors = np.asarray(predicted, float) - np.asarray(true, float)
    return {
        "mae": float(np.abs(errors).mean()),
        "cs5": float((np.abs(errors) <= 5).mean()),
        "bias": float(errors.mean()),
        "n": len(errors),
    }
