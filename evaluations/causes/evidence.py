"""Who is to blame for a failure when nobody knows the truth: rules over a run folder.

Each rule looks at one thing that the folder holds, and names a cause with a suspicion in [0, 1] and what it saw. What a
person painted and said afterwards (`annotation`) is looked at where it is there; without it the rules on language and
mask know less. The suspicions of a cause are combined as independent ones; the most suspected cause is blamed, the
earlier of two equals. `CONFIDENCE` says how often that was right in simulated trials that were treated as if real.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.causes import CAUSES, Attribution
from affordagent.core.errors import StageFailure
from affordagent.core.journal import MOTIONS_FILE, Motion, read_motions
from affordagent.core.overlap import overlap
from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, GraspPlan, Mask, PartMask, Verdict
from affordagent.evaluations.causes.annotation import Annotation, read_annotation, read_true_mask
from affordagent.evaluations.causes.hand_seen import hand_off_m
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD
from affordagent.tools.outcome import expected_points, readings_of
from affordagent.tools.second_look import in_one_frame
from affordagent.tools.table import noise_sigma

SURE_OF_A_PERSON, SURE_OF_SENSORS = 0.98, 0.9
SUSPECTED = 0.5  # from here on a stage's output counts as wrong
HAND_OFF_M, TABLE_OFF_M, TILTED_RAD = 0.006, 0.006, np.deg2rad(1.0)
LOST, NOISY_M = 0.3, 0.003  # share of the part's readings; noise of the depth
SAME_OBJECT, SAME_PART = 0.3, 0.5  # IoU with what a person painted: less is another one
ASIDE_PX, ASIDE_GAIN = 5.0, 0.1  # a thing's outline in depth beside the painted one; what the IoU gains by moving it
OFF_PART_M, ELSEWHERE_M = 0.012, 0.03  # tcp from the part's points; a grasp from that on the painted mask
GOAL_OFF_M, LOW_LIFT_M = 0.005, 0.15
WIDER_M, NARROWER_M = 0.015, 0.010  # closed, against planned

BY_CODE = {  # how a failure's code, or its group, is understood: cause, suspicion
    "language": ("language", 0.95),
    "camera": ("depth", 0.9),
    "depth": ("depth", 0.85),
    "calibration": ("calibration", 0.95),
    "grounding": ("grounding", 0.7),
    "tool": ("grounding", 0.5),
    "grasp": ("grasp", 0.6),
    "scene": ("planning", 0.4),
    "planning": ("planning", 0.7),
    "safety": ("planning", 0.8),
    "execution": ("execution", 0.9),
    "execution.start_mismatch": ("planning", 0.9),
    "execution.tracking": ("planning", 0.5),
    "execution.no_contact": ("calibration", 0.25),
    "execution.drop": ("execution", 0.3),
    "execution.slip": ("execution", 0.3),
    "execution.collision": ("planning", 0.3),
    "execution.missed_place": ("planning", 0.4),
}
ALSO = {"execution.no_contact": 0.2, "execution.drop": 0.28, "execution.slip": 0.28, "execution.collision": 0.2}
"""Of the grasp, which may be to blame for these as well."""

KINDS = {  # what a person said came instead -> code
    "wrong_object": "grounding.wrong_object",
    "wrong_part": "grounding.wrong_part",
    "nothing_held": "execution.no_contact",
    "dropped": "execution.drop",
    "slipped": "execution.slip",
    "collision": "execution.collision",
    "stopped": "execution.stopped",
    "wrong_place": "execution.missed_place",
}

CONFIDENCE = ((0.0, 0.35), (0.5, 0.55), (0.7, 0.7), (0.85, 0.85))
"""Score from which on, share right. Score: the blamed cause's suspicion, less half of the next one's."""


@dataclass(frozen=True)
class Clue:
    """suspicion: that this cause's output was wrong; 0 with `clears` = it was surely right."""

    cause: str
    suspicion: float
    says: str
    code: str | None = None
    clears: bool = False


