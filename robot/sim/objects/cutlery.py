"""Flat kitchen tools: cutlery, spatulas, knives, and the held-out rolling pin and ice cream scoop."""

from __future__ import annotations

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.handles import add_handle, add_hang_ring, add_neck, sample_handle_material
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.rest import add_shell, place
from affordagent.robot.sim.objects.shapes import (
    Rgba,
    box,
    difference,
    extrude,
    moved,
    revolve,
    rot_y,
    sample_colour,
    sample_steel,
    sample_wood,
    shell,
    sweep,
)


def utensil(rng: np.random.Generator) -> HouseholdObject:
    """Fork, spoon or table knife; most have a thick plastic or wooden handle, some are one piece of arched steel."""
    kind = str(rng.choice(["fork", "fork", "spoon", "spoon", "table knife"]))
    steel = sample_steel(rng)
    name, rgba, material = sample_handle_material(rng, wood=0.25)
    head_rgba = rgba if material == "plastic" and rng.random() < 0.15 else steel
    one_piece = rng.random() < 0.25
    if one_piece:
        name, rgba, material, head_rgba = "grey", steel, "steel", steel
    obj = HouseholdObject("utensil", "handle", name)
    length = rng.uniform(0.085, 0.125)
    half_width = rng.uniform(0.0055, 0.0105)
    half_height = rng.uniform(0.0015, 0.0025) if one_piece else rng.uniform(0.0045, 0.006)
    if kind == "table knife":  # a round handle would roll
        half_width = max(half_width, 1.7 * half_height)
    root = np.array([0, 0, half_height + (rng.uniform(0.009, 0.014) if one_piece else rng.uniform(0.0, 0.003))])
    bow = rng.uniform(0.003, 0.006) if one_piece else rng.uniform(0, 0.002)
    mass = rng.uniform(0.04, 0.075)
    add_handle(obj, rng, root, (length, 0, half_height), half_width, half_height, rgba, material, 0.65 * mass, bow)
    neck = rng.uniform(0.018, 0.045)
    tip = np.array([-neck, 0, rng.uniform(0.004, 0.009)])
    add_neck(obj, "neck", [root + [0.004, 0, 0], tip], rng.uniform(0.0025, 0.0035), 0.002, head_rgba, 0.1 * mass)
    if kind == "fork":
        _fork_head(obj, rng, tip, head_rgba, 0.25 * mass)
    elif kind == "spoon":
        _spoon_head(obj, rng, tip, head_rgba, 0.25 * mass)
    else:
        blade, width = rng.uniform(0.07, 0.1), rng.uniform(0.0085, 0.011)
        s = np.linspace(0, 1, 12)
        half = width * np.sqrt(np.clip(1 - np.clip((s - 0.8) / 0.2, 0, 0.97) ** 2, 0, 1)) * np.minimum(1, 0.3 + 5 * s)
        path = np.c_[tip[0] - blade * s, 0 * s, np.full_like(s, tip[2])]
        obj.add_visual("blade", sweep(path, half, 0.001, 4.0), head_rgba, "steel")
        middle = (tip[0] - blade * 0.47, 0, tip[2])
        obj.add_collider("blade", "box", (blade * 0.47, width * 0.9, 0.001), middle, mass_kg=0.25 * mass)
    return place(obj)


def _fork_head(obj: HouseholdObject, rng: np.random.Generator, root: Array, rgba: Rgba, mass_kg: float) -> None:
    length, width = rng.uniform(0.05, 0.068), rng.uniform(0.0095, 0.014)
    count, palm = int(rng.integers(3, 5)), rng.uniform(0.35, 0.48)
    sag = rng.uniform(0.004, 0.008)

    def line(s: Array, y: Array) -> Array:  # dips under the palm, then the tines curve up again
        return np.c_[root[0] - length * s, y, root[2] - sag * np.sin(np.pi * np.clip(s * 1.15, 0, 1))]

    s = np.linspace(0, palm, 8)
    half = 0.003 + (width - 0.003) * np.sin(np.pi / 2 * s / palm) ** 1.3
    obj.add_visual("tines", sweep(line(s, 0 * s), half, 0.0011, 4.0), rgba, "steel")
    tine = width / count * rng.uniform(0.5, 0.65)
    s = np.linspace(palm - 0.03, 1, 10)
    for y in (width - tine) * np.linspace(-1, 1, count):
        taper = tine * np.where(s > 0.85, 1 - 0.6 * (s - 0.85) / 0.15, 1)
        obj.add_visual("tines", sweep(line(s, np.full_like(s, y)), taper, 0.0011, 3.0, 8), rgba, "steel")
    knots = line(np.linspace(0.12, 1, 4), np.zeros(4))
    for a, b in zip(knots[:-1], knots[1:], strict=True):
        d = (b - a) / np.linalg.norm(b - a)
        R = np.stack([d, [0, 1, 0], np.cross(d, [0, 1, 0])], axis=1)
        half_size = (float(np.linalg.norm(b - a)) / 2, width, 0.0011)
        obj.add_collider("tines", "box", half_size, (a + b) / 2, R, mass_kg / 3)


