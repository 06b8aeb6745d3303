"""Faults put into right masks of the first tool: which check notices each, and how does the case end?

The tool keeps its confidence, as a broken tool would. Only cases are used in which its mask was right and confident, so
that every doubt is the checks' work; the same masks, unchanged, give the false alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from affordagent.agent.settings import Settings
from affordagent.core.types import Mask, PartMask, TableScene
from affordagent.evaluations.fallback import asked_when_in_doubt, opinions
from affordagent.evaluations.grounding_answers import Seen
from affordagent.evaluations.statistics import rate
from affordagent.tools.mask_checks import asks_for_a_part
from affordagent.tools.second_opinion import opinion_of

SHIFT_PX = 60
GROW_PX = 12


def shifted(part: PartMask, scene: TableScene, rng: np.random.Generator) -> PartMask:
    """Both masks moved by SHIFT_PX in some direction."""
    angle = rng.uniform(0, 2 * np.pi)
    move = np.array([[1, 0, SHIFT_PX * np.cos(angle)], [0, 1, SHIFT_PX * np.sin(angle)]])
    return replace(part, mask=warped(part.mask, move), object_mask=warped(part.object_mask, move))


def blank(part: PartMask, scene: TableScene, rng: np.random.Generator) -> PartMask:
    return replace(part, mask=np.zeros_like(part.mask), object_mask=np.zeros_like(part.mask))


def wrong_object(part: PartMask, scene: TableScene, rng: np.random.Generator) -> PartMask | None:
    """Another thing, and of a part as much as the part took of its own object."""
    others = [p.mask for p in scene.proposals if not (p.mask & part.object_mask).any()]
    if not others:
        return None
    other = others[int(rng.integers(len(others)))]
    if np.array_equal(part.mask, part.object_mask):
        return replace(part, mask=other, object_mask=other)
    share = float(part.mask.sum() / part.object_mask.sum())
    return replace(part, mask=end_of(other, share), object_mask=other)


def split(part: PartMask, scene: TableScene, rng: np.random.Generator) -> PartMask:
    """Half of the part is marked on another place of the picture."""
    half = end_of(part.mask, 0.5)
    away = -1 if np.flatnonzero(part.mask.any(0)).mean() > part.mask.shape[1] / 2 else 1
    far = warped(part.mask & ~half, np.array([[1.0, 0, away * 2 * SHIFT_PX], [0, 1, 0]]))
    return replace(part, mask=half | far)


def whole(part: PartMask, scene: TableScene, rng: np.random.Generator) -> PartMask | None:
    """The whole object for its part."""
    if part.mask.sum() > 0.8 * part.object_mask.sum():
        return None
    return replace(part, mask=part.object_mask)


def two_things(part: PartMask, scene: TableScene, rng: np.random.Generator) -> PartMask | None:
    """The object's outline takes in the nearest other thing; for a thing without a part, so does the mask."""
    near = [p.mask for p in scene.proposals if not (p.mask & part.object_mask).any()]
    if not near:
        return None
    away_px = cv2.distanceTransform((~part.object_mask).astype(np.uint8), cv2.DIST_L2, 5)
    other = min(near, key=lambda mask: float(away_px[mask].min()))
    same = np.array_equal(part.mask, part.object_mask)
    return replace(part, mask=part.mask | other if same else part.mask, object_mask=part.object_mask | other)


def grown(part: PartMask, scene: TableScene, rng: np.random.Generator) -> PartMask:
    """Both outlines leak by GROW_PX onto what is round them."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * GROW_PX + 1, 2 * GROW_PX + 1))
    masks = [cv2.dilate(mask.astype(np.uint8), disc) > 0 for mask in (part.mask, part.object_mask)]
    return replace(part, mask=masks[0], object_mask=masks[1])


Fault = Callable[[PartMask, TableScene, np.random.Generator], PartMask | None]
FAULTS: dict[str, Fault] = {
    "blank": blank,
    "shifted": shifted,
    "wrong object": wrong_object,
    "split": split,
    "part = whole": whole,
    "two things": two_things,
    "grown": grown,
}


def trials(seen: Iterable[Seen], settings: Settings) -> list[dict[str, Any]]:
    """A row for every fault, and for none, in every case whose first mask is right and confident."""
    rng, rows = np.random.default_rng(0), []
    for view in seen:
        for both in opinions([view]):
            first, case = both.first, both.case
            if first is None or case.truth is None or not case.right(first.part):
                continue
            if first.confidence < settings.sure_above:
                continue
            for name, fault in {"none": None, **FAULTS}.items():
                if name == "part = whole" and not asks_for_a_part(case.query):
                    continue
                faulty = first.part if fault is None else fault(first.part, view.table, rng)
                if faulty is None or (fault is not None and case.right(faulty) and name != "two things"):
                    continue
                opinion = opinion_of(faulty, view.frame, view.table, case.query)
                said = opinion if faulty.mask.any() else None  # a blank mask is no answer
                taken = asked_when_in_doubt(replace(both, first=said), settings)
                rows.append(
                    {
                        "fault": name,
                        "scene": case.scene,
                        "seed": case.seed,
                        "text": case.text,
                        "failed_checks": [check.name for check in opinion.failed],
                        "ends": "refused" if taken is None else "right" if case.right(taken) else "wrong",
                    }
                )
    return rows


def caught(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By fault: how often any check fails, how often each does, and how the cases end."""
    found: dict[str, Any] = {}
    for fault in ("none", *FAULTS):
        some = [row for row in rows if row["fault"] == fault]
        names = sorted({name for row in some for name in row["failed_checks"]})
        found[fault] = {
            "doubted": rate(sum(bool(row["failed_checks"]) for row in some), len(some)),
            "by_check": {name: sum(name in row["failed_checks"] for row in some) for name in names},
            "ends": {end: sum(row["ends"] == end for row in some) for end in ("right", "refused", "wrong")},
        }
    return found


def warped(mask: Mask, move: np.ndarray) -> Mask:
    """The mask under a (2, 3) affine motion of its pixels, (x, y)."""
    size = (mask.shape[1], mask.shape[0])
    return cv2.warpAffine(mask.astype(np.uint8), move, size, flags=cv2.INTER_NEAREST) > 0


def end_of(mask: Mask, share: float) -> Mask:
    """The pixels of one end, so many of them, along the long axis."""
    at = np.argwhere(mask)
    axis = np.linalg.svd(at - at.mean(0), full_matrices=False)[2][0]
    along = at @ axis
    out = np.zeros_like(mask)
    out[tuple(at[along <= np.quantile(along, share)].T)] = True
    return out
