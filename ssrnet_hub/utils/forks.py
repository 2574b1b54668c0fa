"""Number of compute threads. A forked process does not inherit the threads of its parent."""

import os
import sys

__all__ = ["count_threads", "reset_threads_after_fork", "set_threads"]

_first_process = _process = os.getpid()


def reset_threads_after_fork() -> None:
    """Limit PyTorch to one thread in a forked process, where it would wait forever for the parent's OpenMP pool."""
    global _process
    if os.getpid() != _process:
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        _process = os.getpid()


def count_threads() -> int:
    """Return the number of threads to compute on.

    One in a forked process; otherwise PyTorch's setting if it is imported, ``OMP_NUM_THREADS`` if it is set, or the
    number of cores available to the process.
    """
    if os.getpid() != _first_process:
        return 1
    if (torch := sys.modules.get("torch")) and hasattr(torch, "get_num_threads"):
        return torch.get_num_threads()
    value = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if value.isdigit() and int(value):
        return int(value)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int) -> None:
    """Set the number of threads of this process, for libraries imported before or after."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
