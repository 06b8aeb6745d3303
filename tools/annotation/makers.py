"""The tools of the chain: something says where, something outlines what is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from affordagent.core.catalogue import catalogue
from affordagent.core.types import Mask
from affordagent.tools.annotation.types import Candidate, Outliner, Wanted
from affordagent.tools.detection import Box, Detection, Picture
from affordagent.tools.segmenter import Prompt
from affordagent.tools.sightings import WHOLE_BOX, box_iou, crop_around

JITTER = 0.05  # of the box's sides: about what two people's boxes differ by
SHIFTS = np.array([(-1, -1, 1, 1), (1, 1, -1, -1), (-1, -1, -1, -1), (1, 1, 1, 1)])  # wider, narrower, and both ways


@dataclass(frozen=True)
class Place:
    """Where a mask is to be made: in `box`, of or on the thing in the box `thing`. score in [0, 1]: of who found it."""

    box: Box
    thing: Box
    score: float = 1.0


# For each wish the place, or why there is none.
Where = Callable[[Picture, Sequence[Wanted]], list[Place | str]]
# For each name the boxes of the things that fit it, best first.
Find = Callable[[Picture, Sequence[str]], list[list[Detection]]]
# For each crop the boxes of what fits the words, best first, in the crop's pixels.
FindParts = Callable[[list[Picture], list[str]], list[list[Detection]]]
# Of the thing of that name in the box: (H, W) bool masks of the part to hold, and of the whole.
MasksOf = Callable[[Picture, Box, str], tuple[Mask, Mask]]


class Original:
    """The mask that the source came with."""

    name = "original"

    def answers(self, picture: Picture, wishes: Sequence[Wanted]) -> list[Candidate | str]:
        return ["the source has no mask" if w.original is None else Candidate(w.original, w.box) for w in wishes]


@dataclass(frozen=True)
class Outlined:
    """Masks of places. second: who else is asked what the place holds, if anybody: of whole things only."""

    name: str
    where: Where
    outliner: Outliner
    second: MasksOf | None = None

    def answers(self, picture: Picture, wishes: Sequence[Wanted]) -> list[Candidate | str]:
        places = self.where(picture, wishes)
        boxes = [box for place in places if isinstance(place, Place) for box in (place.box, *jittered(place.box))]
        if not boxes:
            return [place for place in places if isinstance(place, str)]
        masks, _ = self.outliner.segment(picture, [Prompt(box) for box in boxes])
        made = iter(masks.reshape(-1, 1 + len(SHIFTS), *picture.shape[:2]))
        return [
            place if isinstance(place, str) else self._candidate(picture, wish, place, next(made))
            for place, wish in zip(places, wishes, strict=True)
        ]

    def _candidate(self, picture: Picture, wish: Wanted, place: Place, masks: Mask) -> Candidate:
        second = None if self.second is None else self.second(picture, place.box, wish.category)[1]
        return Candidate(masks[0], place.thing, masks[1:], second, place.score)


@dataclass(frozen=True)
class PartOf:
    """The part to hold by a model that knows the part of each category, in the box of the thing."""

    name: str
    find: Find
    masks_of: MasksOf

    def answers(self, picture: Picture, wishes: Sequence[Wanted]) -> list[Candidate | str]:
        return [
            place if isinstance(place, str) else self._candidate(picture, wish, place)
            for place, wish in zip(self._places(picture, wishes), wishes, strict=True)
        ]

    def _places(self, picture: Picture, wishes: Sequence[Wanted]) -> list[Place | str]:
        reasons = [_unknown_part(wish) for wish in wishes]
        places = iter(things(self.find, picture, [w for w, reason in zip(wishes, reasons, strict=True) if not reason]))
        return [reason or next(places) for reason in reasons]

    def _candidate(self, picture: Picture, wish: Wanted, place: Place) -> Candidate:
        part, whole = self.masks_of(picture, place.thing, wish.category)
        others = np.stack([self.masks_of(picture, box, wish.category)[0] for box in jittered(place.thing)])
        return Candidate(part, place.thing, others, part & whole, place.score)


def _unknown_part(wish: Wanted) -> str:
    known = catalogue().get(wish.category)
    if wish.part is None:
        return "the whole thing is wanted, it knows parts"
    if known is None or known.part != wish.part:
        return f"it was not taught the {wish.part} of a {wish.category}"
    return ""


def in_given_boxes(picture: Picture, wishes: Sequence[Wanted]) -> list[Place | str]:
    """The boxes that the source came with: of whole things."""
    return [_given(wish) for wish in wishes]


def _given(wish: Wanted) -> Place | str:
    if wish.part is not None:
        return f"boxes are of whole things, wanted is the {wish.part}"
    return "the source has no box" if wish.box is None else Place(wish.box, wish.box)


def by_name(find: Find) -> Where:
    """Whole things, found by their names."""

    def where(picture: Picture, wishes: Sequence[Wanted]) -> list[Place | str]:
        found = iter(things(find, picture, [wish for wish in wishes if wish.part is None]))
        return [f"it finds whole things, wanted is the {w.part}" if w.part else next(found) for w in wishes]

    return where


def by_part(find: Find, find_parts: FindParts) -> Where:
    """Parts, found by their names in the crops of their things."""

    def where(picture: Picture, wishes: Sequence[Wanted]) -> list[Place | str]:
        wanted = [wish for wish in wishes if wish.part is not None]
        found = iter(_parts(picture, wanted, things(find, picture, wanted), find_parts))
        return [next(found) if wish.part else "the whole thing is wanted, it finds parts" for wish in wishes]

    return where


def _parts(
    picture: Picture, wishes: Sequence[Wanted], wholes: list[Place | str], find_parts: FindParts
) -> list[Place | str]:
    crops = [crop_around(whole.thing, *picture.shape[:2]) for whole in wholes if isinstance(whole, Place)]
    words = [f"{w.category} {w.part}" for w, whole in zip(wishes, wholes, strict=True) if isinstance(whole, Place)]
    seen = iter(zip(crops, find_parts([crop.of(picture) for crop in crops], words) if crops else [], strict=True))
    places: list[Place | str] = []
    for wish, whole in zip(wishes, wholes, strict=True):
        if isinstance(whole, str):
            places.append(whole)
            continue
        crop, parts = next(seen)
        boxes = [(crop.to_picture(part.box), part.score) for part in parts]
        part = next(((box, score) for box, score in boxes if box_iou(box, whole.thing) < WHOLE_BOX), None)
        places.append(f"no {wish.part} was found" if part is None else Place(part[0], whole.thing, part[1]))
    return places


def things(find: Find, picture: Picture, wishes: Sequence[Wanted]) -> list[Place | str]:
    """Where the things are: in their boxes where the source has them, else where they are found by name."""
    unknown = [wish.category for wish in wishes if wish.box is None]
    found = iter(find(picture, unknown) if unknown else [])
    return [_thing(wish, next(found)) if wish.box is None else Place(wish.box, wish.box) for wish in wishes]


def _thing(wish: Wanted, seen: list[Detection]) -> Place | str:
    return Place(seen[0].box, seen[0].box, seen[0].score) if seen else f"no {wish.category} was found"


def jittered(box: Box) -> list[Box]:
    """The box made a little wider, narrower, and moved both ways."""
    x0, y0, x1, y1 = box
    by = JITTER * np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in np.array(box) + SHIFTS * by]
