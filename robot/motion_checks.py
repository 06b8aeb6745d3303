"""Is a motion within its limits? A list of small checks over one finely sampled motion, each naming value and limit.

The arm is compared with boxes by spheres that fill its links, and with the table by MuJoCo's contacts. Whether links
touch each other or seen things is the planner's business (`tools.motion.collision`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.types import JointTrajectory
from affordagent.robot.arms import ARMS
from affordagent.robot.chain import smallest_singular_values
from affordagent.robot.kinematics import JOINT_LIMIT_RAD, ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.link_spheres import depth_in_box, link_spheres
from affordagent.robot.model import MAX_OPENING_M

CONTROL_S = 0.008  # drivers send set-points this often, on straight joint lines between those of the trajectory
STEP_M = 0.01  # no point of the arm moves further between two checked postures
_LINE_M, _LINE_ERROR_M, _LINE_TURN_RAD = 0.02, 0.001, 0.02  # length, bend and turn of what counts as a straight motion
_ROUNDING = 1.0 + 1e-4
_CHUNK = 512
_ARM_WITHIN_M = 0.02  # of the links' true shape, the spheres'


@dataclass(frozen=True)
class SafetyViolation:
    """Why a motion is not sent. value and limit are in `unit`; at_s: when in the motion."""

    code: str
    value: float
    limit: float
    unit: str
    message: str
    at_s: float = 0.0


@dataclass(frozen=True)
class Motion:
    """One trajectory, clean and finite, and what the checks need of it.

    opening_m: of the fingers all the while; NaN where it is not known, which counts as open.
    """

    trajectory: JointTrajectory
    opening_m: float
    limits: MotionLimits
    kinematics: ArmKinematics

    @property
    def known_opening_m(self) -> float:
        return self.opening_m if np.isfinite(self.opening_m) else MAX_OPENING_M

    @cached_property
    def rates(self) -> Array:
        """(N - 1, 6) joint speeds between the set-points, rad/s."""
        return np.diff(self.trajectory.positions, axis=0) / np.diff(self.trajectory.times_s)[:, None]

    @cached_property
    def times_s(self) -> Array:
        """(K,) moments between which no point of the arm moves more than STEP_M; first and last included."""
        steps = np.abs(np.diff(self.trajectory.positions, axis=0)) @ self._reaches_m
        travelled = np.concatenate([[0.0], np.cumsum(steps)])
        count = int(np.ceil(travelled[-1] / STEP_M)) + 1
        return np.interp(np.linspace(0, travelled[-1], count + 1), travelled, self.trajectory.times_s)

    @cached_property
    def _reaches_m(self) -> Array:
        """(6,) how far the furthest point of the arm can be from each joint."""
        chain = self.kinematics.chain
        lengths = np.linalg.norm(chain.T_parent_link[1:, :3, 3], axis=1)
        offset_m, radius_m = self._spheres[-1]
        hand_m = (np.linalg.norm(offset_m, axis=1) + radius_m).max()
        return np.append(np.cumsum(lengths[::-1])[::-1], 0.0) + hand_m

    def at(self, times_s: Array) -> Array:
        """(K,) -> (K, 6) joints."""
        return np.stack([np.interp(times_s, self.trajectory.times_s, q) for q in self.trajectory.positions.T], axis=1)

    @cached_property
    def links(self) -> Array:
        """(K, 6, 4, 4) T_base_link at `times_s`."""
        return self.kinematics.chain.links(self.at(self.times_s))

    @cached_property
    def _spheres(self) -> list[tuple[Array, Array]]:
        """For each of the six links the spheres that fill it: centres in its frame (N, 3), radii (N,)."""
        kinematics, spheres = self.kinematics, link_spheres(self.kinematics.arm)
        kinematics.set_opening(self.known_opening_m)
        kinematics.forward(np.zeros(6))
        data, links = kinematics.data, kinematics.chain.links(np.zeros((1, 6)))[0]
        R = data.xmat.reshape(-1, 3, 3)[spheres.body]
        centres = np.einsum("nij,nj->ni", R, spheres.offset_m) + data.xpos[spheres.body]
        link = np.searchsorted(kinematics.chain.joint_bodies, spheres.body, side="right") - 1
        return [
            (transform_points(invert(T), centres[link == k]), spheres.radius_m[link == k]) for k, T in enumerate(links)
        ]

    def over_arm(self, measure: Callable[[Array, Array], Array]) -> Array:
        """(K,) highest value, at each of `times_s`, of a measure of the spheres: centres (C, N, 3) and radii (N,) ->
        (C, N)."""
        highest = np.full(len(self.links), -np.inf)
        for k, (offset_m, radius_m) in enumerate(self._spheres):
            for start in range(0, len(highest) if len(radius_m) else 0, _CHUNK):
                some = slice(start, start + _CHUNK)
                T = self.links[some, k]
                centres = offset_m @ T[:, :3, :3].transpose(0, 2, 1) + T[:, None, :3, 3]
                highest[some] = np.maximum(highest[some], measure(centres, radius_m).max(axis=1))
        return highest


Check = Callable[[Motion], SafetyViolation | None]


def joint_limit(motion: Motion) -> SafetyViolation | None:
    """No joint turns further than it can."""
    at, joint = _worst(np.abs(motion.trajectory.positions) - JOINT_LIMIT_RAD)
    value, limit = abs(motion.trajectory.positions[at, joint]), JOINT_LIMIT_RAD[joint]
    if value <= limit + 1e-9:
        return None
    mend = "take another way to bend the arm"
    return _beyond(
        "safety.joint_limit", f"joint {joint} would turn", value, limit, "rad", motion.trajectory.times_s[at], mend
    )


def joint_speed(motion: Motion) -> SafetyViolation | None:
    """Between two set-points no joint is faster than the settings and the arm allow."""
    limits = np.minimum(motion.limits.joint_speed_rad_s, ARMS[motion.kinematics.arm].joint_speed_rad_s)
    at, joint = _worst(np.abs(motion.rates) / limits)
    value, limit = abs(motion.rates[at, joint]), limits[joint]
    if value <= limit * _ROUNDING:
        return None
    what, mend = f"joint {joint} would move at", "time the motion within joint_speed_rad_s"
    return _beyond("safety.joint_speed", what, value, limit, "rad/s", motion.trajectory.times_s[at], mend)


def joint_acceleration(motion: Motion) -> SafetyViolation | None:
    """Steps of the joint speeds, from rest to rest, over the time a driver takes for them: that between the set-points,
    or CONTROL_S where they are further apart. So a motion of few points, whose ends are jerks, is not sent."""
    gaps_s = np.diff(motion.trajectory.times_s)
    around_s = np.concatenate([gaps_s[:1], (gaps_s[1:] + gaps_s[:-1]) / 2, gaps_s[-1:]])
    rest = np.zeros((1, 6))
    steps = np.diff(np.concatenate([rest, motion.rates, rest]), axis=0)
    values = np.abs(steps) / np.minimum(around_s, CONTROL_S)[:, None]
    at, joint = _worst(values)
    limit = motion.limits.joint_acceleration_rad_s2
    if values[at, joint] <= limit * _ROUNDING:
        return None
    what, mend = f"joint {joint} would be accelerated by", "send a smooth motion, sampled every 8 ms, from rest to rest"
    at_s = motion.trajectory.times_s[at]
    return _beyond("safety.joint_acceleration", what, values[at, joint], limit, "rad/s^2", at_s, mend)


def tcp_speed(motion: Motion) -> SafetyViolation | None:
    """The tcp's speed by the jacobian, just before and just after each set-point and each checked posture."""
    known_s, chain = motion.trajectory.times_s, motion.kinematics.chain
    times_s = np.union1d(known_s, motion.times_s)
    speeds = []
    for some_s in np.array_split(times_s, len(times_s) // _CHUNK + 1):
        linear = chain.jacobians(chain.links(motion.at(some_s)))[:, :3]
        before, after = np.searchsorted(known_s, some_s, "left") - 1, np.searchsorted(known_s, some_s, "right") - 1
        rates = motion.rates[np.clip([before, after], 0, len(motion.rates) - 1)]
        speeds.append(np.linalg.norm(np.einsum("kij,skj->ski", linear, rates), axis=2).max(axis=0))
    values, limit = np.concatenate(speeds), motion.limits.tcp_speed_m_s
    at = int(np.argmax(values))
    if values[at] <= limit * _ROUNDING:
        return None
    mend = "time the motion within tcp_speed_m_s"
    return _beyond("safety.tcp_speed", "the tcp would move at", values[at], limit, "m/s", times_s[at], mend)


def workspace(motion: Motion) -> SafetyViolation | None:
    """Every moving part stays in the box."""
    lower, upper = motion.limits.workspace_min_m, motion.limits.workspace_max_m

    def outside(centres: Array, radii: Array) -> Array:
        return np.maximum(np.subtract(lower, centres), np.subtract(centres, upper)).max(axis=2) + radii

    what = f"some part of the arm would leave the workspace {lower} to {upper} by"
    mend = "move the object towards the middle, or drive the arm back by hand"
    return _inside("safety.workspace", what, motion.over_arm(outside), motion, mend)


def keep_out(motion: Motion) -> SafetyViolation | None:
    """No moving part enters a zone."""
    for box in motion.limits.keep_out_m:
        what = f"some part of the arm would enter the keep-out zone {box[0]} to {box[1]} by"
        depths = motion.over_arm(partial(depth_in_box, box=box))
        found = _inside("safety.keep_out", what, depths, motion, "take another way, or drive the arm out by hand")
        if found is not None:
            return found
    return None


def table(motion: Motion) -> SafetyViolation | None:
    """No part is below the table, but for what its height may be wrong by."""
    limits, kinematics = motion.limits, motion.kinematics
    plane_z_m = limits.table_z_m - limits.table_tolerance_m
    heights = -motion.over_arm(lambda centres, radii: radii - centres[..., 2])
    kinematics.set_table(plane_z_m)
    kinematics.set_opening(motion.known_opening_m)
    lowest = (np.inf, 0.0)
    for at in np.flatnonzero(heights < plane_z_m + limits.table_clearance_m + _ARM_WITHIN_M):
        kinematics.forward(motion.at(motion.times_s[at : at + 1])[0])
        lowest = min(lowest, (kinematics.gaps_m()[0] + plane_z_m, float(motion.times_s[at])))
    limit = plane_z_m + limits.table_clearance_m
    if lowest[0] >= limit:
        return None
    what = f"with the table at {limits.table_z_m} m, some part of the arm would go down to"
    return _beyond("safety.table", what, lowest[0], limit, "m", lowest[1], "correct table_z_m, or grasp higher")


def singularity(motion: Motion) -> SafetyViolation | None:
    """Straight motions of the tcp keep away from singularities, where the joints would have to race. Other motions may
    pass near one: their joint speeds are bounded as they are."""
    chain = motion.kinematics.chain
    if not _is_straight(chain.tcp(motion.links)):
        return None
    values = smallest_singular_values(chain.jacobians(motion.links))
    at, limit = int(np.argmin(values)), motion.limits.min_manipulability
    if values[at] >= limit:
        return None
    mend = "move the object away from the edge of the arm's reach"
    what = "manipulability would fall to"
    return _beyond("safety.singularity", what, values[at], limit, "", motion.times_s[at], mend)


CHECKS: tuple[Check, ...] = (
    joint_limit, joint_speed, joint_acceleration, tcp_speed, workspace, keep_out, table, singularity,
)  # fmt: skip


def first_violation(motion: Motion) -> SafetyViolation | None:
    """What the first failing check says, None when all pass."""
    return next((found for check in CHECKS if (found := check(motion)) is not None), None)


def _is_straight(T_base_tcp: Array) -> bool:
    """(K, 4, 4): is it a straight line without a turn of the hand?"""
    moved = T_base_tcp[:, :3, 3] - T_base_tcp[0, :3, 3]
    length_m = float(np.linalg.norm(moved[-1]))
    if length_m < _LINE_M:
        return False
    direction = moved[-1] / length_m
    bend_m = np.linalg.norm(moved - np.outer(moved @ direction, direction), axis=1).max()
    cosines = (np.einsum("kij,ij->k", T_base_tcp[:, :3, :3], T_base_tcp[0, :3, :3]) - 1) / 2
    return bool(bend_m < _LINE_ERROR_M and cosines.min() > np.cos(_LINE_TURN_RAD))


def _worst(values: Array) -> tuple[int, int]:
    """Row and column of the highest."""
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(row), int(column)


def _inside(code: str, what: str, depths_m: Array, motion: Motion, mend: str) -> SafetyViolation | None:
    """depths_m: (K,) at `times_s` how far the arm is where it must not be."""
    at = int(np.argmax(depths_m))
    if depths_m[at] <= 1e-9:
        return None
    return _beyond(code, what, depths_m[at], 0.0, "m", motion.times_s[at], mend)


def _beyond(code: str, what: str, value: float, limit: float, unit: str, at_s: float, mend: str) -> SafetyViolation:
    message = f"{what} {value:.3f} {unit}".rstrip() + f" after {at_s:.2f} s, limit {limit:.3f}: {mend}"
    return SafetyViolation(code, float(value), float(limit), unit, message, float(at_s))
