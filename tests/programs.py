"""Programs in processes and environments of their own."""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import ModuleType
from typing import Any, Optional

ROOT = Path(__file__).resolve().parent.parent

_FORKS = multiprocessing.get_context("forkserver")
# nothing that reads the environment, which each program has of its own
_FORKS.set_forkserver_preload(["torch", "torchvision"])


def run_program(
    *arguments: Any, cwd: Optional[Path] = None, env: Optional[Mapping[str, str]] = None, timeout: float = 900
) -> subprocess.CompletedProcess:
    """What ``python ARGUMENTS`` prints and exits with, as ``subprocess.run`` answers it.

    It is forked from a process that has imported PyTorch, which takes seconds.

    Args:
        *arguments: ``-c`` and code, ``-m`` and a module, or a script; then what it is given.
        cwd: Where it runs.
        env: Its environment; by default, that of the tests.
        timeout: Seconds until it is killed.

    Raises:
        TimeoutExpired: It was killed.
    """
    with tempfile.TemporaryFile() as nothing, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = _start(arguments, cwd, env, [file.fileno() for file in (nothing, out, err)])
        process.join(timeout)
        if late := process.exitcode is None:
            process.kill()
            process.join()
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode())
    if late:
        raise subprocess.TimeoutExpired(arguments, timeout, *said)
    return subprocess.CompletedProcess(arguments, process.exitcode, *said)


class Program:
    """A program that is talked to, line by line: what it is told goes to ``stdin``, and it answers on ``stdout``."""

    def __init__(self, *arguments: Any, cwd: Optional[Path] = None, env: Optional[Mapping[str, str]] = None):
        (its_stdin, stdin), (stdout, its_stdout) = os.pipe(), os.pipe()
        self._process = _start(arguments, cwd, env, [its_stdin, its_stdout, sys.__stderr__.fileno()])
        os.close(its_stdin)
        os.close(its_stdout)
        self.stdin, self.stdout = os.fdopen(stdin, "w"), os.fdopen(stdout)

    def wait(self, timeout: float) -> Optional[int]:
        """Its exit code; none where it has not ended after so many seconds."""
        self._process.join(timeout)
        return self._process.exitcode


def make_environment(folder: Path, *wanted: Any) -> Path:
    """Make a virtual environment if there is none, and install into it what pip is told to; its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder)
    # by the pip that is there; what is imported is compiled then
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", *wanted]
    subprocess.run([str(part) for part in command], check=True)
    return python


def _start(
    arguments: Sequence[Any], cwd: Optional[Path], env: Optional[Mapping[str, str]], streams: list[int]
) -> BaseProcess:
    command, env = [str(argument) for argument in arguments], dict(os.environ if env is None else env)
    process = _FORKS.Process(target=_Forked(command, cwd or Path.cwd(), env, streams))
    process.start()
    return process


class _Forked:
    """What a forked process does to be the program."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str], streams: list[int]):
        self._what = command, cwd, env
        self._streams = streams

    def __getstate__(self) -> dict[str, Any]:
        # the files get to the other process with the request for it
        return {"_what": self._what, "_streams": [DupFd(stream) for stream in self._streams]}

    def __call__(self) -> None:
        for number, stream in enumerate(self._streams):
            os.dup2(stream.detach(), number)
        sys.stdin = open(0)  # noqa: SIM115
        (kind, *rest), cwd, env = self._what
        paths = {"", str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)}
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(env)
        first = {"-c": "", "-m": str(cwd)}.get(kind, str(Path(kind).resolve().parent))
        named = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
        sys.path[:] = [first, *named, *(path for path in sys.path if path not in paths), str(ROOT)]
        try:
            if kind == "-m":
                sys.argv = rest
                runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
            elif kind == "-c":
                sys.argv = [kind, *rest[1:]]
                main = sys.modules["__main__"] = ModuleType("__main__")
                exec(rest[0], main.__dict__)
            else:
                sys.argv = [kind, *rest]
                runpy.run_path(kind, run_name="__main__")
        finally:
            # processes that multiprocessing forked end without it
            atexit._run_exitfuncs()
