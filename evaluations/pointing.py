"""What pointing without SAM 2 can give at best: masks by depth and shape from the truth's own boxes and points.

    python -m affordagent.evaluations.pointing --scenes mixed novel --seeds 0-5

The vision model is left out: `outline_by_depth` is told where thing and part really are, as boxes and points, as boxes
whose sides are off by a tenth of their length (normally distributed), and as points alone. A point is the pixel
farthest from the mask's rim. Rendered with depth noise; IoU with the visible pixels of the truth.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Literal, get_args

import cv2
import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.types import FunctionalQuery, Mask, RgbdFrame, TableScene, box_of
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.scene import sample_scene
from affordagent.robot.sim.view import TrueObject
from affordagent.tools.detection import Box, Point
from affordagent.tools.segmenter import Prompt
from affordagent.tools.table import find_objects
from affordagent.tools.vlm_pointing import outline_by_depth

Told = Literal["box and point", "box 10 % off and point", "point"]
OFF = 0.1
LEAST_PX = 30  # of a part that counts as visible


def prompts_of(thing: TrueObject, told: Told, rng: np.random.Generator) -> list[Prompt]:
    """Of the thing and its part."""
    masks = (thing.mask, thing.part_mask)
    if told == "point":
        return [Prompt(None, _middle(mask)) for mask in masks]
    return [Prompt(_box(mask, 0.0 if told == "box and point" else OFF, rng), _middle(mask)) for mask in masks]


def _middle(mask: Mask) -> Point:
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return float(x) - 0.5, float(y) - 0.5


def _box(mask: Mask, off: float, rng: np.random.Generator) -> Box:
    box = np.array(box_of(mask), float)
    height, width = mask.shape
    sides = np.tile(box[2:] - box[:2], 2)
    x0, y0, x1, y1 = (box + off * sides * rng.normal(size=4)).clip(0, [width, height, width, height])
    return float(min(x0, x1 - 2)), float(min(y0, y1 - 2)), float(x1), float(y1)


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def looks(scenes: list[str], seeds: range) -> Iterator[tuple[RgbdFrame, TableScene, TrueObject]]:
    """Every thing whose part can be seen."""
    for scene in scenes:
        for seed in seeds:
            with SimCell(sample_scene(scene, seed), noise=True, seed=seed) as cell:
                frame = cell.look()
                table = find_objects(frame)
                for thing in cell.truth():
                    if thing.part_mask.sum() >= LEAST_PX:
                        yield frame, table, thing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scenes", nargs="+", default=["mixed", "novel"])
    parser.add_argument("--seeds", default="0-5", metavar="FIRST-LAST")
    args = parser.parse_args()
    first, _, last = args.seeds.partition("-")
    seen = list(looks(args.scenes, range(int(first), int(last or first) + 1)))
    for told in get_args(Told):
        rng = np.random.default_rng(0)
        whole, part, whence = [], [], Counter[str]()
        for frame, table, thing in seen:
            query = FunctionalQuery(text=thing.category, intent="pick", category=thing.category, part=thing.part)
            try:
                masks, _, how = outline_by_depth(frame, table, query, prompts_of(thing, told, rng))
            except StageFailure as failure:
                masks, how = np.zeros((2, *thing.mask.shape), bool), ["", failure.code]
            whole.append(iou(masks[0], thing.mask))
            part.append(iou(masks[1], thing.part_mask))
            whence[how[1]] += 1
        named = ", ".join(f"{name} {count}" for name, count in whence.most_common())
        print(
            f"{told:24s} {len(seen)} things, IoU of the thing {np.mean(whole):.3f}, part {np.mean(part):.3f} ({named})"
        )


if __name__ == "__main__":
    main()
