"""The motion of a planned grasp, step by step, the same for the simulated and the real arm."""

from __future__ import annotations

from dataclasses import dataclass

from affordagent.core.errors import StageFailure
from affordagent.core.types import GraspPlan
from affordagent.robot.interface import Arm, MotionResult
from affordagent.tools.motion.trajectory import reverse

NOTHING_HELD_M = 0.0015  # pads that close further than this hold nothing
HOLD_S = 2.0


@dataclass(frozen=True)
class ExecutionReport:
    """closed_width_m: opening after closing; held_width_m: after lifting and holding; worst tracking error at the ends
    of the motions; duration_s: by the arm's own clock."""

    closed_width_m: float
    held_width_m: float
    max_error_rad: float
    duration_s: float


def execute(arm: Arm, plan: GraspPlan, *, hold_s: float = HOLD_S) -> ExecutionReport:
    """Open, go to the pre-grasp, approach, close, lift, hold.

    Raises:
        StageFailure: ("execute", code): execution.gripper (fingers did not open), execution.no_contact (closed on
            nothing; the arm has drawn back), execution.drop (lost during the lift), or the code of the motion that
            ended early (execution.stopped, execution.tracking, execution.start_mismatch).
    """
    start_s = arm.read().stamp_s
    opened_m = _done(arm.grip(plan.opening_m, "open"), "open").state.gripper_width_m
    if opened_m < plan.opening_m - 0.005:
        raise StageFailure(
            "execute",
            "execution.gripper",
            f"the fingers opened to {1e3 * opened_m:.0f} mm, {1e3 * plan.opening_m:.0f} mm were asked for: free them",
            width_m=opened_m,
        )
    motions = [
        _done(arm.follow(plan.to_pregrasp, "to_pregrasp"), "to_pregrasp"),
        _done(arm.follow(plan.approach, "approach"), "approach"),
    ]
    closed_m = _done(arm.grip(0.0, "close"), "close").state.gripper_width_m
    if closed_m < NOTHING_HELD_M:
        _done(arm.grip(plan.opening_m, "release"), "release")
        _done(arm.follow(reverse(plan.approach), "retreat"), "retreat")
        raise StageFailure(
            "execute",
            "execution.no_contact",
            f"the fingers closed to {1e3 * closed_m:.1f} mm, at least {1e3 * NOTHING_HELD_M:.1f} mm with something "
            "between them: nothing was there; look again",
            width_m=closed_m,
        )
    motions.append(_done(arm.follow(plan.lift, "lift"), "lift"))
    end = _done(arm.wait(hold_s, "hold"), "hold").state
    if end.gripper_width_m < NOTHING_HELD_M:
        raise StageFailure(
            "execute",
            "execution.drop",
            f"the fingers held {1e3 * closed_m:.1f} mm after closing and {1e3 * end.gripper_width_m:.1f} mm after "
            "lifting: the object slipped out; take another grasp",
            closed_width_m=closed_m,
            held_width_m=end.gripper_width_m,
        )
    worst_rad = max(motion.max_error_rad for motion in motions)
    return ExecutionReport(closed_m, end.gripper_width_m, worst_rad, end.stamp_s - start_s)


def _done(result: MotionResult, phase: str) -> MotionResult:
    if not result.reached:
        raise StageFailure(
            "execute",
            result.code or "execution.tracking",
            f"{phase} ended early: {result.message}",
            phase=phase,
            max_error_rad=result.max_error_rad,
        )
    return result
