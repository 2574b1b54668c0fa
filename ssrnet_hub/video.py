"""Films in, films with boxes and ages out. Films are untrusted: kind, length and size are checked before a frame is."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Optional, Union

from .errors import SSRNetHubError, VideoError
from .estimator import AgeEstimator
from .files import replace_file
from .photos import MAX_PIXELS
from .plots import annotate
from .tracking import AgeTracker, Sighting

__all__ = ["annotate_video"]


def annotate_video(
    source: Union[str, os.PathLike],
    target: Union[str, os.PathLike],
    estimator: AgeEstimator,
    *,
    max_seconds: float = 600.0,
    max_pixels: int = MAX_PIXELS,
    rate: float = 10.0,
    on_frame: Optional[Callable[[float, float], None]] = None,
) -> list[tuple[float, list[Sighting]]]:
    """Write a copy of a film with boxes, numbers of people and their smoothed ages, without its sound.

    Args:
        source: A film that FFmpeg reads.
        target: The copy, MP4 with H.264; nothing is left there if it cannot be finished.
        estimator: What finds faces and tells their ages.
        max_seconds: Longest film.
        max_pixels: Largest frame, width x height.
        rate: Frames a second that are looked at and written, at most; the others are left out.
        on_frame: Called with each frame's time and the film's length, seconds; what it raises ends the work.

    Returns:
        A pair a frame: its time in seconds, and the people in it.

    Raises:
        VideoError: No film, a damaged one, or one that is too long or too large.
        SSRNetHubError: PyAV or trackers (extra ``video``) is not installed, or the target cannot be written.
    """
    try:
        import av
    except ImportError as e:
        raise SSRNetHubError("Films are read by the extra video: pip install 'ssrnet_hub[video]'.") from e
    name, seen, last = Path(source).name, [], -1.0
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
                    if seconds < last + 0.999 / rate:
                        continue
                    last = seconds
                    image = frame.to_image()
                    people = tracker(image, seconds)
                    labels = [f"{sighting.person}: {sighting.age:.0f}" for sighting in people]
                    drawn = annotate(image, [sighting.face for sighting in people], labels)
                    copy.mux(out.encode(av.VideoFrame.from_image(drawn.crop((0, 0, out.width, out.height)))))
                    seen.append((seconds, people))
                    if on_frame:
                        on_frame(seconds, length)
                copy.mux(out.encode())
                if not seen:
                    raise VideoError(f"{name} has no frame that can be read.")
    except SSRNetHubError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as e:
        raise VideoError(f"{name} cannot be read as a film: {getattr(e, 'strerror', None) or e}.") from e
    return seen


def _check(name: str, seconds: float, pixels: int, max_seconds: float, max_pixels: int) -> None:
    if seconds > max_seconds:
        raise VideoError(f"{name} is longer than {max_seconds:g} seconds.")
    if pixels > max_pixels:
        raise VideoError(f"The frames of {name} have {pixels:,} pixels, more than the limit of {max_pixels:,}.")
