"""Where there is room for a thing: the floor of a container, the top of a thing, the free table, as maps seen from
above."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array

CELL_M = 0.005
WALL_M = 0.015  # of a container's opening, from the outside: its wall and what the fingers of a hand need
DEEP_M = 0.012  # an opening less deep holds nothing
OPEN_SHARE = 0.5  # of what lies within the rim, seen lower than it
TOP_M = 0.008  # points of a flat top lie this near to its height
OCCUPIED_M = 0.015  # above the floor: something lies there already
_RIM_M = 0.012  # points this near to the highest belong to the rim
_HULL_LEAST = 8
_HANDLE_M = 0.05  # what is narrower, seen from above, is no container


@dataclass(frozen=True)
class Opening:
    """The inside of a container. rim: (K, 2) convex outline of the rim, base frame. rim_z_m, floor_z_m: heights.
    rectangular: area of the outline over that of the rectangle around it: a circle 0.79, a box 1."""

    rim: Array
    rim_z_m: float
    floor_z_m: float
    rectangular: float

    @property
    def area_m2(self) -> float:
        return float(cv2.contourArea(self.rim.astype(np.float32)))


@dataclass(frozen=True)
class Landing:
    """Cells of side CELL_M where a thing may stand, at one height. free: (X, Y) bool; origin: (2,) of cell 0, 0, base
    frame; z_m: of what it would stand on."""

    free: NDArray[np.bool_]
    origin: Array
    z_m: float

    @property
    def centres(self) -> Array:
        """(X, Y, 2) base frame."""
        x, y = (np.arange(n) + 0.5 for n in self.free.shape)
        return np.stack(np.meshgrid(x, y, indexing="ij"), -1) * CELL_M + self.origin

    def room_for(self, footprint: Array) -> NDArray[np.float32]:
        """(X, Y) metres: how far a convex outline (K, 2) about its own middle could be shifted from each cell before
        it leaves the free cells; 0 where it does not fit."""
        half = int(np.ceil(np.abs(footprint).max() / CELL_M)) + 1
        kernel = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
        corners = np.round(footprint[:, ::-1] / CELL_M + half).astype(np.int32)  # images are indexed row, column
        cv2.fillConvexPoly(kernel, corners, 1)
        padded = np.pad(self.free.astype(np.uint8), 1)
        fits = cv2.erode(padded, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        return CELL_M * cv2.distanceTransform(fits, cv2.DIST_L2, 5)[1:-1, 1:-1]

    def distance_m(self, xy: Array) -> NDArray[np.float64]:
        """(X, Y) from each cell to the nearest of the points (N, 2); those outside of the map do not count."""
        elsewhere = (~_cells_of(xy, self)).astype(np.uint8)
        if elsewhere.all():
            return np.linalg.norm(self.centres - xy.mean(0), axis=-1)
        return CELL_M * cv2.distanceTransform(elsewhere, cv2.DIST_L2, 5).astype(float)


def opening_of(points: Array, table_z_m: float) -> Opening | None:
    """The opening of an object's seen points (N, 3), base frame; None where it is not open above. Where the highest
    points are no rim, those of a handle (a pan's) are left out."""
    found = _opening(points, table_z_m)
    return _opening(_without_handle(points), table_z_m) if found is None and len(points) else found


def _without_handle(points: Array) -> Array:
    """Those over the broad part of the outline."""
    landing = _blank(points[:, :2], 0.0)
    size = 2 * int(np.ceil(_HANDLE_M / CELL_M / 2)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    seen = np.pad(_cells_of(points[:, :2], landing).astype(np.uint8), size)
    broad = cv2.morphologyEx(cv2.morphologyEx(seen, cv2.MORPH_CLOSE, disc), cv2.MORPH_OPEN, disc)[
        size:-size, size:-size
    ]
    cell = np.floor((points[:, :2] - landing.origin) / CELL_M).astype(int)
    return points[broad[cell[:, 0], cell[:, 1]] > 0]


def _opening(points: Array, table_z_m: float) -> Opening | None:
    if len(points) < _HULL_LEAST:
        return None
    rim_z_m = float(np.percentile(points[:, 2], 98))
    rim = points[points[:, 2] > rim_z_m - _RIM_M]
    if len(rim) < _HULL_LEAST:
        return None
    outline = _hull(rim[:, :2])
    inside = points[within(points[:, :2], outline, WALL_M)]
    if len(inside) < _HULL_LEAST:
        return None
    low = inside[inside[:, 2] < rim_z_m - DEEP_M]
    if len(low) < OPEN_SHARE * len(inside):
        return None
    floor_z_m = max(float(np.percentile(low[:, 2], 25)), table_z_m)
    area = cv2.contourArea(outline.astype(np.float32))
    (_, sides, _) = cv2.minAreaRect(outline.astype(np.float32))
    return Opening(outline, rim_z_m, floor_z_m, float(area / max(sides[0] * sides[1], 1e-9)))


def inside_of(opening: Opening, points: Array) -> Landing:
    """The free floor of a container. points: (N, 3) all that was seen in it and near it, base frame. What the near wall
    hides counts as free."""
    landing = _blank(opening.rim, opening.floor_z_m)
    free = within(landing.centres.reshape(-1, 2), opening.rim, WALL_M).reshape(landing.free.shape)
    lying = points[within(points[:, :2], opening.rim, WALL_M) & (points[:, 2] > opening.floor_z_m + OCCUPIED_M)]
    return Landing(free & ~_cells_of(lying[:, :2], landing), landing.origin, landing.z_m)


def top_of(points: Array) -> Landing:
    """The level top of a thing, from its seen points (N, 3): what stands out of it is not free."""
    top_z_m = float(np.percentile(points[:, 2], 80))
    top = np.abs(points[:, 2] - top_z_m) < TOP_M
    landing = _blank(points[:, :2], top_z_m)
    seen = _cells_of(points[top, :2], landing)
    closed = cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)) > 0
    out = points[points[:, 2] > top_z_m + OCCUPIED_M]
    return Landing(closed & ~_cells_of(out[:, :2], landing), landing.origin, top_z_m)