@dataclass(frozen=True)
class Case:
    """A run folder, read. code, stage: what it ended with. annotation, painted (object, part): what a person gave.
    failed: the job was not done, by that person or else by the sensors. measures: grows as the rules look."""

    store: RunStore
    code: str | None
    stage: str | None
    annotation: Annotation | None
    painted: tuple[Mask, Mask] | None
    motions: list[Motion]
    sensed: Verdict | None
    arm: ArmKinematics
    failed: bool
    measures: dict[str, Any] = field(default_factory=dict)

    def get(self, name: str) -> Any:
        return self.store.get(name) if self.store.has(name) else None


def attribute_by_evidence(run: Path) -> Attribution:
    """The attribution of a recorded run, `by` = "evidence". Nothing moves and no model is asked.

    A success, by a person's word or else by the sensors', blames nobody. luck, ladder and replays stay empty; shares
    are the suspicions of failing causes, made to sum to 1. evidence: the clues, and what was measured.

    Raises:
        AffordAgentError: an annotation or an artefact is broken.
    """
    return attribute_case(read_case(run, read_annotation(run), read_true_mask(run)))


def attribute_case(case: Case) -> Attribution:
    """As `attribute_by_evidence`, of a case that has been read."""
    if not case.failed:
        sure = SURE_OF_A_PERSON if case.annotation is not None and case.annotation.outcome else SURE_OF_SENSORS
        return Attribution("evidence", None, (), {}, None, sure)
    clues = [clue for rule in RULES for clue in rule(case)]
    suspicion = {cause: _combined([c for c in clues if c.cause == cause]) for cause in CAUSES}
    blamed = max(CAUSES, key=lambda cause: suspicion[cause])
    rest = max((s for cause, s in suspicion.items() if cause != blamed), default=0.0)
    first = next((cause for cause in CAUSES if suspicion[cause] >= SUSPECTED), None)
    total = sum(suspicion.values())
    codes = [c.code for c in sorted(clues, key=lambda c: -c.suspicion) if c.cause == blamed and c.code]
    said = [{"cause": c.cause, "suspicion": c.suspicion, "says": c.says} for c in clues]
    return Attribution(
        by="evidence",
        first_failing=first,
        causal=(blamed,) if suspicion[blamed] > 0 else (),
        shares={cause: round(s / total, 4) for cause, s in suspicion.items() if s > 0},
        code=codes[0] if codes else case.code,
        confidence=confidence_of(suspicion[blamed] - 0.5 * rest),
        evidence={"clues": said, "measured": case.measures, "annotated": case.annotation is not None},
    )


def confidence_of(score: float) -> float:
    """How often a blame of this score was right."""
    return [share for least, share in CONFIDENCE if score >= least or least == 0.0][-1]


def _combined(clues: list[Clue]) -> float:
    if any(clue.clears for clue in clues):
        return 0.0
    return 1.0 - float(np.prod([1.0 - clue.suspicion for clue in clues]))


def read_case(run: Path, annotation: Annotation | None, painted: tuple[Mask, Mask] | None) -> Case:
    """What the rules look at. In a simulated run the sensors' verdict takes the place of the simulator's."""
    store, file = RunStore(run), run / "run.json"
    ended = json.loads(file.read_text()) if file.is_file() else {}
    failure = ended.get("failure") or {}
    sensed = store.get("sensed_verdict") if store.has("sensed_verdict") else None
    code, stage = failure.get("code"), failure.get("stage")
    judged = ended.get("outcome") == "success"
    if sensed is not None and stage in (None, "verify"):
        code, judged = sensed.code, sensed.success
    failed = not judged
    if annotation is not None:
        code = KINDS.get(annotation.kind or "", code)
        failed = annotation.outcome == "failure" if annotation.outcome is not None else failed
    arm = ArmKinematics(ended.get("settings", {}).get("ur5", {}).get("model", "UR5e"))
    return Case(store, code, stage, annotation, painted, read_motions(run / MOTIONS_FILE), sensed, arm, failed)


# ---- the rules ------------------------------------------------------------------------------------------------------


