"""A second RGB-D look, compared with the first in three dimensions.

Points that were measured before are looked for where they should be now. Each is then seen there, gone (the camera sees
through where it was), covered by something that is neither the arm nor what it holds, or hidden by one of those, whose
place is known from the joints. So the camera may stand anywhere, or ride on the arm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from affordagent.core.geometry import Array, invert, rigid, rotation_angle, transform_points
from affordagent.core.types import RgbdFrame
from affordagent.tools.depth_projection import flying, normals_towards_camera, voxel_downsample

SIGMAS = 4.0  # of both pictures' noise: between a depth and where it should be
TOLERANCE_M = (0.004, 0.010)
ARM_MARGIN_M = 0.012  # round the arm's spheres: what is seen there is the arm
HELD_MARGIN_M = 0.015
NEAR_M = 0.04  # how far from its expected place a held thing is looked for
VOXEL_M = 0.002
CLOSE_TO_ARM_M = 0.004
ICP_POINTS, ICP_ROUNDS = 500, 20
FIRST_REACH_M, LAST_REACH_M, ROBUST_M, PRIOR = 0.03, 0.008, 0.002, 0.02
LEAST_MATCHES = 40
UNMOVED = 0.5  # share of the depths that are as before: then the camera stands where it stood


def in_one_frame(before: RgbdFrame, after: RgbdFrame) -> RgbdFrame:
    """`after` with the camera's pose of `before`, where the pictures show that the camera has not moved: so one error
    of calibration is in both. Otherwise `after` as it is."""
    if before.depth_m.shape != after.depth_m.shape or before.camera != after.camera:
        return after
    both = (before.depth_m > 0) & (after.depth_m > 0)
    same = np.abs(before.depth_m[both] - after.depth_m[both]) < TOLERANCE_M[1]
    stands = same.size > 0 and same.mean() >= UNMOVED
    return replace(after, T_base_camera=before.T_base_camera) if stands else after


@dataclass(frozen=True)
class Found:
    """How many of the points that were looked for are seen, gone, covered, or hidden (the arm, or what it holds, is in
    the way; no depth there; out of the picture)."""

    seen: int
    gone: int
    covered: int
    hidden: int

    @property
    def told(self) -> int:
        """Points of which the picture says something."""
        return self.seen + self.gone + self.covered

    @property
    def seen_share(self) -> float:
        return self.seen / self.told if self.told else float("nan")


@dataclass(frozen=True)
class Shift:
    """By how much a thing is off its expected place: shift_m of its middle, turn_rad. seen_share: of its points, there
    (of those of which the picture says something)."""

    shift_m: float
    turn_rad: float
    seen_share: float


class SecondLook:
    """What a picture taken after a motion says about points in the base frame.

    before_noise_m: of the first picture, see `noise_sigma`. spheres: (S, 3) centres and (S,) radii that cover the arm
    as it stands now. held: (H, 3) points of what the hand should hold now, empty where it should hold nothing.

    Raises:
        ValueError: the picture has no T_base_camera.
    """

    def __init__(self, after: RgbdFrame, before_noise_m: float, spheres: tuple[Array, Array], held: Array) -> None:
        if after.T_base_camera is None:
            raise ValueError("the second picture has no T_base_camera")
        self.frame, self.T_camera_base = after, invert(after.T_base_camera)
        self.tolerance_m = float(np.clip(SIGMAS * np.sqrt(2) * before_noise_m, *TOLERANCE_M))
        centres, radii = spheres
        self._arm = [(float(r), cKDTree(centres[radii == r])) for r in np.unique(radii)]
        self._held = cKDTree(held) if len(held) else None
        self._sound = (after.depth_m > 0) & ~flying(after.depth_m)

    def look_for(self, points: Array, beside_held: bool = False) -> Found:
        """Points (N, 3), base frame, where they should be now. beside_held: what the hand should hold may be in the
        way too."""
        if not len(points):
            return Found(0, 0, 0, 0)
        at = transform_points(self.T_camera_base, points)
        pixels, inside = self._pixels(at)
        measured_m = np.zeros(len(points))
        measured_m[inside] = np.where(self._sound, self.frame.depth_m, 0)[pixels[inside, 1], pixels[inside, 0]]
        off_m = np.where(measured_m > 0, measured_m - at[:, 2], np.nan)
        seen, gone, nearer = np.abs(off_m) <= self.tolerance_m, off_m > self.tolerance_m, off_m < -self.tolerance_m
        rays = at * (measured_m / at[:, 2])[:, None]
        there = transform_points(np.asarray(self.frame.T_base_camera), rays)
        ours = np.zeros(len(points), bool)
        known = measured_m > 0
        ours[known] = self.is_ours(there[known]) if beside_held else self.is_arm(there[known])
        return Found(
            int((seen & ~ours).sum()),
            int((gone & ~ours).sum()),
            int((nearer & ~ours).sum()),
            int((~known | ours).sum()),
        )

    def is_arm(self, points: Array, margin_m: float = ARM_MARGIN_M) -> NDArray[np.bool_]:
        """(N,) which points (N, 3) of the base frame lie on or in the arm."""
        arm = np.zeros(len(points), bool)
        for radius, tree in self._arm:
            arm |= np.isfinite(tree.query(points, distance_upper_bound=radius + margin_m)[0])
        return arm

    def is_ours(self, points: Array) -> NDArray[np.bool_]:
        """(N,) which points are the arm's, or near what it should hold."""
        ours = self.is_arm(points)
        if self._held is not None:
            ours |= np.isfinite(self._held.query(points, distance_upper_bound=HELD_MARGIN_M)[0])
        return ours

    def _pixels(self, at: Array) -> tuple[NDArray[np.int_], NDArray[np.bool_]]:
        camera = self.frame.camera
        ahead = at[:, 2] > 0.05
        pixels = np.zeros((len(at), 2), int)
        pixels[ahead] = np.round(camera.project(at[ahead])).astype(int)
        inside = ahead & (pixels >= 0).all(1) & (pixels[:, 0] < camera.width) & (pixels[:, 1] < camera.height)
        return pixels, inside

    def place_of(self, points: Array) -> tuple[Found, Shift | None]:
        """What is seen of (N, 3) points of one thing where they should be, and how far from there it is, by trimmed
        point-to-plane ICP (Chen and Medioni 1992) within NEAR_M; None where too little is seen to tell."""
        found = self.look_for(points)
        around = self._around(points)
        around = around[~self.is_arm(around, CLOSE_TO_ARM_M)]
        if min(len(around), len(points)) < LEAST_MATCHES:
            return found, None
        T_base_camera = np.asarray(self.frame.T_base_camera)
        normals = normals_towards_camera(transform_points(self.T_camera_base, around)) @ T_base_camera[:3, :3].T
        T = align(points, around, normals)
        if T is None:
            return found, None
        middle = points.mean(0)
        shift_m = float(np.linalg.norm(transform_points(T, middle[None])[0] - middle))
        return found, Shift(shift_m, rotation_angle(T[:3, :3]), self.look_for(transform_points(T, points)).seen_share)

    def count_near(self, point: Array, within_m: float) -> int:
        """Measured pixels within `within_m` of a point (3,) of the base frame that are not the arm's."""
        around = self._around(point[None], within_m)
        return int((~self.is_arm(around)).sum())

    def _around(self, points: Array, within_m: float = NEAR_M) -> Array:
        """What is seen within `within_m` of any of the points, base frame, every 2 mm."""
        at = transform_points(self.T_camera_base, points)
        pixels, inside = self._pixels(at)
        if not inside.any():
            return np.empty((0, 3))
        pad = int(within_m * self.frame.camera.fx / max(float(np.median(at[:, 2])), 0.1))
        (u0, v0), (u1, v1) = np.maximum(pixels[inside].min(0) - pad, 0), pixels[inside].max(0) + pad + 1
        mask = np.zeros(self.frame.depth_m.shape, bool)
        mask[v0:v1, u0:u1] = self._sound[v0:v1, u0:u1]
        seen = self.frame.camera.back_project_mask(self.frame.depth_m, mask)
        seen = voxel_downsample(transform_points(np.asarray(self.frame.T_base_camera), seen), VOXEL_M)
        near = cKDTree(points).query(seen, distance_upper_bound=within_m)[0]
        return seen[np.isfinite(near)]


