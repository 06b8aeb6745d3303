"""The nodes that move: plan, confirm, execute, verify."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from langgraph.types import interrupt

from affordagent.core.errors import AffordAgentError, Refused, StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import Delivery, DeliveryGoal, GraspPlan, GraspSet, JointTrajectory, Verdict
from affordagent.graphs.delivering import check_can_feel, delivery_goal, said, slow_near_person
from affordagent.graphs.stages import held_after_all
from affordagent.graphs.state import Done, GraspState, Workbench
from affordagent.robot.interface import ArmState
from affordagent.robot.safety import SafeArm
from affordagent.tools.painted import PERSON

PICTURE_WITHIN_S = 300.0  # a real arm does not set out by an older picture: a person may have taken long to answer


def plan(bench: Workbench, state: GraspState) -> Done:
    """The best grasp that the arm can reach without touching anything on the way."""
    from affordagent.robot.interface import LOOK_Q
    from affordagent.tools.steps import all_steps

    arm = bench.arm
    mended = [] if arm is None or bench.dry_run else arm.make_ready()
    state_now = None if arm is None else _empty_handed(arm.read())
    start_q = LOOK_Q if state_now is None else state_now.positions
    if bench.store.get("query").intent == "hand_over" and state_now is not None:
        check_can_feel(state_now)
    grasps, goal, chosen, why_not_free = _planned(bench, start_q)
    there = chosen.delivery
    if there is not None and there.kind == "hand_over":
        there = slow_near_person(there, bench.hand_over.speed_m_s, bench.arm_model)
        chosen = replace(chosen, delivery=there)
    if bench.arm is not None:
        check_motions(bench.arm, _paths(chosen))
    bench.store.put("plan", chosen)
    duration_s = sum(path.duration_s for _, path, _ in _paths(chosen))
    message = f"grasp {chosen.grasp_index + 1} of {len(grasps)}, {duration_s:.1f} s of motion"
    evidence: dict[str, Any] = {
        "grasp_index": chosen.grasp_index,
        "motion_s": duration_s,
        "rejected": chosen.rejected[:10],
    }
    evidence |= {"mended": mended} if mended else {}
    if why_not_free:
        message += f"; the part cannot be left free: {why_not_free}"
        evidence["handle_free"] = False
    if goal is not None and there is not None:
        message += f"; {said(bench.store.get('query'), chosen, bench)}"
        evidence["delivery"] = {
            "kind": there.kind,
            "move": there.move_index + 1,
            "of": len(goal.moves),
            "T_base_tcp": np.round(there.T_base_tcp, 4).tolist(),
        }
    if bench.dry_run:
        steps = all_steps(chosen, bench.hand_over)
        evidence["would_send"] = [{"step": step.name, **step.goal} for step in steps]
        message = f"dry run, nothing is sent: {', '.join(step.name for step in steps)}; {message}"
    return Done(message, evidence, {"outcome": "planned"} if arm is None or bench.dry_run else GraspState())


def _planned(bench: Workbench, start_q: Array) -> tuple[GraspSet, DeliveryGoal | None, GraspPlan, str]:
    """Grasps, goal, plan, and why the part cannot be left to the person where that was wanted: then it is held after
    all."""
    from affordagent.tools import handle_free
    from affordagent.tools.motion.plan_grasp import plan_grasp

    def planned(grasps: GraspSet) -> tuple[GraspSet, DeliveryGoal | None, GraspPlan]:
        cloud, goal = bench.store.get("cloud"), delivery_goal(bench)
        plan = plan_grasp(grasps, cloud, start_q, limits=bench.limits, arm=bench.arm_model, delivery=goal)
        return grasps, goal, plan

    try:
        return *planned(bench.store.get("grasps")[0]), ""
    except StageFailure as failure:
        is_free = handle_free.is_free(bench.store.get("part_mask"))
        if not is_free or failure.stage != "plan" or not failure.code.startswith("planning."):
            raise
        why = failure.message
    grasps, _ = held_after_all(bench, why)
    bench.store.put("grasps", (grasps, bench.store.get("frame").T_base_camera))
    return *planned(grasps), why


def _empty_handed(state: ArmState) -> ArmState:
    """A hand that says it holds something is not opened in mid-air."""
    if state.holding:
        raise StageFailure(
            "plan",
            "execution.hand_full",
            f"the hand holds something ({1e3 * state.gripper_width_m:.0f} mm wide), and a grasp begins by opening it: "
            "hold the thing and type `affordagent recover --open`, or open the fingers on the pendant",
            gripper_width_m=state.gripper_width_m,
        )
    return state


def check_motions(arm: SafeArm, paths: list[tuple[str, JointTrajectory, float]]) -> None:
    """Before a person is asked: would the safety layer let all motions through? paths: as of `_paths`."""
    for phase, path, opening_m in paths:
        violation = arm.check(path, opening_m)
        if violation is not None:
            raise StageFailure("plan", violation.code, f"{phase} would not be sent: {violation.message}", phase=phase)


def _paths(plan: GraspPlan) -> list[tuple[str, JointTrajectory, float]]:
    """Phase, motion and opening of the fingers meanwhile, in order."""
    width_m, there = plan.grasp.width_m, plan.delivery
    paths = [
        ("to_pregrasp", plan.to_pregrasp, plan.opening_m),
        ("approach", plan.approach, plan.opening_m),
        ("lift", plan.lift, width_m),
    ]
    return paths if there is None else paths + delivery_paths(there, width_m)


def delivery_paths(there: Delivery, width_m: float) -> list[tuple[str, JointTrajectory, float]]:
    """The same of what follows the lift. width_m: of what is held."""
    lower = [] if there.lower is None else [("lower", there.lower, width_m)]
    return [("carry", there.carry, width_m), *lower, ("back_off", there.retreat, there.opening_m)]


def confirm(bench: Workbench, state: GraspState) -> Done:
    """Ask before moving. A node of its own: when the run is resumed, only the question is asked again."""
    if not bench.ask_before_motion:
        return Done("not asked: simulated motion")
    chosen = bench.store.get("plan")
    question = f"{said(bench.store.get('query'), chosen, bench)} Move the robot?"
    if bench.cell.is_hardware and bench.arm is not None and bench.arm.read().holding is None:
        question = (
            f"The hand cannot tell whether it holds something. It is opened first: what it holds falls. {question}"
        )
    answer = interrupt({"question": question, "opening_m": chosen.opening_m, "score": chosen.grasp.score})
    if answer is not True:
        raise Refused("confirm", "execution.declined", "Motion declined; nothing moved.")
    return Done("confirmed")


def execute(bench: Workbench, state: GraspState) -> Done:
    """Open, approach, close, lift, hold, deliver; what the run's journal says has been done is not done again."""
    from affordagent.core.journal import MOTIONS_FILE, MotionJournal
    from affordagent.tools.execution import deliver_held
    from affordagent.tools.execution import execute as execute_plan

    arm = bench.arm
    assert arm is not None  # without an arm the run ended as "planned"
    with MotionJournal(bench.store.folder / MOTIONS_FILE) as journal:
        mended = [] if journal.motions() else arm.make_ready()  # a person may have taken long to answer
        if not journal.motions():
            check_sight(bench)
        if bench.stopped():  # which making ready forgets
            raise KeyboardInterrupt
        carry_out = deliver_held if state.get("held") else execute_plan
        report = carry_out(arm, bench.store.get("plan"), journal, hand_over=bench.hand_over)
    evidence = {**asdict(report), **({"mended": mended} if mended else {})}
    there = bench.store.get("plan").delivery
    end = "held" if there is None else "put down" if there.kind == "place" else f"handed over: {report.taken}"
    did = "" if state.get("held") else f"closed at {1e3 * report.closed_width_m:.0f} mm, lifted and "
    return Done(f"{did}{end}", evidence)


