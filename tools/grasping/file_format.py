"""graspnetAPI's grasp files: a `.npy` of (N, 17) rows, read and written without that library.

Columns: 0 score, 1 width, 2 height, 3 depth, 4-12 rotation (row-major), 13-15 translation, 16 object id. There the
rotation's columns are x = approach, y = closing, z = x cross y, and the fingertips lie `depth` past the translation.
"""

from __future__ import annotations

import tokenize
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affordagent.core.geometry import Array, check_rigid, invert
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
        ValueError: not (N, 17), not finite, or a row without a right-handed rotation.
    """
    rows = _checked(rows)
    T = tip_poses(rows)
    T[:, :3, 3] -= gripper.tip_past_tcp_m(rows[:, 1])[:, None] * T[:, :3, 2]
    T = T if T_base_camera is None else T_base_camera @ T
    return [Grasp(pose, float(row[1]), float(row[0])) for pose, row in zip(T, rows, strict=True)]


def tip_poses(rows: Array) -> Array:
    """(N, 4, 4) poses amid the fingertips with the axes of a tcp (z = approach, y = closing axis), in the rows' frame.

    Raises:
        ValueError: not (N, 17), not finite, or a row without a right-handed rotation.
    """
    rows = _checked(rows)
    approach, closing, up = np.moveaxis(rows[:, 4:13].reshape(-1, 3, 3), -1, 0)
    T = np.tile(np.eye(4), (len(rows), 1, 1))
    T[:, :3, :3] = np.stack([-up, closing, approach], -1)
    T[:, :3, 3] = rows[:, 13:16] + rows[:, 3, None] * approach
    for i, pose in enumerate(T):
        check_rigid(pose, f"row {i}")
    return T


def read_rows(path: Path) -> Array:
    """The (N, 17) rows of a file.

    Raises:
        OSError: no such file.
        ValueError: not numbers, or no such grasps.
    """
    with path.open("rb") as file:
        try:
            rows = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError, tokenize.TokenError) as error:  # numpy's own words recommend to unpickle
            raise ValueError("it is no .npy file of numbers") from error
    if rows.dtype.kind not in "fiu":
        raise ValueError(f"it holds {rows.dtype}, numbers are expected")
    tip_poses(rows)
    return rows


def _checked(rows: Array) -> Array:
    rows = np.asarray(rows, float)
    if rows.ndim != 2 or rows.shape[1] != COLUMNS:
        raise ValueError(f"a grasp array has shape (N, {COLUMNS}), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("a grasp array holds NaN or infinity")
    return rows


def save_npy(path: Path, grasps: Sequence[Grasp], T_base_camera: Array | None = None) -> None:
    with path.open("wb") as file:  # np.save(path) would add .npy to another name
        np.save(file, to_array(grasps, T_base_camera))


def load_npy(path: Path, T_base_camera: Array | None = None) -> list[Grasp]:
    return from_array(read_rows(path), T_base_camera)
