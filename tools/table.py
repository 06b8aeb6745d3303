"""The table and what stands on it, from one RGB-D frame and no training.

The plane: RANSAC (Fischler and Bolles 1981) over seeded triples, refined by least squares with a threshold that follows
the depth noise. The objects: pixels above the plane, connected in the image and in 3D (see `clusters`).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, transform_points
from affordagent.core.types import Mask, ObjectProposal, RgbdFrame, TableScene, box_of
from affordagent.tools import clusters

NEAR_M, FAR_M = 0.15, 2.0  # depths that are looked at
MIN_VALID = 0.05  # share of the picture that must have depth
SAMPLE = 5000  # points the plane is fitted to
COUNTED = 2000  # of them, for the support of each of the TRIPLES
TRIPLES = 400
BASE_RADIUS_M = 0.3  # what is nearer to the base's axis may be the robot itself


@dataclass(frozen=True)
class Workspace:
    """Where objects may stand. x_m, y_m: limits in the base frame, used when the camera's mounting is known.
    max_height_m: anything taller is arm, wall or person. min_area_m2: smallest visible surface of an object."""

    x_m: tuple[float, float] = (0.2, 0.85)
    y_m: tuple[float, float] = (-0.5, 0.5)
    max_height_m: float = 0.35
    min_area_m2: float = 1.5e-4


def find_table(frame: RgbdFrame, seed: int = 0) -> Array:
    """Plane (4,) n, d in the camera frame, n towards the camera: n . p + d is the height of p above the table, metres.

    With a known `frame.T_base_camera` only planes within 20 degrees of the base's horizontal count.

    Raises:
        StageFailure: ("look", "depth.hole") when under 5 % of the picture has depth between 0.15 and 2 m;
            ("ground", "grounding.not_found") when no plane holds a fair share of it.
    """
    usable = (frame.depth_m > NEAR_M) & (frame.depth_m < FAR_M)
    share = float(usable.mean())
    if share < MIN_VALID:
        raise StageFailure(
            "look",
            "depth.hole",
            f"only {share:.1%} of the picture has a depth between {NEAR_M} and {FAR_M} m, at least {MIN_VALID:.0%} is "
            "needed: check that the depth stream runs and that the camera is 0.3 to 1.5 m from the table",
            valid_fraction=round(share, 4),
        )
    rng = np.random.default_rng(seed)
    pixels = np.flatnonzero(usable)
    chosen = pixels[rng.integers(len(pixels), size=SAMPLE)]
    sample = frame.camera.back_project_pixels(frame.depth_m, chosen)
    plane = _ransac(sample[:COUNTED], _up_camera(frame), rng)
    if plane is None:
        raise StageFailure(
            "ground",
            "grounding.not_found",
            "no table plane is in view: point the camera at the table so that it fills a third of the picture",
        )
    return _refine(sample, plane)


def find_objects(frame: RgbdFrame, workspace: Workspace | None = None, seed: int = 0) -> TableScene:
    """What stands on the table, each thing as one proposal, largest first.

    Raises:
        StageFailure: those of `find_table`; ("ground", "grasp.unreachable") when all that stands there lies outside the
            workspace; ("ground", "grounding.not_found") when nothing stands on the table.
    """
    workspace = workspace or Workspace()
    plane = find_table(frame, seed)
    points = frame.camera.back_project(frame.depth_m)  # (H, W, 3)
    valid = (frame.depth_m > NEAR_M) & (frame.depth_m < FAR_M)
    height = np.where(valid, points @ plane[:3] + plane[3], np.nan).astype(np.float32)
    sigma = noise_sigma(height, frame.depth_m)
    labels = clusters.connect(frame, points, height, sigma, valid)
    candidates = clusters.assemble(frame, points, height, labels, plane)
    standing = valid & np.any(candidates, axis=0) if candidates else np.zeros_like(valid)
    reachable = _on_table(frame, points, height, sigma, workspace, standing)
    masks = [m for m in candidates if _is_object(m, frame, height, reachable, workspace)]
    if not masks:
        _raise_if_out_of_reach([m for m in candidates if _is_object(m, frame, height, valid, workspace)], frame, points)
        raise StageFailure(
            "ground",
            "grounding.not_found",
            "nothing stands on the table within the workspace: put the object in view, "
            f"x {workspace.x_m} and y {workspace.y_m} m from the robot base, and look again",
        )
    masks.sort(key=lambda m: -int(m.sum()))
    return TableScene(plane, height, [ObjectProposal(i, mask, box_of(mask)) for i, mask in enumerate(masks)])


def noise_sigma(height: NDArray[np.float32], depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, W) expected noise of the height, metres: stereo's depth squared, scaled by the table's residuals."""
    near_plane = (np.abs(height) < 0.015) & (depth_m > 0)
    if near_plane.sum() < 100:
        return np.full(height.shape, 0.002, np.float32)
    ratio = np.abs(height[near_plane]) / depth_m[near_plane] ** 2
    scale = 1.4826 * float(np.median(ratio))
    return np.clip(scale * depth_m**2, 2e-4, 6e-3).astype(np.float32)


