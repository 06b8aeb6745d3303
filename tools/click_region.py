"""The region of a thing that a click means, from one RGB-D picture and no trained model.

The thing's pixels are a graph whose edges are long where colour, depth or the direction of the surface changes. From
the click the region grows along shortest paths; of all sizes it might have, that one is taken whose border is weakest
for its size: a sweep for the cut of least conductance, as in local graph clustering (Andersen, Chung, Lang: "Local
graph partitioning using PageRank vectors", FOCS 2006), here over shortest paths. Clicks of the other kind hold what is
nearer to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from affordagent.core.geometry import Array
from affordagent.core.types import Mask, RgbdFrame, TableScene, box_of

COLOUR_STEP, NORMAL_STEP, DEPTH_STEP_M = 5.0, 0.25, 0.006  # between neighbours: CIE Lab, unit normals, metres
LONGER = 3.0  # how much longer an edge is that makes one such step
WEAK_BORDER = 0.5  # conductance from which nothing sets the region apart: then it is all of the thing
LEAST_PX = 20
LEAST_REST = 0.07  # share of the pixels that a part of a thing leaves to the rest of it
NEAR_PX = 12  # from a thing, for picture height 480: its outline from depth is a little small
EDGE_PX, TOUCH_PX = 2.0, 8  # a click so near to the mask's outline mends the outline, and no more than around itself
AROUND_M = 0.03  # of a click on nothing that stands out: as far as a region may reach
SMOOTH_PX = 2.0  # of the points, before their surface's direction is taken

Pixel = tuple[int, int]  # column, row


def region_at(
    frame: RgbdFrame, table: TableScene | None, at: Pixel, mask: Mask, add: bool, against: Sequence[Pixel]
) -> Mask:
    """(H, W) bool: what a click means that adds to a mask, or takes away from it; the clicked pixel is in it.

    against: earlier clicks of the other kind, which keep what is nearer to them.
    """
    near = _reach(frame, table, at)
    if not add:
        near |= _piece(mask, at)
    graph = _Graph.of(frame, near)
    found = graph.sweep(at, mask, add, against)
    if mask.any() and _to_edge_px(mask, at) <= EDGE_PX * frame.camera.height / 480:
        found &= _disc(frame, at, max(2, round(TOUCH_PX * frame.camera.height / 480)))
    found[at[1], at[0]] = True
    return found


def _reach(frame: RgbdFrame, table: TableScene | None, at: Pixel) -> Mask:
    """The thing under the click, or near it, or what is within AROUND_M of a click on no thing."""
    x, y = at
    close = _disc(frame, at, max(3, round(NEAR_PX * frame.camera.height / 480)))
    proposals = [] if table is None else table.proposals
    under = [p.mask for p in proposals if p.mask[y, x]]
    if under:
        return min(under, key=lambda mask: int(mask.sum())).copy()
    beside = [p.mask for p in proposals if (p.mask & close).any()]
    if beside:
        return max(beside, key=lambda mask: int((mask & close).sum())) | close
    depth_m = frame.depth_m[close & (frame.depth_m > 0)]
    distance_m = float(np.median(depth_m)) if depth_m.size else 1.0
    return _disc(frame, at, max(3, round(AROUND_M * frame.camera.fx / distance_m)))


def _disc(frame: RgbdFrame, at: Pixel, radius_px: int) -> Mask:
    disc = np.zeros(frame.depth_m.shape, np.uint8)
    cv2.circle(disc, at, radius_px, 1, -1)
    return disc > 0


def _to_edge_px(mask: Mask, at: Pixel) -> float:
    """How far a pixel is from the mask's outline, from within or without."""
    x, y = at
    same = mask if mask[y, x] else ~mask
    return float(cv2.distanceTransform(np.pad(same, 1, mode="edge").astype(np.uint8), cv2.DIST_L2, 5)[y + 1, x + 1])


def _piece(mask: Mask, at: Pixel) -> Mask:
    """The piece of a mask that holds a pixel; nothing where none does."""
    _, pieces = cv2.connectedComponents(mask.astype(np.uint8))
    return mask & (pieces == pieces[at[1], at[0]])