def table_of(seen: Array, taken: Array, apart_m: float, z_m: float) -> Landing:
    """The free table. seen: (N, 2) where the bare table was seen, base frame; what was not seen is not free. taken:
    (K, 2) where things stand, from which it stays `apart_m`."""
    landing = _blank(seen, z_m)
    bare = cv2.morphologyEx(_cells_of(seen, landing).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)) > 0
    size = 2 * int(np.ceil(apart_m / CELL_M)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    near = cv2.dilate(_cells_of(taken, landing).astype(np.uint8), disc) > 0
    return Landing(bare & ~near, landing.origin, z_m)


def within(xy: Array, outline: Array, margin_m: float) -> NDArray[np.bool_]:
    """(N,) which of (N, 2) points lie at least `margin_m` inside a convex outline (K, 2)."""
    edge = np.roll(outline, -1, 0) - outline
    length = np.linalg.norm(edge, axis=1)
    edge, start = edge[length > 1e-9] / length[length > 1e-9, None], outline[length > 1e-9]
    normal = np.stack([-edge[:, 1], edge[:, 0]], 1)
    inward = normal * np.sign(np.sum(normal * (outline.mean(0) - start), 1))[:, None]
    return ((xy[:, None] - start[None]) * inward[None]).sum(-1).min(1) >= margin_m


def _hull(xy: Array) -> Array:
    return cv2.convexHull(xy.astype(np.float32))[:, 0].astype(float)


def _blank(xy: Array, z_m: float) -> Landing:
    low = xy.min(0) - CELL_M
    size = np.ceil((xy.max(0) + CELL_M - low) / CELL_M).astype(int)
    return Landing(np.zeros(tuple(size), bool), low, z_m)


def _cells_of(xy: Array, landing: Landing) -> NDArray[np.bool_]:
    """(X, Y) cells that hold any of the points."""
    taken = np.zeros(landing.free.shape, bool)
    if len(xy):
        cell = np.floor((xy - landing.origin) / CELL_M).astype(int)
        cell = cell[((cell >= 0) & (cell < landing.free.shape)).all(1)]
        taken[cell[:, 0], cell[:, 1]] = True
    return taken
