"""Boxes on a table, ray-cast to an exact RGB-D frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.geometry import Array, look_at
from affordagent.core.types import Mask, RgbdFrame

CAMERA = CameraIntrinsics(320, 240, 300.0, 300.0, 159.5, 119.5)
TABLE_RGB = (150, 120, 90)


@dataclass(frozen=True)
class Box:
    """centre: x, y of the foot; size: x, y, z; turned by yaw about the vertical; base_z_m: height of its underside."""

    centre: tuple[float, float]
    size: tuple[float, float, float]
    yaw_rad: float = 0.0
    rgb: tuple[int, int, int] = (200, 30, 30)
    base_z_m: float = 0.0


def raycast(boxes: list[Box], T_base_camera: Array | None = None, known: bool = True) -> tuple[RgbdFrame, list[Mask]]:
    """The frame and each box's visible mask; the table is z = 0 of the base everywhere."""
    T = look_at((0.95, 0.0, 0.6), (0.45, 0.0, 0.0)) if T_base_camera is None else T_base_camera
    v, u = np.mgrid[: CAMERA.height, : CAMERA.width]
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(u.shape)], -1) @ T[:3, :3].T
    origin = T[:3, 3]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(rays[..., 2] < 0, -origin[2] / rays[..., 2], np.inf)
        label = np.full(u.shape, -1)
        for i, box in enumerate(boxes):
            c, s = np.cos(box.yaw_rad), np.sin(box.yaw_rad)
            R = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1.0]])
            middle = np.array([*box.centre, box.base_z_m + box.size[2] / 2])
            o, d = R @ (origin - middle), rays @ R.T
            half = np.array(box.size) / 2
            near, far = np.sort(np.stack([(-half - o) / d, (half - o) / d]), axis=0)
            enter, leave = near.max(-1), far.min(-1)
            hit = (enter < leave) & (enter > 0) & (enter < depth)
            depth[hit], label[hit] = enter[hit], i
    depth[depth > 3] = 0
    color = np.full((*u.shape, 3), TABLE_RGB, np.uint8)
    for i, box in enumerate(boxes):
        color[label == i] = box.rgb
    frame = RgbdFrame(color, depth.astype(np.float32), CAMERA, T if known else None, source="raycast")
    return frame, [label == i for i in range(len(boxes))]


def iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def with_noise(frame: RgbdFrame, rng: np.random.Generator) -> RgbdFrame:
    """2 per mille of white depth noise, and 1 % of the pixels without a reading."""
    depth = frame.depth_m * (1 + 0.002 * rng.normal(size=frame.depth_m.shape))
    depth[rng.random(depth.shape) < 0.01] = 0
    return replace(frame, depth_m=depth.astype(np.float32))
