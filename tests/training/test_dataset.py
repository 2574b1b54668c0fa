"""Chips, their weights and batches."""

import math
from itertools import chain

import pytest
import torch

from ssrnet_hub.training import dataset
from ssrnet_hub.training.augment import make_augment
from ssrnet_hub.training.dataset import Chips, LabeledSet, ShardedBatches, balanced_weights
from ssrnet_hub.training.labels import read_labels

from .runs import grey, write_labels


def test_weights_are_1_on_average():
    targets = torch.randint(1, 90, (500,), generator=torch.Generator().manual_seed(0)).float()
    for balance in (0.3, 1.0):
        assert balanced_weights(targets, balance).mean() == pytest.approx(1)
    assert balanced_weights(targets, 0.0).tolist() == [1.0] * 500


def test_rare_ages_weigh_more():
    # too far apart for one to be near the other
    targets = torch.tensor([20.0] * 50 + [80.0])
    weights = balanced_weights(targets, 1.0)
    assert weights[:50].sum() == pytest.approx(weights[50])
    half = balanced_weights(targets, 0.5)
    assert half[50] / half[0] == pytest.approx(50**0.5)


def test_ages_as_frequent_as_each_other_weigh_the_same():
    weights = balanced_weights(torch.arange(1.0, 101.0).repeat(3), 1.0)
    torch.testing.assert_close(weights, torch.ones(300))


def test_neighbours_share_their_weight():
    # once each, but one of them amid others
    targets = torch.tensor([*[20.0] * 50, 21.0, 80.0])
    weights = balanced_weights(targets, 1.0)
    assert weights[0].item() == pytest.approx(weights[50].item(), rel=0.1)
    assert weights[51] > 10 * weights[50]


def test_weights_are_in_the_order_of_their_ages():
    targets = torch.tensor([3.0, 70.0, 5.0, 3.0, 30.0, 3.0])
    weights = balanced_weights(targets, 0.7)
    order = torch.tensor([5, 1, 4, 0, 2, 3])
    torch.testing.assert_close(balanced_weights(targets[order], 0.7), weights[order])
    assert weights[0] == weights[3] == weights[5] < weights[1]


def chips_of(path, split=None, **kwargs):
    return Chips([LabeledSet("all", read_labels(path, split, ranges=True))], "age", 128, **kwargs)


@pytest.fixture(params=["in memory", "in files"])
def greys(request, tmp_path, monkeypatch):
    """Chips of six greys."""
    if request.param == "in files":
        monkeypatch.setattr(dataset, "IN_MEMORY", 6 * 3 * 128**2 - 1)
    path = write_labels(tmp_path / "chips", [(grey(10 * i, 64), i, "train") for i in range(6)])
    return chips_of(path, balance=0.5)


def test_chips_are_as_asked_for(greys):
    assert len(greys) == 6
    indices, pictures, targets, weights = greys.__getitems__([[4], [1, 0]])
    assert indices.tolist() == [4, 1, 0]
    assert pictures.shape == (3, 3, 128, 128) and pictures.dtype == torch.uint8
    assert pictures.amin((1, 2, 3)).tolist() == pictures.amax((1, 2, 3)).tolist() == [40, 10, 0]
    assert targets.tolist() == [[4, 4], [1, 1], [0, 0]]
    assert weights.tolist() == greys.weights[[4, 1, 0]].tolist()


def test_each_group_is_augmented(labels):
    groups = []

    def augment(chips):
        groups.append(len(chips))
        return 255 - chips

    chips = chips_of(labels, "train", augment=augment)
    _, pictures, targets, _ = chips.__getitems__([list(range(8)), list(range(8, 20))])
    assert torch.equal(pictures, 255 - chips.chips(range(20)))
    assert targets[:, 0].tolist() == list(range(1, 21))
    assert groups == [8, 12]


