"""The mask losses of the published training, as LISA defines them (github dvlab-research/LISA, model/LISA.py)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from affordagent.finetune.vlm.config import TrainConfig
from affordagent.finetune.vlm.network import VlmOutput

DICE_SCALE = 1000.0
DICE_EPSILON = 1e-6
COUNT_EPSILON = 1e-8


@dataclass(frozen=True)
class Losses:
    """Scalars, already weighted; `total` is their sum. bce and dice are 0 where the batch has no mask."""

    ce: Tensor
    bce: Tensor
    dice: Tensor

    @property
    def total(self) -> Tensor:
        return self.ce + self.bce + self.dice


def dice_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(n,) of logits and targets (n, H, W): 1 - 2 |P T| / (|P| + |T|), the sums divided by 1000, each side + 1e-6."""
    predicted, targets = logits.sigmoid().flatten(1), targets.flatten(1)
    numerator = 2 * (predicted / DICE_SCALE * targets).sum(1)
    denominator = (predicted / DICE_SCALE).sum(1) + (targets / DICE_SCALE).sum(1)
    return 1 - (numerator + DICE_EPSILON) / (denominator + DICE_EPSILON)


def bce_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """(n,) of logits and targets (n, H, W): binary cross entropy, the mean over the pixels."""
    return functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").flatten(1).mean(1)


def training_losses(output: VlmOutput, masks: list[Tensor], config: TrainConfig) -> Losses:
    """Of a forward pass with labels. masks: for each conversation (n, H, W) bool, as many as it has [AFF] and [SEG].

    CE is the mean over the labelled tokens; BCE and dice are means over all masks of the batch.

    Raises:
        ValueError: another number or size of masks than the network made, or an output without CE.
    """
    if output.ce_loss is None:
        raise ValueError("no CE loss: give the network labels")
    bce = dice = output.ce_loss.new_zeros((), dtype=torch.float32)
    count = 0
    for logits, targets in zip(output.mask_logits, masks, strict=True):
        if logits.shape != targets.shape:
            raise ValueError(f"masks {tuple(targets.shape)} for predictions {tuple(logits.shape)}")
        bce = bce + bce_losses(logits, targets.float()).sum()
        dice = dice + dice_losses(logits, targets.float()).sum()
        count += len(targets)
    return Losses(
        config.ce_weight * output.ce_loss,
        config.bce_weight * bce / (count + COUNT_EPSILON),
        config.dice_weight * dice / (count + COUNT_EPSILON),
    )
