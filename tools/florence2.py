"""Grounding by Florence-2: it writes the boxes of things and parts down as words, and outlines them itself where there
is no SAM 2.

Xiao et al., "Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks" (CVPR 2024). Places are the
tokens <loc_0> to <loc_999>, thousandths of the picture's width or height.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.types import FunctionalQuery, Mask, PartMask, RgbdFrame, TableScene
from affordagent.tools.detection import Box, Detection, Picture, kept, plain_words, prompt_of
from affordagent.tools.local_weights import best_device, explained, half_precision, place_of, pretrained
from affordagent.tools.segmenter import Prompt, Segmenter
from affordagent.tools.sightings import find_by_words

FLORENCE = "florence-community/Florence-2-base"
BINS = 1000
GROUND, OUTLINE = "<CAPTION_TO_PHRASE_GROUNDING>", "<REGION_TO_SEGMENTATION>"
NEW_TOKENS = {GROUND: 128, OUTLINE: 512}
LOCATION = re.compile(r"<loc_(\d+)>")
MARKS = re.compile(r"[<>]+")  # what the model's own tokens begin and end with


@dataclass(frozen=True)
class Token:
    """What the model wrote: text, and how probable it thought that, in [0, 1]."""

    text: str
    probability: float

    @property
    def location(self) -> int | None:
        found = LOCATION.fullmatch(self.text)
        return int(found[1]) if found else None


class Florence2:
    """weights: a folder, or a hub's name that is in the local cache, in transformers' own format.

    Raises:
        AffordAgentError: no such weights here, or weights of something else.
    """

    def __init__(self, weights: str = FLORENCE) -> None:
        from transformers import Florence2ForConditionalGeneration, Florence2Processor

        self.device = best_device()
        with explained(weights, "Florence-2", FLORENCE):
            self._model = pretrained(Florence2ForConditionalGeneration, weights).eval().to(self.device)
            self._processor = Florence2Processor.from_pretrained(place_of(weights), local_files_only=True)

    def detect(self, pictures: Sequence[Picture], names: Sequence[Sequence[str]]) -> list[list[Detection]]:
        """For each (H, W, 3) uint8 RGB picture the boxes that it writes down for the names, best first. It nearly
        always writes some, whether the thing is there or not. score: geometric mean of the places' probabilities."""
        texts = [GROUND + prompt_of([MARKS.sub(" ", name) for name in some]) for some in names]
        answers = self._answers(pictures, texts, NEW_TOKENS[GROUND])
        return [
            kept(boxes_in(answer, picture.shape[:2]), picture)
            for answer, picture in zip(answers, pictures, strict=True)
        ]

    def segment(self, picture: Picture, prompts: Sequence[Prompt]) -> tuple[Mask, NDArray[np.float64]]:
        """(n, H, W) bool masks for n prompts, all with boxes, in the (H, W, 3) uint8 RGB picture: the polygons that it
        writes down, filled; and the geometric mean of their places' probabilities, (n,)."""
        size = picture.shape[:2]
        regions = ["".join(f"<loc_{v}>" for v in _bins(prompt.box, size)) for prompt in prompts if prompt.box]
        answers = self._answers([picture] * len(regions), [OUTLINE + r for r in regions], NEW_TOKENS[OUTLINE])
        masks = np.stack([_filled(polygons_in(answer, size), size) for answer in answers])
        return masks, np.array([_mean([t.probability for t in a if t.location is not None]) for a in answers])

    def _answers(self, pictures: Sequence[Picture], texts: list[str], new_tokens: int) -> list[list[Token]]:
        import torch

        inputs = self._processor(images=list(pictures), text=texts, padding=True, return_tensors="pt").to(self.device)
        with torch.inference_mode(), half_precision(self.device):
            written = self._model.generate(
                **inputs,
                max_new_tokens=new_tokens,
                do_sample=False,
                num_beams=1,
                early_stopping=False,
                return_dict_in_generate=True,
                output_scores=True,
            )
            logs = self._model.compute_transition_scores(written.sequences, written.scores, normalize_logits=True)
        probabilities = logs.float().exp().cpu().tolist()
        ids = written.sequences[:, -logs.shape[1] :].cpu().tolist()
        return [self._tokens(*row) for row in zip(ids, probabilities, strict=True)]

    def _tokens(self, ids: list[int], probabilities: list[float]) -> list[Token]:
        tokenizer: Any = self._processor.tokenizer
        left_out = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
        return [Token(tokenizer.decode([i]), p) for i, p in zip(ids, probabilities, strict=True) if i not in left_out]


