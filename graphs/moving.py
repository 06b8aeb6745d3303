"""The nodes that move: plan, confirm, execute, verify."""

from __future__ import annotations

import time
from dataclasses import asdict

from langgraph.types import interrupt

from affordagent.core.errors import Refused, StageFailure
from affordagent.core.types import GraspPlan
from affordagent.graphs.stages import Done
from affordagent.graphs.state import GraspState, Workbench
from affordagent.robot.interface import ArmState
from affordagent.robot.safety import SafeArm

PICTURE_WITHIN_S = 300.0  # a real arm does not set out by an older picture: a person may have taken long to answer


def plan(bench: Workbench, state: GraspState) -> Done:
    """The best grasp that the arm can reach without touching anything on the way."""
    from affordagent.robot.interface import LOOK_Q
    from affordagent.tools.execution import grasp_steps
    from affordagent.tools.motion.plan_grasp import plan_grasp

    grasps, _ = bench.store.get("grasps")
    arm = bench.arm
    mended = [] if arm is None or bench.dry_run else arm.make_ready()
    start_q = LOOK_Q if arm is None else _empty_handed(arm.read()).positions
    chosen = plan_grasp(grasps, bench.store.get("cloud"), start_q, limits=bench.limits, arm=bench.arm_model)
    if bench.arm is not None:
        _check_motions(bench.arm, chosen)
    bench.store.put("plan", chosen)
    duration_s = chosen.to_pregrasp.duration_s + chosen.approach.duration_s + chosen.lift.duration_s
    message = f"grasp {chosen.grasp_index + 1} of {len(grasps)}, {duration_s:.1f} s of motion"
    evidence = {"grasp_index": chosen.grasp_index, "motion_s": duration_s, "rejected": chosen.rejected[:10]}
    evidence |= {"mended": mended} if mended else {}
    if bench.dry_run:
        steps = grasp_steps(chosen)
        evidence["would_send"] = [{"step": step.name, **step.goal} for step in steps]
        message = f"dry run, nothing is sent: {', '.join(step.name for step in steps)}; {message}"
    return Done(message, evidence, {"outcome": "planned"} if arm is None or bench.dry_run else GraspState())


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


def _check_motions(arm: SafeArm, plan: GraspPlan) -> None:
    """Before a person is asked: would the safety layer let all three motions through?"""
    openings_m = {"to_pregrasp": plan.opening_m, "approach": plan.opening_m, "lift": plan.grasp.width_m}
    for phase, opening_m in openings_m.items():
        violation = arm.check(getattr(plan, phase), opening_m)
        if violation is not None:
            raise StageFailure("plan", violation.code, f"{phase} would not be sent: {violation.message}", phase=phase)


def confirm(bench: Workbench, state: GraspState) -> Done:
    """Ask before moving. A node of its own: when the run is resumed, only the question is asked again."""
    if not bench.ask_before_motion:
        return Done("not asked: simulated motion")
    chosen, question = bench.store.get("plan"), "Move the robot?"
    if bench.cell.is_hardware and bench.arm is not None and bench.arm.read().holding is None:
        question = (
            f"The hand cannot tell whether it holds something. It is opened first: what it holds falls. {question}"
        )
    answer = interrupt({"question": question, "opening_m": chosen.opening_m, "score": chosen.grasp.score})
    if answer is not True:
        raise Refused("confirm", "execution.declined", "Motion declined; nothing moved.")
    return Done("confirmed")


def execute(bench: Workbench, state: GraspState) -> Done:
    """Open, approach, close, lift, hold; what the run's journal says has been done is not done again."""
    from affordagent.core.journal import MOTIONS_FILE, MotionJournal
    from affordagent.tools.execution import execute as execute_plan

    arm = bench.arm
    assert arm is not None  # without an arm the run ended as "planned"
    with MotionJournal(bench.store.folder / MOTIONS_FILE) as journal:
        mended = [] if journal.motions() else arm.make_ready()  # a person may have taken long to answer
        if not journal.motions():
            check_sight(bench)
        if bench.stopped():  # which making ready forgets
            raise KeyboardInterrupt
        report = execute_plan(arm, bench.store.get("plan"), journal)
    evidence = {**asdict(report), **({"mended": mended} if mended else {})}
    return Done(f"closed at {1e3 * report.closed_width_m:.0f} mm, lifted and held", evidence)


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
    """Was the job done? The cell compares what is with what was wanted."""
    query, part = bench.store.get("query"), bench.store.get("part_mask")
    verdict = bench.cell.judge(bench.store.get("plan"), part.object_mask, query)
    bench.store.put("verdict", verdict)
    checks = ", ".join(f"{name} {'yes' if ok else 'NO'}" for name, ok in verdict.checks.items())
    if not verdict.success:
        evidence = {"checks": verdict.checks, "measured": verdict.measured, "by": verdict.by}
        raise StageFailure("verify", verdict.code or "verify.unknown", f"not done: {checks}", **evidence)
    return Done(checks, asdict(verdict), {"outcome": "success"})
