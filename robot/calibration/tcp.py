"""Where the tip of the tool is on the flange, by touching one point from several sides (the four-point method)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.calibration.hand_eye import MIN_ROTATION_DEG, poor, rotation_range_deg

MIN_TOUCHES = 4
MAX_TIP_RMS_MM = 2.0


@dataclass(frozen=True)
class Tip:
    """position_m: (3,) in the flange frame. point_m: (3,) the point touched, in the base frame. residuals_mm: (n,)
    distance of the tip from it at each touch."""

    position_m: Array
    point_m: Array
    residuals_mm: Array

    @property
    def rms_mm(self) -> float:
        return float(np.sqrt((self.residuals_mm**2).mean()))


def solve_tip(T_base_flange: Array) -> Tip:
    """(n, 4, 4) poses of the flange with the tip on one point -> the tip, by linear least squares: R p + t = c.

    Raises:
        StageFailure: ("look", "calibration.poor"): too few touches, too little rotation between them, or they do not
            meet in a point.
    """
    count = len(T_base_flange)
    if count < MIN_TOUCHES:
        raise poor(f"{count} touches, at least {MIN_TOUCHES} are needed, each from another side")
    turned = rotation_range_deg(T_base_flange[:, :3, :3])
    if turned[1] < MIN_ROTATION_DEG:
        raise poor(
            f"the tool turned by {turned[0]:.0f} and {turned[1]:.0f} degrees between the touches, at least "
            f"{MIN_ROTATION_DEG:.0f} about two axes are needed: touch with the tool tilted to all sides by 30 degrees"
        )
    R, t = T_base_flange[:, :3, :3], T_base_flange[:, :3, 3]
    rows = np.concatenate([R, np.broadcast_to(-np.eye(3), R.shape)], axis=2).reshape(-1, 6)
    found, *_ = np.linalg.lstsq(rows, -t.ravel(), rcond=None)
    tip = Tip(found[:3], found[3:], 1000 * np.linalg.norm(R @ found[:3] + t - found[3:], axis=1))
    if tip.rms_mm > MAX_TIP_RMS_MM:
        raise poor(
            f"the touches miss each other by {tip.rms_mm:.1f} mm (rms), limit {MAX_TIP_RMS_MM:.0f} mm: touch a sharp "
            f"point that does not move; touch {int(np.argmax(tip.residuals_mm)) + 1} is the worst"
        )
    return tip
