import pytest

from ssrnet_hub.metrics import age_metrics


def test_by_hand():
    # errors: 0, 5, -5.5, 10, -1
    metrics = age_metrics([20, 35, 24.5, 80, 4], [20, 30, 30, 70, 5])
    assert metrics == {"mae": pytest.approx(21.5 / 5), "cs5": 0.6, "bias": pytest.approx(8.5 / 5), "n": 5}
    assert [type(value) for value in metrics.values()] == [float, float, float, int]


def test_five_years_still_count():
    assert age_metrics([5.0], [0.0])["cs5"] == 1
    assert age_metrics([0.0], [5.0])["cs5"] == 1
    assert age_metrics([5.001], [0.0])["cs5"] == 0


def test_bias_is_predicted_minus_true():
    assert age_metrics([30, 40], [20, 20])["bias"] == 15
    assert age_metrics([20, 20], [30, 40])["bias"] == -15


def test_perfect():
    assert age_metrics([1, 2, 3], [1, 2, 3]) == {"mae": 0, "cs5": 1, "bias": 0, "n": 3}


@pytest.mark.parametrize(("predicted", "true"), [([1, 2, 3], [1, 2]), ([1], [1, 2, 3]), ([1, 2, 3], [1])], ids=str)
def test_as_many_true_ages_as_predicted_ones(predicted, true):
    with pytest.raises(ValueError):
        age_metrics(predicted, true)