def _up_camera(frame: RgbdFrame) -> Array | None:
    """The base's z axis in the camera frame, None where the mounting is unknown."""
    return None if frame.T_base_camera is None else frame.T_base_camera[2, :3].copy()


def _planes(sample: Array, rng: np.random.Generator) -> Array:
    """(K, 4) planes through random triples, normals towards the camera."""
    a, b, c = sample[rng.integers(len(sample), size=(3, TRIPLES))]
    normal = np.cross(b - a, c - a)
    length = np.linalg.norm(normal, axis=1)
    keep = length > 1e-5
    normal = normal[keep] / length[keep, None]
    d = -np.einsum("ij,ij->i", normal, a[keep])
    flip = np.where(d < 0, -1.0, 1.0)  # the camera (the origin) is above the table
    return np.concatenate([normal * flip[:, None], (d * flip)[:, None]], axis=1)


def _ransac(sample: Array, up: Array | None, rng: np.random.Generator) -> Array | None:
    """The plane with the most support, near points and floor-like attitudes favoured; a plane parallel to the winner
    that lies above it (a table above a floor) wins when it has a fair share."""
    planes = _planes(sample, rng)
    if up is not None:
        planes = planes[planes[:, :3] @ up > np.cos(np.radians(20))]
    if not len(planes):
        return None
    z = sample[:, 2]
    tolerance = 0.004 + 0.004 * z**2
    off = planes[:, :3].astype(np.float32) @ sample.T.astype(np.float32) + planes[:, 3:].astype(np.float32)
    inside = np.abs(off) < tolerance.astype(np.float32)  # (K, N)
    nearness = 1.0 / np.maximum(z, 0.3) ** 2  # a patch twice as far covers a quarter of the pixels but as much table
    support = inside @ nearness / nearness.sum()
    attitude = np.ones(len(planes))
    if up is None:  # walls: normals that point down in the picture, or sideways
        attitude = np.where((planes[:, 1] > 0.35) | (np.abs(planes[:, 0]) > 0.75), 0.3, 1.0)
    best = int(np.argmax(support * attitude))
    parallel = planes[:, :3] @ planes[best, :3] > np.cos(np.radians(10))
    above = planes[:, 3] < planes[best, 3] - 0.2  # nearer to the camera
    rivals = np.flatnonzero(parallel & above & (support > 0.3 * support[best]))
    if len(rivals):
        best = int(rivals[np.argmax(support[rivals])])
    return planes[best] if support[best] > 0.1 else None


def _refine(sample: Array, plane: Array) -> Array:
    """Least squares over the inliers, three rounds; the band narrows to three robust sigmas."""
    tolerance = 0.004 + 0.004 * sample[:, 2] ** 2
    for _ in range(3):
        residual = sample @ plane[:3] + plane[3]
        inliers = sample[np.abs(residual) < tolerance]
        centre = inliers.mean(0)
        normal = np.linalg.svd(inliers - centre, full_matrices=False)[2][2]
        normal = normal * (1.0 if -centre @ normal > 0 else -1.0)
        plane = np.append(normal, -centre @ normal)
        spread = 1.4826 * float(np.median(np.abs(inliers @ plane[:3] + plane[3])))
        tolerance = np.minimum(tolerance, max(3 * spread, 0.0015))
    return plane


