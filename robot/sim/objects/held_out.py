"""More things that are never trained on: hand saw, toothbrush and tongs here, kettle and watering can in `vessels`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from manifold3d import CrossSection

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.model import HouseholdObject, Material
from affordagent.robot.sim.objects.shapes import (
    Rgba,
    box,
    cylinder,
    moved,
    rot_x,
    sample_colour,
    sample_steel,
    sample_wood,
    sweep,
)
from affordagent.robot.sim.objects.tool_shapes import (
    add_bar,
    add_bars,
    add_grip,
    add_octagonal_bars,
    along_x,
    bezier,
    disc,
    finished,
    loft,
    plate,
    polygon,
    spread,
    stroke,
    wood_or_colour,
)
from affordagent.robot.sim.objects.vessels import kettle, watering_can

BRUSH_GRIPS = (  # relative width from the neck to the free end
    (0.6, 0.8, 1, 0.95, 0.85, 0.85, 0.95, 0.6),
    (0.7, 0.85, 0.92, 0.97, 1, 1, 0.97, 0.6),
    (0.6, 1, 0.85, 1, 1, 0.95, 0.85, 0.6),
    (0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.95, 0.7),
)
SAWS = ("panel", "panel", "tenon", "dovetail", "pull", "pruning", "keyhole")


def hand_saw(rng: np.random.Generator) -> HouseholdObject:
    """Toolbox-size panel saw, tenon or dovetail saw with a stiff back, pull saw, pruning saw or keyhole saw."""
    style = str(rng.choice(SAWS))
    word, rgba, material = wood_or_colour(rng, 0.55)
    obj = HouseholdObject("hand saw", "handle", word)
    steel = sample_steel(rng)
    length, heel, toe = {
        "panel": (rng.uniform(0.21, 0.29), rng.uniform(0.075, 0.1), rng.uniform(0.03, 0.05)),
        "tenon": (rng.uniform(0.2, 0.27), rng.uniform(0.065, 0.085), rng.uniform(0.055, 0.07)),
        "dovetail": (rng.uniform(0.16, 0.23), rng.uniform(0.045, 0.06), rng.uniform(0.04, 0.05)),
        "pull": (rng.uniform(0.19, 0.24), rng.uniform(0.03, 0.04), rng.uniform(0.045, 0.06)),
        "pruning": (rng.uniform(0.16, 0.24), rng.uniform(0.034, 0.046), rng.uniform(0.01, 0.02)),
        "keyhole": (rng.uniform(0.14, 0.2), rng.uniform(0.024, 0.034), rng.uniform(0.005, 0.01)),
    }[style]
    curve = rng.uniform(0.01, 0.026) if style == "pruning" else 0.0
    _blade(obj, rng, length, heel, toe, curve, steel)
    if style in ("tenon", "dovetail"):
        thick, tall = rng.uniform(0.006, 0.009), rng.uniform(0.009, 0.014)
        k = rng.uniform(0.8, 1.1)
        back = (0.72 * k, 0.55 * k, 0.25 * k, 1.0) if rng.random() < 0.5 else sample_steel(rng)
        size, at = (length * 0.98, tall, thick), (-length * 0.49, heel / 2 - tall / 2 + 0.002, 0)
        obj.add_visual("spine", box(size, at), back, "steel")
        obj.add_collider("spine", "box", (size[0] / 2, size[1] / 2, size[2] / 2), at)
    thickness = rng.uniform(0.018, 0.025)
    if style in ("panel", "tenon"):
        _closed_grip(obj, rng, heel, thickness, rgba, material, steel)
    elif style in ("dovetail", "pruning") and rng.random() < 0.75:
        _pistol_grip(obj, rng, heel, thickness, rgba, material, steel)
    else:
        grip = rng.uniform(0.15, 0.19) if style == "pull" else rng.uniform(0.1, 0.13)
        widths = 0.5 * (heel + 0.028) * np.array([1.0, 0.9, 0.88, 0.95, 1.0, 0.8]).clip(0.8)
        widths = np.clip(widths, 0.024, 0.034) * [1, 0.95, 0.93, 1, 1.05, 0.8]
        thickness = rng.uniform(0.0135, 0.0162)  # flat: a round one would roll
        path = along_x(-0.012, grip, 20)
        add_grip(obj, "handle", path, widths, thickness, rgba, material, rng.uniform(2.6, 4), pieces=4)
        if style == "pull" and rng.random() < 0.7:  # wound with cord
            for x in np.arange(0.25, 0.9, 0.06) * grip:
                ring = loft(
                    along_x(x, x + 0.006, 3), 1.03 * np.interp(x, [0, grip], widths[[0, 4]]), 1.04 * thickness, 3
                )
                obj.add_visual("handle", ring, (0.75, 0.68, 0.5, 1.0), "paper")
        obj.parameters |= {"handle_width": float(widths[2])}
    obj.parameters |= {"blade_length": length, "blade_height": heel, "style": float(SAWS.index(style))}
    masses = {"blade": 0.4 * length, "handle": rng.uniform(0.1, 0.17), "spine": 0.35 * length}
    return finished(obj, masses)


def _blade(
    obj: HouseholdObject, rng: np.random.Generator, length: float, heel: float, toe: float, curve: float, steel: Rgba
) -> None:
    """A plate from x = 0 to -length with teeth at its lower edge (-y), bent downwards by `curve` at the middle."""
    pitch, depth = rng.uniform(0.0045, 0.0075), rng.uniform(0.0022, 0.0035)
    count = int(length * 0.96 / pitch)
    s = np.linspace(0, 1, 2 * count + 1)
    lean = rng.uniform(0, 0.6) * 0.5 / count
    bow = curve * np.sin(np.pi * s)
    upper = heel / 2 - 0.15 * (heel - toe) * s + bow
    lower = heel / 2 - heel - (toe - heel) * s * 0.85 + bow
    lower[1::2] -= depth
    x = -length * s
    x[1::2] -= lean * length
    few = slice(None, None, max(1, count // 6))
    outline = np.r_[np.c_[x[few], upper[few]], [[-length, upper[-1]]], np.c_[x[::-1], lower[::-1]]]
    obj.add_visual("blade", plate(polygon(outline), 0.0014), steel, "steel")
    tang = box((0.03, min(heel * 0.6, 0.03), 0.0014), (0.0, 0, 0))
    obj.add_visual("blade", tang, steel, "steel")
    for a, b in ((0.0, 0.34), (0.34, 0.67), (0.67, 0.99)):
        m = (a + b) / 2
        top, bottom = float(np.interp(m, s, upper)), float(np.interp(m, s[::2], lower[::2]))
        tilt = np.interp([a, b], s, upper + np.interp(s, s[::2], lower[::2])) / 2
        near, far = (-length * a, tilt[0], 0), (-length * b, tilt[1], 0)
        add_bar(obj, "blade", near, far, top - bottom, 0.0014)


def _closed_grip(
    obj: HouseholdObject,
    rng: np.random.Generator,
    heel: float,
    thickness: float,
    rgba: Rgba,
    material: Material,
    steel: Rgba,
) -> None:
    """A board with a hole for four fingers behind the blade."""
    depth, half, lean = rng.uniform(0.072, 0.09), rng.uniform(0.046, 0.054), rng.uniform(0.0, 0.018)
    drop = -rng.uniform(0.0, 0.012)
    bar = rng.uniform(0.027, 0.033)
    path = np.array(
        [
            (0.004, drop + 0.62 * half),
            (0.35 * depth, drop + half),
            (depth - 0.01, drop + half - 0.004),
            (depth + 0.3 * lean, drop),
            (depth + lean, drop - half + 0.006),
            (0.45 * depth, drop - half),
            (0.006, drop - 0.6 * half),
            (0.004, drop + 0.62 * half),
        ]
    )
    widths = np.array([0.034, 0.024, bar * 0.95, bar, bar, 0.024, 0.032, 0.034])
    section = stroke(path, widths, 20)
    for x in (0.0, 0.016):  # two cheeks on the blade
        cheek = np.array([(-x, drop + 0.4 * heel), (-0.4 * x, drop - 0.35 * heel)])
        section += stroke(cheek, 0.026)
        add_bar(obj, "handle", (*cheek[0], 0), (*cheek[1], 0), 0.025, thickness)
    if rng.random() < 0.6:  # a horn above the hand
        section += stroke([path[2], path[2] + [0.018, 0.012]], (bar * 0.7, 0.01))
    bolts = path[0] + np.linspace(0, 1, 2 + int(rng.integers(2)))[:, None] * (path[-2] - path[0])
    _board(obj, rng, section, path, widths, thickness, bolts, rgba, material, steel)
    obj.parameters |= {"handle_width": bar}


def _pistol_grip(
    obj: HouseholdObject,
    rng: np.random.Generator,
    heel: float,
    thickness: float,
    rgba: Rgba,
    material: Material,
    steel: Rgba,
) -> None:
    """An open grip that curves down behind the blade."""
    length, drop, bar = rng.uniform(0.1, 0.12), rng.uniform(0.03, 0.06), rng.uniform(0.026, 0.032)
    path = bezier([(-0.012, 0.1 * heel), (0.35 * length, 0.012), (0.75 * length, 0.3 * -drop), (length, -drop)], 9)
    widths = spread((min(0.04, 0.85 * heel), bar * 1.05, bar * 0.93, bar, bar * 1.15), 9)
    bolts = path[0] + [0.002, 0] + np.array([[0, 0], [0.016, 0]])
    _board(obj, rng, stroke(path, widths, 20), path, widths, thickness, bolts, rgba, material, steel)
    obj.parameters |= {"handle_width": bar}


def _board(
    obj: HouseholdObject,
    rng: np.random.Generator,
    section: CrossSection,
    path: Array,
    widths: Array,
    thickness: float,
    bolts_xy: Array,
    rgba: Rgba,
    material: Material,
    steel: Rgba,
) -> None:
    """The part "handle" cut from a board: its section, a (N, 2) line through it with (N,) widths, and bolts."""
    obj.add_visual("handle", plate(section, thickness, bevel=rng.uniform(0.002, 0.004)), rgba, material)
    for a, b, w in zip(path[:-1], path[1:], (widths[:-1] + widths[1:]) / 2, strict=True):
        add_bar(obj, "handle", (*a, 0), (*b, 0), 0.97 * float(w), thickness)
    for at, w in zip(path, widths, strict=True):
        obj.add_collider("handle", "cylinder", (0.97 * float(w) / 2, thickness / 2), (*at, 0))
    for at in bolts_xy:
        obj.add_visual("handle", cylinder(0.0042, thickness + 0.0012, (*at, 0), sections=16), steel, "steel")


def toothbrush(rng: np.random.Generator) -> HouseholdObject:
    """Plain, soft-gripped, bamboo or children's brush, or an electric one; bristles up or sideways."""
    style = str(rng.choice(["plain", "soft", "soft", "bamboo", "kids", "electric"]))
    name, rgba = sample_colour(rng)
    material: Material = "plastic"
    if style == "bamboo":
        k = rng.uniform(0.95, 1.2)
        name, rgba, material = "brown", (0.76 * k, 0.6 * k, 0.38 * k, 1.0), "wood"
    obj = HouseholdObject("toothbrush", "handle", name)
    length = rng.uniform(0.075, 0.095) if style == "kids" else rng.uniform(0.1, 0.125)
    neck = rng.uniform(0.03, 0.045)
    head, head_half = rng.uniform(0.024, 0.032), rng.uniform(0.0055, 0.0068)
    if style == "electric":
        name, rgba = sample_colour(rng, ["white", "white", "black", "blue", "pink", "grey"])
        obj.colour = name
        half_width = rng.uniform(0.0125, 0.0155)
        length = rng.uniform(0.14, 0.165)
        widths = 2 * half_width * np.array([0.55, 0.9, 0.97, 1.0, 1.0, 1.0, 0.9])
        obj.add_visual("handle", loft(along_x(0, length, 24), widths, widths, sections=24), rgba, material)
        add_octagonal_bars(obj, "handle", length, widths)
        button = box((0.012, 0.008, 0.003), (0.38 * length, 0, 0.93 * half_width))
        obj.add_visual("handle", button, sample_colour(rng)[1], "rubber")
        head, head_half = rng.uniform(0.013, 0.016), rng.uniform(0.0065, 0.0075)
        neck, skin = rng.uniform(0.04, 0.055), sample_colour(rng, ["white"])[1]
        handle_mass = rng.uniform(0.07, 0.11)
    else:
        handle_mass, skin = rng.uniform(0.011, 0.018), rgba
        half_width = _brush_grip(obj, rng, style, length, rgba, material)
    root, tip = np.array([0.004, 0, 0.0]), np.array([-neck, 0, rng.uniform(-0.002, 0.003)])
    slim = min(half_width * 0.75, rng.uniform(0.0026, 0.0038))
    path = root + np.linspace(0, 1, 8)[:, None] * (tip - root)
    obj.add_visual(
        "neck", sweep(path, np.linspace(1.5 * slim, slim, 8), np.linspace(1.3, 0.9, 8) * slim), skin, material
    )
    add_bars(obj, "neck", path[::-1], (2 * slim, 2.6 * slim), 2 * slim, pieces=2)
    plate_half = rng.uniform(0.0019, 0.0026)
    x = tip[0] + 0.003 - head * (1 - np.cos(np.linspace(0, np.pi, 14))) / 2
    round_ends = head_half * np.sqrt(np.clip(1 - np.abs(2 * (tip[0] + 0.003 - x) / head - 1) ** 3, 0.08, 1))
    obj.add_visual("head", sweep(np.c_[x, 0 * x, 0 * x + tip[2]], round_ends, plate_half, 3.0), skin, material)
    middle = np.array([tip[0] + 0.003 - head / 2, 0, tip[2]])
    obj.add_collider("head", "box", (0.48 * head, 0.93 * head_half, plate_half), middle)
    _tufts(obj, rng, middle + [0, 0, plate_half], head, head_half)
    if rng.random() < 0.35:  # lying on its side
        quarter = rot_x(np.pi / 2 * rng.choice([-1, 1]))
        for visual in obj.visuals:
            moved(visual.mesh, rotation=quarter)
        for collider in obj.colliders:
            collider.T_object_collider[:3] = quarter @ collider.T_object_collider[:3]
    obj.parameters |= {"length": length, "handle_width": 2 * half_width, "head": head}
    return finished(obj, {"handle": handle_mass, "neck": 0.003, "head": 0.0015, "bristles": 0.001})


