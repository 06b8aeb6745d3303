"""The unseen side of a part, guessed from one view.

1. Mirror. Household parts are symmetric about the middle of their cross-section. The part is cut into slices along an
   axis (its long axis, or the vertical for compact and standing things) and each seen point is reflected about the
   centre of its slice: of a fitted circle where the slice is round, else the middle between its two silhouettes, which
   is exact for boxes and ellipses.
2. Walls. Where a face looks up nothing of the sides is seen: walls are dropped from the outline, as seen from above,
   to the table or a fraction of the width, whichever is nearer.
3. Carve. What was guessed but would have been seen is taken away: a guessed point must hide behind a seen one. So
   raised handles are not filled down to the table, and a mirror image that shows is no mirror image at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import (
    binary_closing,
    binary_erosion,
    distance_transform_edt,
    gaussian_filter,
    gaussian_filter1d,
    maximum_filter,
)
from scipy.spatial import cKDTree

from affordagent.core.geometry import Array
from affordagent.tools.depth_projection import voxel_downsample

SLICE_M = 0.006
ELONGATED = 1.6  # ratio of the first two spreads from which a part counts as a bar
WALL_DEPTH = 0.6  # of the width nearby, where the underside is not known
MAX_OBSERVED = 1000
CELL_M = 0.003  # of the outline seen from above
NEIGHBOUR_CELLS = 15
HIDDEN_M = 0.0035  # a guessed point hides behind seen points this near to its line of sight
ROUND_RMS = 0.07  # of the radius: a slice that fits a circle so well is round
SIDEWAYS = 0.3  # horizontal share of a normal from which it says where the axis is
MIN_SIDE_POINTS = 40
MIN_TURN = 0.06  # of the normals' moments: less is seen of one side only
OFF_AXIS_M = 0.003
OFF_AXIS_RAD = 0.35  # normals of a surface of revolution turn away from its axis by less,
ON_AXIS = 0.85  # so many of them
SHOWING_TURNED = 0.15  # as SHOWING, of a surface that was turned about its axis
SHOWING = 0.4  # share of the mirror image in plain view from which it is dropped


@dataclass(frozen=True)
class Surface:
    """points (N, 3), outward unit normals (N, 3), observed (N,) False where imagined; base frame, metres.

    spacing_m: about how far neighbouring points are apart.
    """

    points: Array
    normals: Array
    observed: NDArray[np.bool_]
    spacing_m: float


def downsample(points: Array, normals: Array, voxel_m: float) -> tuple[Array, Array]:
    """Mean point and unit mean normal of each occupied voxel, (V, 3) both."""
    mean = voxel_downsample(np.hstack([points, normals]), voxel_m)
    return mean[:, :3], mean[:, 3:] / np.maximum(np.linalg.norm(mean[:, 3:], axis=1, keepdims=True), 1e-9)


def section_axis(points: Array) -> Array:
    """(3,) unit axis to slice along: the long axis of a bar, the vertical for compact or nearly upright things."""
    spread, directions = np.linalg.eigh(np.cov(points.T))
    axis = directions[:, 2]
    upright = abs(axis[2]) > np.cos(np.radians(30))
    if upright or np.sqrt(spread[2] / max(spread[1], 1e-12)) < ELONGATED:
        return np.array([0.0, 0.0, 1.0])
    return axis


def complete(
    points: Array, normals: Array, camera_position: Array, table_z_m: float, others: Array | None = None
) -> Surface:
    """The closed surface of a part from the points of one view.

    points, normals: (N, 3), base frame, normals towards the camera; at least 10. others: (M, 3) other points seen from
    the same place, which may hide the part.
    """
    voxel_m = 0.0025
    p, n = downsample(points, normals, voxel_m)
    while len(p) > MAX_OBSERVED:
        voxel_m *= 1.25
        p, n = downsample(points, normals, voxel_m)
    seen = points if others is None else np.concatenate([points, others])
    hidden = _Shadow(seen, camera_position)
    pole = turned_about(p, n)
    mirrored, mirrored_normals = _mirror(p, n, camera_position, table_z_m, pole)
    unseen = hidden(mirrored)
    if pole is not None and unseen.mean() < 1 - SHOWING_TURNED:
        pole = None
        mirrored, mirrored_normals = _mirror(p, n, camera_position, table_z_m, pole)
        unseen = hidden(mirrored)
    if unseen.mean() < 1 - SHOWING:
        unseen[:] = False
    solid = np.concatenate([p, mirrored[unseen]])
    outline = np.concatenate([points, mirrored[unseen]]) if pole is None else np.zeros((0, 3))
    walls, wall_normals = _walls(outline, table_z_m, max(voxel_m, CELL_M))
    unseen_walls = hidden(walls)
    all_points = np.concatenate([solid, walls[unseen_walls]])
    all_normals = np.concatenate([n, mirrored_normals[unseen], wall_normals[unseen_walls]])
    return Surface(all_points, all_normals, np.arange(len(all_points)) < len(p), voxel_m)


def imagined(points: Array, camera_position: Array, table_z_m: float, others: Array) -> Array:
    """(M, 3) the unseen side of a thing, from points (N, 3) of its seen side; others as in `complete`."""
    if len(points) < MIN_SIDE_POINTS:
        return np.zeros((0, 3))
    surface = complete(points, np.zeros_like(points), camera_position, table_z_m, others)
    return surface.points[~surface.observed]


def narrowest_m(surface: Surface) -> float:
    """The least horizontal extent of a surface, a few stray points left out."""
    angle = np.linspace(0, np.pi, 18, endpoint=False)
    low, high = np.percentile(surface.points[:, :2] @ np.stack([np.cos(angle), np.sin(angle)]), [2, 98], axis=0)
    return float((high - low).min())


class _Shadow:
    """Which points are hidden from the camera by points that it saw?"""

    def __init__(self, seen: Array, camera_position: Array) -> None:
        self._camera = camera_position
        ray = seen - camera_position
        self._range = np.linalg.norm(ray, axis=1)
        self._tree = cKDTree(ray / self._range[:, None])

    def __call__(self, points: Array) -> NDArray[np.bool_]:
        """(N,) True where a seen point lies near the line of sight and not farther than the point."""
        ray = points - self._camera
        distance = np.linalg.norm(ray, axis=1)
        _, index = self._tree.query(
            ray / distance[:, None], k=4, distance_upper_bound=HIDDEN_M / float(distance.mean()) if len(points) else 1.0
        )
        nearest = np.append(self._range, np.inf)[index].min(1)  # the query marks misses by an index past the end
        return nearest < distance + HIDDEN_M


def turned_about(p: Array, n: Array) -> Array | None:
    """(2,) x, y of the vertical axis of a surface of revolution with points p (N, 3) and normals n (N, 3); None when
    it is none, or when too little is seen of its sides. All normals of such a surface meet its axis."""
    side = np.linalg.norm(n[:, :2], axis=1) > SIDEWAYS
    p, n = p[side, :2], n[side, :2]
    if len(p) < MIN_SIDE_POINTS:
        return None
    A, b = np.stack([-n[:, 1], n[:, 0]], -1), n[:, 0] * p[:, 1] - n[:, 1] * p[:, 0]  # A c = b: n x (p - c) = 0
    weight = np.ones(len(p))
    for _ in range(5):
        moment = (A * weight[:, None]).T @ A
        if np.linalg.eigvalsh(moment)[0] < MIN_TURN * np.trace(moment):
            return None
        centre = np.asarray(np.linalg.solve(moment, (A * weight[:, None]).T @ b), float)
        off_m = np.abs(A @ centre - b) / np.linalg.norm(A, axis=1)
        weight = 1 / np.maximum(off_m, OFF_AXIS_M)
    off_rad = np.arcsin(np.minimum(1.0, off_m / np.maximum(np.linalg.norm(p - centre, axis=1), 1e-6)))
    return centre if (off_rad < OFF_AXIS_RAD).mean() > ON_AXIS else None


def _mirror(p: Array, n: Array, camera_position: Array, table_z_m: float, pole: Array | None) -> tuple[Array, Array]:
    """The part reflected about its section centres, or turned half about its `pole`: points and normals, those below
    the table left out."""
    if pole is not None:
        mirrored = np.c_[2 * pole - p[:, :2], p[:, 2]]
        return mirrored, n * [-1, -1, 1]
    axis = section_axis(p)
    view = p.mean(0) - camera_position
    across = np.cross(axis, view)
    if np.linalg.norm(across) < 0.1 * np.linalg.norm(view):  # looking along the axis: any direction across will do
        across = np.cross(axis, [1.0, 0, 0] if abs(axis[0]) < 0.9 else [0, 1.0, 0])
    across /= np.linalg.norm(across)
    away = np.cross(across, axis)
    away *= np.sign(away @ view) or 1.0
    centre = _section_centres(p @ axis, p @ across, p @ away)
    offset = np.stack([p @ across, p @ away], -1) - centre
    frame = np.stack([across, away])  # (2, 3)
    mirrored = p - 2 * offset @ frame
    keep = mirrored[:, 2] > table_z_m
    return mirrored[keep], (n - 2 * (n @ frame.T) @ frame)[keep]


def _section_centres(along: Array, across: Array, away: Array) -> Array:
    """(N, 2) centre (across, away) of each point's slice, smoothed along the axis."""
    start, length = along.min(), max(float(np.ptp(along)), 1e-9)
    count = max(1, round(length / SLICE_M))
    index = np.minimum(((along - start) / length * count).astype(int), count - 1)
    centres = np.full((count, 2), np.nan)
    for k in range(count):
        inside = index == k
        if inside.sum() >= 5:
            centres[k] = _centre(across[inside], away[inside])
    known = ~np.isnan(centres[:, 0])
    if not known.any():
        return np.tile([across.mean(), away.mean()], (len(along), 1))
    slices = np.arange(count)
    filled = np.stack([np.interp(slices, slices[known], centres[known, i]) for i in range(2)], -1)
    smooth = gaussian_filter1d(filled, 1.5, axis=0, mode="nearest")
    position = (along - start) / length * count - 0.5
    return np.stack([np.interp(position, slices, smooth[:, i]) for i in range(2)], -1)


