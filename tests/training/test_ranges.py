"""Ages placed in labeled ranges."""

import math

import pytest
import torch

from ssrnet_hub.training.ranges import place_in_ranges


def test_faces_are_spread_over_their_range_in_the_order_of_predictions():
    predicted = torch.tensor([25.0, 3.0, 17.0, 40.0, 21.0])
    placed = place_in_ranges(predicted, torch.tensor([[10.0, 20.0]] * 5))
    assert placed.tolist() == [[17, 17], [11, 11], [13, 13], [19, 19], [15, 15]]


def test_only_the_order_counts():
    predicted, ranges = torch.arange(20.0), torch.tensor([[0.0, 3.0], [20.0, 30.0]] * 10)
    assert torch.equal(place_in_ranges(predicted, ranges), place_in_ranges(predicted * 3 - 50, ranges))


def test_ages_beyond_an_open_range_are_exponential():
    placed = place_in_ranges(torch.arange(2000.0), torch.tensor([[70, math.inf]] * 2000))[:, 0]
    assert placed.min() >= 70
    assert placed.mean().item() == pytest.approx(77, abs=0.1)
    assert (placed < 90).float().mean().item() == pytest.approx(1 - math.exp(-20 / 7), abs=1e-3)


def test_faces_that_look_alike_keep_their_order():
    placed = place_in_ranges(torch.full((100,), 15.0), torch.tensor([[10.0, 20.0]] * 100))[:, 0]
    assert torch.equal(placed, placed.sort().values)


def test_exact_ages_stay():
    ranges = torch.tensor([[31.0, 31.0], [31.0, 31.0], [8.0, 8.0]])
    assert torch.equal(place_in_ranges(torch.tensor([30.0, 50.0, 60.0]), ranges), ranges)
