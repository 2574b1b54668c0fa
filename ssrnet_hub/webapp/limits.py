"""Limits on what visitors of the web page may request."""

import os
from dataclasses import dataclass, fields

from ..errors import ConfigError

__all__ = ["Limits"]

_PREFIX = "SSRNET_HUB_DEMO_"


@dataclass(frozen=True)
class Limits:
    """Limits on what a visitor may request.

    Attributes:
        max_pixels: Largest photo, width x height.
        max_file_size: Largest upload, bytes.
        max_upload_size: Largest request with uploads, all files together, bytes; also for files at URLs.
        max_request_size: Largest request of any other kind, bytes, including the pictures in it.
        max_photos: Photos per request.
        max_faces: Faces per photo; if there are more, the largest are returned.
        max_compared: Weights to compare with at a time.
        max_film_seconds: Longest video.
        max_film_pixels: Largest frame of a video, width x height.
        max_film_frames: Most frames of a video, including skipped ones.
        max_film_total_pixels: Most pixels of all its frames.
        max_film_work_seconds: Longest time to process a video.
        max_decode_seconds: Longest time to decode a photo, or the next frame of a video.
        max_live_seconds: How long a camera runs before its visitor has to restart it.
        max_weights_size: Largest weights that are downloaded, bytes.
        kept_weights: Weights kept in memory besides the embedded ones (LRU eviction).
        max_sessions: Sessions kept (LRU eviction).
        max_kept_size: Faces of all sessions kept in memory, bytes (LRU eviction).
        workers: Photos and video frames processed at a time, and as many camera frames.
        sweep: Seconds between two sweeps of the uploads and results on disk; each removes what is older than that.
        queue: Most requests waiting; others are rejected.
    """

    max_pixels: int = 40_000_000
    max_file_size: int = 100_000_000
    max_upload_size: int = 1_000_000_000
    max_request_size: int = 20_000_000
    max_photos: int = 200
    max_faces: int = 100
    max_compared: int = 3
    max_film_seconds: int = 120
    max_film_pixels: int = 9_000_000
    max_film_frames: int = 30_000
    max_film_total_pixels: int = 30_000_000_000
    max_film_work_seconds: int = 900
    max_decode_seconds: int = 10
    max_live_seconds: int = 300
    max_weights_size: int = 50_000_000
    kept_weights: int = 4
    max_sessions: int = 200
    max_kept_size: int = 100_000_000
    workers: int = 2
    sweep: int = 600
    queue: int = 64

    @classmethod
    def from_environment(cls) -> "Limits":
        """The defaults, but for those that variables like ``SSRNET_HUB_DEMO_MAX_PIXELS`` change.

        Raises:
            ConfigError: A variable is no positive whole number.
        """
        values = {}
        for field in fields(cls):
            variable = f"{_PREFIX}{field.name.upper()}"
            text = os.environ.get(variable)
            if text is not None:
                if not text.isdecimal() or int(text) < 1:
                    raise ConfigError(f"{variable} is a whole number above 0, not {text!r:.100}.")
                values[field.name] = int(text)
        return cls(**values)
