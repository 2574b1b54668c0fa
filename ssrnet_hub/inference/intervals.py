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

_TRUE_KNOTS = (*map(float, range(0, 21, 2)), 22.5, 25.0, 30.0, 35.0, 42.0, 50.0, 65.0, 85.0)
"""True ages between which the factor of the expected error is interpolated, years."""

_REACH = 4.0, 0.25
"""Distance up to which true ages count at a knot: years, or this share of the knot's age if that is more."""

_STEEPEST = 0.03
"""Maximum change of the factor per year, which smooths both the factor and the ends of intervals."""

_FACTOR_BOUNDS = 0.8, 3.0
"""Bounds of that factor."""

_EVEN_LEVEL = 0.9
"""Level at which the factors make the coverage of true ages more even."""

_LEVEL_OF_MINORS = 0.93
"""That level for minors: no error is worse than excluding a child's age."""

_ADULT = 18.0
"""Age of majority, years; its knot counts as a minor's, as it also sets the factor at 17."""

_ROUNDS, _PRIOR = 3, 10.0
"""Rounds of fitting the factors, and the number of faces by which the change in each round is damped."""

_INFANT = 1.0
"""If the youngest label is at most this, in years, it is taken to include everyone younger."""

_FOLDS = 5
"""Folds of the cross-fitting."""

_SCORES = 200
"""Number of quantiles of the scores to keep."""

_MARGIN = 0.5
"""Standard errors by which the level of a quantile is raised, so that most calibrations reach it."""

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
        "youngest": number(0, 200),
        "true_knots": listing(number(-1000, 1000), 0, 100),
        "factors": listing(number(1e-3, 1000), 0, 100),
        "bands": listing(_BAND_FIELDS, 0, 100),
    },
    closed=False,
)


