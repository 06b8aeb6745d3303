"""What a RealSense makes of a perfect depth picture: correlated noise that grows with distance, steps of a millimetre,
and no reading at depth edges and on grazing surfaces."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

EDGE_M = 0.015  # depth steps of which the far side is partly lost
GRAZING = 0.012  # slope, metres of depth a pixel, from which readings start to fail
STEP_M = 0.001


def add_depth_noise(depth_m: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) float32 metres, 0 = none -> the same with noise and holes.

    The standard deviation follows Nguyen, Izadi and Lovell, "Modeling Kinect sensor noise", 3DIMPVT 2012, in its axial
    term 0.0012 + 0.0019 (z - 0.4)^2 m, half of which is shared by neighbouring pixels.
    """
    valid = depth_m > 0
    sigma = 0.0012 + 0.0019 * (depth_m - 0.4) ** 2
    fine = rng.normal(size=depth_m.shape).astype(np.float32)
    coarse = cv2.GaussianBlur(rng.normal(size=depth_m.shape).astype(np.float32), (0, 0), 2.5)
    coarse /= max(float(coarse.std()), 1e-9)
    noisy = depth_m + sigma * np.sqrt(0.5, dtype=np.float32) * (fine + coarse)
    noisy = np.round(noisy / STEP_M) * STEP_M
    lowest = cv2.erode(depth_m, np.ones((3, 3), np.uint8))
    step = depth_m - lowest  # how far behind its nearest neighbour a pixel lies
    lost = (step > EDGE_M) & (rng.random(depth_m.shape) < 0.6)
    lost |= (step > GRAZING) & (rng.random(depth_m.shape) < 0.3)
    patches = cv2.GaussianBlur(rng.random(depth_m.shape).astype(np.float32), (0, 0), 2)
    lost |= patches < np.quantile(patches, 0.004)
    return np.where(valid & ~lost, np.maximum(noisy, STEP_M), 0.0).astype(np.float32)
