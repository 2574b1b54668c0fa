"""The demo as visitors meet it: a server of its own process on 127.0.0.1."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client

import ssrnet_hub

EXAMPLES = {path.name for path in (Path(ssrnet_hub.__file__).parent / "webapp" / "examples").iterdir()}


@dataclass(frozen=True)
class Demo:
    """A running demo; ``uploads`` is where it puts what visitors send."""

    url: str
    process: subprocess.Popen
    log: Path
    uploads: Path

    def client(self) -> Client:
        return Client(self.url, verbose=False)

    @property
    def files(self) -> list[Path]:
        """What lies on its disk of visitors."""
        files = [path for path in self.uploads.rglob("*") if path.is_file() and path.name not in EXAMPLES]
        return [path for path in files if path.suffix != ".lock"]


@contextmanager
def serve(
    folder: Path, command: Sequence[str] = (), cwd: Path | None = None, **environment: str | int
) -> Iterator[Demo]:
    """A demo that keeps its files in a folder.

    Args:
        folder: Where its log, its uploads and its caches go.
        command: What starts it; ``ssrnet-hub demo`` without.
        cwd: Where it is started.
        **environment: Variables, such as limits.
    """
    port = free_port()
    log, uploads = folder / "demo.log", folder / "uploads"
    env = {**os.environ, "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1"}
    env |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "GRADIO_TEMP_DIR": str(uploads)}
    env |= {"TMPDIR": str(folder), "HF_HOME": str(folder / "hf")}
    env |= {name: str(value) for name, value in environment.items()}
    command = list(command) or [sys.executable, "-m", "ssrnet_hub.cli", "demo"]
    with log.open("w") as out, interruptible(command, cwd=cwd, env=env, stdout=out, stderr=out) as process:
        try:
            demo = Demo(f"http://127.0.0.1:{port}/", process, log, uploads)
            _wait_for(demo)
            yield demo
        finally:
            process.kill()


def interruptible(command: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen:
    """A process that SIGINT ends, even if the tests run in the background, where it is ignored."""
    return subprocess.Popen(command, preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL), **options)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _wait_for(demo: Demo) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            httpx.get(demo.url)
            return
        except httpx.TransportError:
            assert demo.process.poll() is None, demo.log.read_text()
            time.sleep(0.2)
    raise TimeoutError(f"the demo did not start: {demo.log.read_text()}")
