"""Track people across the frames of a video, and smooth their ages over time."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import SSRNetHubError
from .estimator import AgeEstimator, Face

__all__ = ["AgeTracker", "Sighting"]


@dataclass(frozen=True)
class Sighting:
    """A person in a frame.

    Attributes:
        person: Number of the person, from 1, constant across frames.
        face: Result of `AgeEstimator` for this frame only.
        age: Age of the person, smoothed over the frames so far, years.
    """

    person: int
    face: Face
    age: float


@dataclass
class _Memory:
    """A mean of ages in which older ones fade."""

    number: int
    seconds: float
    total: float = 0.0
    weight: float = 0.0

    def add(self, age: float, seconds: float, memory: float) -> float:
        fade = math.exp(-max(seconds - self.seconds, 0) / memory)
        self.total, self.weight, self.seconds = fade * self.total + age, fade * self.weight + 1, seconds
        return self.total / self.weight


class AgeTracker:
    """Tracks the faces of one video with ByteTrack.

    Args:
        estimator: Estimator of the ages in each frame.
        memory: Time constant of the exponential average of ages, seconds.
        patience: A person who is not seen for this many seconds gets a new number.

    Raises:
        SSRNetHubError: The library trackers (extra ``video``) is not installed.
    """

    def __init__(self, estimator: AgeEstimator, memory: float = 2.0, patience: float = 1.0):
        try:
            from trackers import ByteTrackTracker
        except ImportError as e:
            raise SSRNetHubError("Tracking requires the extra video: pip install 'ssrnet_hub[video]'.") from e
        # people before a camera do not stand on their heads, and the next frame is soon there
        self._estimator, self._memory = estimator.upright_only(), memory
        # it counts its patience in frames of the rate that it gets
        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(30 * patience), frame_rate=30.0, minimum_consecutive_frames=1
        )
        self._people: dict[int, _Memory] = {}

    def __call__(self, frame: Image.Image, seconds: float) -> list[Sighting]:
        """People in the next frame, largest face first; a face counts as a person once it was seen twice.

        Args:
            frame: An upright RGB image.
            seconds: Timestamp, seconds; later than the previous frame.

        Raises:
            PhotoError: The frame is too large for the estimator.
        """
        from supervision import Detections

        faces = self._estimator(frame)
        found = Detections(
            xyxy=np.array([face.box for face in faces], np.float32).reshape(-1, 4),
            confidence=np.array([face.score for face in faces], np.float32),
            class_id=np.zeros(len(faces), int),
            data={"index": np.arange(len(faces))},
        )
        known = self._tracker.update(found, timestamp=seconds)
        tracks = () if known.tracker_id is None else known.tracker_id
        sightings = {}
        for index, track in zip(known.data.get("index", ()), tracks, strict=True):
            face = faces[int(index)]
            if track >= 0 and math.isfinite(face.age):
                person = self._people.setdefault(int(track), _Memory(len(self._people) + 1, seconds))
                sightings[int(index)] = Sighting(person.number, face, person.add(face.age, seconds, self._memory))
        return [sightings[index] for index in sorted(sightings)]
