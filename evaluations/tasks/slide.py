"""How a slide went, and how it failed: from the truth before, during and after the strokes.

All lengths are in the frame of the first stroke: `along` from the block's true middle to the target's, `across` to its
left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.sim.task_judge import Moment, block_corners, outside_m
from affordagent.tools.contact_goals import FRONT_M

if TYPE_CHECKING:
    from affordagent.evaluations.tasks.stages import Stroke, TaskRun

MODES = {  # mode -> what it means
    "not understood": "the sentence was read as something else",
    "not found": "the block or its target was not found in the picture",
    "unreachable": "no stroke along the line can be made: reach, joint limits, a singularity, or no room for the hand",
    "way blocked": "the block would meet something else on its way",
    "motion stopped": "a motion ended early",
    "wrong thing": "the line was planned on something else than the block",
    "wrong target": "the line led to something else than the target, such as a shadow",
    "never touched": "the fingers went past the block",
    "tipped over": "the block fell over",
    "knocked something else": "another thing was moved by more than 2 cm",
    "slid off": "the block turned away and the fingers went past it",
    "drifted sideways": "it stayed before the fingers and left the line to one side",
    "undershoot": "it stopped short of the target",
    "overshoot": "it went too far",
    "askew": "its middle is where it should be, but a corner sticks out",
}
TOUCHED_M, LOST_M, ASKEW_M, ANOTHER_M = 0.005, 0.006, 0.02, 0.05


@dataclass(frozen=True)
class SlideAccount:
    """mode: of MODES, None = it succeeded. strokes: how many were made. distance_m: from block to target at first.

    Of the first stroke: middle_error_m, target_error_m: of block and target as seen, from the truth; offset_m: of the
    true middle of the block from the fingers' line, positive to its left; face_rad: between the line and the normal of
    the block's nearest side; drift_rad: between the line and the way the block went; turned_rad: how far it turned;
    lost: it was no longer before the fingers at its end; outside_m: how far a corner of the block was off the target
    then (negative = inside), which tells what one stroke alone would have come to. Of the end of all strokes: across_m,
    along_m off the target. None where there was no stroke.
    """

    mode: str | None
    strokes: int
    distance_m: float
    middle_error_m: float | None = None
    target_error_m: float | None = None
    offset_m: float | None = None
    face_rad: float | None = None
    drift_rad: float | None = None
    turned_rad: float | None = None
    lost: bool | None = None
    outside_m: float | None = None
    across_m: float | None = None
    along_m: float | None = None


def account_of(run: TaskRun, row: Mapping[str, Any]) -> SlideAccount:
    """row: of the trial, with its success and its failure."""
    scene = run.scene
    assert scene.goal is not None
    block, target = (scene.scene.object(name).T_base_object for name in (scene.thing, scene.goal))
    distance_m = round(float(np.linalg.norm(target[:2, 3] - block[:2, 3])), 4)
    made = [s for s in run.strokes if s.trail]
    target_off_m = 0.0 if run.target_xy is None else float(np.linalg.norm(run.target_xy - target[:2, 3]))
    if not made:
        why = "wrong target" if target_off_m > ANOTHER_M else _mode_without_stroke(row)
        return SlideAccount(
            why, 0, distance_m, target_error_m=None if run.target_xy is None else round(target_off_m, 4)
        )
    measured = _measure(run, made[0], made[-1])
    mode = None if row["success"] else _mode(row, made[-1], measured)
    rounded: dict[str, Any] = {n: v if isinstance(v, bool) else round(float(v), 4) for n, v in measured.items()}
    return SlideAccount(mode, len(made), distance_m, **rounded)


def _measure(run: TaskRun, first: Stroke, last: Stroke) -> dict[str, Any]:
    """The fields of `SlideAccount` of a slide with a stroke."""
    scene = run.scene
    assert scene.goal is not None
    assert first.block is not None
    assert first.goal is not None
    goal = scene.scene.object(scene.goal)
    target = goal.T_base_object[:2, 3]
    before, after = (moment.T_base_body[scene.thing] for moment in (first.trail[0], first.trail[-1]))
    d = _unit((first.line[1] - first.line[0])[:2])
    moved, turned = after[:2, 3] - before[:2, 3], _yaw(after) - _yaw(before)
    end = last.trail[-1].T_base_body[scene.thing][:2, 3]
    along = _unit(target - before[:2, 3])
    return {
        "middle_error_m": np.linalg.norm(first.block.centre - before[:2, 3]),
        "target_error_m": np.linalg.norm(first.goal - target),
        "offset_m": _cross(d, before[:2, 3] - first.line[0][:2]),
        "face_rad": _wrapped(np.arctan2(d[1], d[0]) - _yaw(before), np.pi / 2),
        "drift_rad": np.arctan2(_cross(d, moved), d @ moved) if np.linalg.norm(moved) > TOUCHED_M else 0.0,
        "turned_rad": _wrapped(turned, 2 * np.pi),
        "lost": bool(_gap_m(run, first.trail[-1], d) > LOST_M),
        "outside_m": outside_m(block_corners(scene, after), goal.T_base_object, goal.obj.parameters["side_m"]),
        "across_m": _cross(along, end - target),
        "along_m": along @ (end - target),
    }


def _mode_without_stroke(row: Mapping[str, Any]) -> str:
    code, stage = str(row["failure_code"]), row["failure_stage"]
    if stage == "understand":
        return "not understood"
    if stage in ("look", "ground", "lift", "propose"):
        return "not found"
    if code == "scene.blocked":
        return "way blocked"
    return "unreachable" if stage == "plan" else "motion stopped"


def _mode(row: Mapping[str, Any], last: Stroke, measured: Mapping[str, Any]) -> str:
    if row["failure_stage"] != "verify":
        return _mode_without_stroke(row)
    checks = row["checks"]
    for error, mode in (("middle_error_m", "wrong thing"), ("target_error_m", "wrong target")):
        if measured[error] > ANOTHER_M:
            return mode
    if not checks["upright"]:
        return "tipped over"
    if checks["within_target"]:
        return "knocked something else"
    if abs(measured["drift_rad"]) == 0.0 and len(last.trail) > 1 and abs(measured["turned_rad"]) < 0.05:
        return "never touched"
    if row["measured"]["off_m"] < ASKEW_M:
        return "askew"
    if measured["lost"] and measured["along_m"] < 0:
        return "slid off"
    if abs(measured["across_m"]) > abs(measured["along_m"]):
        return "drifted sideways"
    return "undershoot" if measured["along_m"] < 0 else "overshoot"


def _gap_m(run: TaskRun, at: Moment, direction: Array) -> float:
    """Between the side of the fingers that pushes and the block."""
    front = at.T_base_body["tcp"][:2, 3] + FRONT_M * direction
    corners = block_corners(run.scene, at.T_base_body[run.scene.thing])
    x, y = (float(v) for v in front)
    return -float(cv2.pointPolygonTest(corners.astype(np.float32), (x, y), True))


def _unit(v: Array) -> Array:
    return np.asarray(v / max(float(np.linalg.norm(v)), 1e-9))


def _cross(a: Array, b: Array) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def _yaw(T: Array) -> float:
    return float(np.arctan2(T[1, 0], T[0, 0]))


def _wrapped(angle: float, period: float) -> float:
    """In [-period / 2, period / 2)."""
    return float((angle + period / 2) % period - period / 2)
