"""What a camera is, the cameras that need no driver of their own, and which one the settings name.

`open_camera` is the one door: what comes out knows where it is in the base frame, or refuses to look.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.types import RgbdFrame
from affordagent.robot.arms import ArmName
from affordagent.robot.cameras.config import CameraConfig
from affordagent.robot.frame_cell import FrameCell

if TYPE_CHECKING:
    from affordagent.robot.cameras.mounted import ArmReader

CLOCK_SLACK_S = 0.1  # by which a picture may seem to come from the future


class Camera(Protocol):
    """`with camera:` connects and always disconnects. serial: "" where it has none."""

    @property
    def serial(self) -> str: ...

    def __enter__(self) -> Camera: ...

    def __exit__(self, *exc: object) -> None: ...

    def look(self) -> RgbdFrame:
        """A picture of now, with its time as stamp_s.

        Raises:
            StageFailure: ("look", code): camera.no_frame, camera.stale, or a code of `robot.frame_cell`.
        """
        ...


def fresh(frame: RgbdFrame, stale_s: float) -> RgbdFrame:
    """The frame, if it is young enough.

    Raises:
        StageFailure: ("look", "camera.stale") naming the age and the limit.
    """
    age_s = time.time() - frame.stamp_s
    if age_s > stale_s:
        raise StageFailure(
            "look",
            "camera.stale",
            f"the picture of {frame.source} is {age_s:.1f} s old, limit {stale_s:g} s: start the camera or what writes "
            "its pictures, or raise stale_s under [camera] in the settings",
            age_s=round(age_s, 3),
        )
    if age_s < -CLOCK_SLACK_S:
        raise StageFailure(
            "look",
            "camera.stale",
            f"the picture of {frame.source} comes {-age_s:.1f} s from the future, limit {CLOCK_SLACK_S} s: set the "
            "clocks of the camera's machine and of this one",
            age_s=round(age_s, 3),
        )
    return frame


class FilesCamera:
    """Pictures that another program writes: PREFIX_color.png, PREFIX_depth.png, PREFIX_camera.json
    (`robot.frame_cell`), each written elsewhere and then renamed, so that no half of one is read. T_base_camera is what
    camera.json says."""

    def __init__(self, prefix: str | Path, stale_s: float = 1.0) -> None:
        self._cell, self._stale_s = FrameCell(prefix), stale_s

    @property
    def serial(self) -> str:
        return self._cell.serial

    def __enter__(self) -> FilesCamera:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def look(self) -> RgbdFrame:
        return fresh(self._cell.look(), self._stale_s)


class CallbackCamera:
    """Any RGB-D source in Python. fn returns a frame of now: `RgbdFrame` checks its sizes and values, stamp_s must be
    the time of the picture."""

    def __init__(self, fn: Callable[[], RgbdFrame], serial: str = "", stale_s: float = 1.0) -> None:
        self._fn, self.serial, self._stale_s = fn, serial, stale_s

    def __enter__(self) -> CallbackCamera:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def look(self) -> RgbdFrame:
        try:
            frame = self._fn()
        except (ValueError, OSError) as error:
            raise StageFailure("look", "camera.no_frame", f"the camera's callback failed: {error}") from error
        if not isinstance(frame, RgbdFrame):
            raise StageFailure(
                "look", "camera.no_frame", f"the camera's callback gave {type(frame).__name__}, must be an RgbdFrame"
            )
        return fresh(frame, self._stale_s)


def open_source(config: CameraConfig, host: str) -> Camera:
    """The camera that the settings name, without a calibration.

    Raises:
        StageFailure: ("look", "camera.no_frame") where none is set.
        AffordAgentError: the settings name a source that does not exist.
    """
    kind, _, where = config.source.partition(":")
    if not config.source:
        if not _is_loopback(host):
            raise StageFailure(
                "look", "camera.no_frame", 'no camera is set: source = "realsense" under [camera] in the settings'
            )
        kind = "emulator"
    if kind == "emulator" and not where:
        from affordagent.robot.cameras.emulated import EmulatedCamera

        return EmulatedCamera(host)
    if kind == "realsense":
        from affordagent.robot.cameras.realsense import RealSenseCamera

        return RealSenseCamera(where, config.stale_s)
    if kind == "files" and where:
        return FilesCamera(where, config.stale_s)
    raise AffordAgentError(
        f"unknown camera source {config.source!r}: realsense, realsense:SERIAL, files:PREFIX or emulator"
    )


def open_camera(config: CameraConfig, host: str, arm: ArmReader | None, model: ArmName | None = None) -> Camera:
    """The camera that the settings name, in the base frame of the arm.

    host: of the arm's controller. arm: whose pose a camera on its flange needs. model: the arm in use, which must be
    the calibrated one; None = not compared.

    Raises:
        StageFailure: ("look", code): camera.no_frame, or calibration.missing, old, poor, pose (`calibration.file`).
        AffordAgentError: the settings name a source that does not exist.
    """
    from affordagent.robot.calibration.file import load_calibration
    from affordagent.robot.cameras.mounted import MountedCamera, PosedCamera

    source = open_source(config, host)
    if config.calibration is None and (config.source.startswith("files") or config.source in ("", "emulator")):
        return PosedCamera(source)  # these may know their pose by themselves
    calibration = load_calibration(config.calibration, config.max_age_days)
    return MountedCamera(source, calibration, arm, model)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
