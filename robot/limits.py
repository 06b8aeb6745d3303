"""What the arm may do. Comes from the settings file only: no command of a person can widen it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

UR5E_MAX_JOINT_SPEED_RAD_S = 3.14
UR5E_MAX_TCP_SPEED_M_S = 1.0


@dataclass(frozen=True)
class MotionLimits:
    """Bounds of planned motions, in the base frame.

    workspace_min_m, workspace_max_m: box that the tcp and every sampled point of the moving links must stay in.
    table_clearance_m: least gap between any part of the arm and the support plane.
    obstacle_clearance_m: least gap between the arm and any observed point that is not the target.
    joint_speed_rad_s, joint_acceleration_rad_s2: per joint. approach_speed_m_s: tcp speed of the straight motions.
    lift_height_m: how far straight up after the grasp. pregrasp_distances_m: tried in turn, along the approach.
    planning_checks: most states one path search may test, which bounds its time and keeps its result independent of
    the machine's speed.

    Raises:
        ValueError: a bound that is not finite or positive, above what a UR5e can do, or an empty workspace.
    """

    workspace_min_m: tuple[float, float, float] = (-0.5, -0.85, -0.05)
    workspace_max_m: tuple[float, float, float] = (0.95, 0.85, 1.2)
    table_clearance_m: float = 0.001
    obstacle_clearance_m: float = 0.006
    joint_speed_rad_s: float = 1.05
    joint_acceleration_rad_s2: float = 2.0
    approach_speed_m_s: float = 0.1
    lift_height_m: float = 0.20
    pregrasp_distances_m: tuple[float, ...] = (0.10, 0.07, 0.05)
    planning_checks: int = 6000

    def __post_init__(self) -> None:
        if not (np.array(self.workspace_min_m) < np.array(self.workspace_max_m)).all():
            raise ValueError(
                f"workspace_min_m {self.workspace_min_m} must lie below workspace_max_m {self.workspace_max_m}"
            )
        for field in fields(self):
            if not field.name.startswith("workspace"):
                value = np.array(getattr(self, field.name))
                if value.size == 0 or not np.isfinite(value).all() or (value <= 0).any():
                    raise ValueError(f"{field.name} = {getattr(self, field.name)}, must be finite and above 0")
        for name, most in (
            ("joint_speed_rad_s", UR5E_MAX_JOINT_SPEED_RAD_S),
            ("approach_speed_m_s", UR5E_MAX_TCP_SPEED_M_S),
        ):
            if getattr(self, name) > most:
                raise ValueError(f"{name} = {getattr(self, name)} is above the UR5e's {most}; lower it in the settings")
