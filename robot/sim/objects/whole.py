"""Things held anywhere: the part to hold is the "body"."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.model import HouseholdObject, Material
from affordagent.robot.sim.objects.rest import add_shell, place
from affordagent.robot.sim.objects.shapes import (
    band,
    box,
    cylinder,
    extrude,
    moved,
    revolve,
    rot_x,
    rot_y,
    rot_z,
    sample_colour,
    sample_steel,
    shell,
    sweep,
    torus,
)


def bottle(rng: np.random.Generator) -> HouseholdObject:
    """Water, sauce, wine or squeeze bottle with a cap, standing or lying."""
    name, rgba = sample_colour(rng)
    obj = HouseholdObject("bottle", "body", name)
    style = str(rng.choice(["water", "sauce", "wine", "squeeze", "flask"]))
    radius = rng.uniform(0.0235, 0.0345)
    height = radius * rng.uniform(3.2, 5.2)
    neck = radius * {"water": 0.45, "sauce": 0.4, "wine": 0.38, "squeeze": 0.6, "flask": 0.8}[style]
    neck *= rng.uniform(0.88, 1.15)
    shoulder = {"water": 0.74, "sauce": 0.6, "wine": 0.56, "squeeze": 0.86, "flask": 0.88}[style]
    shoulder += rng.uniform(-0.05, 0.04)
    top = rng.uniform(0.88, 0.95)
    f = np.linspace(0, 1, 8)
    rise = shoulder + min(top - shoulder, 0.2) * f
    slope = np.c_[neck + (radius - neck) * (1 + np.cos(np.pi * f)) / 2, height * rise]
    waist = 1 - (rng.uniform(0.05, 0.14) if rng.random() < 0.35 else 0) * np.sin(np.linspace(0, np.pi, 8)) ** 2
    side = np.c_[radius * waist, np.linspace(0.005, height * shoulder, 8)]
    profile = np.concatenate(
        [[[0, 0], [radius * 0.88, 0]], side, slope[1:], [[neck, height * 0.96], [0, height * 0.96]]]
    )
    body = revolve(profile, 40)
    squash = rng.uniform(0.72, 0.9) if style == "squeeze" and radius > 0.03 else 1.0
    material = "plastic" if rng.random() < 0.7 else "ceramic"
    _, cap_rgba = sample_colour(rng)
    cap_radius = max(0.009, neck * 1.12)
    tip = {"sauce": 0.6, "squeeze": 0.4}.get(style, 0.97)
    low = height * (top - 0.01)
    cap_end = [[cap_radius * (0.5 + tip / 2), height * 1.01], [cap_radius * tip, height * 1.03], [0, height * 1.03]]
    cap = revolve([[0, low], [cap_radius, low], *cap_end], 24)
    pieces = [("body", body, rgba, material), ("cap", cap, cap_rgba, "plastic")]
    if rng.random() < 0.75:  # a label
        _, label_rgba = sample_colour(rng)
        first = int(rng.integers(1, 4))
        pieces.append(("body", band(side[first : first + int(rng.integers(3, 5))]), label_rgba, "paper"))
    lying = rng.random() < 0.35
    R = rot_y(np.pi / 2) if lying else np.eye(3)
    for part, mesh, colour, kind in pieces:
        mesh.vertices[:, 0] *= squash
        obj.add_visual(part, moved(mesh, rotation=R), colour, kind)
    mass = rng.uniform(0.12, 0.35)
    half = height * shoulder / 2
    if squash == 1:
        obj.add_collider("body", "cylinder", (radius, half), R @ [0, 0, half], R, 0.8 * mass)
    else:
        obj.add_collider("body", "box", (radius * squash * 0.97, radius * 0.6, half), R @ [0, 0, half], R, 0.4 * mass)
        obj.add_collider("body", "box", (radius * squash * 0.7, radius, half), R @ [0, 0, half], R, 0.4 * mass)
    steps = [*zip(height * rise[[0, 2, 5]], height * rise[[2, 5, 7]], slope[[1, 3, 6], 0], strict=True)]
    for start, end, r in [*steps, (height * rise[-1], low, neck)]:
        reach = (end - start) / 2
        if reach > 0.001:
            at = R @ [0, 0, start + reach]
            obj.add_collider("body", "cylinder", (float(squash * r), float(reach)), at, R, 0.04 * mass)
    size = (cap_radius * squash, (height * 1.03 - low) / 2)
    obj.add_collider("cap", "cylinder", size, R @ [0, 0, (height * 1.03 + low) / 2], R, 0.08 * mass)
    obj.parameters |= {"radius": radius, "height": height, "lying": float(lying)}
    return place(obj)


def carton(rng: np.random.Generator) -> HouseholdObject:
    """Box with printed panels, or a drink carton with a gable top; one side is at most 70 mm."""
    name, rgba = sample_colour(rng)
    obj = HouseholdObject("box", "body", name)
    style = str(rng.choice(["upright", "flat", "cube", "gable"]))
    if style == "upright":
        size = np.array([rng.uniform(0.07, 0.14), rng.uniform(0.03, 0.06), rng.uniform(0.1, 0.19)])
    elif style == "flat":
        size = np.array([rng.uniform(0.09, 0.17), rng.uniform(0.04, 0.068), rng.uniform(0.025, 0.055)])
    elif style == "cube":
        size = np.array([rng.uniform(0.045, 0.085), rng.uniform(0.04, 0.066), rng.uniform(0.045, 0.085)])
    else:
        size = np.array([rng.uniform(0.055, 0.07), rng.uniform(0.05, 0.066), rng.uniform(0.1, 0.15)])
    half = size / 2
    material = "paper" if rng.random() < 0.8 else "plastic"
    obj.add_visual("body", box(size, (0, 0, half[2])), rgba, material)
    mass = rng.uniform(0.08, 0.35)
    obj.add_collider("body", "box", tuple(map(float, half)), (0, 0, half[2]), mass_kg=mass)
    if style == "gable":
        peak = rng.uniform(0.02, 0.03)
        fold = np.array([[0.0015, peak], [0.0015, peak + 0.012]])
        slopes = np.concatenate([[[half[1], 0]], fold])
        roof = np.concatenate([slopes, slopes[::-1] * [-1, 1]])
        mesh = extrude(roof, float(size[0]), -float(half[0]))
        R = np.array([[0, 0, 1.0], [1, 0, 0], [0, 1, 0]])
        roof_rgba = rgba if rng.random() < 0.5 else sample_colour(rng, ["white", "blue", "green"])[1]
        obj.add_visual("body", moved(mesh, (0, 0, size[2]), R), roof_rgba, material)
        at = (0, 0, size[2] + peak / 2)
        obj.add_collider("body", "box", (half[0], 0.45 * half[1], peak / 2), at, mass_kg=0.01)
        if rng.random() < 0.5:
            lean = rot_x(-float(np.arctan2(peak, half[1])))  # square to the sloping roof
            cap = cylinder(0.012, 0.014, (0, half[1] / 2, size[2] + peak / 2), lean)
            obj.add_visual("body", cap, sample_colour(rng)[1], "plastic")
    for axis in range(3):  # printed panels and stripes, proud by 0.3 mm
        if rng.random() < (0.8 if axis < 2 else 0.4):
            panel = size * rng.uniform(0.35, 0.85, 3)
            panel[axis] = size[axis] + 0.0006
            room = (size - panel) / 2 * (np.arange(3) != axis)
            at = np.array([0, 0, half[2]]) + room * rng.uniform(-0.8, 0.8, 3)
            if axis == 2:  # nothing under the bottom
                panel[2], at[2] = 0.0006, size[2]
            if not (axis == 2 and style == "gable"):
                obj.add_visual("body", box(panel, at), sample_colour(rng)[1], material)
    obj.parameters |= {"length": float(size[0]), "width": float(size[1]), "height": float(size[2])}
    return place(obj)


def can(rng: np.random.Generator) -> HouseholdObject:
    """Drink can (narrowed ends, tab), food tin (rims, label) or jar with a lid."""
    name, rgba = sample_colour(rng)
    obj = HouseholdObject("can", "body", name)
    radius, height = rng.uniform(0.025, 0.036), rng.uniform(0.07, 0.12)
    steel = sample_steel(rng)
    mass = rng.uniform(0.12, 0.4)
    style = str(rng.choice(["drink", "tin", "tin", "jar"]))
    if style == "drink":
        k = radius * rng.uniform(0.78, 0.86)
        side = np.array([[radius, 0.009], [radius, height - 0.014], [k, height - 0.003]])
        profile = np.concatenate([[[0, 0], [k * 0.95, 0], [k, 0.002]], side, [[0, height - 0.003]]])
        obj.add_visual("body", revolve(profile, 40), rgba, "steel")
        lip = [[k, height], [k - 0.002, height], [k - 0.003, height - 0.002], [0, height - 0.002]]
        lid = revolve([[0, height - 0.005], [k, height - 0.005], *lip], 32)
        obj.add_visual("body", lid, steel, "steel")
        obj.add_visual("body", box((0.022, 0.013, 0.0012), (0.006, 0, height - 0.001)), steel, "steel")
        foot = k
    elif style == "tin":
        obj.add_visual(
            "body", cylinder(radius - 0.0008, height - 0.004, (0, 0, height / 2), sections=40), steel, "steel"
        )
        for z in (0.0015, height - 0.0015):
            obj.add_visual("body", torus(radius - 0.0015, 0.0015, (0, 0, z)), steel, "steel")
        label = revolve([[0, 0.005], [radius, 0.005], [radius, height - 0.005], [0, height - 0.005]], 40)
        obj.add_visual("body", label, rgba, "paper")
        foot = radius - 0.001
    else:
        foot = radius - 0.003
        wall: list[list[float]] = [[foot, 0], [radius, 0.004], [radius, height * 0.8], [radius * 0.9, height * 0.84]]
        obj.add_visual("body", revolve([[0.0, 0.0], *wall, [0.0, height * 0.84]], 40), rgba, "steel")
        lid = cylinder(radius * rng.uniform(0.84, 0.97), height * 0.17, (0, 0, height * 0.915), sections=32)
        obj.add_visual("body", lid, sample_colour(rng)[1], "plastic")
    if rng.random() < 0.6:
        _, stripe = sample_colour(rng)
        low = rng.uniform(0.2, 0.5)
        high = min(0.75, low + rng.uniform(0.08, 0.4))
        obj.add_visual("body", band([[radius, low * height], [radius, high * height]]), stripe, "paper")
    half = height / 2
    obj.add_collider("body", "cylinder", (radius, half - 0.003), (0, 0, half), mass_kg=0.9 * mass)
    obj.add_collider("body", "cylinder", (foot, half), (0, 0, half), mass_kg=0.1 * mass)
    obj.parameters |= {"radius": radius, "height": height}
    return place(obj)


def ball(rng: np.random.Generator) -> HouseholdObject:
    """Plain, striped or two-coloured ball, or one with a tennis seam.

    A foot of 6 mm radius at the lowest point keeps it from rolling away at a touch.
    """
    style = str(rng.choice(["plain", "stripe", "halves", "tennis"]))
    name, rgba = sample_colour(rng, ["yellow", "green"] if style == "tennis" else None)
    obj = HouseholdObject("ball", "body", name)
    radius = rng.uniform(0.02, 0.034)
    tilt = trimesh.transformations.random_rotation_matrix(rng.random(3))[:3, :3]
    material = "rubber" if rng.random() < 0.7 else "plastic"
    obj.add_visual("body", moved(trimesh.creation.icosphere(3, radius), (0, 0, radius)), rgba, material)
    a = np.linspace(0, 2 * np.pi, 61)
    if style == "tennis":
        seam = np.c_[np.cos(a) + 0.35 * np.cos(3 * a), np.sin(a) - 0.35 * np.sin(3 * a), 1.15 * np.sin(2 * a)]
        seam = seam / np.linalg.norm(seam, axis=1, keepdims=True) * (radius - 0.0004)
        line = moved(sweep(seam, 0.0012, 0.0012, sections=6), (0, 0, radius), tilt)
        obj.add_visual("body", line, sample_colour(rng, ["white"])[1], material)
    elif style != "plain":
        low, high = (
            (0.0, 0.5 * np.pi - 0.1) if style == "halves" else (-rng.uniform(0.15, 0.35), rng.uniform(0.15, 0.35))
        )
        b = np.linspace(low, high, 9)
        zone = band(np.c_[radius * np.cos(b), radius * np.sin(b)])
        obj.add_visual("body", moved(zone, (0, 0, radius), tilt), sample_colour(rng)[1], material)
    mass = rng.uniform(0.05, 0.12)
    obj.add_collider("body", "sphere", (radius,), (0, 0, radius), mass_kg=0.95 * mass)
    obj.add_collider("body", "cylinder", (0.006, 0.0006), (0, 0, 0.0006), mass_kg=0.05 * mass)
    obj.parameters |= {"radius": radius}
    return place(obj)


def banana(rng: np.random.Generator) -> HouseholdObject:
    """A curved five-sided fruit lying on its side."""
    name, rgba = sample_colour(rng, ["yellow"] * 8 + ["green"])
    obj = HouseholdObject("banana", "body", name)
    length, radius = rng.uniform(0.15, 0.19), rng.uniform(0.0155, 0.0195)
    turn = rng.uniform(0.9, 1.6)  # angle the arc subtends
    bend = length / turn

    def arc(s: Array) -> Array:
        angle = (s - 0.5) * turn
        return np.c_[bend * np.sin(angle), bend * (1 - np.cos(angle)), 0 * s]

    s = np.r_[0, 0.015, np.linspace(0.04, 0.86, 20), 0.9, 0.94, 1.0]
    swell = np.clip(np.minimum((s + 0.035) / 0.22, (1.02 - s) / 0.26), 0, 1)
    r = radius * np.maximum(np.sin(np.pi / 2 * swell) ** 0.85, 0.24)
    obj.add_visual("body", sweep(arc(s), r, r, sections=int(rng.choice([6, 7, 10]))), rgba, "skin")
    brown = (0.25 * rng.uniform(0.6, 1.2), 0.17, 0.08, 1.0)
    for ends in (np.linspace(-0.012, 0.004, 3), np.linspace(0.985, 1.006, 3)):
        tip = radius * (0.22 if ends[0] < 0 else 0.26)
        obj.add_visual("body", sweep(arc(ends), tip, tip, sections=8), brown, "skin")
    for _ in range(int(rng.integers(0, 6))):  # ripe spots
        at = rng.uniform(0.25, 0.75)
        angle = rng.uniform(0, np.pi)
        offset = rot_z((at - 0.5) * turn) @ [0, radius * np.cos(angle), radius * np.sin(angle)]
        spot = trimesh.creation.icosphere(1, rng.uniform(0.0015, 0.0035))
        spot.vertices *= 0.6
        obj.add_visual("body", moved(spot, arc(np.array([at]))[0] + offset * 0.93), brown, "skin")
    knots = np.array([0.13, 0.31, 0.5, 0.69, 0.87])
    points = arc(knots)
    mass = rng.uniform(0.1, 0.16)
    for a, b in zip(points[:-1], points[1:], strict=True):
        obj.add_rod("body", a, b, 0.96 * radius, mass / 4)
    obj.parameters |= {"length": length, "radius": radius, "turn": turn}
    return place(obj)


def bowl(rng: np.random.Generator) -> HouseholdObject:
    """Cereal or mixing bowl; held by its wall."""
    name, rgba = sample_colour(rng)
    obj = HouseholdObject("bowl", "body", name)
    radius = rng.uniform(0.055, 0.085)
    depth, base = radius * rng.uniform(0.5, 0.9), radius * rng.uniform(0.42, 0.65)
    a = np.linspace(0, np.pi / 2, 9)
    flare = rng.uniform(0.7, 1.0)
    profile = np.c_[base + (radius - base) * np.sin(a) ** flare, depth * (1 - np.cos(a))]
    thickness = rng.uniform(0.0028, 0.004)
    material: Material = "ceramic" if rng.random() < 0.7 else "plastic"
    obj.add_visual("body", shell(np.concatenate([[[0, 0]], profile]), thickness), rgba, material)
    if rng.random() < 0.5:
        _, stripe = sample_colour(rng)
        obj.add_visual("body", band(profile[5:8]), stripe, "ceramic")
    add_shell(obj, "body", profile[[0, 3, 5, 8]], thickness, 10, rng.uniform(0.18, 0.35))
    obj.parameters |= {"radius": radius, "depth": depth}
    return place(obj)


WHOLE: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {
    "bottle": bottle,
    "box": carton,
    "can": can,
    "ball": ball,
    "banana": banana,
}
