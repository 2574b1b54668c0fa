"""Inference that does not depend on the caller's PyTorch settings."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

__all__ = ["inference"]


@contextmanager
def inference() -> Iterator[None]:
    """Run a block, or a function decorated with ``@inference()``, without gradients and without autocast.

    The default dtype cannot be changed for a single thread, so code that predicts ages specifies the dtype and the
    device of every tensor that it creates.
    """
    accelerator = torch.accelerator.current_accelerator()
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        for kind in ("cpu", accelerator and accelerator.type):
            if kind and torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield
