"""How many of the things in rendered pictures get a proposal of their own: by colour alone, and by depth clusters.

    python -m affordagent.evaluations.proposals --data DIR [--images N] [--out FILE]

A thing counts as found at an IoU when some proposal overlaps it that well (Wilson intervals over things). A proposal
that overlaps no thing with IoU .5 is false: table, a piece of a thing, or several together.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.types import Mask, ObjectProposal, RgbdFrame
from affordagent.evaluations.masks import frame_of, spread
from affordagent.evaluations.statistics import rate
from affordagent.finetune.mini_data import CLUTTER, Row, list_rows, object_mask
from affordagent.tools.rgb_proposals import propose_rgb
from affordagent.tools.table import find_objects

MIN_CLUTTER_PX = 300


def by_color(frame: RgbdFrame) -> list[ObjectProposal]:
    return propose_rgb(frame.color)


def by_depth(frame: RgbdFrame) -> list[ObjectProposal]:
    """Depth clusters, none where no table or nothing on it is found."""
    try:
        return find_objects(frame).proposals
    except StageFailure:
        return []


MAKERS: dict[str, Callable[[RgbdFrame], list[ObjectProposal]]] = {"color": by_color, "depth": by_depth}


def true_masks(row: Row) -> list[Mask]:
    """The visible things of a picture, pieces of clutter among them."""
    labels = row.labels()
    count, pieces, stats, _ = cv2.connectedComponentsWithStats((labels == CLUTTER).astype(np.uint8))
    clutter = [pieces == i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= MIN_CLUTTER_PX]
    return [object_mask(labels, thing["slot"]) for thing in row.visible()] + clutter


def overlaps(truth: list[Mask], proposals: list[Mask]) -> np.ndarray:
    """(T, P) IoU of true masks and proposals."""
    t = np.stack(truth).reshape(len(truth), -1).astype(np.float32)
    p = np.stack(proposals).reshape(len(proposals), -1).astype(np.float32)
    both = t @ p.T
    return both / np.maximum(t.sum(1)[:, None] + p.sum(1)[None] - both, 1)


def evaluate(data: Path, images: int, noise: bool = True, seed: int = 0) -> dict[str, Any]:
    """Recall at IoU .5 and .75, mean best IoU; proposals, false ones and CPU-seconds a picture."""
    best: dict[str, list[float]] = {name: [] for name in MAKERS}
    made, false, cpu_s = (dict.fromkeys(MAKERS, 0.0) for _ in range(3))
    rows = spread(list_rows(data), images)
    by_color(frame_of(rows[0], False, np.random.default_rng(seed)))  # loads the model
    for number, row in enumerate(rows):
        frame, truth = frame_of(row, noise, np.random.default_rng([seed, number])), true_masks(row)
        for name, make in MAKERS.items():
            started = time.process_time()
            proposals = make(frame)
            cpu_s[name] += time.process_time() - started
            iou = overlaps(truth, [p.mask for p in proposals]) if proposals else np.zeros((len(truth), 1))
            best[name] += iou.max(1).tolist()
            made[name] += len(proposals)
            false[name] += float((iou.max(0) < 0.5).sum()) if proposals else 0.0
    return {"data": data.name, "pictures": len(rows), "noise": noise, "seed": seed} | {
        name: {
            "recall_50": rate(sum(v >= 0.5 for v in best[name]), len(best[name])),
            "recall_75": rate(sum(v >= 0.75 for v in best[name]), len(best[name])),
            "mean_best_iou": round(float(np.mean(best[name])), 4),
            "proposals": round(made[name] / len(rows), 2),
            "false": round(false[name] / len(rows), 2),
            "cpu_s": round(cpu_s[name] / len(rows), 3),
        }
        for name in MAKERS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="rendered set")
    parser.add_argument("--images", type=int, default=200, help="so many pictures, spread over the set")
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args()
    result = json.dumps(evaluate(given.data, given.images), indent=1)
    print(result)
    if given.out:
        given.out.write_text(result + "\n")


if __name__ == "__main__":
    main()
