"""How many threads to compute on; a process that was forked off another has none of that one's threads."""

import os
import sys

__all__ = ["count_threads", "reset_threads_after_fork", "set_threads"]

_first_process = _process = os.getpid()


def reset_threads_after_fork() -> None:
    """In a forked process, limit PyTorch to one thread: it would wait forever for those of the parent's OpenMP pool."""
    global _process
    if os.getpid() != _process:
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        _process = os.getpid()


def count_threads() -> int:
    """How many threads to compute on: one in a forked process, as many as PyTorch has where it is imported, else what
    ``OMP_NUM_THREADS`` says, or one a core that the process may use.
    """
    if os.getpid() != _first_process:
        return 1
    if (torch := sys.modules.get("torch")) and hasattr(torch, "get_num_threads"):
        return torch.get_num_threads()
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if said.isdigit() and int(said):
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int) -> None:
    """Have this process compute on so many threads, in whatever is imported by now or later."""
    os.environ["OMP_NUM_THREADS"] = str(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)
