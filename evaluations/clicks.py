"""How many clicks give the mask of a part? A simulated person clicks on true masks of simulated scenes.

    python -m affordagent.evaluations.clicks --seeds 4000:4010 --out clicks.jsonl

In each scene every part that can be seen is marked, from nothing, from the whole thing and from all of it but the part.
Each click is at the innermost point of the largest region that is wrong. Odd seeds have the sensor's noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from affordagent.agent.results import versions
from affordagent.agent.web.masks import Click, edited
from affordagent.core.jsonl import append_line
from affordagent.core.overlap import overlap
from affordagent.core.types import Mask, RgbdFrame, TableScene
from affordagent.evaluations.statistics import bootstrap_mean, rate
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.scene import sample_scene
from affordagent.robot.sim.view import TrueObject
from affordagent.tools.table import find_objects

SCENES = ("bench", "kitchen", "serving")
STARTS = ("nothing", "whole", "rest")
MIN_TARGET_PX = 120  # of the part
CLICKS = 5
GOOD_IOU = 0.75
DONE_IOU = 0.95  # a person leaves such a mask as it is


def next_click(mask: Mask, truth: Mask) -> Click:
    """At the innermost point of the largest region where the mask is wrong; it must be so somewhere."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats((mask != truth).astype(np.uint8))
    largest = pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    inside_px = cv2.distanceTransform(np.pad(largest, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(inside_px.argmax()), inside_px.shape)
    return Click(int(x), int(y), bool(truth[y, x]))


def ious_of(frame: RgbdFrame, table: TableScene, mask: Mask, truth: Mask, clicks: int = CLICKS) -> list[float]:
    """IoU with the truth before the first click and after each."""
    ious = [overlap(mask, truth).iou]
    made: list[Click] = []
    for _ in range(clicks):
        if ious[-1] < DONE_IOU:
            click = next_click(mask, truth)
            mask = edited(frame, mask, click, table=table, earlier=made)
            made.append(click)
        ious.append(overlap(mask, truth).iou)
    return ious


def trials_of(scene: str, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each part and start in a scene."""
    noise = seed % 2 == 1
    with SimCell(sample_scene(scene, seed), noise=noise, seed=seed) as cell:
        frame, truth = cell.look(), cell.truth()
    table = find_objects(frame)
    for thing in truth:
        if thing.part_mask.sum() < MIN_TARGET_PX:
            continue
        whole = _seen_as(thing, table)
        for start in STARTS:
            mask = {"nothing": np.zeros_like(whole), "whole": whole, "rest": whole & ~thing.part_mask}[start]
            ious = ious_of(frame, table, mask, thing.part_mask)
            facts = {"scene": scene, "seed": seed, "noise": noise, "thing": thing.name, "part": thing.part}
            yield {**facts, "start": start, "iou": [round(iou, 4) for iou in ious]}


def _seen_as(thing: TrueObject, table: TableScene) -> Mask:
    """The thing's outline as depth shows it, or the true one where it is lost in another's."""
    shown = [p.mask for p in table.proposals if overlap(p.mask, thing.mask).iou >= 0.5]
    return shown[0] if shown else thing.mask


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By start: median and mean IoU (bootstrap interval) after each click, and how many are good (Wilson interval)."""
    found: dict[str, Any] = {}
    for start in STARTS:
        ious = np.array([row["iou"] for row in rows if row["start"] == start])
        found[start] = [
            {
                "clicks": clicks,
                "median": round(float(np.median(column)), 3),
                "mean": [round(value, 3) for value in bootstrap_mean(column)],
                "good": rate(int((column >= GOOD_IOU).sum()), len(column)),
            }
            for clicks, column in enumerate(ious.T)
        ]
    return found


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:10", help="FIRST:END of the scenes' seeds (default 0:10)")
    parser.add_argument("--scenes", nargs="+", default=SCENES)
    parser.add_argument("--out", type=Path, required=True, help="file of the trials, a line each; new")
    args = parser.parse_args(arguments)
    if args.out.exists():
        parser.error(f"{args.out} is there already: name a new file")
    first, end = (int(value) for value in args.seeds.split(":"))
    append_line(args.out, {"seeds": args.seeds, "scenes": list(args.scenes), "clicks": CLICKS, "versions": versions()})
    rows = []
    for scene in args.scenes:
        for seed in range(first, end):
            for row in trials_of(scene, seed):
                append_line(args.out, row)
                rows.append(row)
    print(json.dumps(summary(rows), indent=1))


if __name__ == "__main__":
    main()
