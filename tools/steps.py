"""The motions of a plan as named steps, and how each is sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from affordagent.core.geometry import Array
from affordagent.core.types import Delivery, GraspPlan, JointTrajectory
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.robot.hand_over import HandOver
from affordagent.robot.interface import Arm, ArmState, MotionResult
from affordagent.tools.motion.trajectory import reverse

HOLD_S = 2.0
REST_AFTER_S = 1.0  # at the end of a delivery, for what was let go to come to rest
OFFER = "offer"
_LOOK_S = 0.1  # between two looks at the force while something is held out
_CALM_LOOKS, _PULL_LOOKS = 5, 3  # looks that the force at rest is averaged over; in a row, that count as a pull


@dataclass(frozen=True)
class Grip:
    """Drive the fingers to an opening, 0 = close with the set force."""

    width_m: float


@dataclass(frozen=True)
class Hold:
    """Stay."""

    duration_s: float


@dataclass(frozen=True)
class Offer:
    """Stay until a person takes what is held, at most `HandOver.timeout_s`. Moves nothing, so it may be repeated."""

    settings: HandOver


@dataclass(frozen=True)
class Step:
    """One motion of a grasp; `name` is unique in the run."""

    name: str
    command: JointTrajectory | Grip | Hold | Offer

    def send(self, arm: Arm) -> MotionResult:
        match self.command:
            case Grip(width_m):
                return arm.grip(width_m, self.name)
            case Hold(duration_s):
                return arm.wait(duration_s, self.name)
            case Offer(settings):
                return wait_for_pull(arm, settings, self.name)
            case trajectory:
                return arm.follow(trajectory, self.name)

    @property
    def goal(self) -> dict[str, Any]:
        """What is to be reached, for the journal and for people: one of width_m, hold_s, offer, positions (rad)."""
        match self.command:
            case Grip(width_m):
                return {"width_m": width_m}
            case Hold(duration_s):
                return {"hold_s": duration_s}
            case Offer(settings):
                return {"offer": asdict(settings)}
            case trajectory:
                return {"positions": trajectory.positions[-1].tolist(), "duration_s": trajectory.duration_s}


def grasp_steps(plan: GraspPlan, hold_s: float = HOLD_S) -> tuple[Step, ...]:
    """What a grasp that goes well sends, in order."""
    return (
        Step("open", Grip(plan.opening_m)),
        Step("to_pregrasp", plan.to_pregrasp),
        Step("approach", plan.approach),
        Step("close", Grip(0.0)),
        Step("lift", plan.lift),
        Step("hold", Hold(hold_s)),
    )


def withdrawal_steps(plan: GraspPlan) -> tuple[Step, ...]:
    """What is sent after `close` when nothing was there."""
    return Step("release", Grip(plan.opening_m)), Step("retreat", reverse(plan.approach))


def delivery_steps(there: Delivery, hand_over: HandOver) -> tuple[Step, ...]:
    """What follows the hold of a delivery: carry, lower or wait for the person, let go, back off, rest."""
    return (
        Step("carry", there.carry),
        Step(OFFER, Offer(hand_over)) if there.lower is None else Step("lower", there.lower),
        Step("let_go", Grip(there.opening_m)),
        Step("back_off", there.retreat),
        Step("rest", Hold(REST_AFTER_S)),
    )


def all_steps(plan: GraspPlan, hand_over: HandOver) -> tuple[Step, ...]:
    """What a command that goes well sends, in order."""
    return grasp_steps(plan) + (() if plan.delivery is None else delivery_steps(plan.delivery, hand_over))


def wait_for_pull(arm: Arm, settings: HandOver, phase: str) -> MotionResult:
    """Hold still until a person takes what is held: the force on the tcp changes by `pull_n` for a moment, whatever its
    direction (arms differ in its sign), or the fingers find themselves empty.

    Not taken within `timeout_s`: reached is False, code execution.not_taken, and it is still held.
    """
    forces: list[Array] = []
    pulls = 0
    start_s = arm.read().stamp_s
    while True:
        result = arm.wait(_LOOK_S, phase)
        if not result.reached:
            return result
        state = arm.read()
        if state.holding is False or state.gripper_width_m < NOTHING_HELD_M:
            return MotionResult(True, state, message="taken out of the closed fingers")
        if state.tcp_force_n is not None:
            forces.append(np.asarray(state.tcp_force_n))
            pull_n = float(np.linalg.norm(forces[-1] - np.mean(forces[:_CALM_LOOKS], axis=0)))
            pulls = pulls + 1 if pull_n >= settings.pull_n else 0
            if pulls >= _PULL_LOOKS:
                return MotionResult(True, state, message=f"pulled with {pull_n:.0f} N")
        if state.stamp_s - start_s > settings.timeout_s:
            return _not_taken(state, settings)


def _not_taken(state: ArmState, settings: HandOver) -> MotionResult:
    message = (
        f"held out for {settings.timeout_s:.0f} s, and nobody pulled with {settings.pull_n:.0f} N ([hand_over] "
        "timeout_s, pull_n). It is still held: hold the thing and type `affordagent recover --open`"
    )
    return MotionResult(False, state, code="execution.not_taken", message=message)
