"""What training minimizes, against numbers worked out by hand."""

import math

import pytest
import torch

from ssrnet_hub.training.losses import distance, negative_log_likelihood

INF = math.inf


def test_distance_to_an_exact_age_is_the_absolute_error():
    ages = torch.tensor([10.0, 20.0, 35.5])
    low = torch.tensor([12.0, 20.0, 30.0])
    assert distance(ages, low, low).tolist() == [2, 0, 5.5]


def test_distance_to_a_range():
    ages = torch.tensor([2.0, 3.0, 9.9, 10.0, 12.0, 60.0, 99.0], requires_grad=True)
    low = torch.tensor([3.0, 3.0, 3.0, 3.0, 3.0, 70.0, 70.0])
    high = torch.tensor([10.0, 10.0, 10.0, 10.0, 10.0, INF, INF])
    answer = distance(ages, low, high)
    assert answer.tolist() == [1, 0, 0, 0, 2, 10, 0]
    answer.sum().backward()
    assert ages.grad.tolist() == [-1, 0, 0, 0, 1, -1, 0]


def test_likelihood_of_a_range_is_that_of_all_its_years():
    p = torch.full((1, 101), 1 / 101)
    answer = negative_log_likelihood(p, torch.tensor([20.0]), torch.tensor([30.0]))
    assert answer.item() == pytest.approx(-math.log(10 / 101))
    # where in the range they are makes no difference
    p = torch.zeros(2, 101)
    p[0, 20], p[1, 29] = 1, 1
    low, high = torch.tensor([20.0, 20.0]), torch.tensor([30.0, 30.0])
    assert negative_log_likelihood(p, low, high).tolist() == [0, 0]
    p[0, 20], p[0, 30] = 0, 1
    assert negative_log_likelihood(p, low, high)[0] > 10


def test_likelihood_of_an_open_range():
    p = torch.zeros(1, 101)
    p[0, 65], p[0, 75], p[0, 100] = 0.5, 0.25, 0.25
    answer = negative_log_likelihood(p, torch.tensor([70.0]), torch.tensor([INF]))
    assert answer.item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("age", [0.0, 30.0, 100.0, 116.0])
def test_an_exact_age_is_likeliest_under_its_own_years(age):
    years = torch.arange(101.0)

    def bell(middle):
        bell = torch.exp(-0.5 * ((years - middle) / 2) ** 2)
        return (bell / bell.sum())[None]

    low = torch.tensor([age])
    right, *wrong = (negative_log_likelihood(bell(min(age, 100) + off), low, low).item() for off in (0, -3, 3))
    assert right < min(wrong)


def test_no_probability_at_all_is_no_infinity():
    p = torch.zeros(2, 101, requires_grad=True)
    low, high = torch.tensor([20.0, 30.0]), torch.tensor([20.0, 40.0])
    answer = negative_log_likelihood(p, low, high)
    answer.sum().backward()
    assert answer.isfinite().all() and p.grad.isfinite().all()
