"""Spheres that cover the links, the gripper and the fingers: enough of the arm's shape to compare it with points, boxes
and planes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np
import trimesh
from numpy.typing import NDArray

from affordagent.core.geometry import Array
from affordagent.robot.arms import ArmName
from affordagent.robot.kinematics import TABLE, planning_model
from affordagent.robot.limits import Box
from affordagent.robot.model import GRIPPER_PREFIX, PREFIX

_UNSEEN = ("base", "shoulder_link")  # never near the table's objects
_COVER_M = {"upper_arm_link": 0.028, "forearm_link": 0.014, "wrist_1_link": 0.010, "wrist_2_link": 0.010}
"""By how much the drawn links, whose shape is the real one, are wider in places than Menagerie's colliders."""


@dataclass(frozen=True)
class LinkSpheres:
    """Spheres that cover the moving links. body: (N,) ids; offset_m: (N, 3) in the body frame; radius_m: (N,).
    finger: (N,) bool, those that may touch the target."""

    body: NDArray[np.intp]
    offset_m: Array
    radius_m: Array
    finger: NDArray[np.bool_]


def _grid(lower: Array, upper: Array, spacing_m: float) -> Array:
    counts = np.maximum(1, np.ceil((upper - lower) / spacing_m)).astype(int)
    axes = [lo + (np.arange(n) + 0.5) * (hi - lo) / n for lo, hi, n in zip(lower, upper, counts, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def _fill(model: mujoco.MjModel, geom: int, finger: bool) -> tuple[Array, float]:
    """Centres in the geom frame, and their common radius."""
    size, kind = model.geom_size[geom], mujoco.mjtGeom(model.geom_type[geom])
    if kind in (mujoco.mjtGeom.mjGEOM_CAPSULE, mujoco.mjtGeom.mjGEOM_CYLINDER):
        count = 2 + int(2 * size[1] / size[0])
        return np.outer(np.linspace(-size[1], size[1], count), [0, 0, 1.0]), float(size[0])
    spacing = 0.008 if finger else 0.018
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        return _grid(-size, size, spacing), 0.5 * spacing
    mesh = model.geom_dataid[geom]
    start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    hull = trimesh.convex.convex_hull(model.mesh_vert[start : start + count])
    points = _grid(hull.bounds[0], hull.bounds[1], spacing)
    planes = np.einsum("ij,ij->i", hull.face_normals, hull.triangles[:, 0])
    return points[(points @ hull.face_normals.T <= planes).all(axis=1)], 0.5 * spacing


@cache
def link_spheres(arm: ArmName) -> LinkSpheres:
    """Spheres for every collision geom of the arm except its base."""
    model = planning_model(arm)
    bodies, offsets, radii, fingers = [], [], [], []
    for geom in range(model.ngeom):
        name = model.body(model.geom_bodyid[geom]).name
        if name == TABLE or name.removeprefix(PREFIX) in _UNSEEN:
            continue
        part = name.removeprefix(PREFIX + GRIPPER_PREFIX)
        finger = part != name and part not in ("base_mount", "base")
        centres, radius = _fill(model, geom, finger)
        radius += _COVER_M.get(name.removeprefix(PREFIX), 0.0)
        R = np.zeros(9)
        mujoco.mju_quat2Mat(R, model.geom_quat[geom])
        offsets.append(centres @ R.reshape(3, 3).T + model.geom_pos[geom])
        bodies.append(np.full(len(centres), model.geom_bodyid[geom]))
        radii.append(np.full(len(centres), radius))
        fingers.append(np.full(len(centres), finger))
    return LinkSpheres(*(np.concatenate(parts) for parts in (bodies, offsets, radii, fingers)))


def depth_in_box(centres: Array, radii: Array, box: Box) -> Array:
    """(..., N, 3) centres, (N,) radii -> (..., N) how far spheres reach into a box, metres; negative outside."""
    outside = np.maximum(np.subtract(box[0], centres), np.subtract(centres, box[1]))
    gap = np.linalg.norm(np.maximum(outside, 0.0), axis=-1)
    return radii - np.where(gap > 0, gap, outside.max(axis=-1))
