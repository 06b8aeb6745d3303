"""From a part mask to clouds: the part, its object and the obstacles, cleaned, in the base frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, transform_points
from affordagent.core.types import Mask, PartCloud, PartMask, RgbdFrame, TableScene
from affordagent.tools.depth_holes import fill_holes
from affordagent.tools.table import noise_sigma

MIN_POINTS = 30
MIN_VALID = 0.15  # of the mask's pixels
ABOVE_TABLE_M = 0.002  # lower points of a mask are table
TABLE_SIGMAS = 1.5  # of the noise: what a table pixel's neighbourhood may seem to rise above the table
NOISY_M = 0.005  # median departure from the neighbourhood
MOST_TABLE = 0.7  # of the part's depths
OBSTACLE_VOXEL_M = 0.004
OWN_SHARE = 0.7  # of a proposal under the object's mask: the rest of it is the same object
PART_VOXEL_M = 0.0015
OBJECT_VOXEL_M = 0.003
HAND_M = 0.25  # from the flange to the fingertips
REACH_M = (0.18, 0.85 + HAND_M)  # nearer to the base's axis is the robot itself, further is out of a UR5's reach
OBSTACLE_TOP_M = 0.8
TABLE_DRIFT_M = 0.03


def lift(frame: RgbdFrame, scene: TableScene, part: PartMask, reach_m: float = REACH_M[1]) -> PartCloud:
    """Mask x depth -> points in the base frame.

    reach_m: of the hand from the base's axis; nothing further away is an obstacle.

    The mask's rim (1 px) is dropped where enough remains, as are flying pixels, and the table where it shows under the
    mask: beside the part, through its loops, or through glass. Small holes in smooth surfaces are filled
    (`depth_holes`). Obstacles are all other points above the table within reach of the arm; the arm itself is assumed
    out of view.

    Raises:
        StageFailure: ("lift", code): calibration.pose (no T_base_camera), grounding.empty_mask, depth.hole (under 15 %
            of the mask or 30 points have depth), depth.transparent (over 70 % of the depths are those of the table
            behind), depth.noisy (neighbouring depths differ by more than 5 mm in the median).
    """
    if frame.T_base_camera is None:
        raise StageFailure(
            "lift", "calibration.pose", "the frame has no T_base_camera: calibrate, or estimate it first"
        )
    if not part.mask.any():
        raise StageFailure("lift", "grounding.empty_mask", "the part mask is blank: ground again")
    measured = part.mask & (frame.depth_m > 0)
    fraction = float(measured.sum() / part.mask.sum())
    _check_holes(fraction, int(measured.sum()))
    _check_noise(frame.depth_m, measured)
    sigma_m = noise_sigma(scene.height_m, frame.depth_m)
    table = _table_under(measured, scene.height_m, sigma_m)
    table_fraction = _check_transparent(scene, measured, table)
    sound = (scene.height_m > ABOVE_TABLE_M) & ~flying(frame.depth_m) & ~table
    whole = _whole(scene, part)
    depth_m, filled = fill_holes(frame.depth_m, whole, sound, sigma_m, frame.camera)
    part_points = _cleaned(frame.camera.back_project_mask(depth_m, _inner(part.mask) & (sound | filled)))
    if len(part_points) < MIN_POINTS:
        raise StageFailure(
            "lift",
            "depth.hole",
            f"{len(part_points)} sound points of the part remain, at least {MIN_POINTS} are needed: move the camera "
            "nearer, or away from glare",
            valid_fraction=round(fraction, 3),
            points=len(part_points),
        )
    part_points = voxel_downsample(part_points, PART_VOXEL_M)
    normals = normals_towards_camera(part_points)
    object_points = _cleaned(frame.camera.back_project_mask(depth_m, _inner(whole) & (sound | filled)))
    object_points = np.concatenate([voxel_downsample(object_points, OBJECT_VOXEL_M), part_points])
    T = frame.T_base_camera
    return PartCloud(
        part=transform_points(T, part_points),
        part_normals=normals @ T[:3, :3].T,
        object=transform_points(T, object_points),
        obstacles=_obstacles(frame, scene, whole, sound, sigma_m, reach_m),
        table_z_m=_table_z(T, scene.plane_camera, object_points.mean(0)),
        camera_position=T[:3, 3].copy(),
        valid_fraction=fraction,
        filled_fraction=float(filled[part.mask].mean()),
        table_fraction=table_fraction,
    )


def _whole(scene: TableScene, part: PartMask) -> Mask:
    """The object's mask with the crumbs of its own proposal that the tool left out, which are no obstacles."""
    mask = part.object_mask | part.mask
    own = [p.mask for p in scene.proposals if (p.mask & mask).sum() > OWN_SHARE * p.mask.sum()]
    return np.logical_or.reduce([mask, *own])


