"""Is a mask plausible? Small measures of a mask against what the camera saw, with the limits that good masks keep.

The limits are fitted where the truth is known, on development scenes of the simulated cell (`affordagent eval fallback
--fit`), and lie in `grounding_fit.json`. A check that has nothing to measure, for lack of depth or of a part that was
asked for, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from affordagent.core.types import FunctionalQuery, Mask, PartMask, RgbdFrame, TableScene
from affordagent.tools.affordance_vlm import WHOLE
from affordagent.tools.grounding_fit import fitted

TABLE_M = 0.004  # height below which a pixel is the table's: a little above the sensor's noise
RIM = 160  # a rim of picture height / RIM is forgiven: outlines from depth are a little small
FAR = 40  # pieces further apart than picture height / FAR are apart


@dataclass(frozen=True)
class Check:
    """A measure that is outside its limit, or would be. least, most: the limits, None where there is none."""

    name: str
    value: float
    least: float | None
    most: float | None

    @property
    def passed(self) -> bool:
        low = self.least is not None and self.value < self.least
        return not low and not (self.most is not None and self.value > self.most)

    @property
    def says(self) -> str:
        """In plain words, with value and limit."""
        words, unit = MEASURES[self.name]
        if self.least is not None and self.value < self.least:
            return f"{words} {_number(self.value)}{unit}, at least {_number(self.least)}{unit} expected"
        if self.most is not None and self.value > self.most:
            return f"{words} {_number(self.value)}{unit}, at most {_number(self.most)}{unit} expected"
        return f"{words} {_number(self.value)}{unit}"

    def as_json(self) -> dict[str, Any]:
        limits = {"least": self.least, "most": self.most}
        return {"name": self.name, "value": self.value, **limits, "passed": self.passed}


# name: (what it is, unit). Shares are of the mask's pixels.
MEASURES = {
    "pixels": ("pixels of the part:", ""),
    "part_area_cm2": ("area of the part:", " cm2"),
    "object_area_cm2": ("area of the object:", " cm2"),
    "part_thickness_m": ("widest place of the part:", " m"),
    "off_object": ("share of the part off its object:", ""),
    "off_things": ("share of the part off all things on the table:", ""),
    "on_table": ("share of the part as low as the table:", ""),
    "apart": ("share of the part in pieces far from the largest:", ""),
    "second_thing": ("share of the object on a second thing:", ""),
    "part_of_object": ("share of the object that the part takes:", ""),
}


def check_mask(part: PartMask, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[Check]:
    """All checks that apply, passed or not. An empty mask has the first alone."""
    limits = fitted_limits()
    return [Check(name, round(value, 4), *limits[name]) for name, value in measure(part, frame, scene, query).items()]


def measure(part: PartMask, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> dict[str, float]:
    """Name -> value of the MEASURES that apply.

    Areas and widths are as the camera sees them (pixels x distance / focal length), for a part that was asked for by a
    proper part's name; the whole object's area always.
    """
    mask, whole = part.mask, part.object_mask
    found = {"pixels": float(mask.sum())}
    if not mask.any():
        return found
    proper = asks_for_a_part(query)
    if proper and (distance_m := _distance_m(frame, mask)) is not None:
        found["part_area_cm2"] = _area_cm2(frame, mask, distance_m)
        inside_px = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5).max()
        found["part_thickness_m"] = float(2 * inside_px * distance_m / frame.camera.fx)
    if whole.any() and (distance_m := _distance_m(frame, whole)) is not None:
        found["object_area_cm2"] = _area_cm2(frame, whole, distance_m)
    found["off_object"] = _share(mask & ~whole, mask)
    if scene.proposals:
        things = np.any([p.mask for p in scene.proposals], axis=0)
        found["off_things"] = _share(mask & ~_grown(things, RIM), mask)
    measured = mask & np.isfinite(scene.height_m)
    if measured.any():
        found["on_table"] = _share(measured & (np.abs(scene.height_m) < TABLE_M), measured)
    found["apart"] = far_pieces(mask)
    on_things = sorted((int((whole & p.mask).sum()) for p in scene.proposals), reverse=True)
    if len(on_things) > 1 and on_things[0]:
        found["second_thing"] = on_things[1] / sum(on_things)
    if proper and whole.any():
        found["part_of_object"] = _share(mask & whole, whole)
    return found


def asks_for_a_part(query: FunctionalQuery) -> bool:
    """A proper part, such as a handle; a body or a side may be all of the thing."""
    return query.part is not None and query.part not in WHOLE


@cache
def fitted_limits() -> dict[str, tuple[float | None, float | None]]:
    """Name -> (least, most)."""
    return {name: (limits["least"], limits["most"]) for name, limits in fitted()["limits"].items()}


def _distance_m(frame: RgbdFrame, mask: Mask) -> float | None:
    """Median distance of the masked pixels, None where none was measured."""
    depth_m = frame.depth_m[mask]
    return float(np.median(depth_m[depth_m > 0])) if (depth_m > 0).any() else None


def _area_cm2(frame: RgbdFrame, mask: Mask, distance_m: float) -> float:
    return float(1e4 * mask.sum() * distance_m**2 / (frame.camera.fx * frame.camera.fy))


def _share(some: Mask, of: Mask) -> float:
    return float(some.sum() / max(int(of.sum()), 1))


def _grown(mask: Mask, by: int) -> Mask:
    side = 2 * max(1, round(mask.shape[0] / by)) + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0


def far_pieces(mask: Mask) -> float:
    """Share of the mask that is not with its largest piece (0 to 1) once gaps of picture height / FAR are bridged."""
    _, pieces = cv2.connectedComponents(_grown(mask, 2 * FAR).astype(np.uint8))
    sizes = np.bincount(pieces[mask])
    return float(1 - sizes.max() / sizes.sum())


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
