"""A real cell: an arm of Universal Robots with its gripper, and a camera. The emulated controller counts as real."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from affordagent.core.geometry import rigid
from affordagent.core.types import Delivery, FunctionalQuery, GraspPlan, Mask, RgbdFrame, Verdict
from affordagent.robot.arms import flange_pose
from affordagent.robot.cameras.camera import Camera, fresh, open_camera
from affordagent.robot.cameras.config import CameraConfig
from affordagent.robot.gripper import NOTHING_HELD_M, open_gripper
from affordagent.robot.interface import ArmState
from affordagent.robot.limits import MotionLimits
from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD
from affordagent.robot.ur5.arm import UrArm
from affordagent.robot.ur5.config import Ur5Config

T_FLANGE_TCP = rigid(np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), [0.0, 0.0, 0.1638])
"""The tcp of a 2F-85 on its coupling: between the fingertips, y = closing (the flange's x), z = approach; metres."""

LIFT_SHORT_M = 0.03  # how much less than planned still counts as lifted
CODES = {  # check -> code of its failure, in the order of precedence
    "closed_on_something": "execution.no_contact",
    "still_held": "execution.drop",
    "lifted": "execution.tracking",
}
DELIVERY_CODES = {"let_go": "execution.gripper", "drew_back": "execution.tracking"}
OPENED_WITHIN_M = 0.005


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

    def judge(
        self, plan: GraspPlan, object_mask: Mask, query: FunctionalQuery, destination_mask: Mask | None = None
    ) -> Verdict:
        """What the cell's own sensors can tell: the fingers did not close fully, the gripper's detection has not let
        go, the hand is up; checks that the gripper has no sensor for are left out. Whether it is the right thing and
        part they cannot tell, nor where a delivered thing lies: after a delivery they see that the hand has let go and
        drawn back; that it held the thing until then was checked on the way."""
        state = self.arm.read()
        if plan.delivery is not None:
            return self._judge_delivery(plan.delivery, state)
        lift_m, planned_m = (
            float((flange_pose(self.config.model, q) @ T_FLANGE_TCP)[2, 3] - plan.grasp.T_base_tcp[2, 3])
            for q in (state.positions, plan.lift.positions[-1])
        )
        checks = {"lifted": lift_m >= planned_m - LIFT_SHORT_M}
        measured = {"lift_m": lift_m, "planned_width_m": plan.grasp.width_m}
        if not math.isnan(state.gripper_width_m):
            checks["closed_on_something"] = state.gripper_width_m >= NOTHING_HELD_M
            measured["width_m"] = state.gripper_width_m
        if state.holding is not None:
            checks["still_held"] = state.holding
        failed = [name for name in CODES if not checks.get(name, True)]
        rounded = {name: round(value, 5) for name, value in measured.items()}
        return Verdict(not failed, CODES[failed[0]] if failed else None, checks, rounded, "sensors")

    def _judge_delivery(self, there: Delivery, state: ArmState) -> Verdict:
        off_rad = float(np.abs(state.positions - there.retreat.positions[-1]).max())
        checks, measured = {"drew_back": off_rad <= GOAL_TOLERANCE_RAD}, {"off_rad": round(off_rad, 5)}
        if not math.isnan(state.gripper_width_m):
            checks["let_go"] = state.gripper_width_m >= there.opening_m - OPENED_WITHIN_M
            measured["width_m"] = round(state.gripper_width_m, 5)
        if state.holding:
            checks["let_go"] = False
        failed = [name for name in DELIVERY_CODES if not checks.get(name, True)]
        return Verdict(not failed, DELIVERY_CODES[failed[0]] if failed else None, checks, measured, "sensors")

    def save_video(self, path: Path) -> None:
        """The cell keeps no pictures of its motions."""
