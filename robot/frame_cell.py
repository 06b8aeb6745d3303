"""A recorded RGB-D frame as a cell without an arm: `PREFIX_color.png`, `PREFIX_depth.png`, `PREFIX_camera.json`.

camera.json: width, height, fx, fy, cx, cy (pixels), depth_unit_m (metres a depth count), and optionally depth_invalid
(the count that means no reading, default 0), T_base_camera (4x4, row-major, see `core.geometry`), serial (the camera's)
and stamp_s (POSIX seconds of the picture; without it a frame is as old as the older of its two picture files). The
depth is aligned to the colour picture: 16-bit, one channel, same size.
"""

from __future__ import annotations

import difflib
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, check_rigid
from affordagent.core.types import FunctionalQuery, GraspPlan, Mask, RgbdFrame, Verdict
from affordagent.robot.interface import Arm

NUMBERS = ("width", "height", "fx", "fy", "cx", "cy", "depth_unit_m")
FURTHEST_M = 10.0  # no depth camera for tables measures further
NEAREST_M = 0.005
CENTRE_SHARE = 0.25  # of the size, how far the principal point may lie from the middle
FIELD_OF_VIEW_DEG = (10.0, 150.0)


class FrameCell:
    """A cell with one picture in it and no arm. `look` reads the files anew each time."""

    is_hardware = False
    arm: Arm | None = None

    def __init__(self, prefix: str | Path) -> None:
        self.prefix = Path(prefix).expanduser()
        self.name = f"frame:{prefix}"

    def __enter__(self) -> FrameCell:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def save_video(self, path: Path) -> None:
        """A picture has no motion to show."""

    def look(self) -> RgbdFrame:
        """The recorded frame.

        Raises:
            StageFailure: ("look", code): camera.no_frame (missing or unreadable files), depth.misaligned (sizes),
                calibration.intrinsics, calibration.depth_unit, calibration.pose, depth.hole (no depth at all).
        """
        paths = {kind: self._existing(f"_{kind}") for kind in ("color.png", "depth.png", "camera.json")}
        facts = _read_json(paths["camera.json"])
        color = _read_color(paths["color.png"])
        counts = _read_depth(paths["depth.png"])
        if counts.shape != color.shape[:2]:
            raise StageFailure(
                "look",
                "depth.misaligned",
                f"the depth is {_size(counts)} but the colour is {_size(color)}: align depth to colour "
                "(RealSense: rs.align(rs.stream.color)) and save both again",
                depth=list(counts.shape),
                color=list(color.shape[:2]),
            )
        camera = checked_intrinsics(facts, _size(color), paths["camera.json"])
        return RgbdFrame(
            color=color,
            depth_m=_metres(counts, facts, paths["depth.png"]),
            camera=camera,
            T_base_camera=_pose(facts, paths["camera.json"]),
            stamp_s=_stamp_s(facts, [paths["color.png"], paths["depth.png"]]),
            source=self.name,
        )

    @property
    def serial(self) -> str:
        """The camera's serial number by camera.json, "" where it says none.

        Raises:
            StageFailure: ("look", code): camera.no_frame, calibration.intrinsics (no such file, or not JSON).
        """
        return str(_read_json(self._existing("_camera.json")).get("serial", ""))

    def look_again(self) -> RgbdFrame:
        """The same picture."""
        return self.look()

    def judge(
        self, plan: GraspPlan, object_mask: Mask, query: FunctionalQuery, destination_mask: Mask | None = None
    ) -> Verdict:
        """Nothing can be judged: a picture does not move.

        Raises:
            StageFailure: ("verify", "verify.no_arm") always.
        """
        raise StageFailure(
            "verify",
            "verify.no_arm",
            f"{self.name} is a recorded picture without an arm: nothing moved, so there is nothing to judge. "
            "Use the simulator or a robot to execute grasps",
        )

    def _existing(self, ending: str) -> Path:
        path = self.prefix.parent / (self.prefix.name + ending)
        if path.is_file():
            return path
        folder = self.prefix.parent
        if not folder.is_dir():
            advice = f"the folder {folder} does not exist"
        else:
            found = sorted(p.name.removesuffix("_color.png") for p in folder.glob("*_color.png"))
            close = difflib.get_close_matches(self.prefix.name, found, 3, 0.4)
            if close and close != [self.prefix.name]:
                advice = "did you mean " + " or ".join(f"frame:{folder / name}" for name in close) + "?"
            elif found:
                advice = f"frames in {folder}: {', '.join(found[:8])}"
            else:
                advice = f"{folder} holds no frames (files named NAME_color.png, NAME_depth.png, NAME_camera.json)"
        raise StageFailure("look", "camera.no_frame", f"{path} does not exist; {advice}", path=str(path))


