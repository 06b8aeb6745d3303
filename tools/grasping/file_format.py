"""graspnetAPI's grasp files: a `.npy` of (N, 17) rows, read and written without that library.

Columns: 0 score, 1 width, 2 height, 3 depth, 4-12 rotation (row-major), 13-15 translation, 16 object id. There the
rotation's columns are x = approach, y = closing, z = x cross y, and the fingertips lie `depth` past the translation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affordagent.core.geometry import Array, check_rigid, invert, rigid
from affordagent.core.types import Grasp
from affordagent.tools.grasping.gripper import ROBOTIQ_2F85, ParallelGripper

COLUMNS = 17
DEPTH_M = 0.02  # a depth graspnetAPI's own models use; the pose is shifted accordingly


def to_array(
    grasps: Sequence[Grasp], T_base_camera: Array | None = None, gripper: ParallelGripper = ROBOTIQ_2F85
) -> Array:
    """(N, 17) float64 rows in the camera frame, or in the base frame without `T_base_camera`."""
    rows = np.zeros((len(grasps), COLUMNS))
    for row, grasp in zip(rows, grasps, strict=True):
        T = grasp.T_base_tcp if T_base_camera is None else invert(T_base_camera) @ grasp.T_base_tcp
        x, y, z = T[:3, :3].T
        row[:4] = grasp.score, grasp.width_m, gripper.pad_width_m, DEPTH_M
        row[4:13] = np.stack([z, y, -x], axis=1).ravel()
        row[13:16] = T[:3, 3] + (gripper.tip_past_tcp_m(grasp.width_m) - DEPTH_M) * z
        row[16] = -1
    return rows


def from_array(rows: Array, T_base_camera: Array | None = None, gripper: ParallelGripper = ROBOTIQ_2F85) -> list[Grasp]:
    """The inverse of `to_array`.

    Raises:
        ValueError: not (N, 17), or a row without a right-handed rotation.
    """
    rows = np.asarray(rows, float)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS:
        raise ValueError(f"a grasp array has shape (N, {COLUMNS}), got {rows.shape}")
    grasps = []
    for i, row in enumerate(rows):
        approach, closing, up = row[4:13].reshape(3, 3).T
        tip = float(gripper.tip_past_tcp_m(row[1]))
        T = rigid(np.stack([-up, closing, approach], axis=1), row[13:16] + (row[3] - tip) * approach)
        T = check_rigid(T, f"row {i}")
        grasps.append(Grasp(T if T_base_camera is None else T_base_camera @ T, float(row[1]), float(row[0])))
    return grasps


def save_npy(path: Path, grasps: Sequence[Grasp], T_base_camera: Array | None = None) -> None:
    np.save(path, to_array(grasps, T_base_camera))


def load_npy(path: Path, T_base_camera: Array | None = None) -> list[Grasp]:
    return from_array(np.load(path, allow_pickle=False), T_base_camera)
