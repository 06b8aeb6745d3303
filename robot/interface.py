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
    """What the arm last said of itself.

    positions: (6,) rad. gripper_width_m: opening between the pads. stamp_s: the arm's own clock when it was measured.
    age_s: how old it was when it was handed out. holding: the gripper's own object detection, None where it has none.
    tcp_force_n: (3,) force on the tcp in the base frame, None where the arm does not measure it.
    """

    positions: Array
    gripper_width_m: float
    stamp_s: float
    age_s: float = 0.0
    holding: bool | None = None
    tcp_force_n: Array | None = None


@dataclass(frozen=True)
class MotionResult:
    """What happened to a motion command.

    reached: it ended as it should; otherwise `code` (an `execution.*` or `safety.*` code) and `message` say why and the
    arm stands. state: at its end, or the last one known. max_error_rad: distance from the goal at its end.
    """

    reached: bool
    state: ArmState
    max_error_rad: float = 0.0
    code: str | None = None
    message: str = ""


class Arm(Protocol):
    """Sends motions and reports what happened; safety checks live above it (`robot.safety`).

    Commands block until the motion has ended, and answer with what happened; they raise nothing for what goes wrong on
    the way. `phase` names the step for logs.
    """

    def make_ready(self) -> list[str]:
        """Called before each command: forget an earlier stop and mend what can be mended without a person. Returns what
        was mended, for the record.

        Raises:
            StageFailure: ("execute", `execution.*`): a person is needed; evidence["steps"] says what to do.
        """
        ...

    def read(self) -> ArmState:
        """The present state.

        Raises:
            StageFailure: ("execute", "execution.comms"): the last state is too old to act on.
        """
        ...

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult: ...

    def grip(self, width_m: float, phase: str) -> MotionResult:
        """Drive the fingers to an opening (0 = close with the set force) and wait until they rest, there or on what is
        between them."""
        ...

    def wait(self, duration_s: float, phase: str) -> MotionResult: ...

    def stop(self) -> None:
        """From any thread and at any time: the motion under way ends at once and none begins until `make_ready`."""
        ...


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

    def look_again(self) -> RgbdFrame:
        """A picture after a motion, to see what came of it; the arm may be in it."""
        ...

    def judge(
        self, plan: GraspPlan, object_mask: Mask, query: FunctionalQuery, destination_mask: Mask | None = None
    ) -> Verdict | None:
        """The truth about the motion, since the last `look`, against what was wanted; None in a cell that cannot know
        it, where the sensors have the last word (`tools.outcome`). destination_mask: of the thing that it was to be put
        into, onto or beside; blank = the table, None = nowhere."""
        ...

    def save_video(self, path: Path) -> None:
        """Write the pictures of the motion, where the cell keeps any; otherwise do nothing."""
        ...


READY_Q = np.array([np.pi, -1.9, 1.6, -1.27, -np.pi / 2, 0.0])  # tcp pointing down in front of the robot, rad
LOOK_Q = READY_Q - np.array([1.75, 0, 0, 0, 0, 0])  # turned aside, out of the view of the cell's camera
