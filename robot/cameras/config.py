"""What the settings file says about the camera of a real cell: its `[camera]` table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class CameraConfig:
    """source: "realsense" or "realsense:SERIAL", "files:PREFIX" (read anew at each look, see `robot.frame_cell`),
    "emulator" (what the emulator on the same host would see), or "" = emulator on loopback, none elsewhere.
    calibration: the file that `affordagent calibrate` wrote. max_age_days: an older calibration is refused. stale_s: an
    older picture is refused.
    """

    source: str = ""
    calibration: Path | None = None
    max_age_days: float = 90.0
    stale_s: float = 1.0
