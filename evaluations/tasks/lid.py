"""Where a lid goes: its middle over the middle of the jar's rim."""

from __future__ import annotations

import cv2
import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, rigid
from affordagent.core.types import DeliveryGoal, PartCloud
from affordagent.robot.sim.objects.shapes import rot_z

RELEASE_M = 0.003  # above the rim
_RIM_M = 0.006
_TURNS_RAD = np.deg2rad([0.0, 45, -45, 90, -90, 135, -135, 180])
_LEAST_POINTS = 20


def lid_goal(lid: PartCloud, jar: Array) -> DeliveryGoal:
    """Ways to lay the lid on a jar seen as (N, 3) points, base frame; a round lid may be turned as it likes.

    Raises:
        StageFailure: ("plan", "depth.noisy"): too few points on the jar's rim.
    """
    high_m = float(np.percentile(jar[:, 2], 99))
    rim = jar[jar[:, 2] > high_m - _RIM_M]
    if len(rim) < _LEAST_POINTS:
        message = f"{len(rim)} points on the rim of the jar, at least {_LEAST_POINTS} are needed: bring it nearer"
        raise StageFailure("plan", "depth.noisy", message, points=len(rim))
    there, here = _middle(rim), _middle(lid.object)
    up_m = high_m + RELEASE_M - lid.table_z_m
    moves = []
    for turn in _TURNS_RAD:
        R = rot_z(float(turn))
        moves.append(rigid(R, np.append(there, up_m) - R @ np.append(here, 0.0)))
    return DeliveryGoal("place", np.stack(moves), jar)


def _middle(points: Array) -> Array:
    """(2,) of the circle round points, seen from above."""
    centre, _ = cv2.minEnclosingCircle(np.ascontiguousarray(points[:, :2], np.float32))
    return np.array(centre)
