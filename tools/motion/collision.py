"""Is a posture of the arm free? Self and table contacts come from MuJoCo on the arm-only model; the observed points
are compared with spheres sampled inside the links, the gripper and the fingers at their opening."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, invert, transform_points
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.link_spheres import depth_in_box, link_spheres
from affordagent.robot.model import GRIPPER_PREFIX, MAX_OPENING_M, PREFIX
from affordagent.tools.depth_projection import voxel_downsample
from affordagent.tools.motion.points import SPACING_M, PointSet, highest, solid

Hit = Literal["self", "table", "workspace", "keep_out", "obstacle", "target", "held_obstacle", "held_table", "held_arm"]
INSIDE_M = 0.002  # this much further inside the limits than `robot.safety` asks for, which looks more closely
_SELF_SEEN_M = 0.03  # observed points this near the arm at its start are the arm itself
_NEAR_M = 0.008  # obstacles this near to the destination are the destination
HELD_APART_M = 0.005  # what is held stays this much further from things than the arm: it may slip, and was seen once
_LANDS_WITHIN_M = 0.005  # a thing that is put down may end this far inside what it is put on, as that was measured
_BASE_RADIUS_M, _BASE_TOP_M = 0.11, 0.27  # of a cylinder that holds the base and the shoulder of the arm


def start_in_collision(hit: Hit, q: Array, limits: MotionLimits) -> StageFailure:
    """The arm, at `q` (6,) rad, already stands where it must not: said with the limit and the mend."""
    freely = "drive it free by hand, with freedrive on the pendant"
    box = f"{list(limits.workspace_min_m)} to {list(limits.workspace_max_m)} m"
    margin = f"(with {1e3 * INSIDE_M:.0f} mm to spare)"
    nears = f"(clearance {1e3 * limits.obstacle_clearance_m:.0f} mm)"
    what, mend = {
        "workspace": (
            f"a part of it is outside of the workspace {box} {margin}",
            f"{freely}, or correct [limits] workspace_min_m, workspace_max_m in the settings",
        ),
        "keep_out": (
            f"a part of it is in a keep-out zone {margin}",
            f"{freely}, or correct [limits] keep_out_m in the settings",
        ),
        "table": (
            f"it touches the table at z = {limits.table_z_m:g} m",
            f"{freely}, or correct [limits] table_z_m in the settings",
        ),
        "self": ("it touches itself", freely),
        "obstacle": (f"it touches or nears something that was seen {nears}", f"clear the space round it, or {freely}"),
        "target": (f"it touches or nears the object {nears}", freely),
    }[hit]
    return StageFailure(
        "plan",
        "planning.start_in_collision",
        f"the arm cannot start from here, joints {np.round(q, 2).tolist()}: {what}. Mend: {mend}",
        hit=hit,
    )


def sphere_centres(kinematics: ArmKinematics, q: Array, opening_m: float) -> Array:
    """(N, 3) centres of the arm's `link_spheres` in the base frame."""
    kinematics.set_opening(opening_m)
    kinematics.forward(q)
    data, spheres = kinematics.data, link_spheres(kinematics.arm)
    R = data.xmat.reshape(-1, 3, 3)[spheres.body]
    return np.einsum("nij,nj->ni", R, spheres.offset_m) + data.xpos[spheres.body]


