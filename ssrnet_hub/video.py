"""Films in, films with boxes and ages out. Films are untrusted: kind, length and size are checked before a frame is."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Union

from .errors import SSRNetHubError, VideoError
from .estimator import AgeEstimator
from .files import replace_file
from .photos import MAX_PIXELS
from .plots import annotate_people
from .tracking import AgeTracker, Sighting

__all__ = ["Moment", "annotate_frames", "annotate_video"]


class Moment(NamedTuple):
    """A frame that was looked at.

    Attributes:
        seconds: When it is shown.
        people: Who is in it, the largest face first.
        progress: How much of the film is done by now, in [0, 1]; 0 where the film does not say its length.
    """

    seconds: float
    people: list[Sighting]
    progress: float


def annotate_video(
    source: Union[str, os.PathLike],
    target: Union[str, os.PathLike],
    estimator: AgeEstimator,
    *,
    max_seconds: float = 600.0,
    max_pixels: int = MAX_PIXELS,
    rate: float = 10.0,
) -> list[Moment]:
    """Write a copy of a film with boxes, numbers of people and their smoothed ages, without its sound.

    Args:
        source: A film that FFmpeg reads.
        target: The copy, MP4 with H.264; nothing is left there if it cannot be finished.
        estimator: What finds faces and tells their ages.
        max_seconds: Longest film.
        max_pixels: Largest frame, width x height.
        rate: Frames a second that are looked at and written, at most; the others are left out.

    Raises:
        VideoError: No film, a damaged one, or one that is too long or too large.
        SSRNetHubError: PyAV or trackers (extra ``video``) is not installed, or the target cannot be written.
    """
    return list(annotate_frames(source, target, estimator, max_seconds=max_seconds, max_pixels=max_pixels, rate=rate))


def annotate_frames(
    source: Union[str, os.PathLike],
    target: Union[str, os.PathLike],
    estimator: AgeEstimator,
    *,
    max_seconds: float = 600.0,
    max_pixels: int = MAX_PIXELS,
    rate: float = 10.0,
) -> Iterator[Moment]:
    """`annotate_video`, frame by frame: the copy is there once the last was taken, and not if one stops before."""
    try:
        import av
    except ImportError as e:
        raise SSRNetHubError("Films are read by the extra video: pip install 'ssrnet_hub[video]'.") from e
    name, last = Path(source).name, None
    try:
        # a file that is there, and no address or playlist that names others
        with av.open(str(Path(source).resolve(strict=True)), options={"protocol_whitelist": "file"}) as film:
            if not film.streams.video:
                raise VideoError(f"{name} has no pictures in it.")
            stream = film.streams.video[0]
            length = float(stream.duration * stream.time_base) if stream.duration else (film.duration or 0) / 1e6
            _check(name, length, stream.width * stream.height, max_seconds, max_pixels)
            tracker = AgeTracker(estimator)
            with replace_file(Path(target)) as temporary, av.open(str(temporary), "w", format="mp4") as copy:
                out = copy.add_stream("libx264", rate=round(min(rate, float(stream.average_rate or rate)) or rate))
                # H.264 wants even sides
                out.width, out.height = stream.width // 2 * 2, stream.height // 2 * 2
                out.pix_fmt = "yuv420p"
                for frame in film.decode(stream):
                    seconds = frame.time or 0.0
                    _check(name, seconds, frame.width * frame.height, max_seconds, max_pixels)
                    if last is not None and seconds < last + 0.999 / rate:
                        continue
                    last = seconds
                    image = frame.to_image()
                    people = tracker(image, seconds)
                    drawn = annotate_people(image, people)
                    copy.mux(out.encode(av.VideoFrame.from_image(drawn.crop((0, 0, out.width, out.height)))))
                    yield Moment(seconds, people, min(seconds / length, 1.0) if length else 0.0)
                copy.mux(out.encode())
                if last is None:
                    raise VideoError(f"{name} has no frame that can be read.")
    except SSRNetHubError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as e:
        raise VideoError(f"{name} cannot be read as a film: {getattr(e, 'strerror', None) or e}.") from e


def _check(name: str, seconds: float, pixels: int, max_seconds: float, max_pixels: int) -> None:
    if seconds > max_seconds:
        raise VideoError(f"{name} is longer than {max_seconds:g} seconds.")
    if pixels > max_pixels:
        raise VideoError(f"The frames of {name} have {pixels:,} pixels, more than the limit of {max_pixels:,}.")
