"""Prediction intervals by conformal prediction, wider where errors are larger."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, Optional

import numpy as np
from numpy.typing import ArrayLike

from ..errors import CalibrationError, ConfigError
from ..utils.untrusted import checked, listing, number, record, whole

__all__ = ["Intervals", "Scores", "fit_intervals", "measure_coverage", "measure_resplits"]

_KNOTS = (0.0, 5.0, 15.0, 25.0, 35.0, 50.0, 65.0, 85.0)
"""Predicted ages between which the expected error is interpolated, years."""

_LEAST = 1.0
"""Least expected error, years."""

_SCORES = 200
"""Number of quantiles of the scores to keep."""

_FEWEST = 100
"""Minimum number of faces in a calibration and in each of its bands."""

_BAND = 10.0
"""Width of a band of predicted ages, years; bands with too few faces are merged."""

_MOST_FACTOR = 6.0
"""Maximum factor by which a picture scales the expected error, up or down."""

_PENALTY = 1e-3
"""Regularization of the regression of errors on picture features, scikit-learn's ``alpha``."""

_SCORES_FIELD = listing(number(0, 1e6), 2, 10_000)

_BAND_FIELDS = record({"low": number(-1000, 1000), "scores": _SCORES_FIELD, "n": whole(2, 10**9)})

_FIELDS = record(
    {
        "knots": listing(number(-1000, 1000), 1, 100),
        "scale": listing(number(1e-6, 1000), 1, 100),
        "scores": _SCORES_FIELD,
        "n": whole(_FEWEST, 10**9),
    },
    {
        "weights": listing(number(-1e6, 1e6), 0, 1000),
        "offset": number(-1e6, 1e6),
        "bands": listing(_BAND_FIELDS, 0, 100),
    },
    closed=False,
)


class Scores(NamedTuple):
    """Scores of held-out faces.

    Attributes:
        values: Quantiles of the scores, at levels ``1/m, 2/m, ... 1``, increasing.
        n: Number of faces.
    """

    values: tuple[float, ...]
    n: int

    def quantile(self, level: float) -> Optional[float]:
        """Upper bound of the score of a new face with probability ``level``; None if that takes more than n faces."""
        # the new face is one of n + 1
        share = math.ceil((self.n + 1) * level) / self.n
        if share > 1:
            return None
        return float(np.interp(share, np.arange(1, len(self.values) + 1) / len(self.values), self.values))