@dataclass(frozen=True)
class _Graph:
    """The pixels of a thing as nodes 0, 1, ... row by row. corner: row and column of the crop. inside: (h, w) the
    thing. number: (h, w) of each pixel's node, -1 off the thing. one, other: (E,) nodes of each edge. steps: (E,) how
    far the picture changes along it. length_px: (E,)."""

    corner: Pixel
    inside: Mask
    number: NDArray[np.int64]
    one: NDArray[np.int64]
    other: NDArray[np.int64]
    steps: Array
    length_px: Array

    @staticmethod
    def of(frame: RgbdFrame, thing: Mask) -> _Graph:
        x0, y0, x1, y1 = box_of(thing)
        crop = (slice(max(y0 - 3, 0), y1 + 3), slice(max(x0 - 3, 0), x1 + 3))
        inside = thing[crop]
        number = np.full(inside.shape, -1, np.int64)
        number[inside] = np.arange(inside.sum())
        lab, depth_m, normals = _traits(frame, crop)
        one, other, steps, lengths = [], [], [], []
        height, width = inside.shape
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            a = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
            b = (slice(down, height), slice(max(0, right), width + min(0, right)))
            both, length = inside[a] & inside[b], float(np.hypot(down, right))
            changes = (
                np.linalg.norm(lab[a] - lab[b], axis=-1)[both] / COLOUR_STEP,
                np.linalg.norm(normals[a] - normals[b], axis=-1)[both] / NORMAL_STEP,
                np.abs(depth_m[a] - depth_m[b])[both] / DEPTH_STEP_M,
            )
            one.append(number[a][both])
            other.append(number[b][both])
            steps.append(np.linalg.norm(changes, axis=0) / length)
            lengths.append(np.full(int(both.sum()), length))
        joined = (np.concatenate(parts) for parts in (one, other, steps, lengths))
        return _Graph((crop[0].start, crop[1].start), inside, number, *joined)

    def sweep(self, at: Pixel, mask: Mask, add: bool, against: Sequence[Pixel]) -> Mask:
        """(H, W) the region, see `region_at`."""
        count = int(self.inside.sum())
        rows, columns = (slice(c, c + n) for c, n in zip(self.corner, self.inside.shape, strict=True))
        start = self._node(at)
        others = [node for pixel in against if (node := self._node(pixel)) not in (-1, start)]
        away = self._distances([start, *others])
        reached = np.isfinite(away[0])
        if others:
            reached &= away[0] < away[1:].min(0)
        marked = mask[rows, columns][self.inside]
        if add:  # what is marked already has no border to keep to
            reached &= ~marked
        reached[start] = True
        nodes = np.flatnonzero(reached)
        order = nodes[np.argsort(away[0][nodes], kind="stable")]
        size = self._best_size(order, ~marked if add else np.ones(count, bool), keep_some=not add and not others)
        chosen = np.zeros(count, bool)
        chosen[order[:size]] = True
        region = np.zeros(self.inside.shape, np.uint8)
        region[self.inside] = chosen
        whole = np.zeros(mask.shape, bool)
        whole[rows, columns] = (cv2.morphologyEx(region, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0) & self.inside
        return whole

    def _node(self, pixel: Pixel) -> int:
        row, column = pixel[1] - self.corner[0], pixel[0] - self.corner[1]
        inside = 0 <= row < self.inside.shape[0] and 0 <= column < self.inside.shape[1]
        return int(self.number[row, column]) if inside else -1

    def _distances(self, nodes: list[int]) -> Array:
        """(len(nodes), N) along shortest paths."""
        count = int(self.inside.sum())
        lengths = self.length_px * (1 + LONGER * self.steps)
        graph = coo_array((lengths, (self.one, self.other)), shape=(count, count)).tocsr()
        return np.asarray(dijkstra(graph, directed=False, indices=nodes))

    def _best_size(self, order: NDArray[np.int64], counted: Mask, keep_some: bool) -> int:
        """How many of the first nodes in `order` make the region. counted: (N,) nodes whose edges count as border.
        keep_some: not all of them, even where no border is weak."""
        n = len(order)
        place = np.full(len(counted), n)
        place[order] = np.arange(n)
        counts = counted[self.one] & counted[self.other]
        first = np.minimum(place[self.one], place[self.other])[counts]
        last = np.maximum(place[self.one], place[self.other])[counts]
        likeness = (np.exp(-(self.steps**2)) / self.length_px)[counts]
        begun = first < n  # an edge is on the border from when one end is in until the other is, or to the end
        opened = np.bincount(first[begun], likeness[begun], n + 1)
        closed = np.bincount(last[begun], likeness[begun], n + 1)
        border = np.cumsum(opened - closed)[:n]
        sizes, total = np.arange(1, n + 1), int(counted.sum())
        conductance = border / np.sqrt(np.minimum(sizes, np.maximum(total - sizes, 1)))
        proper = (sizes >= LEAST_PX) & (n - sizes >= max(LEAST_PX, LEAST_REST * n))
        if not proper.any():
            return n
        best = int(np.flatnonzero(proper)[np.argmin(conductance[proper])])
        weak = conductance[best] < WEAK_BORDER
        whole_is_weaker = n < total and conductance[-1] <= conductance[best]
        return best + 1 if (weak or keep_some) and not whole_is_weaker else n


def _traits(frame: RgbdFrame, crop: tuple[slice, slice]) -> tuple[NDArray[np.float32], ...]:
    """Of a crop: (h, w, 3) CIE Lab, (h, w) depth in metres, holes filled from around, (h, w, 3) surface normals."""
    colour = np.ascontiguousarray(frame.color[crop])
    lab = cv2.cvtColor(cv2.medianBlur(colour, 5).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    seen = (frame.depth_m[crop] > 0).astype(np.float32)
    mean = cv2.blur(frame.depth_m[crop], (9, 9)) / np.maximum(cv2.blur(seen, (9, 9)), 1e-6)
    depth_m = cv2.medianBlur(np.where(seen > 0, frame.depth_m[crop], mean).astype(np.float32), 5)
    camera = frame.camera
    rows, columns = np.mgrid[crop[0].start : crop[0].start + len(seen), crop[1].start : crop[1].start + seen.shape[1]]
    rays = np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones_like(seen)], axis=-1)
    points = cv2.GaussianBlur((rays * depth_m[..., None]).astype(np.float32), (0, 0), SMOOTH_PX)
    normals = np.cross(cv2.Sobel(points, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(points, cv2.CV_32F, 0, 1, ksize=3))
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return np.asarray(lab, np.float32), np.asarray(depth_m, np.float32), np.asarray(normals, np.float32)
