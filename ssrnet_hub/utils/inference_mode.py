"""Computing answers, whatever the program around has set in PyTorch."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["inference"]


@contextmanager
def inference() -> Iterator[None]:
    """Run a block, or as ``@inference()`` a function, without gradients and in the precision of its tensors: autocast
    is off.

    The default dtype is another setting, which cannot be changed for one thread alone: what leads to an age says the
    dtype and the device of every tensor that it makes.
    """
    accelerator = torch.accelerator.current_accelerator()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for kind in ("cpu", accelerator and accelerator.type):
            if kind and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
