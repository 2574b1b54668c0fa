"""Why an age may be wrong: detects pictures that are blurred, covered, or upside down."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import CalibrationError, ConfigError
from ..utils.untrusted import checked, choice, listing, number, record
from .reliability import describe_outputs, log_contrast, log_detail
from .stages import Stage

__all__ = ["LAYOUT", "Doubts", "describe_face", "fit_doubts"]

_FLAGGED = 0.01
"""Share of good pictures that are flagged."""

_STRENGTH = 0.3
"""Inverse regularization of the regression, scikit-learn's ``C``."""

_BANDS = 8

LAYOUT = 2 * _BANDS
"""Number of features at the end of `describe_face` that calibrations of earlier versions lack."""

_MOST = 1000
"""Maximum number of features."""

_ROW = listing(number(-1e9, 1e9), 1, _MOST)

_FIELDS = record(
    {
        # they are shown on the page and in terminals, and may come from strangers' weights
        "names": listing(choice("blurred", "covered", "turned"), 1, 20),
        "weights": listing(_ROW, 1, 20),
        "offsets": listing(number(-1e9, 1e9), 1, 20),
        "thresholds": listing(number(-1e9, 1e9), 1, 20),
    },
    closed=False,
)


def describe_face(stages: Sequence[Stage], crop: Image.Image) -> np.ndarray:
    """Features of the quality of a picture.

    Returns:
        ``(D,)``: `describe_outputs`, the logarithm of the standard deviation of each stage's bins in years, and of the
        crop its sharpness at other scales, sharpness and contrast of eyes and mouth, brightness, symmetry, color, and
        the brightness and vertical detail of each eighth of its height, relative to the whole crop.
    """
    spreads = [math.log(_spread(stage) + 0.5) for stage in stages]
    return np.array([*describe_outputs(stages, crop), *spreads, *_describe_crop(crop)])


def _spread(stage: Stage) -> float:
    p = np.array(stage.p)
    places = (np.arange(len(p)) + np.array(stage.eta)) * stage.width
    return math.sqrt(max(float(p @ places**2 - (p @ places) ** 2), 0.0))


def _describe_crop(crop: Image.Image) -> list[float]:
    gray = crop.convert("L")
    pixels = {side: np.asarray(gray.resize((side, side)), float) for side in (128, 64, 32, 16)}
    whole = pixels[64]
    eyes, mouth = whole[12:28], whole[32:56]
    saturation = np.asarray(crop.resize((16, 16)).convert("HSV"), float)[..., 1]
    return [
        *(log_detail(pixels[side]) for side in (128, 32, 16)),
        *(log_detail(part) for part in (eyes, mouth)),
        *(log_contrast(part) for part in (eyes, mouth)),
        whole.mean() / 100,
        math.log(np.abs(whole - whole[:, ::-1]).mean() + 2),
        math.log(saturation.mean() + 2),
        math.log(saturation.std() + 2),
        *_describe_layout(pixels[16], whole),
    ]


def _describe_layout(small: np.ndarray, whole: np.ndarray) -> list[float]:
    light = (small - small.mean()) / (small.std() + 2)
    changes = np.abs(np.diff(whole.reshape(_BANDS, -1, whole.shape[1]), axis=1))
    detail = np.log(changes.mean((1, 2)) + 0.5)
    return [*light.reshape(_BANDS, -1).mean(1), *(detail - detail.mean())]


@dataclass(frozen=True)
class Doubts:
    """A logistic regression for each kind of poor picture, against good ones.

    Attributes:
        names: ``"blurred"``, ``"covered"``, or ``"turned"``.
        weights: Coefficients of the features of `describe_face`, ``(K, D)``.
        offsets: Intercepts, ``(K,)``.
        thresholds: Log-odds above which a kind is detected, ``(K,)``.
    """

    names: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]
    thresholds: tuple[float, ...]

    def excess(self, description: np.ndarray) -> dict[str, float]:
        """Log-odds of each kind minus its threshold: above 0 the kind is detected.

        Raises:
            ConfigError: The calibration is of a model with other stages.
        """
        if len(description) != len(self.weights[0]):
            count = len(self.weights[0])
            raise ConfigError(f"The doubts in config.json have {count} features, not {len(description)}.")
        if not np.isfinite(description).all():
            return dict.fromkeys(self.names, 0.0)
        odds = np.array(self.weights) @ description + self.offsets
        return dict(zip(self.names, (odds - self.thresholds).tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON-serializable values."""
        return {
            "names": list(self.names),
            "weights": [list(row) for row in self.weights],
            "offsets": list(self.offsets),
            "thresholds": list(self.thresholds),
        }

    @classmethod
    def from_dict(cls, config: Any) -> "Doubts":
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: Something is missing or out of bounds.
        """
        fields = checked("In config.json, doubts", _FIELDS, config)
        names, weights = fields["names"], fields["weights"]
        counts = {len(names), len(weights), len(fields["offsets"]), len(fields["thresholds"])}
        if len(counts) > 1 or len({*map(len, weights)}) > 1:
            raise ConfigError(
                "The doubts in config.json have different numbers of names, weights, offsets, and thresholds."
            )
        return cls(names, weights, fields["offsets"], fields["thresholds"])


def fit_doubts(good: np.ndarray, usual: np.ndarray, poor: Mapping[str, np.ndarray]) -> Doubts:
    """Fit the regressions.

    Args:
        good: `describe_face` of good pictures, ``(N, D)``; the thresholds flag about one in a hundred of them, over all
            kinds.
        usual: Of pictures with ordinary degradations that are not to be flagged, ``(M, D)``.
        poor: Of poor pictures, by kind.

    Raises:
        CalibrationError: There are fewer than 100 good ones.
        ImportError: scikit-learn, of the extra train, is not installed.
    """
    if len(good) < 100:
        raise CalibrationError(f"A calibration needs at least 100 faces, not {len(good)}.")
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    weights, offsets, thresholds = [], [], []
    for rows in poor.values():
        x = np.concatenate([good, usual, rows])
        scaler = StandardScaler().fit(x)
        of_kind = np.arange(len(x)) >= len(good) + len(usual)
        regression = LogisticRegression(C=_STRENGTH, class_weight="balanced", max_iter=5000)
        fitted = regression.fit(scaler.transform(x), of_kind)
        weight = fitted.coef_[0] / scaler.scale_
        offset = fitted.intercept_[0] - weight @ scaler.mean_
        odds = good @ weight + offset
        weights.append(tuple(float(f"{value:.6g}") for value in weight))
        offsets.append(round(float(offset), 4))
        thresholds.append(round(float(np.quantile(odds, 1 - _FLAGGED / len(poor))), 4))
    return Doubts(tuple(poor), tuple(weights), tuple(offsets), tuple(thresholds))