def align(points: Array, seen: Array, normals: Array) -> Array | None:
    """(4, 4) the small rigid motion that brings (N, 3) points onto (M, 3) seen ones with unit normals, or None where
    hardly any lie near. What the surfaces do not determine stays as it is."""
    source = points[:: max(1, len(points) // ICP_POINTS)]
    tree, middle, T, reach_m = cKDTree(seen), source.mean(0), np.eye(4), FIRST_REACH_M
    lever_m = float(np.linalg.norm(source - middle, axis=1).mean())
    unwilling = np.diag([lever_m**2] * 3 + [1.0] * 3)  # to turn, to move
    for _ in range(ICP_ROUNDS):
        moved = transform_points(T, source)
        distance, index = tree.query(moved, distance_upper_bound=reach_m)
        matched = np.isfinite(distance)
        if matched.sum() < LEAST_MATCHES:
            return None
        p, q, n = moved[matched], seen[index[matched]], normals[index[matched]]
        residual = np.einsum("ij,ij->i", q - p, n)
        J = np.concatenate([np.cross(p - middle, n), n], axis=1)
        weight = 1.0 / np.maximum(np.abs(residual), ROBUST_M)
        JW = (J * weight[:, None]).T
        step = np.linalg.solve(JW @ J + PRIOR * weight.sum() * unwilling, JW @ residual)
        turn = rigid(Rotation.from_rotvec(step[:3]).as_matrix(), np.zeros(3))
        T = rigid(np.eye(3), middle + step[3:]) @ turn @ rigid(np.eye(3), -middle) @ T
        reach_m = max(LAST_REACH_M, 0.85 * reach_m)
        if np.abs(step).max() < 1e-4 and reach_m <= LAST_REACH_M:
            break
    return T
