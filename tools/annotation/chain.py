"""Annotation by priority: the best tool that has an answer that passes its checks; after all of them a person.

The order is RAGNet's (Wu et al., ICCV 2025): the source's own mask, SAM 2 from a box, Florence-2's box with SAM 2, a
part detector with SAM 2, a person. Limits of the checks are fitted per tool where the truth is known, on development
pictures of the simulated cell (`affordagent eval annotation --fit`), and lie in `thresholds.json`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask
from affordagent.tools.annotation.makers import Original, Outlined, PartOf, by_name, by_part, in_given_boxes
from affordagent.tools.annotation.stand_ins import GrabCut, MiniModel
from affordagent.tools.annotation.types import PERSON, Annotation, Attempt, Candidate, Maker, Measure, Outliner, Wanted
from affordagent.tools.detection import Box, BoxDetector, Picture, whole_pixels
from affordagent.tools.florence2 import Florence2
from affordagent.tools.grounded_sam2 import CROP_PX, WORDS_ABOVE, GroundedSam2Tool
from affordagent.tools.mask_checks import far_pieces
from affordagent.tools.segmenter import Segmenter

THRESHOLDS = Path(__file__).parent / "thresholds.json"
DOUBT = ("stability", "agreement", "score")  # measures in [0, 1] that say how sure an answer is


@dataclass(frozen=True)
class Weights:
    """Where the weights are, as the tools take them; None: a stand-in serves, under its own name."""

    sam2: str | None = None
    florence: str | None = None
    dino: str | None = None


class Chain:
    """makers: the tools in the order of priority. limits: as `fitted_limits`."""

    def __init__(self, makers: Sequence[Maker], limits: dict[str, dict[str, tuple[str, float]]] | None = None) -> None:
        self.makers = tuple(makers)
        self.limits = fitted_limits() if limits is None else limits

    def annotate(self, picture: Picture, wishes: Sequence[Wanted]) -> list[Annotation]:
        """The masks of all that is wanted of one (H, W, 3) uint8 RGB picture, in the order of the wishes.

        Raises:
            AffordAgentError: a wish that does not fit the picture, or weights that are not on this computer.
        """
        for wish in wishes:
            check_wish(wish, picture)
        attempts: list[list[Attempt]] = [[] for _ in wishes]
        for maker in self.makers:
            still = [i for i, tried in enumerate(attempts) if not (tried and tried[-1].accepted)]
            answers = maker.answers(picture, [wishes[i] for i in still]) if still else []
            for i, answer in zip(still, answers, strict=True):
                attempts[i].append(self.judged(maker.name, answer))
        return [annotation_of(tried) for tried in attempts]

    def judged(self, tool: str, answer: Candidate | str) -> Attempt:
        """An answer against the limits of its tool; a tool without limits of its own keeps to those of "any"."""
        if isinstance(answer, str):
            return Attempt(tool, None, False, answer)
        limits = self.limits["any"] | self.limits.get(tool, {})
        measures = tuple(Measure(name, value, *limits.get(name, ())) for name, value in measured(answer).items())
        failed = [measure.says for measure in measures if not measure.passed]
        return Attempt(tool, answer.mask, not failed, "; ".join(failed) or "all checks passed", measures)


def chain_of(weights: Weights) -> Chain:
    """The tools that these weights make. Models are loaded on first use."""
    mini, loaded = MiniModel(), _Loaded(weights)
    outliner: Outliner = loaded if weights.sam2 else GrabCut()
    drawn = "sam2" if weights.sam2 else "grabcut"
    finder, find = ("florence2", loaded.florence_find) if weights.florence else ("proposals", mini.find)
    makers: list[Maker] = [
        Original(),
        Outlined(f"{drawn}_box", in_given_boxes, outliner, mini.masks),
        Outlined(f"{finder}_{drawn}", by_name(find), outliner, mini.masks),
    ]
    if weights.dino:
        makers.append(Outlined(f"part_detector_{drawn}", by_part(loaded.dino_find, loaded.dino_parts), outliner))
    else:
        makers.append(PartOf("mini_parts", mini.find, mini.masks))
    return Chain(makers)


class _Loaded:
    """The models behind the weights, each loaded when it is first asked."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    @cached_property
    def _sam2(self) -> Segmenter:
        return Segmenter(str(self.weights.sam2))

    @cached_property
    def _florence(self) -> Florence2:
        return Florence2(str(self.weights.florence))

    @cached_property
    def _dino(self) -> BoxDetector:
        return BoxDetector(str(self.weights.dino))

    def segment(self, picture: Picture, prompts: Any) -> Any:
        return self._sam2.segment(picture, prompts)

    def florence_find(self, picture: Picture, names: Sequence[str]) -> Any:
        return self._florence.detect([picture] * len(names), [[name] for name in names])

    def dino_find(self, picture: Picture, names: Sequence[str]) -> Any:
        above = GroundedSam2Tool.object_above
        return self._dino.detect([picture] * len(names), [[name] for name in names], above, WORDS_ABOVE)

    def dino_parts(self, crops: list[Picture], words: list[str]) -> Any:
        return self._dino.detect(crops, [[w] for w in words], GroundedSam2Tool.part_above, WORDS_ABOVE, CROP_PX)


