"""Was a manipulation task done? By the simulator's truth; tools never see it.

The conditions are those of RLBench's task files (github.com/stepjam/RLBench, rlbench/tasks), made stricter where a
condition there only asks whether something touches a sensor: see docs/tasks.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from affordagent.core.geometry import Array, rotation_angle, transform_points
from affordagent.core.types import Verdict
from affordagent.robot.model import TCP_SITE
from affordagent.robot.sim.bodies import press_joint
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import KNOCKED_M, KNOCKED_RAD
from affordagent.robot.sim.objects.task_things import CAP
from affordagent.robot.sim.task_scenes import TaskScene

REACHED_M = 0.015  # of the tcp to the middle of a ball of 2 cm radius
PRESSED_M = 0.003  # RLBench: JointCondition(joint, 0.003)
WITHIN_M = 0.005  # a corner of the block may be this far outside of the target
LID_OFF_M, LID_TILT_RAD, LID_HEIGHT_M = 0.012, np.deg2rad(8), 0.006
TIPPED_RAD = np.deg2rad(20)


@dataclass(frozen=True)
class Moment:
    """The truth at one moment. T_base_body: of all things of the scene, and of the tcp ("tcp"). pressed_m: of each
    button, how far its cap is down."""

    T_base_body: dict[str, Array]
    pressed_m: dict[str, float]


def moment(cell: SimCell) -> Moment:
    poses, pressed = {}, {}
    for thing in cell.scene.objects:
        T = np.eye(4)
        T[:3, :3], T[:3, 3] = cell.data.body(thing.name).xmat.reshape(3, 3), cell.data.body(thing.name).xpos
        poses[thing.name] = T
        if CAP in thing.obj.springs:
            pressed[thing.name] = -float(cell.data.joint(press_joint(thing.name, CAP)).qpos[0])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = cell.data.site(TCP_SITE).xmat.reshape(3, 3), cell.data.site(TCP_SITE).xpos
    return Moment({**poses, "tcp": T}, pressed)


def judge_task(task: str, scene: TaskScene, before: Moment, stroke: Moment | None, after: Moment) -> Verdict:
    """stroke: at the end of the stroke, None for tasks without one. after: once the arm is away, or holds still."""
    checks, measured = _JUDGES[task](scene, stroke or after, after)
    checks["nothing_knocked"] = _nothing_knocked(scene, before, after, measured)
    failed = [CODES[name] for name in CODES if not checks.get(name, True)]
    rounded = {name: round(float(value), 5) for name, value in measured.items()}
    return Verdict(not failed, failed[0] if failed else None, checks, rounded, by="simulator")


CODES = {  # check -> code of its failure, in the order of precedence
    "right_one": "grounding.wrong_object",
    "reached": "execution.no_contact",
    "pressed": "execution.no_contact",
    "upright": "execution.missed_place",
    "within_target": "execution.missed_place",
    "lid_on": "execution.missed_place",
    "nothing_knocked": "execution.collision",
}
_Checks = tuple[dict[str, bool], dict[str, float]]


def _reach(scene: TaskScene, stroke: Moment, after: Moment) -> _Checks:
    tcp = stroke.T_base_body["tcp"][:3, 3]
    off = {
        o.name: float(np.linalg.norm(tcp - _ball(scene, o.name))) for o in scene.scene.objects if o.category == "ball"
    }
    nearest = min(off, key=lambda name: off[name])
    is_right = nearest == scene.thing or off[nearest] > 3 * REACHED_M
    return {"right_one": is_right, "reached": off[scene.thing] <= REACHED_M}, {"off_m": off[scene.thing]}


def _ball(scene: TaskScene, name: str) -> Array:
    thing = scene.scene.object(name)
    return transform_points(thing.T_base_object, np.array([[0, 0, thing.obj.parameters["height_m"]]]))[0]


def _press(scene: TaskScene, stroke: Moment, after: Moment) -> _Checks:
    pressed = {name for name, down_m in stroke.pressed_m.items() if down_m >= PRESSED_M}
    checks = {"right_one": not pressed - {scene.thing}, "pressed": scene.thing in pressed}
    return checks, {"pressed_m": stroke.pressed_m[scene.thing]}


def _slide(scene: TaskScene, stroke: Moment, after: Moment) -> _Checks:
    assert scene.goal is not None
    block, target = scene.scene.object(scene.thing).obj, scene.scene.object(scene.goal)
    T = after.T_base_body[scene.thing]
    tilt_rad = float(np.arccos(np.clip(T[2, 2], -1, 1)))
    beyond_m = outside_m(block_corners(scene, T), target.T_base_object, target.obj.parameters["side_m"])
    middle_m = float(np.linalg.norm(T[:2, 3] - target.T_base_object[:2, 3]))
    over_m = outside_m(T[None, :2, 3], target.T_base_object, target.obj.parameters["side_m"])
    checks = {"upright": tilt_rad < TIPPED_RAD, "within_target": beyond_m <= WITHIN_M}
    return checks, {
        "off_m": middle_m,
        "outside_m": beyond_m,
        "middle_over_target": float(over_m <= 0),  # nearest to RLBench's: the block is detected at the target
        "tilt_rad": tilt_rad,
        "block_m": block.parameters["x_m"],
    }


def block_corners(scene: TaskScene, T_base_block: Array) -> Array:
    """(4, 2) of the block's footprint, base frame."""
    sides = scene.scene.object(scene.thing).obj.parameters
    half = np.array([sides["x_m"], sides["y_m"]]) / 2
    corners = np.array([[1, 1, 0], [1, -1, 0], [-1, -1, 0], [-1, 1, 0]]) * [*half, 0]
    return transform_points(T_base_block, corners)[:, :2]