@dataclass(frozen=True)
class Intervals:
    """Locally weighted conformal intervals that hold within bands of predicted ages (Mondrian).

    The score of a face is its error as a multiple of the expected error at the predicted age and for its picture,
    ``|y - age| / (scale(age) * exp(weights @ description + offset))``. Its quantiles are known from held-out faces; for
    new faces like them, a share ``level`` has an error of at most ``quantile(level)`` times the expected one.

    Attributes:
        knots: Predicted ages, years, increasing.
        scale: Expected error at each, years; interpolated between them.
        scores: Scores of all held-out faces.
        weights: Coefficients of `describe_face` in the logarithm of the expected error; empty if only age matters.
        offset: Its intercept.
        bands: Lower end of each band of predicted ages, years, increasing, and the scores of its faces.
    """

    knots: tuple[float, ...]
    scale: tuple[float, ...]
    scores: Scores
    weights: tuple[float, ...] = ()
    offset: float = 0.0
    bands: tuple[tuple[float, Scores], ...] = ()

    def half_width(self, age: float, level: float, description: Optional[np.ndarray] = None) -> float:
        """Half of the width of the interval around a predicted age, years.

        Args:
            age: Years.
            level: Between 0 and 1.
            description: `describe_face` of the face, ``(D,)``; without one, an ordinary picture is assumed.

        Raises:
            ValueError: ``level`` is not between 0 and 1, or closer to 1 than the number of faces supports.
            ConfigError: The calibration was fitted for a model with other stages.
        """
        if not 0 < level < 1:
            raise ValueError(f"The level of an interval must be between 0 and 1, not {level}")
        quantile = self._of_band(age).quantile(level) or self.scores.quantile(level)
        if quantile is None:
            n = self.scores.n
            raise ValueError(f"A calibration on {n} faces supports levels up to {n / (n + 1):.4f}, not {level}")
        return quantile * self.expect(age, description)

    def expect(self, age: float, description: Optional[np.ndarray] = None) -> float:
        """Expected error, years; the arguments are those of `half_width`."""
        scale = float(np.interp(age, self.knots, self.scale))
        if description is None or not self.weights:
            return scale
        if len(description) != len(self.weights):
            raise ConfigError(
                f"The intervals in config.json have {len(self.weights)} features, not {len(description)}."
            )
        return scale * float(_to_factor(description @ np.array(self.weights) + self.offset))

    def _of_band(self, age: float) -> Scores:
        # ages below the first band are like those in it
        return next((scores for low, scores in reversed(self.bands) if age >= low), self.scores)

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON-serializable values."""
        return {
            "knots": list(self.knots),
            "scale": list(self.scale),
            "scores": list(self.scores.values),
            "n": self.scores.n,
            "weights": list(self.weights),
            "offset": self.offset,
            "bands": [{"low": low, "scores": list(scores.values), "n": scores.n} for low, scores in self.bands],
        }

    @classmethod
    def from_dict(cls, config: Any) -> "Intervals":
        """Read what `to_dict` wrote; calibrations of earlier versions have neither weights nor bands.

        Raises:
            ConfigError: Something is missing or out of bounds.
        """
        fields = checked("In config.json, intervals", _FIELDS, config)
        knots, scale = fields["knots"], fields["scale"]
        bands = [(band["low"], Scores(band["scores"], band["n"])) for band in fields.get("bands", ())]
        scores = Scores(fields["scores"], fields["n"])
        if len(knots) != len(scale):
            raise ConfigError(f"The intervals in config.json have {len(knots)} knots but {len(scale)} values of scale.")
        rising = [part.values for part in (scores, *(own for _, own in bands))]
        if not all(a < b for values in (knots, [low for low, _ in bands]) for a, b in pairwise(values)) or not all(
            a <= b for values in rising for a, b in pairwise(values)
        ):
            raise ConfigError("The intervals in config.json have knots, bands, or scores that are not increasing.")
        return cls(knots, scale, scores, tuple(fields.get("weights", ())), fields.get("offset", 0.0), tuple(bands))


def fit_intervals(predicted: ArrayLike, true: ArrayLike, descriptions: Optional[ArrayLike] = None) -> Intervals:
    """Fit intervals on faces that the weights were not trained on.

    Scores are cross-fitted: each half of the faces is scored by expected errors fitted on the other half; otherwise the
    intervals would be too narrow.

    Args:
        predicted: Predicted ages, years, ``(N,)``, in random order; or ``(K, N)``, with K - 1 degraded copies of each
            face, which only serve to fit the effect of the picture on the error.
        true: True ages, years, ``(N,)``.
        descriptions: `describe_face` of each, ``(K, N, D)``. Default: widths depend on age only.

    Raises:
        CalibrationError: There are fewer than 100 faces.
        ImportError: Descriptions require scikit-learn, of the extra train.
    """
    ages, true = np.atleast_2d(np.asarray(predicted, float)), np.asarray(true, float)
    count = ages.shape[1]
    x = np.zeros((*ages.shape, 0)) if descriptions is None else np.asarray(descriptions, float)
    if count < _FEWEST:
        raise CalibrationError(f"A calibration needs at least {_FEWEST} faces, not {count}.")
    halves = slice(0, None, 2), slice(1, None, 2)
    scores = np.empty(count)
    for learn, others in (halves, halves[::-1]):
        scale, weights, offset = _learn(ages[:, learn], true[learn], x[:, learn])
        expected = (_hats(ages[0, others]) @ scale) * _to_factor(x[0, others] @ weights + offset)
        scores[others] = np.abs(ages[0, others] - true[others]) / expected
    scale, weights, offset = _learn(ages, true, x)
    bands = tuple((low, _keep(scores[members])) for low, members in _split_bands(ages[0]))
    return Intervals(_KNOTS, _rounded(scale), _keep(scores), _rounded(weights, 6), round(offset, 6), bands)


def _learn(ages: np.ndarray, true: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Expected error at each knot, and the weights and offset of the picture features."""
    errors = np.abs(ages - true)
    scale = _expect(ages[0], errors[0])
    if not x.shape[2]:
        return scale, np.zeros(0), 0.0
    from sklearn.linear_model import GammaRegressor
    from sklearn.preprocessing import StandardScaler

    rows = x.reshape(-1, x.shape[2])
    scaler = StandardScaler().fit(rows)
    multiples = errors.ravel() / (_hats(ages.ravel()) @ scale)
    # an error of 0 has no logarithm
    fitted = GammaRegressor(alpha=_PENALTY, max_iter=1000).fit(scaler.transform(rows), multiples + 0.05)
    weights = fitted.coef_ / scaler.scale_
    return scale, weights, float(fitted.intercept_ - weights @ scaler.mean_)


