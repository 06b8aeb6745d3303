"""Grounding by zero-shot detection: GroundingDINO finds the thing by its words and, in the thing's own crop, its part;
SAM 2 makes masks of the boxes."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from affordagent.core.types import FunctionalQuery, Mask, PartMask, RgbdFrame, TableScene
from affordagent.tools.detection import DINO, BoxDetector, Detection, Picture
from affordagent.tools.segmenter import SAM2, Prompt, Segmenter
from affordagent.tools.sightings import find_by_words

WORDS_ABOVE = 0.25  # GroundingDINO's authors use 0.35 for boxes and 0.25 for words
CROP_PX = 480  # short side at which crops are shown: a third of the time that 800 take


class GroundedSam2Tool:
    """dino, sam2: folders, names in the local cache of the hub, or an original `.pth` of GroundingDINO and a `.pt` of
    SAM 2."""

    name = "grounded_sam2"
    object_above = 0.3
    part_above = 0.25  # parts are seen less surely

    def __init__(self, dino: str = DINO, sam2: str = SAM2) -> None:
        self.dino, self.sam2 = dino, sam2

    @cached_property
    def detector(self) -> BoxDetector:
        return BoxDetector(self.dino)

    @cached_property
    def segmenter(self) -> Segmenter:
        return Segmenter(self.sam2)

    def load(self) -> None:
        """Load both models now rather than with the first question.

        Raises:
            AffordAgentError: weights that are not on this computer; the message says how to get them.
        """
        _ = self.detector, self.segmenter

    def find(self, frame: RgbdFrame, scene: TableScene, query: FunctionalQuery) -> list[PartMask]:
        """See `find_by_words`."""
        return find_by_words(self, frame, scene, query, {"dino": self.dino, "sam2": self.sam2})

    def find_things(self, picture: Picture, names: list[str]) -> list[Detection]:
        return self.detector.detect([picture], [names], self.object_above, WORDS_ABOVE)[0]

    def find_parts(self, crops: list[Picture], part: str) -> list[list[Detection]]:
        return self.detector.detect(crops, [[part]] * len(crops), self.part_above, WORDS_ABOVE, CROP_PX)

    def outline(self, picture: Picture, prompts: list[Prompt]) -> tuple[Mask, NDArray[np.float64]]:
        return self.segmenter.segment(picture, prompts)
