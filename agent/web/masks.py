"""A mask is edited by clicks: each adds the region under it, or takes it away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask, RgbdFrame, TableScene
from affordagent.tools.segmenter import Segmenter


@dataclass(frozen=True)
class Click:
    """At a pixel: column x, row y. add: else the region is taken away."""

    x: int
    y: int
    add: bool


def edited(
    frame: RgbdFrame,
    mask: Mask,
    click: Click,
    *,
    table: TableScene | None = None,
    segmenter: Segmenter | None = None,
    earlier: Sequence[Click] = (),
) -> Mask:
    """The mask (H, W) after a click; the given one stays as it is.

    table: what stands out of it bounds a region. segmenter: SAM 2, asked with all clicks so far (`earlier`: those that
    led to `mask`, oldest first); without it the region is what is of one surface and colour round the click.

    Raises:
        AffordAgentError: the click is outside the picture, or the mask of another size.
    """
    height, width = frame.depth_m.shape
    if mask.shape != (height, width):
        raise AffordAgentError(
            f"the mask is {mask.shape}, the picture {(height, width)}: start again from this picture"
        )
    if not (0 <= click.x < width and 0 <= click.y < height):
        raise AffordAgentError(f"the click ({click.x}, {click.y}) is outside the picture of {width} x {height}")
    region = _region(frame, click)
    return mask | region if click.add else mask & ~region


def _region(frame: RgbdFrame, click: Click) -> Mask:
    disc = np.zeros(frame.depth_m.shape, np.uint8)
    cv2.circle(disc, (click.x, click.y), 12, 1, -1)
    return disc > 0
