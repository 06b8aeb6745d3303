"""How large household things are: plausible outer dimensions, metres, from catalogues and kitchen drawers.

A weak but honest witness next to the picture: a thing 30 cm long and 1 cm high is no mug.
"""

from __future__ import annotations

import numpy as np

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


def size_likelihood(name: str, dimensions_m: Array) -> float:
    """Likelihood of footprint length, footprint width and height (3,) for a thing, per unit of log size; the same for
    every thing where the size is not known (NaN)."""
    thing = lexicon().get(name)
    poses = SIZES_M.get(name) or (thing.sizes_m if thing else None)
    if poses is None or not np.isfinite(dimensions_m).all():
        return float(UNKNOWN_SPAN**-3)
    size = np.log(np.maximum(dimensions_m, 1e-3))
    total = 0.0
    for pose in poses:
        low, high = np.log(np.array(pose)).T
        outside = np.maximum(low - size, 0) + np.maximum(size - high, 0)
        span = high - low + SOFTNESS * np.sqrt(2 * np.pi)
        total += float(np.exp(-0.5 * (outside / SOFTNESS) ** 2).prod() / span.prod())
    return total / len(poses)
