"""Carry out a plan step by step, the same on the simulated and the real arm; no motion is ever sent twice.

Each step is journalled before it is sent and when it has ended (`core.journal`). On a run whose journal already holds
steps, those that ended are taken from it; one that was cut off is settled by looking where the arm is.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.journal import Motion, MotionJournal
from affordagent.core.types import Delivery, GraspPlan
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.robot.hand_over import HandOver
from affordagent.robot.interface import Arm, ArmState, MotionResult
from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD
from affordagent.tools.steps import HOLD_S, LET_GO, Step, delivery_steps, grasp_steps, withdrawal_steps

OPENED_WITHIN_M = 0.005
SAME_WIDTH_M = 0.003
REST_S, MOST_UNREST_S = 0.3, 3.0  # an arm that does not move for so long rests; how long that is waited for
_STILL_RAD, _STILL_M = 0.002, 0.001
_FOUND = "cut off, and found at its goal"


@dataclass(frozen=True)
class ExecutionReport:
    """closed_width_m: opening after closing; held_width_m: after lifting and holding; worst tracking error at the ends
    of the motions; duration_s: by the arm's own clock; taken: how a person took it, None where nothing is handed over.
    """

    closed_width_m: float
    held_width_m: float
    max_error_rad: float
    duration_s: float
    taken: str | None = None


def execute(
    arm: Arm,
    plan: GraspPlan,
    journal: MotionJournal | None = None,
    *,
    hold_s: float = HOLD_S,
    hand_over: HandOver | None = None,
) -> ExecutionReport:
    """Open, go to the pre-grasp, approach, close, lift, hold; then deliver what is held, where the plan says so.

    journal: of this run; without one the motions are forgotten with the process. hand_over: how to wait for a person.

    Raises:
        StageFailure: ("execute", code): execution.gripper (fingers did not open), execution.no_contact (closed on
            nothing; the arm has drawn back), execution.drop (lost on the way), execution.not_taken (nobody took what
            was held out; it is still held), execution.interrupted (a step was cut off, or the arm has been moved since
            the last one), or the code of the motion that ended early.
    """
    journal = journal or MotionJournal.in_memory()
    opening, to_pregrasp, approach, closing, lifting, holding = grasp_steps(plan, hold_s)
    opened_m = _carry_out(arm, journal, opening).state.gripper_width_m
    _check_opened(opened_m, plan.opening_m)
    motions = [_carry_out(arm, journal, step) for step in (to_pregrasp, approach)]
    closed_m = _carry_out(arm, journal, closing).state.gripper_width_m
    if closed_m < NOTHING_HELD_M:
        for step in withdrawal_steps(plan):
            _carry_out(arm, journal, step)
        raise StageFailure(
            "execute",
            "execution.no_contact",
            f"the fingers closed to {1e3 * closed_m:.1f} mm, at least {1e3 * NOTHING_HELD_M:.1f} mm with something "
            "between them: nothing was there; look again",
            width_m=closed_m,
        )
    motions.append(_carry_out(arm, journal, lifting))
    end = _carry_out(arm, journal, holding).state
    _check_held(end, closed_m, "lifting")
    held_m, taken = end.gripper_width_m, None
    if plan.delivery is not None:
        delivered, taken = _deliver(arm, journal, plan.delivery, hand_over or HandOver(), closed_m, end.tcp_force_n)
        motions += delivered
        end = delivered[-1].state
    worst_rad = max(motion.max_error_rad for motion in motions)
    start_s = journal.motions()[0].start["stamp_s"]
    return ExecutionReport(closed_m, held_m, worst_rad, end.stamp_s - start_s, taken)


def deliver_held(
    arm: Arm, plan: GraspPlan, journal: MotionJournal | None = None, *, hand_over: HandOver | None = None
) -> ExecutionReport:
    """Deliver what an earlier command took by `plan` and the hand still holds. Raises as `execute`."""
    assert plan.delivery is not None
    journal, begin = journal or MotionJournal.in_memory(), arm.read()
    closed_m = begin.gripper_width_m
    motions, taken = _deliver(arm, journal, plan.delivery, hand_over or HandOver(), closed_m, begin.tcp_force_n)
    worst_rad = max(motion.max_error_rad for motion in motions)
    start_s = journal.motions()[0].start["stamp_s"]
    return ExecutionReport(closed_m, closed_m, worst_rad, motions[-1].state.stamp_s - start_s, taken)


def _deliver(
    arm: Arm, journal: MotionJournal, there: Delivery, hand_over: HandOver, closed_m: float, held_n: Array | None
) -> tuple[list[MotionResult], str | None]:
    """Carry out the steps after the hold: what came of the motions, and how a person took the thing."""
    carrying, arriving, letting_go, backing_off, resting = delivery_steps(there, hand_over, held_n)
    motions = [_carry_out(arm, journal, carrying)]
    _check_held(motions[0].state, closed_m, "the carry")
    taken = None
    if there.kind == "place":
        motions.append(_carry_out(arm, journal, arriving))
        _check_held(motions[-1].state, closed_m, "lowering")
    else:
        taken = _offer(arm, journal, arriving)
    opened_m = _carry_out(arm, journal, letting_go).state.gripper_width_m
    _check_opened(opened_m, there.opening_m)
    motions.append(_carry_out(arm, journal, backing_off))
    motions.append(_carry_out(arm, journal, resting))
    return motions, taken


def _offer(arm: Arm, journal: MotionJournal, step: Step) -> str:
    """Hold it out until it is taken: how it was. Waiting moves nothing, so it is begun anew after a restart, under a
    name of its own: who pulled before, if anybody, may be gone, and the thing would fall."""
    name, count = step.name, 1
    while _is_past(journal, name):
        count += 1
        name = f"{step.name}_{count}"
    return _carry_out(arm, journal, replace(step, name=name)).message


def _is_past(journal: MotionJournal, offer: str) -> bool:
    """Was this wait ended before a restart, and not by the pull after which the hand let go?"""
    known = journal.find(offer)
    if known is None or known.result is None or not known.result["reached"]:
        return False
    return bool(known.result["message"] == _FOUND) or journal.find(LET_GO) is None


def _check_opened(opened_m: float, asked_m: float) -> None:
    if opened_m < asked_m - OPENED_WITHIN_M:
        raise StageFailure(
            "execute",
            "execution.gripper",
            f"the fingers opened to {1e3 * opened_m:.0f} mm, {1e3 * asked_m:.0f} mm were asked for: free them",
            width_m=opened_m,
        )


def _check_held(state: ArmState, closed_m: float, after: str) -> None:
    if state.gripper_width_m < NOTHING_HELD_M:
        raise StageFailure(
            "execute",
            "execution.drop",
            f"the fingers held {1e3 * closed_m:.1f} mm after closing and {1e3 * state.gripper_width_m:.1f} mm after "
            f"{after}: the object slipped out; take another grasp",
            closed_width_m=closed_m,
            held_width_m=state.gripper_width_m,
        )


def _carry_out(arm: Arm, journal: MotionJournal, step: Step) -> MotionResult:
    """Send a step that has never begun; take what came of one that has ended from the journal."""
    known = journal.find(step.name)
    if known is not None and known.result is not None:
        result = _result_from_json(known.result)
    else:
        journal.begin(step.name, step.goal, _state_as_json(_as_left(arm, journal, step.name)))
        result = step.send(arm)
        journal.end(step.name, _result_as_json(result))
    if not result.reached:
        raise StageFailure(
            "execute",
            result.code or "execution.tracking",
            f"{step.name} ended early: {result.message}",
            phase=step.name,
            max_error_rad=result.max_error_rad,
        )
    return result


def _as_left(arm: Arm, journal: MotionJournal, step: str) -> ArmState:
    """The arm's state, where the last step that ended left it.

    Raises:
        StageFailure: ("execute", "execution.interrupted"): it is somewhere else.
    """
    state = arm.read()
    last = next(reversed(journal.motions()), None)
    if last is not None and last.result is not None:
        off_rad = _distance_rad(state, last.result["state"]["positions"])
        if off_rad > GOAL_TOLERANCE_RAD:
            moved = f"{step} is not sent: since {last.step} the arm has been moved by {off_rad:.3f} rad, at most "
            raise _interrupted(f"{moved}{GOAL_TOLERANCE_RAD} are allowed", state, last)
    return state


def settle(arm: Arm, journal: MotionJournal) -> str:
    """Before a run goes on after its process has died: is the arm where the journal says?

    A step that was cut off and is found at its goal, at rest, is closed as found there: it is never sent again. Returns
    what was found, for a person.

    Raises:
        StageFailure: ("execute", "execution.interrupted"): the arm is anywhere else. The run must be abandoned; the
            message and the evidence say what a person should do.
    """
    motions = journal.motions()
    if not motions:
        return "no motion had begun"
    last = motions[-1]
    if last.result is not None and not last.result["reached"]:
        return f"{last.step} had ended early: {last.result['message']}"
    state = _at_rest(arm, last)
    if last.result is None:
        off = _off_goal(last, state)
        if off:
            raise _interrupted(f"{last.step} was cut off: {off}", state, last)
        found = MotionResult(True, state, message=_FOUND)
        journal.end(last.step, _result_as_json(found))
        return f"{last.step} was cut off, and the arm rests at its goal"
    left = last.result["state"]
    off_rad, off_m = _distance_rad(state, left["positions"]), state.gripper_width_m - left["gripper_width_m"]
    if off_rad > GOAL_TOLERANCE_RAD or abs(off_m) > SAME_WIDTH_M:
        moved = f"since {last.step} the arm has been moved by {off_rad:.3f} rad and its fingers by {1e3 * off_m:.1f} mm"
        raise _interrupted(moved, state, last)
    return f"{last.step} had ended, and the arm is where it left it"


def _at_rest(arm: Arm, last: Motion) -> ArmState:
    """The state once nothing moves any more."""
    deadline = time.monotonic() + MOST_UNREST_S
    state = arm.read()
    while True:
        time.sleep(REST_S)
        before, state = state, arm.read()
        fingers_m = abs(state.gripper_width_m - before.gripper_width_m)  # NaN where the gripper cannot tell
        if _distance_rad(state, before.positions) < _STILL_RAD and not fingers_m > _STILL_M:
            return state
        if time.monotonic() > deadline:
            arm.stop()
            raise _interrupted(
                f"{MOST_UNREST_S:.0f} s after {last.step} the arm still moved; told to stop", state, last
            )


def _off_goal(motion: Motion, state: ArmState) -> str:
    """What is missing at the goal of a motion that was cut off; nothing when the arm is there."""
    goal, fingers = motion.goal, f"the fingers stand at {1e3 * state.gripper_width_m:.0f} mm"
    moved_rad = _distance_rad(state, motion.start["positions"])
    if "positions" in goal:
        off_rad = _distance_rad(state, goal["positions"])
        return "" if off_rad <= GOAL_TOLERANCE_RAD else f"it stands {off_rad:.3f} rad before its goal"
    if moved_rad > GOAL_TOLERANCE_RAD:
        return f"since then the arm has been moved by {moved_rad:.3f} rad"
    if "hold_s" in goal or "offer" in goal:
        return ""
    if goal["width_m"] > 0:
        there = abs(state.gripper_width_m - goal["width_m"]) <= OPENED_WITHIN_M
        return "" if there else f"{fingers}, {1e3 * goal['width_m']:.0f} mm were asked for"
    closed = state.holding or state.gripper_width_m < NOTHING_HELD_M
    return "" if closed else f"{fingers}, and whether they hold anything is not known"


def _interrupted(what: str, state: ArmState, motion: Motion) -> StageFailure:
    sure = "nothing" if state.holding is False else "something" if state.holding else "perhaps something"
    held = f"Between the fingers is {sure}."
    if state.holding is not False:
        held += " To take it out, open them on the pendant while you hold it."
    steps = [
        "Look whether the arm touches anything and whether the way back is free.",
        held,
        "Take the arm to where it looks from (`affordagent home`), then give the command anew.",
    ]
    return StageFailure(
        "execute",
        "execution.interrupted",
        f"{what}. Nothing is sent again. {' '.join(steps)}",
        step=motion.step,
        begun=motion.begun,
        positions=state.positions.tolist(),
        gripper_width_m=state.gripper_width_m,
        holding=state.holding,
        steps=steps,
    )


def _distance_rad(state: ArmState, positions: Any) -> float:
    return float(np.abs(state.positions - np.asarray(positions)).max())


def _state_as_json(state: ArmState) -> dict[str, Any]:
    return {
        "positions": state.positions.tolist(),
        "gripper_width_m": float(state.gripper_width_m),
        "stamp_s": float(state.stamp_s),
        "holding": None if state.holding is None else bool(state.holding),
        "tcp_force_n": None if state.tcp_force_n is None else np.asarray(state.tcp_force_n, float).tolist(),
    }


def _result_as_json(result: MotionResult) -> dict[str, Any]:
    return {
        "reached": bool(result.reached),
        "code": result.code,
        "message": result.message,
        "max_error_rad": float(result.max_error_rad),
        "state": _state_as_json(result.state),
    }


def state_from_json(record: dict[str, Any]) -> ArmState:
    """A state as the journal keeps it."""
    force_n = record.get("tcp_force_n")
    arrays = {"positions": np.array(record["positions"]), "tcp_force_n": None if force_n is None else np.array(force_n)}
    return ArmState(**{**record, **arrays})


def _result_from_json(record: dict[str, Any]) -> MotionResult:
    return MotionResult(**{**record, "state": state_from_json(record["state"])})
