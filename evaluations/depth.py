"""Does lifting refuse what it must, and only that? Depth spoilt on purpose, on scenes whose truth is known.

    python -m affordagent.evaluations.depth [--first-seed N] [--scenes N] [--json FILE]

Every object of a scene is lifted by its true part mask, with its depth spoilt in each of the ways below. A pixel is
sound where its depth is within SOUND_M of the truth, and nearer to it than to the table. Refusing is false where a fair
share of the part is sound; accepting is false where the part's points are not on the part. In between either is right.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import trimesh
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.types import Mask, PartMask, RgbdFrame
from affordagent.evaluations.statistics import rate
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.scene import SCENES, sample_scene
from affordagent.robot.sim.sensor import SensorNoise
from affordagent.tools.depth_projection import lift
from affordagent.tools.table import find_objects

SOUND_M = 0.006
MUST_ACCEPT, MUST_ACCEPT_PX = 0.3, 60  # sound pixels of a part that may not be refused
OFF_PART_M, MOST_OFF = 0.008, 0.1  # a lifted part may have this share of points further than that from the part
SURFACE_POINTS = 6000
Row = dict[str, Any]
Depth = NDArray[np.float32]


@dataclass(frozen=True)
class Thing:
    """An object in a picture without noise. surface: (N, 3) points of the part, base frame. behind_m: (H, W) depth of
    the bare table."""

    frame: RgbdFrame
    mask: Mask
    part_mask: Mask
    surface: Array
    behind_m: Depth
    category: str


def things(scene_name: str, seed: int) -> list[Thing]:
    """All objects of a scene."""
    scene = sample_scene(scene_name, seed)
    with SimCell(scene) as cell:
        frame, truth = cell.look(), cell.truth()
    assert frame.T_base_camera is not None
    behind_m = _table_depth(frame)
    found = []
    for thing in truth:
        visuals = [v.mesh for v in scene.object(thing.name).obj.visuals if v.part == thing.part]
        points, _ = trimesh.sample.sample_surface(trimesh.util.concatenate(visuals), SURFACE_POINTS, seed=0)
        surface = transform_points(thing.T_base_object, points)
        found.append(Thing(frame, thing.mask, thing.part_mask, surface, behind_m, thing.category))
    return found


def _table_depth(frame: RgbdFrame) -> Depth:
    """(H, W) depth of the plane z = 0 of the base."""
    assert frame.T_base_camera is not None
    rays = frame.camera.back_project(np.ones(frame.depth_m.shape))
    T = frame.T_base_camera
    return (-T[2, 3] / (rays @ T[2, :3])).astype(np.float32)


def _patches(mask: Mask, share: float, rng: np.random.Generator, width_px: float = 3.0) -> Mask:
    """About `share` of a mask's pixels, in blobs."""
    field = cv2.GaussianBlur(rng.normal(size=mask.shape), (0, 0), width_px)
    return mask & (field < np.quantile(field[mask], share))


def _half(thing: Thing, rng: np.random.Generator) -> Mask:
    """The object's pixels on one side of a line through the part's middle."""
    v, u = np.nonzero(thing.part_mask)
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[: thing.mask.shape[0], : thing.mask.shape[1]]
    along = (columns - np.median(u)) * np.cos(angle) + (rows - np.median(v)) * np.sin(angle)
    return thing.mask & (along > 0)


Spoil = Callable[[Thing, Depth, np.random.Generator], Depth]


def _holes(share: float, width_px: float = 3.0) -> Spoil:
    def spoil(thing: Thing, depth_m: Depth, rng: np.random.Generator) -> Depth:
        lost = _patches(thing.mask, share, rng, width_px)
        return np.where(lost, np.float32(0), depth_m)

    return spoil


def _glass(thing: Thing, depth_m: Depth, where: Mask) -> Depth:
    """The table is seen through the thing, with the same noise."""
    noise = np.where(depth_m > 0, depth_m - thing.frame.depth_m, 0)
    return np.where(where & (depth_m > 0), thing.behind_m + noise, depth_m).astype(np.float32)


def _between(thing: Thing, depth_m: Depth, rng: np.random.Generator) -> Depth:
    """Readings anywhere between the thing and the table behind it."""
    share = rng.random(depth_m.shape, np.float32)
    mixed = depth_m + share * np.maximum(thing.behind_m - depth_m, 0)
    return np.where(thing.mask & (depth_m > 0), mixed, depth_m).astype(np.float32)


SPOILT: dict[str, Spoil] = {
    "as it is": lambda thing, depth_m, rng: depth_m,
    "holes, 30 %": _holes(0.3),
    "holes, 60 %": _holes(0.6),
    "single pixels lost, 60 %": _holes(0.6, 0.3),
    "holes, 95 %": _holes(0.95),
    "all lost": _holes(1.0),
    "clear as glass": lambda thing, depth_m, rng: _glass(thing, depth_m, thing.mask),
    "half of it glass": lambda thing, depth_m, rng: _glass(thing, depth_m, _half(thing, rng)),
    "glass in patches, 30 %": lambda thing, depth_m, rng: _glass(thing, depth_m, _patches(thing.mask, 0.3, rng)),
    "glass in patches, 90 %": lambda thing, depth_m, rng: _glass(thing, depth_m, _patches(thing.mask, 0.9, rng)),
    "between it and the table": _between,
}


def _exact(mask: Mask) -> Mask:
    return mask


