"""From ranked grasps to a motion: the first grasp that the arm reaches without touching anything on the way.

A motion is a free joint path to the pre-grasp, a straight approach and a straight lift; and a delivery where one is
wanted (`plan_delivery`). The jaws are symmetric, so each grasp is tried with the hand turned either way; each joint
branch of the closed-form inverse is tried, nearest first. From the lift on, the object moves with the hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import DeliveryGoal, Grasp, GraspPlan, PartCloud
from affordagent.robot.arms import ArmName
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.model import MAX_OPENING_M
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85
from affordagent.tools.motion.collision import CollisionWorld, Hit, start_in_collision
from affordagent.tools.motion.plan_delivery import NO_DELIVERY, DeliveryPlanner
from affordagent.tools.motion.planner import SPARE_M, plan_path
from affordagent.tools.motion.points import held_points, highest, in_hand
from affordagent.tools.motion.straight import No, blocked, straight_line
from affordagent.tools.motion.trajectory import cartesian_motion, joint_motion

WIDTH_ERROR_M = 0.004  # the object may be this much thinner than it looked, and the fingers close further
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # the hand turned by half a turn about its approach
ON_TOP_M, MAX_COVERED = 0.012, 0.08
_SEARCHES = 3  # path searches among the candidates of one grasp, the nearest ones first
_BUDGET = 6  # times `planning_checks`: what all path searches to a pre-grasp may test
_WAYS = 2  # to take one grasp, for each of which a delivery is looked for


@dataclass(frozen=True)
class _Lines:
    """Joints along the straight lines of one way to take a grasp with the hand at `T_base_tcp`. approach: (N, 6) from
    the pre-grasp to the grasp, over `distance_m`; lift: (M, 6) from the grasp up."""

    T_base_tcp: Array
    approach: Array
    distance_m: float
    lift: Array


class _Planner:
    def __init__(
        self, cloud: PartCloud, start_q: Array, limits: MotionLimits, arm: ArmName, goal: DeliveryGoal | None, seed: int
    ) -> None:
        self.arm, self.limits, self.start_q = ArmKinematics(arm), limits, np.asarray(start_q, float)
        self._object, self._seed = held_points(cloud.object, cloud.table_z_m), seed
        self.world = CollisionWorld(
            self.arm, limits, cloud.obstacles, cloud.object, cloud.table_z_m, self.start_q, SPARE_M
        )
        self._lifting, self._checks_left = self.world.lifting(), _BUDGET * limits.planning_checks
        self.delivery = None if goal is None else DeliveryPlanner(self.world, limits, cloud, goal)

    def plan(self, grasp: Grasp, index: int, rejected: list[dict[str, Any]]) -> GraspPlan | No:
        """The motions of a grasp, or the reason of the way to take it that got furthest."""
        opening_m = float(ROBOTIQ_2F85.opening_for_m(grasp.width_m))
        reasons: list[No] = []
        for path, lines in islice(self._ways(grasp, opening_m, reasons), _WAYS):
            delivery = None
            if self.delivery is not None:
                held_at = lines.T_base_tcp, lines.lift[-1]
                delivery = self.delivery.plan(*held_at, grasp.width_m, opening_m, self._seed)
                if delivery is None:
                    reasons.append(self.delivery.no)
                    continue
            return GraspPlan(
                grasp=grasp,
                grasp_index=index,
                opening_m=opening_m,
                to_pregrasp=joint_motion(path, self.limits, self.arm.arm),
                approach=cartesian_motion(lines.approach, lines.distance_m, self.limits),
                lift=cartesian_motion(lines.lift, self.limits.lift_height_m, self.limits),
                rejected=rejected,
                delivery=delivery,
            )
        return max(reasons, key=lambda no: no.depth) if reasons else self._unreachable(grasp.T_base_tcp)

    def _ways(self, grasp: Grasp, opening_m: float, reasons: list[No]) -> Iterator[tuple[Array, _Lines]]:
        """Ways to take a grasp, the nearest first, those with a straight path before those with a search: waypoints to
        the pre-grasp and the straight lines from there. What stands against the others is added to `reasons`."""
        behind: list[_Lines] = []
        for T_base_tcp, q in self._branches(grasp.T_base_tcp):
            found = self._straight_lines(T_base_tcp, q, grasp.width_m, opening_m)
            if isinstance(found, No):
                reasons.append(found)
            elif (path := self._free_path(found, opening_m, checks=0)) is not None:
                yield path, found
            else:
                behind.append(found)
        for lines in behind[:_SEARCHES]:
            path = self._free_path(lines, opening_m, min(self.limits.planning_checks, self._checks_left))
            if path is not None:
                yield path, lines
            else:
                message = f"no free path to the pre-grasp within {self.limits.planning_checks} checked postures"
                mend = "clear the space between the robot and the object"
                reasons.append(No(4, "planning.no_path", message, mend))

    def _branches(self, T_base_tcp: Array) -> list[tuple[Array, Array]]:
        """(T_base_tcp, joints) of both turns of the hand and all branches of the arm, nearest to the start first."""
        poses = (T_base_tcp, T_base_tcp @ _FLIP)
        found = [(T, q) for T in poses for q in self.arm.inverse(T, self.start_q)]
        return sorted(found, key=lambda pair: float(np.abs(pair[1] - self.start_q).max()))

    def _free_path(self, lines: _Lines, opening_m: float, checks: int) -> Array | None:
        """checks: of postures, for a search where the straight path is blocked."""

        def free(q: Array) -> bool:
            self._checks_left -= checks > 0
            return self.world.hit(q, opening_m) is None

        rng = np.random.default_rng(self._seed)
        return plan_path(self.start_q, lines.approach[0], free, rng, checks, self.arm.arm)

    def _unreachable(self, T_base_tcp: Array) -> No:
        reach, most = self.arm.reach_m(T_base_tcp), self.arm.max_reach_m
        message = f"the wrist would be {reach:.2f} m from the shoulder, the arm reaches at most {most:.2f} m"
        if reach < most:
            message = f"no joint angles within the limits give this pose (wrist at {reach:.2f} m from the shoulder)"
        return No(0, "grasp.unreachable", message, "move the object nearer to the middle of the table")

    def _straight_lines(self, T_base_tcp: Array, q: Array, width_m: float, opening_m: float) -> _Lines | No:
        for opening in (opening_m, max(0.0, width_m - WIDTH_ERROR_M)):  # the tips swing forward while they close
            hit = self.world.hit(q, opening, fingers_may_touch_target=True)
            if hit is not None:
                return blocked(1, "at the grasp", hit)
        lifting = self._lifting.holding(in_hand(self._object, T_base_tcp))
        up = np.array([0, 0, self.limits.lift_height_m])
        lift, no = self._line(T_base_tcp, q, up, lambda at: lifting.hit(at, width_m))
        if no is not None:
            return no
        reason = None
        for distance in self.limits.pregrasp_distances_m:
            back = -distance * T_base_tcp[:3, 2]
            retreat, reason = self._line(T_base_tcp, q, back, lambda at: self.world.hit(at, opening_m, True))
            if reason is None and (hit := self.world.hit(retreat[-1], opening_m)) is not None:
                reason = blocked(3, f"{100 * distance:.0f} cm before the grasp", hit)
            if reason is None:
                return _Lines(T_base_tcp, retreat[::-1], distance, lift)
        assert reason is not None  # MotionLimits holds at least one distance
        return reason

    def _line(
        self, T_base_tcp: Array, q: Array, shift_m: Array, hit: Callable[[Array], Hit | None]
    ) -> tuple[Array, No | None]:
        return straight_line(self.arm, self.limits, T_base_tcp, q, shift_m, hit)


def _check_start(planner: _Planner) -> None:
    hit = planner.world.hit(planner.start_q, MAX_OPENING_M)
    if hit is not None:
        raise start_in_collision(hit, planner.start_q, planner.limits)


def _check_lift(cloud: PartCloud) -> None:
    """Something that lies on the object would be lifted, or thrown, with it."""
    if not len(cloud.obstacles) or not len(cloud.object):
        return
    object_cells, tops = highest(cloud.object)
    obstacle_cells, heights = highest(cloud.obstacles)
    _, at_object, at_obstacle = np.intersect1d(object_cells, obstacle_cells, return_indices=True)
    covered = heights[at_obstacle] > tops[at_object] + ON_TOP_M
    share = float(covered.sum() / len(tops))
    if share > MAX_COVERED:
        raise StageFailure(
            "plan",
            "scene.blocked",
            f"something lies on {share:.0%} of the object, limit {MAX_COVERED:.0%}: take it off first",
            covered=round(share, 3),
        )


def plan_grasp(
    grasps: Sequence[Grasp],
    cloud: PartCloud,
    start_q: Array,
    *,
    limits: MotionLimits,
    seed: int = 0,
    arm: ArmName = "UR5e",
    delivery: DeliveryGoal | None = None,
) -> GraspPlan:
    """The first grasp with a collision-free motion, and that motion.

    grasps: best first. start_q: (6,) rad where the arm is. arm: which one it is. delivery: where the object is to go;
    with one, a grasp counts only if one of its moves can be carried out with it. The same arguments give the same plan.

    Raises:
        StageFailure: ("plan", code): planning.start_in_collision, or no grasp works, with the code of the most common
            reason (grasp.none, grasp.unreachable, grasp.collides_scene, grasp.collides_surface, planning.ik,
            planning.singularity, planning.no_path, scene.blocked); evidence: counts by code and some samples.
            planning.no_delivery: the object can be taken, but no move can be carried out; evidence: also no_delivery,
            counts by what stood against it.
    """
    if not grasps:
        raise StageFailure("plan", "grasp.none", "0 grasps to plan for, at least 1 is needed: propose grasps first")
    planner = _Planner(cloud, start_q, limits, arm, delivery, seed)
    _check_start(planner)
    _check_lift(cloud)
    rejected: list[dict[str, object]] = []
    mends: dict[str, str] = {}
    for index, grasp in enumerate(grasps):
        found = planner.plan(grasp, index, rejected)
        if isinstance(found, GraspPlan):
            return found
        rejected.append({"grasp_index": index, "code": found.code, "message": found.message})
        mends.setdefault(found.code, found.mend)
    raise _failure(rejected, mends, planner.delivery)


def _failure(rejected: list[dict[str, Any]], mends: dict[str, str], delivery: DeliveryPlanner | None) -> StageFailure:
    """What most grasps fail by; deliveries where any grasp got as far as that."""
    counts = Counter(str(r["code"]) for r in rejected)
    code = NO_DELIVERY if NO_DELIVERY in counts else counts.most_common(1)[0][0]
    sample = next(str(r["message"]) for r in rejected if r["code"] == code)
    evidence = {"no_delivery": dict(delivery.reasons.most_common())} if delivery is not None else {}
    return StageFailure(
        "plan",
        code,
        f"0 of {len(rejected)} grasps can be executed, {counts[code]} for this reason: {sample}; {mends[code]}",
        counts=dict(counts),
        samples=rejected[:5],
        **evidence,
    )
