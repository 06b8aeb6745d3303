"""Cameras: files, callbacks, a RealSense made of software, and where they are in the base frame."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.run_store import write_frame
from affordagent.core.types import RgbdFrame
from affordagent.robot.arms import flange_pose
from affordagent.robot.calibration.drawn import CAMERA, T_MOUNT_CAMERA
from affordagent.robot.calibration.file import Calibration, CameraFacts, Residuals
from affordagent.robot.cameras.camera import CallbackCamera, FilesCamera, fresh, open_camera
from affordagent.robot.cameras.config import CameraConfig
from affordagent.robot.cameras.mounted import MountedCamera, PosedCamera, look_at_rest
from affordagent.robot.cameras.realsense import FRAME_TIMEOUT_S, RealSenseCamera, Stream, open_pipeline, straightening
from affordagent.robot.interface import ArmState

RATE_HZ = 90  # of the software device
SMALL = CameraIntrinsics(64, 48, 60.0, 60.0, 31.5, 23.5)
READY = np.array([0.3, -1.9, 1.6, -1.27, -1.57, 0.0])


def frame(age_s: float = 0.0, camera: CameraIntrinsics = SMALL, T: Any = None) -> RgbdFrame:
    size = (camera.height, camera.width)
    return RgbdFrame(
        np.zeros((*size, 3), np.uint8), np.full(size, 0.7, np.float32), camera, T, time.time() - age_s, "test"
    )


def code_of(run: Any) -> str:
    with pytest.raises(StageFailure) as caught:
        run()
    assert caught.value.stage == "look"
    return caught.value.code


# ---- files and callbacks --------------------------------------------------------------------------------------------


def test_files_are_as_old_as_their_older_picture(tmp_path: Path) -> None:
    write_frame(tmp_path / "now", frame())
    with FilesCamera(tmp_path / "now", stale_s=5.0) as camera:
        assert time.time() - camera.look().stamp_s < 5
        assert camera.serial == ""
        old = time.time() - 30
        os.utime(tmp_path / "now_depth.png", (old, old))
        with pytest.raises(StageFailure, match=r"30\.\d s old, limit 5 s") as caught:
            camera.look()
        assert caught.value.code == "camera.stale"
        write_frame(tmp_path / "now", frame(age_s=8))  # written now, of a moment before: as a slow program does
        assert code_of(camera.look) == "camera.stale"
        write_frame(tmp_path / "now", frame(age_s=-60))
        os.utime(tmp_path / "now_depth.png", (old + 90, old + 90))
        os.utime(tmp_path / "now_color.png", (old + 90, old + 90))
        with pytest.raises(StageFailure, match="from the future"):
            camera.look()
    assert code_of(FilesCamera(tmp_path / "none").look) == "camera.no_frame"


def test_the_serial_comes_from_camera_json(tmp_path: Path) -> None:
    write_frame(tmp_path / "now", frame())
    facts = json.loads((tmp_path / "now_camera.json").read_text())
    (tmp_path / "now_camera.json").write_text(json.dumps({**facts, "serial": 8812}))
    assert FilesCamera(tmp_path / "now").serial == "8812"


def test_a_callback_is_checked() -> None:
    assert CallbackCamera(frame, "7").look().source == "test"
    assert code_of(CallbackCamera(lambda: frame(age_s=3)).look) == "camera.stale"
    assert code_of(CallbackCamera(lambda: replace(frame(), stamp_s=0.0)).look) == "camera.stale"
    assert (
        code_of(CallbackCamera(lambda: replace(frame(), depth_m=np.zeros((2, 2), np.float32))).look)
        == "camera.no_frame"
    )
    assert code_of(CallbackCamera(lambda: None).look) == "camera.no_frame"  # type: ignore[arg-type,return-value]
    assert fresh(frame(age_s=0.9), 1.0)


# ---- where the camera is --------------------------------------------------------------------------------------------


class Arm:
    """Stands at each of the given joints in turn, and stays at the last."""

    def __init__(self, *positions: np.ndarray) -> None:
        self._positions = list(positions)

    def read(self) -> ArmState:
        return ArmState(self._positions.pop(0) if len(self._positions) > 1 else self._positions[0], 0.0, 0.0)


def calibration(kind: Any, camera: CameraIntrinsics = SMALL) -> Calibration:
    return Calibration(
        date=datetime.now(UTC),
        kind=kind,
        T=T_MOUNT_CAMERA[kind].tolist(),
        camera=CameraFacts.of(camera, "7"),
        arm="UR5e",
        residuals=Residuals(
            rms_px=0.3, max_px=1, consistency_mm=1, consistency_deg=0.2, spread_mm=0.2, spread_deg=0.02,
            rotation_deg=(60, 50, 40), views=15,
        ),
    )  # fmt: skip


def test_a_camera_that_stands_still_is_where_the_calibration_says() -> None:
    with MountedCamera(CallbackCamera(frame, "7"), calibration("eye_to_hand"), None) as camera:
        assert camera.look().T_base_camera == pytest.approx(T_MOUNT_CAMERA["eye_to_hand"])


def test_a_camera_on_the_flange_goes_with_the_arm() -> None:
    arm = Arm(READY)
    with MountedCamera(CallbackCamera(frame, "7"), calibration("eye_in_hand"), arm) as camera:
        expected = flange_pose("UR5e", READY) @ T_MOUNT_CAMERA["eye_in_hand"]
        assert camera.look().T_base_camera == pytest.approx(expected)


def test_a_picture_of_a_moving_arm_is_refused() -> None:
    moving = MountedCamera(CallbackCamera(frame, "7"), calibration("eye_in_hand"), Arm(READY, READY + 0.002))
    assert code_of(moving.look) == "camera.moving"


def test_a_picture_from_before_the_arm_rested_is_not_used() -> None:
    ages_s = [0.6, 0.3, 0.0]
    picture, _ = look_at_rest(CallbackCamera(lambda: frame(ages_s.pop(0))), Arm(READY))
    assert not ages_s
    assert time.time() - picture.stamp_s < 0.3
    old = frame(age_s=0.5)
    assert code_of(lambda: look_at_rest(CallbackCamera(lambda: old, stale_s=60), Arm(READY))) == "camera.stale"


def test_another_camera_or_arm_is_refused() -> None:
    source = CallbackCamera(frame, "999")
    assert code_of(MountedCamera(source, calibration("eye_to_hand"), None).look) == "calibration.intrinsics"
    wide = MountedCamera(CallbackCamera(frame, "7"), calibration("eye_to_hand", CAMERA), None)
    assert code_of(wide.look) == "calibration.intrinsics"
    assert code_of(lambda: MountedCamera(source, calibration("eye_in_hand"), None)) == "calibration.pose"
    assert code_of(lambda: MountedCamera(source, calibration("eye_in_hand"), Arm(READY), "UR10e")) == "calibration.pose"


def test_estimated_intrinsics_take_the_place_of_the_devices() -> None:
    better = calibration("eye_to_hand", replace(SMALL, fx=63.0))
    better = better.model_copy(update={"device": CameraFacts.of(SMALL, "7")})
    assert MountedCamera(CallbackCamera(frame, "7"), better, None).look().camera.fx == 63.0


def test_settings_open_the_camera(tmp_path: Path) -> None:
    write_frame(tmp_path / "now", frame())
    config = CameraConfig(f"files:{tmp_path / 'now'}", stale_s=30.0)
    with open_camera(config, "10.0.0.5", None) as camera:
        assert code_of(camera.look) == "calibration.missing"
    write_frame(tmp_path / "now", frame(T=T_MOUNT_CAMERA["eye_to_hand"]))
    with open_camera(config, "10.0.0.5", None) as camera:
        assert isinstance(camera, PosedCamera)
        assert camera.look().T_base_camera == pytest.approx(T_MOUNT_CAMERA["eye_to_hand"])
    calibration("eye_in_hand").save(tmp_path / "c.json")
    with open_camera(replace(config, calibration=tmp_path / "c.json"), "10.0.0.5", Arm(READY)) as camera:
        expected = flange_pose("UR5e", READY) @ T_MOUNT_CAMERA["eye_in_hand"]
        write_frame(tmp_path / "now", frame())
        assert camera.look().T_base_camera == pytest.approx(expected)


def test_settings_that_name_no_camera_are_refused(tmp_path: Path) -> None:
    assert code_of(lambda: open_camera(CameraConfig(), "10.0.0.5", None)) == "camera.no_frame"
    with pytest.raises(AffordAgentError, match="realsense, realsense:SERIAL, files:PREFIX or emulator"):
        open_camera(CameraConfig("kinect"), "10.0.0.5", None)
    missing = CameraConfig(f"files:{tmp_path / 'x'}", calibration=tmp_path / "none.json")
    assert code_of(lambda: open_camera(missing, "10.0.0.5", None)) == "calibration.missing"


# ---- RealSense, by the SDK's own software device --------------------------------------------------------------------


class SoftDevice:
    """A device without hardware: it sends depth of 0.7 m and a colour picture that counts. old_s: age of its frames."""

    def __init__(self, distortion: tuple[float, ...] = (), units_m: float = 0.001) -> None:
        self.rs = rs = pytest.importorskip("pyrealsense2")
        self.old_s, self.units_m = 0.0, units_m
        self.size = (64, 48)
        self._device = rs.software_device()
        self._device.register_info(rs.camera_info.serial_number, "8812")
        self._sensors, self._profiles = [], []
        intrinsics = rs.intrinsics()
        intrinsics.width, intrinsics.height = self.size
        intrinsics.fx = intrinsics.fy = 60.0
        intrinsics.ppx, intrinsics.ppy = 31.5, 23.5
        intrinsics.model = rs.distortion.inverse_brown_conrady if distortion else rs.distortion.none
        intrinsics.coeffs = list(distortion) or [0.0] * 5
        self.intrinsics = intrinsics
        for name, kind, fmt, bpp in (
            ("Depth", rs.stream.depth, rs.format.z16, 2),
            ("Color", rs.stream.color, rs.format.rgb8, 3),
        ):
            stream = rs.video_stream()
            stream.type, stream.fmt, stream.bpp, stream.fps, stream.uid = kind, fmt, bpp, RATE_HZ, bpp
            stream.width, stream.height, stream.intrinsics = *self.size, intrinsics
            sensor = self._device.add_sensor(name)
            self._profiles.append(sensor.add_video_stream(stream, True))
            self._sensors.append(sensor)
        self._sensors[0].add_read_only_option(rs.option.depth_units, units_m)
        same = rs.extrinsics()
        same.rotation, same.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
        self._profiles[0].register_extrinsics_to(self._profiles[1], same)
        self._device.create_matcher(rs.matchers.dlr_c)
        self._quiet = threading.Event()
        self._feeder = threading.Thread(target=self._feed)

    def open(self, serial: str) -> Stream:
        """As `open_pipeline`, over the SDK's syncer."""
        syncer = self.rs.syncer(1)
        for sensor, profile in zip(self._sensors, self._profiles, strict=True):
            sensor.open(profile)
            sensor.start(syncer)
        self._feeder.start()
        scale_m = self._device.first_depth_sensor().get_depth_scale()
        return Stream(syncer, self._device.get_info(self.rs.camera_info.serial_number), scale_m, self.close)

    def unplug(self) -> None:
        self._quiet.set()
        self._feeder.join()

    def close(self) -> None:
        self.unplug()
        for sensor in self._sensors:
            sensor.stop()
            sensor.close()

    def _feed(self) -> None:
        number, (width, height) = 0, self.size
        while not self._quiet.wait(1 / RATE_HZ):
            number += 1
            ramp = np.tile(np.arange(width, dtype=np.uint8)[None, :, None], (height, 1, 3))
            counts = np.full((height, width), round(0.7 / self.units_m), np.uint16)
            counts[0, :] = 0
            stamp_ms = 1000 * (time.time() - self.old_s)
            for sensor, profile, pixels in zip(self._sensors, self._profiles, (counts, ramp), strict=True):
                sent = self.rs.software_video_frame()
                sent.pixels, sent.bpp = pixels, pixels[0, 0].nbytes
                sent.stride, sent.timestamp, sent.frame_number = width * sent.bpp, stamp_ms, number
                sent.domain, sent.profile = self.rs.timestamp_domain.system_time, profile.as_video_stream_profile()
                if pixels is counts:
                    sent.depth_units = self.units_m
                sensor.on_video_frame(sent)


