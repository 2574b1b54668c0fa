"""Annotate videos with boxes and ages."""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, Optional, Union

from PIL import Image

from ..errors import OutputError, SSRNetHubError, VideoError
from ..images.decoding import Decoder
from ..images.loading import MAX_PIXELS
from ..images.videos import Frame, import_av
from ..utils.io import replace_file
from .estimator import AgeEstimator
from .tracking import AgeTracker, Sighting
from .visualization import draw_people

__all__ = ["Moment", "annotate_frames", "annotate_video"]

_TICK = Fraction(1, 90_000)
"""Unit of the times in a copy, seconds."""

_MOST_APART = 10.0
"""Seconds between frames that a video is believed to have."""

_BT709, _LIMITED = 1, 1
"""FFmpeg's numbers of the colors of a copy: primaries, transfer, and matrix, and their range."""


class Moment(NamedTuple):
    """An analyzed frame.

    Attributes:
        seconds: Timestamp of the frame, from the first one on.
        people: People in the frame, largest face first.
        progress: Share of the video that is done, in [0, 1]; 0 if its length is unknown.
    """

    seconds: float
    people: list[Sighting]
    progress: float


def annotate_video(
    source: Union[str, os.PathLike],
    target: Union[str, os.PathLike, None],
    estimator: AgeEstimator,
    *,
    max_seconds: float = 600.0,
    max_pixels: int = MAX_PIXELS,
    max_frames: int = 150_000,
    max_total_pixels: int = 500_000_000_000,
    timeout: Optional[float] = None,
    rate: float = 10.0,
    decoder: Optional[Decoder] = None,
) -> list[Moment]:
    """Write a copy of a video with boxes, the numbers of people, and their smoothed ages, without sound.

    The video is decoded in another process, so that its timeouts hold whatever the file contains.

    Args:
        source: An MP4, MOV, WebM, MKV, AVI, or MJPEG file.
        target: The copy, MP4 with H.264; no partial file is left behind. None for no copy.
        estimator: Estimator of the ages.
        max_seconds: Longest video.
        max_pixels: Largest frame, width x height.
        max_frames: Maximum number of decoded frames, including skipped ones.
        max_total_pixels: Maximum number of decoded pixels in total.
        timeout: Seconds after which to give up. Default: never.
        rate: Maximum number of frames per second to analyze and write; others are skipped.
        decoder: Decoder with its own limits on time and memory.

    Raises:
        VideoError: The file is missing, unsupported, damaged, or over a limit, or ``target`` is the source itself.
        SSRNetHubError: PyAV or trackers (extra ``video``) is not installed, or the target cannot be written.
    """
    moments = annotate_frames(
        source,
        target,
        estimator,
        max_seconds=max_seconds,
        max_pixels=max_pixels,
        max_frames=max_frames,
        max_total_pixels=max_total_pixels,
        timeout=timeout,
        rate=rate,
        decoder=decoder,
    )
    return [moment for moment in moments if moment is not None]


def annotate_frames(
    source: Union[str, os.PathLike],
    target: Union[str, os.PathLike, None],
    estimator: AgeEstimator,
    *,
    max_seconds: float = 600.0,
    max_pixels: int = MAX_PIXELS,
    max_frames: int = 150_000,
    max_total_pixels: int = 500_000_000_000,
    timeout: Optional[float] = None,
    rate: float = 10.0,
    decoder: Optional[Decoder] = None,
) -> Generator[Optional[Moment], None, None]:
    """`annotate_video`, frame by frame. The copy is written when the last frame was consumed, and discarded before.

    While there is no frame, yields None about every half second, so that the caller can stop.
    """
    name, start = Path(source).name, monotonic()
    if target is not None and Path(source).resolve() == Path(target).resolve():
        raise VideoError("The copy would replace {name} itself: choose another file.", name=name)
    frames = (decoder or Decoder()).read_film(
        source,
        rate=rate,
        max_seconds=max_seconds,
        max_pixels=max_pixels,
        max_frames=max_frames,
        max_total_pixels=max_total_pixels,
    )
    tracker: Optional[AgeTracker] = None
    with closing(frames), _write_copy(target, rate) as write:
        for frame in frames:
            if timeout is not None and monotonic() > start + timeout:
                raise VideoError("{name} takes longer than {limit:g} seconds.", name=name, limit=timeout)
            if frame is None:
                yield None
                continue
            if tracker is None:
                # where frames are far apart, a person may still be missed in one; a video may say so without reason
                apart = max(1 / rate, min(1 / (frame.rate or rate), _MOST_APART))
                tracker = AgeTracker(estimator, patience=max(1.0, 2.5 * apart))
            people = tracker(frame.image, frame.seconds)
            write(frame, people)
            yield Moment(frame.seconds, people, frame.progress)


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The whole picture in the middle of one of another size."""
    scale = min(new / old for new, old in zip(size, image.size, strict=True))
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    canvas = Image.new("RGB", size)
    canvas.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
    return canvas


@contextmanager
def _write_copy(
    target: Union[str, os.PathLike, None], rate: float
) -> Iterator[Callable[[Frame, list[Sighting]], None]]:
    """Writer of annotated frames, or a no-op without an output file."""
    if target is None:
        yield lambda frame, people: None
        return
    av = import_av()
    out: Any = None
    size = 0, 0

    def write(frame: Frame, people: list[Sighting]) -> None:
        nonlocal out, size
        if out is None:
            size = frame.image.size
            out = copy.add_stream("libx264", rate=max(1, round(min(rate, frame.rate or rate))))
            # H.264 requires even sides
            out.width, out.height = (side // 2 * 2 for side in size)
            out.pix_fmt = "yuv420p"
            context = out.codec_context
            context.time_base = _TICK
            # players take untagged colors for those of HD, and the default is those of SD
            context.colorspace = context.color_primaries = context.color_trc = _BT709
            context.color_range = _LIMITED
        drawn = draw_people(frame.image, people)
        if drawn.size != size:
            drawn = _fit(drawn, size)
        picture = av.VideoFrame.from_image(drawn.crop((0, 0, out.width, out.height)))
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
        picture.pts, picture.time_base = round(frame.seconds / _TICK), _TICK
        copy.mux(out.encode(picture))

    try:
        with replace_file(Path(target)) as temporary, av.open(str(temporary), "w", format="mp4") as copy:
            yield write
            copy.mux(out.encode())
    except SSRNetHubError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as e:
        why = getattr(e, "strerror", None) or e
        raise OutputError("{name} cannot be written: {reason}.", name=target, reason=why) from e
