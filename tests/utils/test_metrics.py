import itertools
import math

import numpy as np
import pytest

from ssrnet_hub.utils import metrics as module
from ssrnet_hub.utils.metrics import (
    SHUFFLES,
    SMALLEST_GROUP,
    age_band,
    age_metrics,
    best_group,
    compare_errors,
    gender_group_metrics,
    gender_metrics,
    group_metrics,
    name_range,
    range_group_metrics,
    range_metrics,
    worst_group,
)


def draw_ages(n, seed=0, spread=7.0):
    """True ages and predicted ones."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0, 90, n)
    return true, true + rng.normal(1, spread, n)


def test_by_hand():
    # errors: 0, 5, -5.5, 10, -1
    metrics = age_metrics([20, 35, 24.5, 80, 4], [20, 30, 30, 70, 5])
    low, high = metrics.pop("mae_interval")
    assert metrics == {
        "mae": pytest.approx(21.5 / 5),
        "rmse": pytest.approx(math.sqrt(156.25 / 5)),
        "cs3": 0.4,
        "cs5": 0.6,
        "cs7": 0.8,
        "bias": pytest.approx(8.5 / 5),
        "n": 5,
    }
    assert [type(value) for value in (*metrics.values(), low, high)] == [float] * 6 + [int] + [float] * 2
    assert 0 <= low < 21.5 / 5 < high <= 10


@pytest.mark.parametrize("seed", range(5))
def test_against_plain_sums(seed):
    true, predicted = draw_ages(50, seed)
    errors = [p - t for p, t in zip(predicted.tolist(), true.tolist(), strict=True)]
    metrics = age_metrics(predicted, true)
    assert metrics["mae"] == pytest.approx(sum(map(abs, errors)) / 50)
    assert metrics["rmse"] == pytest.approx(math.sqrt(sum(e * e for e in errors) / 50))
    for years in (3, 5, 7):
        assert metrics[f"cs{years}"] == sum(abs(e) <= years for e in errors) / 50
    assert metrics["cs3"] <= metrics["cs5"] <= metrics["cs7"] and metrics["mae"] <= metrics["rmse"]


def test_interval_is_about_that_of_the_normal_distribution():
    true, predicted = draw_ages(2000)
    distances = np.abs(predicted - true)
    half = 1.96 * distances.std() / math.sqrt(2000)
    expected = [distances.mean() - half, distances.mean() + half]
    assert age_metrics(predicted, true)["mae_interval"] == pytest.approx(expected, abs=0.1 * half)


def test_figures_are_the_same_every_time_and_draw_nothing_from_the_global_state():
    true, predicted = draw_ages(100)
    first = age_metrics(predicted, true), compare_errors(predicted, true + 6, true)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    assert (age_metrics(predicted, true), compare_errors(predicted, true + 6, true)) == first
    assert (np.random.get_state()[1] == state).all()


def test_blocks_are_all_the_draws():
    assert module._blocks(10, 4_000_000) == [1] * 10
    assert module._blocks(10, 1_000_000) == [4, 4, 2]
    assert module._blocks(10_000, 1) == [10_000]


def test_five_years_still_count():
    assert age_metrics([5.0], [0.0])["cs5"] == 1
    assert age_metrics([0.0], [5.0])["cs5"] == 1
    assert age_metrics([5.001], [0.0])["cs5"] == 0


def test_bias_is_predicted_minus_true():
    assert age_metrics([30, 40], [20, 20])["bias"] == 15
    assert age_metrics([20, 20], [30, 40])["bias"] == -15


def test_perfect():
    nothing, all_of_them = dict.fromkeys(["mae", "rmse", "bias"], 0), dict.fromkeys(["cs3", "cs5", "cs7"], 1)
    assert age_metrics([1, 2, 3], [1, 2, 3]) == {**nothing, **all_of_them, "mae_interval": [0, 0], "n": 3}


@pytest.mark.parametrize(("predicted", "true"), [([1, 2, 3], [1, 2]), ([1], [1, 2, 3]), ([1, 2, 3], [1])], ids=str)
def test_as_many_true_ages_as_predicted_ones(predicted, true):
    with pytest.raises(ValueError, match="predicted ages"):
        age_metrics(predicted, true)
    with pytest.raises(ValueError, match="predicted ages"):
        compare_errors(true, predicted, true)


def test_no_faces_have_no_figures():
    for measure in (age_metrics, gender_metrics):
        with pytest.raises(ValueError, match="no "):
            measure([], [])


# by group


def test_groups_by_hand():
    groups = ["b", "a", None, "b", "", "a"]
    assert group_metrics([10, 20, 30, 40, 50, 66], [12, 25, 0, 48, 0, 60], groups) == {
        "a": {"mae": 5.5, "bias": 0.5, "cs5": 0.5, "n": 2},
        "b": {"mae": 5.0, "bias": -5.0, "cs5": 0.5, "n": 2},
    }
    assert list(group_metrics([1, 2], [1, 2], ["b", "a"])) == ["a", "b"]
    assert group_metrics([1], [1], [None]) == {}
    with pytest.raises(ValueError, match="groups"):
        group_metrics([1, 2], [1, 2], ["a"])


def test_groups_add_up_to_the_whole():
    true, predicted = draw_ages(300)
    groups = group_metrics(predicted, true, [age_band(age) for age in true])
    whole = age_metrics(predicted, true)
    assert sum(part["n"] for part in groups.values()) == 300
    for key in ("mae", "bias", "cs5"):
        assert sum(part["n"] * part[key] for part in groups.values()) / 300 == pytest.approx(whole[key])


def test_age_bands():
    ages = [-1, 0, 9, 9.9, 10, 29, 30, 79.9, 80, 116]
    bands = ["0-9", "0-9", "0-9", "0-9", "10-19", "20-29", "30-39", "70-79", "80+", "80+"]
    assert [age_band(age) for age in ages] == bands
    assert sorted(set(bands)) == ["0-9", "10-19", "20-29", "30-39", "70-79", "80+"]  # in the order of age


def test_worst_group_is_large_enough():
    groups = {
        "few": {"mae": 30.0, "n": SMALLEST_GROUP - 1},
        "enough": {"mae": 9.0, "n": SMALLEST_GROUP},
        "many": {"mae": 5.0, "n": 900},
    }
    assert worst_group(groups) == "enough"
    assert worst_group({"few": groups["few"]}) is None
    assert worst_group({"a": {"accuracy": 0.9, "n": 50}, "b": {"accuracy": 0.8, "n": 50}}) == "b"
    assert best_group({"a": {"accuracy": 0.9, "n": 50}, "b": {"accuracy": 0.8, "n": 50}}) == "a"
    assert best_group(groups) == "many"


def test_gender_by_group():
    scores, genders = [0.1, 0.9, 0.9, 0.5], ["female", "male", "female", "male"]
    assert gender_group_metrics(scores, genders, ["0-9", "0-9", "80+", ""]) == {
        "0-9": {"accuracy": 1.0, "n": 2},
        "80+": {"accuracy": 0.0, "n": 1},
    }


# one against another


def test_the_same_ages_do_not_differ():
    true, predicted = draw_ages(40)
    figures = compare_errors(predicted, predicted, true)
    assert (figures["difference"], figures["difference_interval"], figures["p_value"]) == (0, [0, 0], 1)
    assert (figures["nearer_a"], figures["nearer_b"]) == (0, 0)


def test_comparison_by_hand():
    figures = compare_errors([11, 22, 30, 44], [12, 21, 30, 40], [10, 20, 30, 40])
    # errors 1, 2, 0, 4 and 2, 1, 0, 0
    assert (figures["mae_a"], figures["mae_b"], figures["difference"], figures["n"]) == (1.75, 0.75, 1.0, 4)
    assert (figures["nearer_a"], figures["nearer_b"]) == (0.25, 0.5)


def test_a_clear_difference_is_significant_and_none_is_not():
    true, better = draw_ages(200)
    _, worse = draw_ages(200, spread=14)
    figures = compare_errors(better, worse, true)
    low, high = figures["difference_interval"]
    assert low < figures["difference"] < high < 0
    assert figures["p_value"] == pytest.approx(1 / (SHUFFLES + 1))
    assert figures["nearer_a"] > figures["nearer_b"]
    alike = compare_errors(better, true + np.random.default_rng(7).permutation(better - true), true)
    assert alike["p_value"] > 0.2 and alike["difference"] == pytest.approx(0)


def test_comparison_the_other_way_round():
    true, a = draw_ages(60)
    b = draw_ages(60, spread=9)[1]
    there, back = compare_errors(a, b, true), compare_errors(b, a, true)
    assert back["difference"] == pytest.approx(-there["difference"])
    assert back["difference_interval"] == pytest.approx([-v for v in there["difference_interval"][::-1]])
    assert back["p_value"] == there["p_value"]


def test_p_value_is_about_that_of_all_signs():
    differences = np.array([1.0, 2.0, -0.5, 3.0, 0.25, 1.5, -1.0, 2.5])
    sums = np.array(list(itertools.product((1, -1), repeat=8))) @ differences
    exact = (np.abs(sums) >= abs(differences.sum())).mean()
    # errors of the first less those of the second are the differences
    figures = compare_errors(10 + differences, np.full(8, 10.0), np.zeros(8))
    assert figures["p_value"] == pytest.approx(exact, abs=0.01)


# gender


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


def test_where_there_is_one_gender_only():
    assert gender_metrics([0.9, 0.2], ["male"] * 2) == {"accuracy": 0.5, "balanced_accuracy": 0.5, "n": 2}


@pytest.mark.parametrize(("scores", "genders"), [([0.1], ["male"] * 2), ([0.1, 0.2], ["male"])], ids=str)
def test_as_many_genders_as_scores(scores, genders):
    with pytest.raises(ValueError, match="genders"):
        gender_metrics(scores, genders)


def test_ranges_by_hand():
    ranges = [(20, 30), (20, 30), (20, 30), (70, math.inf), (0, 3)]
    # distances: 0, 1.5, 2, 0, 0; at 30 someone is no longer 29
    metrics = range_metrics([29.9, 18.5, 32, 99, 0], ranges)
    assert metrics["distance"] == pytest.approx(0.7)
    assert metrics["within"] == pytest.approx(0.6)
    assert metrics["n"] == 5
    low, high = metrics["distance_interval"]
    assert 0 <= low <= 0.7 <= high <= 2
    assert range_metrics([30], [(20, 30)])["within"] == 0


def test_ranges_by_group():
    groups = range_group_metrics([25, 10, 80], [(20, 30), (20, 30), (70, math.inf)], ["a", "a", None])
    assert groups == {"a": {"distance": 5, "within": 0.5, "n": 2}}
    many = {"near": {"distance": 1, "n": SMALLEST_GROUP}, "far": {"distance": 2, "n": SMALLEST_GROUP}}
    assert worst_group(many) == "far"


def test_names_of_ranges():
    assert [name_range(0, 3), name_range(20, 30), name_range(70, math.inf)] == ["0-2", "20-29", "70+"]


@pytest.mark.parametrize("ranges", [[], [(20, 30), (20, 30)]])
def test_as_many_ranges_as_ages(ranges):
    with pytest.raises(ValueError):
        range_metrics([25], ranges)
