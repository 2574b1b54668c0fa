"""What is said where PyTorch is not installed, which finding faces and telling ages do without."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import MissingPackageError

__all__ = ["torch_needed"]

_PACKAGES = ("torch", "torchvision", "timm", "facenet_pytorch")


@contextmanager
def torch_needed(what: str) -> Iterator[None]:
    """Import PyTorch, or what imports it.

    Args:
        what: What needs it, for the error.

    Raises:
        MissingPackageError: It, or what comes with it, is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise MissingPackageError(
            f"{what} needs PyTorch, and {e.name} is not installed: `pip install ssrnet_hub` installs what is missing.",
            name=e.name,
        ) from e
