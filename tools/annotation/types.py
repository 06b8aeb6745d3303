"""What is wanted of a picture, and how its mask came to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from affordagent.core.types import Mask
from affordagent.tools.detection import Box, Picture
from affordagent.tools.segmenter import Prompt

PERSON = "person"  # the tool that comes after all others


@dataclass(frozen=True)
class Wanted:
    """The mask of what is to be annotated. category: what the thing is called. part: of it, None = the whole thing is
    what one holds. original: (H, W) bool, the mask that the source came with. box: x0, y0, x1, y1 of the whole thing in
    pixels, x1, y1 past the end."""

    category: str
    part: str | None = None
    original: Mask | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Candidate:
    """A tool's answer before it is judged. mask: (H, W) bool. jittered: (n, H, W) bool, its answers to boxes that are
    a little off. second: (H, W) bool, what another tool says of the same box. within: the thing's box, which the mask
    should lie in. score: how good the tool itself says it is, in [0, 1]."""

    mask: Mask
    within: Box | None = None
    jittered: Mask | None = None
    second: Mask | None = None
    score: float | None = None


@dataclass(frozen=True)
class Measure:
    """What a quality check measured. rule: "least" or "most", and the limit that an accepted mask keeps; None where the
    tool has none."""

    name: str
    value: float
    rule: str = "least"
    limit: float | None = None

    @property
    def passed(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.rule == "least" else self.value <= self.limit

    @property
    def says(self) -> str:
        """What is wrong, of one that failed."""
        return f"{MEASURES[self.name]} {self.value:.3g}, at {self.rule} {self.limit or 0:.3g} expected"


MEASURES = {
    "pixels": "pixels of the mask:",
    "box_fill": "share of the thing's box that the mask takes:",
    "off_box": "share of the mask outside the thing's box:",
    "apart": "share of the mask in pieces far from the largest:",
    "stability": "overlap (IoU) of the answers to boxes that are a little off:",
    "agreement": "overlap (IoU) with another tool's answer:",
    "score": "the tool's own score:",
}


@dataclass(frozen=True)
class Attempt:
    """What came of one tool. mask: None where it had nothing to say, then `reason` tells why."""

    tool: str
    mask: Mask | None
    accepted: bool
    reason: str
    measures: tuple[Measure, ...] = ()


@dataclass(frozen=True)
class Annotation:
    """mask: (H, W) bool of the first tool whose answer passed, None = a person has to say. tool: its name, or
    "person". reason: why it and not a better one. attempts: all tools that were tried, in the order of priority.
    uncertainty in [0, 1]: for the order in which a person looks at them, 1 = nothing is known."""

    mask: Mask | None
    tool: str
    reason: str
    attempts: tuple[Attempt, ...] = field(default=())
    uncertainty: float = 1.0


class Outliner(Protocol):
    """What makes masks of boxes: `Segmenter`, `Florence2`, `GrabCut`."""

    def segment(self, picture: Picture, prompts: Sequence[Prompt]) -> tuple[Mask, NDArray[np.float64]]: ...


class Maker(Protocol):
    """A tool of the chain. answers: a Candidate for each wish, or in words why there is none."""

    @property
    def name(self) -> str: ...

    def answers(self, picture: Picture, wishes: Sequence[Wanted]) -> list[Candidate | str]: ...
