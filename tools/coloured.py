"""Things told by their colour and size: for tasks whose things no model was trained on (buttons, blocks, targets).

A thing that stands on the table is one of its proposals; a target that lies flat on it is a patch of another colour.
"""

from __future__ import annotations

import cv2
import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import Mask, ObjectProposal, PartMask, RgbdFrame, TableScene
from affordagent.tools.attributes import colour_share
from affordagent.tools.table import noise_sigma
from affordagent.tools.tabletop import dimensions_of

TOOL = "coloured"
# length, width and height in metres, lowest and highest, as they are seen
SIZES_M: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "button": ((0.06, 0.13), (0.05, 0.1), (0.02, 0.06)),
    "ball": ((0.03, 0.09), (0.02, 0.08), (0.05, 0.22)),
    "block": ((0.04, 0.1), (0.03, 0.085), (0.025, 0.065)),
    "jar": ((0.05, 0.12), (0.04, 0.1), (0.05, 0.13)),
    "lid": ((0.06, 0.11), (0.05, 0.1), (0.02, 0.05)),
}
_COLOURED_PART = {"button": 0.08, "ball": 0.2}  # its part is what has the colour: this share of what is seen of it
_PAINTED = ("block", "jar")  # in one colour
_TOP_PART = {"lid": 0.012}  # its part is what is within so much of its highest point
_SIZE_SLACK_M = 0.015  # beyond its range, at which a size fits half
CLEAR_COLOUR = 0.3  # share of any other thing
FITS = 0.25
TARGET_M2 = (0.004, 0.05)
TARGET_FILL = 0.5  # of its enclosing rectangle, in the picture: a square seen aslant, perhaps half hidden
_FLAT_M = 0.006
_OFF_TABLE_LAB, _SPREADS = 6.0, 4.0  # least distance of colours, and in the table's own spread
_LIGHTNESS = 0.5  # counts less than hue: shadows
_SAME_HUE_DEG = 15.0


def find_thing(frame: RgbdFrame, scene: TableScene, name: str, colour: str | None) -> PartMask:
    """The thing of one of the kinds of SIZES_M that fits its size and colour best; confidence is how well.

    Raises:
        StageFailure: ("ground", "grounding.not_found"): nothing is of that kind and colour; evidence: scores of all.
    """
    sizes = dimensions_of(frame, scene)
    scores = []
    for proposal, size_m in zip(scene.proposals, sizes, strict=True):
        share = 1.0 if colour is None else (colour_share(frame.color, proposal.mask, colour) or 0.0)
        painted = _one_hue(frame, proposal.mask) if name in _PAINTED else 1.0
        scores.append(_size_fit(name, size_m) * _colour_fit(name, share) * painted)
    best = int(np.argmax(scores)) if scores else -1
    evidence = {"scores": {str(p.id): round(float(s), 3) for p, s in zip(scene.proposals, scores, strict=True)}}
    words = name if colour is None else f"{colour} {name}"
    if best < 0 or scores[best] < FITS:
        message = f"I see no {words} on the table (best fit {scores[best] if scores else 0:.2f}, needed 0.25)"
        raise StageFailure(
            "ground", "grounding.not_found", f"{message}: put it into view, or say its colour", **evidence
        )
    chosen = scene.proposals[best]
    return PartMask(_part(frame, scene, chosen, name, colour), chosen.mask, float(scores[best]), TOOL, evidence)


