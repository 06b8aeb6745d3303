"""Grounding with an AffordanceVLM in the published format, here or behind a server: a question, an answer, masks.

Such a model sees the colour picture alone and always answers something: it cannot be trusted to say that a thing is not
there. Its mask is compared with what stands on the table, and the confidence follows from how well they agree.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.catalogue import catalogue
from affordagent.core.errors import StageFailure
from affordagent.core.types import FunctionalQuery, Mask, ObjectProposal, PartMask, RgbdFrame, TableScene, VlmAnswer
from affordagent.tools.affordance_vlm import MIN_PART_PX, largest_pieces
from affordagent.tools.part_geometry import HANDLES
from affordagent.tools.vlm_wire import Vlm

TOOL = "published_vlm"
LEAST_INSIDE = 0.2  # share of a mask on one proposal, below which it marks something that was not proposed
LONE_FACTOR = 0.3  # on the confidence of a mask on nothing that was proposed: never sure, never enough alone
LARGEST_SHARE = 0.25  # of the picture, that a part seen by a camera over a table plausibly covers
CONTROL = re.compile(r"\[(?:AFF|SEG)\]|<[^<>]*>")  # what the model would take for tokens of its own


def question_of(query: FunctionalQuery) -> str:
    """The training template for a thing with a name; the person's own text where only a function is given, or where
    another part is wanted than the one such a thing is held by."""
    known = catalogue().get(query.category or "")
    usual = query.part is None or query.part in HANDLES or (known is not None and query.part == known.part)
    name = CONTROL.sub(" ", query.object_words or "").strip()
    if not name or not usual:
        return " ".join(CONTROL.sub(" ", query.text).split())
    colour = query.attributes.get("colour")
    return f"What is the affordance map of {f'{colour} {name}' if colour else name} in this image?"


class PublishedVlmTool:
    """Finds the part to hold with a local predictor or a client of one.

    open_vlm: makes the model ready and returns it; called once, by `load` or the first question. source: what the
    evidence names, a folder's name or a URL.
    """

    def __init__(self, open_vlm: Callable[[], Vlm], source: str) -> None:
        self._open_vlm, self.source = open_vlm, source

    @cached_property
    def vlm(self) -> Vlm:
        return self._open_vlm()

    def load(self) -> None:
        """Load the model, or find its server, now rather than with the first question.

        Raises:
            AffordAgentError: no such model, or the server is out of reach.
        """
        _ = self.vlm

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        """A PartMask for each mask of the answer, those of [AFF] before those of [SEG].

        The object is the proposal that holds most of the mask, and the part is what of the mask lies on it; without
        such a proposal the mask is both. `confidence` is certainty x plausible area x agreement with the proposal (see
        `confidence_of`), in [0, 1] and not calibrated against truth.

        Raises:
            StageFailure: ("ground", grounding.not_found) when the answer has no mask, grounding.empty_mask when its
                masks are blank or specks.
            AffordAgentError: the server failed or is out of reach.
        """
        question = question_of(query)
        answer = self.vlm.answer(frame.color, question)
        said: dict[str, object] = {
            "question": question,
            "answer": answer.text,
            "source": self.source,
            "timings_s": answer.timings_s,
        }
        if not len(answer.mask_logits):
            message = f"the model answered '{answer.text}' without a mask: name the thing otherwise"
            raise StageFailure("ground", "grounding.not_found", message, **said)
        found = [self._part(logits, scene, said) for logits in _parts_first(answer)]
        parts = [part for part in found if part is not None]
        if not parts:
            largest = int(answer.masks.sum((1, 2)).max())
            message = (
                f"the largest of {len(found)} masks has {largest} pixels, a piece of at least {MIN_PART_PX} is needed: "
                "bring the camera nearer, or name the thing otherwise"
            )
            raise StageFailure("ground", "grounding.empty_mask", message, **said)
        return parts

    def _part(self, logits: NDArray[np.float32], scene: TableScene, said: dict[str, object]) -> PartMask | None:
        """The part that one mask marks; None when too little of it is left."""
        marked = largest_pieces(logits > 0)
        proposal = _most_marked(marked, scene.proposals)
        part = marked if proposal is None else marked & _near(proposal.mask)
        if part.sum() < MIN_PART_PX:
            return None
        confidence, terms = confidence_of(logits, marked, part, proposal)
        evidence = {
            **said,
            "proposal": None if proposal is None else proposal.id,
            "mask_px": int((logits > 0).sum()),
            "part_px": int(part.sum()),
            "object_px": None if proposal is None else int(proposal.mask.sum()),
            "confidence_terms": terms,
        }
        return PartMask(part, part if proposal is None else proposal.mask | part, confidence, TOOL, evidence)


def confidence_of(
    logits: NDArray[np.float32], marked: Mask, part: Mask, proposal: ObjectProposal | None
) -> tuple[float, dict[str, float]]:
    """Product of three terms in [0, 1], and the terms. Rules of thumb, not fitted to truth.

    certainty: tanh(m / 2) for the mean logit m inside, which is 2 p - 1 for a pixel's probability p. area: 1 up to a
    quarter of the picture, falling to 0 at the whole of it. agreement: share of the mask that lies on the proposal, a
    constant 0.3 without one.
    """
    covered = float(marked.mean())
    terms = {
        "certainty": float(np.tanh(logits[part].mean(dtype=np.float64) / 2)),
        "area": float(np.clip((1 - covered) / (1 - LARGEST_SHARE), 0, 1)),
        "agreement": LONE_FACTOR if proposal is None else float(part.sum() / marked.sum()),
    }
    confidence = float(np.clip(np.prod(list(terms.values())), 0, 1))
    return confidence, {name: round(value, 4) for name, value in terms.items()}


def _parts_first(answer: VlmAnswer) -> list[NDArray[np.float32]]:
    """The logits, those of [AFF] first where the text tells which are whose, else as they came."""
    kinds = re.findall(r"\[(AFF|SEG)\]", answer.text)
    if len(kinds) != len(answer.mask_logits):  # the question held such a token too
        return list(answer.mask_logits)
    order = sorted(range(len(kinds)), key=lambda i: kinds[i] != "AFF")
    return [answer.mask_logits[i] for i in order]


def _most_marked(marked: Mask, proposals: list[ObjectProposal]) -> ObjectProposal | None:
    """The proposal that holds most of the mask, None when that is too little."""
    best = max(proposals, key=lambda p: int((marked & p.mask).sum()), default=None)
    if best is None or (marked & best.mask).sum() < max(1.0, LEAST_INSIDE * marked.sum()):
        return None
    return best


def _near(mask: Mask) -> Mask:
    """The mask and a rim of a 160th of the picture's height: proposals from depth are a little small."""
    side = 2 * max(1, round(mask.shape[0] / 160)) + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