def plane_axes(plane: Array) -> Array:
    """(3, 2) two unit axes in the plane, camera frame; the first is as near image-right as can be."""
    n = plane[:3]
    first = np.array([1.0, 0, 0]) - n[0] * n
    if np.linalg.norm(first) < 1e-3:
        first = np.array([0, 1.0, 0]) - n[1] * n
    first = first / np.linalg.norm(first)
    return np.stack([first, np.cross(n, first)], axis=1)


def _on_table(
    frame: RgbdFrame,
    points: Array,
    height: NDArray[np.float32],
    sigma: NDArray[np.float32],
    workspace: Workspace,
    asked: Mask,
) -> Mask:
    """(H, W) those of the pixels `asked` whose foot lies on the seen table and, with a known mounting, within the
    workspace."""
    out = asked.copy()
    with np.errstate(invalid="ignore"):
        table = np.abs(height) < np.maximum(0.004, 3 * sigma)
    if frame.T_base_camera is not None:
        T = frame.T_base_camera
        x, y, _ = transform_points(T, points[asked]).T
        (x0, x1), (y0, y1) = workspace.x_m, workspace.y_m
        out[asked] = (x > x0) & (x < x1) & (y > y0) & (y < y1)
        return out
    # The largest piece of table in the picture: what is beyond its edge (floor, another table) does not count.
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(table.astype(np.uint8), np.ones((9, 9))))
    if count < 2:
        return np.zeros(table.shape, bool)
    table &= pieces == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    n = clusters.plane_normal(points, table)
    axes = plane_axes(np.append(n, 0.0))
    hull = cv2.convexHull((clusters.every(7, points, table) @ axes).astype(np.float32))  # in table coordinates
    scale = 500.0  # 2 mm cells
    low = hull.reshape(-1, 2).min(0) - 0.05
    size = np.ceil((hull.reshape(-1, 2).max(0) + 0.05 - low) * scale).astype(int)
    plan = np.zeros((size[1] + 1, size[0] + 1), np.uint8)
    cv2.fillConvexPoly(plan, ((hull.reshape(-1, 2) - low) * scale).astype(np.int32), 1)
    plan = cv2.dilate(plan, np.ones((21, 21), np.uint8))  # 2 cm: things may stand at the very edge
    cell = ((points[asked] @ axes - low) * scale).astype(int)
    inside = (cell >= 0).all(-1) & (cell[:, 0] < plan.shape[1]) & (cell[:, 1] < plan.shape[0])
    inside[inside] = plan[cell[inside, 1], cell[inside, 0]] > 0
    out[asked] = inside
    return out


def _is_object(
    mask: Mask,
    frame: RgbdFrame,
    height: NDArray[np.float32],
    reachable: Mask,
    workspace: Workspace,
) -> bool:
    """Large enough, low enough, nearly all of it on the table, and resting on it rather than hanging above."""
    seen = mask & np.isfinite(height)
    z = frame.depth_m[seen].astype(np.float64)
    area_m2 = float((z**2).sum() / (frame.camera.fx * frame.camera.fy))
    if area_m2 < workspace.min_area_m2 or seen.sum() < 60:
        return False
    low, high = np.percentile(height[seen], [2, 99.5])
    return bool(high < workspace.max_height_m and low < 0.06 and (reachable[seen]).mean() > 0.7)


def _raise_if_out_of_reach(masks: list[Mask], frame: RgbdFrame, points: Array) -> None:
    """Say where the things are that stand outside the workspace; the robot's own base is none of them."""
    if frame.T_base_camera is None:
        return
    places = [np.median(transform_points(frame.T_base_camera, points[m & (frame.depth_m > 0)]), axis=0) for m in masks]
    away = sorted((float(np.hypot(x, y)), float(x), float(y)) for x, y, _ in places if np.hypot(x, y) > BASE_RADIUS_M)
    if away:
        distance, x, y = away[0]
        raise StageFailure(
            "ground",
            "grasp.unreachable",
            f"{len(away)} things stand on the table, all out of the arm's reach; the nearest is {distance:.2f} m from "
            f"the robot base at x = {x:.2f}, y = {y:.2f} m: move it nearer, or check T_base_camera",
            nearest_m=round(distance, 3),
        )
