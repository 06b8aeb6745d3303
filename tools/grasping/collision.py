"""Does the open hand hit anything on its way? Boxes of the hand against the cloud of everything seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from affordagent.core.geometry import Array
from affordagent.tools.grasping.completion import downsample
from affordagent.tools.grasping.gripper import ParallelGripper

SCENE_VOXEL_M = 0.005
HIT_POINTS = 2  # so many points inside a box are a hit: one alone is noise
SKIN_M = 0.001  # boxes shrink by this, for points on a surface that is merely touched


def drop_to_table(points: Array, table_z_m: float, step_m: float = 0.008) -> Array:
    """Points (N, 3) and copies of them straight down to the table: nothing is known to be free under what was seen."""
    if len(points) == 0:
        return points.reshape(0, 3)
    count = np.maximum(0, ((points[:, 2] - table_z_m) / step_m).astype(int))
    index = np.repeat(np.arange(len(points)), count)
    level = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count) + 1
    below = points[index] - np.c_[np.zeros((len(index), 2)), level * step_m]
    return np.concatenate([points, below])


class HandCollision:
    """The hand against a scene.

    solid: (N, 3) points of everything but the part to hold, already filled in below. part: (M, 3) the completed part.
    """

    def __init__(self, solid: Array, part: Array, table_z_m: float, gripper: ParallelGripper) -> None:
        cloud = downsample(np.concatenate([solid, part]), SCENE_VOXEL_M)[0]
        self.cloud, self.table_z_m, self.gripper = cloud, table_z_m, gripper
        self._tree = cKDTree(cloud) if len(cloud) else None

    def hits_table(self, T_base_tcp: Array, opening_m: Array) -> NDArray[np.bool_]:
        """(G,) True where any corner of the hand's boxes lies below the table."""
        lower, upper = self.gripper.boxes(opening_m)
        middle, half = (lower + upper) / 2, (upper - lower) / 2
        R = T_base_tcp[:, :3, :3]
        z = T_base_tcp[:, None, 2, 3] + np.einsum("gk,gbk->gb", R[:, 2], middle)
        lowest = z - np.einsum("gk,gbk->gb", np.abs(R[:, 2]), half)
        return np.asarray((lowest < self.table_z_m).any(1))

    def clearance_m(self, T_base_tcp: Array, opening_m: Array, up_to_m: float) -> Array:
        """(G,) distance of the scene to the hand's boxes (along their axes), at most `up_to_m`; negative = inside.

        T_base_tcp: (G, 4, 4), opening_m: (G,).
        """
        if self._tree is None or len(T_base_tcp) == 0:
            return np.full(len(T_base_tcp), up_to_m)
        grasp, local = self._nearby(T_base_tcp, opening_m, up_to_m)
        lower, upper = self.gripper.boxes(opening_m)
        gap = np.full(len(local), up_to_m)
        for b in range(lower.shape[1]):
            outside = np.maximum(lower[grasp, b] - local, local - upper[grasp, b]).max(1)
            np.minimum(gap, outside, out=gap)
        order = np.lexsort((gap, grasp))  # the second smallest of each grasp: one point alone is noise
        start = np.searchsorted(grasp[order], np.arange(len(T_base_tcp)))
        second = np.minimum(start + HIT_POINTS - 1, len(order) - 1)
        known = np.bincount(grasp, minlength=len(T_base_tcp)) >= HIT_POINTS
        return np.where(known, gap[order][second], up_to_m) if len(order) else np.full(len(T_base_tcp), up_to_m)

    def hits_scene(self, T_base_tcp: Array, opening_m: Array) -> NDArray[np.bool_]:
        """(G,) True where points of the scene lie inside the hand."""
        return np.asarray(self.clearance_m(T_base_tcp, opening_m, 0.0) < -SKIN_M)

    def _nearby(self, T_base_tcp: Array, opening_m: Array, margin_m: float) -> tuple[NDArray[np.int_], Array]:
        """Scene points within the hand's reach: grasp index (P,) and tcp-frame coordinates (P, 3)."""
        assert self._tree is not None
        lower, upper = self.gripper.boxes(opening_m)
        low, high = lower[..., 2].min(), upper[..., 2].max()
        centre = T_base_tcp[:, :3, 3] + (low + high) / 2 * T_base_tcp[:, :3, 2]
        radius = np.hypot((high - low) / 2, upper[..., 1].max()) + margin_m
        found = self._tree.query_ball_point(centre, radius)
        grasp = np.repeat(np.arange(len(found)), [len(f) for f in found])
        points = self.cloud[np.concatenate([np.asarray(f, int) for f in found])]
        local = points - T_base_tcp[grasp, :3, 3]
        return grasp, np.einsum("pk,pkj->pj", local, T_base_tcp[grasp, :3, :3])