def _spoon_head(obj: HouseholdObject, rng: np.random.Generator, root: Array, rgba: Rgba, mass_kg: float) -> None:
    length, width, depth = rng.uniform(0.022, 0.033), rng.uniform(0.014, 0.021), rng.uniform(0.005, 0.009)
    a = np.linspace(0, np.pi / 2, 8)
    profile = np.c_[0.4 + 0.6 * np.sin(a), depth * (1 - np.cos(a))]
    profile[:, 0] *= width
    mesh = shell(np.concatenate([[[0, 0]], profile]), 0.0012, 36)
    egg = 1 + 0.12 * mesh.vertices[:, 0] / width  # wider towards the handle
    mesh.vertices[:, 1] *= egg
    mesh.vertices[:, 0] *= length / width
    at = root + [-length + 0.002, 0, -depth + 0.001]
    obj.add_visual("bowl", moved(mesh, at), rgba, "steel")
    for part_of_rim, z in ((0.4, 0.0006), (0.7, 0.4 * depth), (0.9, 0.85 * depth)):
        half = (length * part_of_rim * 0.92, width * part_of_rim * 0.8, 0.0006)
        obj.add_collider("bowl", "box", half, at + [0, 0, z], mass_kg=mass_kg / 3)


def spatula(rng: np.random.Generator) -> HouseholdObject:
    """Turner (slotted or solid, metal or plastic), scraper or wooden spatula."""
    style = str(rng.choice(["turner", "turner", "slotted", "slotted", "scraper", "wooden"]))
    name, rgba, material = sample_handle_material(rng, wood=0.25)
    steel = sample_steel(rng)
    blade_rgba, blade_material = (steel, "steel") if rng.random() < 0.5 else (rgba, material)
    if style == "wooden":
        name, rgba, material = "brown", sample_wood(rng), "wood"
        blade_rgba, blade_material = rgba, material
    elif style == "scraper":
        blade_rgba, blade_material = sample_colour(rng)[1], "rubber"
    elif blade_material == "wood":
        blade_rgba, blade_material = sample_colour(rng, ["black", "red", "grey", "green"])[1], "plastic"
    obj = HouseholdObject("spatula", "handle", name)
    length, half_height = rng.uniform(0.1, 0.17), rng.uniform(0.0048, 0.0075)
    half_width = rng.uniform(max(0.0065, half_height), 0.012)
    slope = rng.uniform(0, 0.025)
    root = np.array([0, 0, half_height + slope])
    add_handle(obj, rng, root, (length, 0, half_height), half_width, half_height, rgba, material, 0.07)
    if rng.random() < 0.3:
        add_hang_ring(obj, rng, (length, 0, half_height), 0.007, steel)
    neck = rng.uniform(0.02, 0.1) if style != "wooden" else 0.05
    tip = np.array([-neck, 0, rng.uniform(0.002, 0.008)])
    neck_rgba = rgba if style == "wooden" else blade_rgba if blade_rgba is rgba else steel
    add_neck(obj, "neck", [root + [0.006, 0, 0], tip], half_width * rng.uniform(0.4, 0.7), 0.0028, neck_rgba, 0.02)
    thickness = {"wooden": 0.005, "scraper": 0.007}.get(style, 0.0022)
    blade = rng.uniform(0.06, 0.115)
    near, far = rng.uniform(0.018, 0.034), rng.uniform(0.026, 0.045)
    if style in ("scraper", "wooden"):
        near, far = rng.uniform(0.018, 0.026), rng.uniform(0.022, 0.032)
    mesh = extrude(_rounded_blade(blade, near, far, rng.uniform(0.005, 0.02)), thickness, -thickness / 2)
    if style == "slotted":
        count = int(rng.integers(3, 6))
        across = rng.random() < 0.3
        for f in np.linspace(-0.68, 0.68, count):
            if across:
                slot = box((blade * 0.5 / count, near * 1.2, 0.02), (-blade * (0.5 + 0.5 * f), 0, 0))
            else:
                slot = box((blade * rng.uniform(0.5, 0.6), near * 0.75 / count, 0.02), (-blade * 0.52, f * near, 0))
            mesh = difference(mesh, slot)
    tilt = float(np.arctan2(tip[2] - 0.001, blade) * rng.uniform(0.3, 1))
    obj.add_visual("blade", moved(mesh, tip, rot_y(-tilt)), blade_rgba, blade_material)
    for low, high, half in ((0, 0.5, 0.75 * near + 0.25 * far), (0.5, 1, 0.25 * near + 0.75 * far)):
        middle = tip + rot_y(-tilt) @ [-blade * (low + high) / 2, 0, 0]
        obj.add_collider("blade", "box", (blade / 4, 0.95 * half, thickness / 2), middle, rot_y(-tilt), 0.025)
    obj.parameters |= {"blade_length": blade, "blade_width": 2 * far}
    return place(obj)


