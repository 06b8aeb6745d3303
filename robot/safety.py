"""One safety layer above every driver, the simulated one too: a command that violates a limit is never sent."""

from __future__ import annotations

import math

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.types import JointTrajectory
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.robot.interface import Arm, ArmState, MotionResult
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.model import MAX_OPENING_M
from affordagent.robot.motion_checks import Motion, SafetyViolation, first_violation
from affordagent.robot.motion_rules import START_TOLERANCE_RAD, malformed

MAX_STATE_AGE_S = 1.0
GRAVITY_M_S2 = 9.81
_UNKNOWN = ArmState(np.full(6, np.nan), math.nan, math.nan, math.inf)


class SafeArm:
    """`robot.interface.Arm` that checks each command before the arm below it hears of it.

    What violates a limit comes back as MotionResult(reached=False) with the violation's code and message, and nothing
    moves. Nothing is raised but by `make_ready` and `read`, as the interface says. `stop` passes straight through, from
    any thread; the other methods belong to one thread, and `kinematics` to this object.
    """

    def __init__(self, arm: Arm, limits: MotionLimits, kinematics: ArmKinematics) -> None:
        self.arm, self.limits, self._kinematics = arm, limits, kinematics
        self._last = _UNKNOWN
        self._free_n = 0.0  # force along gravity before the last motion with an empty hand; at first the arm's own zero
        self._gripped = False

    def make_ready(self) -> list[str]:
        return self.arm.make_ready()

    def read(self) -> ArmState:
        self._last = self.arm.read()
        return self._last

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        """Send the motion if all checks pass. After it, what hangs on the gripper is compared with `payload_kg`."""
        state = self._fresh_state()
        if isinstance(state, MotionResult):
            return state
        clean = self._clean(trajectory)
        if isinstance(clean, SafetyViolation):
            return self._refused(clean)
        violation = self._start(clean, state) or self._push(state) or self.check(clean, state.gripper_width_m)
        if violation:
            return self._refused(violation)
        if not self._gripped and state.tcp_force_n is not None:
            self._free_n = float(state.tcp_force_n[2])
        return self._weighed(self.arm.follow(clean, phase))

    def grip(self, width_m: float, phase: str) -> MotionResult:
        """Send the opening if the fingers can have it; they press with the force the driver was given."""
        state = self._fresh_state()
        if isinstance(state, MotionResult):
            return state
        width = _number(width_m)
        if not 0 <= width <= MAX_OPENING_M:
            message = f"an opening of {width_m!r} m was asked for, the fingers have 0 to {MAX_OPENING_M} m"
            return self._refused(SafetyViolation("safety.malformed", width, MAX_OPENING_M, "m", message))
        result = self.arm.grip(width, phase)
        rested_m = result.state.gripper_width_m  # NaN where the gripper cannot tell
        self._gripped = not (rested_m <= width + NOTHING_HELD_M or rested_m >= MAX_OPENING_M)
        return self._noted(result)

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        duration = _number(duration_s)
        if not 0 <= duration <= self.limits.motion_s:
            message = f"a wait of {duration_s!r} s was asked for, 0 to motion_s = {self.limits.motion_s} s are allowed"
            return self._refused(SafetyViolation("safety.malformed", duration, self.limits.motion_s, "s", message))
        return self._weighed(self.arm.wait(duration, phase))

    def stop(self) -> None:
        self.arm.stop()

    def check(self, trajectory: JointTrajectory, opening_m: float) -> SafetyViolation | None:
        """Would this motion be sent, with the fingers at `opening_m`, from where it starts? None when it would."""
        clean = self._clean(trajectory)
        if isinstance(clean, SafetyViolation):
            return clean
        with np.errstate(over="ignore"):
            return first_violation(Motion(clean, opening_m, self.limits, self._kinematics))

    def _clean(self, trajectory: JointTrajectory) -> JointTrajectory | SafetyViolation:
        """A copy that nobody else can change, of what is a motion at all."""
        try:
            positions, times_s = np.array(trajectory.positions, float), np.array(trajectory.times_s, float)
        except (TypeError, ValueError) as error:
            return _malformed(f"positions or times are no numbers ({error})")
        problem = malformed(positions, times_s)
        if problem is not None:
            return _malformed(problem)
        if times_s[-1] > self.limits.motion_s:
            return _malformed(
                f"the motion takes {times_s[-1]:.1f} s, limit motion_s = {self.limits.motion_s:.1f} s",
                float(times_s[-1]),
                self.limits.motion_s,
            )
        return JointTrajectory(positions, times_s)

    @staticmethod
    def _start(trajectory: JointTrajectory, state: ArmState) -> SafetyViolation | None:
        off_rad = float(np.abs(state.positions - trajectory.positions[0]).max())
        if off_rad <= START_TOLERANCE_RAD:
            return None
        message = f"the motion starts {off_rad:.3f} rad from the arm, limit {START_TOLERANCE_RAD}: plan from there"
        return SafetyViolation("execution.start_mismatch", off_rad, START_TOLERANCE_RAD, "rad", message)

    def _push(self, state: ArmState) -> SafetyViolation | None:
        if state.tcp_force_n is None:
            return None
        force_n, limit_n = float(np.linalg.norm(state.tcp_force_n)), self.limits.tcp_force_n
        if force_n <= limit_n:
            return None
        message = f"the tcp is pushed with {force_n:.0f} N before the motion, limit {limit_n:.0f} N: free it"
        return SafetyViolation("safety.force", force_n, limit_n, "N", message)

    def _weighed(self, result: MotionResult) -> MotionResult:
        """The result, or a failure when what was gripped pulls more than it may.

        It is compared with the force where the approach began, not with the one where the fingers closed: there they
        may be touching the table or the object already, and that push is gone after the lift.
        """
        force_n = result.state.tcp_force_n
        if not result.reached or force_n is None or not self._gripped or result.state.holding is False:
            return self._noted(result)
        held_kg, limit_kg = abs(float(force_n[2]) - self._free_n) / GRAVITY_M_S2, self.limits.payload_kg
        if held_kg <= limit_kg:
            return self._noted(result)
        message = (
            f"what is held weighs {held_kg:.2f} kg, limit payload_kg = {limit_kg}: take it out of the gripper by hand"
        )
        return self._refused(SafetyViolation("safety.payload", held_kg, limit_kg, "kg", message), result.state)

    def _fresh_state(self) -> ArmState | MotionResult:
        try:
            state = self.read()
        except StageFailure as failure:
            return MotionResult(False, self._last, code=failure.code, message=failure.message)
        if state.age_s <= MAX_STATE_AGE_S:
            return state
        message = f"the arm's last state is {state.age_s:.2f} s old, limit {MAX_STATE_AGE_S} s: check the connection"
        return MotionResult(False, state, code="execution.comms", message=message)

    def _noted(self, result: MotionResult) -> MotionResult:
        self._last = result.state
        return result

    def _refused(self, violation: SafetyViolation, state: ArmState | None = None) -> MotionResult:
        return MotionResult(False, state or self._last, code=violation.code, message=violation.message)


def _malformed(what: str, value: float = math.nan, limit: float = math.nan) -> SafetyViolation:
    return SafetyViolation("safety.malformed", value, limit, "", f"not a motion that can be sent: {what}")


def _number(value: float) -> float:
    """As a float; NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
