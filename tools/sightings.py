"""From what was seen of things and their parts to PartMasks: the way that all zero-shot tools share.

They see the colour picture alone. What stands on the table is compared with the answer, never put in its place. The
probabilities are rules of thumb: they have not been fitted to truth.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import StageFailure
from affordagent.core.types import FunctionalQuery, Mask, ObjectProposal, PartMask, RgbdFrame, TableScene
from affordagent.tools.affordance_vlm import MIN_PART_PX, largest_pieces
from affordagent.tools.detection import Box, Detection, Picture, plain_words
from affordagent.tools.segmenter import Prompt
from affordagent.tools.vocabulary import wish_of

MOST_OBJECTS = 3  # that are looked at for their part
MOST_NAMES = 3
CROP_MARGIN = 0.15  # of the box's sides, so that a part at the rim is seen whole
WHOLE_BOX = 0.9  # IoU with the object's box from which a "part" is the object over again
WHOLE_INSTEAD = 0.5  # what remains of the confidence when the part was not found and the whole is given
IN_WORDS = ("colour", "material")  # attributes that a detector may understand


@dataclass(frozen=True)
class Crop:
    """A window of the picture, in whole pixels: x0, y0, x1, y1 (past the end)."""

    x0: int
    y0: int
    x1: int
    y1: int

    def of(self, picture: Picture) -> Picture:
        return np.ascontiguousarray(picture[self.y0 : self.y1, self.x0 : self.x1])

    def to_picture(self, box: Box) -> Box:
        """A box in the crop's pixels, in the picture's."""
        return box[0] + self.x0, box[1] + self.y0, box[2] + self.x0, box[3] + self.y0


def crop_around(box: Box, height: int, width: int) -> Crop:
    """The window of an H x W picture that holds the box and a margin, where the picture goes that far."""
    x0, y0, x1, y1 = box
    dx, dy = CROP_MARGIN * (x1 - x0), CROP_MARGIN * (y1 - y0)
    left, top = max(0, floor(x0 - dx)), max(0, floor(y0 - dy))
    return Crop(left, top, min(width, ceil(x1 + dx)), min(height, ceil(y1 + dy)))


@dataclass(frozen=True)
class Sighting:
    """A thing that fits the words, and where its part was seen. parts: in the picture's pixels, best first."""

    thing: Detection
    crop: Crop
    parts: list[Detection]

    @property
    def part(self) -> Detection | None:
        """The best box that is not the thing over again."""
        return next((p for p in self.parts if box_iou(p.box, self.thing.box) < WHOLE_BOX), None)

    @property
    def prompts(self) -> list[Prompt]:
        """Of the thing and, where it was seen, of its part."""
        return [Prompt(seen.box, seen.point) for seen in (self.thing, self.part) if seen]


class Scored(Protocol):
    """A tool and the least scores of its that count."""

    name: str
    object_above: float
    part_above: float


class Eyes(Scored, Protocol):
    """What sees things by their words and outlines them."""

    def find_things(self, picture: Picture, names: list[str]) -> list[Detection]:
        """What fits one of the names in the whole picture, best first."""
        ...

    def find_parts(self, crops: list[Picture], part: str) -> list[list[Detection]]:
        """What fits the part's word in each crop, best first, in the crop's pixels."""
        ...

    def outline(self, picture: Picture, prompts: list[Prompt]) -> tuple[Mask, NDArray[np.float64]]:
        """(n, H, W) bool masks for n prompts in the whole picture, and how good each is said to be, (n,) in [0, 1]."""
        ...


def find_by_words(
    eyes: Eyes, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery, weights: dict[str, str | None]
) -> list[PartMask]:
    """A PartMask for each thing that fits the words, the most confident first: things in the picture, the part in each
    thing's crop, masks of both.

    `confidence` is the product of `confidence_terms`; `presence` the thing's own term. `evidence`: names and part that
    were asked, weights, all detections (boxes in the picture's pixels, scores, words), the one taken, the masks'
    quality, the proposal it overlaps most, attributes that were not used.

    Raises:
        StageFailure: ("ground", grounding.not_found) when nothing fits the words, grounding.empty_mask when less than a
            part is left of all masks.
        AffordAgentError: the weights are not there.
    """
    names, part = names_of(query), plain_words(query.part or "")
    started = time.perf_counter()
    things = eyes.find_things(frame.color, names)
    said: dict[str, Any] = {
        "names": names,
        "part_asked": part or None,
        "weights": weights,
        "attributes_ignored": [name for name in query.attributes if name not in IN_WORDS],
        "detections": [thing.as_json() for thing in things],
    }
    if not things:
        message = f"no box for '{', '.join(names)}' with a score above {eyes.object_above}: name the thing otherwise"
        raise StageFailure("ground", "grounding.not_found", message, **said)
    sightings = _look_for_parts(eyes, frame.color, things[:MOST_OBJECTS], part)
    detected = time.perf_counter()
    prompts = [prompt for s in sightings for prompt in s.prompts]
    masks, quality = eyes.outline(frame.color, prompts)
    said["timings_s"] = {
        "boxes": round(detected - started, 3),
        "masks": round(time.perf_counter() - detected, 3),
    }
    found, at = [], 0
    for sighting in sightings:
        own = slice(at, at := at + len(sighting.prompts))
        result = part_mask(eyes, sighting, masks[own], quality[own], bool(part), scene, said)
        if result is not None:
            found.append(result)
    if not found:
        raise nothing_left(len(sightings), said)
    return sorted(found, key=lambda p: -p.confidence)