def _brush_grip(
    obj: HouseholdObject, rng: np.random.Generator, style: str, length: float, rgba: Rgba, material: Material
) -> float:
    """A flat handle along +x, with a rubber inlay where the thumb goes when `style` asks for one; its half width."""
    half_height = rng.uniform(0.0045, 0.0056) + 0.0012 * (style == "kids")
    half_width = half_height * rng.uniform(1.15, 1.5)
    bow = 0.0 if style == "bamboo" else rng.uniform(0, 0.004)

    def centre_line(s: Array) -> Array:
        return np.c_[-0.004 + s * (length + 0.004), 0 * s, bow * np.sin(np.pi * s)]

    widths = 2 * half_width * np.array(BRUSH_GRIPS[int(rng.integers(len(BRUSH_GRIPS)))])
    heights = 2 * half_height * np.array([0.75, 1, 1, 1, 1, 1, 0.95, 0.55])
    add_grip(obj, "handle", centre_line(np.linspace(0, 1, 24)), widths, heights, rgba, material, rng.uniform(2.2, 3.5))
    if style in ("soft", "kids"):
        inlay = centre_line(np.linspace(rng.uniform(0.1, 0.2), rng.uniform(0.5, 0.85), 14))
        taper = half_width * 0.62 * np.sin(np.linspace(0.25, np.pi - 0.25, 14)) ** 0.5
        obj.add_visual("handle", sweep(inlay, taper, 1.07 * half_height), sample_colour(rng)[1], "rubber")
    return half_width


