"""What the page's tools do with a click or a box: SAM 2 where its weights are, else colours and GrabCut."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from affordagent.agent.web.masks import Click, edited
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask, RgbdFrame
from affordagent.tools.annotation.stand_ins import GrabCut
from affordagent.tools.detection import Box, Picture
from affordagent.tools.rgb_proposals import made_up_camera
from affordagent.tools.segmenter import Prompt, Segmenter

LIKE_LAB = (20.0, 14.0, 14.0)  # how far a colour may be from the clicked one: CIE L, a, b
CLOSED = 0.003  # of the picture's longer side: gaps so narrow are part of the region
FILLED = 2
AROUND = 0.15  # of the thing's box: how much farther than the box the region may reach


@dataclass(frozen=True)
class Helper:
    """segmenter: SAM 2, None = without."""

    segmenter: Segmenter | None = None

    def clicked(self, picture: Picture, mask: Mask, click: Click, thing: Box | None) -> Mask:
        """(H, W) bool: the mask with the region under the click, or without it. picture: (H, W, 3) uint8 RGB. thing:
        the box of what the row is about, which the region stays around when the click is there.

        Raises:
            AffordAgentError: the click is outside the picture.
        """
        height, width = picture.shape[:2]
        if not (0 <= click.x < width and 0 <= click.y < height):
            raise AffordAgentError(f"the click ({click.x}, {click.y}) is outside the picture of {width} x {height}")
        if self.segmenter is not None:
            return edited(_frame(picture), mask, click, segmenter=self.segmenter)
        region = _like(picture, click, _around(picture, click, thing))
        return mask | region if click.add else mask & ~region

    def boxed(self, picture: Picture, mask: Mask, box: Box, add: bool) -> Mask:
        """(H, W) bool: the mask with what stands out in the box (x0, y0, x1, y1, pixels), or without it.

        Raises:
            AffordAgentError: the box is smaller than 2 x 2 pixels, or outside the picture.
        """
        height, width = picture.shape[:2]
        x0, y0, x1, y1 = box
        if not (0 <= x0 <= x1 - 2 and x1 <= width and 0 <= y0 <= y1 - 2 and y1 <= height):
            raise AffordAgentError(f"the box {list(box)} is not one of 2 x 2 pixels or more inside {width} x {height}")
        masks, _ = (self.segmenter or GrabCut()).segment(picture, [Prompt(box=box)])
        return mask | masks[0] if add else mask & ~masks[0]


def _frame(picture: Picture) -> RgbdFrame:
    """The picture as SAM 2 is given it here, without depth."""
    size = picture.shape[:2]
    return RgbdFrame(picture, np.zeros(size, np.float32), made_up_camera(*size), source="picture")


def _around(picture: Picture, click: Click, thing: Box | None) -> Mask:
    """(H, W) bool: where the region may be: around the thing's box when the click is in there, else anywhere."""
    height, width = picture.shape[:2]
    if thing is not None:
        x0, y0, x1, y1 = thing
        far = AROUND * max(x1 - x0, y1 - y0) + 2
        rows, columns = np.ogrid[:height, :width]
        near = (columns >= x0 - far) & (columns <= x1 + far) & (rows >= y0 - far) & (rows <= y1 + far)
        if near[click.y, click.x]:
            return np.asarray(near, bool)
    return np.ones((height, width), bool)


def _like(picture: Picture, click: Click, within: Mask) -> Mask:
    """(H, W) bool: what is of the clicked colour and connected with the click; narrow gaps are closed."""
    height, width = within.shape
    lab = cv2.cvtColor(cv2.medianBlur(picture, 5).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    marks = np.pad(~within, 1, constant_values=True).astype(np.uint8)
    flags = 4 | (FILLED << 8) | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE
    cv2.floodFill(lab, marks, (click.x, click.y), (0, 0, 0), LIKE_LAB, LIKE_LAB, flags)
    side = 2 * max(1, round(CLOSED * max(height, width))) + 1
    closed = cv2.morphologyEx((marks[1:-1, 1:-1] == FILLED).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((side, side)))
    region = (closed > 0) & within
    region[click.y, click.x] = True
    return np.asarray(region, bool)
