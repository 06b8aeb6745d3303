"""What an active stereo camera (RealSense D400) makes of a perfect picture: correlated noise that grows with the square
of the distance, steps, flying pixels at edges; no reading beside near objects, on grazing, black or glaring surfaces.

Sources: the stereo error model of Keselman et al., "Intel RealSense Stereoscopic Depth Cameras", CVPRW 2017 (noise and
steps proportional to z^2, occlusion beside near objects); Nguyen et al., "Modeling Kinect Sensor Noise", 3DIMPVT 2012
(loss on grazing surfaces). The sizes are set to look like a D435 at 0.6 m and are not fitted to a recorded camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array

BLACK, GLARE = 22, 250  # brightest and darkest channel, 0 to 255
EDGE_M = 0.012  # a step of depth that counts as an edge


@dataclass(frozen=True)
class SensorNoise:
    """axial_per_m: standard deviation of depth / z^2, 0.0028 = 1 mm at 0.6 m. correlation_px: width of its blobs.
    step_per_m: rounding / z^2, of disparity. baseline_m: between the two imagers, what makes the shadow of missing
    readings on the left of near objects. flying, grazing, dark: share of readings at edges that land between the
    surfaces, lost at more than 75 degrees of incidence, and lost on black or glaring pixels. color: standard deviation
    of the picture, levels. With all of them 0 pictures stay as they are.
    """

    axial_per_m: float = 0.0028
    correlation_px: float = 2.0
    step_per_m: float = 0.0008
    baseline_m: float = 0.05
    flying: float = 0.35
    grazing: float = 0.7
    dark: float = 0.5
    color: float = 2.5

    def apply(
        self, color: NDArray[np.uint8], depth_m: NDArray[np.float32], focal_px: float, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Noisy copies of a (H, W, 3) uint8 picture and (H, W) float32 depth in metres (0 = none, before and after)."""
        lost = depth_m <= 0
        lost |= _stereo_shadow(depth_m, focal_px * self.baseline_m)
        lost |= _patches(rng, depth_m.shape, self.grazing) & (_incidence(depth_m, focal_px) > np.deg2rad(75))
        unseen = (color.max(2) < BLACK) | (color.min(2) > GLARE)
        lost |= _patches(rng, depth_m.shape, self.dark) & unseen
        depth = self._mix_edges(depth_m, rng)
        z2 = np.square(depth_m, dtype=np.float64)
        depth = depth + self.axial_per_m * z2 * _blobs(rng, depth_m.shape, self.correlation_px)
        if self.step_per_m > 0:
            step = np.maximum(self.step_per_m * z2, 1e-6)
            depth = np.round(depth / step) * step
        noisy = np.where(lost, 0.0, np.maximum(depth, 0.0)).astype(np.float32)
        if self.color == 0:
            return color.copy(), noisy
        picture = color + rng.normal(0, self.color, color.shape)
        return np.clip(np.round(picture), 0, 255).astype(np.uint8), noisy

    def _mix_edges(self, depth_m: NDArray[np.float32], rng: np.random.Generator) -> Array:
        """Some readings at edges land between the two surfaces, and edges move by a pixel in patches."""
        near = cv2.erode(depth_m, np.ones((3, 3), np.uint8))
        far = cv2.dilate(depth_m, np.ones((3, 3), np.uint8))
        edge = (far - near > EDGE_M) & (near > 0)
        flies = edge & (rng.random(depth_m.shape) < self.flying)
        between = near + rng.random(depth_m.shape) ** 2 * (far - near)
        return np.where(flies, between, depth_m).astype(np.float64)


NO_NOISE = SensorNoise(0, 0, 0, 0, 0, 0, 0, 0)


def _blobs(rng: np.random.Generator, shape: tuple[int, ...], sigma_px: float) -> Array:
    """Unit-variance noise, half of its variance shared by neighbours."""
    fine = rng.normal(size=shape)
    if sigma_px == 0:
        return fine
    coarse = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), sigma_px)
    return np.sqrt(0.5) * (fine + coarse / coarse.std())


def _patches(rng: np.random.Generator, shape: tuple[int, ...], share: float) -> NDArray[np.bool_]:
    """About `share` of the pixels, in blobs a few pixels wide."""
    field = _blobs(rng, shape, 3.0)
    return field < np.quantile(field, share) if share > 0 else np.zeros(shape, bool)


def _stereo_shadow(depth_m: NDArray[np.float32], focal_baseline: float) -> NDArray[np.bool_]:
    """Pixels the right imager cannot see: something nearer covers them, so they have no disparity."""
    if focal_baseline == 0:
        return np.zeros(depth_m.shape, bool)
    width = depth_m.shape[1]
    disparity = np.where(depth_m > 0, focal_baseline / np.maximum(depth_m, 1e-6), 0.0)
    column = np.arange(width) - disparity  # in the right imager
    ahead = np.minimum.accumulate(column[:, ::-1], axis=1)[:, ::-1]
    hidden = np.zeros(depth_m.shape, bool)
    hidden[:, :-1] = column[:, :-1] > ahead[:, 1:] + 0.5
    return hidden


def _incidence(depth_m: NDArray[np.float32], focal_px: float) -> Array:
    """(H, W) angle between the surface's normal and the optical axis, radians, from the slope of depth."""
    metres_per_px = np.maximum(depth_m, 1e-6) / focal_px
    slope_y, slope_x = np.gradient(depth_m.astype(np.float64))
    slope = np.hypot(slope_x, slope_y)
    slope[slope > EDGE_M] = 0.0  # an edge, not a slope
    return np.arctan(slope / metres_per_px)
