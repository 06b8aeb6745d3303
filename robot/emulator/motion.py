"""How the emulated controller moves the arm: one set-point a tick, from generators that yield once a tick.

Profiles are trapezoids. Speeds scale with `scale`, as with the pendant's speed slider: a motion keeps its path and
takes longer. At most one generator may move the arm in a tick.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.arms import ARMS, ArmName
from affordagent.robot.emulator.kinematics import (
    Kinematics,
    Rows,
    compose,
    pose_of_rows,
    rotation_between,
    rows_of_pose,
)
from affordagent.robot.emulator.motion_log import MotionLog

Steps = Generator[None, None, None]

BRAKE_RAD_S2 = 10.0
SERVO_RAD_S2 = 40.0
MAX_JOINT_RAD = 2 * math.pi + 1e-6
_OVERSPEED = 1.05  # times the rated joint speed: protective stop
_M_PER_RAD = 0.3  # what a turn counts for in the length of a straight motion


class ScriptError(Exception):
    """The program on the controller ends with this run-time error."""


class SafetyStop(ScriptError):
    """The controller stops the arm: protective stop."""


def _check_joints(name: str, q: Array) -> None:
    if q.shape != (6,) or not (np.abs(q) <= MAX_JOINT_RAD).all():
        raise ScriptError(f"{name}: {q.tolist()} are not six joints within range")


class Motion:
    """The arm's set-points `q_cmd` (6,) rad and `qd_cmd` (6,) rad/s, and the motions that change them."""

    def __init__(
        self, arm: ArmName, q: Array, dt_s: float, log: MotionLog, now: Callable[[], tuple[float, Array]]
    ) -> None:
        """now: controller time and the joints as they are, for the log."""
        self.kinematics = Kinematics(arm)
        self.q_cmd, self.qd_cmd = np.array(q, float), np.zeros(6)
        self.scale = 1.0
        self.moved = False
        self._dt_s, self._log, self._now = dt_s, log, now
        self._rated_rad_s = np.array(ARMS[arm].joint_speed_rad_s)

    # ---- a tick ---------------------------------------------------------------------------------------------------

    def begin_tick(self) -> None:
        self.moved = False

    def end_tick(self) -> None:
        """Nobody moved the arm: brake."""
        if not self.moved and not self.at_rest:
            self.qd_cmd = self._towards(np.zeros(6), BRAKE_RAD_S2)
            self.q_cmd = self.q_cmd + self.qd_cmd * self._dt_s

    def settle(self, q: Array) -> None:
        """The arm is at `q` at rest."""
        self.q_cmd, self.qd_cmd = np.array(q, float), np.zeros(6)

    @property
    def at_rest(self) -> bool:
        return not self.qd_cmd.any()

    def _command(self, q: Array) -> None:
        if self.moved:
            raise ScriptError("another thread is already controlling the robot")
        qd = (q - self.q_cmd) / self._dt_s
        if not (np.abs(qd) <= _OVERSPEED * self._rated_rad_s).all():  # NaN, too
            raise SafetyStop(f"joint speed {np.abs(qd).max():.2f} rad/s is above what the joint can do")
        self.q_cmd, self.qd_cmd, self.moved = q, qd, True

    def _turn(self) -> Steps:
        """Wait for the next tick when a thread that was killed since has moved the arm in this one."""
        if self.moved:
            yield

    def _move_at(self, qd: Array) -> None:
        self._command(self.q_cmd + qd * self._dt_s)

    def _towards(self, qd: Array, acceleration: float) -> Array:
        """The set-point's velocity one tick nearer to `qd`."""
        change = qd - self.qd_cmd
        largest, most = float(np.abs(change).max()), acceleration * self._dt_s
        return np.array(qd, float) if largest <= most else self.qd_cmd + change * (most / largest)

    # ---- point to point -------------------------------------------------------------------------------------------

    def _profile(self, length: float, speed: float, acceleration: float) -> Generator[float, None, None]:
        """Shares 0 to 1 of the way, one a tick."""
        if not (math.isfinite(length) and math.isfinite(speed) and math.isfinite(acceleration)):
            raise ScriptError("a motion's target, speed or acceleration is not a number")
        if length < 1e-9:
            return
        acceleration = max(acceleration, 1e-6)
        speed = min(max(speed, 1e-6), math.sqrt(length * acceleration))
        ramp_s, duration_s = speed / acceleration, length / speed + speed / acceleration
        t = 0.0
        while t < duration_s:
            t = min(t + self._dt_s * self.scale, duration_s)
            if t < ramp_s:
                s = 0.5 * acceleration * t * t
            elif t < duration_s - ramp_s:
                s = speed * (t - ramp_s / 2)
            else:
                s = length - 0.5 * acceleration * (duration_s - t) ** 2
            yield s / length

    def _logged(self, kind: str, target: Array, steps: Steps) -> Steps:
        """The steps, entered in the log from their first to their last, or to when they are cut off."""
        t, q = self._now()
        motion = self._log.begin(kind, t, q.tolist(), target.tolist())
        try:
            yield from self._turn()
            yield from steps
        finally:
            motion.t1 = self._now()[0]

    def movej(self, q: Sequence[float] | Array, speed: float, acceleration: float) -> Steps:
        """Straight in joint space; rad/s and rad/s^2 of the joint with the longest way."""
        start, goal = self.q_cmd.copy(), np.array(q, float)
        _check_joints("movej", goal)

        def steps() -> Steps:
            for share in self._profile(float(np.abs(goal - start).max()), speed, acceleration):
                self._command(start + share * (goal - start))
                yield

        return self._logged("movej", goal, steps())

    def movel(self, T_base_tcp: Rows, speed: float, acceleration: float) -> Steps:
        """Straight for the tcp; m/s and m/s^2."""
        start = self.kinematics.tcp(self.q_cmd.tolist())
        way = [T_base_tcp[k] - start[k] for k in (3, 7, 11)]
        turn = rotation_between(start, T_base_tcp)
        length = max(math.dist(way, (0, 0, 0)), _M_PER_RAD * math.dist(turn, (0, 0, 0)))

        def steps() -> Steps:
            for share in self._profile(length, speed, acceleration):
                turned = compose(
                    rows_of_pose([0, 0, 0, *(share * v for v in turn)]),
                    (*start[:3], 0.0, *start[4:7], 0.0, *start[8:11], 0.0),
                )
                at = [start[k] + share * w for k, w in zip((3, 7, 11), way, strict=True)]
                T = (*turned[:3], at[0], *turned[4:7], at[1], *turned[8:11], at[2])
                q = self.kinematics.inverse(T, self.q_cmd, iterations=15, tolerance=1e-6)
                if q is None:
                    raise SafetyStop("movel: no inverse kinematics on the way (singularity, or out of reach)")
                self._command(q)
                yield

        return self._logged("movel", np.array(pose_of_rows(T_base_tcp)), steps())

    # ---- streams --------------------------------------------------------------------------------------------------

    def servo(self, target: Callable[[], tuple[Array, float]]) -> Steps:
        """Chase what `target` says now: joints (6,) rad and the look-ahead time, which is the lag."""
        while True:
            goal, lookahead_s = target()
            _check_joints("servoj", goal)
            most = self._rated_rad_s * self.scale
            wanted = np.clip((goal - self.q_cmd) * (self.scale / max(lookahead_s, self._dt_s)), -most, most)
            self._move_at(self._towards(wanted, SERVO_RAD_S2))
            yield

    def speed(self, target: Callable[[], tuple[bool, Array, float]]) -> Steps:
        """Hold what `target` says now: is it of the joints (or the tcp), velocity (6,), acceleration."""
        while True:
            of_joints, velocity, acceleration = target()
            if not np.isfinite(velocity).all():
                raise ScriptError(f"speed: {velocity.tolist()} is not a velocity")
            velocity, acceleration = velocity * self.scale, max(acceleration, 0.01)
            if of_joints:
                self._move_at(self._towards(velocity, acceleration))
            else:
                self._move_at(self._joint_speeds(velocity, acceleration))
            yield

    def _joint_speeds(self, twist: Array, acceleration: float) -> Array:
        """Of the joints, for the tcp's velocity one tick nearer to `twist`."""
        J = self.kinematics.jacobian(self.q_cmd.tolist())
        now = J @ self.qd_cmd
        change = twist - now
        size, most = float(np.linalg.norm(change)), acceleration * self._dt_s
        wanted = twist if size <= most else now + change * (most / size)
        return J.T @ np.linalg.solve(J @ J.T + 1e-6 * np.eye(6), wanted)

    # ---- stops ----------------------------------------------------------------------------------------------------

    def stopj(self, acceleration: float) -> Steps:
        yield from self._turn()
        while not self.at_rest:
            self._move_at(self._towards(np.zeros(6), max(acceleration, 0.1)))
            yield

    def stopl(self, acceleration: float) -> Steps:
        """Slow the tcp down along its way, m/s^2."""
        yield from self._turn()
        most = max(acceleration, 0.01) * self._dt_s
        while not self.at_rest:
            twist = self.kinematics.twist(self.q_cmd.tolist(), self.qd_cmd.tolist())
            speed = max(math.dist(twist[:3], (0, 0, 0)), _M_PER_RAD * math.dist(twist[3:], (0, 0, 0)))
            self._move_at(self.qd_cmd * (0.0 if speed <= most else 1.0 - most / speed))
            yield

    # ---- inverse kinematics ---------------------------------------------------------------------------------------

    def joints_of(self, pose: Sequence[float] | Array, near: Array | None = None) -> Array:
        """Joints (6,) for a pose vector, near the set-point unless told otherwise.

        Raises:
            ScriptError: there are none.
        """
        q = self.kinematics.inverse(rows_of_pose(list(pose)), self.q_cmd if near is None else near)
        if q is None:
            raise ScriptError("get_inverse_kin: no solution")
        return q
