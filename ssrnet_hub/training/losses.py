"""What training minimizes, for ages that are known exactly and ages of which a range is known."""

import torch
from torch import Tensor

__all__ = ["distance", "hold", "negative_log_likelihood"]

_SPREAD = 2.0
"""Standard deviation of the ages that an exact label stands for, years."""


def distance(ages: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """How far ages are from the ranges ``[low, high]``: the absolute error where both ends are the age itself.

    Args:
        ages: ``(B,)``, years.
        low: ``(B,)``.
        high: ``(B,)``; infinite for a range that is open above.
    """
    return (low - ages).relu() + (ages - high).relu()


def hold(ages: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Ages that teachers say, ``(B,)``, brought into the labeled ranges; as they are where the label is exact."""
    return torch.where(low == high, ages, ages.clamp(low, high))


def negative_log_likelihood(p: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Of labels under a softmax over years: of all that a range holds together, or of the years around an exact age.

    Args:
        p: Probabilities, ``(B, s)``, of the ages i to i + 1.
        low: ``(B,)``, years.
        high: ``(B,)``, the first age above the range, or the same as ``low``.

    Returns:
        ``(B,)``.
    """
    years = torch.arange(p.shape[1], dtype=p.dtype, device=p.device)
    exact = low == high
    # the last bin stands for all ages from it on
    inside = ((years >= low[:, None]) & (years < high[:, None].clamp(max=p.shape[1]))).to(p.dtype)
    near = torch.exp(-0.5 * ((years - low[:, None].clamp(max=p.shape[1] - 1)) / _SPREAD) ** 2)
    log_p = p.clamp(min=1e-8).log()
    of_exact = -(near / near.sum(1, keepdim=True) * log_p).sum(1)
    of_range = -(p * inside).sum(1).clamp(min=1e-8).log()
    return torch.where(exact, of_exact, of_range)
