"""The way back to the posture in which the arm looks, from wherever a person or a failure has left it."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import JointTrajectory, RgbdFrame
from affordagent.robot.arms import ArmName
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.kinematics import ArmKinematics, within_limits
from affordagent.robot.limits import MotionLimits
from affordagent.robot.link_spheres import link_spheres
from affordagent.robot.model import MAX_OPENING_M
from affordagent.tools.depth_projection import REACH_M, flying, voxel_downsample
from affordagent.tools.motion.collision import CollisionWorld, sphere_centres, start_in_collision
from affordagent.tools.motion.planner import SPARE_M, plan_path
from affordagent.tools.motion.trajectory import cartesian_motion, joint_motion

RAISE_M, STEP_M = 0.15, 0.005  # straight up first, in these steps
HIGH_M = 0.35  # above the table a hand needs no raising
ARM_SEEN_M = 0.04  # points this near the arm are the arm
HELD_M = 0.12  # points this near the tcp are what the hand holds
OFF_TABLE_M = 0.01
AT_HOME_RAD = 0.01


def seen_points(frame: RgbdFrame, table_z_m: float) -> Array:
    """(N, 3) what stands on the table within reach, base frame; the arm in view is among it."""
    assert frame.T_base_camera is not None  # a real cell's frames have it
    usable = (frame.depth_m > 0) & ~flying(frame.depth_m)
    T, camera = frame.T_base_camera, frame.camera.back_project(frame.depth_m)[usable]
    points = voxel_downsample(camera @ T[:3, :3].T + T[:3, 3], 0.004)
    distance = np.linalg.norm(points[:, :2], axis=1)
    return points[(points[:, 2] > table_z_m + OFF_TABLE_M) & (distance > REACH_M[0]) & (distance < REACH_M[1])]


def plan_home(
    start_q: Array,
    points: Array,
    opening_m: float,
    *,
    limits: MotionLimits,
    arm: ArmName = "UR5e",
    seed: int = 0,
) -> list[JointTrajectory]:
    """Straight up where the hand is low, then a free joint path to LOOK_Q. Empty when the arm is there.

    start_q: (6,) rad. points: (N, 3) what was seen, base frame; those on the arm and within 0.12 m of the tcp are left
    out. opening_m: of the fingers, NaN = not known. What the hand holds is not looked after: it may touch something.

    Raises:
        StageFailure: ("plan", code): planning.start_in_collision, planning.no_path.
    """
    if np.abs(start_q - LOOK_Q).max() < AT_HOME_RAD:
        return []
    kinematics = ArmKinematics(arm)
    opening_m = MAX_OPENING_M if math.isnan(opening_m) else opening_m
    others = _others(kinematics, points, start_q, opening_m)
    world = CollisionWorld(kinematics, limits, others, np.empty((0, 3)), limits.table_z_m, start_q, SPARE_M)
    hit = world.hit(start_q, opening_m)
    if hit is not None:
        raise start_in_collision(hit, start_q, limits)
    motions: list[JointTrajectory] = []
    up = _straight_up(kinematics, world, start_q, opening_m, limits)
    if len(up) > 1:
        motions.append(cartesian_motion(up, STEP_M * (len(up) - 1), limits))
    rng, checks = np.random.default_rng(seed), limits.planning_checks
    path = plan_path(up[-1], LOOK_Q, lambda q: world.hit(q, opening_m) is None, rng, checks, arm)
    if path is None:
        raise StageFailure(
            "plan",
            "planning.no_path",
            f"no free path to the look posture within {limits.planning_checks} checked postures: clear the space round "
            "the arm, or drive it nearer by hand",
        )
    return [*motions, joint_motion(path, limits, arm)]


def _others(kinematics: ArmKinematics, points: Array, q: Array, opening_m: float) -> Array:
    """The points that are neither the arm nor near its hand."""
    if not len(points):
        return points
    distance, index = cKDTree(sphere_centres(kinematics, q, opening_m)).query(points)
    tcp = kinematics.forward(q)[:3, 3]
    apart = distance > link_spheres(kinematics.arm).radius_m[index] + ARM_SEEN_M
    return points[apart & (np.linalg.norm(points - tcp, axis=1) > HELD_M)]


def _straight_up(
    kinematics: ArmKinematics, world: CollisionWorld, q: Array, opening_m: float, limits: MotionLimits
) -> Array:
    """(N, 6) joints of the tcp's line upwards, as far as it is free; only the start where the hand is high."""
    T = kinematics.forward(q)
    joints = [np.asarray(q, float)]
    if T[2, 3] > limits.table_z_m + HIGH_M:
        return np.stack(joints)
    for _ in range(round(RAISE_M / STEP_M)):
        T[2, 3] += STEP_M
        at = kinematics.refine(T, joints[-1])
        if at is None or np.abs(at - joints[-1]).max() > 0.1 or not within_limits(at):
            break
        if kinematics.manipulability(at) < limits.min_manipulability or world.hit(at, opening_m) is not None:
            break
        joints.append(at)
    return np.stack(joints)
