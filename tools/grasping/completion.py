"""The unseen side of a part, guessed from one view.

Rule: household parts are symmetric about the middle of their cross-section. The part is cut into slices along an axis
(its long axis, or the vertical for compact and standing things). In each slice the two outermost points across the view
are silhouettes, and the middle between them is the centre of a centrally symmetric section, exactly so for circles,
ellipses and boxes. Each seen point is reflected about that centre. Where a face looks straight at the camera nothing of
the sides is seen: walls are dropped from the outermost points, to the table or a fraction of the width, whichever is
nearer, so that raised handles are not filled down to the table.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from affordagent.core.geometry import Array

SLICE_M = 0.006
ELONGATED = 1.6  # ratio of the first two spreads from which a part counts as a bar
WALL_DEPTH = 0.6  # of the width, where the underside is not known
MAX_POINTS = 1300


@dataclass(frozen=True)
class Surface:
    """points (N, 3), outward unit normals (N, 3), observed (N,) False where imagined; base frame, metres.

    axis: (3,) unit, the slices' normal.
    """

    points: Array
    normals: Array
    observed: NDArray[np.bool_]
    axis: Array


def downsample(points: Array, voxel_m: float, normals: Array | None = None) -> tuple[Array, Array]:
    """Mean point (and unit mean normal) of each occupied voxel: (V, 3), (V, 3). Normals are zeros where none are given."""
    if len(points) == 0:
        return points.reshape(0, 3), points.reshape(0, 3)
    cells = np.floor((points - points.min(0)) / voxel_m).astype(np.int64)
    sizes = cells.max(0) + 1
    keys = (cells[:, 0] * sizes[1] + cells[:, 1]) * sizes[2] + cells[:, 2]
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)

    def mean(values: Array) -> Array:
        return np.stack([np.bincount(inverse, values[:, k]) for k in range(3)], -1) / counts[:, None]

    n = np.zeros((len(counts), 3)) if normals is None else mean(normals)
    return mean(points), n / np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-9)


def section_axis(points: Array) -> Array:
    """(3,) unit axis to slice along: the long axis of a bar, the vertical for compact or nearly upright things."""
    spread, directions = np.linalg.eigh(np.cov(points.T))
    axis = directions[:, 2]
    upright = abs(axis[2]) > np.cos(np.radians(30))
    if upright or np.sqrt(spread[2] / max(spread[1], 1e-12)) < ELONGATED:
        return np.array([0.0, 0.0, 1.0])
    return axis


def complete(points: Array, normals: Array, camera_position: Array, table_z_m: float) -> Surface:
    """The closed surface of a part from the points of one view.

    points, normals: (N, 3), base frame, normals towards the camera. At least 10 points.
    """
    voxel_m = 0.0025
    p, n = downsample(points, voxel_m, normals)
    while len(p) > MAX_POINTS / 2:
        voxel_m *= 1.3
        p, n = downsample(points, voxel_m, normals)
    axis = section_axis(p)
    view = p.mean(0) - camera_position
    across = np.cross(axis, view)
    if np.linalg.norm(across) < 0.1 * np.linalg.norm(view):  # looking along the axis: any direction across will do
        across = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
    across /= np.linalg.norm(across)
    away = np.cross(across, axis)
    away *= np.sign(away @ view) or 1.0

    centre = _section_centres(p @ axis, p @ across, p @ away)  # (N, 2) in (across, away)
    offset = np.stack([p @ across, p @ away], -1) - centre
    frame = np.stack([across, away])  # (2, 3)
    mirrored = p - 2 * offset @ frame
    mirrored_normals = n - 2 * (n @ frame.T) @ frame
    walls, wall_normals = _walls(np.concatenate([p, mirrored]), axis, voxel_m, table_z_m)
    all_points = np.concatenate([p, mirrored, walls])
    all_normals = np.concatenate([n, mirrored_normals, wall_normals])
    observed = np.arange(len(all_points)) < len(p)
    keep = observed | (all_points[:, 2] > table_z_m)
    return Surface(all_points[keep], all_normals[keep], observed[keep], axis)


def _section_centres(along: Array, across: Array, away: Array) -> Array:
    """(N, 2) centre (across, away) of each point's slice, smoothed along the axis."""
    start, stop = along.min(), along.max()
    count = max(1, round((stop - start) / SLICE_M))
    index = np.minimum(((along - start) / max(stop - start, 1e-9) * count).astype(int), count - 1)
    centres = np.full((count, 2), np.nan)
    for k in range(count):
        s, t = across[index == k], away[index == k]
        if len(s) < 4:
            continue
        low, high = np.percentile(s, [3, 97])
        edge = 0.12 * (high - low)
        # of the points near each silhouette the farthest lies on it: nearer ones have not turned out of sight yet
        far_low, far_high = np.percentile(t[s <= low + edge], 90), np.percentile(t[s >= high - edge], 90)
        centres[k] = (low + high) / 2, (far_low + far_high) / 2
    known = ~np.isnan(centres[:, 0])
    if not known.any():
        return np.tile([across.mean(), away.mean()], (len(along), 1))
    k = np.arange(count)
    filled = np.stack([np.interp(k, k[known], centres[known, i]) for i in range(2)], -1)
    smooth = gaussian_filter1d(filled, 1.5, axis=0, mode="nearest")
    position = (along - start) / max(stop - start, 1e-9) * count - 0.5
    return np.stack([np.interp(position, k, smooth[:, i]) for i in range(2)], -1)


