"""Was the job done? What the sensors of a cell say after a motion: fingers, joints, and a second look.

The same for a simulated and a real cell; nothing here knows the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from affordagent.core.geometry import Array, invert, transform_points
from affordagent.core.journal import Motion
from affordagent.core.overlap import overlap
from affordagent.core.types import Delivery, GraspPlan, Mask, PartCloud, PartMask, RgbdFrame, TableScene, Verdict
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.robot.interface import ArmState
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.link_spheres import link_spheres
from affordagent.robot.model import MAX_OPENING_M
from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD
from affordagent.tools.calibration import alone
from affordagent.tools.execution import state_from_json
from affordagent.tools.motion.collision import sphere_centres
from affordagent.tools.second_look import SecondLook, in_one_frame
from affordagent.tools.second_opinion import SAME_OBJECT
from affordagent.tools.table import noise_sigma

LIFT_SHORT_M = 0.03  # how much less than planned still counts as lifted
OPENED_WITHIN_M = 0.005
SURE_ENOUGH = (
    0.8  # probability of the right thing and part, below which a motion that went well may have been for another
)
FAIRLY_SURE, EXCLUDED = 0.5, 0.1  # confidences of another tool: of its own answer, of the thing that was taken
OBJECT_POINTS, THING_POINTS = 1500, 400  # that are looked for
LEAST_TOLD = 40  # points of which a picture says something: fewer say nothing
GONE, IN_HAND = 0.35, 0.5
SLIP_TOLD = 300
SLIPPED = ((0.3, np.deg2rad(9.5)), (0.6, np.deg2rad(15)))  # fewer points where they should be, and turned so far
NEAR_TCP_M = 0.05
UNTOUCHED, FOUND_AGAIN, LEFT_THERE = 0.9, 0.5, 0.4  # shares of a thing's points
THING_MOVED_M, THING_TURNED_RAD = 0.018, np.deg2rad(14)
ABOVE_TABLE_M = 0.004
OWN_SHARE = 0.5  # of a proposal under the object's mask: the rest of it is the same object

_HEARD = ("best_confidence", "taken_confidence")
CODES = {  # check -> code of its failure, in the order of precedence
    "closed_on_something": "execution.no_contact",
    "still_held": "execution.drop",
    "lifted": "execution.tracking",
    "let_go": "execution.gripper",
    "drew_back": "execution.tracking",
    "left_its_place": "execution.drop",
    "seen_in_hand": "execution.drop",
    "seen_in_place": "execution.missed_place",
    "held_fast": "execution.slip",
    "others_stayed": "execution.collision",
    "surely_found": "verify.unknown",
    "wanted_one": "verify.unknown",
}


@dataclass(frozen=True)
class Readings:
    """What the arm said. now: after the motion. closed: when the fingers had closed, None where that is not known."""

    now: ArmState
    closed: ArmState | None = None


def readings_of(motions: Sequence[Motion], now: ArmState | None = None) -> Readings:
    """From a run's journal (`core.journal.read_motions`, not empty) and the present state; without that the state that
    the last motion left."""
    ends = {motion.step: state_from_json(motion.result["state"]) for motion in motions if motion.result is not None}
    return Readings(now or list(ends.values())[-1], ends.get("close"))


@dataclass(frozen=True)
class Looks:
    """The pictures before and after a motion, and what the first was taken for: its table, the object's mask (H, W),
    the cloud of part and object."""

    before: RgbdFrame
    after: RgbdFrame
    table: TableScene
    object_mask: Mask
    cloud: PartCloud


def verify_outcome(plan: GraspPlan, readings: Readings, looks: Looks | None, kinematics: ArmKinematics) -> Verdict:
    """The sensors' verdict, `by` = "sensors".

    looks: None where no second picture came: then hand and joints decide alone. A check that the cell has no sensor
    for, or of which the picture shows too little, is left out. kinematics: of the arm; its posture is changed.
    """
    checks, measured = _arm_checks(plan, readings, kinematics)
    if looks is not None:
        seen_checks, seen_measures = _seen_checks(looks, plan, readings, kinematics)
        checks, measured = checks | seen_checks, measured | seen_measures
    return _verdict(checks, measured)


def unless_unsure(verdict: Verdict, part: PartMask) -> Verdict:
    """The verdict, and unknown where the mask was not surely the right one; by calibrated confidences only."""
    if alone(part) is None:
        return verdict
    sure = part.confidence >= SURE_ENOUGH
    return _verdict(verdict.checks | {"surely_found": sure}, verdict.measured | {"confidence": part.confidence})


def doubted(verdict: Verdict, object_mask: Mask, answers: Sequence[PartMask]) -> Verdict:
    """The verdict with what another tool says that was asked what is wanted: `answers`, best first. Where it is fairly
    sure of another thing and all but excludes the one that was taken, whether that is the wanted one is not known."""
    fits = [a.confidence for a in answers if overlap(a.object_mask, object_mask).iou >= SAME_OBJECT]
    heard = {"best_confidence": answers[0].confidence, "taken_confidence": max(fits, default=0.0)}
    return doubted_as_before(verdict, Verdict(True, None, {}, heard, verdict.by))


def doubted_as_before(verdict: Verdict, recorded: Verdict) -> Verdict:
    """The verdict with the second opinion that a recorded one has heard, if it has."""
    heard = {name: recorded.measured[name] for name in _HEARD if name in recorded.measured}
    if not heard:
        return verdict
    is_another = heard["best_confidence"] >= FAIRLY_SURE and heard["taken_confidence"] <= EXCLUDED
    return _verdict(verdict.checks | {"wanted_one": not is_another}, verdict.measured | heard)


def _verdict(checks: dict[str, bool], measured: dict[str, float]) -> Verdict:
    failed = [name for name in CODES if not checks.get(name, True)]
    rounded = {name: round(float(value), 5) for name, value in measured.items() if math.isfinite(value)}
    return Verdict(not failed, CODES[failed[0]] if failed else None, checks, rounded, "sensors")


def _arm_checks(
    plan: GraspPlan, readings: Readings, kinematics: ArmKinematics
) -> tuple[dict[str, bool], dict[str, float]]:
    """Fingers that did not close fully, the gripper's own detection, the height of the hand; after a delivery: a hand
    that is open and has drawn back."""
    now = readings.now
    if plan.delivery is not None:
        return _delivery_checks(plan.delivery, now)
    lift_m, planned_m = (
        float(kinematics.forward(q)[2, 3] - plan.grasp.T_base_tcp[2, 3])
        for q in (now.positions, plan.lift.positions[-1])
    )
    checks = {"lifted": lift_m >= planned_m - LIFT_SHORT_M}
    measured = {"lift_m": lift_m, "planned_width_m": plan.grasp.width_m}
    if not math.isnan(now.gripper_width_m):
        checks["closed_on_something"] = now.gripper_width_m >= NOTHING_HELD_M
        measured["width_m"] = now.gripper_width_m
        if readings.closed is not None:
            measured["slipped_shut_m"] = readings.closed.gripper_width_m - now.gripper_width_m
    if now.holding is not None:
        checks["still_held"] = now.holding
    return checks, measured


def _delivery_checks(there: Delivery, now: ArmState) -> tuple[dict[str, bool], dict[str, float]]:
    off_rad = float(np.abs(now.positions - there.retreat.positions[-1]).max())
    checks, measured = {"drew_back": off_rad <= GOAL_TOLERANCE_RAD}, {"off_rad": off_rad}
    if not math.isnan(now.gripper_width_m):
        checks["let_go"] = now.gripper_width_m >= there.opening_m - OPENED_WITHIN_M
        measured["width_m"] = now.gripper_width_m
    if now.holding:
        checks["let_go"] = False
    return checks, measured


def _seen_checks(
    looks: Looks, plan: GraspPlan, readings: Readings, kinematics: ArmKinematics
) -> tuple[dict[str, bool], dict[str, float]]:
    cloud = looks.cloud
    there = expected_points(cloud.object, plan, readings, kinematics)
    look = _second_look(looks, readings.now, kinematics, there)
    points = some(cloud.object, OBJECT_POINTS)
    checks: dict[str, bool] = {}
    measured: dict[str, float] = {}

    left = look.look_for(_above(points, cloud.table_z_m), beside_held=True)
    measured |= {"left_told": left.told, "left_share": 1 - left.seen_share}
    if left.told >= LEAST_TOLD:
        checks["left_its_place"] = measured["left_share"] >= GONE
    if there is not None:
        name = "seen_in_hand" if plan.delivery is None else "seen_in_place"
        arrived, shift = look.place_of(some(there, OBJECT_POINTS))
        measured |= {"there_told": arrived.told, "there_share": arrived.seen_share}
        if shift is not None:
            measured |= {"shift_m": shift.shift_m, "turn_rad": shift.turn_rad, "shifted_share": shift.seen_share}
        if arrived.told >= LEAST_TOLD:
            checks[name] = max(arrived.seen_share, 0.0 if shift is None else shift.seen_share) >= IN_HAND
        if plan.delivery is None and arrived.told >= SLIP_TOLD and shift is not None:
            checks["held_fast"] = not any(
                arrived.seen_share < share and shift.turn_rad >= turn_rad for share, turn_rad in SLIPPED
            )
    if plan.delivery is None:
        measured["near_tcp"] = look.count_near(kinematics.forward(readings.now.positions)[:3, 3], NEAR_TCP_M)
    others, other_measures = _others_checks(look, _others(looks))
    return checks | others, measured | other_measures


def _others_checks(look: SecondLook, things: list[Array]) -> tuple[dict[str, bool], dict[str, float]]:
    """Did all other things stay? As strict as the simulator's judge: 2 cm, 15 degrees."""
    worst, moved_m, turned_rad, stayed = 1.0, 0.0, 0.0, True
    for thing in things:
        found = look.look_for(thing, beside_held=True)
        if found.told < LEAST_TOLD or found.seen_share >= UNTOUCHED:
            continue
        worst = min(worst, found.seen_share)
        _, shift = look.place_of(thing)
        if shift is None or shift.seen_share < FOUND_AGAIN:
            stayed &= found.seen_share >= LEFT_THERE
            continue
        moved_m, turned_rad = max(moved_m, shift.shift_m), max(turned_rad, shift.turn_rad)
    stayed &= moved_m <= THING_MOVED_M and turned_rad <= THING_TURNED_RAD
    return {"others_stayed": stayed}, {
        "others_share": worst,
        "others_moved_m": moved_m,
        "others_turned_rad": turned_rad,
    }