def test_a_realsense_gives_metres_colour_and_the_time() -> None:
    device = SoftDevice(units_m=0.0005)
    with RealSenseCamera(open_stream=device.open) as camera:
        asked_s = time.time()
        picture = camera.look()
    assert camera.serial == "8812"
    assert picture.stamp_s >= asked_s  # none from a queue
    assert picture.camera == SMALL
    assert picture.color[10].tolist() == [[i] * 3 for i in range(64)]
    assert picture.depth_m[0].max() == 0
    there = picture.depth_m[1:][picture.depth_m[1:] > 0]
    assert np.abs(there - 0.7).max() < 1e-4
    assert there.size > 0.95 * 47 * 64  # the SDK's aligning leaves a column out
    assert picture.source == "realsense:8812"


def test_old_pictures_of_a_realsense_are_refused() -> None:
    device = SoftDevice()
    with RealSenseCamera(open_stream=device.open) as camera:
        device.old_s = 4.0
        assert code_of(camera.look) == "camera.stale"


def test_a_lost_realsense_is_noticed() -> None:
    device = SoftDevice()
    with RealSenseCamera(open_stream=device.open) as camera:
        device.unplug()
        start = time.monotonic()
        with pytest.raises(StageFailure, match="no picture from the RealSense 8812") as caught:
            camera.look()  # what is left in the queue is from before
        assert caught.value.code == "camera.no_frame"
        assert time.monotonic() - start < 3 * FRAME_TIMEOUT_S
    assert code_of(camera.look) == "camera.no_frame"


