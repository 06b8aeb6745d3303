"""Pinhole camera. Convention (OpenCV, RealSense): the centre of pixel (u, v) is at image coordinates (u, v);
images are indexed `image[v, u]`; depth is metric z along the optical axis, 0 where there is none."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array


@dataclass(frozen=True)
class CameraIntrinsics:
    """Pinhole intrinsics in pixels.

    Raises:
        ValueError: sizes or focal lengths not positive and finite, or the principal point outside the picture.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not np.isfinite(value):
                raise ValueError(f"camera {name} = {value} is not finite")
        for name in ("width", "height", "fx", "fy"):
            if getattr(self, name) <= 0:
                raise ValueError(f"camera {name} = {getattr(self, name)} must be above 0; read it from the calibration")
        if not (0 <= self.cx <= self.width and 0 <= self.cy <= self.height):
            raise ValueError(
                f"principal point ({self.cx}, {self.cy}) lies outside the {self.width}x{self.height} picture: "
                "these intrinsics belong to another resolution"
            )

    def back_project(self, depth_m: NDArray[np.floating]) -> Array:
        """(H, W) depth -> (H, W, 3) points in the camera frame; rows of zeros where depth is 0."""
        points = np.empty((self.height, self.width, 3))
        points[..., 2] = depth_m
        z = points[..., 2]
        np.multiply(((np.arange(self.width) - self.cx) / self.fx)[None, :], z, out=points[..., 0])
        np.multiply(((np.arange(self.height) - self.cy) / self.fy)[:, None], z, out=points[..., 1])
        return points

    def back_project_pixels(self, depth_m: NDArray[np.floating], pixels: NDArray[np.integer]) -> Array:
        """(H, W) depth, (N,) places in the raveled picture -> (N, 3) points in the camera frame, as `back_project`."""
        v = pixels // self.width
        points = np.empty((len(pixels), 3))
        points[:, 2] = depth_m.ravel()[pixels]
        z = points[:, 2]
        np.multiply((pixels - v * self.width - self.cx) / self.fx, z, out=points[:, 0])
        np.multiply((v - self.cy) / self.fy, z, out=points[:, 1])
        return points

    def back_project_mask(self, depth_m: NDArray[np.floating], mask: NDArray[np.bool_]) -> Array:
        """(H, W) depth, (H, W) mask -> (N, 3) camera-frame points of the mask's pixels that have depth, row by row."""
        pixels = np.flatnonzero(mask)
        return self.back_project_pixels(depth_m, pixels[depth_m.ravel()[pixels] > 0])

    def project(self, points_camera: Array) -> Array:
        """(N, 3) camera-frame points -> (N, 2) image coordinates (u, v)."""
        z = points_camera[:, 2]
        return np.stack(
            [self.fx * points_camera[:, 0] / z + self.cx, self.fy * points_camera[:, 1] / z + self.cy], axis=-1
        )
