"""The nodes of the grasp graph. Each reads artefacts from the run store, calls one tool, and writes one artefact."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from langgraph.types import interrupt

from affordagent.core.errors import AffordAgentError, NeedsClarification, Refused, StageFailure
from affordagent.core.run_store import as_plain
from affordagent.core.types import GraspPlan, OutcomeName, PartMask, StageRecord, StageStatus
from affordagent.graphs.state import GraspState, Workbench
from affordagent.robot.interface import ArmState
from affordagent.robot.safety import SafeArm

PICTURE_WITHIN_S = 300.0  # a real arm does not set out by an older picture: a person may have taken long to answer


@dataclass(frozen=True)
class Done:
    """What a stage says when it worked: a line for people, evidence for the record, changes of the state."""

    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    update: GraspState = field(default_factory=lambda: GraspState())


Stage = Callable[[Workbench, GraspState], Done]


def node(bench: Workbench, name: str, stage: Stage) -> Any:
    """Wrap a stage: time it, record it, and turn its typed failure, or a person's stop, into the run's outcome."""

    def run(state: GraspState) -> GraspState:
        bench.on_stage(name)
        wall, cpu = time.perf_counter(), time.process_time()
        status: StageStatus = "ok"
        code = None
        try:
            if bench.stopped():
                raise KeyboardInterrupt
            done = stage(bench, state)
            message, evidence, update = done.message, done.evidence, done.update
        except (AffordAgentError, KeyboardInterrupt) as error:
            failure = _failure(bench, name, error)
            status, outcome = _ending(failure)
            code, message, evidence = failure.code, failure.message, failure.evidence
            update = {"outcome": outcome, "failure": {"stage": name, "code": code, "message": message}}
        spent_s, spent_cpu_s = time.perf_counter() - wall, time.process_time() - cpu
        evidence = as_plain(evidence)
        record = StageRecord(name, status, code, round(spent_s, 4), round(spent_cpu_s, 4), message, evidence)
        bench.store.event("stage", **asdict(record))
        bench.on_record(record)
        return {**update, "stages": [asdict(record)]}

    return run


def _failure(bench: Workbench, name: str, error: AffordAgentError | KeyboardInterrupt) -> StageFailure:
    if isinstance(error, KeyboardInterrupt) or (bench.stopped() and name != "execute"):  # whatever the stop broke
        if bench.arm is not None:
            bench.arm.stop()
        return stopped(name)
    return error if isinstance(error, StageFailure) else StageFailure(name, "tool.unavailable", str(error))


def stopped(stage: str) -> StageFailure:
    """What a run ends with when a person stops it."""
    return StageFailure(stage, "execution.stopped", f"stopped on request during {stage}; the arm was told first")


def _ending(failure: StageFailure) -> tuple[StageStatus, OutcomeName]:
    if isinstance(failure, Refused):
        return "refused", "refused"
    if isinstance(failure, NeedsClarification):
        return "needs_clarification", "needs_clarification"
    return "failed", "failure"


def understand(bench: Workbench, state: GraspState) -> Done:
    """Words -> FunctionalQuery. Questions, stops and unclear wishes end the run here, before anything is looked at."""
    query = bench.understand(state["command"])
    bench.store.put("query", query)
    if query.intent == "stop":
        raise Refused("understand", "language.stop", "Stopped: nothing is moving and nothing will.")
    if query.needs_clarification:
        question = query.question or "Which object do you mean?"
        raise NeedsClarification("understand", "language.ambiguous", question, question=question)
    if query.intent == "refer_back":
        question = "I have no earlier object to refer back to. Which object do you mean?"
        raise NeedsClarification("understand", "language.no_referent", question, question=question)
    if not query.wants_motion:
        raise Refused("understand", "language.no_motion_wanted", f"Not a wish for a motion ({query.intent}).")
    if query.intent == "place":
        raise Refused(
            "understand", "language.unsupported", "Putting things down is not built yet; I can pick and lift."
        )
    named = [f"{c.name} {c.score:.2f}" for c in query.candidates[:3]]
    part = f" by its {query.part}" if query.part else ""
    return Done(f"{query.intent}: {', '.join(named)}{part}", {"candidates": named, "part": query.part})


def look(bench: Workbench, state: GraspState) -> Done:
    """One RGB-D frame, its table and what stands on it; the camera's pose, estimated where it is not known."""
    from affordagent.tools.camera_pose import estimate_T_base_camera
    from affordagent.tools.table import find_objects

    frame = bench.cell.look()
    bench.store.put("frame", frame)
    scene = find_objects(frame)
    evidence: dict[str, Any] = {"proposals": len(scene.proposals), "valid_depth": float((frame.depth_m > 0).mean())}
    assumed = ""
    if frame.T_base_camera is None:
        T_base_camera, assumption = estimate_T_base_camera(frame, scene)
        bench.store.put("frame", replace(frame, T_base_camera=T_base_camera))
        evidence["assumed"] = assumption
        assumed = f"; {assumption}"
    bench.store.put("table", scene)
    return Done(f"{len(scene.proposals)} things on the table{assumed}", evidence)


