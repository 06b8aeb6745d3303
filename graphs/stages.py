"""The nodes of the grasp graph. Each reads artefacts from the run store, calls one tool, and writes one artefact."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from affordagent.core.errors import AffordAgentError, NeedsClarification, Refused, StageFailure
from affordagent.core.run_store import as_plain
from affordagent.core.types import FunctionalQuery, GraspSet, OutcomeName, PartCloud, StageRecord, StageStatus
from affordagent.graphs.by_hand import read_pointing
from affordagent.graphs.state import Done, GraspState, Stage, Workbench
from affordagent.tools.grasping.antipodal import Antipodal
from affordagent.tools.grasping.backends import Backend

BEST_SHOWN = 3  # grasps whose score terms are in the record


def node(bench: Workbench, name: str, stage: Stage) -> Any:
    """Wrap a stage: time it, record it, and turn its typed failure, or a person's stop, into the run's outcome.

    A partial, as LangGraph reads the byte code of plain functions each time a graph is compiled.
    """
    return partial(_run, bench, name, stage)


def _run(bench: Workbench, name: str, stage: Stage, state: GraspState) -> GraspState:
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
    text, is_marked = state["command"], bench.store.has("painted")
    query = read_pointing(text, bench.understand) if is_marked else bench.understand(text)
    bench.store.put("query", query)
    if query.intent == "stop":
        raise Refused("understand", "language.stop", "Stopped: nothing is moving and nothing will.")
    if query.needs_clarification:
        question = query.question or "Which object do you mean?"
        raise NeedsClarification("understand", "language.ambiguous", question, question=question, **_reading(query))
    if query.intent == "refer_back":
        question = "I have no earlier object to refer back to. Which object do you mean?"
        raise NeedsClarification("understand", "language.no_referent", question, question=question, **_reading(query))
    if not query.wants_motion:
        message = f"Not a wish for a motion ({query.intent})."
        raise Refused("understand", "language.no_motion_wanted", message, **_reading(query))
    named = [f"{c.name} {c.score:.2f}" for c in query.candidates[:3]]
    part = f" by its {query.part}" if query.part else ""
    message = f"{query.intent.replace('_', ' ')}: {', '.join(named) or query.object_words}{part}"
    if "unavailable" in query.read_by:
        message += "; read offline, the language model had no good answer"
    evidence: dict[str, Any] = {"candidates": named, "part": query.part, **_reading(query)}
    if query.destination is None:
        return Done(message, evidence)
    there = query.destination
    evidence["destination"] = there.model_dump()
    return Done(f"{message}, to be put {there.place}", evidence, {"places": True})


def _reading(query: FunctionalQuery) -> dict[str, Any]:
    """By which model the command was read, or why not by it, for the record."""
    if not query.read_by:
        return {}
    return {
        "read_by": query.read_by,
        **({"note": "language.llm_unavailable"} if "unavailable" in query.read_by else {}),
    }


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


def lift(bench: Workbench, state: GraspState) -> Done:
    """Mask x depth -> clouds of the part, its object and the obstacles, in the base frame. Where the person is to take
    the part, the part to hold becomes the rest of the object."""
    from affordagent.tools import handle_free

    query, part = bench.store.get("query"), bench.store.get("part_mask")
    rest = handle_free.rest_of(part) if handle_free.is_wanted(query) and not handle_free.is_decided(part) else None
    if rest is not None:
        bench.store.put("kept_free", part)
        bench.store.put("part_mask", rest)
    cloud = _project(bench)
    left = f"; the {query.part} is left to the person" if rest is not None else ""
    message = f"{len(cloud.part)} points of the part, {100 * cloud.valid_fraction:.0f} % of its pixels have depth{left}"
    shares = ("valid_fraction", "filled_fraction", "table_fraction")
    return Done(message, {"part_points": len(cloud.part)} | {name: getattr(cloud, name) for name in shares})


def _project(bench: Workbench) -> PartCloud:
    from affordagent.robot.arms import ARMS
    from affordagent.tools.depth_projection import HAND_M, check_table_height
    from affordagent.tools.depth_projection import lift as project

    frame, table, part = (bench.store.get(name) for name in ("frame", "table", "part_mask"))
    cloud = project(frame, table, part, ARMS[bench.arm_model].reach_m + HAND_M)
    check_table_height(cloud.table_z_m, bench.limits.table_z_m)
    bench.store.put("cloud", cloud)
    return cloud


def propose(bench: Workbench, state: GraspState) -> Done:
    """Ranked collision-free grasps on the part; where a chosen backend has none, the own sampler serves."""
    from affordagent.tools import handle_free

    part = bench.store.get("part_mask")
    why_not_free = ""
    try:
        grasps, instead_of = _proposed(bench)
    except StageFailure as failure:
        if not handle_free.is_free(part):
            raise
        why_not_free = failure.message
        grasps, instead_of = held_after_all(bench, why_not_free)
    bench.store.put("grasps", (grasps, bench.store.get("frame").T_base_camera))
    best = grasps[0]
    message = f"{len(grasps)} grasps, best {best.score:.2f} at {1e3 * best.width_m:.0f} mm"
    evidence: dict[str, Any] = {"count": len(grasps), "best_score": best.score, "best_width_m": best.width_m}
    terms = [{name: round(value, 3) for name, value in grasp.terms.items()} for grasp in grasps[:BEST_SHOWN]]
    evidence = {**evidence, "backend": grasps.backend, "best_terms": terms}
    if instead_of:
        message += f"; by {grasps.backend}, as {instead_of['backend']} ended with {instead_of['code']}"
        evidence["instead_of"] = instead_of
    if why_not_free:
        message += f"; the part cannot be left free: {why_not_free}"
        evidence["handle_free"] = False
    return Done(message, evidence)


def held_after_all(bench: Workbench, why: str) -> tuple[GraspSet, dict[str, Any]]:
    """Grasps on the part that was to be left to the person, since the rest of the object cannot be held."""
    from affordagent.tools import handle_free

    bench.store.put("part_mask", handle_free.part_after_all(bench.store.get("kept_free"), why))
    _project(bench)
    return _proposed(bench)


def _proposed(bench: Workbench) -> tuple[GraspSet, dict[str, Any]]:
    """The grasps of the backend, or, where it is unavailable or has none on this part, of the own sampler; then also
    why the other had none."""
    from affordagent.tools import handle_free
    from affordagent.tools.grasping.propose import propose as propose_grasps

    cloud, frame, part, query = (bench.store.get(name) for name in ("cloud", "frame", "part_mask", "query"))
    free = handle_free.is_free(part)
    handover = query.intent == "hand_over" and not free
    ask = partial(propose_grasps, cloud, rng_seed=bench.seed, handover=handover, frame=frame, arm=bench.arm_model)
    ask = partial(ask, handle_free=free)
    backend: Backend = bench.grasp_backend
    try:
        return ask(backend=backend), {}
    except StageFailure as failure:
        if isinstance(backend, Antipodal):
            raise
        why = {"backend": backend.name, "code": failure.code, "message": failure.message, **failure.evidence}
    try:
        return ask(backend=Antipodal()), why
    except StageFailure as failure:
        failure.evidence["instead_of"] = why
        raise