def nothing_left(boxes: int, said: dict[str, Any]) -> StageFailure:
    message = f"less than {MIN_PART_PX} pixels are left of each of {boxes} boxes: bring the camera nearer"
    return StageFailure("ground", "grounding.empty_mask", message, **said)


def _look_for_parts(eyes: Eyes, color: Picture, things: list[Detection], part: str) -> list[Sighting]:
    height, width = color.shape[:2]
    crops = [crop_around(thing.box, height, width) for thing in things]
    if not part:
        return [Sighting(thing, crop, []) for thing, crop in zip(things, crops, strict=True)]
    seen = eyes.find_parts([crop.of(color) for crop in crops], part)
    return [
        Sighting(thing, crop, [Detection(crop.to_picture(p.box), p.score, p.words) for p in parts])
        for thing, crop, parts in zip(things, crops, seen, strict=True)
    ]


def names_of(query: FunctionalQuery) -> list[str]:
    """What to look for: the person's own noun with its colour, else what the wish may mean."""
    if query.object_words and plain_words(query.object_words):
        noun = plain_words(query.object_words)
        looks = [plain_words(query.attributes[name]) for name in IN_WORDS if name in query.attributes]
        return [" ".join((*(look for look in looks if look not in noun), noun))]
    return [plain_words(name) for name in wish_of(query).names[:MOST_NAMES]]


def probability_of(score: float, above: float) -> float:
    """A half at the least score that counts, 1 at a score of 1. A rule of thumb."""
    return float(np.clip(0.5 + 0.5 * (score - above) / (1 - above), 0, 1))


def box_iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(0.0, width) * max(0.0, height)
    area = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return common / (area - common) if area > common else 0.0


def part_mask(
    tool: Scored,
    sighting: Sighting,
    masks: Mask,
    quality: NDArray[np.float64],
    part_asked: bool,
    scene: TableScene,
    said: dict[str, Any],
) -> PartMask | None:
    """The PartMask of a sighting; None when too little of the thing is left.

    masks, quality: of the thing and, where it was seen, of its part: (1 or 2, H, W) bool and how good each is said to
    be, in [0, 1]. said: evidence that all sightings share.
    """
    thing = largest_pieces(masks[0])
    part = largest_pieces(masks[1] & thing) if len(masks) > 1 else thing
    if len(masks) > 1 and part.sum() < MIN_PART_PX:  # the part's mask is off its thing
        masks, part = masks[:1], thing
    if part.sum() < MIN_PART_PX:
        return None
    seen = sighting.part if len(masks) > 1 else None
    terms = {"object": probability_of(sighting.thing.score, tool.object_above), "mask": float(quality[len(masks) - 1])}
    if part_asked:
        terms["part"] = probability_of(seen.score, tool.part_above) if seen else WHOLE_INSTEAD
    proposal, overlap = _most_overlapping(thing, scene.proposals)
    evidence = {
        **said,
        "taken": sighting.thing.as_json(),
        "crop": [sighting.crop.x0, sighting.crop.y0, sighting.crop.x1, sighting.crop.y1],
        "part_detections": [p.as_json() for p in sighting.parts],
        "part_taken": seen.as_json() if seen else None,
        "part": "found" if seen else "not found: whole object" if part_asked else "whole object",
        "mask_quality": [round(float(v), 4) for v in quality],
        "proposal": None if proposal is None else proposal.id,
        "proposal_iou": round(overlap, 4),
        "part_px": int(part.sum()),
        "object_px": int(thing.sum()),
        "confidence_terms": {name: round(value, 4) for name, value in terms.items()},
    }
    confidence = float(np.prod(list(terms.values())))
    return PartMask(part, thing, confidence, tool.name, evidence, presence=terms["object"])


def _most_overlapping(mask: Mask, proposals: list[ObjectProposal]) -> tuple[ObjectProposal | None, float]:
    """The proposal with the largest IoU, and the IoU; None where none touches the mask."""
    best, most = None, 0.0
    for proposal in proposals:
        overlap = float((mask & proposal.mask).sum() / max(1, (mask | proposal.mask).sum()))
        if overlap > most:
            best, most = proposal, overlap
    return best, most
