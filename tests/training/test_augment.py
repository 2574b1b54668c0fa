"""Training augmentations."""

import torch

from ssrnet_hub.training.augment import make_augment


def augment_with(seed, strength, chips):
    torch.manual_seed(seed)
    return make_augment(strength)(chips)


def test_augmentation_keeps_the_form(labels):
    chips = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    given = chips.clone()
    answers = [augment_with(seed, 1.0, chips) for seed in range(60)]
    assert all(answer.shape == chips.shape and answer.dtype == torch.uint8 for answer in answers)
    assert not any(torch.equal(answer, chips) for answer in answers)
    assert torch.equal(chips, given)
    assert torch.equal(augment_with(7, 1.0, chips), answers[7])
    assert not torch.equal(answers[7], answers[8])


def test_augmentation_without_strength_only_mirrors_and_moves():
    colours = torch.tensor([[200, 120, 40], [20, 60, 220]], dtype=torch.uint8)
    # one colour on the left, the other on the right; away from the seam and the borders
    chip = colours.T[None, :, None, :].repeat_interleave(64, 3).repeat(1, 1, 128, 1)
    parts = [(slice(None), slice(None), slice(40, 88), side) for side in (slice(20, 40), slice(88, 108))]

    def sides(strength, seed):
        answer = augment_with(seed, strength, chip)
        return [{tuple(pixel) for pixel in answer[part][0].flatten(1).T.tolist()} for part in parts]

    as_it_was = [{tuple(colour)} for colour in colours.tolist()]
    found = [sides(0.0, seed) for seed in range(40)]
    assert all(there in (as_it_was, as_it_was[::-1]) for there in found)
    assert as_it_was in found and as_it_was[::-1] in found

    changed = [
        sum(sides(strength, seed) not in (as_it_was, as_it_was[::-1]) for seed in range(60)) for strength in (0.3, 1.0)
    ]
    assert 0 < changed[0] < changed[1]
