"""Grounding by pointing: a vision model behind an OpenAI-compatible server is shown the picture and the wish, and says
where the thing and its part are; SAM 2 outlines both, or what stands out of the table where it was pointed at.

The picture is sent as a square of 1000 pixels, padded: for models that answer in pixels and for those that answer in
thousandths of the picture, the same numbers then mean the same places.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from affordagent.core.errors import StageFailure
from affordagent.core.types import FunctionalQuery, Mask, ObjectProposal, PartMask, RgbdFrame, TableScene, box_of
from affordagent.prompts.loader import render
from affordagent.tools.affordance_vlm import grown
from affordagent.tools.chat_model import BadReplyError, ChatModel
from affordagent.tools.detection import Box, Detection, Picture, Point, plain_words
from affordagent.tools.part_geometry import part_by_geometry
from affordagent.tools.segmenter import Prompt, Segmenter
from affordagent.tools.sightings import Sighting, box_iou, crop_around, names_of, nothing_left, part_mask

SIDE_PX = 1000
PADDING = 128
LEAST_OVERLAP = 0.3  # IoU of a box and a thing on the table from which the one means the other
AGREEING = 0.6  # share of the part by its shape that lies in the part's box
NEAR_PX = 10  # from a thing at which a point still means it: its depth may have holes
AROUND_M = 0.025  # how far a part goes that is no more than a point
TOLD = ("text", "object_words", "function", "part", "attributes", "constraints")  # of the query
# How good an outline without SAM 2 is, by where it comes from: rules of thumb.
DEPTH_QUALITY = {"shape": 0.9, "box": 0.7, "around the point": 0.5}

Coordinate = Annotated[float, Field(ge=0, le=SIDE_PX)]


class BoxReply(BaseModel):
    x0: Coordinate
    y0: Coordinate
    x1: Coordinate
    y1: Coordinate


class PointReply(BaseModel):
    x: Coordinate
    y: Coordinate


class Place(BaseModel):
    """A box, a point, or both. Lists in the usual order are taken too, and fractions of the picture."""

    box: BoxReply | None = None
    point: PointReply | None = None

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        read: dict[str, Any] = {}
        for name, fields in (("box", BoxReply.model_fields), ("point", PointReply.model_fields)):
            value = given.get(name)
            read[name] = dict(zip(fields, value, strict=False)) if isinstance(value, list) else value
        values = [v for place in read.values() if isinstance(place, dict) for v in place.values()]
        if values and all(isinstance(v, int | float) and 0 <= v <= 1 for v in values) and any(values):
            for place in filter(None, read.values()):
                place.update({name: v * SIDE_PX for name, v in place.items()})
        return read

    @model_validator(mode="after")
    def _somewhere(self) -> Place:
        if self.box is None and self.point is None:
            raise ValueError("neither a box nor a point")
        return self


class Pointing(BaseModel):
    """What the model is to answer; see prompts/point_at_part.md."""

    there: bool
    object: Place | None = None
    part: Place | None = None
    confidence: float = Field(default=0.5, ge=0, le=1)
    reason: str = ""

    @model_validator(mode="after")
    def _object_of_what_is_there(self) -> Pointing:
        if self.there and self.object is None:
            raise ValueError("'there' is true, but 'object' is null")
        return self


@dataclass(frozen=True)
class Square:
    """The picture as it was sent: scaled, in the upper left of a padded square."""

    picture: Picture
    scale: float
    height: int
    width: int

    def prompt(self, place: Place) -> Prompt | None:
        """In the pixels of the picture itself; None where nothing of it is inside the picture."""
        box, point = None, None
        if place.box is not None:
            b = place.box
            xs, ys = sorted((b.x0, b.x1)), sorted((b.y0, b.y1))
            cut = (self._x(xs[0]), self._y(ys[0]), self._x(xs[1]), self._y(ys[1]))
            box = cut if min(cut[2] - cut[0], cut[3] - cut[1]) >= 1 else None
        if place.point is not None:
            x, y = place.point.x / self.scale, place.point.y / self.scale
            point = (x, y) if x < self.width and y < self.height else None
        return Prompt(box, point) if box or point else None

    def _x(self, value: float) -> float:
        return min(value / self.scale, float(self.width))

    def _y(self, value: float) -> float:
        return min(value / self.scale, float(self.height))


def squared(picture: Picture) -> Square:
    """The (H, W, 3) uint8 picture in a square of SIDE_PX."""
    height, width = picture.shape[:2]
    scale = SIDE_PX / max(height, width)
    small = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.full((SIDE_PX, SIDE_PX, 3), PADDING, np.uint8)
    canvas[: small[1], : small[0]] = cv2.resize(
        picture, small, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    )
    return Square(canvas, scale, height, width)


class PointingTool:
    """url, model: see `ChatModel`. sam2: see `Segmenter`; without it the thing is what stands out of the table where
    the model points."""

    name = "vlm_pointing"
    object_above = 0.0  # the model says whether the thing is there
    part_above = 0.0

    def __init__(self, url: str, model: str, sam2: str | None = None) -> None:
        self.url, self.model, self.sam2 = url, model, sam2

    @cached_property
    def chat(self) -> ChatModel:
        return ChatModel(self.url, self.model)

    @cached_property
    def segmenter(self) -> Segmenter | None:
        return Segmenter(self.sam2) if self.sam2 else None

    def load(self) -> None:
        """Ask the server whether it is there, and load SAM 2.

        Raises:
            AffordAgentError: the server is out of reach or refuses the key; SAM 2's weights are not on this computer.
        """
        _ = self.segmenter
        self.chat.check()

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        """The PartMask of the one thing that the model points at.

        `evidence` holds its answer as it came, who made the outlines, and what `part_mask` says (boxes and points there
        are in the picture's pixels).

        Raises:
            StageFailure: ("ground", code) with grounding.not_found when it says that the thing is not there,
                grounding.bad_answer when its answer has not the form asked for or points out of the picture,
                grounding.empty_mask when nothing can be outlined there.
            AffordAgentError: the server is out of reach, too slow, or refuses.
        """
        part = plain_words(query.part or "")
        said: dict[str, Any] = {
            "weights": {"model": self.model, "url": self.url, "sam2": self.sam2},
            "names": names_of(query),
            "part_asked": part or None,
        }
        started = time.perf_counter()
        square = squared(frame.color)
        reply = self._ask(square, query, part, said)
        said |= {"answer": reply.model_dump(), "timings_s": {"answer": round(time.perf_counter() - started, 3)}}
        if not reply.there:
            message = f"{self.model} sees no {' or '.join(said['names'])} here ({reply.reason or 'no reason given'})"
            raise StageFailure("ground", "grounding.not_found", message, **said)
        prompts = [_inside(square, "object", reply.object, self.model, said)]
        if part and reply.part:
            prompts.append(_inside(square, "part", reply.part, self.model, said))
        if self.segmenter is not None:
            masks, quality = self.segmenter.segment(frame.color, prompts)
            said["outlined_by"] = ["SAM 2"] * len(prompts)
        else:
            masks, quality, said["outlined_by"] = outline_by_depth(frame, scene, query, prompts)
        result = self._assembled(reply, prompts, masks, quality, bool(part), scene, said)
        if result is None:
            raise nothing_left(1, said)
        return [result]

    def _ask(self, square: Square, query: FunctionalQuery, part: str, said: dict[str, Any]) -> Pointing:
        wish = {"names": said["names"], **query.model_dump(include=set(TOLD), exclude_none=True)}
        text = json.dumps(wish, ensure_ascii=False, indent=1)
        prompt = render("point_at_part", side=SIDE_PX, wish=text, part=part or None)
        try:
            return self.chat.ask(prompt, Pointing, square.picture)
        except BadReplyError as error:
            said["answers"] = error.replies
            raise StageFailure("ground", "grounding.bad_answer", str(error), **said) from error

    def _assembled(
        self,
        reply: Pointing,
        prompts: Sequence[Prompt],
        masks: Mask,
        quality: NDArray[np.float64],
        part_asked: bool,
        scene: TableScene,
        said: dict[str, Any],
    ) -> PartMask | None:
        if not all(mask.any() for mask in masks[:1]):
            return None
        words = ("thing", "part")
        seen = [
            Detection(prompt.box or _float_box(mask), reply.confidence, name, prompt.point)
            for prompt, mask, name in zip(prompts, masks, words, strict=False)
            if mask.any()
        ]
        sighting = Sighting(seen[0], crop_around(seen[0].box, *masks.shape[1:]), seen[1:])
        n = len(sighting.prompts)
        return part_mask(self, sighting, masks[:n], quality[:n], part_asked, scene, said)


def outline_by_depth(
    frame: RgbdFrame, scene: TableScene, query: FunctionalQuery, prompts: Sequence[Prompt]
) -> tuple[Mask, NDArray[np.float64], list[str]]:
    """(n, H, W) masks of the thing and, with a second prompt, of its part; how good they are by rules of thumb, (n,);
    and where each comes from.

    The thing is the proposal under the point or in the box. Its part is the one that its shape shows, where that agrees
    with what was pointed at; else what the part's box holds of it; else its pixels within 25 mm of the point.

    Raises:
        StageFailure: ("ground", grounding.empty_mask): nothing stands out of the table there.
    """
    thing = pointed_proposal(scene.proposals, prompts[0])
    if thing is None:
        raise StageFailure(
            "ground",
            "grounding.empty_mask",
            "the model points at a place where nothing stands out of the table, and without SAM 2 nothing else can "
            "outline it: name SAM 2's weights in the setting, or put the thing where the camera sees its depth",
            proposals=len(scene.proposals),
            pointed_at=[vars(prompt) for prompt in prompts],
        )
    overlap = box_iou(prompts[0].box, _float_box(thing.mask)) if prompts[0].box else 0.5
    masks, quality, how = [thing.mask], [0.5 + 0.5 * overlap], ["depth"]
    if len(prompts) > 1:
        mask, whence = _part_by_depth(frame, scene, thing, query, prompts[1])
        masks.append(mask)
        quality.append(DEPTH_QUALITY[whence])
        how.append(f"depth, {whence}")
    return np.stack(masks), np.array(quality), how


def pointed_proposal(proposals: Sequence[ObjectProposal], prompt: Prompt) -> ObjectProposal | None:
    """The thing under the point, else the one that the box is drawn around; without a box, one within NEAR_PX."""
    if not proposals:
        return None
    if prompt.point is not None:
        away_px, nearest = min(((_distance_px(p.mask, prompt.point), p) for p in proposals), key=lambda pair: pair[0])
        if away_px <= (0 if prompt.box else NEAR_PX):
            return nearest
    if prompt.box is None:
        return None
    overlap, best = max(((box_iou(prompt.box, _float_box(p.mask)), p) for p in proposals), key=lambda pair: pair[0])
    return best if overlap >= LEAST_OVERLAP else None


def _distance_px(mask: Mask, point: Point) -> float:
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    return float(away[int(point[1]), int(point[0])])


def _part_by_depth(
    frame: RgbdFrame, scene: TableScene, thing: ObjectProposal, query: FunctionalQuery, prompt: Prompt
) -> tuple[Mask, str]:
    boxed = _filled(prompt.box, thing.mask.shape) if prompt.box else None
    shape = part_by_geometry(frame, scene, thing, query.part or "", query.category)
    if shape is not None and shape.any():
        in_box = boxed is None or (shape & boxed).sum() >= AGREEING * shape.sum()
        on_point = prompt.point is None or grown(shape)[int(prompt.point[1]), int(prompt.point[0])]
        if in_box and on_point:
            return shape, "shape"
    if boxed is not None:
        return thing.mask & boxed, "box"
    return thing.mask & _disc(frame, prompt.point or (0, 0)), "around the point"


def _disc(frame: RgbdFrame, point: Point) -> Mask:
    """What lies within AROUND_M of a point in the picture; where it has no depth, within 5 % of the picture's width."""
    height, width = frame.depth_m.shape
    depth_m = frame.depth_m[int(point[1]), int(point[0])]
    radius_px = frame.camera.fx * AROUND_M / depth_m if depth_m > 0 else width / 20
    rows, columns = np.ogrid[:height, :width]
    return (columns - point[0]) ** 2 + (rows - point[1]) ** 2 <= radius_px**2


def _filled(box: Box, shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, bool)
    x0, y0, x1, y1 = (round(v) for v in box)
    mask[y0:y1, x0:x1] = True
    return mask


def _float_box(mask: Mask) -> Box:
    x0, y0, x1, y1 = box_of(mask)
    return float(x0), float(y0), float(x1), float(y1)


def _inside(square: Square, what: str, place: Place | None, model: str, said: dict[str, Any]) -> Prompt:
    prompt = square.prompt(place) if place else None
    if prompt is None:
        raise StageFailure(
            "ground",
            "grounding.bad_answer",
            f"{model} places the {what} outside of the picture ({square.width} x {square.height} pixels): try again, "
            "or take another model",
            **said,
        )
    return prompt