def by_code(case: Case) -> Iterator[Clue]:
    """Where it stopped, and how."""
    if case.code is None or case.code == "verify.unknown":
        return
    group = case.code.split(".")[0]
    cause, suspicion = BY_CODE.get(case.code, BY_CODE.get(group, ("execution", 0.2)))
    yield Clue(cause, suspicion, f"it ended with {case.code}", case.code)
    if case.code in ALSO:
        yield Clue("grasp", ALSO[case.code], f"a poor grasp may end with {case.code}", "grasp.unstable")


def language(case: Case) -> Iterator[Clue]:
    """What was understood, against what a person says was meant."""
    query: FunctionalQuery | None = case.get("query")
    said = case.annotation
    if said is None or query is None:
        return
    understood = " ".join(filter(None, (query.category, query.object_words))).lower()
    if said.thing and not _alike(said.thing, understood):
        yield Clue("language", 0.9, f"'{understood}' was understood, '{said.thing}' meant", "language.misread_function")
    elif said.part and query.part and not _alike(said.part, query.part):
        yield Clue("language", 0.75, f"the {query.part} was understood, the {said.part} meant", "language.misread_part")
    elif said.thing:
        yield Clue("language", 0.0, "the right thing was understood", clears=True)


def _alike(a: str, b: str) -> bool:
    """Is one's last word, the noun, in the other?"""
    first, second = a.lower().split(), b.lower().split()
    return bool(first and second) and (first[-1] in second or second[-1] in first)


def depth(case: Case) -> Iterator[Clue]:
    """Holes in the part, noise, and outlines that lie beside those of the colours."""
    frame, table, part = case.get("frame"), case.get("table"), case.get("part_mask")
    if frame is None or table is None:
        return
    noise_m = float(np.median(noise_sigma(table.height_m, frame.depth_m)))
    case.measures["noise_m"] = round(noise_m, 5)
    if noise_m >= NOISY_M:
        yield Clue("depth", 0.75, f"the depth is noisy: {1e3 * noise_m:.1f} mm on the table", "depth.noisy")
    mask = (
        case.painted[1] if case.painted is not None and case.painted[1].any() else None if part is None else part.mask
    )
    if mask is not None and mask.any():
        lost = 1.0 - float((frame.depth_m[mask] > 0).mean())
        case.measures["lost"] = round(lost, 3)
        if lost >= LOST:
            yield Clue("depth", 0.75, f"{100 * lost:.0f} % of the part has no depth", "depth.hole")
    if case.painted is not None and case.painted[0].any() and table.proposals:
        yield from _beside(case, case.painted[0], [p.mask for p in table.proposals])


def _beside(case: Case, painted: Mask, outlines: list[Mask]) -> Iterator[Clue]:
    best = max(outlines, key=lambda mask: overlap(mask, painted).iou)
    before = overlap(best, painted).iou
    if before < 0.2:
        return
    off = np.array([np.mean(np.nonzero(painted)[k]) - np.mean(np.nonzero(best)[k]) for k in (0, 1)])
    moved = np.roll(best, tuple(np.round(off).astype(int)), (0, 1))
    gain = overlap(moved, painted).iou - before
    case.measures["aside_px"] = round(float(np.linalg.norm(off)), 1)
    if np.linalg.norm(off) >= ASIDE_PX and gain >= ASIDE_GAIN:
        yield Clue("depth", 0.8, f"its outline in depth lies {np.linalg.norm(off):.0f} px aside", "depth.misaligned")


def calibration(case: Case) -> Iterator[Clue]:
    """The table's height and tilt, and where the second picture shows the hand."""
    frame, table, cloud = case.get("frame"), case.get("table"), case.get("cloud")
    if frame is None or table is None or frame.T_base_camera is None:
        return
    up = frame.T_base_camera[:3, :3] @ table.plane_camera[:3]
    tilt_rad = float(np.arccos(np.clip(up[2] / np.linalg.norm(up), -1, 1)))
    case.measures["table_tilt_rad"] = round(tilt_rad, 4)
    if tilt_rad >= TILTED_RAD:
        yield Clue(
            "calibration", 0.8, f"the table seems tilted by {np.degrees(tilt_rad):.1f} deg", "calibration.hand_eye"
        )
    if cloud is None:
        return
    case.measures["table_z_m"] = round(cloud.table_z_m, 4)
    if abs(cloud.table_z_m) >= TABLE_OFF_M:
        words = f"the table is seen {1e3 * cloud.table_z_m:+.0f} mm off"
        yield Clue("calibration", 0.55, words, "calibration.drift")
        yield Clue("depth", 0.5, words, "depth.transparent")
    off_m = _hand_off(case, cloud.table_z_m)
    if off_m is not None:
        case.measures["hand_off_m"] = round(off_m, 4)
        if off_m >= HAND_OFF_M:
            yield Clue("calibration", 0.8, f"the hand is seen {1e3 * off_m:.0f} mm aside", "calibration.hand_eye")