def _walls(points: Array, axis: Array, voxel_m: float, table_z_m: float) -> tuple[Array, Array]:
    """Walls (W, 3) with outward normals (W, 3), dropped from the outermost points of a reflected part."""
    upright = axis[2] > 0.99
    level = points.mean(0)
    if upright:
        level = np.array([*(points[:, :2].min(0) + points[:, :2].max(0)) / 2, 0.0])
        offset = points[:, :2] - level[:2]
        bins = ((np.arctan2(offset[:, 1], offset[:, 0]) + np.pi) / (2 * np.pi) * 36).astype(int) % 36
        reach = np.linalg.norm(offset, axis=1)
        outward = np.c_[offset / np.maximum(reach, 1e-9)[:, None], np.zeros(len(points))]
        width = 2 * reach
    else:
        side = np.cross([0.0, 0, 1], axis)
        side /= np.linalg.norm(side)
        along = points @ axis
        slices = ((along - along.min()) / voxel_m).astype(int)
        s = points @ side
        middle = (_per_bin(np.maximum, s, slices) + _per_bin(np.minimum, s, slices))[slices] / 2
        reach = np.abs(s - middle)
        bins = 2 * slices + (s > middle)
        outward = np.sign(s - middle)[:, None] * side
        width = 2 * reach
    order = np.lexsort((reach, bins))
    last = order[np.r_[np.diff(bins[order]) != 0, True]]  # the outermost point of each bin
    last = last[reach[last] > 0.002]
    top, lowest = points[last, 2], _per_bin(np.minimum, points[:, 2], bins)[bins[last]]
    drop = np.minimum(np.maximum(top - lowest, WALL_DEPTH * width[last]), top - table_z_m)
    steps = np.arange(1, 1 + max(1, int(drop.max(initial=0.0) / (1.5 * voxel_m)))) * 1.5 * voxel_m
    inside = steps[None] <= drop[:, None]
    walls = points[last][:, None] - steps[None, :, None] * np.array([0, 0, 1.0])
    out = np.broadcast_to(outward[last][:, None], walls.shape)
    return walls[inside], out[inside]


def _per_bin(ufunc: np.ufunc, values: Array, bins: NDArray[np.int_]) -> Array:
    """(bins.max() + 1,) extreme value of each bin (`ufunc` is np.minimum or np.maximum)."""
    out = np.full(bins.max() + 1, np.inf if ufunc is np.minimum else -np.inf)
    ufunc.at(out, bins, values)
    return out
