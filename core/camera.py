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
        v, u = np.mgrid[: self.height, : self.width]
        z = np.asarray(depth_m, np.float64)
        return np.stack([(u - self.cx) / self.fx * z, (v - self.cy) / self.fy * z, z], axis=-1)

    def back_project_pixels(self, depth_m: NDArray[np.floating], pixels: NDArray[np.integer]) -> Array:
        """(H, W) depth, (N,) places in the raveled picture -> (N, 3) points in the camera frame, as `back_project`."""
        v, u = np.divmod(pixels, self.width)
        z = depth_m.ravel()[pixels].astype(np.float64)
        return np.stack([(u - self.cx) / self.fx * z, (v - self.cy) / self.fy * z, z], axis=-1)

    def project(self, points_camera: Array) -> Array:
        """(N, 3) camera-frame points -> (N, 2) image coordinates (u, v)."""
        z = points_camera[:, 2]
        return np.stack(
            [self.fx * points_camera[:, 0] / z + self.cx, self.fy * points_camera[:, 1] / z + self.cy], axis=-1
        )