def test_a_copy_is_worn_the_same_way_whenever_it_is_asked_for(labels):
    chips = chips_of(labels, "train", augment=make_augment())
    groups = [[0, 1, 2], [3, 4]]

    def pictures(copy, groups=groups):
        chips.copy = copy
        return chips.__getitems__(groups)[1]

    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = pictures(0)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(pictures(1), first)
    torch.rand(10)
    assert torch.equal(pictures(0), first)
    assert torch.equal(pictures(0, groups[::-1]), torch.cat([first[3:], first[:3]]))
    assert not torch.equal(pictures(None), pictures(None))


def test_several_sets_of_exact_ages_and_ranges(tmp_path):
    exact = write_labels(tmp_path / "exact", [(grey(1), 20, "train"), (grey(2), 30, "train")])
    ranges = tmp_path / "ranges"
    ranges.mkdir()
    for number in range(2):
        grey(100 + number).save(ranges / f"{number}.png")
    (ranges / "labels.csv").write_text("file,age_min,age_max,split\n0.png,70,,train\n1.png,3,9,train\n")
    sets = [
        LabeledSet("exact", read_labels(exact)),
        LabeledSet("ranges", read_labels(ranges / "labels.csv", ranges=True), weight=0.5),
    ]
    chips = Chips(sets, "age", 128)
    assert chips.targets.tolist() == [[20, 20], [30, 30], [70, math.inf], [3, 10]]
    torch.testing.assert_close(chips.weights, torch.tensor([4, 4, 2, 2]) / 3)
    assert chips.chips([0, 3]).amax((1, 2, 3)).tolist() == [1, 101]
    # what is known by a range counts where its middle is
    balanced = Chips(sets, "age", 128, balance=1.0).weights
    assert balanced[0] / balanced[2] == pytest.approx(
        (balanced_weights(torch.tensor([20.0, 30.0, 75.0, 6.5]), 1.0)[[0, 2]] * torch.tensor([1, 0.5])).tolist()[0]
        / (balanced_weights(torch.tensor([20.0, 30.0, 75.0, 6.5]), 1.0)[2].item() * 0.5)
    )


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize(("count", "batch_size"), [(103, 10), (20, 10), (64, 64), (7, 10), (5, 2)])
def test_every_chip_is_seen_once_an_epoch(count, batch_size, world):
    shares = [ShardedBatches(count, batch_size, rank, world) for rank in range(world)]
    whole = ShardedBatches(count, batch_size)
    orders = []
    for epoch in (1, 2, 3):
        for share in (*shares, whole):
            share.epoch = epoch
        of_ranks = [list(share) for share in shares]
        assert {len(batches) for batches in of_ranks} == {len(whole)} == {len(share) for share in shares}
        order = [i for batch in whole for group in batch for i in group]
        assert sorted(order) == list(range(count))
        # the ranks part one order between them
        steps = [list(chain(*parts)) for parts in zip(*of_ranks, strict=True)]
        assert [list(chain(*step)) for step in steps] == [list(chain(*batch)) for batch in whole]
        for sizes in ([count_chips(step) for step in steps], [count_chips(b) for batches in of_ranks for b in batches]):
            assert max(sizes) - min(sizes) <= 1
        assert all(len(group) <= 8 for step in steps for group in step)
        assert list(shares[0]) == of_ranks[0]  # asked again
        orders.append(order)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def count_chips(batch):
    return sum(map(len, batch))


def test_batches_are_no_smaller_than_asked_for():
    assert [count_chips(batch) for batch in ShardedBatches(103, 10)] == [11, 11, 11, *[10] * 7]


@pytest.mark.parametrize("world", [1, 2])
def test_groups_stay_together(world):
    shares = [ShardedBatches(103, 32, rank, world, same_groups=True) for rank in range(world)]
    orders = []
    for epoch in (1, 2):
        for share in shares:
            share.epoch = epoch
        orders.append([tuple(group) for share in shares for batch in share for group in batch])
    assert sorted(i for group in orders[0] for i in group) == list(range(103))
    assert set(orders[0]) == set(orders[1]) and orders[0] != orders[1]
    # they are no neighbors in the labels file
    assert all(sorted(group) != list(range(min(group), min(group) + len(group))) for group in orders[0])