def check_sight(bench: Workbench) -> None:
    """Before the first motion of a real arm: its camera still gives pictures, and the one planned by is not old.

    Raises:
        StageFailure: (stage, code): camera.stale, or what the camera says.
    """
    if not bench.cell.is_hardware:
        return
    bench.cell.look()
    age_s = time.time() - bench.store.get("frame").stamp_s
    if age_s > PICTURE_WITHIN_S:
        raise StageFailure(
            "execute",
            "camera.stale",
            f"the picture that the motion was planned by is {age_s:.0f} s old, limit {PICTURE_WITHIN_S:.0f} s: nothing "
            "moved; give the command again",
            age_s=round(age_s, 1),
        )


def verify(bench: Workbench, state: GraspState) -> Done:
    """Was the job done? By the cell's truth where there is one; what the sensors say is kept beside it, and decides
    where they are all there is."""
    query, part = bench.store.get("query"), bench.store.get("part_mask")
    there = bench.store.get("destination").object_mask if query.destination is not None else None
    truth = bench.cell.judge(bench.store.get("plan"), part.object_mask, query, there)
    sensed, unasked = _sensed(bench)
    bench.store.put("sensed_verdict", sensed)
    verdict = sensed if truth is None else truth
    bench.store.put("verdict", verdict)
    checks = ", ".join(f"{name} {'passed' if ok else 'FAILED'}" for name, ok in verdict.checks.items())
    said: dict[str, Any] = {"sensed": {"success": sensed.success, "code": sensed.code}}
    said |= {"unasked": unasked} if unasked else {}
    if not verdict.success:
        evidence = {"checks": verdict.checks, "measured": verdict.measured, "by": verdict.by, **said}
        raise StageFailure("verify", verdict.code or "verify.unknown", f"not done: {checks}", **evidence)
    return Done(checks, {**asdict(verdict), **said}, {"outcome": "success"})


def _sensed(bench: Workbench) -> tuple[Verdict, str]:
    """What hand, joints, a second look and a second opinion say; and what could not be asked, with the reason."""
    from affordagent.core.journal import MOTIONS_FILE, read_motions
    from affordagent.robot.kinematics import ArmKinematics
    from affordagent.tools.outcome import Looks, doubted, readings_of, unless_unsure, verify_outcome

    assert bench.arm is not None  # without an arm the run ended as "planned"
    frame, table, cloud, part = (bench.store.get(name) for name in ("frame", "table", "cloud", "part_mask"))
    after, blind = None, ""
    try:
        after = bench.cell.look_again()
        if after.stamp_s <= frame.stamp_s:
            raise StageFailure("verify", "camera.stale", "the camera gave the picture from before the motion again")
        bench.store.put("after", after)
    except StageFailure as failure:  # the hand and the joints can still be asked
        after, blind = None, f"{failure.code}: {failure.message}"
    looks = None if after is None else Looks(frame, after, table, part.object_mask, cloud)
    readings = readings_of(read_motions(bench.store.folder / MOTIONS_FILE), bench.arm.read())
    verdict = verify_outcome(bench.store.get("plan"), readings, looks, ArmKinematics(bench.arm_model))
    verdict = unless_unsure(verdict, part)
    asked = bench.store.has("second_answer") or part.tool == PERSON  # both tools were heard, or nobody need be
    if verdict.success and not asked:
        try:
            answers = bench.fallback.find(frame, table, bench.store.get("query"))
        except AffordAgentError as error:
            return verdict, f"{blind}; no second opinion: {error}".removeprefix("; ")
        verdict = doubted(verdict, part.object_mask, answers)
    return verdict, blind
