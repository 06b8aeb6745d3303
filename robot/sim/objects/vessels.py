"""Kettles and watering cans: a round body, a spout towards -x, and a loop handle at the back or over the top."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.handles import sample_handle_material, sample_metal
from affordagent.robot.sim.objects.model import HouseholdObject, Material
from affordagent.robot.sim.objects.rest import add_chain, add_shell, place
from affordagent.robot.sim.objects.shapes import (
    Rgba,
    band,
    moved,
    revolve,
    rot_y,
    sample_colour,
    sample_steel,
    shell,
    sweep,
)
from affordagent.robot.sim.objects.tool_shapes import bezier, spread


def kettle(rng: np.random.Generator) -> HouseholdObject:
    """Electric jug, stove-top kettle with a handle over the lid, or gooseneck for filter coffee."""
    style = str(rng.choice(["electric", "stove", "stove", "gooseneck"]))
    name, rgba, material = _sample_skin(rng)
    obj = HouseholdObject("kettle", "handle", name)
    radius, height = {
        "electric": (rng.uniform(0.058, 0.075), rng.uniform(0.145, 0.19)),
        "stove": (rng.uniform(0.07, 0.095), rng.uniform(0.085, 0.125)),
        "gooseneck": (rng.uniform(0.058, 0.072), rng.uniform(0.09, 0.125)),
    }[style]
    f = np.linspace(0, 1, 11)
    top = rng.uniform(0.5, 0.68)  # radius under the lid, of the largest
    belly = rng.uniform(1.6, 3.2)
    shape = {
        "electric": 1 - rng.uniform(0.1, 0.28) * f,
        "stove": top + (1 - top) * np.sqrt(1 - np.clip((f - 0.12) / 0.88, 0, 1) ** belly),
        "gooseneck": 1 - (1 - top) * f ** rng.uniform(0.8, 1.3),
    }[style]
    side = np.c_[radius * shape, np.maximum(0.003, height * f)]
    foot = side[0, 0] - 0.004
    obj.add_visual("body", revolve([[0, 0], [foot, 0], *side, [0, height]]), rgba, material)
    if style == "electric" and rng.random() < 0.7:  # it stands on its base
        dark = sample_colour(rng, ["black", "black", "grey", "white"])[1]
        obj.add_visual("body", band([[radius, 0.003], [side[1, 0] + 0.0008, 0.016]], 0.0012), dark, "plastic")
    if rng.random() < 0.25:
        first = int(rng.integers(2, 6))
        obj.add_visual("body", band(side[first : first + 2 + int(rng.integers(2))]), sample_colour(rng)[1], material)
    mass = rng.uniform(0.35, 0.6)
    _add_stack(obj, "body", side[[0, 2, 4, 6, 8, 10]], foot, 0.7 * mass)
    _, trim_rgba, trim_material = sample_handle_material(rng, wood=0.25)
    if rng.random() < 0.2:
        trim_rgba, trim_material = rgba, material
    lid_skin = (rgba, material) if rng.random() < 0.7 else (trim_rgba, trim_material)
    _lid(obj, rng, side[-1, 0], height, lid_skin, trim_rgba)
    if style == "gooseneck":
        _gooseneck(obj, rng, side, rgba, material, 0.05 * mass)
    else:
        _beak(obj, rng, side, style == "electric", rgba, material, 0.05 * mass)
    width, thick = rng.uniform(0.0085, 0.0125), rng.uniform(0.006, 0.0095)
    if style == "stove":
        span = side[-1, 0] + rng.uniform(0.0, 0.15) * radius
        z = float(np.interp(-span, -side[:, 0], side[:, 1])) - 0.004
        rise = height - z + rng.uniform(0.055, 0.075)
        path = _loop((-span, 0, z), (span, 0, z), rise, rng.uniform(0.35, 0.75))
    elif style == "gooseneck" and rng.random() < 0.6:  # open at the lower end
        p = np.array([np.interp(0.9 * height, side[:, 1], side[:, 0]) - 0.002, 0, 0.9 * height])
        out, drop = rng.uniform(0.05, 0.065), rng.uniform(0.06, 0.08)
        path = bezier([p, p + [out, 0, 0.012], p + [1.1 * out, 0, -0.2 * drop], p + [0.85 * out, 0, -drop]], 21)
    else:
        low, high = rng.uniform(0.12, 0.25) * height, rng.uniform(0.82, 0.93) * height
        start, end = ((np.interp(at, side[:, 1], side[:, 0]) - 0.002, 0, at) for at in (high, low))
        path = _loop(start, end, rng.uniform(0.042, 0.055), rng.uniform(0.35, 0.75))
    _add_loop(obj, path, width, thick, trim_rgba, trim_material, 0.25 * mass)
    obj.parameters |= {"radius": radius, "height": height, "top_handle": float(style == "stove")}
    return place(obj)


def watering_can(rng: np.random.Generator) -> HouseholdObject:
    """Small can for house plants: straight, conical or round body, a long spout and a loop at the back or on top."""
    name, rgba, material = _sample_skin(rng)
    obj = HouseholdObject("watering can", "handle", name)
    radius, height = rng.uniform(0.045, 0.065), rng.uniform(0.08, 0.13)
    f = np.linspace(0, 1, 9)
    style = str(rng.choice(["straight", "cone", "round", "flared"]))
    k = rng.uniform(0.2, 0.4)
    shape = {
        "straight": np.ones_like(f),
        "cone": 1 - k * f,
        "round": 0.62 + 0.38 * np.sin(np.pi * (0.2 + 0.65 * f)),
        "flared": 1 - k * (1 - f),
    }[style]
    side = np.c_[radius * shape, np.maximum(0.003, height * f)]
    outer = np.concatenate([[[0, 0], [side[0, 0] - 0.003, 0]], side])
    obj.add_visual("body", shell(outer, 0.0018), rgba, material)
    if rng.random() < 0.35:
        first = int(rng.integers(1, 6))
        obj.add_visual("body", band(side[first : first + 2]), sample_colour(rng)[1], material)
    mass = rng.uniform(0.14, 0.3)
    add_shell(obj, "body", side[[0, 2, 4, 6, 8]], 0.0018, 10, 0.75 * mass)
    root_z, reach = rng.uniform(0.12, 0.35) * height, rng.uniform(0.09, 0.15)
    root = np.array([0.003 - np.interp(root_z, side[:, 1], side[:, 0]), 0, root_z])
    tip = root + [-reach, 0, height * rng.uniform(0.95, 1.3) - root_z]
    bend = reach * rng.uniform(0.25, 0.6)
    curve = [root, root + [-bend, 0, 0.2 * bend], tip + [0.5 * bend, 0, -0.8 * bend], tip]
    path = bezier(curve, 16) if rng.random() < 0.6 else root + np.linspace(0, 1, 8)[:, None] * (tip - root)
    spout_rgba = sample_metal(rng) if material == "steel" and rng.random() < 0.2 else rgba
    _add_spout(obj, path, (rng.uniform(0.008, 0.012), rng.uniform(0.0038, 0.006)), spout_rgba, material, 0.1 * mass)
    if rng.random() < 0.3:  # a rose that spreads the water
        _rose(obj, path, rng.uniform(0.014, 0.02), spout_rgba, material)
    own = rng.random() < 0.65
    _, other_rgba, other = sample_handle_material(rng, wood=0.4)
    width, thick = rng.uniform(0.0055, 0.0095), rng.uniform(0.0042, 0.006)
    rim = float(side[-1, 0])
    if rng.random() < 0.3:
        z = height - 0.006
        loop = _loop((0.002 - rim, 0, z), (rim - 0.002, 0, z), rng.uniform(0.05, 0.075), rng.uniform(0.5, 1.0))
    else:
        low, high = rng.uniform(0.12, 0.3) * height, rng.uniform(0.85, 0.96) * height
        start, end = ((np.interp(at, side[:, 1], side[:, 0]) - 0.0015, 0, at) for at in (high, low))
        loop = _loop(start, end, rng.uniform(0.042, 0.065), rng.uniform(0.4, 1.0))
        loop[:, 2] += rng.uniform(0, 0.35) * (loop[:, 0] - loop[0, 0]).clip(0)  # a loop that rises above the rim
    _add_loop(obj, loop, width, thick, rgba if own else other_rgba, material if own else other, 0.15 * mass)
    obj.parameters |= {"radius": radius, "height": height, "spout": reach}
    return place(obj)


def _sample_skin(rng: np.random.Generator) -> tuple[str, Rgba, Material]:
    """Colour word, shade and material of sheet metal, bare or painted, or of plastic."""
    look = rng.random()
    if look < 0.3:
        return "grey", sample_steel(rng), "steel"
    if look < 0.37:
        k = rng.uniform(0.75, 1.1)
        return "orange", (0.78 * k, 0.45 * k, 0.27 * k, 1.0), "steel"  # copper
    name, rgba = sample_colour(rng)
    return name, rgba, "ceramic" if rng.random() < 0.5 else "plastic"


def _loop(start: ArrayLike, end: ArrayLike, reach: float, power: float, count: int = 25) -> Array:
    """(count, 3) arc in the plane y = 0, bulging by `reach`: upwards for a way along +x, to +x for a way down.

    power: 1 is half an ellipse, less is squarer.
    """
    a, b = np.asarray(start, float), np.asarray(end, float)
    t = np.linspace(-np.pi / 2, np.pi / 2, count)
    along = (1 + np.sin(t)) / 2
    normal = np.cross([0, 1.0, 0], b - a) / np.linalg.norm(b - a)
    return a + np.outer(along, b - a) - np.outer(reach * np.abs(np.cos(t)) ** power, normal)


def _add_loop(
    obj: HouseholdObject, path: Array, half_width: float, half_thick: float, rgba: Rgba, material: Material, mass: float
) -> None:
    power = 2.0 if half_width < 1.25 * half_thick else 3.0
    obj.add_visual("handle", sweep(path, half_width, half_thick, power, 14), rgba, material)
    lengths = np.r_[0, np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))]
    at = np.linspace(0, lengths[-1], 11)
    knots = np.stack([np.interp(at, lengths, path[:, i]) for i in range(3)], 1)
    add_chain(obj, "handle", knots, 0.96 * half_width, 0.96 * half_thick, mass)
    obj.parameters |= {"handle_width": 2 * half_width, "handle_thickness": 2 * half_thick}


def _add_stack(obj: HouseholdObject, part: str, side_rz: Array, foot: float, mass_kg: float) -> None:
    """Cylinders that fill an (N, 2) outer profile (radius, z), the lowest standing on a foot of radius `foot`."""
    share = mass_kg / (len(side_rz) - 1)
    obj.add_collider(part, "cylinder", (foot, 0.002), (0, 0, 0.002), mass_kg=0.001)
    for (r0, z0), (r1, z1) in zip(side_rz[:-1], side_rz[1:], strict=True):
        obj.add_collider(part, "cylinder", ((r0 + r1) / 2, (z1 - z0) / 2), (0, 0, (z0 + z1) / 2), mass_kg=share)


def _lid(
    obj: HouseholdObject,
    rng: np.random.Generator,
    radius: float,
    z: float,
    skin: tuple[Rgba, Material],
    knob_rgba: Rgba,
) -> None:
    r, dome = radius * rng.uniform(0.86, 0.98), rng.uniform(0.004, 0.012)
    a = np.linspace(0, np.pi / 2, 7)
    cap = np.c_[r * np.cos(a), z + 0.002 + dome * np.sin(a)]
    cap[-1, 0] = 0
    obj.add_visual("lid", revolve([[0, z - 0.001], [r, z - 0.001], *cap], 36), *skin)
    half = (dome + 0.002) / 2
    obj.add_collider("lid", "cylinder", (0.85 * r, half), (0, 0, z + half), mass_kg=0.03)
    top, k = z + dome + 0.001, rng.uniform(0.008, 0.014)
    tall = rng.uniform(0.01, 0.018)
    if rng.random() < 0.5:
        knob = revolve([[0, top], [0.6 * k, top], [k, top + 0.55 * tall], [0.8 * k, top + tall], [0, top + tall]], 20)
    else:
        b = np.linspace(-np.pi / 2, np.pi / 2, 9)
        ball = np.c_[k * np.cos(b), top + tall / 2 * (1 + np.sin(b))]
        ball[[0, -1], 0] = 0
        knob = revolve(ball, 20)
    obj.add_visual("lid", knob, knob_rgba, "plastic")
    obj.add_collider("lid", "cylinder", (0.8 * k, tall / 2), (0, 0, top + tall / 2), mass_kg=0.01)


def _beak(
    obj: HouseholdObject,
    rng: np.random.Generator,
    side: Array,
    high: bool,
    rgba: Rgba,
    material: Material,
    mass_kg: float,
) -> None:
    """Short wide spout: at the rim of a jug, from the middle of a stove-top kettle."""
    height = float(side[-1, 1])
    z = height * (rng.uniform(0.8, 0.88) if high else rng.uniform(0.5, 0.66))
    root = np.array([0.006 - np.interp(z, side[:, 1], side[:, 0]), 0, z])
    reach = rng.uniform(0.022, 0.032) if high else rng.uniform(0.045, 0.065)
    tip = root + [-reach, 0, min(rng.uniform(0.5, 1.0) * reach, height + 0.012 - z)]
    path = root + np.linspace(0, 1, 6)[:, None] * (tip - root)
    radii = (rng.uniform(0.016, 0.022), rng.uniform(0.008, 0.012))
    _add_spout(obj, path, radii, rgba, material, mass_kg)


def _gooseneck(
    obj: HouseholdObject, rng: np.random.Generator, side: Array, rgba: Rgba, material: Material, mass_kg: float
) -> None:
    height = float(side[-1, 1])
    z = rng.uniform(0.12, 0.22) * height
    root = np.array([0.003 - np.interp(z, side[:, 1], side[:, 0]), 0, z])
    tip = root + [-rng.uniform(0.075, 0.1), 0, height * rng.uniform(0.9, 1.1) - z]
    bow = rng.uniform(0.05, 0.07)
    controls = [root, root + [-bow, 0, 0.1 * bow], root + [-0.4 * bow, 0, 0.9 * height], tip + [0.03, 0, 0.01], tip]
    _add_spout(obj, bezier(controls, 24), (0.0085, rng.uniform(0.0045, 0.006)), rgba, material, mass_kg)


def _add_spout(
    obj: HouseholdObject, path: Array, radii: tuple[float, float], rgba: Rgba, material: Material, mass_kg: float
) -> None:
    """A pipe along an (N, 3) path, its radius going from the first of `radii` to the second, dark at the mouth."""
    r = spread(radii, len(path))
    obj.add_visual("spout", sweep(path, r, r, sections=14), rgba, material)
    mouth = path[-1] + np.linspace(-0.001, 0.0004, 2)[:, None] * _heading(path)
    obj.add_visual("spout", sweep(mouth, 0.8 * r[-1], 0.8 * r[-1], sections=14), (0.05, 0.05, 0.05, 1.0), material)
    knots = np.linspace(0, len(path) - 1, 6).round().astype(int)
    for i, j in zip(knots[:-1], knots[1:], strict=True):
        middle = float((r[i] + r[j]) / 2)
        end = path[j] - (0.8 * middle * _heading(path) if j == knots[-1] else 0)
        obj.add_rod("spout", path[i], end, 0.97 * middle, mass_kg / 5)


def _rose(obj: HouseholdObject, path: Array, radius: float, rgba: Rgba, material: Material) -> None:
    d = _heading(path)
    R = rot_y(float(np.arctan2(d[0], d[2])))
    cone = revolve(radius * np.array([(0, 0), (0.25, 0), (1, 0.8), (1, 0.95), (0, 1.1)]), 28)
    at = path[-1] - 0.006 * d
    obj.add_visual("spout", moved(cone, at, R), rgba, material)
    half = 0.2 * radius
    obj.add_collider("spout", "cylinder", (0.95 * radius, half), at + 0.8 * radius * d, R, 0.008)


def _heading(path: Array) -> Array:
    step = path[-1] - path[-2]
    return step / np.linalg.norm(step)
