"""gIoU and cIoU as LISA's validation computes them (github dvlab-research/LISA, train_ds.py, Apache-2.0).

Per mask, intersection I and union U of the foreground, pixels with the ignore label left out of both: IoU =
I / (U + 1e-5), and 1 when both masks are empty ("no target"). gIoU is the mean of the IoUs, cIoU = sum I / (sum U +
1e-10). Where the original puts processes together it divides the sum of IoUs by n + 1e-5; this is the plain mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from affordagent.core.overlap import Overlap
from affordagent.evaluations.statistics import bootstrap_mean, bootstrap_ratio

CIOU_EPSILON = 1e-10


def figures(overlaps: Sequence[Overlap], seed: int = 0) -> dict[str, Any]:
    """`giou` and `ciou` of some masks with 95 % bootstrap intervals over masks, and their number `n`."""
    giou, *giou_interval = bootstrap_mean([o.iou for o in overlaps], seed)
    counts = [(o.intersection, o.union + CIOU_EPSILON / len(overlaps)) for o in overlaps]
    ciou, *ciou_interval = bootstrap_ratio(counts, seed)
    return {
        "giou": giou,
        "ciou": ciou,
        "n": len(overlaps),
        "giou_interval": giou_interval,
        "ciou_interval": ciou_interval,
    }
