"""Is a posture of the arm free? Self and table contacts come from MuJoCo on the arm-only model; the observed points
are compared with spheres sampled inside the links, the gripper and the fingers at their opening."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.link_spheres import depth_in_box, link_spheres
from affordagent.robot.model import MAX_OPENING_M
from affordagent.tools.depth_projection import voxel_downsample
from affordagent.tools.grasping.collision import drop_to_table

Hit = Literal["self", "table", "workspace", "keep_out", "obstacle", "target"]
INSIDE_M = 0.002  # this much further inside the limits than `robot.safety` asks for, which looks more closely
_POINT_SPACING_M = 0.005  # observed points are thinned to one per such cube
_SELF_SEEN_M = 0.03  # observed points this near the arm at its start are the arm itself


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


def solid(points: Array, table_z_m: float) -> Array:
    """(N, 3) -> (M, 3) thinned points and what may be below them: a camera sees the tops of things only."""
    thinned = voxel_downsample(points, _POINT_SPACING_M)
    return voxel_downsample(drop_to_table(thinned, table_z_m), _POINT_SPACING_M)


class _Points:
    """A point set that answers how near a sphere is, quickly when none is."""

    def __init__(self, points: Array) -> None:
        self.points = points
        self._tree = cKDTree(points) if len(points) else None
        if self._tree is not None:
            self._lower, self._upper = points.min(0), points.max(0)

    def touched(self, centres: Array, radii: Array) -> bool:
        """Is any point inside any of the spheres?"""
        if self._tree is None:
            return False
        reach = radii[:, None]
        near = ((centres > self._lower - reach) & (centres < self._upper + reach)).all(axis=1)
        if not near.any():
            return False
        distance, _ = self._tree.query(centres[near], distance_upper_bound=float(radii[near].max()))
        return bool((distance < radii[near]).any())


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
    the points were seen; those on the arm itself are dropped.
    """

    def __init__(
        self,
        kinematics: ArmKinematics,
        limits: MotionLimits,
        obstacles: Array,
        target: Array,
        table_z_m: float,
        start_q: Array,
    ) -> None:
        self.kinematics, self.limits, self._spheres = kinematics, limits, link_spheres(kinematics.arm)
        self._lower, self._upper = np.array(limits.workspace_min_m), np.array(limits.workspace_max_m)
        kinematics.set_table(max(table_z_m, limits.table_z_m - limits.table_tolerance_m + INSIDE_M))
        centres = sphere_centres(kinematics, start_q, MAX_OPENING_M)
        seen = self._without_arm(obstacles, centres)  # before and after: no columns below it, none through it
        self.obstacles = _Points(self._without_arm(solid(seen, table_z_m), centres))
        self.target = _Points(self._without_arm(voxel_downsample(target, _POINT_SPACING_M), centres))

    def _without_arm(self, points: Array, centres: Array) -> Array:
        if not len(points):
            return points
        tree = cKDTree(centres)
        distance, index = tree.query(points)
        return points[distance > self._spheres.radius_m[index] + _SELF_SEEN_M]

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
        radii = self._spheres.radius_m + self.limits.obstacle_clearance_m
        if self.obstacles.touched(centres, radii):
            return "obstacle"
        checked = ~self._spheres.finger if fingers_may_touch_target else slice(None)
        return "target" if self.target.touched(centres[checked], radii[checked]) else None