def _to_factor(logarithms: np.ndarray) -> np.ndarray:
    most = math.log(_MOST_FACTOR)
    return np.exp(np.clip(np.nan_to_num(logarithms, nan=most), -most, most))


def _split_bands(ages: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Lower end and mask ``(N,)`` of each band of predicted ages, young to old."""
    edges = np.arange(0, max(float(ages.max()), 0) + _BAND, _BAND)
    bands: list[tuple[float, np.ndarray]] = []
    members = np.zeros(len(ages), bool)
    low = float(edges[0])
    for start, end in pairwise([-math.inf, *edges[1:-1].tolist(), math.inf]):
        members = members | ((ages >= start) & (ages < end))
        if members.sum() >= _FEWEST:
            bands.append((low, members))
            low, members = end, np.zeros(len(ages), bool)
    if members.any() and bands:
        low, before = bands.pop()
        bands.append((low, before | members))
    return bands


def _keep(scores: np.ndarray) -> Scores:
    count = min(_SCORES, len(scores))
    places = np.arange(1, count + 1) / count
    return Scores(_rounded(np.quantile(scores, places, method="inverted_cdf")), len(scores))


def _expect(ages: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Expected error at each knot by least squares, years."""
    hats = _hats(ages)
    # regularize with one face of mean error per knot: at the ends there may be none
    wanted = hats.T @ errors + errors.mean()
    return np.linalg.solve(hats.T @ hats + np.eye(len(_KNOTS)), wanted).clip(_LEAST)


def _hats(ages: np.ndarray) -> np.ndarray:
    """Linear interpolation weights of the knots at each age, ``(N, K)``."""
    return np.stack([np.interp(ages, _KNOTS, unit) for unit in np.eye(len(_KNOTS))], 1)


def _rounded(values: np.ndarray, digits: int = 4) -> tuple[float, ...]:
    return tuple(round(float(value), digits) for value in values)


def measure_coverage(
    predicted: ArrayLike,
    true: ArrayLike,
    intervals: Intervals,
    level: float,
    V: float,
    descriptions: Optional[ArrayLike] = None,
) -> tuple[np.ndarray, float]:
    """Whether each true age is in its interval, ``(N,)``, and the mean width of the intervals, years."""
    ages, true = np.asarray(predicted, float), np.asarray(true, float)
    said = [None] * len(ages) if descriptions is None else list(np.asarray(descriptions, float))
    half = np.array([intervals.half_width(age, level, own) for age, own in zip(ages, said, strict=True)])
    low, high = (ages - half).clip(0, V), (ages + half).clip(0, V)
    return (low <= true) & (true <= high), float((high - low).mean())


def measure_resplits(
    predicted: ArrayLike,
    true: ArrayLike,
    count: int,
    levels: Sequence[float],
    V: float,
    descriptions: Optional[ArrayLike] = None,
    *,
    times: int = 50,
) -> dict[float, dict[str, float]]:
    """Mean coverage over random splits of the faces into ``count`` to fit and the rest to test.

    The arguments are those of `fit_intervals` and `measure_coverage`.
    """
    ages, true = np.atleast_2d(np.asarray(predicted, float)), np.asarray(true, float)
    x = None if descriptions is None else np.asarray(descriptions, float)
    rng = np.random.default_rng(0)
    found: dict[float, list[tuple[float, float]]] = {level: [] for level in levels}
    for _ in range(times):
        order = rng.permutation(len(true))
        learn, test = order[:count], order[count:]
        intervals = fit_intervals(ages[:, learn], true[learn], None if x is None else x[:, learn])
        for level, own in found.items():
            tested = None if x is None else x[0, test]
            inside, width = measure_coverage(ages[0, test], true[test], intervals, level, V, tested)
            own.append((float(inside.mean()), width))
    return {
        level: {
            "coverage": float(np.mean([share for share, _ in own])),
            "spread": float(np.std([share for share, _ in own])),
            "width": float(np.mean([width for _, width in own])),
        }
        for level, own in found.items()
    }