def _tufts(obj: HouseholdObject, rng: np.random.Generator, at: Array, length: float, half_width: float) -> None:
    """Rows of bristles on a head, the middle ones often of another colour."""
    tall = rng.uniform(0.009, 0.0115)
    white = (0.93, 0.93, 0.9, 1.0)
    accent = sample_colour(rng)[1] if rng.random() < 0.7 else white
    columns, rows = max(3, round(length / 0.0042)), 3
    r = min(0.82 * half_width / rows, 0.43 * 0.9 * length / columns)
    for i, x in enumerate(np.linspace(-0.42, 0.42, columns) * length):
        for j, y in enumerate(np.linspace(-0.6, 0.6, rows) * half_width):
            wave = tall * (1 - 0.12 * (i % 2) * (j % 2))
            tuft = cylinder(r, wave, at + [x, y, wave / 2 - 0.0005], sections=8)
            obj.add_visual("bristles", tuft, accent if j == 1 or i in (0, columns - 1) else white, "paper")
    half = (0.42 * length, 0.8 * half_width, 0.47 * tall)
    obj.add_collider("bristles", "box", half, at + [0, 0, half[2]])


def tongs(rng: np.random.Generator) -> HouseholdObject:
    """Kitchen tongs on their side: two arms on a spring hinge (or one bent strip); scalloped, paddle or plain tips."""
    style = str(rng.choice(["hinged", "hinged", "sleeved", "sleeved", "strip", "wooden"]))
    steel = sample_steel(rng)
    name, rgba, material = "grey", steel, "steel"
    if style == "wooden":
        name, rgba, material = "brown", sample_wood(rng), "wood"
    elif style != "strip" and rng.random() < 0.25:
        name, rgba = sample_colour(rng)
        material = "plastic"
    obj = HouseholdObject("tongs", "handle", name)
    length = rng.uniform(0.15, 0.19) if style == "wooden" else rng.uniform(0.18, 0.3)
    opening = np.radians(rng.uniform(2.5, 6.5))
    gap = rng.uniform(0.004, 0.007) if style in ("hinged", "sleeved") else rng.uniform(0.008, 0.012)
    thick = {"wooden": rng.uniform(0.005, 0.0065), "strip": 0.0024}.get(style, rng.uniform(0.004, 0.006))
    tall = rng.uniform(0.017, 0.024)
    held = rng.uniform(0.55, 0.66)  # share of the arm that is the handle
    s = np.linspace(0, 1, 28)
    belly = rng.uniform(0.002, 0.007) * np.sin(np.pi * s) + rng.uniform(0, 0.006) * np.sin(np.pi * s**2)
    y = gap + s * length * np.sin(opening) + belly
    heights = tall * np.interp(s, [0, 0.12, 0.5, 1], [0.65, 1, 1, rng.uniform(0.6, 0.85)])
    paddle = style != "wooden" and rng.random() < 0.75
    if paddle:
        heights *= 1 + (rng.uniform(0.25, 0.7) * np.clip((s - 0.82) / 0.1, 0, 1))
    if style == "sleeved":
        name, tip_rgba = sample_colour(rng)
        obj.colour = name
    sleeve_rgba = tip_rgba if style == "sleeved" else rgba
    tip_rgba = tip_rgba if style == "sleeved" and rng.random() < 0.75 else rgba
    first, last = 0, int(held * 27)
    for side in (1.0, -1.0):
        path = np.c_[-length * s, side * y, 0 * s]
        rear, front = path[first : last + 1], path[last:]
        obj.add_visual("handle", loft(rear, thick, heights[: last + 1], 4.0, 16), rgba, material)
        add_bars(obj, "handle", rear, thick * (1.6 if style == "sleeved" else 1), heights[: last + 1], pieces=4)
        if style == "sleeved":
            a, b = int(rng.integers(3, 5)), last - 1
            obj.add_visual("handle", loft(path[a:b], 1.7 * thick, 1.06 * heights[a:b], 3.0, 16), sleeve_rgba, "rubber")
        obj.add_visual("tips", loft(front, thick, heights[last:], 4.0, 16), rgba, material)
        add_bars(obj, "tips", front, thick, heights[last:], pieces=3)
        if paddle or tip_rgba is not rgba:
            end = path[-6:]
            obj.add_visual("tips", loft(end, 1.35 * thick, 1.05 * heights[-6:], 3.0, 16), tip_rgba, "rubber")
            for z in np.linspace(-0.38, 0.38, 4) * heights[-1]:  # the scallops that bite
                ridge = cylinder(0.0022, 0.004, path[-1] + [-0.0005, 0, z], rot_x(np.pi / 2), sections=10)
                obj.add_visual("tips", ridge, tip_rgba, "rubber")
    _tong_hinge(obj, rng, style, gap, thick, tall, steel if material != "wood" else rgba)
    obj.parameters |= {
        "length": length,
        "opening_rad": float(opening),
        "handle_width": thick,
        "spread": float(2 * y[last] + thick),
        "handle_height": tall,
    }
    weight = rng.uniform(0.07, 0.13)
    masses = {"handle": 0.6 * weight, "tips": 0.3 * weight, "hinge": 0.1 * weight}
    return finished(obj, masses)


