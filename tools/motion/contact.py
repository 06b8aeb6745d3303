"""Motions that touch rather than grasp: a straight stroke of a hand that points down, from a free place and back.

The hand comes down to where the stroke begins, makes the stroke in short pieces between which the force on the tcp is
looked at (`tools.contact_execution`), and leaves by the way it came. All of it is planned and checked before anything
moves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import JointTrajectory, PartCloud
from affordagent.robot.arms import ArmName
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.tools.motion.collision import CollisionWorld, Hit, start_in_collision
from affordagent.tools.motion.planner import SPARE_M, plan_path
from affordagent.tools.motion.points import solid
from affordagent.tools.motion.straight import No, blocked, straight_line
from affordagent.tools.motion.trajectory import cartesian_motion, joint_motion, reverse

_NEIGHBOUR_M, _NEIGHBOURS = 0.015, 8
_SEARCHES = 3  # path searches, the nearest postures first


@dataclass(frozen=True)
class ContactGoal:
    """A stroke. T_base_tcp: (K, 4, 4) hands that may begin it, best first, tcp z down. stroke_m: (3,) base frame.

    above_m: how far straight up the hand comes from. opening_m: of the fingers. piece_m: of the stroke, between two
    looks at the force. stop_n: the force that ends it. pushed: (N, 3) base frame, what moves along with the hand after
    its first `free_m`, to be checked against what else is there; (0, 3) = nothing does. must_touch: whether an end
    without that force is none.
    """

    T_base_tcp: Array
    stroke_m: Array
    above_m: float
    opening_m: float
    piece_m: float
    stop_n: float
    pushed: Array
    must_touch: bool = False
    free_m: float = 0.0


@dataclass(frozen=True)
class ContactPlan:
    """to_above: free path from where the arm is. down: straight. stroke: pieces of it in order, each straight and from
    rest to rest; stop_n ends it between two of them. T_base_tcp: (4, 4) where the stroke begins."""

    T_base_tcp: Array
    opening_m: float
    to_above: JointTrajectory
    down: JointTrajectory
    stroke: tuple[JointTrajectory, ...]
    stop_n: float
    must_touch: bool

    def way_back(self, pieces: int) -> list[tuple[str, JointTrajectory]]:
        """From the end of so many pieces of the stroke to where the arm was: the same way backwards."""
        back = [("withdraw", reverse(piece)) for piece in reversed(self.stroke[:pieces])]
        return [*back, ("up", reverse(self.down)), ("to_start", reverse(self.to_above))]


def plan_contact(
    goal: ContactGoal,
    cloud: PartCloud,
    start_q: Array,
    *,
    limits: MotionLimits,
    arm: ArmName = "UR5e",
    seed: int = 0,
) -> ContactPlan:
    """The first hand of the goal whose way down, stroke and way back are free; the fingers may touch the object.

    start_q: (6,) rad where the arm is. The same arguments give the same plan.

    Raises:
        StageFailure: ("plan", code): planning.start_in_collision, scene.blocked (what is pushed would meet something),
            or the reason of the hand that got furthest (grasp.unreachable, grasp.collides_scene,
            grasp.collides_surface, planning.ik, planning.singularity, planning.no_path).
    """
    kinematics = ArmKinematics(arm)
    start_q = np.asarray(start_q, float)
    others = _crowded(cloud.obstacles)
    world = CollisionWorld(kinematics, limits, others, cloud.object, cloud.table_z_m, start_q, SPARE_M)
    hit = world.hit(start_q, goal.opening_m)
    if hit is not None:
        raise start_in_collision(hit, start_q, limits)
    _check_way(world, goal, cloud.table_z_m)
    rng, reasons, searches = np.random.default_rng(seed), list[No](), _SEARCHES

    def free(q: Array) -> bool:
        return world.hit(q, goal.opening_m) is None

    for T_base_tcp, q in _postures(goal, kinematics, start_q):
        lines = _lines(goal, world, T_base_tcp, q)
        if isinstance(lines, No):
            reasons.append(lines)
            continue
        down, stroke = lines
        path = plan_path(start_q, down[0], free, rng, limits.planning_checks if searches else 0, arm)
        searches -= searches > 0
        if path is None:
            reasons.append(No(4, "planning.no_path", "no free path to above it", "clear the space round the robot"))
            continue
        pieces = _pieces(stroke, goal, limits)
        way = joint_motion(path, limits, arm), cartesian_motion(down, goal.above_m, limits)
        return ContactPlan(T_base_tcp, goal.opening_m, *way, pieces, goal.stop_n, goal.must_touch)
    raise _failure(reasons)


def _check_way(world: CollisionWorld, goal: ContactGoal, table_z_m: float) -> None:
    """Would what is pushed meet anything?"""
    if not len(goal.pushed):
        return
    points = solid(goal.pushed, table_z_m)
    others = world.lifting().obstacles  # without what its mask left out of it
    radii = np.full(len(points), world.limits.obstacle_clearance_m)
    direction = goal.stroke_m / np.linalg.norm(goal.stroke_m)
    length_m = float(np.linalg.norm(goal.stroke_m)) - goal.free_m
    for share in np.linspace(0, 1, max(2, int(np.ceil(length_m / 0.01)))):
        if others.touched(points + share * length_m * direction, radii):
            raise StageFailure(
                "plan",
                "scene.blocked",
                f"something is in the way after {100 * share * length_m:.0f} of {100 * length_m:.0f} cm: clear the way",
                after_m=round(share * length_m, 3),
            )


def _crowded(points: Array) -> Array:
    """Without single points (N, 3) of depth noise: a few millimetres high, they stand in nobody's way."""
    if not len(points):
        return points
    tree = cKDTree(points)
    near = tree.query_ball_point(points, _NEIGHBOUR_M, return_length=True)
    return points[near >= _NEIGHBOURS]


