"""Kitchen things for the training pictures only: no scene of the cell and no entry of the catalogue has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import trimesh

from affordagent.core.geometry import rigid
from affordagent.robot.sim.objects.handles import add_handle, add_hang_ring, add_neck, sample_handle_material
from affordagent.robot.sim.objects.model import HouseholdObject, Material
from affordagent.robot.sim.objects.rest import add_chain, place, transform
from affordagent.robot.sim.objects.shapes import (
    Rgba,
    box,
    cylinder,
    difference,
    moved,
    revolve,
    rot_x,
    rot_y,
    rot_z,
    sample_colour,
    sample_steel,
    sweep,
    tube,
)
from affordagent.robot.sim.objects.tool_shapes import bezier, disc, polygon, stroke
from affordagent.robot.sim.objects.tool_shapes import plate as flat_plate


def flipped(obj: HouseholdObject, rng: np.random.Generator, chance: float) -> HouseholdObject:
    """Laid to rest as built, or on its back with probability `chance`."""
    if rng.random() < chance:
        transform(obj, rigid(rot_x(np.pi), (0, 0, 0)))
    return place(obj)


def many(meshes: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    """One mesh of many that do not touch."""
    return cast(trimesh.Trimesh, trimesh.util.concatenate(meshes))


def grater(rng: np.random.Generator) -> HouseholdObject:
    """Box grater with a handle on top, flat grater, or a narrow rasp with a straight handle."""
    style = str(rng.choice(["box", "box", "flat", "flat", "rasp"]))
    name, rgba, material = sample_handle_material(rng, wood=0.1)
    steel = sample_steel(rng)
    if rng.random() < 0.25:
        name, rgba, material = "grey", steel, "steel"
    obj = HouseholdObject("grater", "handle", name)
    if style == "box":
        return _box_grater(obj, rng, rgba, material, steel)
    length = rng.uniform(0.16, 0.22) if style == "rasp" else rng.uniform(0.11, 0.17)
    half = rng.uniform(0.011, 0.018) if style == "rasp" else rng.uniform(0.028, 0.048)
    obj.add_visual("blade", box((length, 2 * half, 0.0016), (-length / 2, 0, 0.004)), steel, "steel")
    for y in (-half, half):  # bent sides
        obj.add_visual("blade", box((length, 0.0014, 0.006), (-length / 2, y, 0.0025)), steel, "steel")
    pitch = rng.uniform(0.005, 0.009)
    teeth = _teeth(length * 0.88, 2 * half * 0.85, pitch, rng.uniform(0.22, 0.36) * pitch)
    dark = tuple(0.45 * np.array(steel[:3])) + (1.0,)
    obj.add_visual("blade", moved(teeth, (-length / 2, 0, 0.0048)), dark, "steel")
    obj.add_collider("blade", "box", (length / 2, half, 0.003), (-length / 2, 0, 0.0025), mass_kg=0.05)
    grip = rng.uniform(0.09, 0.13)
    if style == "rasp" or rng.random() < 0.6:
        add_neck(obj, "handle", [(-0.004, 0, 0.004), (0.014, 0, 0.005)], 0.006, 0.003, steel, 0.005)
        add_handle(
            obj, rng, (0.01, 0, 0.006), (grip, 0, 0.007), rng.uniform(0.0085, 0.014), 0.0068, rgba, material, 0.04
        )
    else:  # a bent wire as wide as the plate
        w = half * rng.uniform(0.5, 0.95)
        path = bezier([(-0.006, w, 0.003), (grip * 0.5, w, 0.004), (grip * 1.2, w, 0.004), (grip * 1.2, 0, 0.004)], 10)
        path = np.concatenate([path, path[-2::-1] * [1, -1, 1]])
        obj.add_visual("handle", tube(path, rng.uniform(0.003, 0.0045), sections=10), rgba, material)
        obj.add_collider("handle", "box", (grip / 2, w, 0.003), (grip / 2, 0, 0.004), mass_kg=0.03)
    obj.parameters |= {"length": length, "width": 2 * half}
    return place(obj)


def _teeth(length: float, width: float, pitch: float, radius: float) -> trimesh.Trimesh:
    """Raised low cones on the plane z = 0 in a staggered grid, at most about 160 of them."""
    pitch = max(pitch, float(np.sqrt(length * width / 160)))
    bumps = []
    for row, x in enumerate(np.arange(-length / 2, length / 2, pitch)):
        for y in np.arange(-width / 2 + pitch * (0.25 + 0.5 * (row % 2)), width / 2, pitch):
            bumps.append(moved(trimesh.creation.cone(radius * 1.2, radius, sections=6), (x, y, -2e-4)))
    return many(bumps)


def _box_grater(
    obj: HouseholdObject, rng: np.random.Generator, rgba: Rgba, material: Material, steel: Rgba
) -> HouseholdObject:
    height = rng.uniform(0.13, 0.2)
    base, top = np.array([rng.uniform(0.075, 0.1), rng.uniform(0.06, 0.078)]), rng.uniform(0.5, 0.8)
    sides = 4
    profile = np.array([[0.5, 0], [0.5 * top, 1], [0.5 * top - 0.02, 1], [0.48, 0], [0.5, 0]])
    hollow = moved(revolve(profile, sides), rotation=rot_z(np.pi / sides))
    hollow.vertices *= [*(base / np.cos(np.pi / sides)), height]
    obj.add_visual("blade", hollow, steel, "steel")
    dark = tuple(0.45 * np.array(steel[:3])) + (1.0,)
    for k in range(sides):
        along, depth = base[::-1] if k % 2 == 0 else base
        pitch = rng.uniform(0.007, 0.013)
        teeth = _teeth(height * 0.7, along * (1 + top) / 2 * 0.62, pitch, 0.33 * pitch)
        lean = float(np.arctan2(depth / 2 * (1 - top), height))
        R = rot_z(k * np.pi / 2) @ rot_y(np.pi / 2 - lean)
        at = rot_z(k * np.pi / 2) @ [depth / 4 * (1 + top) + 5e-4, 0, height * 0.5]
        obj.add_visual("blade", moved(teeth, at, R), dark, "steel")
    if rng.random() < 0.6:
        rim = moved(
            revolve([[0.47, 0], [0.515, 0], [0.51, 0.04], [0.47, 0.04], [0.47, 0]], sides),
            rotation=rot_z(np.pi / sides),
        )
        rim.vertices *= [*(base / np.cos(np.pi / sides)), height]
        obj.add_visual("base", rim, rgba, material)
    obj.add_collider("blade", "box", (base[0] / 2, base[1] / 2, height / 2), (0, 0, height / 2), mass_kg=0.12)
    cap = revolve([[0, 0.97], [0.52 * top, 0.97], [0.5 * top, 1.02], [0, 1.03]], sides)
    cap = moved(cap, rotation=rot_z(np.pi / sides))
    cap.vertices *= [*(base / np.cos(np.pi / sides)), height]
    obj.add_visual("handle", cap, rgba, material)
    half, rise = base[0] * top * rng.uniform(0.36, 0.47), rng.uniform(0.03, 0.048)
    t = np.linspace(0, np.pi, 15)
    arc = np.c_[half * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 0.5, 0 * t, height + rise * np.sin(t) ** 0.5]
    width, thick = rng.uniform(0.006, 0.012), rng.uniform(0.004, 0.0065)
    obj.add_visual("handle", sweep(arc, width, thick, 3.0), rgba, material)
    add_chain(obj, "handle", arc[[0, 3, 7, 11, 14]], width, thick, 0.03)
    obj.parameters |= {"height": height, "width": float(base[0]), "handle_width": 2 * width}
    return place(obj)


def pizza_cutter(rng: np.random.Generator) -> HouseholdObject:
    """A wheel on a fork or a one-sided bracket, with or without a thumb guard, lying on its side."""
    name, rgba, material = sample_handle_material(rng)
    steel = sample_steel(rng)
    if rng.random() < 0.2:
        name, rgba, material = "grey", sample_steel(rng), "steel"
    obj = HouseholdObject("pizza cutter", "handle", name)
    radius, length = rng.uniform(0.027, 0.05), rng.uniform(0.085, 0.125)
    half_height = rng.uniform(0.0075, 0.011)
    half_width = half_height * rng.uniform(1.26, 1.7)
    add_handle(
        obj, rng, (0, 0, 0), (length, 0, 0), half_width, half_height, rgba, material, 0.06, rng.uniform(-0.003, 0.003)
    )
    if rng.random() < 0.35:
        add_hang_ring(obj, rng, (length, 0, 0), 0.008, steel)
    centre = np.array([-radius - rng.uniform(0.008, 0.03), 0, 0])
    edge = [[0, -0.0011], [radius * 0.9, -0.0011], [radius, 0], [radius * 0.9, 0.0011], [0, 0.0011]]
    obj.add_visual("blade", moved(revolve(edge, 48), centre), sample_steel(rng), "steel")
    obj.add_collider("blade", "cylinder", (radius * 0.95, 0.001), centre, mass_kg=0.05)
    fork = rgba if rng.random() < 0.4 and material == "plastic" else steel
    sides = (1, -1) if rng.random() < 0.6 else (1,)
    gap, wide = rng.uniform(0.003, 0.0045), rng.uniform(0.006, 0.011)
    for side in sides:
        x = float(centre[0])
        prong = [(0.006, 0, side * 0.003), (-0.006, 0, side * 2.2 * gap), (x + 0.01, 0, side * gap), (x, 0, side * gap)]
        path = bezier(prong, 8)
        obj.add_visual("neck", sweep(path, np.linspace(0.8, 1, 8) * wide, 0.0016, 4.0, 10), fork, "steel")
    hub = rng.uniform(0.006, 0.011)
    obj.add_visual("neck", cylinder(hub, 2 * gap + 0.005, centre), fork, "steel")
    obj.add_collider("neck", "cylinder", (hub, gap + 0.0025), centre, mass_kg=0.01)
    if rng.random() < 0.5:  # a guard across the end of the handle
        guard = cylinder(half_width * 1.6, 0.005, (0.003, 0, 0), rot_y(np.pi / 2))
        guard.vertices *= [1, 1, 0.7]
        obj.add_visual("handle", guard, rgba, material)
    obj.parameters |= {"radius": radius}
    return place(obj)


def potato_masher(rng: np.random.Generator) -> HouseholdObject:
    """A zigzag of wire or a plate with holes across the end of one or two rods; straight or crosswise handle."""
    name, rgba, material = sample_handle_material(rng)
    steel = sample_steel(rng)
    if rng.random() < 0.2:
        name, rgba, material = "grey", steel, "steel"
    obj = HouseholdObject("potato masher", "handle", name)
    neck, radius = rng.uniform(0.09, 0.15), rng.uniform(0.032, 0.048)
    rod = rng.uniform(0.0026, 0.004)
    upright = rot_y(np.pi / 2)  # the head's plane is across the rods
    if rng.random() < 0.55:
        turns = int(rng.integers(3, 6))
        t = np.linspace(0, 1, 12 * turns)
        wave = np.c_[
            radius * 0.75 * (2 * t - 1), radius * 0.95 * np.clip(1.6 * np.sin(2 * np.pi * turns * t / 2), -1, 1), 0 * t
        ]
        obj.add_visual("head", moved(tube(wave, rod, sections=8), (-neck, 0, 0), upright), steel, "steel")
    else:
        section = (
            disc(radius, segments=40)
            if rng.random() < 0.6
            else polygon(np.array([[1, 0.7], [-1, 0.7], [-1, -0.7], [1, -0.7]]) * radius)
        )
        hole, pitch = rng.uniform(0.0028, 0.0045), radius * rng.uniform(0.28, 0.4)
        grid = [(i + 0.5 * (j % 2), j * 0.87) for i in range(-3, 4) for j in range(-3, 4)]
        for x, y in np.array(grid) * pitch:
            if np.hypot(x, y) < radius - 2 * hole and abs(y) < 0.6 * radius:
                section -= disc(hole, (x, y), 8)
        obj.add_visual(
            "head", moved(flat_plate(section, rng.uniform(0.0015, 0.004)), (-neck, 0, 0), upright), steel, "steel"
        )
    obj.add_collider("head", "box", (rod, radius * 0.9, radius * 0.72), (-neck, 0, 0), mass_kg=0.07)
    spread = rng.uniform(0.5, 0.9) * radius
    for side in (1, -1):
        controls = [(0.01, side * 0.003, 0), (-0.3 * neck, side * 0.004, 0), (-0.5 * neck, side * spread * 1.2, 0)]
        path = bezier([*controls, (-neck, side * spread, 0)], 12)
        obj.add_visual("neck", tube(path, rod, sections=8), steel, "steel")
    obj.add_collider("neck", "box", (neck / 2, 0.006, rod), (-neck / 2, 0, 0), mass_kg=0.03)
    half_height = rng.uniform(0.0085, 0.013)
    half_width = half_height * rng.uniform(1.0, 1.4)
    if rng.random() < 0.7:
        end = (rng.uniform(0.09, 0.13), 0, 0)
        add_handle(obj, rng, (0, 0, 0), end, half_width, half_height, rgba, material, 0.07)
    else:
        t = np.linspace(-1, 1, 14)
        bow = np.c_[-0.012 * t**2, 0.05 * t, 0 * t]
        size = half_height * np.sqrt(np.clip(1.03 - t**8, 0.1, 1))
        obj.add_visual("handle", sweep(bow, size, size), rgba, material)
        obj.add_rod("handle", (0, -0.045, 0), (0, 0.045, 0), half_height, 0.07)
    obj.parameters |= {"radius": radius, "neck": neck}
    return place(obj)


def dish_brush(rng: np.random.Generator) -> HouseholdObject:
    """A round, oval or square head of stiff bristles below the end of a straight handle."""
    name, rgba, material = sample_handle_material(rng, wood=0.4)
    obj = HouseholdObject("dish brush", "handle", name)
    radius, stretch = rng.uniform(0.02, 0.034), rng.uniform(1.0, 1.7)
    tall = rng.uniform(0.018, 0.03)
    power = float(rng.choice([2.0, 2.0, 5.0]))
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    corner = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
    outline = np.c_[np.cos(angle) * stretch, np.sin(angle)] * (radius * corner)[:, None]
    block = flat_plate(polygon(outline), rng.uniform(0.007, 0.012), tall + 0.004, 0.001)
    obj.add_visual("head", block, rgba if rng.random() < 0.7 else sample_colour(rng)[1], material)
    hair = sample_colour(rng, ["white", "white", "brown", "black", "yellow", "blue", "green"])[1]
    flare, tufts = rng.uniform(1.0, 1.25), []
    step = radius * 0.34
    for x in np.arange(-radius * stretch, radius * stretch, step):
        for y in np.arange(-radius, radius, step):
            if np.hypot(x / stretch, y) < 0.86 * radius:
                foot = [x * flare + rng.normal(0, 0.0006), y * flare + rng.normal(0, 0.0006), rng.uniform(0, 0.0015)]
                tufts.append(
                    sweep(
                        [foot, (x, y, tall + 0.001)], [0.45 * step, 0.3 * step], [0.45 * step, 0.3 * step], sections=5
                    )
                )
    obj.add_visual("bristles", many(tufts), hair, "paper")
    at = np.array([radius * stretch - 0.003, 0, tall + 0.004])
    obj.add_collider(
        "bristles", "box", (radius * stretch * 0.9, radius * 0.9, tall / 2), (0, 0, tall / 2), mass_kg=0.03
    )
    obj.add_collider("head", "box", (radius * stretch * 0.9, radius * 0.9, 0.004), (0, 0, tall + 0.004), mass_kg=0.02)
    rise = rng.uniform(-0.004, 0.03)
    q = at + [rng.uniform(0.02, 0.045), 0, rise * 0.3]
    add_neck(obj, "handle", [at - [0.006, 0, 0], at + [0.01, 0, 0], q], rng.uniform(0.0045, 0.007), 0.004, rgba, 0.01)
    end = q + [rng.uniform(0.1, 0.16), 0, rise]
    add_handle(
        obj,
        rng,
        q,
        end,
        rng.uniform(0.0075, 0.0125),
        rng.uniform(0.0055, 0.009),
        rgba,
        material,
        0.05,
        rng.uniform(-0.004, 0.008),
    )
    obj.parameters |= {"radius": radius, "bristles": tall}
    return flipped(obj, rng, 0.4)


def peeler(rng: np.random.Generator) -> HouseholdObject:
    """Y peeler (blade across two arms) or swivel peeler (slotted blade in line with the handle)."""
    name, rgba, material = sample_handle_material(rng, wood=0.2)
    steel = sample_steel(rng)
    if rng.random() < 0.25:
        name, rgba, material = "grey", sample_steel(rng), "steel"
    obj = HouseholdObject("peeler", "handle", name)
    half_height = rng.uniform(0.0045, 0.0075)
    half_width = half_height * rng.uniform(1.3, 2.1)
    length = rng.uniform(0.075, 0.115)
    add_handle(obj, rng, (0, 0, 0), (length, 0, 0), half_width, half_height, rgba, material, 0.035)
    if rng.random() < 0.5:
        half, reach, arm = rng.uniform(0.019, 0.029), rng.uniform(0.03, 0.045), rng.uniform(0.006, 0.01)
        for side in (1, -1):
            path = bezier(
                [(0.008, side * 0.3 * half_width, 0), (-0.004, side * half * 1.25, 0), (-reach, side * half, 0)], 9
            )
            obj.add_visual("head", sweep(path, arm / 2, half_height * 0.75, 3.0, 12), rgba, material)
        size = (rng.uniform(0.007, 0.011), 2 * half, 0.0012)
        blade = difference(box(size), box((0.0022, 1.6 * half, 0.01)))
        obj.add_visual("blade", moved(blade, (-reach + 0.003, 0, 0), rot_y(rng.uniform(-0.5, 0.5))), steel, "steel")
        obj.add_collider("head", "box", (reach / 2, half, half_height * 0.75), (-reach / 2, 0, 0), mass_kg=0.015)
    else:
        reach, half = rng.uniform(0.05, 0.075), rng.uniform(0.006, 0.0095)
        outline = stroke([(0.004, 0), (-reach, 0)], [2 * half * 0.8, 2 * half, 2 * half, half * 1.4])
        outline -= stroke([(-0.012, 0), (-reach * 0.88, 0)], half * rng.uniform(0.5, 0.8))
        blade = flat_plate(outline, 0.0014)
        blade = blade.subdivide()
        v = blade.vertices.copy()
        v[:, 2] += rng.uniform(15, 40) * v[:, 1] ** 2
        blade.vertices = v
        obj.add_visual("blade", blade, steel, "steel")
        obj.add_collider("blade", "box", (reach / 2, half * 0.9, 0.001), (-reach / 2, 0, 0), mass_kg=0.015)
    obj.parameters |= {"reach": reach}
    return place(obj)


EXTRA_KITCHEN: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {
    "grater": grater,
    "pizza cutter": pizza_cutter,
    "potato masher": potato_masher,
    "dish brush": dish_brush,
    "peeler": peeler,
}
