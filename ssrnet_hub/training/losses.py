"""Losses for exact ages and age ranges."""

import torch
from torch import Tensor

__all__ = ["distance", "negative_log_likelihood", "teaching_distance"]

_SPREAD = 2.0
"""Standard deviation of the label distribution of an exact age, years."""


def distance(ages: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Distance of ages to the ranges ``[low, high]``, which is the absolute error if both ends are the same.

    Args:
        ages: ``(B,)``, years.
        low: ``(B,)``.
        high: ``(B,)``; infinite for an open range.
    """
    return (low - ages).relu() + (ages - high).relu()


def teaching_distance(ages: Tensor, taught: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Distance of ages to those of teachers, which are clamped to the labeled ranges.

    Above an open range's lower end, teachers regress to the mean: only ages below theirs count.

    Args:
        ages: ``(B,)``, years.
        taught: Ages of the teachers, ``(B,)``; unchanged where the label is exact.
        low: ``(B,)``.
        high: ``(B,)``; infinite for an open range.
    """
    taught = torch.where(low == high, taught, taught.clamp(low, high))
    return torch.where(high.isinf(), (taught - ages).relu(), (taught - ages).abs())


def negative_log_likelihood(p: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Negative log-likelihood of labels under a softmax over years.

    For a range, that of its total probability; for an exact age, the cross-entropy with a Gaussian around it.

    Args:
        p: Probabilities of the ages i to i + 1, ``(B, s)``.
        low: ``(B,)``, years.
        high: ``(B,)``, exclusive upper end of the range, or equal to ``low``.

    Returns:
        ``(B,)``.
    """
    years = torch.arange(p.shape[1], dtype=p.dtype, device=p.device)
    exact = low == high
    # the last bin is open
    inside = ((years >= low[:, None]) & (years < high[:, None].clamp(max=p.shape[1]))).to(p.dtype)
    near = torch.exp(-0.5 * ((years - low[:, None].clamp(max=p.shape[1] - 1)) / _SPREAD) ** 2)
    log_p = p.clamp(min=1e-8).log()
    of_exact = -(near / near.sum(1, keepdim=True) * log_p).sum(1)
    of_range = -(p * inside).sum(1).clamp(min=1e-8).log()
    return torch.where(exact, of_exact, of_range)
