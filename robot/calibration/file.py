"""calibration.json: where the camera is, how good that is known, and when and with what it was found."""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, check_rigid
from affordagent.robot.arms import ArmName
from affordagent.robot.calibration.hand_eye import MAX_CONSISTENCY_MM, MAX_RMS_PX, MIN_ROTATION_DEG, MIN_VIEWS, Kind

FURTHEST_M = {"eye_in_hand": 0.6, "eye_to_hand": 4.0}  # of a camera from the flange, from the base
_CLOCKS_DIFFER = timedelta(hours=1)
_FOCAL_TOLERANCE, _CENTRE_TOLERANCE_PX = 0.01, 5.0
_AGAIN = "`affordagent calibrate collect` and `affordagent calibrate solve` make a new one"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CameraFacts(_Frozen):
    """Of the camera that was calibrated. serial: "" where it has none."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    serial: str = ""

    @classmethod
    def of(cls, camera: CameraIntrinsics, serial: str) -> CameraFacts:
        return cls(
            width=camera.width,
            height=camera.height,
            fx=camera.fx,
            fy=camera.fy,
            cx=camera.cx,
            cy=camera.cy,
            serial=serial,
        )

    @property
    def intrinsics(self) -> CameraIntrinsics:
        return CameraIntrinsics(self.width, self.height, self.fx, self.fy, self.cx, self.cy)


class Residuals(_Frozen):
    """How good the calibration is, see `hand_eye.HandEye`. depth_offset_mm: mean of depth minus the corners' distance
    by pose; depth_scale: their middle ratio; None where there was no depth on the board."""

    rms_px: float
    max_px: float
    consistency_mm: float
    consistency_deg: float
    spread_mm: float
    spread_deg: float
    rotation_deg: tuple[float, float, float]
    views: int
    outliers: dict[str, float] = Field(default_factory=dict)
    depth_offset_mm: float | None = None
    depth_scale: float | None = None

    @property
    def faults(self) -> list[str]:
        """What is too poor to use, each with value and limit; empty when it is good enough."""
        faults = []
        if self.views < MIN_VIEWS:
            faults.append(f"{self.views} views, at least {MIN_VIEWS}")
        for name, value, most, unit in (
            ("reprojection error", self.rms_px, MAX_RMS_PX, "px"),
            ("consistency", self.consistency_mm, MAX_CONSISTENCY_MM, "mm"),
            ("uncertainty of the camera's place", self.spread_mm, MAX_CONSISTENCY_MM, "mm"),
        ):
            if not value <= most:  # NaN too
                faults.append(f"{name} {value:.2f} {unit}, limit {most:g} {unit}")
        if not self.rotation_deg[1] >= MIN_ROTATION_DEG:
            faults.append(
                f"rotation about a second axis {self.rotation_deg[1]:.0f} degrees, at least {MIN_ROTATION_DEG:g}"
            )
        return faults


class Calibration(_Frozen):
    """date: UTC. T: row-major 4x4, T_flange_camera (eye in hand) or T_base_camera (eye to hand). camera: with the
    intrinsics that were used; device: what the camera itself says, where others were estimated. T_fixed_board: where
    the board was, in the base frame or on the flange."""

    date: AwareDatetime
    kind: Kind
    T: list[list[float]]
    camera: CameraFacts
    device: CameraFacts | None = None
    arm: ArmName
    residuals: Residuals
    T_fixed_board: list[list[float]] | None = None
    versions: dict[str, str] = Field(default_factory=dict)

    @property
    def T_mount_camera(self) -> Array:
        return check_rigid(self.T, f"T of the calibration ({self.kind})")

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def check_camera(self, camera: CameraIntrinsics, serial: str) -> None:
        """
        Raises:
            StageFailure: ("look", "calibration.intrinsics"): another camera, resolution or intrinsics than calibrated.
        """
        was = self.device or self.camera
        if serial and was.serial and serial != was.serial:
            raise _failure(
                "calibration.intrinsics",
                f"the calibration is of the camera {was.serial}, this one is {serial}: calibrate it; {_AGAIN}",
            )
        if (camera.width, camera.height) != (was.width, was.height):
            raise _failure(
                "calibration.intrinsics",
                f"the calibration is for {was.width}x{was.height}, the camera gives {camera.width}x{camera.height}: "
                f"set that resolution, or calibrate at this one; {_AGAIN}",
            )
        focal = max(abs(camera.fx / was.fx - 1), abs(camera.fy / was.fy - 1))
        centre_px = math.hypot(camera.cx - was.cx, camera.cy - was.cy)
        if focal > _FOCAL_TOLERANCE or centre_px > _CENTRE_TOLERANCE_PX:
            raise _failure(
                "calibration.intrinsics",
                f"the camera's focal length differs by {focal:.1%} from the calibrated one (limit "
                f"{_FOCAL_TOLERANCE:.0%}), its centre by {centre_px:.1f} px (limit {_CENTRE_TOLERANCE_PX:g}): {_AGAIN}",
            )


def load_calibration(path: Path | None, max_age_days: float, now: datetime | None = None) -> Calibration:
    """A calibration that can be used. now: aware, for tests.

    Raises:
        StageFailure: ("look", code): calibration.missing (no file, or not one), calibration.old (or of the future),
            calibration.poor (its residuals), calibration.pose (no rigid transform, or a camera that far from its
            mount).
    """
    if path is None:
        raise _failure(
            "calibration.missing",
            "no calibration of the camera is set: [camera] calibration in the settings; " + _AGAIN,
        )
    try:
        calibration = Calibration.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise _failure("calibration.missing", f"the calibration {path} does not exist: {_AGAIN}") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _failure("calibration.missing", f"cannot read the calibration {path}: {error}; {_AGAIN}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise _failure("calibration.missing", f"{path} is no calibration: {wrong}; {_AGAIN}") from error
    age = (now or datetime.now(UTC)) - calibration.date
    if age > timedelta(days=max_age_days):
        days = age.total_seconds() / 86400
        raise _failure(
            "calibration.old",
            f"the calibration {path} is {days:.0f} days old, limit {max_age_days:g} (max_age_days): {_AGAIN}",
        )
    if age < -_CLOCKS_DIFFER:
        raise _failure(
            "calibration.old",
            f"the calibration {path} is of {calibration.date}, in the future: set this machine's clock, or {_AGAIN}",
        )
    if calibration.residuals.faults:
        raise _failure(
            "calibration.poor",
            f"the calibration {path} is too poor: {'; '.join(calibration.residuals.faults)}; {_AGAIN}",
        )
    try:
        T = calibration.T_mount_camera
    except ValueError as error:
        raise _failure("calibration.pose", f"{path}: {error}; {_AGAIN}") from error
    away_m, most_m = float(math.hypot(*T[:3, 3])), FURTHEST_M[calibration.kind]
    if away_m > most_m:
        raise _failure(
            "calibration.pose", f"{path} puts the camera {away_m:.2f} m from its mount, limit {most_m:g} m: {_AGAIN}"
        )
    return calibration


def versions() -> dict[str, str]:
    """Of what a calibration depends on."""
    names = ("affordagent", "opencv-python-headless", "scipy", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def _failure(code: str, message: str) -> StageFailure:
    return StageFailure("look", code, message)
