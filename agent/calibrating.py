"""What a person does with the arm during a calibration, step by step: collecting views, touching, measuring the tip.

ask: puts a line before the person and returns the answer, "q" = enough. say: shows a line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, invert, rotation_angle, transform_points
from affordagent.core.types import RgbdFrame
from affordagent.robot.arms import ArmName, flange_pose
from affordagent.robot.calibration.board import Board, board_pose
from affordagent.robot.calibration.hand_eye import MIN_VIEWS, View, rotation_range_deg
from affordagent.robot.calibration.tcp import MIN_TOUCHES, Tip, solve_tip
from affordagent.robot.calibration.views import Pose, ViewFolder, view_of
from affordagent.robot.calibration.watch import ArmWatch
from affordagent.robot.cameras.camera import Camera
from affordagent.robot.cameras.mounted import look_at_rest

GOOD_VIEWS = 15
GOOD_TILT_DEG = 40.0  # range about each of the camera's axes
MAX_TOUCH_MM = 5.0
MAX_TCP_MM, MAX_TCP_DEG = 5.0, 2.0
_PINK_BGR = (140, 20, 210)
_TURNS = ("up and down", "left and right", "about its viewing direction")

Ask = Callable[[str], str]
Say = Callable[[str], None]


def collect(folder: ViewFolder, camera: Camera, arm: ArmWatch, ask: Ask, say: Say) -> int:
    """Views by a person who moves the arm, until the answer is q. Returns how many the folder holds.

    A view that cannot be used is not kept, and the person is told why.
    """
    views = folder.views()[0] if folder.names else []
    while ask(f"{len(views)} views. Enter = take one, q = done: ").strip().lower() != "q":
        try:
            pose = arm.pose()
            frame, positions = look_at_rest(camera, arm)
            name = f"view {len(views) + 1}"
            view = view_of(name, frame.color, frame.camera, folder.board, flange_pose(folder.arm, positions))
        except StageFailure as failure:
            say(f"not taken: {failure.message}")
            continue
        if isinstance(view, str):
            say(f"not taken: {view}")
            continue
        saved = folder.add(frame, Pose(positions, pose.T_base_tcp_controller, frame.stamp_s))
        views.append(view)
        say(f"{saved}: {len(view.pixels)} of {len(folder.board.corners_m)} corners. {advice(views)}")
    return len(views)


def advice(views: list[View]) -> str:
    """Which views are still missing, in the words of someone who moves the camera before the board."""
    if len(views) < 2:
        return "Next: move and tilt, so that the board is seen from another side"
    ranges = tilt_ranges_deg(np.array([view.T_camera_board[:3, :3] for view in views]))
    parts = [
        f"tilt more {turn} ({tilt:.0f} of {GOOD_TILT_DEG:.0f} degrees)"
        for turn, tilt in zip(_TURNS, ranges, strict=True)
        if tilt < GOOD_TILT_DEG
    ]
    if len(views) < GOOD_VIEWS:
        parts.append(f"{GOOD_VIEWS - len(views)} more views ({MIN_VIEWS} at least)")
    return "Still needed: " + "; ".join(parts) if parts else "Enough: `affordagent calibrate solve` next"


def tilt_ranges_deg(rotations: Array) -> Array:
    """(n, 3, 3) of the board in the camera -> (3,) range about the camera's x, y and z axis, degrees."""
    turns = Rotation.from_matrix(rotations)
    return np.degrees(np.ptp((turns * turns.mean().inv()).as_rotvec(), axis=0))


@dataclass(frozen=True)
class Touches:
    """off_m: letter of the corner -> tip minus corner, (3,) in the base frame. poses: of the arm at each."""

    off_m: dict[str, Array]
    poses: list[Pose]

    @property
    def distances_mm(self) -> Array:
        return np.array([1000 * float(np.linalg.norm(off)) for off in self.off_m.values()])


