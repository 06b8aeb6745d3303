"""Kitchen tools. Each function samples one instance; the part to hold is the handle, built towards +x."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.cutlery import ice_cream_scoop, knife, rolling_pin, spatula, utensil
from affordagent.robot.sim.objects.handles import (
    add_handle,
    add_hang_ring,
    add_neck,
    sample_handle_material,
    sample_metal,
)
from affordagent.robot.sim.objects.model import HouseholdObject, Material
from affordagent.robot.sim.objects.rest import add_chain, add_shell, place
from affordagent.robot.sim.objects.shapes import (
    Rgba,
    band,
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
    tube,
)
from affordagent.robot.sim.objects.whole import bowl


def dish_profile(base: float, radius: float, depth: float, count: int = 10) -> Array:
    """(N, 2) outer profile (radius, z): a flat base that curves up to the rim."""
    a = np.linspace(0, np.pi / 2, count)
    return np.c_[base + (radius - base) * np.sin(a), depth * (1 - np.cos(a))]


def _on_axis(profile_rz: Array) -> Array:
    return np.concatenate([[[0, profile_rz[0, 1]]], profile_rz])


def strainer(rng: np.random.Generator) -> HouseholdObject:
    """Wire-mesh bowl with a rim, a long handle and often a hook to rest on a pot."""
    name, rgba, material = sample_handle_material(rng, wood=0.25)
    steel = sample_steel(rng)
    obj = HouseholdObject("strainer", "handle", name)
    radius = rng.uniform(0.038, 0.072)
    depth = radius * rng.uniform(0.55, 0.95)
    profile = dish_profile(0.35 * radius, radius, depth)
    fine = rng.random() < 0.5
    if fine:  # the weave is too fine to see: a thin bowl with a few wires
        k = rng.uniform(0.55, 0.8)
        cloth: Rgba = (steel[0] * k, steel[1] * k, steel[2] * k, 1.0)
        obj.add_visual("bowl", shell(_on_axis(profile), 0.0008, 32), cloth, "steel")
    wires = int(rng.integers(4, 7)) if fine else int(rng.integers(9, 13))
    arc = np.concatenate([profile[::-1] * [-1, 1], profile])[:: 1 if fine else 2]
    for angle in np.pi * np.arange(wires) / wires:
        path = np.c_[arc[:, 0] * np.cos(angle), arc[:, 0] * np.sin(angle), arc[:, 1] + 0.0006]
        obj.add_visual("bowl", tube(path, 0.0007, sections=4), steel, "steel")
    for r, z in profile[1:-1] if not fine else profile[3:-1:3]:
        obj.add_visual("bowl", torus(r, 0.0007, (0, 0, z), 28), steel, "steel")
    rim = rng.uniform(0.0016, 0.003)
    obj.add_visual("rim", torus(radius, rim, (0, 0, depth)), steel, "steel")
    add_shell(obj, "bowl", profile[[0, 4, 9]], 0.0014, 8, rng.uniform(0.05, 0.1))
    obj.add_collider("rim", "box", (radius * 0.5, rim, rim), (0, radius, depth), mass_kg=0.005)
    obj.add_collider("rim", "box", (radius * 0.5, rim, rim), (0, -radius, depth), mass_kg=0.005)
    neck = rng.uniform(0.02, 0.05)
    p, q = np.array([radius, 0, depth]), np.array([radius + neck, 0, depth + rng.uniform(-0.004, 0.006)])
    add_neck(obj, "neck", [p, q], rng.uniform(0.003, 0.006), 0.0025, steel, 0.01)
    end = q + [rng.uniform(0.085, 0.14), 0, rng.uniform(-0.004, 0.012)]
    add_handle(obj, rng, q, end, rng.uniform(0.0065, 0.012), rng.uniform(0.005, 0.008), rgba, material, 0.03)
    if rng.random() < 0.5:
        add_hang_ring(obj, rng, end, 0.008, steel)
    if rng.random() < 0.6:
        w, out = radius * rng.uniform(0.2, 0.35), rng.uniform(0.012, 0.025)
        hook = np.array([[-radius, w, 0], [-radius - out, w * 0.7, 0], [-radius - out, -w * 0.7, 0], [-radius, -w, 0]])
        obj.add_visual("hook", tube(hook + [0, 0, depth], 0.0018, sections=8), steel, "steel")
        obj.add_collider("hook", "box", (out / 2, w * 0.8, 0.0018), (-radius - out / 2, 0, depth), mass_kg=0.004)
    obj.parameters |= {"radius": radius, "depth": depth}
    return place(obj)


def ladle(rng: np.random.Generator) -> HouseholdObject:
    """Deep bowl on a long handle that rises from the rim at an angle."""
    steel = sample_steel(rng)
    name, rgba, material = sample_handle_material(rng)
    bowl_rgba = steel
    look = rng.random()
    if look < 0.35:  # all steel
        name, rgba, material = "grey", steel, "steel"
    elif look < 0.6 and material == "plastic":  # all plastic
        bowl_rgba = rgba
    obj = HouseholdObject("ladle", "handle", name)
    radius = rng.uniform(0.028, 0.05)
    depth = radius * rng.uniform(0.6, 1.0)
    profile = dish_profile(0.35 * radius, radius, depth)
    mesh = shell(_on_axis(profile), 0.002)
    spout = rng.random() < 0.3
    if spout:  # pulled lips to both sides
        pull = np.abs(mesh.vertices[:, 1]) / radius
        mesh.vertices[:, 1] *= 1 + 0.18 * pull**4
    obj.add_visual("bowl", mesh, bowl_rgba, "plastic" if bowl_rgba is rgba and material == "plastic" else "steel")
    add_shell(obj, "bowl", profile[[0, 4, 9]], 0.002, 8, rng.uniform(0.05, 0.1))
    tilt = rng.uniform(0.35, 1.0)
    neck, length = rng.uniform(0.05, 0.09), rng.uniform(0.12, 0.19)
    p = np.array([radius - 0.002, 0, depth - 0.003])
    direction = np.array([np.cos(tilt), 0, np.sin(tilt)])
    q = p + neck * direction
    t = np.linspace(0, 1, 5)[:, None]
    half_width, half_height = rng.uniform(0.006, 0.0115), rng.uniform(0.0048, 0.0075)
    neck_rgba = rgba if bowl_rgba is rgba else steel
    add_neck(obj, "handle", p + t * (q - p), half_width * rng.uniform(0.45, 0.8), 0.003, neck_rgba, 0.02)
    bend = tilt - rng.uniform(0, 0.25)
    end = q + length * np.array([np.cos(bend), 0, np.sin(bend)])
    add_handle(obj, rng, q, end, half_width, half_height, rgba, material, 0.045)
    obj.parameters |= {"radius": radius, "depth": depth, "tilt": tilt}
    return place(obj)


def whisk(rng: np.random.Generator) -> HouseholdObject:
    """Balloon whisk (crossed loops), flat whisk (nested loops) or ball whisk (straight wires with beads)."""
    name, rgba, material = sample_handle_material(rng)
    metal = sample_metal(rng)
    if rng.random() < 0.35:
        name, rgba, material = "grey", sample_steel(rng), "steel"
    elif rng.random() < 0.15:  # silicone-coated wires
        metal = rgba
    obj = HouseholdObject("whisk", "handle", name)
    style = str(rng.choice(["balloon", "balloon", "flat", "ball"]))
    length, wire = rng.uniform(0.09, 0.15), rng.uniform(0.0009, 0.0014)
    bulge = length * rng.uniform(0.2, 0.34)
    half_width, half_height = rng.uniform(0.008, 0.0125), rng.uniform(0.0075, 0.0115)
    if style == "balloon":
        _balloon(obj, rng, length, bulge, wire, metal)
    elif style == "flat":
        loops = int(rng.integers(3, 6))
        pitch = rot_y(-float(np.arcsin(half_height / length)))  # the loops reach down to the table
        for k in range(loops):
            path = _loop(length * (1 - 0.08 * k), bulge * (1 - k / loops), 0.005) @ pitch.T
            obj.add_visual("wires", tube(path, wire, sections=6), metal, "steel")
        for at, half, y in ((0.55, 0.3, 0.85), (0.91, 0.09, 0.4)):
            size = (length * half, bulge * y, wire)
            obj.add_collider("wires", "box", size, pitch @ [-length * at, 0, 0], pitch, 0.02)
    else:
        count = int(rng.integers(8, 13))
        spread = np.linspace(-1, 1, count)
        for k, y in enumerate(spread):
            tip = np.array([-length * (1 - 0.1 * y * y), bulge * y, 0.008 * (-1) ** k])
            obj.add_visual(
                "wires", tube(np.array([[0, 0.004 * y, 0], 0.5 * tip, tip]), wire, sections=6), metal, "steel"
            )
            bead = moved(_bead(0.0042), tip)
            obj.add_visual("wires", bead, metal, "steel")
            obj.add_collider("wires", "sphere", (0.0042,), tip, mass_kg=0.003)
        obj.add_collider("wires", "box", (length * 0.4, 0.5 * bulge, 0.004), (-length * 0.5, 0, 0), mass_kg=0.02)
    end = (rng.uniform(0.1, 0.14), 0, 0)
    add_handle(obj, rng, (-0.012, 0, 0), end, half_width, half_height, rgba, material, rng.uniform(0.04, 0.07))
    if rng.random() < 0.4:
        add_hang_ring(obj, rng, end, 0.008, metal)
    obj.parameters |= {"wires_length": length, "bulge": bulge}
    return place(obj)


def _bead(radius: float) -> trimesh.Trimesh:
    a = np.linspace(0, np.pi, 8)
    return revolve(np.c_[radius * np.sin(a), -radius * np.cos(a)], 10)


def _loop(length: float, bulge: float, root: float) -> Array:
    """Teardrop of wire from (0, root) around x = -length and back, in the plane z = 0."""
    s = np.linspace(0, 1, 29)
    x = -length * np.sin(np.pi * s) ** 0.8
    side = np.cos(np.pi * s)
    width = root + (bulge - root) * np.sin(np.pi * np.clip(-x / length, 0, 1) ** 1.6) ** 0.8
    return np.c_[x, np.sign(side) * np.minimum(1, np.abs(side) * 3) ** 0.5 * width, 0 * s]


def _balloon(
    obj: HouseholdObject, rng: np.random.Generator, length: float, bulge: float, wire: float, metal: Rgba
) -> None:
    loops = int(rng.integers(4, 7))
    angles = np.pi * (np.arange(loops) + (0.5 if loops % 2 == 0 else 0)) / loops  # two loops lowest, side by side
    for angle in angles:
        path = _loop(length, bulge, 0.006) @ rot_x(float(angle)).T
        obj.add_visual("wires", tube(path, wire, sections=5), metal, "steel")
    widest = _loop(length, bulge, 0.006)
    at = float(widest[np.argmax(widest[:, 1]), 0])
    obj.add_collider("wires", "ellipsoid", (length * 0.42, bulge * 0.93, bulge * 0.93), (at * 0.94, 0, 0), mass_kg=0.03)
    knots = widest[:14][widest[:14, 1] > 0.75 * bulge][[0, 2, 3, -1]]
    for angle in angles[np.argsort(-np.sin(angles))[:2]]:  # those it lies on
        below = knots * [1, -1, 1] @ rot_x(float(angle)).T
        for p, q in zip(below[:-1], below[1:], strict=True):
            obj.add_rod("wires", p, q, wire, 0.002)


def measuring_cup(rng: np.random.Generator) -> HouseholdObject:
    """Scoop-like cup with a flat handle at the rim, or a jug with a loop handle."""
    if rng.random() < 0.35:
        name, rgba, material = "grey", sample_steel(rng), "steel"
    else:
        name, rgba = sample_colour(rng)
        material = "plastic"
    obj = HouseholdObject("measuring cup", "handle", name)
    jug = rng.random() < 0.25
    radius = rng.uniform(0.036, 0.045) if jug else rng.uniform(0.022, 0.043)
    depth = radius * (rng.uniform(1.6, 2.2) if jug else rng.uniform(0.7, 1.25))
    base = radius * rng.uniform(0.7, 0.97)
    profile = np.array([[base - 0.003, 0], [base, 0.003], [radius, depth]])
    cup = shell(_on_axis(profile), 0.002)
    pulled = cup.vertices
    if jug or rng.random() < 0.3:  # a spout opposite the handle or beside it
        angle = np.pi if jug else np.pi / 2
        toward = np.clip(pulled[:, :2] @ [np.cos(angle), np.sin(angle)] / radius, 0, 1) ** 12
        reach = toward * np.clip(pulled[:, 2] / depth - 0.6, 0, 1) * 0.025
        pulled[:, :2] += reach[:, None] * [np.cos(angle), np.sin(angle)]
        cup.vertices = pulled
    obj.add_visual("body", cup, rgba, material)
    add_shell(obj, "body", profile[[0, 2]], 0.002, 10, rng.uniform(0.12, 0.2) if jug else rng.uniform(0.05, 0.09))
    if jug:
        _, marks = sample_colour(rng, ["red", "white", "black", "blue"])
        for f in np.linspace(0.3, 0.85, 4):
            r = base + (radius - base) * f
            obj.add_visual("body", band([[r, depth * f], [r, depth * f + 0.0015]], 4e-4), marks, material)
        _loop_handle(obj, rng, (base + radius) / 2, depth, rng.uniform(0.026, 0.034), rgba, "plastic")
        return place(obj)
    length, half_width = rng.uniform(0.06, 0.1), rng.uniform(0.0055, 0.011)
    half_height = rng.uniform(0.0022, 0.0045)
    z = depth - half_height
    end = (radius + length, 0, z + rng.uniform(-0.004, 0.006))
    two_tone = rng.random() < 0.3 and material == "steel"
    handle_rgba = sample_colour(rng)[1] if two_tone else rgba
    kind = "plastic" if two_tone else material
    start = (radius - 0.0015, 0, z)
    add_handle(obj, rng, start, end, half_width, half_height, handle_rgba, kind, 0.015)
    obj.parameters |= {"radius": radius, "depth": depth}
    return place(obj)


def _loop_handle(
    obj: HouseholdObject,
    rng: np.random.Generator,
    radius: float,
    height: float,
    reach: float,
    rgba: Rgba,
    material: Material,
) -> None:
    """Handle of a mug or jug on the +x side: D, C, ear or square."""
    style = str(rng.choice(["D", "C", "ear", "square"]))
    t = np.linspace(-np.pi / 2, np.pi / 2, 21)
    power = {"D": 0.6, "C": 1.0, "ear": 0.85, "square": 0.35}[style]
    half = height * rng.uniform(0.27, 0.37)
    out = np.abs(np.cos(t)) ** power
    if style == "ear":
        out = out * (0.72 + 0.28 * np.sin(t))
    up = np.sign(np.sin(t)) * np.abs(np.sin(t)) ** (0.6 if style == "square" else 1.0)
    path = np.c_[radius - 0.0015 + reach * out, 0 * t, height * rng.uniform(0.5, 0.55) + half * up]
    width, thick = rng.uniform(0.0045, 0.0085), rng.uniform(0.0038, 0.0055)
    obj.add_visual("handle", sweep(path[::-1], width, thick, float(rng.choice([2.0, 3.0])), 14), rgba, material)
    add_chain(obj, "handle", path[[0, 1, 3, 7, 10, 13, 17, 19, 20]], width, thick, 0.03)
    obj.parameters |= {"handle_reach": reach, "handle_width": 2 * width, "handle_height": 2 * half}


def mug(rng: np.random.Generator) -> HouseholdObject:
    """Straight, tapered, flared, barrel or tulip mug with a loop handle."""
    name, rgba = sample_colour(rng)
    obj = HouseholdObject("mug", "handle", name)
    material = "steel" if rng.random() < 0.1 else "ceramic"
    radius, height = rng.uniform(0.035, 0.046), rng.uniform(0.075, 0.115)
    wall = rng.uniform(0.0025, 0.004)
    style = str(rng.choice(["straight", "tapered", "flared", "barrel", "tulip"]))
    f = np.linspace(0, 1, 9)
    k = rng.uniform(0.05, 0.2)
    shape = {
        "straight": np.ones_like(f),
        "tapered": 1 - k * f,
        "flared": 1 - k * (1 - f),
        "barrel": 1 - k * (2 * f - 1) ** 2,
        "tulip": 1 - 0.25 * np.exp(-(((f - 0.05) / 0.28) ** 2)) - 0.07 * np.exp(-(((f - 0.75) / 0.18) ** 2)),
    }[style]
    side = np.c_[radius * shape, np.maximum(0.004, height * f)]
    outer = np.concatenate([[[0, 0], [side[0, 0] - 0.004, 0]], side])
    obj.add_visual("body", shell(outer, wall), rgba, material)
    two_tone = rng.random()
    if two_tone < 0.4:  # glazed inside
        _, inside = sample_colour(rng, ["white", "white", "white", "black", "yellow", "blue"])
        liner = side - [wall + 0.0001, 0]
        liner[0] = [liner[0, 0], wall + 0.0008]
        obj.add_visual("body", shell(_on_axis(liner), 0.0004), inside, material)
    elif two_tone < 0.6:
        _, stripe = sample_colour(rng)
        low = int(rng.integers(1, 5))
        obj.add_visual("body", band(side[low : low + int(rng.integers(2, 4))]), stripe, material)
    mass = rng.uniform(0.22, 0.31)
    mean = float(side[:, 0].mean())
    add_shell(obj, "body", [[side[0, 0], 0], [mean, height]], wall, 12, mass)
    handle_rgba = sample_colour(rng)[1] if rng.random() < 0.12 else rgba
    middle = float(side[3:6, 0].min() if style != "barrel" else side[2, 0])
    _loop_handle(obj, rng, middle, height, rng.uniform(0.026, 0.037), handle_rgba, material)
    obj.parameters |= {"radius": radius, "height": height}
    return place(obj)


def pot_or_pan(rng: np.random.Generator) -> HouseholdObject:
    """Frying pan, skillet or saucepan with one long handle; or a pot with two side handles."""
    style = str(rng.choice(["frying pan", "frying pan", "skillet", "saucepan", "saucepan", "pot"]))
    name, rgba = sample_colour(rng, ["black"] * 4 + ["grey"] * 3 + ["red", "blue", "green", "orange", "white", "brown"])
    if name == "grey":
        rgba = sample_steel(rng)
    material = "iron" if name == "black" else "steel"
    obj = HouseholdObject("pot or pan", "handle", name)
    deep = style in ("saucepan", "pot")
    radius = rng.uniform(0.065, 0.085) if deep else rng.uniform(0.08, 0.115)
    depth = radius * (rng.uniform(0.7, 1.15) if deep else rng.uniform(0.28, 0.5))
    base = radius * (rng.uniform(0.93, 0.99) if deep else rng.uniform(0.74, 0.9))
    f = np.linspace(0, 1, 6)
    wall = np.c_[base + (radius - base) * f ** rng.uniform(0.7, 1.6), np.maximum(depth * f, 0.005)]
    outer = np.concatenate([[[0, 0], [base - 0.006, 0]], wall])
    obj.add_visual("body", shell(outer, 0.003, 48), rgba, material)
    if rng.random() < 0.4:  # coated or bare inside
        _, inside = sample_colour(rng, ["black", "black", "white"]) if name != "black" else ("grey", sample_steel(rng))
        liner = wall - [0.0032, 0]
        liner[0] = [liner[0, 0], 0.0038]
        obj.add_visual("body", shell(_on_axis(liner), 0.0004, 40), inside, material)
    mass = rng.uniform(0.35, 0.6)
    add_shell(obj, "body", [[base - 0.003, 0], [radius, depth]], 0.003, 12, 0.72 * mass)
    _, handle_rgba, handle_material = sample_handle_material(rng, wood=0.25)
    if rng.random() < 0.35:
        handle_rgba, handle_material = (rgba, material) if rng.random() < 0.6 else (sample_steel(rng), "steel")
    if style == "pot":
        _side_handles(obj, rng, radius, depth, handle_rgba, handle_material, 0.28 * mass)
        return place(obj)
    p = np.array([radius - 0.002, 0, depth * rng.uniform(0.72, 0.9)])
    rise = rng.uniform(0.02, 0.35)
    direction = np.array([np.cos(rise), 0, np.sin(rise)])
    q = p + rng.uniform(0.015, 0.035) * direction
    half_width, half_height = rng.uniform(0.0085, 0.0135), rng.uniform(0.0065, 0.0095)
    add_neck(obj, "handle", [p, q], half_width * 0.7, half_height * 0.6, sample_steel(rng), 0.04 * mass)
    end = q + rng.uniform(0.11, 0.17) * direction
    bow = rng.uniform(-0.004, 0.006)
    add_handle(obj, rng, q, end, half_width, half_height, handle_rgba, handle_material, 0.24 * mass, bow)
    obj.parameters |= {"radius": radius, "depth": depth}
    return place(obj)


def _side_handles(
    obj: HouseholdObject,
    rng: np.random.Generator,
    radius: float,
    depth: float,
    rgba: Rgba,
    material: Material,
    mass_kg: float,
) -> None:
    t = np.linspace(-np.pi / 2, np.pi / 2, 15)
    reach, half, thick = rng.uniform(0.03, 0.042), rng.uniform(0.028, 0.04), rng.uniform(0.0045, 0.0065)
    z = depth * rng.uniform(0.75, 0.9)
    x = radius - 0.004 + reach * np.cos(t) ** rng.uniform(0.4, 0.9)
    path = np.c_[x, half * np.sin(t), np.full_like(t, z)]
    path[[0, -1], 0] = np.sqrt(radius**2 - half**2)
    for turn in (0.0, np.pi):
        points = path @ rot_z(turn).T
        obj.add_visual("handle", tube(points, thick, sections=12), rgba, material)
        knots = points[[0, 2, 5, 9, 12, 14]]
        for a, b in zip(knots[:-1], knots[1:], strict=True):
            obj.add_rod("handle", a, b, thick, mass_kg / 10)
    obj.parameters |= {"handle_reach": reach, "handle_width": 2 * thick}


KITCHEN: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {
    "strainer": strainer,
    "ladle": ladle,
    "whisk": whisk,
    "measuring cup": measuring_cup,
    "mug": mug,
    "utensil": utensil,
    "pot or pan": pot_or_pan,
    "spatula": spatula,
    "knife": knife,
}
HELD_OUT_KITCHEN: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {
    "bowl": bowl,
    "rolling pin": rolling_pin,
    "ice cream scoop": ice_cream_scoop,
}