class Scores(NamedTuple):
    """Scores of held-out faces.

    Attributes:
        values: Quantiles of the scores at the levels ``1/m, 2/m, ... 1``, increasing; the levels are raised by a margin
            for sampling error.
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

    The score of a face is its error as a multiple of the expected error at the predicted age, for its picture, and at
    the true age, ``|y - age| / (scale(age) * exp(weights @ description + offset) * factor(y))``. Its quantiles are
    known from held-out faces; for new faces like them, a share ``level`` has an error of at most ``quantile(level)``
    times the expected one. The factors make that share about the same at all true ages, so that it does not depend on
    how old the people in the pictures are.

    Attributes:
        knots: Predicted ages, years, increasing.
        scale: Expected error at each, years; interpolated between them.
        scores: Scores of all held-out faces.
        weights: Coefficients of `describe_face` in the logarithm of the expected error; empty if only age matters.
        offset: Its intercept.
        true_knots: True ages, years, increasing; empty if the factor is 1.
        factors: Factor of the expected error at each, interpolated between them.
        bands: Lower end of each band of predicted ages, years, increasing, and the scores of its faces.
        youngest: Youngest label, years, if it includes everyone younger (UTKFace labels newborns 1), else 0; intervals
            that reach it are extended to 0.
    """

    knots: tuple[float, ...]
    scale: tuple[float, ...]
    scores: Scores
    weights: tuple[float, ...] = ()
    offset: float = 0.0
    true_knots: tuple[float, ...] = ()
    factors: tuple[float, ...] = ()
    bands: tuple[tuple[float, Scores], ...] = ()
    youngest: float = 0.0

    def bounds(self, age: float, level: float, description: Optional[np.ndarray] = None) -> tuple[float, float]:
        """Lower and upper end of the interval for a predicted age, years; may be outside of the possible ages.

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
        band = self._of_band(age)
        quantile = band.quantile(level)
        if quantile is None and (overall := self.scores.quantile(level)) is not None:
            # a band with too few faces for this level; never narrower than at a lower one
            quantile = max(overall, band.values[-1])
        if quantile is None:
            n = self.scores.n
            raise ValueError(f"A calibration on {n} faces supports levels up to {n / (n + 1):.4f}, not {level}")
        error = quantile * self.expect(age, description)
        low, high = self._find_end(age, error, -1), self._find_end(age, error, 1)
        return min(low, 0.0) if low <= self.youngest else low, high

    def _find_end(self, age: float, error: float, side: int) -> float:
        """Farthest true age on one side that is at most ``error * factor`` away."""
        knots = sorted((knot for knot in self.true_knots if side * (knot - age) > 0), key=lambda knot: -side * knot)
        outer = age + side * error * self.factor(side * math.inf)
        if not knots or side * (outer - knots[0]) > 0:
            return outer
        outer, excess = knots[0], abs(knots[0] - age) - error * self.factor(knots[0])
        for inner in (*knots[1:], age):
            before, excess = excess, abs(inner - age) - error * self.factor(inner)
            if excess <= 0:
                # both are linear between knots
                share = excess / (excess - before) if before > 0 else 1.0
                return inner + share * (outer - inner)
            outer = inner
        return age

    def factor(self, true: float) -> float:
        """Factor of the expected error at a true age, years."""
        return float(np.interp(true, self.true_knots, self.factors)) if self.true_knots else 1.0

    def expect(self, age: float, description: Optional[np.ndarray] = None) -> float:
        """Expected error, years, for a factor of 1; the arguments are those of `bounds`."""
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
            "true_knots": list(self.true_knots),
            "factors": list(self.factors),
            "bands": [{"low": low, "scores": list(scores.values), "n": scores.n} for low, scores in self.bands],
            "youngest": self.youngest,
        }

    @classmethod
    def from_dict(cls, config: Any) -> "Intervals":
        """Read what `to_dict` wrote; calibrations of earlier versions lack weights, bands, factors, or youngest.

        Raises:
            ConfigError: Something is missing or out of bounds.
        """
        fields = checked("In config.json, intervals", _FIELDS, config)
        knots, scale = fields["knots"], fields["scale"]
        bands = [(band["low"], Scores(band["scores"], band["n"])) for band in fields.get("bands", ())]
        scores = Scores(fields["scores"], fields["n"])
        if len(knots) != len(scale):
            raise ConfigError(f"The intervals in config.json have {len(knots)} knots but {len(scale)} values of scale.")
        true_knots, factors = (fields.get(name, ()) for name in ("true_knots", "factors"))
        if len(true_knots) != len(factors):
            raise ConfigError(
                f"The intervals in config.json have {len(true_knots)} true_knots but {len(factors)} factors."
            )
        rising = [part.values for part in (scores, *(own for _, own in bands))]
        increasing = knots, true_knots, [low for low, _ in bands]
        if not all(a < b for values in increasing for a, b in pairwise(values)) or not all(
            a <= b for values in rising for a, b in pairwise(values)
        ):
            raise ConfigError("The intervals in config.json have knots, bands, or scores that are not increasing.")
        weights, offset = tuple(fields.get("weights", ())), fields.get("offset", 0.0)
        youngest = fields.get("youngest", 0.0)
        return cls(knots, scale, scores, weights, offset, tuple(true_knots), tuple(factors), tuple(bands), youngest)


def fit_intervals(predicted: ArrayLike, true: ArrayLike, descriptions: Optional[ArrayLike] = None) -> Intervals:
    """Fit intervals on faces that the weights were not trained on.

    Scores are cross-fitted: each fold of the faces is scored by expected errors fitted on the others; otherwise the
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
    scores = np.empty(count)
    for fold in range(_FOLDS):
        held_out = np.arange(count) % _FOLDS == fold
        expect, factors = _learn(ages[:, ~held_out], true[~held_out], x[:, ~held_out])
        errors = expect(ages[0, held_out], x[0, held_out])
        scores[held_out] = _score(ages[0, held_out], true[held_out], errors, factors)
    expect, factors = _learn(ages, true, x)
    bands = tuple((low, _keep(scores[members])) for low, members in _split_bands(ages[0]))
    weights, offset = _rounded(expect.weights, 6), round(expect.offset, 6)
    youngest = float(true.min()) if true.min() <= _INFANT else 0.0
    known = _keep(scores), weights, offset, _TRUE_KNOTS, _rounded(factors), bands, youngest
    return Intervals(_KNOTS, _rounded(expect.scale), *known)


