"""What a motion is, and how near to its ends an arm must be: the same for every driver and for the safety layer.

Imports nothing but numpy, since the driver's process must start quickly.
"""

from __future__ import annotations

import numpy as np

START_TOLERANCE_RAD = 0.05  # a motion starts where the arm is
GOAL_TOLERANCE_RAD = 0.02  # an arm that has reached its goal is this near


def malformed(positions: np.ndarray, times_s: np.ndarray) -> str | None:
    """Why these are no (N, 6) joints in rad at (N,) times in s that rise from 0, N of 2 or more; None if they are."""
    if positions.ndim != 2 or positions.shape[1] != 6 or len(positions) < 2 or times_s.shape != (len(positions),):
        return f"positions are {positions.shape} and times {times_s.shape}, not (N, 6) and (N,) with N of 2 or more"
    if not (np.isfinite(positions).all() and np.isfinite(times_s).all()):
        return "positions or times are not finite"
    if times_s[0] != 0 or not (np.diff(times_s) > 0).all():
        return "times do not rise strictly from 0"
    return None
