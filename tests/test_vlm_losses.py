"""The mask losses against their formulas, written out pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from affordagent.finetune.vlm.config import PUBLISHED
from affordagent.finetune.vlm.losses import bce_losses, dice_losses, training_losses
from affordagent.finetune.vlm.network import VlmOutput


def by_hand(logits: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """(BCE, dice) of one mask, in plain Python."""
    bce, shared, sizes = 0.0, 0.0, 0.0
    for x, t in zip(logits.ravel().tolist(), target.ravel().tolist(), strict=True):
        p = 1 / (1 + math.exp(-x))
        bce -= t * math.log(p) + (1 - t) * math.log(1 - p)
        shared += 2 * p / 1000 * t
        sizes += p / 1000 + t / 1000
    return bce / logits.size, 1 - (shared + 1e-6) / (sizes + 1e-6)


def drawn(seed: int, n: int, h: int, w: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 2, (n, h, w))), torch.from_numpy(rng.random((n, h, w)) < 0.3)


def test_each_mask_equals_the_formula():
    logits, masks = drawn(0, 3, 7, 5)
    masks[2] = False
    expected = [by_hand(x.numpy(), t.numpy()) for x, t in zip(logits, masks, strict=True)]
    assert bce_losses(logits, masks.double()).tolist() == pytest.approx([bce for bce, _ in expected], rel=1e-12)
    assert dice_losses(logits, masks.double()).tolist() == pytest.approx([dice for _, dice in expected], rel=1e-9)


def test_total_weighs_and_averages_over_all_masks_of_the_batch():
    pairs = [drawn(1, 2, 6, 4), drawn(2, 0, 6, 4), drawn(3, 1, 3, 9)]  # pictures of two sizes, one without a mask
    output = VlmOutput(torch.zeros(()), torch.tensor(1.7), [logits.float() for logits, _ in pairs])
    losses = training_losses(output, [masks for _, masks in pairs], PUBLISHED)
    every = [by_hand(x.numpy(), t.numpy()) for logits, masks in pairs for x, t in zip(logits, masks, strict=True)]
    bce, dice = (sum(values) / 3 for values in zip(*every, strict=True))
    assert losses.bce.item() == pytest.approx(2 * bce, rel=1e-5)
    assert losses.dice.item() == pytest.approx(0.5 * dice, rel=1e-5)
    assert losses.total.item() == pytest.approx(1.7 + 2 * bce + 0.5 * dice, rel=1e-5)


def test_a_batch_of_words_alone_costs_its_words():
    empty = torch.zeros(0, 4, 4)
    losses = training_losses(VlmOutput(empty, torch.tensor(0.9), [empty]), [empty.bool()], PUBLISHED)
    assert losses.total.item() == pytest.approx(0.9)


def test_masks_that_do_not_fit_are_refused():
    output = VlmOutput(torch.zeros(()), torch.tensor(1.0), [torch.zeros(2, 4, 4)])
    with pytest.raises(ValueError, match=r"masks \(1, 4, 4\) for predictions \(2, 4, 4\)"):
        training_losses(output, [torch.zeros(1, 4, 4)], PUBLISHED)
