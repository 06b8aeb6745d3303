"""What the hand already holds, from an earlier run of the same talk, goes somewhere: back, or where it is wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.run_store import RunStore
from affordagent.core.types import Delivery, GraspPlan
from affordagent.graphs.delivering import check_can_feel, delivery_goal, said, slow_near_person
from affordagent.graphs.moving import check_motions, delivery_paths
from affordagent.graphs.state import Done, GraspState, Workbench
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.robot.interface import ArmState
from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD

TAKEN_OVER = ("frame", "table", "part_mask", "kept_free", "cloud", "grasps", "plan")
"""What the run that holds something saw and planned, and the run that delivers it goes by."""


def take_over(store: RunStore, earlier: RunStore) -> None:
    """Copy what an earlier run knows of the thing in the hand into the folder of a run that is to deliver it."""
    for name in TAKEN_OVER:
        if earlier.has(name):
            store.put(name, earlier.get(name))


def plan_held(bench: Workbench, state: GraspState) -> Done:
    """From where the arm holds it to where it is to go; nothing is looked at anew, as the arm would be in the way."""
    from affordagent.tools.motion.plan_held import plan_held as plan_delivery

    if bench.arm is None:
        raise StageFailure("plan", "verify.no_arm", "this cell has no arm: nothing is held")
    taken: GraspPlan = bench.store.get("plan")
    arm_state = _still_holding(bench.arm.read(), taken)
    query, cloud = bench.store.get("query"), bench.store.get("cloud")
    if query.intent == "hand_over":
        check_can_feel(arm_state)
    goal = delivery_goal(bench)
    assert goal is not None  # the query of such a run names a destination, or hands over
    start_q = arm_state.positions
    there: Delivery = plan_delivery(
        taken, cloud, goal, start_q, limits=bench.limits, arm=bench.arm_model, seed=bench.seed
    )
    if there.kind == "hand_over":
        there = slow_near_person(there, bench.hand_over.speed_m_s, bench.arm_model)
    chosen = replace(taken, delivery=there)
    check_motions(bench.arm, delivery_paths(there, taken.grasp.width_m))
    bench.store.put("plan", chosen)
    evidence: dict[str, Any] = {
        "delivery": {"kind": there.kind, "T_base_tcp": np.round(there.T_base_tcp, 4).tolist()},
        "of": len(goal.moves),
        "move": there.move_index + 1,
    }
    outcome = GraspState(outcome="planned") if bench.dry_run else GraspState()
    return Done(said(query, chosen, bench), evidence, outcome)


def _still_holding(state: ArmState, taken: GraspPlan) -> ArmState:
    """Is the arm where the earlier run left it, with something between its fingers?"""
    off_rad = float(np.abs(state.positions - taken.lift.positions[-1]).max())
    if off_rad > GOAL_TOLERANCE_RAD:
        raise StageFailure(
            "plan",
            "execution.start_mismatch",
            f"the arm has been moved by {off_rad:.3f} rad since it took the thing, at most {GOAL_TOLERANCE_RAD} are "
            "allowed: take the thing out of the hand (`affordagent recover --open`) and give the command anew",
            off_rad=off_rad,
        )
    if state.holding is False or state.gripper_width_m < NOTHING_HELD_M:
        raise StageFailure(
            "plan",
            "execution.drop",
            f"nothing is between the fingers any more ({1e3 * state.gripper_width_m:.1f} mm open): look where it fell",
            width_m=state.gripper_width_m,
        )
    return state
