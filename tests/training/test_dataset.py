"""Chips, their weights and batches."""

from itertools import chain

import pytest
import torch

from ssrnet_hub.training.dataset import Chips, ShardedBatches, balanced_weights
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


def test_chips_are_as_asked_for(tmp_path):
    path = write_labels(tmp_path / "chips", [(grey(10 * i, 64), i, "train") for i in range(6)])
    chips = Chips(read_labels(path), "age", 128, balance=0.5)
    assert len(chips) == 6
    pictures, targets, weights = chips.__getitems__([4, 1])
    assert pictures.shape == (2, 3, 128, 128) and pictures.dtype == torch.uint8
    assert pictures.amin((1, 2, 3)).tolist() == pictures.amax((1, 2, 3)).tolist() == [40, 10]
    assert targets.tolist() == [4, 1]
    assert weights.tolist() == chips.weights[[4, 1]].tolist()


def test_chips_of_more_than_a_group_are_all_augmented(labels):
    chips = Chips(read_labels(labels, "train"), "age", 128, augment=lambda chips: 255 - chips)
    pictures, targets, _ = chips.__getitems__(list(range(20)))
    assert torch.equal(pictures, 255 - chips.chips[:20])
    assert targets.tolist() == list(range(1, 21))


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
        order = [i for batch in whole for i in batch]
        assert sorted(order) == list(range(count))
        # the ranks part one order between them
        steps = [list(chain(*parts)) for parts in zip(*of_ranks, strict=True)]
        assert steps == list(whole)
        for sizes in ([len(step) for step in steps], [len(batch) for batches in of_ranks for batch in batches]):
            assert max(sizes) - min(sizes) <= 1
        assert list(shares[0]) == of_ranks[0]  # asked again
        orders.append(order)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_batches_are_no_smaller_than_asked_for():
    assert [len(batch) for batch in ShardedBatches(103, 10)] == [11, 11, 11, *[10] * 7]
