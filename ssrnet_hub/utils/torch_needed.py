"""The error if PyTorch is not installed; detecting faces and estimating ages do not require it."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import MissingPackageError

__all__ = ["torch_needed"]

_PACKAGES = ("torch", "torchvision", "timm", "facenet_pytorch")


@contextmanager
def torch_needed(what: str) -> Iterator[None]:
    """Run a block that imports PyTorch or modules that need it.

    Args:
        what: What requires PyTorch, for the error.

    Raises:
        MissingPackageError: PyTorch or a package based on it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as e:
        if (e.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise MissingPackageError(
            f"{what} requires PyTorch, but {e.name} is not installed: run `pip install ssrnet_hub`.",
            name=e.name,
        ) from e
