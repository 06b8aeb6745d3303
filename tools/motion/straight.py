"""Straight lines of the hand, as joints, and why one cannot be driven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.chain import smallest_singular_values
from affordagent.robot.kinematics import ArmKinematics, within_limits
from affordagent.robot.limits import MotionLimits
from affordagent.tools.motion.collision import Hit

LINE_STEP_M = 0.005
SINGULARITY_MARGIN = 1.1  # further from it than `robot.safety` asks for, which looks between the steps too
MAX_LINE_JOINT_STEP_RAD = 0.15  # between two steps of a straight line: more is a jump to another branch


@dataclass(frozen=True)
class No:
    """Why one way to take a grasp, or to deliver it, fails. depth: how far it got; the furthest is what a person should
    hear."""

    depth: float
    code: str
    message: str
    mend: str


def blocked(depth: float, where: str, hit: Hit) -> No:
    """A posture that is not free, as a reason."""
    code, what, mend = {
        "self": ("planning.no_path", "the arm would touch itself", "turn the object"),
        "table": ("grasp.collides_surface", "the hand or arm would touch the table", "raise or turn the object"),
        "workspace": (
            "planning.no_path",
            "the arm would leave its workspace ([limits] workspace_min_m, workspace_max_m)",
            "move the object towards the middle",
        ),
        "keep_out": (
            "planning.no_path",
            "the arm, or what it holds, would enter a keep-out zone ([limits] keep_out_m)",
            "move the object away from the zone",
        ),
        "obstacle": ("grasp.collides_scene", "something else is in the way", "clear the space round the object"),
        "target": ("grasp.collides_scene", "the hand would touch the object itself", "turn the object"),
        "held_obstacle": (
            "grasp.collides_scene",
            "what is held would touch something else",
            "clear the space round the object",
        ),
        "held_table": (
            "grasp.collides_surface",
            "what is held would touch the table",
            "make room, or name another place",
        ),
        "held_arm": ("planning.no_path", "what is held would touch the arm", "turn the object"),
    }[hit]
    if hit in ("self", "workspace", "keep_out", "held_arm"):
        depth -= 0.5  # belongs to one way of bending the arm, says less than what is in the way of the hand
    return No(depth, code, f"{where}: {what}", mend)


def straight_line(
    arm: ArmKinematics,
    limits: MotionLimits,
    T_base_tcp: Array,
    q: Array,
    shift_m: Array,
    hit: Callable[[Array], Hit | None],
) -> tuple[Array, No | None]:
    """(N, 6) joints of the tcp's straight line from a pose by `shift_m` (3,), without change of branch, as far as it
    can be driven; and why it ends early, None where it does not. `hit` says what a posture touches; `q` itself is
    taken as free."""
    length_m = float(np.linalg.norm(shift_m))
    count = int(np.ceil(length_m / LINE_STEP_M))
    joints, T, reason = [q], T_base_tcp.copy(), None
    for k in range(1, count + 1):
        T[:3, 3] = T_base_tcp[:3, 3] + shift_m * k / count
        guess = joints[-1] if k == 1 else 2 * joints[-1] - joints[-2]
        at = arm.refine(T, guess)
        if at is None or np.abs(at - joints[-1]).max() > MAX_LINE_JOINT_STEP_RAD or not within_limits(at):
            gone = f"the straight line of {length_m:.2f} m leaves the arm's reach after {length_m * k / count:.2f} m"
            reason = No(2, "planning.ik", gone, "move the object nearer to the robot")
            break
        touched = hit(at)
        if touched is not None:
            reason = blocked(2, f"{100 * length_m * k / count:.0f} cm from its end", touched)
            break
        joints.append(at)
    return _away_from_singularities(arm, limits, np.stack(joints), reason)


def _away_from_singularities(
    arm: ArmKinematics, limits: MotionLimits, line: Array, reason: No | None
) -> tuple[Array, No | None]:
    values = smallest_singular_values(arm.chain.jacobians(arm.chain.links(line)))
    least = SINGULARITY_MARGIN * limits.min_manipulability
    low = np.flatnonzero(values < least)
    if not len(low):
        return line, reason
    message = f"manipulability falls to {values.min():.3f}, limit {least:.3f}"
    mend = "move the object away from the edge of the arm's reach"
    return line[: max(1, low[0])], No(2, "planning.singularity", message, mend)
