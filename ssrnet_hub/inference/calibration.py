"""The calibration of weights: prediction intervals, and which ages not to trust."""

import math
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from PIL import Image

from ..errors import ConfigError
from ..hub.files import DIGEST_KEY
from .doubts import LAYOUT, Doubts, describe_face
from .intervals import Intervals
from .reliability import Reliability, describe_outputs
from .stages import Stage

__all__ = ["NOT_A_FACE", "UNCERTAIN", "Calibration"]

NOT_A_FACE, UNCERTAIN = "not a face", "uncertain"

_LARGEST_ERROR = 20.0
"""Expected error above which an age is uncertain, years."""


@dataclass(frozen=True)
class Calibration:
    """Calibration of weights on faces that they were not trained on.

    Attributes:
        intervals: Prediction intervals.
        reliability: Distribution of features of faces.
        doubts: Detection of poor pictures; None in calibrations of earlier versions.
    """

    intervals: Intervals
    reliability: Reliability
    doubts: Optional[Doubts] = None

    def describe(self, stages: tuple[Stage, ...], crop: Image.Image) -> np.ndarray:
        """Features of a face that the other methods take, ``(D,)``."""
        if not self.doubts:
            return describe_outputs(stages, crop)
        features = describe_face(stages, crop)
        of_earlier_version = len(self.doubts.weights[0]) == len(features) - LAYOUT
        return features[:-LAYOUT] if of_earlier_version else features

    def bounds(self, age: float, level: float, description: np.ndarray) -> tuple[float, float]:
        """Ends of the interval, years; see `Intervals.bounds`."""
        return self.intervals.bounds(age, level, description if self.doubts else None)

    def oddness(self, description: np.ndarray) -> float:
        """Out-of-distribution score, 0 or more: about 1 for an ordinary face, above `threshold` if the picture is
        doubted.
        """
        if not self.doubts:
            return self.reliability.score(description)
        unlike = self.reliability.score(description[: len(self.reliability.mean)])
        excess = max(self.doubts.excess(description).values())
        return max(unlike, self.threshold * math.exp(min(excess, 50.0)))

    @property
    def threshold(self) -> float:
        """`oddness` above which a picture is doubted."""
        return self.reliability.threshold

    def doubt(self, age: float, description: np.ndarray) -> tuple[str, ...]:
        """Reasons not to trust an age, one or two words each; empty if there are none."""
        told = self.doubts.excess(description) if self.doubts else {}
        doubts = [name for name, excess in told.items() if excess > 0]
        if not doubts and self.oddness(description) > self.threshold:
            doubts.append(NOT_A_FACE)
        if self.doubts and not math.isnan(age) and self.intervals.expect(age, description) > _LARGEST_ERROR:
            doubts.append(UNCERTAIN)
        return tuple(doubts)

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON has them."""
        parts = {"intervals": self.intervals.to_dict(), "reliability": self.reliability.to_dict()}
        return {**parts, **({"doubts": self.doubts.to_dict()} if self.doubts else {})}

    @classmethod
    def from_dict(cls, config: Any) -> "Calibration":
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: Something is missing, unknown or out of bounds.
        """
        known = {"intervals", "reliability"}
        if not isinstance(config, dict) or not known <= config.keys() <= known | {"doubts", DIGEST_KEY}:
            raise ConfigError(f"The calibration in config.json is invalid: {config!r:.200}")
        doubts = Doubts.from_dict(config["doubts"]) if "doubts" in config else None
        intervals, reliability = Intervals.from_dict(config["intervals"]), Reliability.from_dict(config["reliability"])
        count = len(doubts.weights[0]) if doubts else 0
        if len(intervals.weights) != count or (doubts and len(reliability.mean) > count):
            raise ConfigError("The parts of the calibration in config.json have different numbers of features.")
        return cls(intervals, reliability, doubts)
