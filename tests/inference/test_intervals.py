"""Intervals that hold what they promise, and what is told of them."""

import numpy as np
import pytest

from ssrnet_hub.errors import CalibrationError, ConfigError
from ssrnet_hub.inference.intervals import Intervals, fit_intervals, measure_coverage, measure_resplits


def faces(count, seed=0):
    """Predicted and true ages of a network whose error grows with age."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(0, 90, count)
    return (true + rng.normal(size=count) * (1 + true / 8)).clip(0, 101), true


def half_width(intervals, age, level=0.9, description=None):
    low, high = intervals.bounds(age, level, description)
    assert low <= age <= high
    return (high - low) / 2


@pytest.fixture(scope="module")
def intervals():
    return fit_intervals(*faces(1500))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
def test_new_faces_lie_in_their_intervals(intervals, level):
    inside, _ = measure_coverage(*faces(4000, seed=1), intervals, level, 101)
    assert level - 0.02 < inside.mean() < level + 0.06


def test_coverage_over_resplits():
    figures = measure_resplits(*faces(2500), 1500, [0.9], 101, times=20)[0.9]
    assert 0.9 < figures["coverage"] < 0.93
    assert 0 < figures["spread"] < 0.03 and figures["width"] > 0


def test_most_calibrations_reach_the_level(monkeypatch):
    def share():
        reached = []
        for seed in range(40):
            inside, _ = measure_coverage(*faces(2000, 1000 + seed), fit_intervals(*faces(400, seed)), 0.9, 101)
            reached.append(inside.mean() >= 0.9)
        return np.mean(reached)

    with_margin = share()
    assert with_margin > 0.6
    monkeypatch.setattr("ssrnet_hub.inference.intervals._MARGIN", 0.0)
    assert share() < with_margin - 0.05


def test_intervals_are_wider_where_errors_are_larger(intervals):
    young, old = half_width(intervals, 5), half_width(intervals, 70)
    assert old > 3 * young
    # about what a normal error of that size has
    assert old == pytest.approx(1.645 * (1 + 70 / 8), rel=0.25)


def test_higher_levels_are_wider(intervals):
    widths = [half_width(intervals, 30, level) for level in (0.1, 0.5, 0.8, 0.9, 0.95, 0.99)]
    assert widths == sorted(widths) and widths[0] < widths[-1]


@pytest.mark.parametrize("age", [5, 30, 60, 85])
def test_a_band_with_too_few_faces_for_a_level_has_no_narrower_interval(age):
    predicted, true = faces(1500)
    # those of over 50 are harder than the others
    harder = np.where(predicted > 50, 3, 1)
    intervals = fit_intervals((true + (predicted - true) * harder).clip(0, 101), true)
    widths = [half_width(intervals, age, level) for level in np.linspace(0.9, 0.9993, 400)]
    assert widths == sorted(widths)


@pytest.mark.parametrize("level", [0, 1, -0.1, 1.5, float("nan")])
def test_levels_are_between_0_and_1(intervals, level):
    with pytest.raises(ValueError, match="between 0 and 1"):
        intervals.bounds(30, level)


def test_levels_that_so_few_faces_cannot_tell():
    few = fit_intervals(*faces(100))
    assert half_width(few, 30, 0.99) > 0
    with pytest.raises(ValueError, match=r"up to 0\.9901"):
        few.bounds(30, 0.995)


def test_intervals_hold_within_bands():
    # of faces of 30 to 39 errors are as large as usual, but for a few that are ten times that
    rng = np.random.default_rng(3)

    def draw(count):
        true = rng.uniform(0, 90, count)
        outliers = (true >= 30) & (true < 40) & (rng.uniform(size=count) < 0.15)
        return true + rng.normal(size=count) * np.where(outliers, 20, 2), true

    intervals = fit_intervals(*draw(3000))
    predicted, true = draw(20_000)
    inside, _ = measure_coverage(predicted, true, intervals, 0.9, 200)
    for low in range(0, 90, 10):
        assert inside[(predicted >= low) & (predicted < low + 10)].mean() == pytest.approx(0.9, abs=0.06)
    assert len(intervals.bands) == 9 and all(scores.n >= 100 for _, scores in intervals.bands)


def mixed(count, seed=0, older=8):
    """Faces of 18 to 60, and a few of 10 to 16 that look older than they are."""
    rng = np.random.default_rng(seed)
    true = np.where(rng.uniform(size=count) < 0.05, rng.uniform(10, 16, count), rng.uniform(18, 60, count))
    return true + rng.normal(size=count) * 2 + np.where(true < 16, older, 0), true


def test_coverage_is_more_even_across_true_ages(monkeypatch):
    predicted, true = mixed(20_000, 1, older=3)
    young = true < 16
    even = fit_intervals(*mixed(4000, older=3))
    inside, _ = measure_coverage(predicted, true, even, 0.9, 200)
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    # somebody who looks 23 is often younger, and hardly ever older
    low, high = even.bounds(23, 0.9)
    assert 23 - low > 1.15 * (high - 23)
    monkeypatch.setattr("ssrnet_hub.inference.intervals._ROUNDS", 0)
    without, _ = measure_coverage(predicted, true, fit_intervals(*mixed(4000, older=3)), 0.9, 200)
    assert without[young].mean() < inside[young].mean() - 0.03


def test_minors_are_covered_more_often(monkeypatch):
    predicted, true = mixed(20_000, 1, older=3)
    minor = true < 18

    def shares():
        inside, _ = measure_coverage(predicted, true, fit_intervals(*mixed(4000, older=3)), 0.9, 200)
        return inside[minor].mean(), inside.mean()

    ours, of_all = shares()
    monkeypatch.setattr("ssrnet_hub.inference.intervals._LEVEL_OF_MINORS", 0.9)
    assert ours > shares()[0] + 0.01
    assert of_all == pytest.approx(0.9, abs=0.02)


def test_the_factor_of_the_true_age_is_smooth():
    intervals = fit_intervals(*mixed(4000))
    slopes = np.diff(intervals.factors) / np.diff(intervals.true_knots)
    assert max(intervals.factors) > 1.5 * min(intervals.factors)
    assert np.abs(slopes).max() <= 0.03 + 1e-3


@pytest.mark.parametrize("factors", [[1.0, 3.0, 0.5, 1.0], [3.0, 1.0, 1.0, 0.5], [1.0, 1.0, 1.0, 8.0]], ids=str)
def test_bounds_are_the_farthest_true_ages(intervals, factors):
    knots = [0.0, 20.0, 40.0, 60.0]
    uneven = Intervals.from_dict({**intervals.to_dict(), "true_knots": knots, "factors": factors})
    ages = np.linspace(-500, 700, 120_001)
    for age in (0.0, 10.0, 20.0, 33.0, 60.0, 90.0):
        error = half_width(Intervals.from_dict({**uneven.to_dict(), "true_knots": [], "factors": []}), age)
        inside = ages[np.abs(ages - age) <= error * np.interp(ages, knots, factors)]
        assert uneven.bounds(age, 0.9) == pytest.approx((inside.min(), inside.max()), abs=0.011)


@pytest.mark.parametrize("youngest, reaches", [(0, False), (1, True), (16, False)])
def test_labels_that_have_no_0(youngest, reaches):
    # like UTKFace, whose youngest label is 1
    predicted, true = faces(1500)
    intervals = fit_intervals(predicted, true.clip(youngest).round())
    same = Intervals.from_dict({**intervals.to_dict(), "youngest": 0.0})
    ages = np.linspace(0, 60, 601)
    lows, plain = (np.array([each.bounds(age, 0.9)[0] for age in ages]) for each in (intervals, same))
    moved = (plain > 0) & (plain <= youngest) if reaches else np.zeros(len(ages), bool)
    assert moved.any() == reaches and not lows[moved].any()
    assert (lows[~moved] == plain[~moved]).all()
    assert Intervals.from_dict(intervals.to_dict()) == intervals


def pictures(count, seed=0):
    """Faces of which the first number of the description says how poor the picture is, and copies that are poorer."""
    rng = np.random.default_rng(seed)
    true, poor = rng.uniform(0, 90, count), rng.uniform(0, 1, (2, count))
    poor[1] += 1
    x = np.stack([poor, rng.normal(size=poor.shape)], -1)
    return true + rng.normal(size=poor.shape) * 2 * np.exp(poor), true, x


def test_intervals_know_the_picture():
    ages, true, x = pictures(1500)
    intervals = fit_intervals(ages, true, x)
    poor, good = (half_width(intervals, 40, 0.9, np.array([value, 0])) for value in (2.0, 0.0))
    assert poor > 4 * good
    again, true, x = pictures(8000, seed=1)
    for k in range(2):
        inside, _ = measure_coverage(again[k], true, intervals, 0.9, 200, x[k])
        assert inside.mean() == pytest.approx(0.9, abs=0.03)
    assert Intervals.from_dict(intervals.to_dict()) == intervals
    with pytest.raises(ConfigError, match="2 features, not 3"):
        intervals.bounds(40, 0.9, np.zeros(3))


def test_a_picture_changes_an_error_only_so_much():
    intervals = fit_intervals(*pictures(400))
    usual = intervals.expect(40)
    assert intervals.expect(40, np.array([1e6, 0])) == pytest.approx(6 * usual)
    assert intervals.expect(40, np.array([-1e6, 0])) == pytest.approx(usual / 6)


def test_calibrations_of_earlier_versions_are_read(intervals):
    config = {key: intervals.to_dict()[key] for key in ("knots", "scale", "scores", "n")}
    old = Intervals.from_dict(config)
    assert old.bands == old.weights == old.factors == ()
    places = np.arange(1, 201) / 200
    quantile = np.interp(np.ceil(1501 * 0.9) / 1500, places, config["scores"])
    half = quantile * np.interp(30, config["knots"], config["scale"])
    assert old.bounds(30, 0.9) == pytest.approx((30 - half, 30 + half))


def test_few_faces_are_refused():
    with pytest.raises(CalibrationError, match="99"):
        fit_intervals(*faces(99))


def test_ages_that_no_face_had_get_an_interval_too(intervals):
    young = fit_intervals(*(part[:400].clip(0, 20) for part in faces(1500)))
    assert all(np.isfinite(half_width(young, age)) and half_width(young, age) > 0 for age in (0, 50, 101))


def test_there_and_back(intervals):
    again = Intervals.from_dict(intervals.to_dict())
    assert again == intervals


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0},
        {"n": "many"},
        {"scores": []},
        {"scores": [2.0, 1.0]},
        {"scores": [-1.0, 1.0]},
        {"scores": [1.0, float("inf")]},
        {"scale": [1.0]},
        {"scale": [0.0] * 8},
        {"knots": [5.0] * 8},
        {"knots": None},
        *(
            {"n": n}
            for n in (float("inf"), float("nan"), 10**400, 10**5000, 1, 99, -1, 1e3, True, "1000", [1000], None)
        ),
        {"scores": [0.0, 10**400]},
        {"scores": [0.0, "1"]},
        {"scores": [0.0, True]},
        {"scores": [0.0, [1.0]]},
        {"scores": "12"},
        {"scores": [1.0] * 10_001},
        {"scale": [float("nan")] * 8},
        {"scale": [1e-300] * 8},
        {"knots": [float("-inf"), *range(7)]},
        {"knots": {"0": 1}},
        {"weights": [float("nan")]},
        {"factors": [1.0]},
        {"factors": [0.0] * 11},
        {"true_knots": [5.0] * 11},
        {"offset": "0"},
        {"bands": [{"low": 10.0, "scores": [1.0, 2.0], "n": 100}, {"low": 0.0, "scores": [1.0, 2.0], "n": 100}]},
        {"bands": [{"low": 0.0, "scores": [2.0, 1.0], "n": 100}]},
        {"bands": [{"low": 0.0, "n": 100}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_damaged_config_is_told(intervals, change):
    with pytest.raises(ConfigError, match="intervals"):
        Intervals.from_dict({**intervals.to_dict(), **change})


@pytest.mark.parametrize("config", [None, [], "text", {"knots": [1.0]}], ids=str)
def test_what_is_no_config(config):
    with pytest.raises(ConfigError):
        Intervals.from_dict(config)


@pytest.mark.parametrize("more", [{"digest": "0" * 64}, {"sha256": "0" * 64}])
def test_what_a_later_version_adds_is_passed_over(intervals, more):
    assert Intervals.from_dict({**intervals.to_dict(), **more}) == intervals


def test_intervals_that_are_read_have_an_end(intervals):
    """The least and the most that a config may say."""
    for scale, scores in ((1e-6, [0.0, 0.0]), (1000, [0.0, 1e6])):
        config = {"knots": [-1000, 1000], "scale": [scale] * 2, "scores": scores, "n": 100}
        assert np.isfinite(Intervals.from_dict(config).bounds(50, 0.9)).all()


def test_faces_have_intervals(estimator, astronaut):
    (face,) = estimator(astronaut)
    low, high = face.interval(0.9)
    assert 0 <= low < face.age < high <= 101
    narrow = face.interval(0.5)
    assert low < narrow[0] < narrow[1] < high
    assert face.interval() == face.interval(0.9)
    assert face.to_dict()["interval"] == [low, high]
    with pytest.raises(ValueError):
        face.interval(90)


def test_val_chips_lie_in_their_intervals(estimator, shared):
    from ssrnet_hub.training.labels import read_labels

    labels = read_labels(shared / "data" / "utkface" / "labels.csv", "val")[::2]
    seen = estimator.crops([label.path for label in labels])
    ends = [face.interval(0.9) for face in seen]
    inside = [low <= label.age <= high for (low, high), label in zip(ends, labels, strict=True)]
    # 709 chips: two standard errors are 2.3 points
    assert np.mean(inside) == pytest.approx(0.9, abs=0.03)