def _rounded_blade(length: float, near: float, far: float, corner: float) -> Array:
    """Outline (N, 2) from x = 0 (half width `near`) to x = -length (`far`) with rounded far corners."""
    a = np.linspace(0, np.pi / 2, 7)
    arc = np.c_[-length + corner * (1 - np.sin(a)), far - corner * (1 - np.cos(a))]  # from the side to the tip
    shoulder = np.array([[0.0, 0.3 * near], [-0.1 * length, near]])
    upper = np.concatenate([shoulder, arc])
    return np.concatenate([upper, upper[::-1] * [1, -1]])


def knife(rng: np.random.Generator) -> HouseholdObject:
    """Chef's, santoku, bread or paring knife, or a cleaver, lying on its side."""
    style = str(rng.choice(["chef", "chef", "santoku", "bread", "paring", "cleaver"]))
    name, rgba, material = sample_handle_material(rng, wood=0.35)
    obj = HouseholdObject("knife", "handle", name)
    blade, tall = {
        "chef": (rng.uniform(0.13, 0.19), rng.uniform(0.03, 0.042)),
        "santoku": (rng.uniform(0.12, 0.16), rng.uniform(0.036, 0.046)),
        "bread": (rng.uniform(0.15, 0.2), rng.uniform(0.024, 0.032)),
        "paring": (rng.uniform(0.075, 0.1), rng.uniform(0.018, 0.026)),
        "cleaver": (rng.uniform(0.13, 0.17), rng.uniform(0.06, 0.08)),
    }[style]
    length = rng.uniform(0.095, 0.125)
    half_height = rng.uniform(0.006, 0.0078)
    half_width = rng.uniform(1.7 * half_height, 0.0137)  # flat enough not to roll
    handle_mass = rng.uniform(0.06, 0.1)
    add_handle(obj, rng, (-0.004, 0, 0), (length, 0, 0), half_width, half_height, rgba, material, handle_mass)
    spine = half_width * 0.75
    s = np.linspace(0, 1, 14)[1:]
    belly = {
        "chef": spine - tall * (1 - s**3.2),
        "santoku": spine - tall * (1 - 0.25 * s**4),
        "bread": spine - tall * (1 - 0.5 * s**8),
        "paring": spine - tall * (1 - s**2.2),
        "cleaver": spine - tall * (1 - 0.06 * s**2),
    }[style]
    top = [[0, spine], [-0.75 * blade, spine], [-blade, spine]]
    if style == "santoku":
        top = [[0, spine], [-0.8 * blade, spine], [-0.93 * blade, spine - 0.22 * tall], [-blade, spine - 0.6 * tall]]
    lower = np.c_[-blade * s, np.minimum(belly, spine)][::-1]
    heel = [[-0.008, spine - tall], [-0.006, -spine], [0, -spine]]
    outline = np.concatenate([top, lower[1:], heel])
    steel = sample_steel(rng)
    obj.add_visual("blade", extrude(outline, 0.002, -0.001), steel, "steel")
    if rng.random() < 0.4:
        bolster = box((0.012, 2 * half_width * 0.95, 2 * half_height * 0.95), (-0.003, 0, 0))
        obj.add_visual("bolster", bolster, steel, "steel")
        half = (0.006, half_width * 0.95, half_height * 0.95)
        obj.add_collider("bolster", "box", half, (-0.003, 0, 0), mass_kg=0.01)
    blade_mass = rng.uniform(0.025, 0.045) * (2 if style == "cleaver" else 1)
    for low, high in ((0.02, 0.5), (0.5, 0.97)):
        inside = lower[(lower[:, 0] <= -low * blade) & (lower[:, 0] >= -high * blade)]
        edge = float(inside[:, 1].mean())
        half = ((high - low) * blade / 2, (spine - edge) / 2, 0.001)
        at = (-(low + high) * blade / 2, (spine + edge) / 2, 0)
        obj.add_collider("blade", "box", half, at, mass_kg=blade_mass / 2)
    if rng.random() < 0.5 and material != "steel":  # rivets
        for f in (0.2, 0.5, 0.8):
            rivet = revolve([[0, -1.01], [0.0026, -1.01], [0.0026, 1.01], [0, 1.01]], 12)
            rivet.vertices[:, 2] *= half_height
            obj.add_visual("handle", moved(rivet, (f * length, 0, 0)), steel, "steel")
    if rng.random() < 0.5:  # lying on its other side
        for visual in obj.visuals:
            visual.mesh.vertices[:, 1] *= -1
            visual.mesh.invert()
        for collider in obj.colliders:
            collider.T_object_collider[1, 3] *= -1
    obj.parameters |= {"blade_length": blade, "blade_width": tall}
    return place(obj)