def touch(corners: dict[str, Array], arm: ArmWatch, model: ArmName, tip_m: Array, ask: Ask, say: Say) -> Touches:
    """Compare where the camera puts the board's outer corners with where the tip finds them.

    corners: from `corners_in_base`. tip_m: (3,) in the flange frame.
    """
    off, poses = dict[str, Array](), list[Pose]()
    for letter, corner in corners.items():
        answer = ask(f"Touch the corner of the squares level with {letter} with the tip; Enter = touched, s = skip: ")
        if answer.strip().lower() == "q":
            break
        if answer.strip().lower() == "s":
            continue
        pose = arm.pose()
        off[letter] = transform_points(flange_pose(model, pose.positions), tip_m[None])[0] - corner
        poses.append(pose)
        x, y, z = 1000 * off[letter]
        say(f"{letter}: {np.linalg.norm(1000 * off[letter]):.1f} mm off (x {x:+.1f}, y {y:+.1f}, z {z:+.1f})")
    return Touches(off, poses)


def corners_in_base(frame: RgbdFrame, board: Board) -> dict[str, Array]:
    """Letter -> (3,) where the camera puts the four outer corners in the base frame.

    Raises:
        StageFailure: ("look", "calibration.poor"): too little of the board is seen.
    """
    sighting = board.find(frame.color)
    if sighting is None or frame.T_base_camera is None:
        raise StageFailure(
            "look",
            "calibration.poor",
            "the board is not found in the picture: lay it flat where the camera sees all of it",
        )
    T_camera_board, _ = board_pose(board.corners_m[sighting.ids], sighting.pixels, frame.camera)
    points = transform_points(frame.T_base_camera @ T_camera_board, board.corners_m)
    return {letter: points[i] for letter, i in board.touch_ids.items()}


def mark_corners(frame: RgbdFrame, corners: dict[str, Array], path: Path) -> None:
    """The picture with the corners to be touched, as a PNG. frame: with T_base_camera."""
    assert frame.T_base_camera is not None
    picture = cv2.cvtColor(frame.color, cv2.COLOR_RGB2BGR)
    pixels = frame.camera.project(transform_points(invert(frame.T_base_camera), np.array(list(corners.values()))))
    for letter, (u, v) in zip(corners, np.round(pixels).astype(int).tolist(), strict=True):
        cv2.drawMarker(picture, (u, v), _PINK_BGR, cv2.MARKER_CROSS, 14, 2)
        cv2.putText(picture, letter, (u + 8, v - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.7, _PINK_BGR, 2)
    cv2.imwrite(str(path), picture)


def tcp_difference(poses: list[Pose], model: ArmName, T_flange_tcp: Array) -> tuple[float, float, Array]:
    """The controller's tcp against ours: millimetres and degrees apart (means over the poses), and the middle
    T_flange_tcp (3,) that the controller goes by, metres."""
    tools = [invert(flange_pose(model, pose.positions)) @ pose.T_base_tcp_controller for pose in poses]
    apart_mm = [1000 * float(np.linalg.norm(tool[:3, 3] - T_flange_tcp[:3, 3])) for tool in tools]
    apart_deg = [np.degrees(rotation_angle(tool[:3, :3].T @ T_flange_tcp[:3, :3])) for tool in tools]
    return float(np.mean(apart_mm)), float(np.mean(apart_deg)), np.median([tool[:3, 3] for tool in tools], axis=0)


def measure_tip(arm: ArmWatch, model: ArmName, ask: Ask, say: Say) -> Tip:
    """The tip by touching one point from several sides, until the answer is q.

    Raises:
        StageFailure: ("look", "calibration.poor"): see `calibration.tcp.solve_tip`.
    """
    flanges = list[Array]()
    while ask(f"{len(flanges)} touches. Enter = the tip is on the point, q = done: ").strip().lower() != "q":
        try:
            flanges.append(flange_pose(model, arm.pose().positions))
        except StageFailure as failure:
            say(f"not taken: {failure.message}")
            continue
        turned = rotation_range_deg(np.array(flanges)[:, :3, :3]) if len(flanges) > 1 else np.zeros(3)
        missing = max(MIN_TOUCHES - len(flanges), 0)
        say(f"turned by {turned[0]:.0f} and {turned[1]:.0f} degrees so far; {missing} more touches at least")
    return solve_tip(np.array(flanges))
