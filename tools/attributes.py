"""Colour, place and size of what stands on the table, against the words of the command."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array
from affordagent.core.types import Mask, ObjectProposal, RgbdFrame

# Hue ranges in degrees of the named colours that have one; saturation decides against grey.
HUES: dict[str, tuple[tuple[float, float], ...]] = {
    "red": ((345, 360), (0, 15)),
    "orange": ((15, 42),),
    "golden": ((35, 55),),
    "yellow": ((42, 68),),
    "green": ((68, 165),),
    "turquoise": ((150, 195),),
    "teal": ((150, 195),),
    "cyan": ((165, 200),),
    "blue": ((190, 260),),
    "purple": ((250, 315),),
    "pink": ((300, 360), (0, 10)),
}
GREYS: dict[str, tuple[float, float]] = {  # value ranges of the unsaturated colours
    "black": (0.0, 0.28),
    "grey": (0.25, 0.85),
    "silver": (0.3, 0.95),
    "white": (0.72, 1.0),
}
LEFTOVER = 0.15  # factor of a thing that lacks the named attribute altogether


def colour_share(color: NDArray[np.uint8], mask: Mask, word: str) -> float | None:
    """Share of the masked pixels of a named colour, None for a word that names none."""
    hsv = cv2.cvtColor(color[mask][None].astype(np.float32) / 255, cv2.COLOR_RGB2HSV)[0]
    hue, saturation, value = hsv.T
    if word in GREYS:
        low, high = GREYS[word]
        plain = (saturation < 0.25) | (value < 0.2) if word == "black" else saturation < 0.25
        return float((plain & (value >= low) & (value <= high)).mean())
    if word in ("brown", "beige"):
        warm = (hue >= 10) & (hue <= 50) & (saturation > 0.15)
        return float((warm & ((value < 0.65) if word == "brown" else (value >= 0.6) & (saturation < 0.5))).mean())
    if word not in HUES:
        return None
    tinted = (saturation > 0.3) & (value > 0.2)
    inside = np.any([(hue >= low) & (hue <= high) for low, high in HUES[word]], axis=0)
    return float((tinted & inside).mean())


def attribute_factors(
    frame: RgbdFrame, proposals: list[ObjectProposal], dimensions_m: Array, rivals: Mask, attributes: dict[str, str]
) -> tuple[Array, list[str]]:
    """Factors (P,) in [LEFTOVER, 1] by which each proposal fits the attributes, and the attributes not understood.

    rivals: (P,) the proposals that may be meant at all: places and sizes are compared among them.
    """
    factor = np.ones(len(proposals))
    ignored = []
    for kind, word in attributes.items():
        if kind == "colour":
            shares = [colour_share(frame.color, p.mask, word) for p in proposals]
            known = [s for s in shares if s is not None]
            fit = np.clip(np.array(known) / 0.35, 0, 1) if known else None
        else:
            measure = _measure(kind, word, frame, proposals, dimensions_m)
            fit = None if measure is None else _rank(measure, rivals)
        if fit is None:
            ignored.append(f"{kind}: {word}")
        else:
            factor = factor * (LEFTOVER + (1 - LEFTOVER) * fit)
    return factor, ignored


def _measure(
    kind: str, word: str, frame: RgbdFrame, proposals: list[ObjectProposal], dimensions_m: Array
) -> Array | None:
    """(P,) a number that is largest for the thing the word means. Places are the camera's: left is image-left."""
    centre = np.array([[(p.box[0] + p.box[2]) / 2, (p.box[1] + p.box[3]) / 2] for p in proposals])
    middle = np.array([frame.camera.width, frame.camera.height]) / 2
    if kind == "position":
        return {
            "left": -centre[:, 0],
            "right": centre[:, 0],
            "nearest": centre[:, 1],
            "front": centre[:, 1],
            "bottom": centre[:, 1],
            "farthest": -centre[:, 1],
            "back": -centre[:, 1],
            "top": -centre[:, 1],
            "middle": -np.linalg.norm(centre - middle, axis=1),
        }.get(word)
    if kind == "size":
        known = bool(np.isfinite(dimensions_m).all())
        length, width, height = (dimensions_m if known else _extents_px(proposals)).T
        volume = length * width * np.maximum(height, 0.005)
        return {"big": volume, "small": -volume, "long": length, "short": -length, "tall": height}.get(word)
    return None


def _extents_px(proposals: list[ObjectProposal]) -> Array:
    """(P, 3) longer and shorter side and height in the picture: what sizes are compared by where there is no depth."""
    sides = np.array([[p.box[2] - p.box[0], p.box[3] - p.box[1]] for p in proposals], np.float64)
    return np.column_stack([sides.max(1), sides.min(1), sides[:, 1]])


def _rank(measure: Array, rivals: Mask) -> Array:
    """(P,) 1 for the rival with the largest measure, falling linearly to 0 for the one with the least."""
    low, high = measure[rivals].min(), measure[rivals].max()
    return np.clip((measure - low) / max(high - low, 1e-9), 0, 1) if rivals.sum() > 1 else np.ones(len(measure))
