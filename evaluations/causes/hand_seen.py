"""Is the hand where its joints say? The second picture shows it, so a camera that is not where it is thought to be can
be told even where the table looks right."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.types import RgbdFrame
from affordagent.robot.interface import ArmState
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.link_spheres import link_spheres
from affordagent.robot.model import GRIPPER_PREFIX, MAX_OPENING_M, PREFIX
from affordagent.tools.depth_projection import flying, voxel_downsample
from affordagent.tools.motion.collision import sphere_centres

NEAR_M = 0.045  # of the hand's spheres: what is seen there may be the hand
ROUNDS, LEAST_POINTS, ROBUST_M = 25, 150, 0.004
VOXEL_M = 0.003
PAD_PX = 60
FITS_M = 0.005  # median departure of the points from the hand's surface


def hand_off_m(
    frame: RgbdFrame, now: ArmState, held: Array, too_high_m: float, kinematics: ArmKinematics
) -> Array | None:
    """(2,) how far in x and y of the base frame the hand is seen from where the joints have it; None where too little
    of it is seen, or it fits nowhere.

    frame: a picture with the hand in it, its T_base_camera as it is thought to be. held: (N, 3) points of what it
    should hold, which are left out. too_high_m: by how much everything is seen too high, by the table: a hand that
    hangs down does not tell.
    """
    if frame.T_base_camera is None:
        return None
    spheres = link_spheres(kinematics.arm)
    width_m = now.gripper_width_m if np.isfinite(now.gripper_width_m) else MAX_OPENING_M
    centres = sphere_centres(kinematics, now.positions, float(width_m))
    is_hand = np.array([kinematics.model.body(b).name.startswith(PREFIX + GRIPPER_PREFIX) for b in spheres.body])
    is_hand |= np.array([kinematics.model.body(b).name == f"{PREFIX}wrist_3_link" for b in spheres.body])
    centres, radii = centres[is_hand], spheres.radius_m[is_hand]
    seen = _seen_near(frame, centres)
    if len(held) and len(seen):
        seen = seen[~np.isfinite(cKDTree(held).query(seen, distance_upper_bound=0.02)[0])]
    if len(seen) < LEAST_POINTS:
        return None
    return _offset(seen - [0, 0, too_high_m], centres, radii)


def _seen_near(frame: RgbdFrame, centres: Array) -> Array:
    sound = (frame.depth_m > 0) & ~flying(frame.depth_m)
    T = np.asarray(frame.T_base_camera)
    at = transform_points(invert(T), centres)
    at = at[at[:, 2] > 0.1]
    if not len(at):
        return np.empty((0, 3))
    pixels = frame.camera.project(at)
    (u0, v0), (u1, v1) = (
        np.clip(pixels.min(0) - 60, 0, None).astype(int),
        np.clip(pixels.max(0) + 60, 0, None).astype(int),
    )
    mask = np.zeros(frame.depth_m.shape, bool)
    mask[v0:v1, u0:u1] = sound[v0:v1, u0:u1]
    seen = voxel_downsample(transform_points(T, frame.camera.back_project_mask(frame.depth_m, mask)), VOXEL_M)
    return seen[np.isfinite(cKDTree(centres).query(seen, distance_upper_bound=NEAR_M)[0])] if len(seen) else seen


def _offset(seen: Array, centres: Array, radii: Array) -> Array | None:
    """(2,) the robust shift that brings the spheres' common surface to the points."""
    tree, shift = cKDTree(centres), np.zeros(3)
    residual = np.zeros(len(seen))
    for _ in range(ROUNDS):
        moved = seen - shift
        distance, index = tree.query(moved, k=4)
        gap = distance - radii[index]
        rows, nearest = np.arange(len(moved)), gap.argmin(1)
        away = moved - centres[index[rows, nearest]]
        normal = away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        residual = gap[rows, nearest] - np.median(gap[rows, nearest])
        weight = 1.0 / np.maximum(np.abs(residual), ROBUST_M)
        NW = (normal[:, :2] * weight[:, None]).T
        step = np.linalg.solve(NW @ normal[:, :2] + 1e-3 * weight.sum() * np.eye(2), NW @ residual)
        shift[:2] += step
        if np.linalg.norm(step) < 1e-5:
            break
    return shift[:2] if np.median(np.abs(residual)) < FITS_M else None