class CollisionWorld:
    """The arm, a support plane and the observed points.

    obstacles, target: (N, 3) base-frame points. table_z_m: height of the support plane. start_q: where the arm was when
    the points were seen; those on the arm itself are dropped. spare_m: kept to points on top of the clearance.
    """

    def __init__(
        self,
        kinematics: ArmKinematics,
        limits: MotionLimits,
        obstacles: Array,
        target: Array,
        table_z_m: float,
        start_q: Array,
        spare_m: float = 0.0,
    ) -> None:
        self.kinematics, self.limits, self._spheres = kinematics, limits, link_spheres(kinematics.arm)
        self._clearance_m = limits.obstacle_clearance_m + spare_m
        self._lower, self._upper = np.array(limits.workspace_min_m), np.array(limits.workspace_max_m)
        kinematics.set_table(max(table_z_m, limits.table_z_m - limits.table_tolerance_m + INSIDE_M))
        centres = sphere_centres(kinematics, start_q, MAX_OPENING_M)
        seen = self._without_arm(obstacles, centres)  # before and after: no columns below it, none through it
        self.obstacles = PointSet(self._without_arm(solid(seen, table_z_m), centres))
        self.target = PointSet(self._without_arm(voxel_downsample(target, SPACING_M), centres))
        self.table_z_m, self._inside = table_z_m, PointSet(np.empty((0, 3)))
        self._held: PointSet | None = None
        self._held_floor_m = -np.inf
        hand = [kinematics.model.body(f"{PREFIX}wrist_3_link").id] + [
            i
            for i in range(kinematics.model.nbody)
            if kinematics.model.body(i).name.startswith(PREFIX + GRIPPER_PREFIX)
        ]
        self._before_hand = ~np.isin(self._spheres.body, hand)

    def lifting(self) -> CollisionWorld:
        """The same while the target is lifted: it is no longer where it was. What it stood near does not count, nor
        what is amid it and no higher: more of the target, most likely, which its mask left out, or things in it."""
        world, target, apart_m = self._without_target(-np.inf), self.target.points, self._held_apart_m
        world.obstacles = self.obstacles.apart_from(target, apart_m).not_amid(target, apart_m)
        return world

    def carrying(self) -> CollisionWorld:
        """The same while the target is carried about: it nears nothing."""
        return self._without_target(self.table_z_m + self._held_apart_m)

    def putting_down(self, inside: Array) -> CollisionWorld:
        """The same while the target is put down, or has been: it may come near to `inside` (N, 3) base frame, and the
        hand may, without touching it."""
        world = self._without_target(self.table_z_m - _LANDS_WITHIN_M)
        world._inside = PointSet(solid(inside, self.table_z_m))
        world.obstacles = self.obstacles.apart_from(world._inside.points, _NEAR_M)
        return world

    def holding(self, held: PointSet) -> CollisionWorld:
        """The same with something in the hand, its points in the tcp frame."""
        world = copy.copy(self)
        world._held = held
        return world

    def _without_target(self, floor_m: float) -> CollisionWorld:
        world = copy.copy(self)
        world.target, world._held_floor_m = PointSet(np.empty((0, 3))), floor_m
        return world

    @property
    def _held_apart_m(self) -> float:
        return self._clearance_m + HELD_APART_M

    def _without_arm(self, points: Array, centres: Array) -> Array:
        radii = self._spheres.radius_m + _SELF_SEEN_M
        lower, upper = (centres - radii[:, None]).min(0), (centres + radii[:, None]).max(0)
        near = np.flatnonzero(((points > lower) & (points < upper)).all(axis=1))
        on_arm = np.zeros(len(near), bool)
        for radius in np.unique(radii):  # the nearest centre may be that of a small sphere, not the nearest surface
            distance, _ = cKDTree(centres[radii == radius]).query(points[near], distance_upper_bound=radius)
            on_arm |= np.isfinite(distance)
        return np.delete(points, near[on_arm], axis=0)

    def hit(self, q: Array, opening_m: float, fingers_may_touch_target: bool = False) -> Hit | None:
        """What a posture collides with, None when it is free.

        q: (6,) rad. opening_m: of the fingers. fingers_may_touch_target: near the grasp, where they must.
        """
        centres = sphere_centres(self.kinematics, q, opening_m)
        reach = self._spheres.radius_m[:, None] + INSIDE_M
        if (centres - reach < self._lower).any() or (centres + reach > self._upper).any():
            return "workspace"
        if any(depth_in_box(centres, self._spheres.radius_m, box).max() > -INSIDE_M for box in self.limits.keep_out_m):
            return "keep_out"
        table_m, self_m = self.kinematics.gaps_m()
        if table_m < self.limits.table_clearance_m:
            return "table"
        if self_m < 0:
            return "self"
        radii = self._spheres.radius_m + self._clearance_m
        if self.obstacles.touched(centres, radii):
            return "obstacle"
        checked = ~self._spheres.finger if fingers_may_touch_target else slice(None)
        if self.target.touched(centres[checked], radii[checked]):
            return "target"
        if self._inside.touched(centres, self._spheres.radius_m):
            return "obstacle"
        return None if self._held is None else self._held_hit(self._held, centres, radii)

    def _held_hit(self, held: PointSet, centres: Array, radii: Array) -> Hit | None:
        """What the held object touches in the posture of the last `forward`."""
        T_base_tcp = self.kinematics.tcp_pose()
        points = transform_points(T_base_tcp, held.points)
        if points[:, 2].min(initial=np.inf) < self._held_floor_m:
            return "held_table"
        if self.obstacles.touched(points, np.full(len(points), self._held_apart_m)):
            return "held_obstacle"
        if any(depth_in_box(points, np.zeros(len(points)), box).max() > 0 for box in self.limits.keep_out_m):
            return "keep_out"
        in_base = (np.hypot(points[:, 0], points[:, 1]) < _BASE_RADIUS_M) & (points[:, 2] < _BASE_TOP_M)
        links = transform_points(invert(T_base_tcp), centres[self._before_hand])
        return "held_arm" if in_base.any() or held.touched(links, radii[self._before_hand]) else None

    def lands_free(self, points: Array) -> bool:
        """May an object's points (N, 3), where it is put down, base frame, be there? Against all but what it may near
        by the usual gap; and no deeper than _LANDS_WITHIN_M in what it is put on, or in the table."""
        if points[:, 2].min(initial=np.inf) < self.table_z_m - _LANDS_WITHIN_M:
            return False
        if self.obstacles.touched(points, np.full(len(points), self._held_apart_m)):
            return False
        keys, tops = highest(self._inside.points)
        own, bottoms = highest(points * [1, 1, -1])
        _, at, at_own = np.intersect1d(keys, own, return_indices=True)
        return not (-bottoms[at_own] < tops[at] - _LANDS_WITHIN_M).any()
