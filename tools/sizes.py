"""How large household things are: plausible outer dimensions, metres, from catalogues and kitchen drawers.

A weak but honest witness next to the picture: a thing 30 cm long and 1 cm high is no mug.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array
from affordagent.core.lexicon import lexicon

Range = tuple[float, float]

# Length and width of the footprint, height above the table; several poses where a thing may stand or lie. Those of
# things outside the catalogue are in the lexicon.
SIZES_M: dict[str, list[tuple[Range, Range, Range]]] = {
    "strainer": [((0.18, 0.40), (0.07, 0.24), (0.03, 0.12))],
    "fixed joint pliers": [((0.13, 0.24), (0.04, 0.12), (0.008, 0.03))],
    "slip joint pliers": [((0.15, 0.28), (0.04, 0.12), (0.008, 0.03))],
    "locking pliers": [((0.14, 0.28), (0.04, 0.10), (0.01, 0.045))],
    "hammer": [((0.22, 0.40), (0.07, 0.16), (0.02, 0.05))],
    "ladle": [((0.20, 0.38), (0.06, 0.12), (0.03, 0.11))],
    "whisk": [((0.18, 0.35), (0.04, 0.10), (0.025, 0.09))],
    "measuring cup": [((0.10, 0.22), (0.05, 0.13), (0.03, 0.15))],
    "power drill": [((0.16, 0.30), (0.13, 0.26), (0.05, 0.10))],
    "adjustable wrench": [((0.13, 0.32), (0.035, 0.08), (0.008, 0.025))],
    "combination wrench": [((0.12, 0.32), (0.02, 0.055), (0.006, 0.02))],
    "mug": [((0.09, 0.16), (0.06, 0.11), (0.07, 0.13))],
    "ratchet": [((0.14, 0.32), (0.025, 0.055), (0.015, 0.04))],
    "utensil": [((0.13, 0.24), (0.015, 0.06), (0.005, 0.035))],
    "pot or pan": [((0.24, 0.55), (0.14, 0.34), (0.03, 0.18))],
    "spatula": [((0.22, 0.42), (0.05, 0.12), (0.01, 0.08))],
    "screwdriver": [((0.12, 0.32), (0.018, 0.045), (0.015, 0.045))],
    "knife": [((0.15, 0.40), (0.018, 0.09), (0.006, 0.03))],
    "scissors": [((0.12, 0.25), (0.05, 0.10), (0.006, 0.02))],
    "bottle": [((0.05, 0.12), (0.04, 0.11), (0.12, 0.35)), ((0.14, 0.35), (0.05, 0.12), (0.04, 0.12))],
    "box": [((0.06, 0.28), (0.04, 0.20), (0.03, 0.30))],
    "can": [((0.05, 0.12), (0.05, 0.11), (0.06, 0.18)), ((0.08, 0.18), (0.05, 0.11), (0.05, 0.11))],
    "ball": [((0.04, 0.24), (0.04, 0.24), (0.04, 0.24))],
    "banana": [((0.13, 0.24), (0.03, 0.12), (0.025, 0.06))],
}
SOFTNESS = 0.15  # log size: a thing 15 % outside its range keeps 60 % of its likelihood
UNKNOWN_SPAN = np.log(5.0)  # of a thing whose size nobody knows


def size_likelihoods(names: Sequence[str], dimensions_m: Array) -> Array:
    """(P, N) likelihood of (P, 3) footprint length, footprint width and height for each of N things, per unit of log
    size: the mean over the thing's poses. The same for every thing where a size is not known (NaN), and for things
    whose size nobody knows.
    """
    low, high, pose = _ranges(tuple(names))
    size = np.log(np.maximum(dimensions_m, 1e-3))[:, None, None]  # (P, 1, 1, 3)
    outside = np.maximum(low - size, 0) + np.maximum(size - high, 0)  # (P, N, poses, 3) from here on
    span = high - low + SOFTNESS * np.sqrt(2 * np.pi)
    fits = np.exp(-0.5 * (outside / SOFTNESS) ** 2).prod(-1) / span.prod(-1)
    mean = np.where(pose, fits, 0).sum(-1) / np.maximum(pose.sum(-1), 1)
    known = pose.any(-1) & np.isfinite(dimensions_m).all(1, keepdims=True)
    return np.where(known, mean, UNKNOWN_SPAN**-3)


@lru_cache(maxsize=32)
def _ranges(names: tuple[str, ...]) -> tuple[Array, Array, NDArray[np.bool_]]:
    """(N, poses, 3) logarithms of the lower and upper bounds, and (N, poses) which poses there are."""
    all_poses = [SIZES_M.get(name) or (lexicon()[name].sizes_m if name in lexicon() else ()) for name in names]
    most = max((len(poses) for poses in all_poses), default=1)
    bounds = np.zeros((len(names), max(most, 1), 3, 2))
    there = np.zeros(bounds.shape[:2], bool)
    for i, poses in enumerate(all_poses):
        if poses:
            bounds[i, : len(poses)] = np.log(np.array(poses))
            there[i, : len(poses)] = True
    return bounds[..., 0], bounds[..., 1], there
