"""Decoding of untrusted pictures and videos in separate processes.

A decoder in C cannot be interrupted; a process can be killed, and its memory limited.
"""

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, TimeoutError
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, BinaryIO, Optional, Union

from PIL import Image

from .. import errors
from ..errors import PhotoError, SSRNetHubError, VideoError
from .loading import MAX_PIXELS, Photo, load_photo
from .videos import Frame, read_film

__all__ = ["Decoder"]

# the package itself imports torch, which takes seconds and which no decoder needs: only its folder is made known
_START = """
import sys
folder, seconds, memory, *sys.path[:] = sys.argv[1:]
import signal, types
signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.modules["ssrnet_hub"] = types.ModuleType("ssrnet_hub")
sys.modules["ssrnet_hub"].__path__ = [folder]
from ssrnet_hub.images.decoding import serve
serve(float(seconds), int(memory))
"""
_START_SECONDS = 120.0
_GRACE = 2.0
"""Seconds after which a process is ended that should have ended itself."""

_BEAT = 0.5
_STRIP = 1 << 20  # bytes of a picture that are taken at a time
_LARGE = 400 << 20  # a process with more memory than this, apart from the picture, is not reused
_LINE = 100_000


_PPM = b"P6\n%d %d\n255\n"
"""Header of a reply, before the pixels."""

_Answer = tuple[dict[str, Any], Optional[Image.Image]]


class _EndedError(Exception):
    """A process ended without a reply. Has a message and values as `SSRNetHubError`, without the name of the file."""

    def __init__(self, message: str, **values: object):
        self.message, self.values = message, values


def _late(seconds: float) -> _EndedError:
    return _EndedError("{name} cannot be decoded: it takes longer than {limit:g} seconds.", limit=seconds)


class Decoder:
    """Decodes photos and films in other processes, for a limited time and in limited memory.

    Safe to use from several threads. Processes are started when they are needed and kept for the next photo; they end
    with the one that started them, however it ends.

    Args:
        max_seconds: Longest that decoding a photo, or going on with a film, may take.
        max_memory: Most address space of a process, bytes, on platforms that limit it.
        max_processes: Photos that are decoded at a time; others wait.
    """

    def __init__(self, max_seconds: float = 60.0, max_memory: int = 6 << 30, max_processes: int = 3):
        self._settings = max_seconds, max_memory
        self._free = BoundedSemaphore(max_processes)
        self._idle: list[_Process] = []
        weakref.finalize(self, _end, self._idle)

    def load_photo(self, photo: Photo, max_pixels: int = MAX_PIXELS) -> Image.Image:
        """Decode a photo as `load_photo` does; pictures that are already decoded are passed through.

        Raises:
            PhotoTooLargeError: The picture has more than ``max_pixels``; it was not decoded.
            PhotoError: It cannot be read within the limits of time and memory.
        """
        if not isinstance(photo, (str, os.PathLike, bytes)):
            return load_photo(photo, max_pixels)
        name, path, content = "The picture", None, b""
        if isinstance(photo, bytes):
            content = photo
        else:
            name, path = os.fspath(photo), os.path.abspath(photo)  # noqa: PTH100  links stay
        with self._borrow() as process:
            try:
                process.ask({"photo": path, "max_pixels": max_pixels}, content)
                answer, image = process.wait(max_pixels)
            except _EndedError as e:
                raise PhotoError(e.message, name=name, **e.values) from e
        if image is None:
            raise _error(answer, PhotoError, str(path), name)
        return image

    def read_film(
        self,
        source: Union[str, os.PathLike],
        *,
        rate: float,
        max_seconds: float,
        max_pixels: int,
        max_frames: int,
        max_total_pixels: int,
    ) -> Generator[Optional[Frame], None, None]:
        """As `videos.read_film`, but None is yielded every half second even if the decoder hangs.

        Raises:
            VideoError: The video cannot be read within the limits of time and memory.
        """
        path, name = os.path.abspath(source), Path(source).name  # noqa: PTH100  links stay
        request = {"film": path, "rate": rate, "max_seconds": max_seconds, "max_pixels": max_pixels}
        process = _Process(*self._settings)
        try:
            process.ask({**request, "max_frames": max_frames, "max_total_pixels": max_total_pixels})
            while True:
                answer, image = yield from process.waiting(max_pixels)
                if image is not None:
                    yield Frame(answer["seconds"], image, answer["progress"], answer["rate"])
                elif "error" in answer:
                    raise _error(answer, VideoError, path, name)
                elif "end" in answer:
                    return
                image = None
        except _EndedError as e:
            raise VideoError(e.message, name=name, **e.values) from e
        finally:
            process.end()

    @contextmanager
    def _borrow(self) -> Iterator["_Process"]:
        with self._free:
            process = None
            while process is None and self._idle:
                with suppress(IndexError):  # another thread was faster
                    process = self._idle.pop()
                    if not process.alive:
                        process.end()
                        process = None
            process = process or _Process(*self._settings)
            try:
                yield process
            except BaseException:
                process.end()
                raise
            if process.used_up:
                process.end()
            else:
                self._idle.append(process)


