"""Small holes in the depth of a smooth surface, filled from what surrounds them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.geometry import Array
from affordagent.core.types import Mask

MOST_M2 = 6e-5  # seen area of a hole that is filled: 8 mm across
RIM_PX = 2  # what surrounds a hole
RIM_SOUND = 0.75  # share of it with a sound depth; the rest are other holes
MISFIT_M = 0.0015  # of the rim to a plane, root mean square, beyond the noise
MISFIT_SIGMAS = 1.5


def fill_holes(
    depth_m: NDArray[np.float32], own: Mask, sound: Mask, sigma_m: NDArray[np.float32], camera: CameraIntrinsics
) -> tuple[NDArray[np.float32], Mask]:
    """A copy of the depth in which small holes are filled, and the (H, W) pixels that were.

    A hole is filled when all pixels round it belong to the same object (`own`), nearly all of them are `sound` (above
    the table, not between surfaces), and one plane explains them to within the noise: it then lies on one smooth
    surface. Holes at outlines, across edges and where the table shows through stay as they are.

    sigma_m: (H, W) expected noise.
    """
    out, filled = depth_m.copy(), np.zeros(depth_m.shape, bool)
    missing = own & (depth_m <= 0)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(missing.astype(np.uint8))
    for k in range(1, count):
        x, y, width, height, area = (int(n) for n in stats[k])
        top, left = max(y - RIM_PX, 0), max(x - RIM_PX, 0)
        window = np.s_[top : y + height + RIM_PX, left : x + width + RIM_PX]
        hole = labels[window] == k
        rim = cv2.dilate(hole.astype(np.uint8), np.ones((2 * RIM_PX + 1,) * 2, np.uint8)).astype(bool) & ~hole
        known = rim & sound[window]
        if not own[window][rim].all() or known.sum() < RIM_SOUND * rim.sum():
            continue
        depth = _on_plane(depth_m[window], hole, known, float(np.median(sigma_m[window][known])))
        if depth is not None and area * float(np.median(depth)) ** 2 / (camera.fx * camera.fy) <= MOST_M2:
            out[window][hole] = depth
            filled[window] |= hole
    return out, filled


def _on_plane(depth_m: NDArray[np.float32], hole: Mask, known: Mask, sigma_m: float) -> Array | None:
    """(N,) depths of the hole's pixels on the plane through the known ones; None where no plane explains these. A plane
    in space is one in 1 / depth over the picture, too."""
    v, u = np.nonzero(known)
    z = depth_m[known].astype(np.float64)
    plane, *_ = np.linalg.lstsq(np.stack([u, v, np.ones(len(u))], axis=1), 1 / z, rcond=None)
    misfit_m = float(np.sqrt(np.mean((1 / (plane[0] * u + plane[1] * v + plane[2]) - z) ** 2)))
    if misfit_m > MISFIT_M + MISFIT_SIGMAS * sigma_m:
        return None
    v, u = np.nonzero(hole)
    return 1 / (plane[0] * u + plane[1] * v + plane[2])