def checked_intrinsics(facts: dict[str, Any], size: str, source: Path | str = "camera.json") -> CameraIntrinsics:
    """Intrinsics that can belong to a picture of `size` ("WxH").

    Raises:
        StageFailure: ("look", "calibration.intrinsics") naming the value and the limit.
    """

    def refuse(what: str) -> StageFailure:
        mend = f"read width, height, fx, fy, cx, cy for the {size} colour stream from the camera into {source}"
        return StageFailure("look", "calibration.intrinsics", f"{what}; {mend}")

    for name in NUMBERS:
        value = facts.get(name)
        if value is None:
            raise refuse(f"{name} is missing")
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
            raise refuse(f"{name} = {value!r}, must be a finite number above 0")
    width, height, fx, fy, cx, cy = (facts[name] for name in NUMBERS[:6])
    if f"{width}x{height}" != size:
        raise refuse(f"the intrinsics are for {width}x{height} but the picture is {size}")
    if abs(cx - width / 2) > CENTRE_SHARE * width or abs(cy - height / 2) > CENTRE_SHARE * height:
        raise refuse(
            f"the principal point ({cx:.1f}, {cy:.1f}) is more than {CENTRE_SHARE:.0%} of the size away from the "
            f"middle ({width / 2:.0f}, {height / 2:.0f}), as if it belonged to another resolution"
        )
    if not 0.5 < fx / fy < 2.0:
        raise refuse(f"fx / fy = {fx / fy:.2f}, must lie between 0.5 and 2")
    for axis, extent, focal in (("horizontal", width, fx), ("vertical", height, fy)):
        view = math.degrees(2 * math.atan(extent / 2 / focal))
        if not FIELD_OF_VIEW_DEG[0] <= view <= FIELD_OF_VIEW_DEG[1]:
            low, high = FIELD_OF_VIEW_DEG
            raise refuse(f"the {axis} field of view is {view:.1f} degrees, must lie between {low:.0f} and {high:.0f}")
    return CameraIntrinsics(int(width), int(height), float(fx), float(fy), float(cx), float(cy))


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise StageFailure("look", "calibration.intrinsics", f"{path} is not valid JSON: {error}") from error
    if not isinstance(facts, dict):
        raise StageFailure(
            "look", "calibration.intrinsics", f"{path} must hold a JSON object, got {type(facts).__name__}"
        )
    return facts


def _decode(path: Path, flag: int) -> NDArray[Any]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, flag) if len(data) else None
    if image is None:
        raise StageFailure(
            "look", "camera.no_frame", f"{path} ({len(data)} bytes) cannot be read as a picture: save it again as PNG"
        )
    return image


def _read_color(path: Path) -> NDArray[np.uint8]:
    return cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB).astype(np.uint8)


def _read_depth(path: Path) -> NDArray[np.uint16]:
    counts = _decode(path, cv2.IMREAD_UNCHANGED)
    if counts.ndim != 2 or counts.dtype != np.uint16:
        channels = 1 if counts.ndim == 2 else counts.shape[2]
        raise StageFailure(
            "look",
            "calibration.depth_unit",
            f"{path} is {counts.dtype} with {channels} channel(s), must be uint16 with one: save the raw depth, not a "
            "coloured or 8-bit picture of it",
        )
    return counts


def _metres(counts: NDArray[np.uint16], facts: dict[str, Any], path: Path) -> NDArray[np.float32]:
    """(H, W) float32 metres, 0 where there is no reading."""
    usable = (counts != 0) & (counts != facts.get("depth_invalid", 0))
    if not usable.any():
        raise StageFailure(
            "look", "depth.hole", f"{path} holds no depth at all: check that the depth stream runs", valid_fraction=0.0
        )
    depth_m = np.where(usable, counts * float(facts["depth_unit_m"]), 0.0).astype(np.float32)
    typical, furthest = np.percentile(depth_m[usable], [50, 99])
    if typical > FURTHEST_M or furthest < NEAREST_M:
        raise StageFailure(
            "look",
            "calibration.depth_unit",
            f"with depth_unit_m = {facts['depth_unit_m']} the middle depth is {typical:.4g} m, expected {NEAREST_M} to "
            f"{FURTHEST_M} m: correct depth_unit_m (a RealSense counts 0.001 m)",
            median_m=float(typical),
        )
    depth_m[depth_m > FURTHEST_M] = 0.0
    return depth_m


def _stamp_s(facts: dict[str, Any], pictures: list[Path]) -> float:
    """When the picture was taken: never later than its files were written."""
    written_s, said_s = min(path.stat().st_mtime for path in pictures), facts.get("stamp_s")
    return min(written_s, float(said_s)) if isinstance(said_s, int | float) else written_s


def _pose(facts: dict[str, Any], path: Path) -> Array | None:
    if facts.get("T_base_camera") is None:
        return None
    try:
        return check_rigid(facts["T_base_camera"], "T_base_camera")
    except (ValueError, TypeError) as error:
        raise StageFailure(
            "look",
            "calibration.pose",
            f"{path}: {error}. Calibrate again, or leave T_base_camera out to have it estimated",
        ) from error