def flying(depth_m: NDArray[np.float32]) -> Mask:
    """(H, W) pixels between two surfaces: fewer than 3 of the 8 neighbours within 6 mm + 1 % of their depth."""
    padded = np.pad(depth_m, 1)
    height, width = depth_m.shape
    support = np.zeros(depth_m.shape, np.int8)
    for dv, du in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)):
        neighbour = padded[dv : dv + height, du : du + width]
        support += (np.abs(neighbour - depth_m) < 0.006 + 0.01 * depth_m) & (neighbour > 0)
    return (support < 3) & (depth_m > 0)


def voxel_downsample(points: Array, voxel_m: float) -> Array:
    """(N, 3 + C) -> (M, 3 + C) mean of the rows in each cube of side `voxel_m`; the first three columns are x, y, z."""
    if not len(points):
        return points.reshape(0, points.shape[-1])
    cells = np.floor((points[:, :3] - points[:, :3].min(0)) / voxel_m).astype(np.int64)
    size = cells.max(0) + 1
    keys = (cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]
    _, which, count = np.unique(keys, return_inverse=True, return_counts=True)
    out = np.stack([np.bincount(which, weights=column) for column in points.T], axis=1)
    return out / count[:, None]


def normals_towards_camera(points_camera: Array, neighbours: int = 20) -> Array:
    """(N, 3) unit normals by PCA over the nearest neighbours, facing the camera at the origin."""
    _, index = cKDTree(points_camera).query(points_camera, k=min(neighbours, len(points_camera)))
    local = points_camera[index]  # (N, k, 3)
    local = local - local.mean(1, keepdims=True)
    normal = np.linalg.eigh(np.einsum("nki,nkj->nij", local, local))[1][:, :, 0]
    towards = np.einsum("ij,ij->i", normal, points_camera) < 0
    return np.where(towards[:, None], normal, -normal)


def _inner(mask: Mask) -> Mask:
    """The mask without its rim, unless it is so thin that half would go."""
    eroded = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return eroded if eroded.sum() >= 0.5 * mask.sum() else mask


