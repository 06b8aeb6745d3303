"""Rigid transforms as (4, 4) float64 arrays.

`T_a_b` maps coordinates of frame b to frame a, so `T_a_b @ T_b_c = T_a_c`. Frames: `base` (UR base, z up,
table surface near z = 0), `camera` (OpenCV: x right, y down, z forward), `tcp` (between the fingertip pads:
z = approach, y = closing axis, x = y cross z). Metres and radians throughout.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]


def rigid(rotation: ArrayLike, translation_m: ArrayLike) -> Array:
    """(4, 4) transform from a (3, 3) rotation and a (3,) translation."""
    T = np.eye(4)
    T[:3, :3] = rotation
    T[:3, 3] = translation_m
    return T


def invert(T: Array) -> Array:
    """Inverse of rigid transforms (..., 4, 4)."""
    R_transposed = np.swapaxes(T[..., :3, :3], -1, -2)
    out = np.zeros_like(T)
    out[..., :3, :3] = R_transposed
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", R_transposed, T[..., :3, 3])
    out[..., 3, 3] = 1.0
    return out


def with_exact_rotation(T: Array) -> Array:
    """A rigid transform whose rotation is off by rounding, with the nearest rotation in its place."""
    return rigid(Rotation.from_matrix(T[:3, :3]).as_matrix(), T[:3, 3])


def transform_points(T_a_b: Array, points_b: ArrayLike) -> Array:
    """(N, 3) points of frame b in frame a."""
    points = np.asarray(points_b, dtype=np.float64)
    return points @ T_a_b[:3, :3].T + T_a_b[:3, 3]


def rotation_angle(R: Array) -> float:
    """Angle of a (3, 3) rotation, radians in [0, pi]."""
    return float(np.arccos(np.clip((np.trace(R) - 1) / 2, -1.0, 1.0)))


def check_rigid(T: ArrayLike, name: str, tolerance: float = 1e-3) -> Array:
    """Return `T` as a (4, 4) float64 rigid transform.

    Raises:
        ValueError: wrong shape, NaN or inf, or not a right-handed rotation within `tolerance`.
    """
    array = np.asarray(T, dtype=np.float64)
    if array.shape != (4, 4):
        raise ValueError(f"{name} must be a 4x4 matrix, got shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity: {array.tolist()}")
    if np.abs(array[3] - [0, 0, 0, 1]).max() > tolerance:
        raise ValueError(f"{name} must end with the row [0, 0, 0, 1], got {array[3].tolist()}")
    R = array[:3, :3]
    off = float(np.abs(R @ R.T - np.eye(3)).max())
    if off > tolerance or np.linalg.det(R) < 0:
        raise ValueError(f"{name} has no right-handed rotation: |R R^T - 1| = {off:.3g}, limit {tolerance}")
    return array


def look_at(eye: ArrayLike, target: ArrayLike, up: ArrayLike = (0.0, 0.0, 1.0)) -> Array:
    """T_world_camera (OpenCV axes) of a camera at `eye` that looks at `target` with image-up near `up`."""
    eye_m, z = np.asarray(eye, float), np.asarray(target, float) - np.asarray(eye, float)
    z = z / np.linalg.norm(z)
    x = np.cross(z, np.asarray(up, float))
    if np.linalg.norm(x) < 1e-6:
        x = np.cross(z, [0.0, 1.0, 0.0])
    x = x / np.linalg.norm(x)
    return rigid(np.stack([x, np.cross(z, x), z], axis=1), eye_m)
