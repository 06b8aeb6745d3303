"""Observed points as solids: what is below them, what moves with the hand, and what is near to a sphere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import ConvexHull, cKDTree

from affordagent.core.geometry import Array, invert, transform_points
from affordagent.tools.depth_projection import voxel_downsample
from affordagent.tools.grasping.collision import drop_to_table

COLUMN_M = 0.006  # side of the vertical columns that heights are compared in
SPACING_M = 0.005  # observed points are thinned to one per such cube
_HELD_SPACING_M, _HELD_POINTS = 0.007, 400  # what is held is thinned to one point per such cube, or larger ones
_COARSE_M, _PAD_M = 0.02, 0.16  # cells of the map of distances, and how far round the points it goes


class PointSet:
    """A point set that answers how near a sphere is, quickly when none is. points: (N, 3)."""

    def __init__(self, points: Array) -> None:
        self.points = points.reshape(-1, 3)
        if not len(points):
            return
        self._tree = cKDTree(self.points, balanced_tree=False, compact_nodes=False)
        self._origin = self.points.min(0) - _PAD_M
        shape = np.ceil((self.points.max(0) + _PAD_M - self._origin) / _COARSE_M).astype(int)
        empty = np.ones(shape, bool)
        empty[tuple(((self.points - self._origin) / _COARSE_M).astype(int).T)] = False
        nearest = distance_transform_edt(empty, _COARSE_M) - np.sqrt(3) * _COARSE_M  # from any point of the cell
        self._shape, self._least_m = shape, np.append(nearest.ravel(), _PAD_M)  # the last: outside of the map

    def apart_from(self, points: Array, distance_m: float) -> PointSet:
        """Those further than `distance_m` from all of `points` (N, 3)."""
        if not len(self.points) or not len(points):
            return self
        near = cKDTree(points).query(self.points, distance_upper_bound=distance_m)[0]
        return PointSet(self.points[near > distance_m])

    def not_amid(self, points: Array, margin_m: float) -> PointSet:
        """Those outside of the convex outline of `points` (N, 3), seen from above, by more than `margin_m`, or higher
        than all of them."""
        if not len(self.points) or len(points) < 3:
            return self
        sides = ConvexHull(
            points[:, :2], qhull_options="QJ"
        ).equations  # (S, 3): outward normal, offset; QJ: thin things
        outside = (self.points[:, :2] @ sides[:, :2].T + sides[:, 2] > margin_m).any(axis=1)
        return PointSet(self.points[outside | (self.points[:, 2] > points[:, 2].max())])

    def touched(self, centres: Array, radii: Array) -> bool:
        """Is any point inside any of the spheres? centres: (N, 3). radii: (N,)."""
        if not len(self.points):
            return False
        cell = ((centres - self._origin) / _COARSE_M).astype(int)
        inside = ((centres > self._origin) & (cell < self._shape)).all(axis=1)
        flat = np.where(inside, (cell[:, 0] * self._shape[1] + cell[:, 1]) * self._shape[2] + cell[:, 2], -1)
        near = self._least_m[flat] < radii
        if not near.any():
            return False
        distance, _ = self._tree.query(centres[near], distance_upper_bound=float(radii[near].max()))
        return bool((distance < radii[near]).any())


def solid(points: Array, table_z_m: float) -> Array:
    """(N, 3) -> (M, 3) thinned points and what may be below them: a camera sees the tops of things only."""
    thinned = voxel_downsample(points, SPACING_M)
    if not len(thinned):
        return thinned
    cells = np.floor(thinned[:, :2] / SPACING_M).astype(np.int64)
    order = np.lexsort((-thinned[:, 2], cells[:, 1], cells[:, 0]))
    first = np.r_[True, (np.diff(cells[order], axis=0) != 0).any(axis=1)]
    tops = thinned[order[first]]  # what is below the highest of a column includes what is below the others
    return voxel_downsample(np.concatenate([thinned, drop_to_table(tops, table_z_m)]), SPACING_M)


def highest(points: Array) -> tuple[NDArray[np.int64], Array]:
    """Keys of the vertical columns of side COLUMN_M that points (N, 3) occupy, and the greatest height in each."""
    cells = np.floor(points[:, :2] / COLUMN_M).astype(np.int64)
    keys, index = np.unique(cells[:, 0] * 100_000 + cells[:, 1], return_inverse=True)
    top = np.full(len(keys), -np.inf)
    np.maximum.at(top, index, points[:, 2])
    return keys, top


def held_points(points: Array, table_z_m: float) -> Array:
    """(N, 3) points of an object on the table -> (M, 3) thinned and filled in below, base frame."""
    spacing_m, filled = _HELD_SPACING_M, solid(points, table_z_m)
    while len(thinned := voxel_downsample(filled, spacing_m)) > _HELD_POINTS:
        spacing_m *= 1.25
    return thinned


def in_hand(points: Array, T_base_tcp: Array) -> PointSet:
    """(N, 3) base frame -> the same in the tcp frame of a hand."""
    return PointSet(transform_points(invert(T_base_tcp), points))
