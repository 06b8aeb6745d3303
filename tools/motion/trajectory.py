"""When the arm is where: joint paths become timed positions within speed and acceleration limits.

Every piece follows s(t) = 10 t^3 - 15 t^4 + 6 t^5, the quintic from rest to rest with zero acceleration at both ends,
stretched until no limit is exceeded.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline

from affordagent.core.geometry import Array
from affordagent.core.types import JointTrajectory
from affordagent.robot.arms import ArmName
from affordagent.robot.kinematics import chain_of
from affordagent.robot.limits import MotionLimits

SAMPLE_S = 0.008
SAME_RAD = 1e-4
_MAX_SPEED, _MAX_ACCELERATION = 1.875, 10 / np.sqrt(3)  # of the quintic over one second and one unit
_ROUNDING = 1.0 + 1e-6
_TCP_GRID, _TCP_GRID_ERROR = 200, 1.002


def _quintic(t: Array) -> Array:
    return t**3 * (10 + t * (-15 + 6 * t))


def _quintic_rate(t: Array) -> Array:
    return 30 * t**2 * (1 - t) ** 2


def _timed(path: CubicSpline | None, ends: Array, duration_s: float) -> tuple[Array, Array]:
    count = max(2, int(np.ceil(duration_s / SAMPLE_S)) + 1)
    times = np.linspace(0.0, duration_s, count)
    s = _quintic(times / duration_s)
    positions = ends[0] + s[:, None] * (ends[1] - ends[0]) if path is None else path(s)
    positions[0], positions[-1] = ends
    return times, positions


def joint_motion(waypoints: Array, limits: MotionLimits, arm: ArmName = "UR5e") -> JointTrajectory:
    """Straight joint segments through (N, 6) waypoints, at rest at each: the motion never leaves the checked path.

    Waypoints within SAME_RAD of the one before are left out; start and end are exact. arm: whose tcp keeps its speed
    limit.
    """
    kept = _distinct(waypoints)
    times, positions = [np.zeros(1)], [kept[:1]]
    for start, end in zip(kept[:-1], kept[1:], strict=True):
        span = float(np.abs(end - start).max())
        duration_s = _ROUNDING * max(
            _MAX_SPEED * span / limits.joint_speed_rad_s,
            float(np.sqrt(_MAX_ACCELERATION * span / limits.joint_acceleration_rad_s2)),
            _TCP_GRID_ERROR * _tcp_speed(start, end, arm) / limits.tcp_speed_m_s,
            SAMPLE_S,
        )
        t, q = _timed(None, np.stack([start, end]), duration_s)
        times.append(times[-1][-1] + t[1:])
        positions.append(q[1:])
    return JointTrajectory(np.concatenate(positions), np.concatenate(times))


def _tcp_speed(start: Array, end: Array, arm: ArmName) -> float:
    """Highest tcp speed, m/s, of a straight joint segment in one second."""
    t = np.linspace(0.0, 1.0, _TCP_GRID)
    chain = chain_of(arm)
    jacobians = chain.jacobians(chain.links(start + _quintic(t)[:, None] * (end - start)))
    return float((_quintic_rate(t) * np.linalg.norm(jacobians[:, :3] @ (end - start), axis=1)).max())


def slowed(trajectory: JointTrajectory, tcp_speed_m_s: float, arm: ArmName = "UR5e") -> JointTrajectory:
    """The same path, its time stretched so that the tcp keeps a lower speed; unchanged where it does already."""
    chain = chain_of(arm)
    rates = np.gradient(trajectory.positions, trajectory.times_s, axis=0)
    linear = chain.jacobians(chain.links(trajectory.positions))[:, :3]
    fastest_m_s = float(np.linalg.norm(np.einsum("kij,kj->ki", linear, rates), axis=1).max())
    stretch = max(1.0, _TCP_GRID_ERROR * fastest_m_s / tcp_speed_m_s)
    return JointTrajectory(trajectory.positions, stretch * trajectory.times_s)


def _distinct(waypoints: Array) -> Array:
    kept = [waypoints[0]]
    for waypoint in waypoints[1:-1]:
        if np.abs(waypoint - kept[-1]).max() > SAME_RAD:
            kept.append(waypoint)
    if len(kept) > 1 and np.abs(waypoints[-1] - kept[-1]).max() <= SAME_RAD:
        kept.pop()
    return np.stack([*kept, waypoints[-1]])


def cartesian_motion(waypoints: Array, length_m: float, limits: MotionLimits) -> JointTrajectory:
    """One smooth motion through (N, 6) closely spaced joints of a straight tcp line of `length_m`, evenly spaced on it.

    Spline between the joints; speed and acceleration of joints and the tcp's speed are bounded on a dense grid.
    """
    path = CubicSpline(np.linspace(0.0, 1.0, len(waypoints)), waypoints)
    t = np.linspace(0.0, 1.0, 40 * len(waypoints))
    s, ds, dds = _quintic(t), _quintic_rate(t), 60 * t * (1 - t) * (1 - 2 * t)
    speed = path(s, 1) * ds[:, None]
    acceleration = path(s, 2) * ds[:, None] ** 2 + path(s, 1) * dds[:, None]
    duration_s = _ROUNDING * max(
        float(np.abs(speed).max()) / limits.joint_speed_rad_s,
        float(np.sqrt(np.abs(acceleration).max() / limits.joint_acceleration_rad_s2)),
        _MAX_SPEED * length_m / limits.approach_speed_m_s,
        SAMPLE_S,
    )
    times, positions = _timed(path, waypoints[[0, -1]], 1.001 * duration_s)
    return JointTrajectory(positions, times)


def reverse(trajectory: JointTrajectory) -> JointTrajectory:
    """The same motion backwards, as fast."""
    return JointTrajectory(trajectory.positions[::-1].copy(), trajectory.times_s[-1] - trajectory.times_s[::-1])