def expected_points(points: Array, plan: GraspPlan, readings: Readings, kinematics: ArmKinematics) -> Array | None:
    """(N, 3) where the object's points should be now, base frame; None with a person who took it."""
    if plan.delivery is None:
        closed_q = plan.approach.positions[-1] if readings.closed is None else readings.closed.positions
        T_then, T_now = kinematics.forward(closed_q), kinematics.forward(readings.now.positions)
    elif plan.delivery.kind == "place":
        T_then, T_now = plan.grasp.T_base_tcp, plan.delivery.T_base_tcp
    else:
        return None
    return transform_points(T_now @ invert(T_then), points)


def _second_look(looks: Looks, now: ArmState, kinematics: ArmKinematics, there: Array | None) -> SecondLook:
    opening_m = MAX_OPENING_M if math.isnan(now.gripper_width_m) else now.gripper_width_m
    spheres = sphere_centres(kinematics, now.positions, opening_m), link_spheres(kinematics.arm).radius_m
    noise_m = float(np.median(noise_sigma(looks.table.height_m, looks.before.depth_m)))
    after = in_one_frame(looks.before, looks.after)
    return SecondLook(after, noise_m, spheres, np.empty((0, 3)) if there is None else there)


def _others(looks: Looks) -> list[Array]:
    """Points of each other thing on the table, base frame."""
    before, table, object_mask = looks.before, looks.table, looks.object_mask
    assert before.T_base_camera is not None  # the stage `look` has seen to it
    things = []
    for proposal in table.proposals:
        if (proposal.mask & object_mask).sum() > OWN_SHARE * proposal.mask.sum():
            continue
        with np.errstate(invalid="ignore"):
            mask = proposal.mask & ~object_mask & (table.height_m > ABOVE_TABLE_M)
        seen = before.camera.back_project_mask(before.depth_m, mask)
        things.append(transform_points(before.T_base_camera, some(seen, THING_POINTS)))
    return things


def _above(points: Array, table_z_m: float) -> Array:
    return points[points[:, 2] > table_z_m + ABOVE_TABLE_M]


def some(points: Array, count: int) -> Array:
    """At most about `count` of the rows, evenly."""
    return points[:: max(1, len(points) // count)]
