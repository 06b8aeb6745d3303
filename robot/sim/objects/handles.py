"""Straight handles with a shaped profile, and the thin necks that join them to heads."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.model import HouseholdObject, Material
from affordagent.robot.sim.objects.rest import add_chain
from affordagent.robot.sim.objects.shapes import (
    Rgba,
    moved,
    rot_x,
    sample_colour,
    sample_steel,
    sample_wood,
    sweep,
    torus,
)

STYLES = ("plain", "taper", "waisted", "contour", "bulb")


def sample_handle_material(rng: np.random.Generator, wood: float = 0.3) -> tuple[str, Rgba, Material]:
    """Colour word, shade and material of a kitchen handle: wooden with probability `wood`, else plastic."""
    if rng.random() < wood:
        return "brown", sample_wood(rng), "wood"
    name, rgba = sample_colour(
        rng, ["black"] * 4 + ["red", "blue", "green", "white", "grey", "orange", "purple", "pink"]
    )
    return name, rgba, "plastic"


def add_handle(
    obj: HouseholdObject,
    rng: np.random.Generator,
    start: ArrayLike,
    end: ArrayLike,
    half_width: float,
    half_height: float,
    rgba: Rgba,
    material: Material,
    mass_kg: float,
    bow_m: float = 0.0,
) -> None:
    """The part "handle" from `start` to its free `end` (both at y = 0), bowed upwards by `bow_m` in the middle."""
    style, power = str(rng.choice(STYLES)), float(rng.choice([2.0, 2.6, 4.0]))
    a, b = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(b - a))
    cap = min(half_height, 0.1 * length)
    caps = cap * (1 - np.cos(np.linspace(0, np.pi / 2, 6)))
    s = np.r_[caps, np.linspace(cap, length - cap, 18)[1:-1], length - caps[::-1]] / length
    rounding = np.sqrt(np.clip(1 - (1 - np.minimum(np.minimum(s, 1 - s) * length / cap, 1)) ** 2, 0.05, 1))
    width = _profile(style, s)
    up = np.array([0, 0, 1.0]) if abs(b - a)[0] > abs(b - a)[2] else np.array([1.0, 0, 0])

    def centre_line(t: Array) -> Array:
        return a + np.outer(t, b - a) + np.outer(bow_m * np.sin(np.pi * t), up)

    mesh = sweep(centre_line(s), half_width * width * rounding, half_height * rounding, power)
    obj.add_visual("handle", mesh, rgba, material)
    inset = half_height / length if max(half_width, half_height) < 1.25 * min(half_width, half_height) else 0.0
    knots = np.array([inset, 0.33, 0.67, 1 - inset])
    points = centre_line(knots)
    for p, q, low, high in zip(points[:-1], points[1:], knots[:-1], knots[1:], strict=True):
        mean = float(_profile(style, np.linspace(low, high, 9)).mean())
        add_chain(obj, "handle", [p, q], half_width * mean * (0.97 if power > 3 else 0.93), half_height, mass_kg / 3)
    obj.parameters |= {"handle_length": length, "handle_width": 2 * half_width, "handle_height": 2 * half_height}


def _profile(style: str, s: Array) -> Array:
    """Relative width along the handle, s = 1 at the free end."""
    if style == "taper":
        return 0.78 + 0.3 * s
    if style == "waisted":
        return 1 + 0.13 * np.cos(2 * np.pi * s)
    if style == "contour":
        return 0.92 - 0.12 * np.cos(3 * np.pi * s)
    if style == "bulb":
        return 0.82 + 0.35 * np.exp(-(((s - 0.85) / 0.16) ** 2))
    return np.ones_like(s)


def add_hang_ring(obj: HouseholdObject, rng: np.random.Generator, end: ArrayLike, radius: float, rgba: Rgba) -> None:
    """A ring at the free end of the handle, in the plane of the table."""
    at = np.asarray(end, float) + [radius * 0.9, 0, 0]
    ring = moved(torus(radius, 0.0022, sections=20), at, rot_x(rng.uniform(-0.2, 0.2)))
    obj.add_visual("handle", ring, rgba, "steel")
    obj.add_collider("handle", "cylinder", (radius + 0.002, 0.0022), at, mass_kg=0.003)


def add_neck(
    obj: HouseholdObject, part: str, path: ArrayLike, half_width: float, half_height: float, rgba: Rgba, mass_kg: float
) -> None:
    """A bent metal rod or strip of constant section (N, 3)."""
    points = np.asarray(path, float)
    obj.add_visual(part, sweep(points, half_width, half_height, 2.5, 12), rgba, "steel")
    add_chain(obj, part, points, half_width, half_height, mass_kg)


def sample_metal(rng: np.random.Generator) -> Rgba:
    """Steel, now and then brass or copper."""
    if rng.random() < 0.9:
        return sample_steel(rng)
    k = rng.uniform(0.75, 1.1)
    return (0.72 * k, 0.45 * k, 0.25 * k, 1.0)
