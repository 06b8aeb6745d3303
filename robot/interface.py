"""What a cell is: a camera and, perhaps, an arm with a gripper. The simulator and the real UR5 implement the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from affordagent.core.geometry import Array
from affordagent.core.types import FunctionalQuery, GraspPlan, JointTrajectory, Mask, RgbdFrame, Verdict


@dataclass(frozen=True)
class ArmState:
    """positions: (6,) rad. gripper_width_m: opening between the pads. stamp_s: when it was read."""

    positions: Array
    gripper_width_m: float
    stamp_s: float


@dataclass(frozen=True)
class MotionResult:
    """What happened to a motion command. reached: within tolerance of the goal; max_error_rad: at its end."""

    reached: bool
    max_error_rad: float
    code: str | None = None  # an `execution.*` code when it did not
    message: str = ""


class Arm(Protocol):
    """Sends motions and reports what happened; safety checks live above it."""

    def read(self) -> ArmState: ...

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult: ...

    def grip(self, width_m: float, phase: str) -> ArmState:
        """Drive the fingers to an opening (0 = close with the set force) and wait until they rest."""
        ...

    def wait(self, duration_s: float, phase: str) -> None: ...

    def stop(self) -> None: ...


class Cell(Protocol):
    """A work cell. `with cell:` connects and always disconnects. arm is None where there is only a camera."""

    @property
    def name(self) -> str: ...

    @property
    def is_hardware(self) -> bool: ...

    @property
    def arm(self) -> Arm | None: ...

    def __enter__(self) -> Cell: ...

    def __exit__(self, *exc: object) -> None: ...

    def look(self) -> RgbdFrame: ...

    def judge(self, plan: GraspPlan, object_mask: Mask, query: FunctionalQuery) -> Verdict:
        """Compare the cell after the motion with what was wanted."""
        ...

    def save_video(self, path: Path) -> None:
        """Write the pictures of the motion, where the cell keeps any; otherwise do nothing."""
        ...


READY_Q = np.array([np.pi, -1.9, 1.6, -1.27, -np.pi / 2, 0.0])  # tcp pointing down in front of the robot, rad
LOOK_Q = READY_Q - np.array([1.75, 0, 0, 0, 0, 0])  # turned aside, out of the view of the cell's camera
