"""Square crops of pictures, half-pixel correct both ways (pixel centres at whole numbers, as in core.camera)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.geometry import Array

Image = NDArray[Any]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class CropWindow:
    """x0, y0: left and top edge, side: width and height, in pixels where pixel u covers [u, u + 1); may leave the
    picture."""

    x0: float
    y0: float
    side: float

    @classmethod
    def around(cls, box: Box, scale: float, shift: tuple[float, float] = (0.0, 0.0), least: float = 48.0) -> CropWindow:
        """The square about the middle of `box` (x0, y0, x1, y1), `scale` times its longer side, at least `least`
        pixels; `shift` in shares of the side."""
        side = max(max(box[2] - box[0], box[3] - box[1]) * scale, least)
        return cls(
            (box[0] + box[2]) / 2 + (shift[0] - 0.5) * side, (box[1] + box[3]) / 2 + (shift[1] - 0.5) * side, side
        )

    def moved(self, x: float, y: float) -> CropWindow:
        return CropWindow(self.x0 + x, self.y0 + y, self.side)

    def cut(self, image: Image, size: int, nearest: bool = False, outside: float | None = None) -> Image:
        """(H, W[, C]) -> (size, size[, C]), averaged where it shrinks. outside: value past the picture's edge, None =
        repeat the edge."""
        factor = 1 if nearest else max(1, round(self.side / size))
        step = self.side / (size * factor)
        to_source = np.array([[step, 0, self.x0 + step / 2 - 0.5], [0, step, self.y0 + step / 2 - 0.5]])
        flags = (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
        border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
        fine = cv2.warpAffine(
            image, to_source, (size * factor,) * 2, flags=flags, borderMode=border, borderValue=[outside or 0.0] * 4
        )
        return fine if factor == 1 else cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)

    def paste(self, values: NDArray[np.float32], shape: tuple[int, int], outside: float = 0.0) -> NDArray[np.float32]:
        """(n, n) values of the crop's cells -> (H, W), `outside` where the crop does not reach."""
        step = self.side / len(values)
        to_source = np.array([[1 / step, 0, (0.5 - self.x0) / step - 0.5], [0, 1 / step, (0.5 - self.y0) / step - 0.5]])
        padded = cv2.copyMakeBorder(values, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
        to_source[:, 2] += 1
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size, border = (shape[1], shape[0]), cv2.BORDER_CONSTANT
        pasted = cv2.warpAffine(padded, to_source, size, flags=flags, borderMode=border, borderValue=outside)
        return pasted.astype(np.float32, copy=False)

    def pixel_centres(self, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(size,) image coordinates u and v of the columns and rows of a crop of that size."""
        middle = (np.arange(size) + 0.5) * self.side / size - 0.5
        return self.x0 + middle, self.y0 + middle


def crop_geometry(
    window: CropWindow,
    size: int,
    proposal: NDArray[np.bool_],
    depth_m: NDArray[np.float32],
    camera: CameraIntrinsics,
    plane_camera: Array,
    origin: tuple[int, int] = (0, 0),
) -> NDArray[np.float32]:
    """The (5, size, size) geometry channels of `mini_model`: proposal 0/1, height above the table / 5 cm, depth
    relative to the proposal's median / 10 cm (both clipped to [-1, 3]), 1 where the depth is valid, and the crop's side
    in units of 30 cm everywhere.

    proposal, depth_m: (H, W) or the part of the picture that begins at pixel `origin` (u, v). Zeros throughout when no
    depth is valid on the proposal.
    """
    local = window.moved(-origin[0], -origin[1])
    mask = local.cut(proposal.astype(np.float32), size, outside=0.0)
    z = local.cut(depth_m, size, nearest=True, outside=0.0).astype(np.float64)
    valid = z > 0
    inside = valid & (mask > 0.5)
    if not inside.any():
        return np.zeros((5, size, size), np.float32)
    median = float(np.median(z[inside]))
    u, v = window.pixel_centres(size)
    nx, ny, nz, d = plane_camera
    height = z * (nx * (u - camera.cx)[None] / camera.fx + ny * (v - camera.cy)[:, None] / camera.fy + nz) + d
    metres = window.side * median / camera.fx
    return np.stack(
        [
            mask,
            np.where(valid, np.clip(height / 0.05, -1, 3), 0),
            np.where(valid, np.clip((z - median) / 0.1, -1, 3), 0),
            valid,
            np.full_like(z, metres / 0.3),
        ]
    ).astype(np.float32)
