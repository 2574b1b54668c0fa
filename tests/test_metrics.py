import pytest

from ssrnet_hub.metrics import age_metrics, gender_metrics


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


def test_gender_by_hand():
    metrics = gender_metrics([0.1, 0.6, 0.9, 0.2, 0.8], ["female", "female", "male", "male", "male"])
    assert metrics == {"accuracy": 0.6, "balanced_accuracy": pytest.approx((1 / 2 + 2 / 3) / 2), "n": 5}
    assert [type(value) for value in metrics.values()] == [float, float, int]


def test_the_larger_gender_does_not_make_the_balanced_accuracy():
    metrics = gender_metrics([1.0] * 10, ["male"] * 9 + ["female"])
    assert (metrics["accuracy"], metrics["balanced_accuracy"]) == (0.9, 0.5)


def test_all_right_all_wrong_and_on_neither_side():
    genders = ["female", "male"]
    for scores, expected in (([0, 1], 1), ([0.4999, 0.5001], 1), ([1, 0], 0), ([0.5, 0.5], 0), ([0.5, 0.7], 0.5)):
        metrics = gender_metrics(scores, genders)
        assert metrics == {"accuracy": expected, "balanced_accuracy": expected, "n": 2}


@pytest.mark.parametrize(("scores", "genders"), [([0.1], ["male"] * 2), ([0.1, 0.2], ["male"])], ids=str)
def test_as_many_genders_as_scores(scores, genders):
    with pytest.raises(ValueError, match="genders"):
        gender_metrics(scores, genders)