def _hand_off(case: Case, too_high_m: float) -> float | None:
    frame, after, plan = case.get("frame"), case.get("after"), case.get("plan")
    if after is None or plan is None or not case.motions:
        return None
    readings = readings_of(case.motions)
    held = expected_points(case.get("cloud").object, plan, readings, case.arm)
    seen = in_one_frame(frame, after)
    off = hand_off_m(seen, readings.now, np.empty((0, 3)) if held is None else held, too_high_m, case.arm)
    return None if off is None else float(np.linalg.norm(off))


def grounding(case: Case) -> Iterator[Clue]:
    """The mask against the painted one, or, without that, against a second opinion and its own confidence."""
    part: PartMask | None = case.get("part_mask")
    if part is None:
        return
    if case.painted is not None and case.painted[0].any():
        yield from _against_painted(case, part, *case.painted)
        return
    if case.sensed is not None and case.sensed.checks.get("wanted_one") is False:
        yield Clue("grounding", 0.8, "a second opinion is fairly sure of another thing", "grounding.wrong_object")
    if part.confidence < 0.5:
        yield Clue("grounding", 0.4, f"its own confidence was {part.confidence:.2f}")


def _against_painted(case: Case, part: PartMask, true_object: Mask, true_part: Mask) -> Iterator[Clue]:
    whole, own = overlap(part.object_mask, true_object).iou, overlap(part.mask, true_part).iou
    case.measures.update(object_iou=round(whole, 3), part_iou=round(own, 3))
    if whole < SAME_OBJECT and not (part.mask & true_object).any():
        yield Clue("grounding", 0.95, "another thing was marked", "grounding.wrong_object")
    elif true_part.any() and own < SAME_PART:
        precision = float((part.mask & true_part).sum() / max(int(part.mask.sum()), 1))
        recall = float((part.mask & true_part).sum() / int(true_part.sum()))
        wrong = precision < 0.35 and recall < 0.35
        code = "wrong_part" if wrong else "over_segmented" if precision >= recall else "under_segmented"
        yield Clue("grounding", 0.9 if own < 0.3 else 0.65, f"the part's IoU is {own:.2f}", f"grounding.{code}")
        yield from _another_grasp(case, part, true_object, true_part)
    else:
        yield Clue("grounding", 0.0, f"the mask is right, IoU {own:.2f}", clears=True)


def _another_grasp(case: Case, part: PartMask, true_object: Mask, true_part: Mask) -> Iterator[Clue]:
    """Lift and propose again with the painted mask: would the grasp have been another one?"""
    from affordagent.tools.depth_projection import lift
    from affordagent.tools.grasping.propose import propose

    plan: GraspPlan | None = case.get("plan")
    if plan is None:
        return
    try:
        cloud = lift(case.get("frame"), case.get("table"), PartMask(true_part, true_object, 1.0, "painted"))
        best = propose(cloud, rng_seed=0)
    except StageFailure as failure:
        case.measures["replayed"] = failure.code
        return
    apart_m = float(np.linalg.norm(best.T_base_tcp[:5, :3, 3] - plan.grasp.T_base_tcp[:3, 3], axis=1).min())
    case.measures["replayed_apart_m"] = round(apart_m, 4)
    if apart_m >= ELSEWHERE_M:
        yield Clue("grounding", 0.5, f"with the painted mask it would grasp {100 * apart_m:.0f} cm from there")