class _Process:
    """A process that decodes, one thing at a time."""

    def __init__(self, seconds: float, memory: int):
        self._seconds = seconds
        folder = str(Path(__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, folder, str(seconds), str(memory), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._reader = ThreadPoolExecutor(1, "decoder")
        self.used_up = False
        try:
            self._reader.submit(self._read, 0).result(_START_SECONDS)
        except (EOFError, TimeoutError) as e:
            self.end()
            raise SSRNetHubError("The process that decodes photos and videos cannot start.") from e

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], content: bytes = b"") -> None:
        with suppress(OSError):  # its end is reported when it is waited for
            self._stdin.write(json.dumps({**request, "size": len(content)}).encode() + b"\n")
            self._stdin.write(content)
            self._stdin.flush()

    def wait(self, max_pixels: int) -> _Answer:
        """Read the next reply, with or without a picture.

        Raises:
            _EndedError: There was none.
        """
        waiting = self.waiting(max_pixels)
        while True:
            try:
                next(waiting)
            except StopIteration as e:
                return e.value

    def waiting(self, max_pixels: int) -> Generator[None, None, _Answer]:
        """`wait`, yielding to other tasks regularly."""
        answer, waited = self._reader.submit(self._read, max_pixels), 0.0
        while True:
            try:
                return answer.result(_BEAT)
            except TimeoutError:
                waited += _BEAT
                if waited > self._seconds + _GRACE:
                    self.end()
                    raise _late(self._seconds) from None
                yield
            except (OSError, EOFError, ValueError, KeyError, TypeError):
                self.end()
                if self._process.returncode == -getattr(signal, "SIGALRM", 0):
                    raise _late(self._seconds) from None
                raise _EndedError("{name} cannot be decoded: its decoder broke down.") from None

    def _read(self, max_pixels: int) -> _Answer:
        line = self._stdout.readline(_LINE)
        if not line.endswith(b"\n"):
            raise EOFError
        answer = json.loads(line)
        self.used_up |= answer.get("last", False)
        if "size" not in answer:
            return answer, None
        width, height = answer["size"]
        if width * height > max_pixels:
            raise EOFError
        self._stdout.read(len(_PPM % (width, height)))
        image = Image.new("RGB", (width, height))
        rows = max(1, _STRIP // (3 * width))
        for top in range(0, height, rows):
            size = width, min(rows, height - top)
            strip = self._stdout.read(3 * size[0] * size[1])
            if len(strip) < 3 * size[0] * size[1]:
                raise EOFError
            image.paste(Image.frombytes("RGB", size, strip), (0, top))
        return answer, image

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.shutdown()
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()


def _end(processes: list[_Process]) -> None:
    while processes:
        processes.pop().end()


def _error(answer: dict[str, Any], otherwise: type[SSRNetHubError], path: str, name: str) -> SSRNetHubError:
    kind = getattr(errors, str(answer.get("error")), None)
    if not isinstance(kind, type) or not issubclass(kind, SSRNetHubError):
        kind = otherwise
    values = {key: str(value).replace(path, name) for key, value in answer.get("values", {}).items()}
    return kind(str(answer.get("message")), **values)


def serve(seconds: float, memory: int) -> None:
    """Serve requests from standard input until it ends.

    Args:
        seconds: Time limit of a request, after which the process ends.
        memory: See `Decoder`.
    """
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # output printed by libraries is not a reply
    _bound(memory)
    with suppress(BrokenPipeError):
        _write(sink, {})
        while line := sys.stdin.buffer.readline():
            request = json.loads(line)
            _serve(sink, seconds, request, sys.stdin.buffer.read(request.pop("size")))


def _serve(sink: BinaryIO, seconds: float, request: dict[str, Any], content: bytes) -> None:
    answers = _answers(request, content)
    while True:
        _end_after(seconds)
        answer, image = next(answers, (None, None))
        _end_after(0)  # the reader may be slow
        if answer is None:
            return
        _write(sink, answer, image)
        image = None


def _answers(request: dict[str, Any], content: bytes) -> Iterator[_Answer]:
    try:
        if "film" in request:
            for frame in read_film(request.pop("film"), **request):
                if frame is None:
                    yield {}, None
                else:
                    yield {"seconds": frame.seconds, "progress": frame.progress, "rate": frame.rate}, frame.image
            yield {"end": True}, None
        else:
            path = request["photo"]
            yield {}, load_photo(content if path is None else path, request["max_pixels"])
    except SSRNetHubError as e:
        yield {"error": type(e).__name__, "message": e.message, "values": e.values}, None


def _write(sink: BinaryIO, answer: dict[str, Any], image: Optional[Image.Image] = None) -> None:
    held = _resident()
    if image is not None:
        answer["size"] = image.size
        held -= 4 * image.width * image.height
    answer["last"] = held > _LARGE
    sink.write(json.dumps(answer).encode() + b"\n")
    sink.flush()
    if image is not None:
        image.save(sink, "PPM")


def _bound(memory: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    except (ImportError, OSError, ValueError):  # no such limit here, or a lower one
        pass


def _end_after(seconds: float) -> None:
    """End this process so much later, by a signal that needs no Python; never for 0."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _resident() -> int:
    """Memory of this process in bytes, if the platform reports it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0
