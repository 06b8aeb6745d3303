"""Grounding by zero-shot detection: GroundingDINO finds the thing by its words and, in the thing's own crop, its part;
SAM 2 makes masks of the boxes.

It sees the colour picture alone. What stands on the table is compared with its answer, never put in its place. The
probabilities are rules of thumb: they have not been fitted to truth.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.types import FunctionalQuery, Mask, ObjectProposal, PartMask, RgbdFrame, TableScene
from affordagent.tools.affordance_vlm import MIN_PART_PX, largest_pieces
from affordagent.tools.detection import DINO, SAM2, Box, BoxDetector, BoxSegmenter, Detection, Picture, plain_words
from affordagent.tools.vocabulary import wish_of

TOOL = "grounded_sam2"
OBJECT_ABOVE = 0.3  # GroundingDINO's authors use 0.35 for boxes and 0.25 for words
PART_ABOVE = 0.25  # parts are seen less surely
WORDS_ABOVE = 0.25
MOST_OBJECTS = 3  # that are looked at for their part
CROP_PX = 480  # short side at which crops are shown: a third of the time that 800 take
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


class GroundedSam2Tool:
    """dino, sam2: folders, names in the local cache of the hub, or for GroundingDINO an original `.pth`."""

    def __init__(self, dino: str = DINO, sam2: str = SAM2) -> None:
        self.dino, self.sam2 = dino, sam2

    @cached_property
    def detector(self) -> BoxDetector:
        return BoxDetector(self.dino)

    @cached_property
    def segmenter(self) -> BoxSegmenter:
        return BoxSegmenter(self.sam2)

    def load(self) -> None:
        """Load both models now rather than with the first question.

        Raises:
            AffordAgentError: weights that are not on this computer; the message says how to get them.
        """
        _ = self.detector, self.segmenter

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        """A PartMask for each thing that fits the words, the most confident first.

        `confidence` is the product of `confidence_terms`; `presence` the thing's own term. `evidence`: names and part
        that were asked, all detections (boxes in the picture's pixels, scores, words), the one taken, the predicted
        IoUs, the proposal it overlaps most, attributes that were not used.

        Raises:
            StageFailure: ("ground", grounding.not_found) when no box fits the words, grounding.empty_mask when SAM 2
                leaves less than a part of all boxes.
            AffordAgentError: the weights are not there.
        """
        names, part = names_of(query), plain_words(query.part or "")
        started = time.perf_counter()
        things = self.detector.detect([frame.color], [names], OBJECT_ABOVE, WORDS_ABOVE)[0]
        said: dict[str, Any] = {
            "names": names,
            "part_asked": part or None,
            "weights": {"dino": self.dino, "sam2": self.sam2},
            "attributes_ignored": [name for name in query.attributes if name not in IN_WORDS],
            "detections": [thing.as_json() for thing in things],
        }
        if not things:
            message = f"no box for '{', '.join(names)}' with a score above {OBJECT_ABOVE}: name the thing otherwise"
            raise StageFailure("ground", "grounding.not_found", message, **said)
        sightings = self._look_for_parts(frame.color, things[:MOST_OBJECTS], part)
        detected = time.perf_counter()
        boxes = [s.thing.box for s in sightings] + [s.part.box for s in sightings if s.part]
        masks, iou = self.segmenter.segment(frame.color, boxes)
        said["timings_s"] = {
            "boxes": round(detected - started, 3),
            "masks": round(time.perf_counter() - detected, 3),
        }
        found, of_part = [], len(sightings)
        for i, sighting in enumerate(sightings):
            own = [i]
            if sighting.part:
                own.append(of_part)
                of_part += 1
            result = _part_mask(sighting, masks[own], iou[own], bool(part), scene, said)
            if result is not None:
                found.append(result)
        if not found:
            message = (
                f"SAM 2 left less than {MIN_PART_PX} pixels of each of {len(sightings)} boxes: bring the camera nearer"
            )
            raise StageFailure("ground", "grounding.empty_mask", message, **said)
        return sorted(found, key=lambda p: -p.confidence)

    def _look_for_parts(self, color: Picture, things: list[Detection], part: str) -> list[Sighting]:
        height, width = color.shape[:2]
        crops = [crop_around(thing.box, height, width) for thing in things]
        if not part:
            return [Sighting(thing, crop, []) for thing, crop in zip(things, crops, strict=True)]
        pictures = [crop.of(color) for crop in crops]
        seen = self.detector.detect(pictures, [[part]] * len(crops), PART_ABOVE, WORDS_ABOVE, CROP_PX)
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


def _part_mask(
    sighting: Sighting, masks: Mask, iou: np.ndarray, part_asked: bool, scene: TableScene, said: dict[str, Any]
) -> PartMask | None:
    """masks, iou: of the thing and, where it was seen, of its part. None when too little of the thing is left."""
    thing = largest_pieces(masks[0])
    part = largest_pieces(masks[1] & thing) if len(masks) > 1 else thing
    if len(masks) > 1 and part.sum() < MIN_PART_PX:  # the part's mask is off its thing
        masks, part = masks[:1], thing
    if part.sum() < MIN_PART_PX:
        return None
    seen = sighting.part if len(masks) > 1 else None
    terms = {"object": probability_of(sighting.thing.score, OBJECT_ABOVE), "mask": float(iou[len(masks) - 1])}
    if part_asked:
        terms["part"] = probability_of(seen.score, PART_ABOVE) if seen else WHOLE_INSTEAD
    proposal, overlap = _most_overlapping(thing, scene.proposals)
    evidence = {
        **said,
        "taken": sighting.thing.as_json(),
        "crop": [sighting.crop.x0, sighting.crop.y0, sighting.crop.x1, sighting.crop.y1],
        "part_detections": [p.as_json() for p in sighting.parts],
        "part_taken": seen.as_json() if seen else None,
        "part": "found" if seen else "not found: whole object" if part_asked else "whole object",
        "predicted_iou": [round(float(v), 4) for v in iou],
        "proposal": None if proposal is None else proposal.id,
        "proposal_iou": round(overlap, 4),
        "part_px": int(part.sum()),
        "object_px": int(thing.sum()),
        "confidence_terms": {name: round(value, 4) for name, value in terms.items()},
    }
    confidence = float(np.prod(list(terms.values())))
    return PartMask(part, thing, confidence, TOOL, evidence, presence=terms["object"])


def _most_overlapping(mask: Mask, proposals: list[ObjectProposal]) -> tuple[ObjectProposal | None, float]:
    """The proposal with the largest IoU, and the IoU; None where none touches the mask."""
    best, most = None, 0.0
    for proposal in proposals:
        overlap = float((mask & proposal.mask).sum() / max(1, (mask | proposal.mask).sum()))
        if overlap > most:
            best, most = proposal, overlap
    return best, most
