"""What serves where the weights of SAM 2, Florence-2 and GroundingDINO are not on the computer: GrabCut, and the small
models that are shipped. Their names say so in every row that they made."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.types import FunctionalQuery, Mask
from affordagent.tools.affordance_vlm import AffordanceTool, largest_pieces
from affordagent.tools.detection import Box, Detection, Picture, whole_pixels
from affordagent.tools.rgb_proposals import made_up_camera, scene_of_picture
from affordagent.tools.segmenter import Prompt

MARGIN = 0.35  # of the box's longer side: what lies around it is background
SHOWN_PX = 160  # longer side at which GrabCut works
ROUNDS = 4  # of GrabCut; it has settled by then


class GrabCut:
    """Rother et al., "GrabCut" (SIGGRAPH 2004), as OpenCV has it: what is in the box and unlike what is around it."""

    def segment(self, picture: Picture, prompts: Sequence[Prompt]) -> tuple[Mask, NDArray[np.float64]]:
        """(n, H, W) bool masks for n prompts, all with boxes, in the (H, W, 3) uint8 RGB picture; scores are all 0.5:
        it has none of its own."""
        boxes = [prompt.box for prompt in prompts if prompt.box is not None]
        return np.stack([_cut_out(picture, box) for box in boxes]), np.full(len(boxes), 0.5)


def _cut_out(picture: Picture, box: Box) -> Mask:
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = whole_pixels(box, height, width)
    margin = int(MARGIN * max(x1 - x0, y1 - y0)) + 4
    left, top = max(0, x0 - margin), max(0, y0 - margin)
    crop = np.ascontiguousarray(picture[top : y1 + margin, left : x1 + margin])
    scale = min(1.0, SHOWN_PX / max(crop.shape[:2]))
    small = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    marks = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    inner = [round(v * scale) for v in (x0 - left, y0 - top, x1 - left, y1 - top)]
    marks[inner[1] : inner[3], inner[0] : inner[2]] = cv2.GC_PR_FGD
    mask = np.zeros((height, width), bool)
    if (marks == cv2.GC_BGD).any() and (marks == cv2.GC_PR_FGD).any():
        cv2.setRNGSeed(0)  # it starts from k-means
        whole = (0, 0, small.shape[1], small.shape[0])  # not looked at: the marks say what is what
        cv2.grabCut(small, marks, whole, np.zeros((1, 65)), np.zeros((1, 65)), ROUNDS, cv2.GC_INIT_WITH_MASK)
        thing = np.isin(marks, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
        size = (crop.shape[1], crop.shape[0])
        mask[top : top + size[1], left : left + size[0]] = cv2.resize(thing, size) > 0.5
    else:  # the box is the picture: nothing is known of the background
        mask[y0:y1, x0:x1] = True
    return mask


class MiniModel:
    """The shipped mini AffordanceVLM as a finder of things by their name, and of the part in a thing's box."""

    @cached_property
    def tool(self) -> AffordanceTool:
        return AffordanceTool()

    def find(self, picture: Picture, names: Sequence[str]) -> list[list[Detection]]:
        """For each name the things of the picture, the one that fits it best first; score: its share of the fit."""
        frame, scene = scene_of_picture(picture)
        look = self.tool.look(frame, scene)
        boxes = [_floats(proposal.box) for proposal in scene.proposals]
        found = []
        for name in names:
            share = self.tool.rank(look, _asking_for(name)).share
            found.append([Detection(boxes[i], float(share[i]), name) for i in np.argsort(-share)])
        return found

    def masks(self, picture: Picture, box: Box, name: str) -> tuple[Mask, Mask]:
        """(H, W) bool masks of the part to hold and of the whole thing, of the thing of that name in the box."""
        from affordagent.finetune.mini_predictor import View

        height, width = picture.shape[:2]
        x0, y0, x1, y1 = whole_pixels(box, height, width)
        rectangle = np.zeros((height, width), bool)
        rectangle[y0:y1, x0:x1] = True
        part, whole = self.tool.predictor.masks(View(picture, made_up_camera(height, width)), rectangle, f"the {name}")
        return largest_pieces(part > 0.5), largest_pieces(whole > 0.5)


def _asking_for(name: str) -> FunctionalQuery:
    return FunctionalQuery(text=f"the {name}", intent="pick", category=name, object_words=name)


def _floats(box: tuple[int, int, int, int]) -> Box:
    x0, y0, x1, y1 = box
    return float(x0), float(y0), float(x1), float(y1)
