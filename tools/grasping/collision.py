"""Does the open hand hit anything on its way? Boxes of the hand against the cloud of everything seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array
from affordagent.tools.depth_projection import voxel_downsample
from affordagent.tools.grasping.gripper import ParallelGripper

FINE_VOXEL_M, COARSE_VOXEL_M = 0.005, 0.011  # of the cloud that is held against the fingers, and against the palm
HIT_POINTS = 2  # so many points inside the hand are a hit: one alone is noise
CHUNK = 100  # poses looked at together, which bounds the memory
SKIN_M = 0.001  # points may reach this far into a box: surfaces that are merely touched


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
        scene = np.concatenate([solid, part])
        self._fine, self._coarse = (_Cloud(voxel_downsample(scene, v)) for v in (FINE_VOXEL_M, COARSE_VOXEL_M))
        self.table_z_m, self.gripper = table_z_m, gripper

    def hits_table(self, T_base_tcp: Array, opening_m: Array) -> NDArray[np.bool_]:
        """(G,) True where any corner of the hand's boxes lies below the table; T_base_tcp (G, 4, 4), opening_m (G,)."""
        half_x, _, y_out, low, high = np.moveaxis(self.gripper.boxes(opening_m), -1, 0)  # (G, B) each
        x, y, z = (T_base_tcp[:, 2, k, None] for k in range(3))
        height = T_base_tcp[:, 2, 3, None] - np.abs(x) * half_x - np.abs(y) * y_out + np.minimum(z * low, z * high)
        return np.asarray((height < self.table_z_m).any(1))

    def clearance_m(self, T_base_tcp: Array, opening_m: Array, up_to_m: float) -> Array:
        """(G,) distance of the scene to the hand's boxes (along their axes), at most `up_to_m`; negative = inside.

        T_base_tcp: (G, 4, 4), opening_m: (G,).
        """
        boxes, fingers = self.gripper.boxes(opening_m), len(self.gripper.boxes_from_tip)
        return np.minimum(
            self._fine.clearance_m(T_base_tcp, boxes[:, :fingers], up_to_m),
            self._coarse.clearance_m(T_base_tcp, boxes[:, fingers:], up_to_m),
        )

    def hits_scene(self, T_base_tcp: Array, opening_m: Array) -> NDArray[np.bool_]:
        """(G,) True where points of the scene lie inside the hand."""
        return np.asarray(self.clearance_m(T_base_tcp, opening_m, 0.0) < -SKIN_M)


class _Cloud:
    def __init__(self, points: Array) -> None:
        self.points = points.astype(np.float32)

    def clearance_m(self, T_base_tcp: Array, boxes: Array, up_to_m: float) -> Array:
        """(G,) distance of the points to boxes (G, B, 5), the HIT_POINTS-th nearest counting."""
        chunks = [slice(start, start + CHUNK) for start in range(0, len(T_base_tcp), CHUNK)]
        parts = [self._clearance_m(T_base_tcp[chunk], boxes[chunk], up_to_m) for chunk in chunks]
        return np.concatenate([np.zeros(0), *parts])

    def _clearance_m(self, T_base_tcp: Array, boxes: Array, up_to_m: float) -> Array:
        poses = len(T_base_tcp)
        middle = T_base_tcp[:, :3, 3].mean(0)
        reach = np.linalg.norm(T_base_tcp[:, :3, 3] - middle, axis=1).max() + np.abs(boxes[..., 2:]).max() + up_to_m
        points = (self.points - middle.astype(np.float32))[np.linalg.norm(self.points - middle, axis=1) < 1.5 * reach]
        origin = T_base_tcp[:, :3, 3] - middle

        def along(axis: int) -> NDArray[np.float32]:  # (G, N) tcp-frame coordinates
            direction = T_base_tcp[:, :3, axis]
            shift = np.einsum("gk,gk->g", origin, direction)
            return direction.astype(np.float32) @ points.T - shift[:, None].astype(np.float32)

        x, y, z = np.abs(along(0)), np.abs(along(1)), along(2)
        limits = boxes[..., 0].max(), boxes[..., 2].max(), boxes[..., 3].min(), boxes[..., 4].max()
        near = (x < limits[0] + up_to_m) & (y < limits[1] + up_to_m)
        near &= (z > limits[2] - up_to_m) & (z < limits[3] + up_to_m)
        pose = np.nonzero(near)[0]
        x, y, z = x[near], y[near], z[near]
        gap = np.full(len(pose), up_to_m)
        for b in range(boxes.shape[1]):
            half_x, y_in, y_out, z_low, z_high = (column[pose] for column in boxes[:, b].T)
            outside = np.maximum(
                np.maximum(x - half_x, np.maximum(y_in - y, y - y_out)), np.maximum(z_low - z, z - z_high)
            )
            np.minimum(gap, outside, out=gap)
        order = np.lexsort((gap, pose))
        rank = np.searchsorted(pose, np.arange(poses)) + HIT_POINTS - 1
        known = np.bincount(pose, minlength=poses) >= HIT_POINTS
        result = np.full(poses, up_to_m)
        result[known] = gap[order][rank[known]]
        return result
