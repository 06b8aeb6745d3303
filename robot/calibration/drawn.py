"""A camera that sees a drawn ChArUco board on grey: what a real one would see from a known pose. To try a calibration
without a camera, and to hold it against the truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.geometry import Array, invert, look_at, rigid, transform_points
from affordagent.core.types import RgbdFrame
from affordagent.robot.arms import flange_pose
from affordagent.robot.calibration.board import Board, board_pose, matrix
from affordagent.robot.calibration.hand_eye import Kind, View

CAMERA = CameraIntrinsics(640, 480, 612.0, 611.0, 322.4, 238.1)
NOMINAL_Q = np.array([0.3, -1.9, 1.6, -1.27, -1.57, 0.0])  # tool down, board in the middle of the picture
T_NOMINAL = rigid(np.eye(3), [-0.09, -0.12, 0.6])  # T_camera_board there
T_MOUNT_CAMERA: dict[Kind, Array] = {
    "eye_in_hand": rigid(Rotation.from_euler("xyz", [4, -3, 91], degrees=True).as_matrix(), [0.062, -0.031, 0.048]),
    "eye_to_hand": look_at((-1.1, 0.35, 0.75), (-0.4, -0.1, 0.5)),
}
_FINE = 3  # samples a pixel and axis
_PPM = 4000  # pixels of the board's picture a metre


@dataclass
class BoardCamera:
    """Renders the board from its pose in the camera, with depth.

    noise: of the picture, grey levels. depth_scale: what a wrong unit multiplies the depth by.
    """

    board: Board = field(default_factory=Board)
    camera: CameraIntrinsics = CAMERA
    noise: float = 2.0
    depth_scale: float = 1.0
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def look(self, T_camera_board: Array, stamp_s: float = 1.0) -> RgbdFrame:
        """What is seen with the board at that pose; 1.5 m of depth where it is not. stamp_s: POSIX seconds."""
        margin = _PPM // 50
        picture = np.pad(self.board.picture(_PPM // 1000), margin, constant_values=255)
        metres = np.array([[1 / _PPM, 0, 0.5 / _PPM - 0.02], [0, 1 / _PPM, 0.5 / _PPM - 0.02], [0, 0, 1]])
        fine = np.array([[_FINE, 0, (_FINE - 1) / 2], [0, _FINE, (_FINE - 1) / 2], [0, 0, 1]])
        H = fine @ matrix(self.camera) @ T_camera_board[:3, [0, 1, 3]] @ metres
        size = (self.camera.width * _FINE, self.camera.height * _FINE)
        grey = cv2.warpPerspective(picture, H, size, flags=cv2.INTER_LINEAR, borderValue=128)
        there = cv2.warpPerspective(np.full_like(picture, 255), H, size, flags=cv2.INTER_NEAREST)
        grey, there = (
            cv2.resize(p, (self.camera.width, self.camera.height), interpolation=cv2.INTER_AREA) for p in (grey, there)
        )
        noisy = np.clip(40 + 0.7 * grey + self.rng.normal(0, self.noise, grey.shape), 0, 255).astype(np.uint8)
        rays = self.camera.back_project(np.ones(grey.shape))
        normal = T_camera_board[:3, 2]
        depth_m = self.depth_scale * (normal @ T_camera_board[:3, 3]) / (rays @ normal)
        seen_m = np.where((there > 127) & (depth_m > 0), depth_m, 1.5).astype(np.float32)
        return RgbdFrame(np.repeat(noisy[..., None], 3, axis=2), seen_m, self.camera, None, stamp_s, "board")


def carrier_pose(kind: Kind, positions: Array) -> Array:
    """G of `robot.calibration.hand_eye` at joints (6,)."""
    T_base_flange = flange_pose("UR5e", positions)
    return T_base_flange if kind == "eye_in_hand" else invert(T_base_flange)


def board_in_camera(kind: Kind, positions: Array) -> Array:
    """The true T_camera_board at joints (6,). The board is fixed so that it is at T_NOMINAL at NOMINAL_Q."""
    X = T_MOUNT_CAMERA[kind]
    T_fixed_board = carrier_pose(kind, NOMINAL_Q) @ X @ T_NOMINAL
    return invert(X) @ invert(carrier_pose(kind, positions)) @ T_fixed_board


def joints(kind: Kind, count: int, seed: int, tilt_rad: float = 0.45) -> Array:
    """(count, 6) rad from which the whole board is in view, the wrist tilted to all sides."""
    rng, found, corners_m = np.random.default_rng(seed), list[Array](), Board().corners_m
    room_px = [CAMERA.width, CAMERA.height]
    while len(found) < count:
        q = NOMINAL_Q + rng.uniform(-1, 1, 6) * [0.1, 0.1, 0.1, tilt_rad, tilt_rad, 2 * tilt_rad]
        T = board_in_camera(kind, q)
        points = transform_points(T, corners_m)
        pixels = CAMERA.project(points)
        facing = T[2, 2] > 0.6
        if facing and (points[:, 2] > 0.35).all() and (pixels > 12).all() and (pixels < np.array(room_px) - 12).all():
            found.append(q)
    return np.array(found)


def views(kind: Kind, count: int, seed: int, noise_px: float = 0.3, tilt_rad: float = 0.45) -> list[View]:
    """Views without pictures: the corners where they fall, with noise."""
    rng, corners_m = np.random.default_rng(seed + 1000), Board().corners_m
    made = []
    for i, q in enumerate(joints(kind, count, seed, tilt_rad)):
        pixels = CAMERA.project(transform_points(board_in_camera(kind, q), corners_m))
        pixels += rng.normal(0, noise_px, pixels.shape)
        T_camera_board, _ = board_pose(corners_m, pixels, CAMERA)
        made.append(View(f"view_{i:03d}", flange_pose("UR5e", q), corners_m, pixels, T_camera_board))
    return made