def ground(bench: Workbench, state: GraspState) -> Done:
    """The part to hold, by the trained model."""
    try:
        part = _best(bench, bench.grounder.find(*_grounding_input(bench)))
    except StageFailure as failure:
        if not failure.code.startswith("grounding."):
            raise
        reason = {"code": failure.code, "reason": failure.message, **failure.evidence}
        return Done(f"not found: {failure.message}", reason, {"grounding": "failed"})
    bench.store.put("part_mask", part)
    sure = part.confidence >= bench.sure_above
    doubt = "" if sure else f", below {bench.sure_above:.2f}: asking the fallback"
    return Done(
        f"{part.tool}: {int(part.mask.sum())} px, confidence {part.confidence:.2f}{doubt}",
        {"tool": part.tool, "confidence": part.confidence, "pixels": int(part.mask.sum())},
        {"grounding": "sure" if sure else "doubtful"},
    )


def ground_again(bench: Workbench, state: GraspState) -> Done:
    """A second opinion by the fallback tool: the more confident of the two masks is taken, and the record says why."""
    query = bench.store.get("query")
    first: PartMask | None = bench.store.get("part_mask") if state.get("grounding") == "doubtful" else None
    second = _best(bench, bench.fallback.find(*_grounding_input(bench)))
    part = first if first is not None and first.confidence >= second.confidence else second
    evidence = {
        "tool": part.tool,
        "confidence": part.confidence,
        "considered": {p.tool: p.confidence for p in (first, second) if p is not None},
    }
    if part.is_there < bench.present_above:
        wanted = query.object_words or query.category or "that"
        raise StageFailure(
            "ground",
            "grounding.not_found",
            f"I see no {wanted} on the table: the best match is there with probability {part.is_there:.2f}, "
            f"needed {bench.present_above:.2f}. Name it otherwise, or put it into view.",
            **evidence,
        )
    bench.store.put("part_mask", part)
    return Done(f"{part.tool}: {int(part.mask.sum())} px, confidence {part.confidence:.2f}", evidence)


def _grounding_input(bench: Workbench) -> tuple[Any, Any, Any]:
    return bench.store.get("frame"), bench.store.get("table"), bench.store.get("query")


def _best(bench: Workbench, parts: list[PartMask]) -> PartMask:
    """The first mask that is not empty."""
    part = next((p for p in parts if p.mask.any()), None)
    if part is None:
        raise StageFailure("ground", "grounding.empty_mask", "the tool answered with blank masks only")
    return part


def lift(bench: Workbench, state: GraspState) -> Done:
    """Mask x depth -> clouds of the part, its object and the obstacles, in the base frame."""
    from affordagent.robot.arms import ARMS
    from affordagent.tools.depth_projection import HAND_M, check_table_height
    from affordagent.tools.depth_projection import lift as project

    frame, table, part = (bench.store.get(name) for name in ("frame", "table", "part_mask"))
    cloud = project(frame, table, part, ARMS[bench.arm_model].reach_m + HAND_M)
    check_table_height(cloud.table_z_m, bench.limits.table_z_m)
    bench.store.put("cloud", cloud)
    message = f"{len(cloud.part)} points of the part, {100 * cloud.valid_fraction:.0f} % of its pixels have depth"
    return Done(message, {"part_points": len(cloud.part), "valid_fraction": cloud.valid_fraction})


def propose(bench: Workbench, state: GraspState) -> Done:
    """Ranked collision-free grasps on the part."""
    from affordagent.tools.grasping.propose import propose as propose_grasps

    query = bench.store.get("query")
    handover = query.intent == "hand_over"
    grasps = propose_grasps(bench.store.get("cloud"), rng_seed=bench.seed, handover=handover)
    bench.store.put("grasps", (grasps, bench.store.get("frame").T_base_camera))
    best = grasps[0]
    message = f"{len(grasps)} grasps, best {best.score:.2f} at {1e3 * best.width_m:.0f} mm"
    return Done(message, {"count": len(grasps), "best_score": best.score, "best_width_m": best.width_m})


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