def _tong_hinge(
    obj: HouseholdObject, rng: np.random.Generator, style: str, gap: float, thick: float, tall: float, rgba: Rgba
) -> None:
    """A pin in a clevis, often with a pull ring that locks the arms; for one strip its bend."""
    height = 0.65 * tall
    if style in ("strip", "wooden"):
        t = np.linspace(-np.pi / 2, np.pi / 2, 13)
        bend = np.c_[(gap + 0.002) * np.cos(t) ** 0.8, gap * np.sin(t)]
        section = stroke(bend, thick) if style == "strip" else disc(gap + thick / 2, (-0.001, 0))
        material: Material = "steel" if style == "strip" else "wood"
        obj.add_visual("hinge", plate(section, height), rgba, material)
        obj.add_collider("hinge", "cylinder", (gap + thick / 3, height / 2))
        return
    obj.add_visual("hinge", cylinder(gap + thick / 2, height * 0.9, sections=24), rgba, "steel")
    obj.add_visual("hinge", cylinder(0.0022, height * 1.12, sections=14), rgba, "steel")
    obj.add_collider("hinge", "cylinder", (gap + thick / 2, height * 0.45))
    if rng.random() < 0.7:
        reach, half = rng.uniform(0.012, 0.02), rng.uniform(0.006, 0.009)
        t = np.linspace(-np.pi / 2, np.pi / 2, 15)
        loop = np.c_[reach * np.cos(t) ** 0.6, half * np.sin(t)]
        obj.add_visual("hinge", plate(stroke(loop, 0.0028), 0.0028), rgba, "steel")
        obj.add_collider("hinge", "box", (reach / 2, half, 0.0014), (reach / 2, 0, 0))


HELD_OUT_MORE: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {
    "kettle": kettle,
    "hand saw": hand_saw,
    "toothbrush": toothbrush,
    "tongs": tongs,
    "watering can": watering_can,
}
