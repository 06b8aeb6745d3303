"""The motions of a plan as named steps, and how each is sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from affordagent.core.geometry import Array
from affordagent.core.types import Delivery, GraspPlan, JointTrajectory
from affordagent.robot.hand_over import HandOver
from affordagent.robot.interface import Arm, MotionResult
from affordagent.tools.motion.trajectory import reverse
from affordagent.tools.pull import wait_for_pull

HOLD_S = 2.0
REST_AFTER_S = 1.0  # at the end of a delivery, for what was let go to come to rest
OFFER, LET_GO = "offer", "let_go"


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
    """Stay until a person takes what is held, at most `HandOver.timeout_s`. Moves nothing, so it may be repeated.
    held_n: (3,) N on the tcp with the thing in the hand, before it was presented, where that is known."""

    settings: HandOver
    held_n: Array | None = None


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
            case Offer(settings, held_n):
                return wait_for_pull(arm, settings, self.name, held_n)
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
            case Offer(settings, _):
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


def delivery_steps(there: Delivery, hand_over: HandOver, held_n: Array | None = None) -> tuple[Step, ...]:
    """What follows the hold of a delivery: carry, lower or wait for the person, let go, back off, rest. held_n: (3,) N
    on the tcp during the hold."""
    return (
        Step("carry", there.carry),
        Step(OFFER, Offer(hand_over, held_n)) if there.lower is None else Step("lower", there.lower),
        Step(LET_GO, Grip(there.opening_m)),
        Step("back_off", there.retreat),
        Step("rest", Hold(REST_AFTER_S)),
    )


def all_steps(plan: GraspPlan, hand_over: HandOver) -> tuple[Step, ...]:
    """What a command that goes well sends, in order."""
    return grasp_steps(plan) + (() if plan.delivery is None else delivery_steps(plan.delivery, hand_over))
