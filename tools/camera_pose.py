"""Where the camera hangs, when nobody has said: from the table plane, gravity and an assumption that is spelt out."""

from __future__ import annotations

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, check_rigid
from affordagent.core.types import RgbdFrame, TableScene

ASSUMED_X_M = 0.45  # a comfortable reach of a UR5 in front of its base


def estimate_T_base_camera(frame: RgbdFrame, scene: TableScene) -> tuple[Array, str]:
    """(T_base_camera (4, 4), the assumption in words).

    Height and tilt are measured: the table is z = 0 of the base. Heading and position cannot be: up in the picture is
    taken as straight away from the robot (+x), and the middle of what stands on the table (or, with nothing there,
    where the optical axis meets the table) as x = 0.45 m, y = 0.

    Raises:
        StageFailure: ("look", "calibration.pose") when the plane faces away from the camera or the axis misses it.
    """
    up, offset = scene.plane_camera[:3], float(scene.plane_camera[3])
    if offset <= 0:
        raise StageFailure("look", "calibration.pose", f"the table lies {offset:.3f} m above the camera: not a table")
    away = np.array([0.0, -1.0, 1.0])  # image-up and forward: one of them is never along the table's normal
    away = away - (away @ up) * up
    length = float(np.linalg.norm(away))
    if length < 1e-3:
        away, length = np.array([0.0, -1.0, 0.0]) + up[1] * up, 1.0
    forward = away / np.linalg.norm(away)
    R_base_camera = np.stack([forward, np.cross(up, forward), up])
    anchor, what = _anchor(frame, scene)
    T_base_camera = np.eye(4)
    T_base_camera[:3, :3] = R_base_camera
    T_base_camera[:3, 3] = np.array([ASSUMED_X_M, 0.0, 0.0]) - R_base_camera @ anchor
    tilt_deg = float(np.degrees(np.arcsin(np.clip(-up[2], -1, 1))))
    assumption = (
        f"camera mounting assumed: table at z = 0, camera {offset:.2f} m above it looking {tilt_deg:.0f} degrees down "
        f"(both measured); up in the picture = away from the robot (+x), {what} at x = {ASSUMED_X_M} m, y = 0 "
        "(both assumed, so the grasp poses hold in the camera frame only)"
    )
    return check_rigid(T_base_camera, "T_base_camera"), assumption


def _anchor(frame: RgbdFrame, scene: TableScene) -> tuple[Array, str]:
    """A point on the table, camera frame, and what it is."""
    up, offset = scene.plane_camera[:3], float(scene.plane_camera[3])
    if scene.proposals:
        points = frame.camera.back_project(frame.depth_m)
        seen = frame.depth_m > 0
        centres = [np.median(points[p.mask & seen], axis=0) for p in scene.proposals if (p.mask & seen).any()]
        if centres:
            centre = np.mean(centres, axis=0)
            return centre - (up @ centre + offset) * up, "the middle of the objects"
    if up[2] > -1e-3:
        raise StageFailure("look", "calibration.pose", "the optical axis does not meet the table: tilt the camera down")
    return np.array([0.0, 0.0, -offset / up[2]]), "where the optical axis meets the table"
