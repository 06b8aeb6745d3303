"""A real cell: an arm of Universal Robots with its gripper, and a camera. The emulated controller counts as real."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from affordagent.core.geometry import rigid
from affordagent.core.types import FunctionalQuery, GraspPlan, Mask, RgbdFrame, Verdict
from affordagent.robot.cameras.camera import Camera, fresh, open_camera
from affordagent.robot.cameras.config import CameraConfig
from affordagent.robot.gripper import open_gripper
from affordagent.robot.limits import MotionLimits
from affordagent.robot.ur5.arm import UrArm
from affordagent.robot.ur5.config import Ur5Config

T_FLANGE_TCP = rigid(np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), [0.0, 0.0, 0.1638])
"""The tcp of a 2F-85 on its coupling: between the fingertips, y = closing (the flange's x), z = approach; metres."""


class Ur5Cell:
    """`robot.interface.Cell` on a controller.

    host: of the controller. limits: from the settings; what they mean for motions is enforced by `robot.safety`.
    read_only: for a dry run, see `UrArm`.

    Raises:
        StageFailure, AffordAgentError: by `with`: the arm, the gripper or the camera cannot be reached, see `UrArm` and
            `open_camera`.
    """

    is_hardware = True

    def __init__(
        self, host: str, config: Ur5Config, camera: CameraConfig, limits: MotionLimits, read_only: bool = False
    ) -> None:
        self.name = f"ur5:{host}"
        self.host, self.config, self.camera_config, self.limits = host, config, camera, limits
        gripper = open_gripper(
            config.gripper, host, lambda pin, on: self.arm.set_output(pin, on), config.gripper_counts
        )
        self.arm = UrArm(host, config, gripper, T_FLANGE_TCP, limits.tcp_force_n, limits.gripper_force_n, read_only)
        self._camera: Camera | None = None
        self._open = ExitStack()

    def __enter__(self) -> Ur5Cell:
        with ExitStack() as stack:
            stack.enter_context(self.arm)
            self._camera = stack.enter_context(open_camera(self.camera_config, self.host, self.arm, self.config.model))
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def look(self) -> RgbdFrame:
        """A picture taken now, with the camera's pose.

        Raises:
            StageFailure: ("look", code): camera.stale, calibration.missing, or another of `cameras.camera`.
        """
        if self._camera is None:
            raise RuntimeError("the cell is not open: use it in a with statement")
        return fresh(self._camera.look(), self.camera_config.stale_s)

    def look_again(self) -> RgbdFrame:
        """As `look`."""
        return self.look()

    def judge(
        self, plan: GraspPlan, object_mask: Mask, query: FunctionalQuery, destination_mask: Mask | None = None
    ) -> Verdict | None:
        """Nobody knows the truth here: the sensors' verdict counts, see `tools.outcome`."""
        return None

    def save_video(self, path: Path) -> None:
        """The cell keeps no pictures of its motions."""
