"""Why an age may be wrong: pictures that are blurred, covered or turned, told from good ones."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import CalibrationError, ConfigError
from ..utils.untrusted import checked, listing, number, record, text
from .reliability import describe_answer
from .stages import Stage

__all__ = ["Doubts", "describe_face", "fit_doubts"]

_FLAGGED = 0.01
"""Share of good pictures that are doubted."""

_STRENGTH = 0.3
"""Of the regression, as scikit-learn's ``C``."""

_MOST = 1000
"""Numbers that describe a face, at most."""

_ROW = listing(number(-1e9, 1e9), 1, _MOST)

_FIELDS = record(
    {
        "names": listing(text(), 1, 20),
        "weights": listing(_ROW, 1, 20),
        "offsets": listing(number(-1e9, 1e9), 1, 20),
        "thresholds": listing(number(-1e9, 1e9), 1, 20),
    },
    closed=False,
)


def describe_face(stages: Sequence[Stage], crop: Image.Image) -> np.ndarray:
    """What tells how good a picture is.

    Returns:
        ``(D,)``: `describe_answer`, of each stage the logarithm of the standard deviation of its bins, years, and of
        the crop how sharp it is at other scales, at the eyes and at the mouth, how bright, how alike its halves and how
        colorful.
    """
    spreads = [math.log(_spread(stage) + 0.5) for stage in stages]
    return np.array([*describe_answer(stages, crop), *spreads, *_describe_crop(crop)])


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
        *(_log_detail(pixels[side]) for side in (128, 32, 16)),
        *(_log_detail(part) for part in (eyes, mouth)),
        *(math.log(part.std() + 2) for part in (eyes, mouth)),
        whole.mean() / 100,
        math.log(np.abs(whole - whole[:, ::-1]).mean() + 2),
        math.log(saturation.mean() + 2),
        math.log(saturation.std() + 2),
    ]


def _log_detail(pixels: np.ndarray) -> float:
    middle = pixels[1:-1, 1:-1]
    edges = 4 * middle - pixels[:-2, 1:-1] - pixels[2:, 1:-1] - pixels[1:-1, :-2] - pixels[1:-1, 2:]
    return math.log(np.abs(edges).mean() + 0.5)


@dataclass(frozen=True)
class Doubts:
    """A logistic regression for each kind of poor picture, which tells it from good ones.

    Attributes:
        names: Of the kinds, a word or two each.
        weights: Of the numbers of `describe_face`, ``(K, D)``.
        offsets: ``(K,)``.
        thresholds: Log-odds above which a kind is told, ``(K,)``.
    """

    names: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    offsets: tuple[float, ...]
    thresholds: tuple[float, ...]

    def excess(self, description: np.ndarray) -> dict[str, float]:
        """By how much the log-odds of each kind are above its threshold; above 0 it is told.

        Raises:
            ConfigError: This was learned of a model with other stages.
        """
        if len(description) != len(self.weights[0]):
            count = len(self.weights[0])
            raise ConfigError(f"The doubts in config.json are of {count} numbers, not {len(description)}.")
        if not np.isfinite(description).all():
            return dict.fromkeys(self.names, 0.0)
        odds = np.array(self.weights) @ description + self.offsets
        return dict(zip(self.names, (odds - self.thresholds).tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON has them."""
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
            raise ConfigError("The doubts in config.json have not as many weights, offsets and thresholds as names.")
        return cls(names, weights, fields["offsets"], fields["thresholds"])


def fit_doubts(good: np.ndarray, usual: np.ndarray, poor: Mapping[str, np.ndarray]) -> Doubts:
    """Learn to tell kinds of poor pictures from good ones.

    Args:
        good: What `describe_face` says of good pictures, ``(N, D)``, of which the thresholds flag one in a hundred for
            all kinds together.
        usual: Of pictures that are worn as those of the world, and not to be doubted, ``(M, D)``.
        poor: Of each kind of poor ones.

    Raises:
        CalibrationError: There are fewer than 100 good ones.
        ImportError: scikit-learn, of the extra train, is not installed.
    """
    if len(good) < 100:
        raise CalibrationError(f"A calibration takes 100 faces or more, not {len(good)}.")
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
