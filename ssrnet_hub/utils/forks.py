"""Working in a process that was forked off another: of the threads that the other had, it has none."""

import os

import torch

__all__ = ["reset_threads_after_fork"]

_process = os.getpid()


def reset_threads_after_fork() -> None:
    """In a forked process, limit PyTorch to one thread: it would wait forever for those of the parent's OpenMP pool."""
    global _process
    if os.getpid() != _process:
        torch.set_num_threads(1)
        _process = os.getpid()