def test_a_depth_scale_that_cannot_be_is_refused() -> None:
    device = SoftDevice(units_m=0.05)
    with pytest.raises(StageFailure, match="0.05 m") as caught, RealSenseCamera(open_stream=device.open):
        pass
    assert caught.value.code == "calibration.depth_unit"
    assert not device._feeder.is_alive()  # closed again


def test_lens_distortion_is_taken_out() -> None:
    device = SoftDevice(distortion=(0.1, -0.05, 0.001, 0.0, 0.0))
    maps = straightening(device.intrinsics)
    assert maps is not None
    u, v = 50, 9
    x, y = (u - 31.5) / 60, (v - 23.5) / 60
    assert [maps[0][v, u], maps[1][v, u]] == pytest.approx(
        device.rs.rs2_project_point_to_pixel(device.intrinsics, [x, y, 1.0]), abs=1e-4
    )
    with RealSenseCamera(open_stream=device.open) as camera:
        picture = camera.look()
    assert picture.color[v, u, 0] == pytest.approx(maps[0][v, u], abs=1.0)  # the ramp says which pixel it was


def test_no_realsense_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyrealsense2")
    with pytest.raises(StageFailure, match="Connected: none") as caught:
        open_pipeline("123")
    assert caught.value.code == "camera.no_frame"
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    with pytest.raises(StageFailure, match=r"pip install 'affordagent\[realsense\]'") as caught:
        RealSenseCamera()
    assert caught.value.code == "tool.unavailable"