def rolling_pin(rng: np.random.Generator) -> HouseholdObject:
    """Barrel with two turned grips, or a tapered French pin whose ends are the grips."""
    wooden = rng.random() < 0.7
    name, rgba = ("brown", sample_wood(rng)) if wooden else sample_colour(rng)
    material = "wood" if wooden else "plastic"
    obj = HouseholdObject("rolling pin", "handle", name)
    half, radius = rng.uniform(0.08, 0.12), rng.uniform(0.019, 0.027)
    grip, grip_radius = rng.uniform(0.06, 0.085), rng.uniform(0.009, 0.0125)
    french = rng.random() < 0.3
    s = np.linspace(0, 1, 12)
    if french:
        radii = radius - (radius - grip_radius) * s**0.8
        radii[-1] *= 0.7
    else:
        radii = grip_radius * (1 + 0.18 * np.sin(2 * np.pi * s - 0.6))
        radii[[0, -1]] *= (0.7, 0.6)
    barrel = np.array([[0, -half], [radius * 0.96, -half], [radius, 0.003 - half]])
    profile = np.concatenate([barrel, barrel[::-1] * [1, -1]])
    obj.add_visual("barrel", moved(revolve(profile, 36), rotation=rot_y(np.pi / 2)), rgba, material)
    obj.add_collider("barrel", "cylinder", (radius, half), rotation=rot_y(np.pi / 2), mass_kg=rng.uniform(0.2, 0.35))
    handle_rgba = rgba if french or rng.random() < 0.5 else sample_colour(rng, ["red", "black", "blue", "green"])[1]
    for sign in (1, -1):
        x = sign * (half + grip * s)
        mesh = sweep(np.c_[x, 0 * s, 0 * s], radii, radii)
        obj.add_visual("handle", mesh, handle_rgba, material if handle_rgba is rgba else "plastic")
        for low, high in ((0, 5), (5, 11)):
            r = float(radii[low + 1 : high + 1].mean())
            obj.add_rod("handle", (x[low], 0, 0), (x[high] - sign * (r if high == 11 else 0), 0, 0), r, 0.02)
    obj.parameters |= {"radius": radius, "length": 2 * (half + grip), "handle_width": 2 * grip_radius}
    return place(obj)


def ice_cream_scoop(rng: np.random.Generator) -> HouseholdObject:
    """Thick handle, short neck and a round scoop that opens upwards."""
    steel = sample_steel(rng)
    name, rgba, material = sample_handle_material(rng, wood=0.15)
    if rng.random() < 0.3:
        name, rgba, material = "grey", steel, "steel"
    obj = HouseholdObject("ice cream scoop", "handle", name)
    half_height, length = rng.uniform(0.0085, 0.013), rng.uniform(0.1, 0.125)
    half_width = half_height * rng.uniform(1.0, 1.25)
    lift = rng.uniform(0, 0.008)
    root = np.array([0, 0, half_height + lift])
    add_handle(obj, rng, root, (length, 0, half_height), half_width, half_height, rgba, material, 0.1)
    radius = rng.uniform(0.02, 0.028)
    depth = radius * rng.uniform(0.75, 1.0)
    neck = rng.uniform(0.02, 0.045)
    tip = np.array([-neck, 0, rng.uniform(0.75, 0.95) * depth])
    add_neck(obj, "neck", [root + [0.008, 0, 0], tip], rng.uniform(0.004, 0.007), 0.004, steel, 0.03)
    a = np.linspace(0, np.pi / 2, 10)
    profile = np.c_[radius * (0.35 + 0.65 * np.sin(a)), depth * (1 - np.cos(a))]
    mesh = shell(np.concatenate([[[0, 0]], profile]), 0.0018, 36)
    stretch = rng.uniform(1.0, 1.35)
    mesh.vertices[:, 0] *= stretch
    count = len(obj.colliders)
    add_shell(obj, "bowl", profile[[0, 4, 9]], 0.0018, 8, 0.05)
    at = np.array([tip[0] - radius * stretch + 0.002, 0, 0])
    for collider in obj.colliders[count:]:
        collider.T_object_collider[0, 3] *= stretch
        collider.T_object_collider[:3, 3] += at
    obj.add_visual("bowl", moved(mesh, at), steel, "steel")
    obj.parameters |= {"radius": radius, "depth": depth}
    return place(obj)
