"""A part that a person marked in a picture: does it still hold for a new picture, and on which thing does it lie?

A mask is a wish about the scene that was shown. Before anything is planned by it the cell is looked at anew, and the
new picture must be as the old one where it counts: under the mask and around it, in depth and in colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import StageFailure
from affordagent.core.types import Mask, ObjectProposal, PaintedMask, PartMask, RgbdFrame, TableScene, box_of
from affordagent.tools.second_look import SIGMAS, TOLERANCE_M
from affordagent.tools.table import noise_sigma

PERSON = "person"  # the tool of such a mask
AROUND_M = 0.02  # round the mask, what must be as it was too
COLOUR_OFF = 14.0  # distance in CIE Lab from which a pixel, smoothed, is of another colour
SMOOTH_PX = 5  # for picture height 480: of colours, and of specks of changed depth, as noise makes at edges
CHANGED = 0.08  # share of the pixels under the mask, or around it, from which the scene has changed
LEAST_TOLD = 0.5  # share of the depths of then that must be there now
SECOND_THING = 0.25  # share of the mask on another thing from which it marks two


@dataclass(frozen=True)
class Change:
    """Shares of the pixels under and around the mask that are not as they were; told: of the depths, those that are
    there now; where too few are, all counts as changed."""

    under: float
    around: float
    told: float

    def as_json(self) -> dict[str, float]:
        return {
            "changed_under_fraction": self.under,
            "changed_around_fraction": self.around,
            "told_fraction": self.told,
        }


def check_unchanged(painted: PaintedMask, now: RgbdFrame, table: TableScene) -> Change:
    """table: of the picture of now.

    Raises:
        StageFailure: ("ground", "grounding.mask_stale"): what the mask was painted on is not there as it was.
    """
    if painted.frame.camera != now.camera:
        raise _stale("it was marked in the picture of another camera, or of another size")
    change = change_of(painted, now, table)
    if change.told < LEAST_TOLD:
        raise _stale(
            f"{100 * change.told:.0f} % of its depths can be compared, at least {100 * LEAST_TOLD:.0f} % are needed",
            **change.as_json(),
        )
    if max(change.under, change.around) > CHANGED:
        raise _stale(
            f"{100 * change.under:.0f} % of the pixels under it and {100 * change.around:.0f} % around it are not as "
            f"they were, at most {100 * CHANGED:.0f} % are allowed",
            **change.as_json(),
        )
    return change


def change_of(painted: PaintedMask, now: RgbdFrame, table: TableScene) -> Change:
    """How far the picture of now is another one than the mask was painted on; both of one camera."""
    then, mask = painted.frame, painted.mask
    around = _grown(mask, _around_px(now, mask)) & ~mask
    both = (then.depth_m > 0) & (now.depth_m > 0)
    seen_then = (mask | around) & (then.depth_m > 0)
    told = float((seen_then & both).sum() / max(int(seen_then.sum()), 1))
    if told < LEAST_TOLD:
        return Change(1.0, 1.0, told)
    noise_m = float(np.median(noise_sigma(table.height_m, now.depth_m)))
    tolerance_m = float(np.clip(SIGMAS * np.sqrt(2) * noise_m, *TOLERANCE_M))
    moved = both & (np.abs(then.depth_m - now.depth_m) > tolerance_m)
    side = _side(now)
    moved = cv2.morphologyEx(moved.astype(np.uint8), cv2.MORPH_OPEN, np.ones((side // 2 + 1,) * 2, np.uint8)) > 0
    changed = moved | (np.linalg.norm(_lab(then) - _lab(now), axis=-1) > COLOUR_OFF)
    return Change(float(changed[mask].mean()), float(changed[around].mean()) if around.any() else 0.0, told)


def part_of(painted: PaintedMask, table: TableScene, **evidence: Any) -> PartMask:
    """The marked part and the thing it lies on, as sure as a person is. Pixels on other things are left out.

    Raises:
        StageFailure: ("ground", "grounding.implausible"): it lies on two things.
    """
    mask = painted.mask
    on = sorted(((int((mask & p.mask).sum()), p) for p in table.proposals), key=lambda pair: -pair[0])
    on = [(count, p) for count, p in on if count]
    if len(on) > 1 and on[1][0] > SECOND_THING * sum(count for count, _ in on):
        raise StageFailure(
            "ground",
            "grounding.implausible",
            f"the mask lies on {len(on)} things, {100 * on[1][0] / mask.sum():.0f} % of it on the second: mark a part "
            "of one thing",
        )
    thing: ObjectProposal | None = on[0][1] if on else None
    others = np.logical_or.reduce([np.zeros_like(mask), *(p.mask for _, p in on[1:])])
    kept = mask & ~others
    whole = kept if thing is None else kept | thing.mask
    evidence |= {"proposal": None if thing is None else thing.id, "left_out_px": int((mask & others).sum())}
    return PartMask(kept, whole, 1.0, PERSON, evidence, 1.0)


def _stale(why: str, **evidence: Any) -> StageFailure:
    message = f"the mask does not fit what the camera sees now: {why}. Look at the new picture and mark the part there"
    return StageFailure("ground", "grounding.mask_stale", message, **evidence)


def _around_px(frame: RgbdFrame, mask: Mask) -> int:
    depth_m = frame.depth_m[mask & (frame.depth_m > 0)]
    distance_m = float(np.median(depth_m)) if depth_m.size else 1.0
    return max(3, round(AROUND_M * frame.camera.fx / distance_m))


def _grown(mask: Mask, by_px: int) -> Mask:
    x0, y0, x1, y1 = box_of(mask)
    rows = slice(max(y0 - by_px, 0), y1 + by_px)
    columns = slice(max(x0 - by_px, 0), x1 + by_px)
    grown = np.zeros_like(mask)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * by_px + 1,) * 2)
    grown[rows, columns] = cv2.dilate(mask[rows, columns].astype(np.uint8), disc) > 0
    return grown


def _side(frame: RgbdFrame) -> int:
    return 2 * max(1, round(SMOOTH_PX * frame.camera.height / 960)) + 1


def _lab(frame: RgbdFrame) -> NDArray[np.float32]:
    """(H, W, 3) CIE Lab, smoothed."""
    side = _side(frame)
    smooth = cv2.blur(frame.color, (side, side)).astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB), np.float32)
