"""Vessels for the training pictures only, like `extra_kitchen`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh

from affordagent.core.geometry import Array, rigid
from affordagent.robot.sim.objects.model import HouseholdObject, Material
from affordagent.robot.sim.objects.rest import add_chain, add_shell, place, transform
from affordagent.robot.sim.objects.shapes import (
    band,
    cylinder,
    moved,
    revolve,
    rot_y,
    sample_colour,
    sample_steel,
    shell,
    sweep,
    torus,
)
from affordagent.robot.sim.objects.tool_shapes import bezier, disc, stroke
from affordagent.robot.sim.objects.tool_shapes import plate as flat_plate

MELAMINE = ["white"] * 5 + ["blue", "green", "red", "grey", "black", "yellow", "pink", "brown", "orange"]


def ring(r0: float, z0: float, r1: float, z1: float, thickness: float = 5e-4) -> trimesh.Trimesh:
    """A thin ring (or cone) about z from radius r0 to r1, `thickness` upwards."""
    loop = [[r0, z0], [r1, z1], [r1, z1 + thickness], [r0, z0 + thickness], [r0, z0]]
    return revolve(loop, 48)


def plate(rng: np.random.Generator) -> HouseholdObject:
    """Rimmed, coupe (smoothly curved), square or oval plate, with or without a painted rim."""
    name, rgba = sample_colour(rng, MELAMINE)
    obj = HouseholdObject("plate", "body", name)
    material: Material = "ceramic" if rng.random() < 0.75 else str(rng.choice(["plastic", "paper", "steel", "wood"]))
    style = str(rng.choice(["rimmed", "rimmed", "coupe", "square", "oval"]))
    radius, height = rng.uniform(0.072, 0.132), rng.uniform(0.011, 0.022)
    well = radius * rng.uniform(0.58, 0.75)
    a = np.linspace(0, 1, 7)
    if style == "coupe":
        wall = np.c_[well + (radius - well) * a, height * a**1.8]
    else:
        wall = np.array([[well, 0], [well + 0.005, 0.45 * height], [well + 0.009, 0.55 * height], [radius, height]])
    thickness = rng.uniform(0.002, 0.0038)
    pieces = [(shell(np.concatenate([[[0, 0]], wall]), thickness, 64), rgba)]
    (r0, z0), (r1, z1) = wall[-2], wall[-1]
    decoration = rng.random()
    if decoration < 0.65:  # one or two painted rings on the rim
        _, paint = sample_colour(rng)
        edges = [(0.6, 0.93)] if decoration < 0.3 else [(0.85, 0.94)] if decoration < 0.5 else [(0.2, 0.35), (0.8, 0.9)]
        z0, z1 = z0 + thickness * 1.03, z1 + 0.0005
        for low, high in edges:
            at = [(r0 + (r1 - r0) * f, z0 + (z1 - z0) * f) for f in (low, high)]
            pieces.append((ring(*at[0], *at[1]), paint))
    if rng.random() < 0.3:  # another glaze, or a round picture, in the well
        _, glaze = sample_colour(rng)
        pieces.append((cylinder(well * rng.uniform(0.4, 0.97), 6e-4, (0, 0, thickness + 2e-4), sections=40), glaze))
    stretch, power = (rng.uniform(1.15, 1.5), 2.0) if style == "oval" else (1.0, 5.0 if style == "square" else 2.0)
    for mesh, colour in pieces:
        v = mesh.vertices
        angle = np.arctan2(v[:, 1], v[:, 0])
        corner = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
        v[:, :2] *= (corner * (0.88 if style == "square" else 1.0))[:, None] * [stretch**0.5, stretch**-0.5]
        mesh.vertices = v
        obj.add_visual("body", mesh, colour, material)
    add_shell(obj, "body", wall[[0, -1]], thickness, 10, rng.uniform(0.2, 0.4))
    obj.parameters |= {"radius": radius, "height": height}
    return place(obj)


def tumbler(rng: np.random.Generator) -> HouseholdObject:
    """A cup without a handle: straight, tapered, barrel, faceted, stacking, or for coffee to go."""
    style = str(rng.choice(["straight", "tapered", "tapered", "barrel", "stacking", "to go"]))
    name, rgba = sample_colour(rng)
    material: Material = str(rng.choice(["plastic", "plastic", "ceramic", "steel"]))
    if style == "to go":
        material = "paper"
        name, rgba = sample_colour(rng, ["white", "white", "brown", "black", "green", "red"])
    obj = HouseholdObject("tumbler", "body", name)
    radius, height = rng.uniform(0.029, 0.043), rng.uniform(0.075, 0.15)
    f = np.linspace(0, 1, 9)
    k = rng.uniform(0.12, 0.34)
    shape = {
        "straight": np.ones_like(f),
        "barrel": 1 - k * (2 * f - 1) ** 2,
        "stacking": np.where(f < 0.6, 1 - k, 1.0) - 0.04 * (1 - f),
    }.get(style, 1 - k * (1 - f))
    side = np.c_[radius * shape, np.maximum(0.003, height * f)]
    sections = int(rng.choice([40, 40, 40, 8, 10, 12]))
    outer = np.concatenate([[[0, 0], [side[0, 0] - 0.003, 0]], side])
    obj.add_visual("body", shell(outer, rng.uniform(0.0012, 0.003), sections), rgba, material)
    if style == "to go":
        _sleeve_and_lid(obj, rng, side, height)
    elif rng.random() < 0.5 and sections == 40:
        low = int(rng.integers(1, 6))
        obj.add_visual("body", band(side[low : low + int(rng.integers(2, 4))]), sample_colour(rng)[1], material)
    add_shell(obj, "body", side[[0, 4, 8]] * [1, 1], 0.002, 10, rng.uniform(0.06, 0.25))
    obj.parameters |= {"radius": radius, "height": height}
    return place(obj)


def _sleeve_and_lid(obj: HouseholdObject, rng: np.random.Generator, side: Array, height: float) -> None:
    r = float(side[-1, 0])
    if rng.random() < 0.6:
        sleeve = sample_colour(rng, ["brown", "brown", "black", "white", "red", "green"])[1]
        obj.add_visual("body", band(side[int(rng.integers(1, 3)) : 7], 8e-4), sleeve, "paper")
    if rng.random() < 0.65:
        _, rgba = sample_colour(rng, ["white", "black", "brown", "grey"])
        dome = rng.uniform(0.006, 0.014)
        r += 0.0015
        profile = [
            [0, -0.002],
            [r, -0.002],
            [r, 0.003],
            [r * 0.93, 0.004],
            [r * 0.88, dome],
            [r * 0.8, dome],
            [0, 0.7 * dome],
        ]
        obj.add_visual("lid", moved(revolve(profile, 36), (0, 0, height)), rgba, "plastic")
        obj.add_collider("lid", "cylinder", (r, dome / 2), (0, 0, height + dome / 2), mass_kg=0.005)


def pitcher(rng: np.random.Generator) -> HouseholdObject:
    """Tall open vessel with a lip and one big handle: straight, tapered, bellied or waisted."""
    name, rgba = sample_colour(rng)
    material: Material = str(rng.choice(["ceramic", "ceramic", "plastic", "steel"]))
    if material == "steel" and rng.random() < 0.7:
        name, rgba = "grey", sample_steel(rng)
    obj = HouseholdObject("pitcher", "handle", name)
    radius, height = rng.uniform(0.045, 0.065), rng.uniform(0.13, 0.23)
    f = np.linspace(0, 1, 14)
    k = rng.uniform(0.12, 0.3)
    shape = {
        "straight": 1 - 0.06 * f,
        "tapered": 1 - k * f,
        "belly": 1 - k * 1.5 * np.clip(f - 0.35, 0, 1) ** 1.2 - 0.25 * np.clip(0.35 - f, 0, 1),
        "waisted": 1 - k * np.sin(np.pi * np.clip(f * 1.1 - 0.1, 0, 1)) ** 2,
    }[str(rng.choice(["straight", "tapered", "belly", "waisted"]))]
    side = np.c_[radius * shape, np.maximum(0.004, height * f)]
    body = shell(np.concatenate([[[0, 0], [side[0, 0] - 0.004, 0]], side]), 0.003, 44)
    v = body.vertices.copy()
    toward = np.clip(-v[:, 0] / np.maximum(np.linalg.norm(v[:, :2], axis=1), 1e-6), 0, 1) ** rng.uniform(8, 24)
    lip = toward * np.clip(v[:, 2] / height - 0.75, 0, 1) * 4
    v[:, 0] -= lip * rng.uniform(0.012, 0.024)
    v[:, 2] += lip * rng.uniform(0.0, 0.01)
    body.vertices = v
    obj.add_visual("body", body, rgba, material)
    if rng.random() < 0.4:
        low = int(rng.integers(1, 5))
        obj.add_visual("body", band(side[low : low + int(rng.integers(2, 5))]), sample_colour(rng)[1], material)
    add_shell(obj, "body", side[[0, 6, 13]], 0.003, 10, rng.uniform(0.25, 0.36))
    top, bottom = rng.uniform(0.8, 0.93), rng.uniform(0.2, 0.42)
    attach = [float(np.interp(g, f, side[:, 0])) - 0.002 for g in (top, bottom)]
    reach = max(attach) + rng.uniform(0.035, 0.055)
    rise = rng.uniform(-0.01, 0.02)
    controls = [(attach[0], 0, top * height), (reach * 1.1, 0, top * height + rise), (reach * 1.15, 0, bottom * height)]
    path = bezier([*controls, (attach[1], 0, bottom * height)], 18)
    width, thick = rng.uniform(0.006, 0.011), rng.uniform(0.004, 0.006)
    handle_rgba = sample_colour(rng)[1] if rng.random() < 0.15 else rgba
    obj.add_visual("handle", sweep(path, width, thick, float(rng.choice([2.0, 3.5]))), handle_rgba, material)
    add_chain(obj, "handle", path[[0, 4, 8, 12, 17]], width, thick, 0.05)
    obj.parameters |= {"radius": radius, "height": height, "handle_width": 2 * width}
    return place(obj)


def funnel(rng: np.random.Generator) -> HouseholdObject:
    """A cone with a narrow stem and often a tab or ring at its edge, standing on its wide mouth."""
    name, rgba = sample_colour(rng)
    material: Material = "plastic"
    if rng.random() < 0.25:
        name, rgba, material = "grey", sample_steel(rng), "steel"
    obj = HouseholdObject("funnel", "body", name)
    radius, stem = rng.uniform(0.035, 0.07), rng.uniform(0.0045, 0.011)
    cone, length, collar = radius * rng.uniform(0.7, 1.25), rng.uniform(0.03, 0.07), rng.uniform(0.003, 0.014)
    tip = stem * rng.uniform(0.6, 0.95)
    bulge = rng.uniform(-0.1, 0.18)
    f = np.linspace(0, 1, 7)
    slope = np.c_[radius + (stem - radius) * f + bulge * radius * np.sin(np.pi * f), collar + cone * f]
    outer = np.concatenate([[[radius, 0]], slope, [[tip, collar + cone + length]]])
    inner = (outer - [0.0015, 0])[::-1]
    obj.add_visual("body", revolve(np.concatenate([outer, inner, outer[:1]]), 40), rgba, material)
    rim = rng.uniform(0.0014, 0.003)
    obj.add_visual("body", torus(radius, rim, (0, 0, rim)), rgba, material)
    obj.add_collider("body", "cylinder", (radius + rim, rim / 2), (0, 0, rim), mass_kg=0.005)
    if rng.random() < 0.6:
        out = rng.uniform(0.014, 0.024)
        tab = stroke([(radius - 0.004, 0), (radius + out, 0)], rng.uniform(0.014, 0.024)) - disc(
            0.005, (radius + out * 0.8, 0)
        )
        obj.add_visual("body", flat_plate(tab, 0.003, 0.0015), rgba, material)
    mass = rng.uniform(0.04, 0.1)
    add_shell(obj, "body", [[radius, 0], [stem, collar + cone]], 0.0015, 8, 0.8 * mass)
    half = length / 2
    obj.add_collider("body", "cylinder", (stem, half), (0, 0, collar + cone + half), mass_kg=0.2 * mass)
    obj.parameters |= {"radius": radius, "height": collar + cone + length}
    if rng.random() < 0.35:  # lying on cone and stem
        transform(obj, rigid(rot_y(np.pi / 2 + float(np.arctan2(radius - stem, cone + length))), (0, 0, 0)))
    return place(obj)


EXTRA_VESSELS: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {
    "plate": plate,
    "tumbler": tumbler,
    "pitcher": pitcher,
    "funnel": funnel,
}
