"""Leave the part to the person: when a thing is handed over safely, the robot holds it by the rest."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from affordagent.core.types import FunctionalQuery, PartMask

HANDLE_FREE = "handle_free"
ROOM_PX = 9  # round the part that is left to the person
LEAST_REST = 0.08  # of the object's pixels, that there is something else to hold


def is_wanted(query: FunctionalQuery) -> bool:
    return query.intent == "hand_over" and HANDLE_FREE in query.constraints and query.part is not None


def is_free(part: PartMask) -> bool:
    """Is this what `rest_of` gave: all of the object but the part that the person is to take?"""
    return bool(part.evidence.get(HANDLE_FREE))


def is_decided(part: PartMask) -> bool:
    return HANDLE_FREE in part.evidence


def rest_of(part: PartMask) -> PartMask | None:
    """The object without its part, to be held instead; None where hardly anything else of it is seen."""
    near = cv2.dilate(part.mask.astype(np.uint8), np.ones((ROOM_PX, ROOM_PX), np.uint8)) > 0
    rest = part.object_mask & ~near
    if rest.sum() < LEAST_REST * part.object_mask.sum():
        return None
    return replace(part, mask=rest, evidence={**part.evidence, HANDLE_FREE: True})


def part_after_all(part: PartMask, why: str) -> PartMask:
    """The part itself, since the rest cannot be held."""
    return replace(part, evidence={**part.evidence, HANDLE_FREE: False, "why_not_free": why})
