"""Postures so close to each other along a path that nothing is missed between them."""

from __future__ import annotations

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.arms import ArmName
from affordagent.robot.kinematics import chain_of

_AROUND_M = 0.35  # half the side of a cube round each joint's frame: together they hold the arm and what it holds
_CORNERS_M = np.array([[x, y, z, 1 / _AROUND_M] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * _AROUND_M
_GRID_RAD = 0.05


def densely(waypoints: Array, step_m: float, arm: ArmName = "UR5e") -> Array:
    """(N, 6) waypoints of straight joint segments -> (M, 6) along them, with the first and the last, between which no
    point of the arm, or of what it holds, moves further than `step_m`."""
    counts = np.maximum(1, np.ceil(np.abs(np.diff(waypoints, axis=0)).max(axis=1) / _GRID_RAD)).astype(int)
    knots = np.concatenate([[0.0], np.cumsum(counts)])
    grid = np.stack([np.interp(np.arange(knots[-1] + 1), knots, column) for column in waypoints.T], axis=1)
    corners = np.einsum("tkab,cb->tkca", chain_of(arm).links(grid), _CORNERS_M)[..., :3]
    moved = np.linalg.norm(np.diff(corners, axis=0), axis=3).max(axis=(1, 2))
    travelled = np.concatenate([[0.0], np.cumsum(moved)])
    at = np.linspace(0, travelled[-1], int(np.ceil(travelled[-1] / step_m)) + 1)
    return np.stack([np.interp(at, travelled, column) for column in grid.T], axis=1)
