"""Intel RealSense (D400 family) by its SDK `pyrealsense2`, extra `realsense`.

Depth is aligned to colour by the SDK and scaled with what the device says. A picture counts only when it was taken
after it was asked for: the SDK keeps older ones in its queues. Where the colour stream has lens distortion, both
pictures are straightened with the SDK's own model, so that frames are pinhole ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import StageFailure
from affordagent.core.types import RgbdFrame
from affordagent.robot.cameras.camera import fresh

SIZE = (640, 480)
RATE_HZ = 15  # what USB 2 carries too
WARM_UP_FRAMES = 30  # until exposure and white balance have settled
FRAME_TIMEOUT_S = 2.0
DEPTH_SCALE_M = (1e-5, 0.01)  # metres a count that a RealSense can have
FURTHEST_M = 10.0
APART_S = 0.1  # colour and depth of one picture
_TRIES = 30


class Frames(Protocol):
    """Where sets of frames come from: `rs.pipeline`, or `rs.syncer` over a device."""

    def wait_for_frames(self, timeout_ms: int) -> Any: ...


@dataclass(frozen=True)
class Stream:
    """A running device. depth_scale_m: metres a count."""

    frames: Frames
    serial: str
    depth_scale_m: float
    close: Callable[[], None]


class RealSenseCamera:
    """serial: of the device, "" = the only one. open_stream: how to start it."""

    def __init__(
        self, serial: str = "", stale_s: float = 1.0, open_stream: Callable[[str], Stream] | None = None
    ) -> None:
        self._rs = sdk()
        self.serial, self._stale_s = serial, stale_s
        self._open_stream = open_stream or open_pipeline
        self._stream: Stream | None = None
        self._align = self._rs.align(self._rs.stream.color)
        self._maps: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def __enter__(self) -> RealSenseCamera:
        self._stream = self._open_stream(self.serial)
        try:
            low, high = DEPTH_SCALE_M
            if not low <= self._stream.depth_scale_m <= high:
                raise StageFailure(
                    "look",
                    "calibration.depth_unit",
                    f"the RealSense says a depth count is {self._stream.depth_scale_m:g} m, must lie between {low:g} "
                    f"and {high:g}: reset its Depth Units with the RealSense Viewer",
                )
            self.serial = self._stream.serial
            for _ in range(WARM_UP_FRAMES):
                self._wait(self._stream)
            color = self._whole_set(self._stream).get_color_frame()
            self._maps = straightening(color.get_profile().as_video_stream_profile().get_intrinsics())
        except StageFailure:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.close()

    def look(self) -> RgbdFrame:
        """
        Raises:
            StageFailure: ("look", code): camera.no_frame (none came: lost, or not connected), camera.stale (only old
            ones).
        """
        if self._stream is None:
            raise StageFailure("look", "camera.no_frame", "the RealSense is not connected: use it as `with camera:`")
        asked_s = time.time()
        for _ in range(_TRIES):
            frames = self._whole_set(self._stream)
            stamp_s = taken_s(frames.get_color_frame())
            if stamp_s >= asked_s:
                break
        aligned = self._align.process(frames)
        color, depth = aligned.get_color_frame(), aligned.get_depth_frame()
        intrinsics = color.get_profile().as_video_stream_profile().get_intrinsics()
        picture = np.array(color.get_data(), np.uint8)
        depth_m = np.asarray(depth.get_data()).astype(np.float32) * np.float32(self._stream.depth_scale_m)
        depth_m[depth_m > FURTHEST_M] = 0.0
        if self._maps is not None:
            picture = np.asarray(cv2.remap(picture, *self._maps, cv2.INTER_LINEAR), np.uint8)
            depth_m = np.asarray(cv2.remap(depth_m, *self._maps, cv2.INTER_NEAREST), np.float32)
        return fresh(
            RgbdFrame(picture, depth_m, pinhole(intrinsics), None, stamp_s, f"realsense:{self.serial}"), self._stale_s
        )

    def _whole_set(self, stream: Stream) -> Any:
        """The next set that holds colour and depth of one moment."""
        for _ in range(_TRIES):
            frames = self._wait(stream)
            color, depth = frames.get_color_frame(), frames.get_depth_frame()
            if color and depth and abs(color.get_timestamp() - depth.get_timestamp()) < 1000 * APART_S:
                return frames
        raise StageFailure(
            "look",
            "camera.no_frame",
            f"the RealSense {self.serial} gives no colour and depth within {APART_S} s of each other: plug it into USB "
            "3",
        )

    def _wait(self, stream: Stream) -> Any:
        try:
            return stream.frames.wait_for_frames(round(1000 * FRAME_TIMEOUT_S))
        except RuntimeError as error:
            raise StageFailure(
                "look",
                "camera.no_frame",
                f"no picture from the RealSense {stream.serial} within {FRAME_TIMEOUT_S:g} s ({error}): check its "
                "cable and power, then start again",
            ) from error


def sdk() -> Any:
    """
    Raises:
        StageFailure: ("look", "tool.unavailable"): the extra is not installed.
    """
    try:
        import pyrealsense2
    except ImportError as error:
        raise StageFailure(
            "look",
            "tool.unavailable",
            f"a RealSense needs the extra realsense: pip install 'affordagent[realsense]' ({error})",
        ) from error
    return pyrealsense2


def open_pipeline(serial: str) -> Stream:
    """Colour and depth of the device with this serial, or of the first one.

    Raises:
        StageFailure: ("look", "camera.no_frame"): it is not there, or in use.
    """
    rs = sdk()
    there = [device.get_info(rs.camera_info.serial_number) for device in rs.context().query_devices()]
    if not there or (serial and serial not in there):
        raise _no_start(serial, "it is not connected" if serial else "none is connected", there)
    pipeline, config = rs.pipeline(), rs.config()
    if serial:
        config.enable_device(serial)
    config.enable_stream(rs.stream.color, *SIZE, rs.format.rgb8, RATE_HZ)
    config.enable_stream(rs.stream.depth, *SIZE, rs.format.z16, RATE_HZ)
    try:
        device = pipeline.start(config).get_device()
    except RuntimeError as error:
        raise _no_start(serial, str(error), there) from error
    scale_m = float(device.first_depth_sensor().get_depth_scale())
    return Stream(pipeline, device.get_info(rs.camera_info.serial_number), scale_m, pipeline.stop)


def _no_start(serial: str, why: str, there: list[str]) -> StageFailure:
    return StageFailure(
        "look",
        "camera.no_frame",
        f"cannot start the RealSense {serial or '(any)'}: {why}. Connected: {', '.join(there) or 'none'}. Check the "
        "cable, the serial in the settings, the udev rules, and that no other program uses it",
    )


def taken_s(frame: Any) -> float:
    """POSIX time of a frame: its own stamp where that is on the clock of this machine, else when it arrived."""
    rs = sdk()
    if frame.get_frame_timestamp_domain() != rs.timestamp_domain.hardware_clock:
        return float(frame.get_timestamp()) / 1000
    arrival = rs.frame_metadata_value.time_of_arrival
    return frame.get_frame_metadata(arrival) / 1000 if frame.supports_frame_metadata(arrival) else time.time()


def pinhole(intrinsics: Any) -> CameraIntrinsics:
    """The SDK's intrinsics without their distortion."""
    return CameraIntrinsics(
        intrinsics.width, intrinsics.height, intrinsics.fx, intrinsics.fy, intrinsics.ppx, intrinsics.ppy
    )


def straightening(intrinsics: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    """Where in the camera's picture each pixel of the pinhole one is, as `cv2.remap` wants it; None where there is no
    distortion. By `rs2_project_point_to_pixel`, point by point: about a second, once."""
    rs = sdk()
    if intrinsics.model == rs.distortion.none or not np.any(intrinsics.coeffs):
        return None
    v, u = np.mgrid[: intrinsics.height, : intrinsics.width]
    x, y = (u - intrinsics.ppx) / intrinsics.fx, (v - intrinsics.ppy) / intrinsics.fy
    pixels = [rs.rs2_project_point_to_pixel(intrinsics, [a, b, 1.0]) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    maps = np.array(pixels, np.float32).reshape(intrinsics.height, intrinsics.width, 2)
    return np.ascontiguousarray(maps[..., 0]), np.ascontiguousarray(maps[..., 1])