def _loose(mask: Mask) -> Mask:
    """Three pixels too large."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0


def _without_gaps(mask: Mask) -> Mask:
    """With the table that is seen through its loops."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), outlines, -1, 1, cv2.FILLED) > 0


MASKS: dict[str, Callable[[Mask], Mask]] = {"": _exact, "loose mask": _loose, "mask without gaps": _without_gaps}


def cases() -> Iterator[tuple[str, Spoil, Callable[[Mask], Mask], bool]]:
    """(name, how depth is spoilt, what mask is given, whether the camera is noisy)."""
    as_it_is = SPOILT["as it is"]
    yield "no noise", as_it_is, _exact, False
    for name, spoil in SPOILT.items():
        yield name, spoil, _exact, True
    for name, mask in MASKS.items():
        if name:
            yield name, as_it_is, mask, True


def judge(thing: Thing, name: str, spoil: Spoil, mask_of: Callable[[Mask], Mask], noise: bool, seed: int) -> Row:
    """Lift it once, and say whether that was right."""
    rng = np.random.default_rng([seed, *name.encode()])
    frame = thing.frame
    if noise:
        color, depth_m = SensorNoise().apply(frame.color, frame.depth_m, frame.camera.fx, rng)
        frame = replace(frame, color=color, depth_m=spoil(thing, depth_m, rng))
    off = np.abs(frame.depth_m - thing.frame.depth_m)
    to_table = np.abs(thing.behind_m - thing.frame.depth_m)
    sound = thing.part_mask & (frame.depth_m > 0) & (off < np.minimum(SOUND_M, 0.5 * to_table))
    share = float(sound.sum() / thing.part_mask.sum())
    row: Row = {"case": name, "category": thing.category, "seed": seed, "sound": round(share, 3), "code": None}
    part = PartMask(mask_of(thing.part_mask), mask_of(thing.mask), 1.0, "truth")
    try:
        cloud = lift(frame, find_objects(frame), part)
    except StageFailure as failure:
        must = bool(share >= MUST_ACCEPT and sound.sum() >= MUST_ACCEPT_PX)
        return row | {"code": failure.code, "false_refusal": must, "false_acceptance": False}
    far = float((cKDTree(thing.surface).query(cloud.part)[0] > OFF_PART_M).mean())
    T_camera_base = invert(frame.T_base_camera) if frame.T_base_camera is not None else np.eye(4)
    seen = thing.frame.camera.back_project_pixels(thing.frame.depth_m, np.flatnonzero(thing.part_mask))
    lifted = transform_points(T_camera_base, cloud.part)
    covered = float((cKDTree(lifted).query(seen)[0] < OFF_PART_M).mean())
    return row | {
        "off_part": round(far, 4),
        "covered": round(covered, 3),
        "filled": round(cloud.filled_fraction, 4),
        "false_refusal": False,
        "false_acceptance": far > MOST_OFF,
    }


def measure(first_seed: int, scenes: int) -> list[Row]:
    """All cases of all objects in `scenes` scenes, of the kinds of the cell in turn."""
    kinds = [name for name, recipe in SCENES.items() if recipe.count > 0 and recipe.held_out == 0]
    rows = []
    for seed in range(first_seed, first_seed + scenes):
        for thing in things(kinds[seed % len(kinds)], seed):
            rows += [judge(thing, *case, seed) for case in cases()]
    return rows


def summarise(rows: list[Row]) -> dict[str, Row]:
    """By case: how many, refused by code, false refusals and acceptances with Wilson intervals, and of those accepted
    the mean share of points off the part, of the visible part that is covered, and of its pixels that were filled."""
    out: dict[str, Row] = {}
    for case in dict.fromkeys(row["case"] for row in rows):
        group = [row for row in rows if row["case"] == case]
        accepted = [row for row in group if row["code"] is None]
        means = {
            key: round(float(np.mean([r[key] for r in accepted])), 4)
            for key in ("off_part", "covered", "filled")
            if accepted
        }
        out[case] = {
            "n": len(group),
            "sound": round(float(np.mean([row["sound"] for row in group])), 3),
            "refused": dict(Counter(row["code"] for row in group if row["code"])),
            "false_refusals": rate(sum(row["false_refusal"] for row in group), len(group)),
            "false_acceptances": rate(sum(row["false_acceptance"] for row in group), len(group)),
            **means,
        }
    return out


def table(figures: dict[str, Row]) -> str:
    """The summary for a reader."""
    means = ("off_part", "covered", "filled")
    heads = ["", "n", "sound", "false refusals", "false acceptances", *means, "refused"]
    lines = ["".join(f"{head:{'<' if head in ('', 'refused') else '>'}{26 if not head else 18}}" for head in heads)]
    for case, f in figures.items():
        cells = [
            f["n"],
            f["sound"],
            f["false_refusals"]["k"],
            f["false_acceptances"]["k"],
            *(f.get(m, "") for m in means),
        ]
        refused = ", ".join(f"{count} {code}" for code, count in f["refused"].items())
        lines.append(f"{case:<26}" + "".join(f"{cell:>18}" for cell in cells) + f"  {refused}")
    return "\n".join(line.rstrip() for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first-seed", type=int, default=1000, help="of the scenes (below 1000: development)")
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--json", type=Path, help="keep the figures and all rows")
    given = parser.parse_args()
    rows = measure(given.first_seed, given.scenes)
    figures = summarise(rows)
    print(table(figures))
    if given.json:
        given.json.write_text(json.dumps({"first_seed": given.first_seed, "figures": figures, "rows": rows}))


if __name__ == "__main__":
    main()
