"""What the arm may do. Comes from the settings file only: no command of a person can widen it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from affordagent.robot.arms import ARMS, ArmName

Corner = tuple[float, float, float]
Box = tuple[Corner, Corner]  # lower and upper corner, base frame, metres
_BOUNDS = {  # lowest and highest value of each number
    "table_clearance_m": (1e-6, 0.1),
    "table_tolerance_m": (0.001, 0.05),
    "obstacle_clearance_m": (1e-6, 0.2),
    "joint_speed_rad_s": (1e-6, 3.14),
    "joint_acceleration_rad_s2": (1e-6, 20.0),
    "approach_speed_m_s": (1e-6, 1.0),
    "tcp_speed_m_s": (1e-6, 1.0),
    "tcp_force_n": (10.0, 250.0),
    "gripper_force_n": (20.0, 235.0),  # of a Robotiq 2F-85: its data sheet
    "payload_kg": (0.01, 12.5),
    "min_manipulability": (1e-6, 0.3),
    "motion_s": (1.0, 3600.0),
    "lift_height_m": (1e-6, 1.0),
    "pregrasp_distances_m": (1e-6, 0.5),
    "planning_checks": (1, 1_000_000),
}
_WIDEST_M = 3.0  # of a coordinate: beyond the reach of every arm


@dataclass(frozen=True)
class MotionLimits:
    """Bounds of motions, in the base frame. The planner keeps them and `robot.safety` refuses what does not.

    workspace_min_m, workspace_max_m: box that every moving part of the arm must stay in. keep_out_m: boxes, each its
    lower and upper corner, that no moving part may enter.
    table_z_m: height of the support plane, which nothing may go below, not even where the camera sees it lower;
    table_tolerance_m: by how much this may be wrong. table_clearance_m: least gap between any part of the arm and the
    support plane. obstacle_clearance_m: least gap between the arm and any observed point that is not the target.
    joint_speed_rad_s, joint_acceleration_rad_s2: per joint. tcp_speed_m_s: of any motion; approach_speed_m_s: of the
    straight ones. min_manipulability: of the straight ones, see `ArmKinematics.manipulability`.
    motion_s: longest single motion. tcp_force_n: a stronger push on the tcp stops the arm, where it measures forces.
    gripper_force_n: of the closing fingers. payload_kg: what may be lifted, the gripper not counted.
    lift_height_m: how far straight up after the grasp. pregrasp_distances_m: tried in turn, along the approach.
    planning_checks: most states one path search may test, which bounds its time and keeps its result independent of
    the machine's speed.

    Raises:
        ValueError: a bound that is not finite, out of its range, or a box that is empty.
    """

    workspace_min_m: Corner = (-0.5, -0.85, -0.05)
    workspace_max_m: Corner = (0.95, 0.85, 1.2)
    keep_out_m: tuple[Box, ...] = ()
    table_z_m: float = 0.0
    table_tolerance_m: float = 0.01
    table_clearance_m: float = 0.001
    obstacle_clearance_m: float = 0.006
    joint_speed_rad_s: float = 1.05
    joint_acceleration_rad_s2: float = 2.0
    tcp_speed_m_s: float = 1.0
    approach_speed_m_s: float = 0.1
    min_manipulability: float = 0.02
    motion_s: float = 30.0
    tcp_force_n: float = 80.0
    gripper_force_n: float = 60.0
    payload_kg: float = 2.0
    lift_height_m: float = 0.20
    pregrasp_distances_m: tuple[float, ...] = (0.10, 0.07, 0.05)
    planning_checks: int = 6000

    def __post_init__(self) -> None:
        _check_box("workspace_min_m, workspace_max_m", (self.workspace_min_m, self.workspace_max_m))
        for i, box in enumerate(self.keep_out_m):
            _check_box(f"keep_out_m[{i}]", box)
        for name, (low, high) in _BOUNDS.items():
            value = np.array(getattr(self, name), float)
            if not value.size or not ((value >= low) & (value <= high)).all():
                raise ValueError(f"{name} = {getattr(self, name)}, must lie between {low:g} and {high:g}")
        if not self.workspace_min_m[2] <= self.table_z_m <= self.workspace_max_m[2]:
            heights = self.workspace_min_m[2], self.workspace_max_m[2]
            raise ValueError(f"table_z_m = {self.table_z_m} is outside the workspace's heights {heights}")
        if self.approach_speed_m_s > self.tcp_speed_m_s:
            raise ValueError(
                f"approach_speed_m_s = {self.approach_speed_m_s} is above tcp_speed_m_s = {self.tcp_speed_m_s}: "
                "lower it"
            )

    def check_arm(self, model: ArmName, gripper_kg: float) -> None:
        """Are these limits within what the arm can do?

        Raises:
            ValueError: faster or heavier than its data sheet allows; names the value, the limit and the mend.
        """
        facts = ARMS[model]
        most_rad_s = min(facts.joint_speed_rad_s)
        if self.joint_speed_rad_s > most_rad_s:
            raise ValueError(
                f"joint_speed_rad_s = {self.joint_speed_rad_s} is above the {model}'s {most_rad_s:.2f}: lower it"
            )
        if self.payload_kg + gripper_kg > facts.payload_kg:
            raise ValueError(
                f"payload_kg = {self.payload_kg} and a gripper of {gripper_kg} kg are above the {model}'s "
                f"{facts.payload_kg} kg: lower payload_kg"
            )

    def at_speed(self, share: float) -> MotionLimits:
        """The same limits with time stretched: the same plan takes 1 / share as long.

        Speeds shrink by `share`, accelerations by its square, and `motion_s` grows with the time the motions take.

        Raises:
            ValueError: `share` is not in (0, 1].
        """
        if not 0 < share <= 1:
            raise ValueError(f"speed = {share}, must lie above 0 and at most 1")
        return replace(
            self,
            joint_speed_rad_s=share * self.joint_speed_rad_s,
            joint_acceleration_rad_s2=share**2 * self.joint_acceleration_rad_s2,
            tcp_speed_m_s=share * self.tcp_speed_m_s,
            approach_speed_m_s=share * self.approach_speed_m_s,
            motion_s=min(self.motion_s / share, _BOUNDS["motion_s"][1]),
        )


def _check_box(name: str, box: Box) -> None:
    corners = np.array(box, float)
    if not (np.abs(corners) <= _WIDEST_M).all():
        raise ValueError(f"{name} = {box}, coordinates must lie between -{_WIDEST_M:g} and {_WIDEST_M:g} m")
    if not (corners[0] < corners[1]).all():
        raise ValueError(f"{name} = {box}, the first corner must lie below the second")