def _cleaned(points: Array, radius_m: float = 0.008, least: int = 5) -> Array:
    """Points with company within `radius_m` (which grows with the spacing of far pixels)."""
    if len(points) < least:
        return points[:0]
    tree = cKDTree(points)
    spacing = float(np.median(tree.query(points[:: max(1, len(points) // 500)], k=2)[0][:, 1]))
    distance = tree.query(points, k=least)[0][:, -1]
    return points[distance < max(radius_m, 4 * spacing)]


def _check_holes(fraction: float, count: int) -> None:
    if fraction >= MIN_VALID and count >= MIN_POINTS:
        return
    raise StageFailure(
        "lift",
        "depth.hole",
        f"{fraction:.0%} of the part's pixels ({count}) have depth, at least {MIN_VALID:.0%} and {MIN_POINTS} are "
        "needed: shiny or black surfaces and things nearer than 0.3 m give none; move the camera or the light",
        valid_fraction=round(fraction, 3),
        points=count,
    )


def _local_median(image: NDArray[np.float32], mask: Mask) -> NDArray[np.float32]:
    """(N,) for each pixel of the mask the median of those of the mask among the 5 x 5 round it: nothing of what lies
    beside a thin part, nor of its holes."""
    padded = np.pad(np.where(mask, image, np.float32(np.inf)), 2, constant_values=np.inf)
    near = np.sort(sliding_window_view(padded, (5, 5))[mask].reshape(-1, 25), axis=1)
    return near[np.arange(len(near)), (np.isfinite(near).sum(1) - 1) // 2]


def _check_noise(depth_m: NDArray[np.float32], mask: Mask) -> None:
    """Depths of a surface agree with their neighbourhood's median; those of noise do not."""
    departure = float(np.median(np.abs(depth_m[mask] - _local_median(depth_m, mask))))
    if departure > NOISY_M:
        raise StageFailure(
            "lift",
            "depth.noisy",
            f"depths of the part differ from their neighbours by {1e3 * departure:.1f} mm in the median, limit "
            f"{1e3 * NOISY_M:.0f} mm: average several frames, or move the camera nearer",
            noise_m=round(departure, 5),
        )


def _table_under(mask: Mask, height_m: NDArray[np.float32], sigma_m: NDArray[np.float32]) -> Mask:
    """(H, W) pixels of the mask that show the table, by the height of their neighbourhood: single noisy depths rise
    above it."""
    out = np.zeros_like(mask)
    out[mask] = _local_median(height_m, mask) < np.maximum(ABOVE_TABLE_M, TABLE_SIGMAS * sigma_m[mask])
    return out


def _check_transparent(scene: TableScene, mask: Mask, table: Mask) -> float:
    """The share of a mask's depths that are the table's, or lie below it. When most do, it belongs to glass, or to
    nothing."""
    on_table = float((table | (scene.height_m < ABOVE_TABLE_M))[mask].mean())
    if on_table > MOST_TABLE:
        raise StageFailure(
            "lift",
            "depth.transparent",
            f"{on_table:.0%} of the part's depths are those of the table behind it, limit {MOST_TABLE:.0%}: glass, or "
            "too flat for this camera; put something opaque there",
            on_table=round(on_table, 3),
        )
    return on_table


def check_table_height(table_z_m: float, stated_z_m: float) -> None:
    """Is the table where the settings have it?

    Raises:
        StageFailure: ("lift", "calibration.drift"): it is seen more than TABLE_DRIFT_M away.
    """
    if abs(table_z_m - stated_z_m) > TABLE_DRIFT_M:
        raise StageFailure(
            "lift",
            "calibration.drift",
            f"the table is seen at z = {table_z_m:.3f} m, the settings say table_z_m = {stated_z_m:.3f}, limit "
            f"{TABLE_DRIFT_M} m apart: calibrate the camera again, or correct [limits] table_z_m",
            seen_m=round(table_z_m, 4),
            stated_m=stated_z_m,
        )


def _obstacles(
    frame: RgbdFrame, scene: TableScene, own: Mask, sound: Mask, sigma_m: NDArray[np.float32], reach_m: float
) -> Array:
    """(K, 3) base-frame points above the table that are not the object."""
    assert frame.T_base_camera is not None
    own = cv2.dilate(own.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0  # the object's blurred rim is no obstacle
    others = sound & ~own & (scene.height_m > np.maximum(0.006, 4 * sigma_m))
    base = transform_points(frame.T_base_camera, frame.camera.back_project_mask(frame.depth_m, others))
    radius = np.linalg.norm(base[:, :2], axis=1)
    near = (radius > REACH_M[0]) & (radius < reach_m) & (base[:, 2] < OBSTACLE_TOP_M)
    return _cleaned(voxel_downsample(base[near], OBSTACLE_VOXEL_M), 0.015, 3)


def _table_z(T_base_camera: Array, plane: Array, point_camera: Array) -> float:
    """Height of the plane under a point, base frame."""
    normal = T_base_camera[:3, :3] @ plane[:3]
    d = plane[3] - normal @ T_base_camera[:3, 3]
    x, y = transform_points(T_base_camera, point_camera[None])[0, :2]
    return float(-(normal[0] * x + normal[1] * y + d) / normal[2])