def _centre(s: Array, t: Array) -> Array:
    """(2,) centre of a slice with points s across the view and t away from the camera."""
    low, high = np.percentile(s, [2, 98])
    # circle by least squares (Kasa 1976): s^2 + t^2 = 2 a s + 2 b t + c
    A = np.stack([2 * s, 2 * t, np.ones_like(s)], -1)
    (a, b, c), *_ = np.linalg.lstsq(A, s * s + t * t, rcond=None)
    radius = np.sqrt(max(c + a * a + b * b, 1e-12))
    rms = np.sqrt(np.mean((np.hypot(s - a, t - b) - radius) ** 2))
    if rms < ROUND_RMS * radius and 0.85 < 2 * radius / max(high - low, 1e-9) < 1.4:
        return np.array([a, b])
    edge = 0.12 * (high - low)
    # of the points near each silhouette the farthest lies on it: nearer ones have not turned out of sight yet
    far = [np.percentile(t[s <= low + edge], 90), np.percentile(t[s >= high - edge], 90)]
    return np.array([(low + high) / 2, np.mean(far)])


def _walls(points: Array, table_z_m: float, cell_m: float) -> tuple[Array, Array]:
    """Walls (W, 3) with outward normals (W, 3), dropped from the outline of the points as seen from above."""
    if len(points) == 0:
        return np.zeros((0, 3)), np.zeros((0, 3))
    cells = np.floor((points[:, :2] - points[:, :2].min(0)) / cell_m).astype(int) + 3
    filled = np.zeros(cells.max(0) + 4, bool)
    filled[cells[:, 0], cells[:, 1]] = True
    filled = binary_closing(filled)
    slope = np.stack(np.gradient(gaussian_filter(filled.astype(float), 1.5)), -1)  # towards the inside
    border = (filled & ~binary_erosion(filled))[cells[:, 0], cells[:, 1]]
    edge, out = points[border], -slope[cells[border, 0], cells[border, 1]]
    length = np.linalg.norm(out, axis=1)
    edge, out, keys = edge[length > 1e-3], out[length > 1e-3], cells[border][length > 1e-3]
    out = np.c_[out / length[length > 1e-3, None], np.zeros(len(out))]
    # of each border cell the outermost point
    order = np.lexsort((np.sum(edge * out, 1), keys[:, 1], keys[:, 0]))
    last = order[np.r_[np.any(np.diff(keys[order], axis=0) != 0, axis=1), np.ones(min(1, len(order)), bool)]]
    edge, out = edge[last], out[last]
    thickness = 2 * cell_m * maximum_filter(distance_transform_edt(filled), NEIGHBOUR_CELLS)[tuple(keys[last].T)]
    drop = np.minimum(WALL_DEPTH * thickness, edge[:, 2] - table_z_m)
    steps = np.arange(1, 1 + max(1, int(drop.max(initial=0.0) / cell_m))) * cell_m
    inside = steps[None] <= drop[:, None]
    walls = edge[:, None] - steps[None, :, None] * np.array([0, 0, 1.0])
    return walls[inside], np.broadcast_to(out[:, None], walls.shape)[inside]
