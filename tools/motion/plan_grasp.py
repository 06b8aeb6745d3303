"""From ranked grasps to a motion: the first grasp that the arm reaches without touching anything on the way.

A motion is a free joint path to the pre-grasp, a straight approach and a straight lift. The jaws are symmetric, so each
grasp is tried with the hand turned either way; each joint branch of the closed-form inverse is tried, nearest first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import Grasp, GraspPlan, PartCloud
from affordagent.robot.arms import ArmName
from affordagent.robot.chain import smallest_singular_values
from affordagent.robot.kinematics import ArmKinematics, within_limits
from affordagent.robot.limits import MotionLimits
from affordagent.robot.model import MAX_OPENING_M
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85
from affordagent.tools.motion.collision import CollisionWorld, Hit, start_in_collision
from affordagent.tools.motion.planner import plan_path
from affordagent.tools.motion.trajectory import cartesian_motion, joint_motion

LINE_STEP_M = 0.005
SINGULARITY_MARGIN = 1.1  # further from it than `robot.safety` asks for, which looks between the steps too
MAX_LINE_JOINT_STEP_RAD = 0.15  # between two steps of a straight line: more is a jump to another branch
WIDTH_ERROR_M = 0.004  # the object may be this much thinner than it looked, and the fingers close further
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # the hand turned by half a turn about its approach
ON_TOP_CELL_M, ON_TOP_M, MAX_COVERED = 0.006, 0.012, 0.08
_SEARCHES = 3  # path searches among the candidates of one grasp, the nearest ones first


@dataclass(frozen=True)
class _Reach:
    """Joints along the straight lines of one way to take a grasp. approach: (N, 6) from the pre-grasp to the grasp,
    over `distance_m`; lift: (M, 6) from the grasp up."""

    approach: Array
    distance_m: float
    lift: Array


@dataclass(frozen=True)
class _No:
    """Why one way to take a grasp fails. depth: how far it got; the furthest is what a person should hear."""

    depth: float
    code: str
    message: str
    mend: str


class _Planner:
    def __init__(self, cloud: PartCloud, start_q: Array, limits: MotionLimits, arm: ArmName) -> None:
        self.arm, self.limits, self.start_q = ArmKinematics(arm), limits, np.asarray(start_q, float)
        self.world = CollisionWorld(self.arm, limits, cloud.obstacles, cloud.object, cloud.table_z_m, self.start_q)

    def try_grasp(self, grasp: Grasp, opening_m: float, seed: int) -> tuple[Array, _Reach] | _No:
        """(waypoints to the pre-grasp, the straight lines), or the reason of the way that got furthest."""
        reaches: list[_Reach] = []
        reasons: list[_No] = []
        for T_base_tcp, q in self._branches(grasp.T_base_tcp):
            found = self._straight_lines(T_base_tcp, q, grasp.width_m, opening_m)
            if isinstance(found, _No):
                reasons.append(found)
                continue
            path = self._free_path(found, opening_m, seed, checks=0)
            if path is not None:
                return path, found
            reaches.append(found)
        for reach in reaches[:_SEARCHES]:
            path = self._free_path(reach, opening_m, seed, self.limits.planning_checks)
            if path is not None:
                return path, reach
        if reaches:
            message = f"no free path to the pre-grasp within {self.limits.planning_checks} checked postures"
            return _No(4, "planning.no_path", message, "clear the space between the robot and the object")
        return max(reasons, key=lambda no: no.depth) if reasons else self._unreachable(grasp.T_base_tcp)

    def _branches(self, T_base_tcp: Array) -> list[tuple[Array, Array]]:
        """(T_base_tcp, joints) of both turns of the hand and all branches of the arm, nearest to the start first."""
        poses = (T_base_tcp, T_base_tcp @ _FLIP)
        found = [(T, q) for T in poses for q in self.arm.inverse(T, self.start_q)]
        return sorted(found, key=lambda pair: float(np.abs(pair[1] - self.start_q).max()))

    def _free_path(self, reach: _Reach, opening_m: float, seed: int, checks: int) -> Array | None:
        def free(q: Array) -> bool:
            return self.world.hit(q, opening_m) is None

        return plan_path(self.start_q, reach.approach[0], free, np.random.default_rng(seed), checks)

    def _unreachable(self, T_base_tcp: Array) -> _No:
        reach, most = self.arm.reach_m(T_base_tcp), self.arm.max_reach_m
        message = f"the wrist would be {reach:.2f} m from the shoulder, the arm reaches at most {most:.2f} m"
        if reach < most:
            message = f"no joint angles within the limits give this pose (wrist at {reach:.2f} m from the shoulder)"
        return _No(0, "grasp.unreachable", message, "move the object nearer to the middle of the table")

    def _straight_lines(self, T_base_tcp: Array, q: Array, width_m: float, opening_m: float) -> _Reach | _No:
        for opening in (opening_m, max(0.0, width_m - WIDTH_ERROR_M)):  # the tips swing forward while they close
            hit = self.world.hit(q, opening, fingers_may_touch_target=True)
            if hit is not None:
                return _blocked(1, "at the grasp", hit)
        up = np.array([0, 0, self.limits.lift_height_m])
        lift = self._line(T_base_tcp, q, up, width_m)
        if isinstance(lift, _No):
            return lift
        reason = None
        for distance in self.limits.pregrasp_distances_m:
            retreat = self._line(T_base_tcp, q, -distance * T_base_tcp[:3, 2], opening_m)
            if isinstance(retreat, _No):
                reason = retreat
                continue
            hit = self.world.hit(retreat[-1], opening_m)
            if hit is None:
                return _Reach(retreat[::-1], distance, lift)
            reason = _blocked(3, f"{100 * distance:.0f} cm before the grasp", hit)
        assert reason is not None  # MotionLimits holds at least one distance
        return reason

    def _line(self, T_base_tcp: Array, q: Array, shift_m: Array, opening_m: float) -> Array | _No:
        """(N, 6) joints of the tcp's straight line from a pose by `shift_m`, without change of branch."""
        count = int(np.ceil(np.linalg.norm(shift_m) / LINE_STEP_M))
        joints, T = [q], T_base_tcp.copy()
        for k in range(1, count + 1):
            T[:3, 3] = T_base_tcp[:3, 3] + shift_m * k / count
            guess = joints[-1] if k == 1 else 2 * joints[-1] - joints[-2]
            at = self.arm.refine(T, guess)
            if at is None or np.abs(at - joints[-1]).max() > MAX_LINE_JOINT_STEP_RAD or not within_limits(at):
                length = np.linalg.norm(shift_m)
                message = f"the straight line of {length:.2f} m leaves the arm's reach after {length * k / count:.2f} m"
                return _No(2, "planning.ik", message, "move the object nearer to the robot")
            hit = self.world.hit(at, opening_m, fingers_may_touch_target=True)
            if hit is not None:
                return _blocked(2, f"{100 * np.linalg.norm(shift_m) * k / count:.0f} cm from the grasp", hit)
            joints.append(at)
        line = np.stack(joints)
        chain = self.arm.chain
        lowest = float(smallest_singular_values(chain.jacobians(chain.links(line))).min())
        least = SINGULARITY_MARGIN * self.limits.min_manipulability
        if lowest < least:
            message = f"manipulability falls to {lowest:.3f}, limit {least:.3f}"
            return _No(2, "planning.singularity", message, "move the object away from the edge of the arm's reach")
        return line