def outside_m(points: Array, T_base_target: Array, side_m: float) -> float:
    """How far the furthest of points (N, 2) is outside of a square target; negative = all are inside."""
    local = (points - T_base_target[:2, 3]) @ T_base_target[:2, :2]
    return float((np.abs(local) - side_m / 2).max())


def _close(scene: TaskScene, stroke: Moment, after: Moment) -> _Checks:
    """The lid lies flat on the rim of the right jar, and nothing holds it."""
    assert scene.goal is not None
    T_lid, T_jar = after.T_base_body[scene.thing], after.T_base_body[scene.goal]
    high_m = scene.scene.object(scene.goal).obj.parameters["height_m"]
    off_m = float(np.linalg.norm(T_lid[:2, 3] - T_jar[:2, 3]))
    tilt_rad = float(np.arccos(np.clip(T_lid[2, 2], -1, 1)))
    over_m = float(T_lid[2, 3] - T_jar[2, 3] - high_m)
    lid_on = off_m <= LID_OFF_M and tilt_rad <= LID_TILT_RAD and abs(over_m) <= LID_HEIGHT_M
    return {"lid_on": lid_on}, {"off_m": off_m, "tilt_rad": tilt_rad, "over_rim_m": over_m}


def _nothing_knocked(scene: TaskScene, before: Moment, after: Moment, measured: dict[str, float]) -> bool:
    others = [o.name for o in scene.scene.objects if o.name != scene.thing]
    poses = [(before.T_base_body[name], after.T_base_body[name]) for name in others]
    measured["others_moved_m"] = max((float(np.linalg.norm(b[:3, 3] - a[:3, 3])) for a, b in poses), default=0.0)
    turned_rad = max((rotation_angle(a[:3, :3].T @ b[:3, :3]) for a, b in poses), default=0.0)
    return measured["others_moved_m"] <= KNOCKED_M and turned_rad <= KNOCKED_RAD


_JUDGES: dict[str, Callable[[TaskScene, Moment, Moment], _Checks]] = {
    "reach": _reach,
    "press": _press,
    "slide": _slide,
    "close": _close,
}
