"""Out-of-distribution detection for face crops and network outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..errors import CalibrationError, ConfigError
from ..utils.untrusted import checked, listing, number, record
from .stages import Stage

__all__ = ["Reliability", "describe_outputs", "fit_reliability", "log_contrast", "log_detail"]

_SHRINKAGE = 0.1
"""Shrinkage of the covariance, for small samples and constant features."""

_FLAGGED = 0.01
"""Share of held-out faces that are flagged as unreliable."""

_SIDE = 64

_MOST = 1000
"""Maximum number of features."""

_FIELDS = record(
    {
        "mean": listing(number(-1e6, 1e6), 1, _MOST),
        "precision": listing(listing(number(-1e12, 1e12), 1, _MOST), 1, _MOST),
        "threshold": number(0, 1e9),
    },
    closed=False,
)


def describe_outputs(stages: Sequence[Stage], crop: Image.Image) -> np.ndarray:
    """Features that distinguish faces from other crops: p, eta and delta of the stages, sharpness and contrast.

    Returns:
        ``(D,)``: p, eta and delta of each stage, then `log_detail` and `log_contrast` of the gray crop at 64x64 pixels.
    """
    gray = np.asarray(crop.convert("L").resize((_SIDE, _SIDE)), float)
    said = [value for stage in stages for value in (*stage.p, *stage.eta, stage.delta)]
    return np.array([*said, log_detail(gray), log_contrast(gray)])


def log_detail(pixels: np.ndarray) -> float:
    """Logarithm of the mean absolute second difference of gray pixels ``(H, W)``, 0 to 255."""
    middle = pixels[1:-1, 1:-1]
    edges = 4 * middle - pixels[:-2, 1:-1] - pixels[2:, 1:-1] - pixels[1:-1, :-2] - pixels[1:-1, 2:]
    return float(np.log(np.abs(edges).mean() + 0.5))


def log_contrast(pixels: np.ndarray) -> float:
    """Logarithm of the standard deviation of gray pixels, 0 to 255."""
    return float(np.log(pixels.std() + 2))


@dataclass(frozen=True)
class Reliability:
    """A normal distribution of features of faces: `describe_face`, or `describe_outputs` in earlier versions.

    The score of a face is its Mahalanobis distance from the mean, divided by the square root of D: about 1 for an
    ordinary face, and larger out of distribution.

    Attributes:
        mean: ``(D,)``.
        precision: Inverse of the covariance, ``(D, D)``.
        threshold: Score above which a face is flagged as unreliable.
    """

    mean: tuple[float, ...]
    precision: tuple[tuple[float, ...], ...]
    threshold: float

    def score(self, description: np.ndarray) -> float:
        """Out-of-distribution score, >= 0; infinite if the output of the network is not finite.

        Raises:
            ConfigError: The calibration was fitted for a model with other stages.
        """
        if len(description) != len(self.mean):
            raise ConfigError(f"The reliability in config.json has {len(self.mean)} features, not {len(description)}.")
        if not np.isfinite(description).all():
            return float("inf")
        away = description - np.array(self.mean)
        return float(np.sqrt(max(away @ np.array(self.precision) @ away, 0.0) / len(away)))

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON-serializable values."""
        return {
            "mean": list(self.mean),
            "precision": [list(row) for row in self.precision],
            "threshold": self.threshold,
        }

    @classmethod
    def from_dict(cls, config: Any) -> "Reliability":
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: Something is missing or out of bounds.
        """
        fields = checked("In config.json, reliability", _FIELDS, config)
        mean, precision = fields["mean"], fields["precision"]
        if {len(mean)} != {len(precision), *map(len, precision)}:
            raise ConfigError(
                "The reliability in config.json must have a square precision matrix of the size of its mean."
            )
        return cls(mean, precision, fields["threshold"])


def fit_reliability(descriptions: Sequence[np.ndarray], worn: Sequence[np.ndarray] = ()) -> Reliability:
    """Fit the distribution; the threshold flags one face in a hundred.

    Args:
        descriptions: `describe_face` of faces that the weights were not trained on.
        worn: Of copies of some of them with ordinary degradations, which are not unusual either.

    Raises:
        CalibrationError: There are fewer than 100 faces.
    """
    x = np.stack(list(descriptions)) if len(descriptions) else np.zeros((0, 1))
    if len(x) < 100:
        raise CalibrationError(f"A calibration needs at least 100 faces, not {len(x)}.")
    copies = np.reshape(worn, (-1, x.shape[1]))
    # on the faces it was fitted on, distances are too small: cross-fit the threshold
    halves = (x[::2], copies[::2]), (x[1::2], copies[1::2])
    learned = [_learn(np.concatenate(half)) for half in halves]
    scores = [one.score(row) for one, (others, _) in zip(learned, halves[::-1], strict=True) for row in others]
    whole = _learn(np.concatenate([x, copies]))
    return Reliability(whole.mean, whole.precision, round(float(np.quantile(scores, 1 - _FLAGGED)), 4))


def _learn(x: np.ndarray) -> Reliability:
    covariance = np.cov(x.T)
    variances = np.diag(np.diag(covariance)) + 1e-6 * np.eye(len(covariance))
    precision = np.linalg.inv((1 - _SHRINKAGE) * covariance + _SHRINKAGE * variances)
    mean, *rows = (tuple(float(f"{value:.6g}") for value in row) for row in (x.mean(0), *precision))
    return Reliability(mean, tuple(rows), 0.0)
