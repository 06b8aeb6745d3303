"""When the arm is where: joint paths become timed positions within speed and acceleration limits.

Every piece goes from rest to rest along its path, which it never leaves: Ruckig (Berscheid and Kroeger, "Jerk-limited
Real-time Trajectory Generation with Arbitrary Target States", RSS 2021) times the way along it, one degree of freedom.
"""

from __future__ import annotations

import numpy as np
import ruckig
from scipy.interpolate import CubicSpline

from affordagent.core.geometry import Array
from affordagent.core.types import JointTrajectory
from affordagent.robot.arms import ArmName
from affordagent.robot.kinematics import chain_of
from affordagent.robot.limits import MotionLimits

SAMPLE_S = 0.008
SAME_RAD = 1e-4
_RAMP_SHARE = 0.25  # of the time to reach full speed, in which the acceleration rises: bounds the jerk
_LINE_RAMP_M, _SHORTEST_M = 0.025, 1e-4  # a straight line is at its speed after about half of the first
_ROUNDING = 1.0 + 1e-6
_TCP_GRID, _TCP_GRID_ERROR = 200, 1.002


def _way(speed: float, acceleration: float) -> ruckig.Trajectory:
    """From 0 to 1, at rest at both ends, as fast as the two limits and the jerk that follows from them allow."""
    given, found = ruckig.InputParameter(1), ruckig.Trajectory(1)
    given.target_position = [1.0]
    given.max_velocity, given.max_acceleration = [speed], [acceleration]
    given.max_jerk = [acceleration**2 / (_RAMP_SHARE * speed)]
    result = ruckig.Ruckig(1).calculate(given, found)
    assert result in (ruckig.Result.Working, ruckig.Result.Finished), result  # limits above 0 always have a solution
    return found


def _along(way: ruckig.Trajectory, times_s: Array) -> tuple[Array, Array, Array]:
    """Position, speed and acceleration (N,) at times (N,)."""
    s, ds, dds = np.array([way.at_time(float(t)) for t in times_s])[:, :, 0].T
    return s, ds, dds


def _times(duration_s: float) -> Array:
    """(N,) at most SAMPLE_S apart."""
    return np.linspace(0.0, duration_s, max(2, int(np.ceil(duration_s / SAMPLE_S)) + 1))


def joint_motion(waypoints: Array, limits: MotionLimits, arm: ArmName = "UR5e") -> JointTrajectory:
    """Straight joint segments through (N, 6) waypoints, at rest at each: the motion never leaves the checked path.

    Waypoints within SAME_RAD of the one before are left out; start and end are exact. arm: whose tcp keeps its speed
    limit.
    """
    kept = _distinct(waypoints)
    times, positions = [np.zeros(1)], [kept[:1]]
    for start, end in zip(kept[:-1], kept[1:], strict=True):
        span = max(SAME_RAD, float(np.abs(end - start).max()))
        tcp_m = _TCP_GRID_ERROR * _tcp_m(start, end, arm)
        speed = min(limits.joint_speed_rad_s / span, limits.tcp_speed_m_s / tcp_m) / _ROUNDING
        way = _way(speed, limits.joint_acceleration_rad_s2 / span / _ROUNDING**2)
        t = _times(way.duration)
        q = start + _along(way, t)[0][:, None] * (end - start)
        q[-1] = end
        times.append(times[-1][-1] + t[1:])
        positions.append(q[1:])
    return JointTrajectory(np.concatenate(positions), np.concatenate(times))


def _tcp_m(start: Array, end: Array, arm: ArmName) -> float:
    """Highest tcp speed, metres per whole segment, of a straight joint segment."""
    t = np.linspace(0.0, 1.0, _TCP_GRID)
    chain = chain_of(arm)
    jacobians = chain.jacobians(chain.links(start + t[:, None] * (end - start)))
    return max(1e-9, float(np.linalg.norm(jacobians[:, :3] @ (end - start), axis=1).max()))


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

    Spline between the joints; speed and acceleration of the joints and the tcp's speed are bounded on a dense grid.
    """
    path = CubicSpline(np.linspace(0.0, 1.0, len(waypoints)), waypoints)
    length_m = max(length_m, _SHORTEST_M)
    rate = limits.approach_speed_m_s / length_m
    way = _way(rate, rate**2 * length_m / _LINE_RAMP_M)
    s, ds, dds = (column[:, None] for column in _along(way, np.linspace(0.0, way.duration, 40 * len(waypoints))))
    speed = np.abs(path(s[:, 0], 1) * ds).max() / limits.joint_speed_rad_s
    acceleration = np.abs(path(s[:, 0], 2) * ds**2 + path(s[:, 0], 1) * dds).max() / limits.joint_acceleration_rad_s2
    stretch = 1.001 * max(1.0, float(speed), float(np.sqrt(acceleration)))
    times = _times(stretch * way.duration)
    positions = path(_along(way, times / stretch)[0])
    positions[0], positions[-1] = waypoints[[0, -1]]
    return JointTrajectory(positions, times)


def reverse(trajectory: JointTrajectory) -> JointTrajectory:
    """The same motion backwards, as fast."""
    return JointTrajectory(trajectory.positions[::-1].copy(), trajectory.times_s[-1] - trajectory.times_s[::-1])