def _blocked(depth: float, where: str, hit: Hit) -> _No:
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
            "the arm would enter a keep-out zone ([limits] keep_out_m)",
            "move the object away from the zone",
        ),
        "obstacle": ("grasp.collides_scene", "something else is in the way", "clear the space round the object"),
        "target": ("grasp.collides_scene", "the hand would touch the object itself", "turn the object"),
    }[hit]
    if hit in ("self", "workspace", "keep_out"):
        depth -= 0.5  # belongs to one way of bending the arm, says less than what is in the way of the hand
    return _No(depth, code, f"{where}: {what}", mend)


def _check_start(planner: _Planner) -> None:
    hit = planner.world.hit(planner.start_q, MAX_OPENING_M)
    if hit is not None:
        raise start_in_collision(hit, planner.start_q, planner.limits)


def _highest(points: Array) -> tuple[NDArray[np.int64], Array]:
    """Keys of the occupied vertical columns of side ON_TOP_CELL_M and the height of the highest point of each."""
    cells = np.floor(points[:, :2] / ON_TOP_CELL_M).astype(np.int64)
    keys, index = np.unique(cells[:, 0] * 100_000 + cells[:, 1], return_inverse=True)
    top = np.full(len(keys), -np.inf)
    np.maximum.at(top, index, points[:, 2])
    return keys, top


def _check_lift(cloud: PartCloud) -> None:
    """Something that lies on the object would be lifted, or thrown, with it."""
    if not len(cloud.obstacles) or not len(cloud.object):
        return
    object_cells, tops = _highest(cloud.object)
    obstacle_cells, heights = _highest(cloud.obstacles)
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
) -> GraspPlan:
    """The first grasp with a collision-free motion, and that motion.

    grasps: best first. start_q: (6,) rad where the arm is. arm: which one it is. The same arguments give the same plan.

    Raises:
        StageFailure: ("plan", code): planning.start_in_collision, or no grasp works, with the code of the most common
            reason (grasp.none, grasp.unreachable, grasp.collides_scene, grasp.collides_surface, planning.ik,
            planning.singularity, planning.no_path, scene.blocked); evidence: counts by code and some samples.
    """
    if not grasps:
        raise StageFailure("plan", "grasp.none", "0 grasps to plan for, at least 1 is needed: propose grasps first")
    planner = _Planner(cloud, start_q, limits, arm)
    _check_start(planner)
    _check_lift(cloud)
    rejected: list[dict[str, object]] = []
    mends: dict[str, str] = {}
    for index, grasp in enumerate(grasps):
        opening_m = float(ROBOTIQ_2F85.opening_for_m(grasp.width_m))
        found = planner.try_grasp(grasp, opening_m, seed)
        if isinstance(found, _No):
            rejected.append({"grasp_index": index, "code": found.code, "message": found.message})
            mends.setdefault(found.code, found.mend)
            continue
        path, reach = found
        return GraspPlan(
            grasp=grasp,
            grasp_index=index,
            opening_m=opening_m,
            to_pregrasp=joint_motion(path, limits, arm),
            approach=cartesian_motion(reach.approach, reach.distance_m, limits),
            lift=cartesian_motion(reach.lift, limits.lift_height_m, limits),
            rejected=rejected,
        )
    counts = Counter(str(r["code"]) for r in rejected)
    code = counts.most_common(1)[0][0]
    sample = next(str(r["message"]) for r in rejected if r["code"] == code)
    raise StageFailure(
        "plan",
        code,
        f"0 of {len(grasps)} grasps can be executed, {counts[code]} for this reason: {sample}; {mends[code]}",
        counts=dict(counts),
        samples=rejected[:5],
    )
