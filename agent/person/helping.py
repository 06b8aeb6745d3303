"""What the page's tools do with a click or a box: SAM 2 where its weights are, else colours and GrabCut."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from affordagent.agent.web.masks import Click, edited
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask, ObjectProposal, RgbdFrame, TableScene, box_of
from affordagent.tools.annotation.stand_ins import GrabCut
from affordagent.tools.detection import Box, Picture
from affordagent.tools.rgb_proposals import made_up_camera
from affordagent.tools.segmenter import Prompt, Segmenter

LOOKED_AT_PX = 320  # longer side of the picture in which a click without SAM 2 looks for its region
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
        scale = min(1.0, LOOKED_AT_PX / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.ascontiguousarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        before = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        at = Click(min(int(click.x * scale), size[0] - 1), min(int(click.y * scale), size[1] - 1), click.add)
        after = edited(_frame(small), before, at, table=_reach(size, at, thing, scale))
        changed = cv2.resize((after != before).astype(np.float32), (width, height)) > 0.5
        changed[click.y, click.x] = True
        return mask | changed if click.add else mask & ~changed

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
    """Without depth: colours alone tell regions apart."""
    size = picture.shape[:2]
    return RgbdFrame(picture, np.zeros(size, np.float32), made_up_camera(*size), source="picture")


def _reach(size: tuple[int, int], at: Click, thing: Box | None, scale: float) -> TableScene:
    """As far as the region may go: around the thing's box where the click is in there, else the whole picture."""
    width, height = size
    reach = np.ones((height, width), bool)
    if thing is not None:
        x0, y0, x1, y1 = (n * scale for n in thing)
        far = AROUND * max(x1 - x0, y1 - y0) + 2
        rows, columns = np.mgrid[:height, :width]
        near = (columns >= x0 - far) & (columns <= x1 + far) & (rows >= y0 - far) & (rows <= y1 + far)
        reach = near if near[at.y, at.x] else reach
    plane = np.array([0.0, 0.0, 1.0, 0.0])
    return TableScene(plane, np.full(reach.shape, np.nan, np.float32), [ObjectProposal(0, reach, box_of(reach))])
