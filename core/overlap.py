"""Intersection over union of two masks as LISA's validation counts it (github dvlab-research/LISA, train_ds.py)."""

from __future__ import annotations

from dataclasses import dataclass

from affordagent.core.types import Mask

IOU_EPSILON = 1e-5


@dataclass(frozen=True)
class Overlap:
    """Foreground pixels that two masks share, and that either has."""

    intersection: int
    union: int

    @property
    def iou(self) -> float:
        """Intersection / (union + 1e-5); 1 when both masks are empty."""
        return 1.0 if self.union == 0 else self.intersection / (self.union + IOU_EPSILON)


def overlap(predicted: Mask, truth: Mask, ignored: Mask | None = None) -> Overlap:
    """All (H, W) bool of one size; `ignored` pixels count neither way.

    Raises:
        ValueError: sizes that differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"the prediction is {predicted.shape}, the truth {truth.shape}: compare at the picture's size")
    if ignored is not None:
        predicted, truth = predicted & ~ignored, truth & ~ignored
    return Overlap(int((predicted & truth).sum()), int((predicted | truth).sum()))
