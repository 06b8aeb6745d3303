"""Proposals from a colour picture alone: what `tools.table` finds by depth, found by how things look.

The network (`finetune.objectness`) was trained on rendered tables; it ships with the code and is loaded on first use.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import ObjectProposal, RgbdFrame, TableScene, box_of

if TYPE_CHECKING:
    from affordagent.finetune.objectness import Objectness

SHIPPED_CHECKPOINT = Path(__file__).parents[1] / "finetune" / "checkpoints" / "objectness"
MOST_PROPOSALS = 15
LEAST_SHARE = 4e-4  # of the picture; 120 pixels of 640 x 480


@cache
def _shipped() -> Objectness:
    from affordagent.finetune.objectness import Objectness

    return Objectness(SHIPPED_CHECKPOINT)


def propose_rgb(color: NDArray[np.uint8]) -> list[ObjectProposal]:
    """The things in a (H, W, 3) uint8 RGB picture of any size, the surest first, at most 15. Where none stands out the
    whole picture is the one proposal: who shows a picture shows something.

    Raises:
        AffordAgentError: not such a picture, or the shipped weights are missing.
    """
    if color.ndim != 3 or color.shape[2] != 3 or color.dtype != np.uint8 or not color.size:
        raise AffordAgentError(f"the picture is {color.shape} {color.dtype}, it must be (H, W, 3) uint8 RGB")
    masks = [thing.mask for thing in _shipped().things(color)]
    masks = [mask for mask in masks if mask.mean() >= LEAST_SHARE][:MOST_PROPOSALS]
    masks = masks or [np.ones(color.shape[:2], bool)]
    return [ObjectProposal(i, mask, box_of(mask)) for i, mask in enumerate(masks)]


def scene_of_picture(color: NDArray[np.uint8]) -> tuple[RgbdFrame, TableScene]:
    """A picture as the grounding tools take it: without depth, seen by a made-up camera, sizes and heights unknown.

    Raises:
        AffordAgentError: as `propose_rgb`.
    """
    proposals = propose_rgb(color)
    height, width = color.shape[:2]
    camera = made_up_camera(height, width)
    frame = RgbdFrame(np.ascontiguousarray(color), np.zeros((height, width), np.float32), camera, source="picture")
    plane = np.array([0.0, 0.0, 1.0, 0.0])
    return frame, TableScene(plane, np.full((height, width), np.nan, np.float32), proposals)


def made_up_camera(height: int, width: int) -> CameraIntrinsics:
    """Of a common phone, for a picture of which nothing is known; nothing metric is to be taken from it."""
    focal_px = 1.2 * max(height, width)
    return CameraIntrinsics(width, height, focal_px, focal_px, (width - 1) / 2, (height - 1) / 2)
