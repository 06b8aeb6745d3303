"""The folder of views that `affordagent calibrate collect` fills: `setup.json` (board, arm, camera), and for each view
a frame in the format of `robot.frame_cell` with `NAME_robot.json` beside it.

NAME_robot.json: joints_rad (6), T_base_tcp_controller (4x4, what the controller itself says, with the tcp set on it)
and stamp_s (POSIX seconds).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array, check_rigid
from affordagent.core.run_store import write_frame, write_json
from affordagent.core.types import RgbdFrame
from affordagent.robot.arms import ARMS, ArmName, flange_pose
from affordagent.robot.calibration.board import Board, board_pose
from affordagent.robot.calibration.hand_eye import View
from affordagent.robot.frame_cell import FrameCell

SETUP = "setup.json"
MAX_OWN_RMS_PX = 2.0  # of the corners from their own board pose: more is a bent board, motion blur or wrong markers


@dataclass(frozen=True)
class Pose:
    """Where the arm was. positions: (6,) rad. T_base_tcp_controller: by the controller's own kinematics, and with the
    tcp that is set on it. stamp_s: POSIX seconds."""

    positions: Array
    T_base_tcp_controller: Array
    stamp_s: float


@dataclass(frozen=True)
class ViewFolder:
    """serial: of the camera, "" where it has none."""

    folder: Path
    board: Board
    arm: ArmName
    serial: str

    @classmethod
    def start(cls, folder: Path, board: Board, arm: ArmName, serial: str) -> ViewFolder:
        """A new folder, or one to go on with.

        Raises:
            AffordAgentError: it holds views of another board, arm or camera.
        """
        views = cls(folder, board, arm, serial)
        if (folder / SETUP).exists():
            there = cls.open(folder)
            if there != views:
                raise AffordAgentError(
                    f"{folder} holds views of {there.board.text}, {there.arm}, camera {there.serial or 'unnamed'}; now "
                    f"it is {board.text}, {arm}, camera {serial or 'unnamed'}: choose another folder"
                )
            return there
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / SETUP, {"board": dataclasses.asdict(board), "arm": arm, "serial": serial})
        return views

    @classmethod
    def open(cls, folder: Path) -> ViewFolder:
        """
        Raises:
            AffordAgentError: no folder of views.
        """
        facts = _read(folder / SETUP)
        try:
            board, arm, serial = Board(**facts["board"]), facts["arm"], str(facts["serial"])
        except (KeyError, TypeError, ValueError) as error:
            raise AffordAgentError(
                f"{folder / SETUP} is not what `affordagent calibrate collect` writes: {error}"
            ) from error
        if arm not in ARMS:
            raise AffordAgentError(f"{folder / SETUP}: arm {arm!r} is none of {', '.join(ARMS)}")
        return cls(folder, board, arm, serial)

    @property
    def names(self) -> list[str]:
        return sorted(p.name.removesuffix("_robot.json") for p in self.folder.glob("view_*_robot.json"))

    def add(self, frame: RgbdFrame, pose: Pose) -> str:
        """Save a view and return its name."""
        name = f"view_{max((int(n[5:]) for n in self.names), default=-1) + 1:03d}"
        write_frame(self.folder / name, frame)
        facts = {
            "joints_rad": pose.positions,
            "T_base_tcp_controller": pose.T_base_tcp_controller,
            "stamp_s": pose.stamp_s,
        }
        write_json(self.folder / f"{name}_robot.json", facts)  # last: a view that was cut off does not count
        return name

    def frame(self, name: str) -> RgbdFrame:
        return FrameCell(self.folder / name).look()

    def pose(self, name: str) -> Pose:
        """
        Raises:
            AffordAgentError: the file does not hold a pose.
        """
        path = self.folder / f"{name}_robot.json"
        facts = _read(path)
        try:
            positions = np.array(facts["joints_rad"], np.float64)
            if positions.shape != (6,) or not np.isfinite(positions).all():
                raise ValueError(f"joints_rad = {facts['joints_rad']}, must be six finite numbers")
            T = check_rigid(facts["T_base_tcp_controller"], "T_base_tcp_controller")
            return Pose(positions, T, float(facts["stamp_s"]))
        except (KeyError, TypeError, ValueError) as error:
            raise AffordAgentError(f"{path} does not say where the arm was: {error}") from error

    def views(self) -> tuple[list[View], CameraIntrinsics, dict[str, str]]:
        """The views with enough of the board in them, the camera's intrinsics, and why each other view is not used.

        Raises:
            AffordAgentError: no views at all, or of cameras that differ.
        """
        seen, why_not, cameras = list[View](), dict[str, str](), dict[CameraIntrinsics, str]()
        for name in self.names:
            frame = self.frame(name)
            cameras.setdefault(frame.camera, name)
            found = view_of(
                name, frame.color, frame.camera, self.board, flange_pose(self.arm, self.pose(name).positions)
            )
            if isinstance(found, View):
                seen.append(found)
            else:
                why_not[name] = found
        if not cameras:
            raise AffordAgentError(f"{self.folder} holds no views; `affordagent calibrate collect` makes them")
        if len(cameras) > 1:
            raise AffordAgentError(
                f"the intrinsics of {' and '.join(list(cameras.values())[:2])} in {self.folder} differ: collect all "
                "views with one camera at one resolution"
            )
        return seen, next(iter(cameras)), why_not


def view_of(
    name: str, color: NDArray[np.uint8], camera: CameraIntrinsics, board: Board, T_base_flange: Array
) -> View | str:
    """The view of a picture, or why it cannot be used."""
    sighting = board.find(color)
    if sighting is None:
        return "too little of the board was found: all of it in view, no glare, no blur, markers of at least 15 pixels"
    points_m = board.corners_m[sighting.ids]
    T_camera_board, rms_px = board_pose(points_m, sighting.pixels, camera)
    if rms_px > MAX_OWN_RMS_PX:
        return (
            f"the corners are {rms_px:.1f} px from those of a flat board, limit {MAX_OWN_RMS_PX:g} px: mount it flat "
            "on something stiff, take the picture at rest, check the board's facts"
        )
    return View(name, T_base_flange, points_m, sighting.pixels, T_camera_board)


def _read(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AffordAgentError(f"cannot read {path}: {error}; `affordagent calibrate collect` writes it") from error
    if not isinstance(facts, dict):
        raise AffordAgentError(f"{path} must hold a JSON object, got {type(facts).__name__}")
    return facts
