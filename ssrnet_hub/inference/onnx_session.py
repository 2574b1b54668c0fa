"""ONNX Runtime on the CPU, for networks that are copied, pickled and taken along by a fork. Needs no PyTorch."""

import ctypes
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union
from weakref import WeakSet

import numpy as np
import onnxruntime

from ..utils.forks import count_threads

__all__ = ["Session", "open_session"]

if os.environ.get("ORT_DISABLE_TELEMETRY") == "1":
    # imported by the program before ssrnet_hub, it did not see the variable
    onnxruntime.disable_telemetry_events()


def open_session(model: Union[bytes, str, os.PathLike], threads: Optional[int] = None) -> onnxruntime.InferenceSession:
    """ONNX Runtime session of a graph. Default number of threads: `count_threads`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or count_threads()
    # spinning threads would take the cores from other networks
    options.add_session_config_entry("session.force_spinning_stop", "1")
    source = model if isinstance(model, bytes) else os.fspath(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class Session:
    """A graph in ONNX Runtime that can be copied and pickled, and works in a forked process as well.

    Args:
        model: The graph, as a file has it, or the path of one.
        threads: As for `open_session`.
    """

    def __init__(self, model: Union[bytes, str, os.PathLike], threads: Optional[int] = None):
        self._model = model if isinstance(model, bytes) else Path(model).read_bytes()
        self._threads = threads
        self._open()

    def run(self, outputs: Optional[Sequence[str]], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run the graph; returns the named outputs, or all. Thread-safe."""
        session = self._session or self._open()
        return session.run(outputs, inputs)

    def _open(self) -> onnxruntime.InferenceSession:
        self._session: Optional[onnxruntime.InferenceSession] = open_session(self._model, self._threads)
        _open_sessions.add(self)
        return self._session

    def __getstate__(self) -> dict[str, Any]:
        return {"_model": self._model, "_threads": self._threads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def abandon(self) -> None:
        """In a forked process, abandon the session and open another one on demand."""
        if self._session is not None:
            # one that is deleted, at the end of the process at the latest, waits forever for its threads to end
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session = None


_open_sessions: "WeakSet[Session]" = WeakSet()


def _abandon_sessions() -> None:
    for session in list(_open_sessions):
        session.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_sessions)
