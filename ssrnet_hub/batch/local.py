"""Estimate ages in many photos on all cores of one machine, with resumable output."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, NamedTuple, Optional, Union

from PIL import Image

from ..errors import BoxError, PhotoError, SSRNetHubError, WorkerError
from ..images.loading import by_pixels
from ..images.sources import Source, open_source
from ..inference.estimator import AgeEstimator, Face
from ..utils.forks import set_threads
from ..utils.io import printable
from .output import JobOutput
from .records import describe_photo

__all__ = ["Predictor", "Counts", "Task", "predict_files", "count_cores"]

_CHUNK = 16
"""Photos that a worker is handed at a time."""

_WORKERS_PER_GPU = 4
"""Enough that some of them read photos while others compute."""


class Task(NamedTuple):
    """A photo to process.

    Attributes:
        file: Name in the output; bytes that are not valid UTF-8 are escaped there.
        photo: Path, content, or another source for `open_source`.
        boxes: Bounding boxes, as for `AgeEstimator`; None to detect faces.
        error: Why the photo cannot be processed, if so.
    """

    file: str
    photo: Source
    boxes: Optional[Sequence[Sequence[Any]]] = None
    error: Optional[str] = None


class Counts(NamedTuple):
    """Photos in an output, and how many of them could not be read."""

    photos: int
    failed: int


class Predictor:
    """Processes batches of photos and returns the `describe_photo` of each; unreadable photos do not stop it.

    Args:
        explain: Whether to include the ``explanation`` of each face.
        **options: Options of `AgeEstimator`.
    """

    def __init__(self, explain: bool = False, **options: Any):
        self._explain = explain
        self._estimator = AgeEstimator(**options)

    def __call__(self, tasks: Sequence[Task]) -> list[dict[str, Any]]:
        answers = [describe_photo(task.file, [], task.error) for task in tasks]
        for part in by_pixels(self._read(tasks, answers)):
            for (image, number), (faces, error) in zip(part, self._look(part, tasks), strict=True):
                pages = image.info.get("pages", 1)
                answers[number] = describe_photo(tasks[number].file, faces, error, self._explain, pages)
        return answers

    def _read(self, tasks: Sequence[Task], answers: list[dict[str, Any]]) -> Iterator[tuple[Image.Image, int]]:
        """The pictures that can be read, with their numbers."""
        for number, task in enumerate(tasks):
            try:
                if task.error is None:
                    yield open_source(task.photo, self._estimator.max_pixels), number
            except PhotoError as e:
                answers[number] = describe_photo(task.file, [], printable(str(e)))

    def _look(
        self, part: list[tuple[Image.Image, int]], tasks: Sequence[Task]
    ) -> list[tuple[list[Face], Optional[str]]]:
        try:
            images, boxes = zip(*((image, tasks[number].boxes) for image, number in part), strict=True)
            return [(faces, None) for faces in self._estimator.batch(images, boxes)]
        except BoxError as e:
            if len(part) == 1:
                return [([], str(e))]
            return [self._look([one], tasks)[0] for one in part]


def predict_files(
    tasks: Sequence[Task],
    output: Union[str, os.PathLike],
    *,
    workers: Optional[int] = None,
    resume: bool = False,
    overwrite: bool = False,
    explain: bool = False,
    report: Callable[[list[dict[str, Any]]], None] = lambda photos: None,
    begin: Callable[[int], None] = lambda done: None,
    **options: Any,
) -> Counts:
    """Estimate the ages of all faces in photos, and write them in the order of the photos as they come.

    Worker processes import the main module of the program: call this there under ``if __name__ == "__main__":``.

    Args:
        tasks: The photos, each with another ``file``.
        output: A ``.csv`` with a row per face, a ``.jsonl`` with an object per photo, or a ``.parquet`` with the rows
            of the CSV. It is written at the end; see `JobOutput` for what exists until then.
        workers: Number of processes; 1 runs in this one. Default: one per core, or 4 for a GPU.
        resume: Skip the photos that are in the output of an interrupted or a completed job, and add the others.
        overwrite: Start over if there is an output or an interrupted job.
        explain: Also write the contributions of the stages.
        report: Called with the results of photos, as of `describe_photo`, as they come.
        begin: Called once with the number of photos that are skipped.
        **options: Options of `AgeEstimator`; ``model`` and ``gender`` by name.

    Returns:
        Counts of the output.

    Raises:
        OutputError: See `JobOutput`; a job cannot be resumed with boxes if it started without them, or vice versa.
        WorkerError: The workers cannot start.
        SSRNetHubError: See `AgeEstimator`.
    """
    settings = {"explain": explain, **{key: value for key, value in options.items() if value is not None}}
    tasks = [task._replace(file=printable(task.file)) for task in tasks]
    if any(task.boxes is not None for task in tasks):
        settings["boxes"] = True
    parts = JobOutput(output, settings, resume, overwrite)
    photos, failed = len(parts.done), len(parts.failed)
    try:
        begin(photos)
        left = [task for task in tasks if task.file not in parts.done]
        chunks = [left[start : start + _CHUNK] for start in range(0, len(left), _CHUNK)]
        workers = min(workers or _default_workers(options.get("device")), len(chunks))
        answer = {"explain": explain, **options}
        for found in _predict_here(chunks, answer) if workers <= 1 else _predict_in_pool(chunks, answer, workers):
            parts.write(found)
            photos, failed = photos + len(found), failed + sum(bool(photo["error"]) for photo in found)
            report(found)
    except BaseException:
        parts.close()
        raise
    parts.finish()
    return Counts(photos, failed)


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_workers(device: Any) -> int:
    # the workers check whether the device exists
    on_cpu = device is None or str(device).startswith("cpu")
    return count_cores() if on_cpu else min(_WORKERS_PER_GPU, count_cores())


Chunk = Sequence[Task]
Found = list[dict[str, Any]]


def _predict_here(chunks: Iterable[Chunk], options: dict[str, Any]) -> Iterator[Found]:
    annotator = Predictor(**options)
    return map(annotator, chunks)


def _predict_in_pool(chunks: Iterable[Chunk], options: dict[str, Any], workers: int) -> Iterator[Found]:
    """Yield the results of the workers in the order of the chunks, with enough chunks in flight to keep them busy."""
    chunks = iter(chunks)
    pool = _start_pool(options, workers)
    under_way: deque[tuple[Chunk, Future[Found]]] = deque()
    try:
        while True:
            while len(under_way) < 2 * workers and (chunk := next(chunks, None)):
                under_way.append((chunk, _submit(pool, chunk)))
            if not under_way:
                return
            chunk, future = under_way.popleft()
            try:
                found = future.result()
            except BrokenProcessPool:
                pool.shutdown()
                found = _predict_one_by_one(chunk, options)
                pool = _start_pool(options, workers)
                under_way = deque((chunk, _submit(pool, chunk)) for chunk, _ in under_way)
            yield found
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, chunk: Chunk) -> "Future[Found]":
    """The result of a chunk to come; a pool that is already broken fails it as it does those under way."""
    try:
        return pool.submit(_work, chunk)
    except BrokenProcessPool as e:
        failed: Future[Found] = Future()
        failed.set_exception(e)
        return failed


def _predict_one_by_one(chunk: Chunk, options: dict[str, Any]) -> Found:
    """Retry the photos of a chunk whose worker died, one by one; a photo that kills a worker again gets an error."""
    found: Found = []
    pool = _start_pool(options, 1)
    try:
        pool.submit(_work, []).result()
    except BrokenProcessPool as e:
        raise WorkerError(
            "The worker processes exit when they start; their output is above. Programs that start them must be "
            'guarded by if __name__ == "__main__":, or pass workers=1.'
        ) from e
    for task in chunk:
        try:
            found += pool.submit(_work, [task]).result()
        except BrokenProcessPool:
            error = f"{task.file} ended the process that looked at it: for want of memory, or it is damaged."
            found.append(describe_photo(task.file, [], error))
            pool.shutdown()
            pool = _start_pool(options, 1)
    pool.shutdown()
    return found


def _start_pool(options: dict[str, Any], workers: int) -> ProcessPoolExecutor:
    # a process that was forked off threads of PyTorch may hang
    context = multiprocessing.get_context("spawn")
    threads = max(count_cores() // workers, 1)
    return ProcessPoolExecutor(workers, context, _start_worker, (options, threads))


_predictor: Union[Predictor, SSRNetHubError, None] = None
"""Result of a worker, or its error."""


def _start_worker(options: dict[str, Any], threads: int) -> None:
    global _predictor
    # Ctrl+C ends a worker immediately and silently: unfinished work is not written anyway
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_follow_parent, daemon=True).start()
    set_threads(threads)
    try:
        _predictor = Predictor(**options)
    except SSRNetHubError as e:
        _predictor = e


def _follow_parent() -> None:
    """End with the main process, however that ends."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


def _work(chunk: Chunk) -> Found:
    assert _predictor
    if isinstance(_predictor, SSRNetHubError):
        raise _predictor
    found = _predictor(chunk)
    _give_back_memory()
    return found


def _give_back_memory() -> None:
    """Hand what is free to the system, where the C library is glibc: it keeps pieces of large pictures for good."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