def boxes_in(answer: Sequence[Token], size: tuple[int, int]) -> list[Detection]:
    """The boxes in an answer "red mug<loc_1><loc_2><loc_3><loc_4>hammer<loc_...": four places each, of the words before
    them. size: height, width."""
    found, words = [], ""
    for placed, run in groupby(answer, key=lambda token: token.location is not None):
        tokens = list(run)
        if not placed:
            words = plain_words("".join(token.text for token in tokens))
            continue
        for four in (tokens[i : i + 4] for i in range(0, len(tokens) - 3, 4)):
            x0, y0, x1, y1 = _pixels(four, size)
            found.append(Detection((x0, y0, x1, y1), _mean([token.probability for token in four]), words))
    return found


def polygons_in(answer: Sequence[Token], size: tuple[int, int]) -> list[NDArray[np.float64]]:
    """The polygons in an answer, each (n, 2) x, y in pixels; whatever stands between two runs of places ends one."""
    runs = [list(run) for placed, run in groupby(answer, key=lambda token: token.location is not None) if placed]
    whole = [run[: len(run) // 2 * 2] for run in runs if len(run) >= 6]
    return [np.array(_pixels(run, size)).reshape(-1, 2) for run in whole]


def _pixels(tokens: Sequence[Token], size: tuple[int, int]) -> list[float]:
    """x, y, x, y ... of the middles of the bins."""
    height, width = size
    return [((t.location or 0) + 0.5) * (height if i % 2 else width) / BINS for i, t in enumerate(tokens)]


def _bins(box: Box, size: tuple[int, int]) -> list[int]:
    height, width = size
    return [
        min(BINS - 1, max(0, int(v * BINS / side))) for v, side in zip(box, (width, height, width, height), strict=True)
    ]


def _filled(polygons: list[NDArray[np.float64]], size: tuple[int, int]) -> Mask:
    canvas = np.zeros(size, np.uint8)
    for polygon in polygons:
        cv2.fillPoly(canvas, [np.round(polygon).astype(np.int32)], 1)
    return canvas > 0


def _mean(probabilities: list[float]) -> float:
    """Geometric; 0 of none."""
    return float(np.exp(np.mean(np.log(np.maximum(probabilities, 1e-9))))) if probabilities else 0.0


class Florence2Tool:
    """florence, sam2: folders or names in the local cache of the hub; without `sam2` Florence-2 draws the outlines."""

    name = "florence2"
    object_above = 0.0  # its scores are no measure of whether the thing is there
    part_above = 0.0

    def __init__(self, florence: str = FLORENCE, sam2: str | None = None) -> None:
        self.florence, self.sam2 = florence, sam2

    @cached_property
    def model(self) -> Florence2:
        return Florence2(self.florence)

    @cached_property
    def segmenter(self) -> Segmenter | Florence2:
        return Segmenter(self.sam2) if self.sam2 else self.model

    def load(self) -> None:
        """Load the models now rather than with the first question.

        Raises:
            AffordAgentError: weights that are not on this computer; the message says how to get them.
        """
        _ = self.model, self.segmenter

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        """See `find_by_words`."""
        return find_by_words(self, frame, scene, query, {"florence": self.florence, "sam2": self.sam2})

    def find_things(self, picture: Picture, names: list[str]) -> list[Detection]:
        return self.model.detect([picture], [names])[0]

    def find_parts(self, crops: list[Picture], part: str) -> list[list[Detection]]:
        return self.model.detect(crops, [[part]] * len(crops))

    def outline(self, picture: Picture, prompts: list[Prompt]) -> tuple[Mask, NDArray[np.float64]]:
        return self.segmenter.segment(picture, prompts)
