"""A camera with its calibration: frames say where the camera was in the base frame when the picture was taken."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Protocol, Self

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.types import RgbdFrame
from affordagent.robot.arms import ArmName, flange_pose
from affordagent.robot.calibration.file import Calibration
from affordagent.robot.cameras.camera import Camera
from affordagent.robot.interface import ArmState

AT_REST_RAD = 0.001  # between two readings around the picture: 0.9 mm at full reach
NEWER_WITHIN_S = 1.0  # pictures from files come at their own pace
_CLOCK_TICK_S, _POLL_S = 0.02, 0.02  # stamps of files are that coarse


class ArmReader(Protocol):
    """Whoever knows where the arm is: an `Arm`, or `calibration.watch.ArmWatch`."""

    def read(self) -> ArmState: ...


def look_at_rest(camera: Camera, arm: ArmReader) -> tuple[RgbdFrame, Array]:
    """A picture, and the joints (6,) rad at which the arm rested right before and right after it.

    Raises:
        StageFailure: ("look", code): those of the camera, camera.moving (the arm moved around the picture),
            camera.stale (it was taken before the arm was asked).
    """
    before, asked_s = arm.read(), time.time()
    frame = camera.look()
    while frame.stamp_s < asked_s - _CLOCK_TICK_S and time.time() < asked_s + NEWER_WITHIN_S:
        time.sleep(_POLL_S)
        frame = camera.look()
    moved_rad = float(np.abs(arm.read().positions - before.positions).max())
    if moved_rad > AT_REST_RAD:
        raise StageFailure(
            "look",
            "camera.moving",
            f"the arm moved by {moved_rad:.4f} rad around the picture, limit {AT_REST_RAD}: look when it rests",
            moved_rad=moved_rad,
        )
    if frame.stamp_s < asked_s - _CLOCK_TICK_S:
        raise StageFailure(
            "look",
            "camera.stale",
            f"the picture is {asked_s - frame.stamp_s:.2f} s older than the arm's pose, and no newer one came within "
            f"{NEWER_WITHIN_S:g} s: it must be taken after the arm has come to rest",
        )
    return frame, before.positions


class _Wrapped:
    """A camera that opens, closes and is named as the one it takes its frames from."""

    def __init__(self, source: Camera) -> None:
        self._source = source

    @property
    def serial(self) -> str:
        return self._source.serial

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._source.__exit__(*exc)


class MountedCamera(_Wrapped):
    """Eye to hand: T_base_camera is the calibration's. Eye in hand: the arm's pose by its joints, read right before and
    right after the picture, times the calibration's T_flange_camera.

    Raises:
        StageFailure: ("look", "calibration.pose"): the arm is another model than the calibrated one, or is not there.
    """

    def __init__(
        self, source: Camera, calibration: Calibration, arm: ArmReader | None, model: ArmName | None = None
    ) -> None:
        if model is not None and model != calibration.arm:
            raise StageFailure(
                "look",
                "calibration.pose",
                f"the camera was calibrated on a {calibration.arm}, the settings say {model}: correct [ur5] model, or "
                "calibrate on this arm",
            )
        if calibration.kind == "eye_in_hand" and arm is None:
            raise StageFailure("look", "calibration.pose", "the camera sits on the flange, and there is no arm to ask")
        super().__init__(source)
        self._calibration, self._arm = calibration, arm

    def look(self) -> RgbdFrame:
        """
        Raises:
            StageFailure: ("look", code): those of the camera, calibration.intrinsics (another camera than calibrated),
                camera.moving (the arm moved around the picture), camera.stale (taken before the arm was asked).
        """
        if self._calibration.kind == "eye_to_hand" or self._arm is None:
            frame, T_base_camera = self._source.look(), self._calibration.T_mount_camera
        else:
            frame, positions = look_at_rest(self._source, self._arm)
            T_base_camera = flange_pose(self._calibration.arm, positions) @ self._calibration.T_mount_camera
        self._calibration.check_camera(frame.camera, self.serial)
        return replace(frame, T_base_camera=T_base_camera, camera=self._calibration.camera.intrinsics)


class PosedCamera(_Wrapped):
    """A camera whose frames carry T_base_camera already; without it nothing is looked at."""

    def look(self) -> RgbdFrame:
        """
        Raises:
            StageFailure: ("look", code): those of the camera, calibration.missing (the frame does not say where it is).
        """
        frame = self._source.look()
        if frame.T_base_camera is None:
            raise StageFailure(
                "look",
                "calibration.missing",
                f"{frame.source} does not say where its camera is: write T_base_camera into its camera.json, or "
                "calibrate (`affordagent calibrate`) and set [camera] calibration",
            )
        return frame
