"""A mask is edited by clicks: each adds the region under it, or takes it away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from affordagent.agent.session import Tools
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask, RgbdFrame, TableScene
from affordagent.tools.click_region import region_at
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
    """The mask (H, W) after a click; the given one stays as it is. The same arguments give the same mask.

    table: what stands on it; a region stays within one thing. segmenter: SAM 2, asked with all clicks so far; without
    it the region is what depth and colour set apart, see `tools.click_region`. earlier: the clicks that led to `mask`,
    oldest first, when it began with another one; clicks of the other kind keep what is nearer to them.

    Raises:
        AffordAgentError: the click is outside the picture, or the mask of another size.
    """
    height, width = frame.depth_m.shape
    if mask.shape != (height, width):
        raise AffordAgentError(f"the mask is {mask.shape}, the picture {(height, width)}: start again from this one")
    if not (0 <= click.x < width and 0 <= click.y < height):
        raise AffordAgentError(f"the click ({click.x}, {click.y}) is outside the picture of {width} x {height}")
    if segmenter is not None:
        return _by_segmenter(frame, mask, click, segmenter, earlier)
    against = [(past.x, past.y) for past in earlier if past.add != click.add]
    region = region_at(frame, table, (click.x, click.y), mask, click.add, against)
    return mask | region if click.add else mask & ~region


def segmenter_of(tools: Tools) -> Segmenter | None:
    """SAM 2, where the settings' `fallback` or `vlm` have its weights; it is loaded with them."""
    found = (getattr(tool, "segmenter", None) for tool in (tools.fallback, tools.grounder))
    return next((each for each in found if isinstance(each, Segmenter)), None)


def _by_segmenter(frame: RgbdFrame, mask: Mask, click: Click, segmenter: Segmenter, earlier: Sequence[Click]) -> Mask:
    """Its answer to all clicks, taken over where it changes what is connected with this click: what the person has not
    touched stays. The clicked pixel is as the person says in any case."""
    clicks = [*earlier, click]
    answer = segmenter.better(frame.color, [(c.x, c.y) for c in clicks], [c.add for c in clicks], mask)
    answer[click.y, click.x] = click.add
    changes = answer != mask if click.add == (not mask[click.y, click.x]) else np.zeros_like(mask)
    _, pieces = cv2.connectedComponents(changes.astype(np.uint8), connectivity=8)
    here = changes & (pieces == pieces[click.y, click.x])
    return np.where(here, answer, mask)