def annotation_of(attempts: Sequence[Attempt]) -> Annotation:
    """What the attempts come to."""
    last = attempts[-1] if attempts else None
    tried = "; ".join(f"{attempt.tool}: {attempt.reason}" for attempt in attempts if not attempt.accepted)
    if last is None or not last.accepted:
        sure = max((_sureness(attempt) for attempt in attempts), default=0.0)
        return Annotation(None, PERSON, tried or "no tool was asked", tuple(attempts), 1 - sure / 2)
    return Annotation(last.mask, last.tool, tried or "the first choice", tuple(attempts), (1 - _sureness(last)) / 2)


def _sureness(attempt: Attempt) -> float:
    """In [0, 1]: the least of what says how sure the answer is; 1 where nothing measures it, 0 without an answer."""
    if attempt.mask is None:
        return 0.0
    return float(np.clip(min((m.value for m in attempt.measures if m.name in DOUBT), default=1.0), 0, 1))


def measured(answer: Candidate) -> dict[str, float]:
    """The measures that apply to an answer. An empty mask has the first alone."""
    pixels = int(answer.mask.sum())
    values = {"pixels": float(pixels)}
    if not pixels:
        return values
    values["apart"] = far_pieces(answer.mask)
    if answer.within is not None:
        inside = np.zeros_like(answer.mask)
        x0, y0, x1, y1 = whole_pixels(answer.within, *answer.mask.shape)
        inside[y0:y1, x0:x1] = True
        values["off_box"] = 1 - float((answer.mask & inside).sum()) / pixels
        values["box_fill"] = float((answer.mask & inside).sum()) / float(inside.sum())
    if answer.jittered is not None:
        values["stability"] = float(np.mean([iou(mask, answer.mask) for mask in answer.jittered]))
    if answer.second is not None:
        values["agreement"] = iou(answer.second, answer.mask)
    if answer.score is not None:
        values["score"] = answer.score
    return values


def iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two (H, W) bool masks; 0 of two that are empty."""
    return float((a & b).sum() / max((a | b).sum(), 1))


@cache
def fitted_limits() -> dict[str, dict[str, tuple[str, float]]]:
    """tool -> name of a measure -> ("least" or "most", limit)."""
    stored = json.loads(THRESHOLDS.read_text())["limits"]
    return {tool: {name: (rule, float(value)) for name, (rule, value) in of.items()} for tool, of in stored.items()}


def check_wish(wish: Wanted, picture: Picture) -> None:
    """Raises:
    AffordAgentError: its mask or its box do not fit the picture.
    """
    height, width = picture.shape[:2]
    if wish.original is not None and wish.original.shape != (height, width):
        raise AffordAgentError(f"the mask is {wish.original.shape}, the picture {(height, width)}: they must agree")
    if wish.box is not None and not _is_box(wish.box, height, width):
        raise AffordAgentError(f"the box {wish.box} is none inside a picture of {width} x {height} pixels")


def _is_box(box: Box, height: int, width: int) -> bool:
    x0, y0, x1, y1 = box
    return bool(np.isfinite(box).all() and x0 < x1 and y0 < y1 and x0 < width and y0 < height and x1 > 0 and y1 > 0)
