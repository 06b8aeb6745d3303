"""After the lift: where what is held is put, or presented, and how it gets there.

Each move of the goal is tried in order with the hand as it holds the object: a free joint path that carries the object
(seen as points on the hand), for a place a straight line down, and a straight line back of the open hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from affordagent.core.geometry import Array, transform_points
from affordagent.core.types import Delivery, DeliveryGoal, PartCloud
from affordagent.robot.limits import MotionLimits
from affordagent.tools.depth_projection import voxel_downsample
from affordagent.tools.grasping.collision import drop_to_table
from affordagent.tools.motion.collision import CollisionWorld, Hit
from affordagent.tools.motion.planner import plan_path
from affordagent.tools.motion.points import held_points, in_hand
from affordagent.tools.motion.straight import LINE_STEP_M, No, straight_line
from affordagent.tools.motion.trajectory import cartesian_motion, joint_motion

NO_DELIVERY = "planning.no_delivery"
LEAST_LOWERING_M = 0.05
ABOVE_M = 0.02  # from here on it is lowered straight, so far above the highest point of its destination
LET_GO_M = 0.012  # the least that the fingers open, in all, to let go where there is no room for more
_SEARCHES = 3  # path searches for one grasp
_BUDGET = 3  # times `planning_checks`: postures tested for all deliveries of one plan
_LANDING_SPACING_M = 0.004


_Asked = Callable[[Array], Hit | None]


@dataclass(frozen=True)
class _Held:
    """An object in the hand. T_base_tcp: of the hand at the grasp. points: (N, 3) of the object, tcp frame. carried,
    lowered: what a posture touches, with the rules for either."""

    T_base_tcp: Array
    points: Array
    lift_q: Array
    width_m: float
    opening_m: float
    carried: _Asked
    lowered: _Asked


@dataclass(frozen=True)
class _Spot:
    """One way to bend the arm for one move. goal_q: (6,) where the carry ends. lower: (N, 6) evenly spaced from there
    down to the place, None for a hand-over. retreat: (M, 6) over `retreat_m`."""

    move_index: int
    T_base_tcp: Array
    goal_q: Array
    lower: Array | None
    retreat: Array
    retreat_m: float
    opening_m: float


class DeliveryPlanner:
    """Plans the deliveries of one object to one goal.

    world: with the object still at its place on the table. reasons: what stood against the moves tried so far.
    """

    def __init__(self, world: CollisionWorld, limits: MotionLimits, cloud: PartCloud, goal: DeliveryGoal) -> None:
        self.arm, self.world, self.limits, self.cloud, self.goal = world.kinematics, world, limits, cloud, goal
        self.reasons: Counter[str] = Counter()
        self._checks_left = _BUDGET * limits.planning_checks
        self._object = held_points(cloud.object, cloud.table_z_m)
        self._carrying, self._released = world.carrying(), world.putting_down(goal.inside)
        self._moves = [i for i, move in enumerate(goal.moves) if goal.kind == "hand_over" or self._has_room(move)]

    def plan(self, T_base_tcp: Array, lift_q: Array, width_m: float, opening_m: float, seed: int) -> Delivery | None:
        """The first move that can be carried out from the end of the lift, and its motions; None when none can.

        T_base_tcp: of the hand at the grasp. lift_q: (6,) rad. width_m: of what is held. opening_m: of the open hand.
        """
        held = self._held(T_base_tcp, lift_q, width_m, opening_m)
        self.reasons["the object does not fit there"] += len(self.goal.moves) - len(self._moves)
        if (hit := held.carried(lift_q)) is not None:
            self.reasons[f"where the lift ends: {hit}"] += 1
            return None
        searches, most = _SEARCHES, self.limits.planning_checks
        for index in self._moves:
            if self._checks_left <= 0:
                self.reasons["not tried, the checked postures are used up"] += 1
                continue
            spots = list(self._spots(index, held))
            nearest = spots[
                : min(1, searches)
            ]  # a way round first, before another branch, which swings the object about
            for spot, checks in [
                *((s, 0) for s in spots[:1]),
                *((s, most) for s in nearest),
                *((s, 0) for s in spots[1:]),
            ]:
                searches -= checks > 0
                rng = np.random.default_rng(seed)
                checks = min(checks, self._checks_left)
                path = plan_path(lift_q, spot.goal_q, lambda q: held.carried(q) is None, rng, checks, self.arm.arm)
                if path is not None:
                    return self._timed(spot, path)
            self.reasons["no free path"] += bool(spots)
        return None

    def _held(self, T_base_tcp: Array, lift_q: Array, width_m: float, opening_m: float) -> _Held:
        points = in_hand(self._object, T_base_tcp)
        carried = self._counted(self._carrying.holding(points), width_m)
        lowered = self._counted(self._released.holding(points), width_m)
        return _Held(T_base_tcp, points.points, lift_q, width_m, opening_m, carried, lowered)

    @property
    def no(self) -> No:
        """Why nothing could be delivered so far."""
        kind = "put down" if self.goal.kind == "place" else "presented"
        why = ", ".join(f"{reason} ({count})" for reason, count in self.reasons.most_common(3))
        message = f"the object can be held, but not {kind} at any of {len(self.goal.moves)} poses: {why}"
        return No(5, NO_DELIVERY, message, "make room there, or name another place")

    def _has_room(self, move: Array) -> bool:
        points = drop_to_table(voxel_downsample(self.cloud.object, _LANDING_SPACING_M), self.cloud.table_z_m)
        return self._released.lands_free(transform_points(move, points))

    def _counted(self, world: CollisionWorld, opening_m: float) -> Callable[[Array], Hit | None]:
        """`CollisionWorld.hit` for fingers at an opening, each posture counted."""

        def hit(q: Array) -> Hit | None:
            self._checks_left -= 1
            return world.hit(q, opening_m)

        return hit

    def _spots(self, index: int, held: _Held) -> Iterator[_Spot]:
        """All ways to bend the arm for a move, nearest to the end of the lift first."""
        T_base_tcp = self.goal.moves[index] @ held.T_base_tcp
        branches = self.arm.inverse(T_base_tcp, held.lift_q)
        if not branches:
            self.reasons["out of reach"] += 1
        for q in branches:
            lower = self._lower(T_base_tcp, q, held) if self.goal.kind == "place" else None
            if isinstance(lower, str):
                self.reasons[lower] += 1
                continue
            if lower is None and (hit := held.carried(q)) is not None:
                self.reasons[f"where it is presented: {hit}"] += 1
                continue
            retreat = self._retreat(T_base_tcp, q, held)
            if isinstance(retreat, str):
                self.reasons[retreat] += 1
                continue
            yield _Spot(index, T_base_tcp, q if lower is None else lower[0], lower, *retreat)

    def _lower(self, T_base_tcp: Array, q: Array, held: _Held) -> Array | str:
        """(N, 6) down to the place, from the least height at which the object may be carried about and is above all of
        its destination, or from the greatest height that can be had; or why there is none."""
        if (hit := held.lowered(q)) is not None:
            return f"at the place: {hit}"
        height_m = self.limits.lift_height_m
        line, no = straight_line(self.arm, self.limits, T_base_tcp, q, np.array([0.0, 0.0, height_m]), held.lowered)
        bottom_m = transform_points(T_base_tcp, held.points)[:, 2].min(initial=np.inf)
        above_m = self.goal.inside[:, 2].max(initial=-np.inf) + ABOVE_M - bottom_m
        least, wanted = (
            int(np.ceil(min(lift_m, height_m) / LINE_STEP_M))
            for lift_m in (LEAST_LOWERING_M, max(LEAST_LOWERING_M, above_m))
        )
        for k in [*range(wanted, len(line)), *range(min(wanted, len(line)) - 1, least - 1, -1)]:
            if held.carried(line[k]) is None:
                return line[k::-1]
        return f"above the place: {no.message}" if no else "above the place: no room to get there"

    def _retreat(self, T_base_tcp: Array, q: Array, held: _Held) -> tuple[Array, float, float] | str:
        """The line back along the approach, its length and the opening to let go with, or why there is none."""
        why = ""
        for opening in (held.opening_m, min(held.opening_m, held.width_m + LET_GO_M)):
            released = self._counted(self._released, opening)
            if (hit := released(q)) is not None:
                why = f"no room to open the hand: {hit}"
                continue
            for distance_m in self.limits.pregrasp_distances_m:
                back = -distance_m * T_base_tcp[:3, 2]
                line, no = straight_line(self.arm, self.limits, T_base_tcp, q, back, released)
                if no is None:
                    return line, distance_m, opening
                why = f"the way back: {no.message}"
        return why

    def _timed(self, spot: _Spot, path: Array) -> Delivery:
        limits, arm = self.limits, self.arm.arm
        lower_m = 0.0 if spot.lower is None else self._length_m(spot.lower)
        return Delivery(
            kind=self.goal.kind,
            T_base_tcp=spot.T_base_tcp,
            move_index=spot.move_index,
            carry=joint_motion(path, limits, arm),
            lower=None if spot.lower is None else cartesian_motion(spot.lower, lower_m, limits),
            retreat=cartesian_motion(spot.retreat, spot.retreat_m, limits),
            opening_m=spot.opening_m,
        )

    def _length_m(self, line: Array) -> float:
        return float(np.linalg.norm(self.arm.forward(line[-1])[:3, 3] - self.arm.forward(line[0])[:3, 3]))
