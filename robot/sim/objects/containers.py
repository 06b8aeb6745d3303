"""Open things to put other things into. In no pool of the random scenes and in no training picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from affordagent.robot.sim.objects.model import HouseholdObject, Material
from affordagent.robot.sim.objects.shapes import box, difference, sample_colour

_WALL_M, _FLOOR_M = 0.005, 0.005
_CONTAINER_KG = 1.2  # heavy enough to stay where it is when something is laid into it


def _open_box(
    rng: np.random.Generator, category: str, length_m: float, width_m: float, height_m: float, material: Material
) -> HouseholdObject:
    """A floor and four walls, open above; outer sizes."""
    name, rgba = sample_colour(rng, ("grey", "blue", "red", "green", "yellow", "brown", "white"))
    parameters = {"length_m": length_m, "width_m": width_m, "height_m": height_m}
    obj = HouseholdObject(category, "body", name, parameters)
    hollow = (length_m - 2 * _WALL_M, width_m - 2 * _WALL_M, height_m)
    outer = box((length_m, width_m, height_m), (0, 0, height_m / 2))
    obj.add_visual("body", difference(outer, box(hollow, (0, 0, height_m / 2 + _FLOOR_M))), rgba, material)
    half, wall = (length_m / 2, width_m / 2, height_m / 2), _WALL_M / 2
    share_kg = _CONTAINER_KG / 6
    obj.add_collider("body", "box", (half[0], half[1], _FLOOR_M / 2), (0, 0, _FLOOR_M / 2), mass_kg=2 * share_kg)
    for sign in (-1, 1):
        long_side, short_side = (0, sign * (half[1] - wall), half[2]), (sign * (half[0] - wall), 0, half[2])
        obj.add_collider("body", "box", (half[0], wall, half[2]), long_side, mass_kg=share_kg)
        obj.add_collider("body", "box", (wall, half[1] - _WALL_M, half[2]), short_side, mass_kg=share_kg)
    return obj


def open_box(rng: np.random.Generator) -> HouseholdObject:
    """A storage box without a lid: 30 to 36 cm long, 22 to 26 cm wide, 6 to 9 cm high."""
    length_m, width_m, height_m = rng.uniform(0.30, 0.36), rng.uniform(0.22, 0.26), rng.uniform(0.06, 0.09)
    return _open_box(rng, "open box", float(length_m), float(width_m), float(height_m), "plastic")


def tray(rng: np.random.Generator) -> HouseholdObject:
    """A serving tray with a low rim: 32 to 38 cm long, 24 to 28 cm wide, 2 to 3 cm high."""
    length_m, width_m, height_m = rng.uniform(0.32, 0.38), rng.uniform(0.24, 0.28), rng.uniform(0.02, 0.03)
    return _open_box(rng, "tray", float(length_m), float(width_m), float(height_m), "wood")


CONTAINERS: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {"open box": open_box, "tray": tray}
