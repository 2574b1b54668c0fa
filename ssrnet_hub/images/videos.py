"""Films to frames. Films are untrusted: kind, length, size and work are bounded, and no other file is opened."""

import re
import struct
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from time import monotonic
from types import ModuleType
from typing import Any, NamedTuple, Optional

from PIL import Image

from ..errors import SSRNetHubError, VideoError
from .bombs import MAX_SCANS, count_scans

__all__ = ["SUFFIXES", "Frame", "import_av", "read_film"]

SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".webm", ".mkv", ".avi", ".mjpeg", ".mjpg")
"""File name endings, in lower case with the dot, of the films that are opened."""

# how a file begins, by FFmpeg's name of what reads it. Playlists, which name other files, and formats of subtitles,
# devices and networks are not among them.
_CONTAINERS = {
    "mov": rb".{4}(?:ftyp|moov|mdat|wide|free|skip|pnot)",
    "matroska": rb"\x1a\x45\xdf\xa3",
    "avi": rb"RIFF.{4}AVI ",
    "mjpeg": rb"\xff\xd8\xff",
}
_CODECS = {
    *("h264", "hevc", "vp8", "vp9", "libdav1d", "mpeg4", "mjpeg", "prores", "dnxhd", "dvvideo", "rawvideo"),
    *("msmpeg4", "msmpeg4v2", "h263", "mpeg1video", "mpeg2video"),
}

_MOST_ASPECT = 4
"""Of pixels, by which frames are stretched; others make no sense."""