def grasp(case: Case) -> Iterator[Clue]:
    """The grasp against the mask's points, and the width at which the fingers closed against the planned one."""
    plan, cloud = case.get("plan"), case.get("cloud")
    if plan is None or cloud is None:
        return
    away_m = float(np.linalg.norm(cloud.part - plan.grasp.T_base_tcp[:3, 3], axis=1).min())
    case.measures["tcp_to_part_m"] = round(away_m, 4)
    if away_m >= OFF_PART_M + 0.5 * plan.grasp.width_m:
        yield Clue("grasp", 0.8, f"the grasp is {1e3 * away_m:.0f} mm from the mask's points", "grasp.off_mask")
    closed_m = _width_after(case.motions, "close")
    if closed_m is not None and NOTHING_HELD_M <= closed_m <= plan.grasp.width_m - NARROWER_M:
        words = f"closed at {1e3 * closed_m:.0f} mm, planned {1e3 * plan.grasp.width_m:.0f}"
        yield Clue("grasp", 0.4, words, "grasp.unstable")


def planning(case: Case) -> Iterator[Clue]:
    """The plan against its own grasp, and how high it lifts."""
    plan: GraspPlan | None = case.get("plan")
    if plan is None:
        return
    end, top = (case.arm.forward(path.positions[-1]) for path in (plan.approach, plan.lift))
    off_m = float(np.linalg.norm(end[:3, 3] - plan.grasp.T_base_tcp[:3, 3]))
    lift_m = float(top[2, 3] - end[2, 3])
    case.measures.update(goal_off_m=round(off_m, 4), planned_lift_m=round(lift_m, 4))
    if off_m >= GOAL_OFF_M:
        yield Clue("planning", 0.95, f"the plan ends {1e3 * off_m:.0f} mm from its grasp", "planning.wrong_goal")
    if lift_m < LOW_LIFT_M:
        yield Clue("planning", 0.9, f"the plan lifts by {100 * lift_m:.0f} cm only", "planning.wrong_goal")


def execution(case: Case) -> Iterator[Clue]:
    """Commanded against reached, and what the fingers did."""
    for motion in case.motions:
        if motion.result is None:
            yield Clue("execution", 0.9, f"{motion.step} was cut off", "execution.interrupted")
        elif "positions" in motion.goal and motion.result["reached"]:
            off = np.abs(np.array(motion.goal["positions"]) - motion.result["state"]["positions"]).max()
            if off > GOAL_TOLERANCE_RAD:
                yield Clue("execution", 0.85, f"{motion.step} ended {off:.3f} rad from its goal", "execution.tracking")
    plan: GraspPlan | None = case.get("plan")
    opened_m, closed_m, held_m = (_width_after(case.motions, step) for step in ("open", "close", "hold"))
    if plan is None or closed_m is None:
        return
    case.measures["closed_m"] = round(closed_m, 4)
    if opened_m is not None and opened_m < plan.opening_m - WIDER_M:
        yield Clue("execution", 0.8, "the fingers did not open as far as told", "execution.gripper")
    if closed_m >= plan.grasp.width_m + WIDER_M:
        words = f"closed at {1e3 * closed_m:.0f} mm only, planned {1e3 * plan.grasp.width_m:.0f}"
        yield Clue("execution", 0.5, words, "execution.gripper")
    if closed_m >= NOTHING_HELD_M and abs(closed_m - plan.grasp.width_m) < NARROWER_M:
        if held_m is not None and held_m < NOTHING_HELD_M or case.code == "execution.drop":
            yield Clue("execution", 0.35, "it was held as planned, and lost on the way", "execution.drop")


def _width_after(motions: list[Motion], step: str) -> float | None:
    found = next((m for m in motions if m.step == step and m.result is not None), None)
    width_m = None if found is None or found.result is None else found.result["state"]["gripper_width_m"]
    return None if width_m is None or not np.isfinite(width_m) else float(width_m)


RULES: tuple[Callable[[Case], Iterator[Clue]], ...] = (
    by_code,
    language,
    depth,
    calibration,
    grounding,
    grasp,
    planning,
    execution,
)
