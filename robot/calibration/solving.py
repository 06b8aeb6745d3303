"""From a folder of views to a calibration: intrinsics if asked, hand-eye, and the check of the depth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, invert, transform_points
from affordagent.robot.arms import flange_pose
from affordagent.robot.calibration.board import Board, board_pose, matrix
from affordagent.robot.calibration.file import Calibration, CameraFacts, Residuals, versions
from affordagent.robot.calibration.hand_eye import HandEye, Kind, View, check_views, poor, solve
from affordagent.robot.calibration.views import ViewFolder

KINDS: tuple[Kind, ...] = ("eye_in_hand", "eye_to_hand")
MAX_KINEMATICS_MM = 10.0
_PATCH = 2  # pixels to each side of a corner whose middle depth counts


@dataclass(frozen=True)
class Solved:
    """unusable: why a view was not even tried. kinematics_mm: largest distance between the controller's tcp and ours,
    after the mean tool is taken out: what the arm's factory calibration adds to the nominal lengths that this package
    moves by. compared: what came of the other kind, where both were tried."""

    hand_eye: HandEye
    calibration: Calibration
    unusable: dict[str, str]
    kinematics_mm: float
    compared: str = ""


def calibrate(folder: ViewFolder, kind: Kind | None = None, estimate_intrinsics: bool = False) -> Solved:
    """The calibration by a folder of views. kind: None tries both and keeps the one that fits.

    Raises:
        StageFailure: ("look", "calibration.poor"): the views do not give a calibration, with the mend. Whether it is
            good enough to be used say its `residuals.faults`.
        AffordAgentError: the folder cannot be read.
    """
    views, device, unusable = folder.views()
    board, camera = folder.board, device
    try:
        check_views(views)
    except StageFailure as failure:
        if not unusable:
            raise
        named = "; ".join(f"{name}: {why}" for name, why in list(unusable.items())[:3])
        raise poor(f"{failure.message}. Not used: {named}") from failure
    kinematics_mm = kinematics_difference_mm(folder, [view.name for view in views])
    if kinematics_mm > MAX_KINEMATICS_MM:
        raise poor(
            f"the controller's tcp and that of a nominal {folder.arm} wander {kinematics_mm:.1f} mm apart over the "
            f"views, limit {MAX_KINEMATICS_MM:g} mm: [ur5] model names another arm, or the tcp on the controller was "
            "changed between the views"
        )
    if estimate_intrinsics:
        camera = estimated_intrinsics(views, device)
        views = [replace(v, T_camera_board=board_pose(v.points_m, v.pixels, camera)[0]) for v in views]
    found, compared = _best_kind(views, kind, camera, board)
    offset_mm, scale = depth_check(folder, found)
    residuals = Residuals(
        rms_px=found.rms_px,
        max_px=found.max_px,
        consistency_mm=found.consistency_mm,
        consistency_deg=found.consistency_deg,
        spread_mm=found.spread_mm,
        spread_deg=found.spread_deg,
        rotation_deg=(float(found.rotation_deg[0]), float(found.rotation_deg[1]), float(found.rotation_deg[2])),
        views=len(found.views),
        outliers=found.outliers,
        depth_offset_mm=offset_mm,
        depth_scale=scale,
    )
    calibration = Calibration(
        date=datetime.now(UTC),
        kind=found.kind,
        T=found.T_mount_camera.tolist(),
        camera=CameraFacts.of(camera, folder.serial),
        device=CameraFacts.of(device, folder.serial) if estimate_intrinsics else None,
        arm=folder.arm,
        residuals=residuals,
        T_fixed_board=found.T_fixed_board.tolist(),
        versions=versions(),
    )
    return Solved(found, calibration, unusable, kinematics_mm, compared)


def _best_kind(views: list[View], kind: Kind | None, camera: CameraIntrinsics, board: Board) -> tuple[HandEye, str]:
    found, failures = list[HandEye](), dict[Kind, StageFailure]()
    for one in KINDS if kind is None else (kind,):
        try:
            found.append(solve(views, one, camera, board.centre_m))
        except StageFailure as failure:
            failures[one] = failure
    if not found:
        raise next(iter(failures.values()))
    found.sort(key=lambda hand_eye: (len(hand_eye.outliers), hand_eye.rms_px))
    others = [f"{one.kind} gives {one.rms_px:.1f} px" for one in found[1:]]
    others += [f"{one} does not fit" for one in failures]
    return found[0], "; ".join(others).replace("_", " ")


def estimated_intrinsics(views: list[View], device: CameraIntrinsics) -> CameraIntrinsics:
    """Focal lengths and centre by the views (Zhang 2000, `cv2.calibrateCamera`), without distortion: what a camera's
    driver has not taken out shows in the residuals."""
    flags = cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_ZERO_TANGENT_DIST
    flags |= cv2.CALIB_FIX_K1 | cv2.CALIB_FIX_K2 | cv2.CALIB_FIX_K3
    _, K, *_ = cv2.calibrateCamera(
        [view.points_m.astype(np.float32) for view in views],
        [view.pixels.astype(np.float32) for view in views],
        (device.width, device.height),
        matrix(device),
        np.zeros(5),
        flags=flags,
    )
    return replace(device, fx=float(K[0, 0]), fy=float(K[1, 1]), cx=float(K[0, 2]), cy=float(K[1, 2]))


def kinematics_difference_mm(folder: ViewFolder, names: list[str]) -> float:
    """See `Solved`."""
    poses = [folder.pose(name) for name in names]
    tools = np.array([(invert(flange_pose(folder.arm, p.positions)) @ p.T_base_tcp_controller)[:3, 3] for p in poses])
    return float(1000 * np.linalg.norm(tools - tools.mean(0), axis=1).max())


def depth_check(folder: ViewFolder, found: HandEye) -> tuple[float | None, float | None]:
    """Mean of depth minus distance by pose over all corners, mm, and their middle ratio; None without depth there. A
    ratio off 1 is a wrong depth scale, an offset alone a depth that is aligned to another picture, or a poor
    calibration."""
    by_depth, by_pose = list[Array](), list[Array]()
    for view in found.views:
        depth_m = folder.frame(view.name).depth_m
        measured = np.array([_depth_at(depth_m, pixel) for pixel in view.pixels])
        expected = transform_points(found.T_camera_board(view), view.points_m)[:, 2]
        by_depth.append(measured[measured > 0])
        by_pose.append(expected[measured > 0])
    z, z_pose = np.concatenate(by_depth), np.concatenate(by_pose)
    if not len(z):
        return None, None
    return float(1000 * (z - z_pose).mean()), float(np.median(z / z_pose))


def _depth_at(depth_m: NDArray[np.float32], pixel: Array) -> float:
    """Middle of the readings around a corner, 0 where there are none."""
    u, v = np.round(pixel).astype(int)
    patch = depth_m[max(v - _PATCH, 0) : v + _PATCH + 1, max(u - _PATCH, 0) : u + _PATCH + 1]
    there = patch[patch > 0]
    return float(np.median(there)) if len(there) else 0.0
