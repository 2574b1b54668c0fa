"""Prediction intervals by conformal prediction, wider where errors are larger."""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import CalibrationError, ConfigError
from ..utils.untrusted import checked, listing, number, record, whole

__all__ = ["Intervals", "fit_intervals", "measure_coverage", "measure_resplits"]

_KNOTS = (0.0, 5.0, 15.0, 25.0, 35.0, 50.0, 65.0, 85.0)
"""Predicted ages between which the expected error is interpolated, years."""

_LEAST = 1.0
"""Least expected error, years."""

_SCORES = 200
"""How many quantiles of the scores are kept."""

_FEWEST = 100
"""Faces that a calibration takes, at least."""

_FIELDS = record(
    {
        "knots": listing(number(-1000, 1000), 1, 100),
        "scale": listing(number(1e-6, 1000), 1, 100),
        "scores": listing(number(0, 1e6), 2, 10_000),
        "n": whole(_FEWEST, 10**9),
    },
    closed=False,
)


@dataclass(frozen=True)
class Intervals:
    """Locally weighted conformal intervals.

    The score of a face is its error as a multiple of the expected error at the predicted age,
    ``|y - age| / scale(age)``. Its quantiles are known from held-out faces; for new faces like them, a share ``level``
    has an error of at most ``quantile(level) * scale(age)``.

    Attributes:
        knots: Predicted ages, years, increasing.
        scale: Expected error at each, years; interpolated between them.
        scores: Quantiles of the scores of n faces, at levels ``1/m, 2/m, ... 1``, increasing.
        n: Number of held-out faces.
    """

    knots: tuple[float, ...]
    scale: tuple[float, ...]
    scores: tuple[float, ...]
    n: int

    def half_width(self, age: float, level: float) -> float:
        """Half of the width of the interval around a predicted age, years.

        Raises:
            ValueError: ``level`` is not between 0 and 1, or closer to 1 than ``n`` faces support.
        """
        if not 0 < level < 1:
            raise ValueError(f"The level of an interval is between 0 and 1, not {level}")
        # the new face is one of n + 1
        share = math.ceil((self.n + 1) * level) / self.n
        if share > 1:
            raise ValueError(f"A calibration on {self.n} faces tells levels up to {self.n / (self.n + 1):.4f}")
        places = np.arange(1, len(self.scores) + 1) / len(self.scores)
        return float(np.interp(share, places, self.scores) * np.interp(age, self.knots, self.scale))

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON has them."""
        return {"knots": list(self.knots), "scale": list(self.scale), "scores": list(self.scores), "n": self.n}

    @classmethod
    def from_dict(cls, config: Any) -> "Intervals":
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: Something is missing or out of bounds.
        """
        fields = checked("In config.json, intervals", _FIELDS, config)
        knots, scale, scores = fields["knots"], fields["scale"], fields["scores"]
        if len(knots) != len(scale):
            raise ConfigError(f"The intervals in config.json have {len(knots)} knots, but {len(scale)} in their scale.")
        if not all(a < b for a, b in pairwise(knots)) or not all(a <= b for a, b in pairwise(scores)):
            raise ConfigError("The intervals in config.json have knots or scores that do not rise.")
        return cls(knots, scale, scores, fields["n"])


def fit_intervals(predicted: ArrayLike, true: ArrayLike) -> Intervals:
    """Learn intervals from faces that the weights were not trained on.

    The scores are crossed: of each half of the faces by the expected errors that the other half tells, or the intervals
    would be too narrow.

    Args:
        predicted: Ages, years, in an order that says nothing.
        true: Ages, years, as many.

    Raises:
        CalibrationError: There are fewer than 100.
    """
    ages, errors = np.asarray(predicted, float), np.abs(np.asarray(predicted, float) - np.asarray(true, float))
    if len(ages) < _FEWEST:
        raise CalibrationError(f"A calibration takes {_FEWEST} faces or more, not {len(ages)}.")
    halves = slice(0, None, 2), slice(1, None, 2)
    scores = np.concatenate(
        [
            errors[others] / (_hats(ages[others]) @ _expect(ages[learn], errors[learn]))
            for learn, others in (halves, halves[::-1])
        ]
    )
    places = np.arange(1, _SCORES + 1) / _SCORES
    kept = np.quantile(scores, places, method="inverted_cdf")
    return Intervals(_KNOTS, _rounded(_expect(ages, errors)), _rounded(kept), len(scores))


def _expect(ages: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The error that is expected at each knot, by least squares, years."""
    hats = _hats(ages)
    # as if each knot had seen one more face, of the mean error: at the ends there may be none
    wanted = hats.T @ errors + errors.mean()
    return np.linalg.solve(hats.T @ hats + np.eye(len(_KNOTS)), wanted).clip(_LEAST)


def _hats(ages: np.ndarray) -> np.ndarray:
    """Weight of each knot in an interpolation at each age, ``(N, K)``."""
    return np.stack([np.interp(ages, _KNOTS, unit) for unit in np.eye(len(_KNOTS))], 1)


def _rounded(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)


def measure_coverage(
    predicted: ArrayLike, true: ArrayLike, intervals: Intervals, level: float, V: float
) -> tuple[np.ndarray, float]:
    """Whether each true age lies in its interval ``(N,)``, and the mean width of the intervals, years."""
    ages, true = np.asarray(predicted, float), np.asarray(true, float)
    half = np.array([intervals.half_width(age, level) for age in ages])
    low, high = (ages - half).clip(0, V), (ages + half).clip(0, V)
    return (low <= true) & (true <= high), float((high - low).mean())


def measure_resplits(
    predicted: ArrayLike, true: ArrayLike, count: int, level: float, V: float, *, times: int = 50
) -> dict[str, float]:
    """Mean coverage of intervals over random splits of the same faces into ``count`` to learn from and the others."""
    ages, true = np.asarray(predicted, float), np.asarray(true, float)
    rng = np.random.default_rng(0)
    shares, widths = [], []
    for _ in range(times):
        order = rng.permutation(len(ages))
        learn, test = order[:count], order[count:]
        inside, width = measure_coverage(ages[test], true[test], fit_intervals(ages[learn], true[learn]), level, V)
        shares.append(inside.mean())
        widths.append(width)
    return {"coverage": float(np.mean(shares)), "spread": float(np.std(shares)), "width": float(np.mean(widths))}