_BEAT = 0.5
"""Approximate interval, in seconds, of None while no frame is ready."""


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        seconds: Presentation time, from the first frame on.
        image: RGB picture as players show it: stretched, turned, and mirrored as the video says.
        progress: Fraction of the video read so far, in [0, 1]; 0 if its length is unknown.
        rate: Average frames per second of the video; 0 if unknown.
    """

    seconds: float
    image: Image.Image
    progress: float
    rate: float


def import_av() -> ModuleType:
    """PyAV.

    Raises:
        SSRNetHubError: It is not installed.
    """
    try:
        import av
    except ImportError as e:
        raise SSRNetHubError("Videos need the extra video: pip install 'ssrnet_hub[video]'.") from e
    return av


class _Source:
    """The bytes of a video, without a name, from which FFmpeg could open neighboring files."""

    def __init__(self, file: Any):
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def read_film(
    path: str, *, rate: float, max_seconds: float, max_pixels: int, max_frames: int, max_total_pixels: int
) -> Generator[Optional[Frame], None, None]:
    """Read frames of a video in order; yields None about every half second while none is ready.

    A call to FFmpeg cannot be interrupted: `Decoder.read_film` limits its time as well.

    Args:
        path: The video.
        rate: Maximum frames per second.
        max_seconds: Maximum length of the video.
        max_pixels: Largest frame, width x height.
        max_frames: Maximum number of decoded frames, including skipped ones.
        max_total_pixels: Maximum number of decoded pixels in total.

    Raises:
        VideoError: Not a video, unsupported, damaged, or over a limit.
        SSRNetHubError: PyAV (extra ``video``) is not installed.
    """
    av = import_av()
    name = Path(path).name
    if Path(path).suffix.lower() not in SUFFIXES:
        raise VideoError(
            "{name} has no extension of a supported video. Supported videos are MP4, MOV, WebM, MKV, AVI, and MJPEG "
            "files: {suffixes}.",
            name=name,
            suffixes=", ".join(SUFFIXES),
        )

    def refuse(url: str, flags: int, options: dict[str, str]) -> None:
        raise VideoError("{name} refers to other files, which are not opened.", name=name)

    options = {
        "protocol_whitelist": "none",
        "format_whitelist": ",".join([*_CONTAINERS, "mp4", "webm"]),
        "codec_whitelist": ",".join(_CODECS),
        "max_pixels": str(max_pixels),
    }
    try:
        with open(path, "rb") as file:  # noqa: PTH123  as FFmpeg is to read it
            start = file.read(12)
            file.seek(0)
            demuxer = next((kind for kind, magic in _CONTAINERS.items() if re.match(magic, start, re.DOTALL)), None)
            if demuxer is None:
                raise VideoError(
                    "{name} is not a video. Supported videos are MP4, MOV, WebM, MKV, AVI, and MJPEG files.", name=name
                )
            with av.open(_Source(file), "r", format=demuxer, options=options, io_open=refuse) as film:
                if not film.streams.video:
                    raise VideoError("{name} has no video stream.", name=name)
                stream = film.streams.video[0]
                context = stream.codec_context
                codec = context.codec.name if context else "something unknown"
                if codec not in _CODECS:
                    known = ", ".join(sorted(_CODECS))
                    raise VideoError(
                        "{name} is encoded as {codec}. Supported codecs: {known}.", name=name, codec=codec, known=known
                    )
                context.options = {"max_pixels": str(max_pixels)}
                length = _seconds(stream.duration, stream.time_base)
                if not length and film.duration:
                    length = _seconds(film.duration - max(film.start_time or 0, 0), Fraction(1, 10**6))
                aspect = stream.sample_aspect_ratio
                _check(name, length, _stretch(stream, aspect), max_seconds, max_pixels)
                clock = _Clock(float(stream.average_rate or rate), decoding_times=demuxer == "avi")
                beat, last, due = monotonic(), None, 0.0
                packets = frames = pixels = 0
                for packet in film.demux():
                    if monotonic() > beat + _BEAT:
                        beat = monotonic()
                        yield None
                    if packet.stream.index != stream.index:
                        continue
                    if codec == "mjpeg" and count_scans(bytes(packet)) > MAX_SCANS:
                        raise VideoError(
                            "{name} would take too much work to decode: too many scans in a frame.", name=name
                        )
                    decoded = stream.decode(packet)
                    packets, frames = packets + (packet.size > 0), frames + len(decoded)
                    pixels += sum(frame.width * frame.height for frame in decoded)
                    # packets whose frames are not shown are work all the same
                    hidden = max(0, packets - frames) * context.width * context.height
                    if max(packets, frames) > max_frames:
                        raise VideoError("{name} has more than {limit:,} frames.", name=name, limit=max_frames)
                    if pixels + hidden > max_total_pixels:
                        raise VideoError(
                            "The frames of {name} have more than {limit:,} pixels in all.",
                            name=name,
                            limit=max_total_pixels,
                        )
                    for frame in decoded:
                        seconds, size = clock(frame), _stretch(frame, aspect)
                        _check(name, seconds, size, max_seconds, max_pixels)
                        if last is not None and (seconds < due - 0.001 / rate or seconds < last + 0.5 / rate):
                            continue
                        # by the schedule, unless there is a gap
                        due = seconds + 1 / rate if last is None or seconds > due + 0.9 / rate else due + 1 / rate
                        last = seconds
                        progress = max(0.0, min(seconds / length, 1.0)) if length else 0.0
                        yield Frame(seconds, _show(frame, size), progress, float(stream.average_rate or 0))
                        beat = monotonic()
                if last is None:
                    raise VideoError("{name} has no frame that can be read.", name=name)
    except SSRNetHubError:
        raise
    except MemoryError as e:
        raise VideoError("{name} needs more memory to decode than is available.", name=name) from e
    except (av.error.FFmpegError, OSError, ValueError, OverflowError) as e:
        why = getattr(e, "strerror", None) or e
        raise VideoError("{name} cannot be read as a video: {reason}.", name=name, reason=why) from e


class _Clock:
    """Times of frames in seconds, from the first one on.

    Args:
        rate: Frames per second, for frames without a time.
        decoding_times: Whether only the times at which frames are decoded are known.
    """

    def __init__(self, rate: float, decoding_times: bool):
        self._step, self._decoding_times = 1 / rate, decoding_times
        self._start: Optional[float] = None
        self._last = 0.0

    def __call__(self, frame: Any) -> float:
        ticks = frame.dts if self._decoding_times else frame.pts
        if ticks is not None and frame.time_base:
            self._last = float(ticks * frame.time_base)
        elif self._start is not None:
            self._last += self._step
        if self._start is None:
            self._start = self._last
        return self._last - self._start


def _stretch(frame: Any, aspect: Optional[Fraction]) -> tuple[int, int]:
    """Size of a frame in square pixels, given the width of a pixel by its height."""
    if not aspect or not 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
        return frame.width, frame.height
    return round(frame.width * max(aspect, 1)), round(frame.height / min(aspect, 1))


def _show(frame: Any, size: tuple[int, int]) -> Image.Image:
    """The picture as players show it: phones store what the sensor sees, with a matrix that turns or mirrors it."""
    image: Image.Image = frame.to_image()
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    try:
        found = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know something else that comes with the frame
        found = None
    if found is None or found.buffer_size < 36:
        return image
    # to the right: a * x + c * y; down: b * x + d * y
    a, b, _, c, d, *_ = struct.unpack("9i", bytes(found)[:36])
    if abs(b * c) > abs(a * d):
        image, a, d = image.transpose(Image.Transpose.TRANSPOSE), c, b
    if a < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if d < 0 else image


def _seconds(duration: Optional[int], unit: Optional[Fraction]) -> float:
    return max(0.0, float(duration * unit)) if duration and unit else 0.0


def _check(name: str, seconds: float, size: tuple[int, int], max_seconds: float, max_pixels: int) -> None:
    pixels = size[0] * size[1]
    if seconds > max_seconds:
        raise VideoError("{name} is longer than {limit:g} seconds.", name=name, limit=max_seconds)
    if pixels > max_pixels:
        raise VideoError(
            "The frames of {name} have {pixels:,} pixels, more than the limit of {limit:,}.",
            name=name,
            pixels=pixels,
            limit=max_pixels,
        )