def _postures(goal: ContactGoal, kinematics: ArmKinematics, start_q: Array) -> list[tuple[Array, Array]]:
    """(T_base_tcp, joints (6,)) of all hands and branches, hands in their order, nearest branch first."""
    found = []
    for T in goal.T_base_tcp:
        branches = kinematics.inverse(T, start_q)
        found += [(T, q) for q in sorted(branches, key=lambda q: float(np.abs(q - start_q).max()))]
    return found


def _lines(goal: ContactGoal, world: CollisionWorld, T_base_tcp: Array, q: Array) -> tuple[Array, Array] | No:
    """Joints (N, 6) from above down to where the stroke begins, and (M, 6) along it."""

    at_it = world.lifting()  # the fingers are to touch the thing, and what its mask may have left out of it

    def touching(at: Array) -> Hit | None:
        return at_it.hit(at, goal.opening_m)

    hit = touching(q)
    if hit is not None:
        return blocked(1, "where the stroke begins", hit)
    up, no = straight_line(world.kinematics, world.limits, T_base_tcp, q, np.array([0, 0, goal.above_m]), touching)
    if no is not None:
        return no
    if (hit := world.hit(up[-1], goal.opening_m)) is not None:
        return blocked(3, "above it", hit)
    stroke, no = straight_line(world.kinematics, world.limits, T_base_tcp, q, goal.stroke_m, touching)
    return no if no is not None else (up[::-1], stroke)


def _pieces(stroke: Array, goal: ContactGoal, limits: MotionLimits) -> tuple[JointTrajectory, ...]:
    """The stroke's joints (M, 6) cut into pieces of about `piece_m`."""
    length_m = float(np.linalg.norm(goal.stroke_m))
    count = max(1, min(round(length_m / goal.piece_m), len(stroke) - 1))
    cuts = np.round(np.linspace(0, len(stroke) - 1, count + 1)).astype(int)
    step_m = length_m / (len(stroke) - 1)
    return tuple(
        cartesian_motion(stroke[a : b + 1], step_m * (b - a), limits) for a, b in zip(cuts[:-1], cuts[1:], strict=True)
    )


def _failure(reasons: list[No]) -> StageFailure:
    if not reasons:
        message = "no joint angles within the limits reach the stroke: move the thing nearer to the middle of the table"
        return StageFailure("plan", "grasp.unreachable", message)
    worst = max(reasons, key=lambda no: no.depth)
    return StageFailure(
        "plan", worst.code, f"the stroke cannot be made: {worst.message}; {worst.mend}", tried=len(reasons)
    )