class _Expected(NamedTuple):
    """Expected error at each knot, and the weights and offset of the picture features."""

    scale: np.ndarray
    weights: np.ndarray
    offset: float

    def __call__(self, ages: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (_hats(ages, _KNOTS) @ self.scale) * _to_factor(x @ self.weights + self.offset)


def _learn(ages: np.ndarray, true: np.ndarray, x: np.ndarray) -> tuple[_Expected, np.ndarray]:
    """The expected error, and its factor at each true knot."""
    expect = _learn_expected(ages, true, x)
    knots = np.array(_TRUE_KNOTS)
    errors, factors = expect(ages[0], x[0]), np.ones(len(knots))
    near = (1 - np.abs(true[:, None] - knots) / np.maximum(_REACH[0], _REACH[1] * knots)).clip(0)
    count, drop = near.sum(0), _STEEPEST * np.abs(knots[:, None] - knots)
    levels = np.where(knots <= _ADULT, _LEVEL_OF_MINORS, _EVEN_LEVEL)
    for _ in range(_ROUNDS):
        scores = _score(ages[0], true, errors, factors)
        order = scores.argsort()
        # of the faces near each knot, and of all
        shares = near[order].cumsum(0) / count.clip(1e-9)
        own = np.array([np.interp(level, share, scores[order]) for level, share in zip(levels, shares.T, strict=True)])
        usual = float(np.quantile(scores, _EVEN_LEVEL))
        factors = factors * (count * own / usual + _PRIOR) / (count + _PRIOR)
        # raised, never lowered, to limit the slope
        factors = (factors.clip(*_FACTOR_BOUNDS) - drop).max(1)
    return expect, factors


def _score(ages: np.ndarray, true: np.ndarray, errors: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Scores for which `Intervals.bounds` just reach the true age: the least at this age or at a knot beyond it."""
    scores = np.abs(true - ages) / np.interp(true, _TRUE_KNOTS, factors)
    for knot, factor in zip(_TRUE_KNOTS, factors, strict=True):
        beyond = (knot - true) * np.sign(true - ages) > 0
        scores = np.where(beyond, np.minimum(scores, np.abs(knot - ages) / factor), scores)
    return scores / errors


def _learn_expected(ages: np.ndarray, true: np.ndarray, x: np.ndarray) -> _Expected:
    errors = np.abs(ages - true)
    scale = _expect(ages[0], errors[0])
    if not x.shape[2]:
        return _Expected(scale, np.zeros(0), 0.0)
    from sklearn.linear_model import GammaRegressor
    from sklearn.preprocessing import StandardScaler

    rows = x.reshape(-1, x.shape[2])
    scaler = StandardScaler().fit(rows)
    multiples = errors.ravel() / (_hats(ages.ravel(), _KNOTS) @ scale)
    # an error of 0 has no logarithm
    fitted = GammaRegressor(alpha=_PENALTY, max_iter=1000).fit(scaler.transform(rows), multiples + 0.05)
    weights = fitted.coef_ / scaler.scale_
    return _Expected(scale, weights, float(fitted.intercept_ - weights @ scaler.mean_))


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
    places = (places + _MARGIN * np.sqrt(places * (1 - places) / len(scores))).clip(max=1.0)
    return Scores(_rounded(np.quantile(scores, places, method="inverted_cdf")), len(scores))


def _expect(ages: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Expected error at each knot by least squares, years."""
    hats = _hats(ages, _KNOTS)
    # regularize with one face of mean error per knot: at the ends there may be none
    wanted = hats.T @ errors + errors.mean()
    return np.linalg.solve(hats.T @ hats + np.eye(len(_KNOTS)), wanted).clip(_LEAST)


def _hats(ages: np.ndarray, knots: Sequence[float]) -> np.ndarray:
    """Linear interpolation weights of the knots at each age, ``(N, K)``."""
    return np.stack([np.interp(ages, knots, unit) for unit in np.eye(len(knots))], 1)


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
    ends = np.array([intervals.bounds(age, level, own) for age, own in zip(ages, said, strict=True)])
    low, high = ends.clip(0, V).T
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