def find_target(frame: RgbdFrame, scene: TableScene, colour: str | None) -> PartMask:
    """A flat patch on the table, of a named colour or of any that is not the table's; confidence: its fill of a
    rectangle.

    Raises:
        StageFailure: ("ground", "grounding.not_found").
    """
    things = (
        np.any([p.mask for p in scene.proposals], axis=0) if scene.proposals else np.zeros(frame.depth_m.shape, bool)
    )
    things = cv2.dilate(things.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    sigma = noise_sigma(scene.height_m, frame.depth_m)
    with np.errstate(invalid="ignore"):
        flat = (np.abs(scene.height_m) < np.maximum(_FLAT_M, 3 * sigma)) & ~things
    off_table = _off_table(frame, flat)
    patches = cv2.morphologyEx((flat & off_table).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    count, labels, facts, _ = cv2.connectedComponentsWithStats(patches)
    found: list[PartMask] = []
    for i in range(1, count):
        mask = labels == i
        area_m2 = _area_m2(frame, scene, mask)
        (_, sides, _) = cv2.minAreaRect(np.argwhere(mask)[:, ::-1].astype(np.float32))
        fill = float(mask.sum() / max((sides[0] + 1) * (sides[1] + 1), 1.0))
        share = 1.0 if colour is None else (colour_share(frame.color, mask, colour) or 0.0)
        if TARGET_M2[0] <= area_m2 <= TARGET_M2[1] and fill >= TARGET_FILL and share >= CLEAR_COLOUR:
            found.append(PartMask(mask, mask, round(min(1.0, fill) * share, 3), TOOL, {"area_m2": round(area_m2, 4)}))
    if not found:
        words = "target" if colour is None else f"{colour} target"
        message = f"I see no {words} lying flat on the table ({count - 1} patches of another colour than the table's)"
        raise StageFailure("ground", "grounding.not_found", f"{message}: put it into view, or say its colour")
    return max(found, key=lambda part: part.confidence)


def _off_table(frame: RgbdFrame, flat: Mask) -> Mask:
    """(H, W) pixels of another colour than most of `flat`, by more than that varies by itself."""
    lab = cv2.cvtColor(frame.color.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) * [_LIGHTNESS, 1, 1]
    distance = np.linalg.norm(lab - np.median(lab[flat], axis=0), axis=2)
    return np.asarray(distance > max(_OFF_TABLE_LAB, _SPREADS * float(np.median(distance[flat]))))


def _one_hue(frame: RgbdFrame, mask: Mask) -> float:
    """Share of a thing that has its most common hue: 1 for what is painted in one colour."""
    hsv = cv2.cvtColor(frame.color[mask][None].astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0]
    tinted = hsv[:, 1] > 0.3
    if not tinted.any():
        return 0.0
    off = np.abs((hsv[:, 0] - np.median(hsv[tinted, 0]) + 180) % 360 - 180)
    return float((tinted & (off < _SAME_HUE_DEG)).mean())


def _size_fit(name: str, size_m: Array) -> float:
    """1 inside of the ranges of a kind, falling with the distance from them."""
    if not np.isfinite(size_m).all():
        return 0.0
    low, high = np.array(SIZES_M[name]).T
    beyond = np.maximum(np.maximum(low - size_m, size_m - high), 0.0)
    return float(np.prod(1 / (1 + (beyond / _SIZE_SLACK_M) ** 2)))


def _colour_fit(name: str, share: float) -> float:
    return float(np.clip(share / _COLOURED_PART.get(name, CLEAR_COLOUR), 0, 1))


def _part(frame: RgbdFrame, scene: TableScene, thing: ObjectProposal, name: str, colour: str | None) -> Mask:
    if name in _TOP_PART:
        heights = np.where(thing.mask, scene.height_m, np.nan)
        with np.errstate(invalid="ignore"):
            return np.asarray(heights > np.nanpercentile(heights, 99) - _TOP_PART[name])
    if name not in _COLOURED_PART:
        return thing.mask
    hsv = cv2.cvtColor(frame.color, cv2.COLOR_RGB2HSV)
    tinted = thing.mask & (hsv[..., 1] > 80) & (hsv[..., 2] > 40)
    if colour is not None:  # the stand may have a tinge of the table
        hue = np.median(hsv[..., 0][tinted].astype(int)) if tinted.any() else 0
        tinted &= np.abs((hsv[..., 0].astype(int) - hue + 90) % 180 - 90) < 15
    count, labels, facts, _ = cv2.connectedComponentsWithStats(tinted.astype(np.uint8))
    if count < 2:
        return thing.mask
    return np.asarray(labels == 1 + int(np.argmax(facts[1:, cv2.CC_STAT_AREA])))


def _area_m2(frame: RgbdFrame, scene: TableScene, mask: Mask) -> float:
    """Of a patch that lies in the table's plane."""
    rows, columns = np.nonzero(mask)
    camera, (n, d) = frame.camera, (scene.plane_camera[:3], scene.plane_camera[3])
    rays = np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones(len(rows))], axis=1)
    off = np.abs(rays @ n)  # a pixel at depth z covers z^2 / (fx fy) across the axis, so much more on the plane
    return float(((d / off) ** 2 / (camera.fx * camera.fy * off)).sum())
