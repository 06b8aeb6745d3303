"""Tools of two crossing levers, procedurally: three kinds of pliers, and scissors. Pivot at the origin, jaws at +x."""

from __future__ import annotations

import numpy as np
from manifold3d import CrossSection

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.shapes import Rgba, cylinder, rot_y, rot_z, sample_colour, sample_steel, union
from affordagent.robot.sim.objects.tool_shapes import (
    add_bar,
    add_bars,
    add_grip,
    at_height,
    bezier,
    disc,
    finished,
    plate,
    polygon,
    stroke,
)
from affordagent.robot.sim.objects.wrenches import sample_metal, turned

MIRROR = np.array([1.0, -1.0])
GRIP_COLOURS = ("red", "orange", "yellow", "green", "blue", "black", "grey")


def shade(rgba: Rgba, factor: float) -> Rgba:
    r, g, b, a = rgba
    return (min(1.0, r * factor), min(1.0, g * factor), min(1.0, b * factor), a)


def _lever_path(root: Array, length: float, belly: float, tip: float, count: int = 16) -> Array:
    """(count, 2) from the joint backwards: y grows to about `belly`, then ends at `tip`."""
    controls = [
        tuple(root),
        (root[0] - 0.12 * length, belly),
        (root[0] - 0.5 * length, 1.25 * belly),
        (root[0] - length, tip),
    ]
    return bezier(controls, count)


def _grips(
    obj: HouseholdObject,
    rng: np.random.Generator,
    paths: list[Array],
    steel: Rgba,
    metal_word: str,
    bare_chance: float,
) -> None:
    """Handles along (N, 2) paths: steel shanks in dipped or moulded sleeves, or bare. Sets the colour word."""
    width, height = rng.uniform(0.0085, 0.0125), rng.uniform(0.0105, 0.0155)
    bare = rng.random() < bare_chance
    moulded = rng.random() < 0.5
    start = int(rng.integers(2, 6))
    exponent = rng.uniform(2.2, 3.5)
    word, rgba = sample_colour(rng, GRIP_COLOURS)
    obj.colour = metal_word if bare else word
    for path in paths:
        shank_w = np.array([width * 0.95, width * 0.8, width * 0.8])
        if bare:
            obj.add_visual("handle", plate(stroke(path, shank_w * 1.15), height * 0.8, bevel=0.0012), steel, "steel")
            add_bars(obj, "handle", at_height(path), shank_w * 1.15, height * 0.8)
            continue
        obj.add_visual("handle", plate(stroke(path[: start + 2], shank_w), height * 0.75, bevel=0.0006), steel, "steel")
        w = (width * 0.95, width, width * 1.1, width, width * 0.85) if moulded else (width * 0.9, width, width)
        if moulded:  # a flange that keeps the hand from sliding to the jaws
            w = (width * 1.45, *w)
        add_grip(
            obj, "handle", at_height(path[start:]), w, (height, height, height, height * 0.9), rgba, "rubber", exponent
        )
        add_bars(obj, "handle", at_height(path[: start + 1]), shank_w, height * 0.75, pieces=1)


def _joint(obj: HouseholdObject, section: CrossSection, radius: float, thickness: float, steel: Rgba) -> None:
    obj.add_visual("joint", plate(section, thickness, bevel=0.0008), steel, "steel")
    obj.add_visual("joint", cylinder(radius * 0.5, thickness + 0.0016, sections=20), shade(steel, 0.7), "steel")
    obj.add_collider("joint", "cylinder", (radius, thickness / 2 + 0.0008))


def fixed_joint_pliers(rng: np.random.Generator) -> HouseholdObject:
    """Combination, lineman's or needle-nose pliers (straight or bent): two levers on a riveted joint."""
    style = int(rng.choice(4, p=(0.3, 0.3, 0.25, 0.15)))  # lineman, combination, needle nose, bent needle nose
    needle = style >= 2
    metal_word, steel = sample_metal(rng)
    obj = HouseholdObject("fixed joint pliers", "handle", metal_word)
    radius = rng.uniform(0.0085, 0.0125) - 0.001 * needle
    jaw_length = rng.uniform(0.045, 0.075) if needle else rng.uniform(0.026, 0.04)
    base, tip = (
        radius * rng.uniform(0.75, 0.95),
        rng.uniform(0.0015, 0.003) if needle else radius * rng.uniform(0.5, 0.8),
    )
    opening = rng.uniform(0.0, 0.1)
    length, belly, end = rng.uniform(0.085, 0.125), rng.uniform(0.012, 0.02), rng.uniform(0.010, 0.02)
    swing = np.radians(rng.uniform(0, 4)) + opening / 2
    thickness = rng.uniform(0.011, 0.015)
    upper = _lever_path(np.array([-0.5 * radius, 0.45 * radius]), length, belly, end)
    upper = upper @ rot_z(-swing)[:2, :2].T
    _grips(obj, rng, [upper, upper * MIRROR], steel, metal_word, 0.12)
    _joint(obj, disc(radius), radius, thickness, steel)
    x = np.linspace(0, 1, 8)
    back = np.where(x < 0.25, base, tip + (base - tip) * (1 - (x - 0.25) / 0.75) ** (1.0 if needle else 0.6))
    bend = rng.uniform(0.25, 0.5) * jaw_length if style == 3 else 0.0
    for side in (1, -1):
        outline = np.r_[np.c_[x * jaw_length, side * back], np.c_[x[::-1] * jaw_length, np.full(8, side * 0.0003)]]
        jaw = polygon(outline)
        if style == 1:
            jaw -= CrossSection.circle(1, 20).scale((0.14 * jaw_length, 0.3 * base)).translate((0.42 * jaw_length, 0))
        jaw = turned(jaw, side * opening)
        mesh = plate(jaw, thickness * (0.7 if needle else 0.9), bevel=0.0006)
        v = mesh.vertices.copy()
        far = np.clip(v[:, 0] / jaw_length, 0, 1)
        v[:, 2] *= 1 - (0.6 if needle else 0.15) * far  # jaws also taper in height
        v[:, 1] += bend * far**2  # bent within the plane of the tool
        mesh.vertices = v
        obj.add_visual("jaw", mesh, shade(steel, 0.92), "steel")
        h = thickness * (0.5 if needle else 0.8)
        knots = (
            np.array([[t * jaw_length, side * np.interp(t, x, back) / 2, 0] for t in (0.1, 0.55, 1.0)])
            @ rot_z(side * opening).T
        )
        knots[:, 1] += bend * np.clip(knots[:, 0] / jaw_length, 0, 1) ** 2
        for i in range(2):
            add_bar(obj, "jaw", knots[i], knots[i + 1], float(np.interp(0.3 + 0.45 * i, x, back)) * 0.9, h)
    obj.parameters = {
        "style": float(style),
        "handle_m": length,
        "jaw_m": jaw_length,
        "opening_rad": opening,
        "radius_m": radius,
    }
    k = length / 0.1
    return finished(obj, {"handle": 0.1 * k, "joint": 0.05 * k, "jaw": 0.05 * k})


def slip_joint_pliers(rng: np.random.Generator) -> HouseholdObject:
    """Pliers whose bolt sits in a slot: the classic kind with curved jaws, or tongue-and-groove (water pump) pliers."""
    pump = rng.random() < 0.45
    metal_word, steel = sample_metal(rng)
    obj = HouseholdObject("slip joint pliers", "handle", metal_word)
    radius, thickness = rng.uniform(0.010, 0.013), rng.uniform(0.010, 0.014)
    jaw_length = rng.uniform(0.032, 0.046)
    length = rng.uniform(0.13, 0.175) if pump else rng.uniform(0.095, 0.13)
    belly, end = (
        (rng.uniform(0.010, 0.015), rng.uniform(0.012, 0.02))
        if pump
        else (rng.uniform(0.014, 0.02), rng.uniform(0.014, 0.022))
    )
    swing, opening = np.radians(rng.uniform(0, 4)), rng.uniform(0.02, 0.16)
    tilt = (
        np.radians(rng.uniform(30, 55)) if pump else np.radians(rng.uniform(-4, 12))
    )  # of the jaws against the handles
    upper = _lever_path(np.array([-0.5 * radius, 0.5 * radius]), length, belly, end) @ rot_z(-swing)[:2, :2].T
    lower = (
        _lever_path(np.array([-0.5 * radius, 0.5 * radius]), length * rng.uniform(0.95, 1.05), belly * 1.1, end)
        @ rot_z(-swing)[:2, :2].T
    )
    _grips(obj, rng, [upper, lower * MIRROR], steel, metal_word, 0.4)
    slot_length = radius * (rng.uniform(2.2, 3.2) if pump else rng.uniform(1.1, 1.5))
    slot_angle = tilt + np.radians(rng.uniform(60, 100))
    along = np.array([np.cos(slot_angle), np.sin(slot_angle)])
    plate_section = CrossSection.batch_hull(
        [disc(radius), disc(radius * 0.85, along * slot_length * 0.8), disc(radius * 0.6, (-radius, 0))]
    )
    obj.add_visual("joint", plate(plate_section, thickness, bevel=0.0008), steel, "steel")
    slot = stroke([-along * 0.15 * slot_length, along * 0.8 * slot_length], (radius * 0.75, radius * 0.75))
    obj.add_visual("joint", plate(slot, thickness + 0.0006), (0.06, 0.06, 0.07, 1), "steel")
    bolt_at = along * slot_length * rng.choice([0.0, 0.35, 0.65])
    obj.add_visual(
        "joint", cylinder(radius * 0.48, thickness + 0.003, (*bolt_at, 0), sections=6), shade(steel, 1.15), "steel"
    )
    obj.add_collider("joint", "cylinder", (radius, thickness / 2))
    obj.add_collider("joint", "cylinder", (radius * 0.45, thickness / 2 + 0.0015), (*bolt_at, 0))
    obj.add_collider("joint", "cylinder", (radius * 0.85, thickness / 2), (*(along * slot_length * 0.8), 0))
    R = rot_z(tilt)
    for side in (1, -1):
        base = radius * (1.15 if side > 0 else 0.95)
        shift = (along @ R[:2, 1]) * slot_length * 0.5 if side > 0 and pump else 0.0
        # outside: a convex arc; inside: an oval for pipes near the joint, flat lips at the tip
        out = bezier(
            [
                (-0.4 * radius, side * base),
                (0.45 * jaw_length, side * base * 1.75),
                (0.9 * jaw_length, side * base * 1.1),
                (jaw_length, side * 0.28 * base),
            ],
            12,
        )
        bite = rng.uniform(0.4, 0.6) * base
        inner = bezier(
            [
                (jaw_length, side * 0.0004),
                (0.75 * jaw_length, side * 0.0004),
                (0.62 * jaw_length, side * bite * 2),
                (0.3 * jaw_length, side * bite * 1.6),
                (0.15 * jaw_length, 0),
            ],
            12,
        )
        jaw = turned(polygon(np.r_[out, inner, [(-0.4 * radius, 0)]]).translate((0, shift)), side * opening + tilt)
        obj.add_visual("jaw", plate(jaw, thickness * 0.9, bevel=0.0006), shade(steel, 0.93), "steel")
        turn = rot_z(side * opening + tilt)
        mid = 0.5 * (out + inner[::-1])
        for i, j in ((1, 6), (6, 11)):
            a, b = (turn @ np.array([*mid[k], 0]) + R @ [0, shift, 0] for k in (i, j))
            add_bar(obj, "jaw", a, b, 0.55 * base, thickness * 0.9)
    obj.parameters = {
        "pump": float(pump),
        "handle_m": length,
        "jaw_m": jaw_length,
        "opening_rad": opening,
        "tilt_rad": tilt,
        "radius_m": radius,
    }
    k = length / 0.11
    return finished(obj, {"handle": 0.11 * k, "joint": 0.06 * k, "jaw": 0.06 * k})


def locking_pliers(rng: np.random.Generator) -> HouseholdObject:
    """Locking (vise-grip) pliers: a thick fixed handle ends in an adjusting screw, a hinged one has a release lever."""
    style = int(rng.choice(3, p=(0.55, 0.2, 0.25)))  # curved jaws, straight jaws, long nose
    metal_word, steel = sample_metal(rng)
    obj = HouseholdObject("locking pliers", "handle", metal_word)
    length = rng.uniform(0.095, 0.14)
    top_w, low_w = rng.uniform(0.012, 0.016), rng.uniform(0.010, 0.013)
    height = rng.uniform(0.0125, 0.0165)
    gap = rng.uniform(0.018, 0.028)  # between the bars' middle lines at the widest
    bare = rng.random() < 0.65
    word, grip_rgba = sample_colour(rng, GRIP_COLOURS)
    rgba = steel if bare else grip_rgba
    obj.colour = metal_word if bare else word
    top = np.c_[np.linspace(0.012, -length, 12), np.full(12, 0.5 * gap) + 0.004 * np.linspace(0, 1, 12)]
    add_grip(
        obj,
        "handle",
        at_height(top),
        (top_w * 1.15, top_w, top_w * 0.95, top_w * 0.9),
        height,
        rgba,
        "steel" if bare else "rubber",
        4.0,
        pieces=2,
    )
    low_length = length * rng.uniform(0.8, 0.95)
    low = bezier(
        [
            (0.004, -0.25 * gap),
            (-0.3 * low_length, -0.55 * gap),
            (-0.6 * low_length, -0.5 * gap),
            (-low_length, -gap * rng.uniform(0.55, 0.95)),
        ],
        14,
    )
    add_grip(
        obj,
        "handle",
        at_height(low),
        (low_w * 1.2, low_w, low_w, low_w * 0.8),
        height * 0.92,
        rgba,
        "steel" if bare else "rubber",
        3.5,
    )
    # release lever: hinged on the lower handle, inside, its tongue pointing backwards
    lever = stroke(
        bezier(
            [(-0.42 * low_length, -0.4 * gap), (-0.6 * low_length, -0.05 * gap), (-0.85 * low_length, -0.2 * gap)], 7
        ),
        (0.007, 0.0045, 0.006),
    )
    obj.add_visual("lever", plate(lever, height * 0.6), shade(steel, 0.75), "steel")
    add_bar(
        obj, "lever", (-0.5 * low_length, -0.22 * gap, 0), (-0.82 * low_length, -0.18 * gap, 0), 0.005, height * 0.6
    )
    # adjusting screw: thread, then a knurled knob
    end, knob_r = top[-1], rng.uniform(0.0055, 0.0072)
    thread = rng.uniform(0.004, 0.016)
    R = rot_y(np.pi / 2)
    parts = [cylinder(knob_r * 0.55, thread + 0.006, (end[0] - thread / 2 + 0.003, end[1], 0), R, 14)]
    parts += [
        cylinder(knob_r * (1.0 if i % 2 else 0.88), 0.0026, (end[0] - thread - 0.0024 * i, end[1], 0), R, 16)
        for i in range(6)
    ]
    obj.add_visual("screw", union(parts), shade(steel, 0.85), "steel")
    obj.add_rod("screw", (end[0], end[1], 0), (end[0] - thread - 0.008, end[1], 0), knob_r, 0.01)

    jaw_length = rng.uniform(0.055, 0.075) if style == 2 else rng.uniform(0.03, 0.042)
    base = 0.5 * gap + top_w * 0.45
    opening = rng.uniform(0.0, 0.012)
    thickness = height * rng.uniform(0.75, 0.95)
    full = {0: 1.25, 1: 1.0, 2: 0.35}[style]
    for side in (1, -1):
        out = bezier(
            [
                (0.0, side * base),
                (0.5 * jaw_length, side * base * (0.6 + 0.5 * full)),
                (0.85 * jaw_length, side * base * full),
                (jaw_length, side * base * (0.12 + 0.2 * full)),
            ],
            10,
        )
        inner = [(jaw_length, side * 0.0004), (0.18 * jaw_length, side * 0.0004)]
        if style == 0:
            inner = [
                tuple(p)
                for p in bezier(
                    [
                        (jaw_length, side * 0.0004),
                        (0.7 * jaw_length, side * base * 0.55),
                        (0.35 * jaw_length, side * base * 0.5),
                        (0.15 * jaw_length, 0),
                    ],
                    8,
                )
            ]
        jaw = polygon(np.r_[out, np.array(inner), [(0.0, 0.0)]])
        shift = (0.0, -opening) if side < 0 else (0.0, 0.0)
        obj.add_visual("jaw", plate(jaw.translate(shift), thickness, bevel=0.0006), shade(steel, 0.9), "steel")
        for i, j in ((0, 5), (5, 9)):
            a, b = (np.array([*(out[k] * (1, 0.62)), 0]) + [0, shift[1], 0] for k in (i, j))
            add_bar(obj, "jaw", a, b, abs(out[j, 1]) * 0.65, thickness)
    for x, y in ((0.1 * jaw_length, -0.35 * gap), (-0.02 * length, 0.42 * gap), (-0.45 * low_length, -0.5 * gap)):
        obj.add_visual(
            "jaw" if x > 0 else "handle",
            cylinder(0.0035, height * 1.06, (x, y, 0), sections=14),
            shade(steel, 0.6),
            "steel",
        )
    obj.parameters = {
        "style": float(style),
        "handle_m": length,
        "jaw_m": jaw_length,
        "gap_m": gap,
        "opening_m": opening,
        "thread_m": thread,
    }
    k = length / 0.11
    return finished(obj, {"handle": 0.2 * k, "lever": 0.015, "screw": 0.02, "jaw": 0.12 * k})


def scissors(rng: np.random.Generator) -> HouseholdObject:
    """Scissors lying flat: finger loops (the handle) of plastic or steel, equal or one larger, blades a little open."""
    blade_length = rng.uniform(0.06, 0.13)
    loop = rng.uniform(0.013, 0.018)  # half width of the smaller loop's hole
    bar, height = rng.uniform(0.0085, 0.011), rng.uniform(0.0095, 0.012)
    opening = np.radians(rng.uniform(1, 14))
    all_steel = rng.random() < 0.2
    steel = sample_steel(rng)
    word, rgba = ("grey", steel) if all_steel else sample_colour(rng)
    obj = HouseholdObject("scissors", "handle", word)
    stem = rng.uniform(0.02, 0.045)
    uneven = rng.choice([1.0, rng.uniform(1.2, 1.6)])
    blade_w, blade_t = rng.uniform(0.008, 0.0125), rng.uniform(0.0015, 0.0024)
    for side in (1, -1):
        turn = side * opening / 2
        long_r, short_r = loop * rng.uniform(1.05, 1.4) * (uneven if side > 0 else 1.0), loop * 0.8
        centre = np.array([-stem - long_r, side * (short_r + bar * 0.75 + 0.001)])
        t = np.linspace(0, 2 * np.pi, 25)
        skew = rng.uniform(0, 0.35)
        ring = centre + np.c_[long_r * np.cos(t), side * short_r * (np.sin(t) + skew * np.sin(t) * np.cos(t))]
        stalk = bezier(
            np.array([(0, side * 0.002), (-0.5 * stem, side * 0.004), (centre[0] + long_r * 0.95, centre[1])]), 6
        )
        section = stroke(ring, bar) + stroke(stalk, (bar * 0.9, bar))
        # handles cross at the pivot: the upper handle belongs to the lower blade
        turned_section = turned(section, -turn)
        obj.add_visual("handle", plate(turned_section, height, bevel=0.0014), rgba, "steel" if all_steel else "plastic")
        R = rot_z(-turn)
        for i in range(0, 24, 3):
            add_bar(obj, "handle", R @ [*ring[i], 0], R @ [*ring[i + 3], 0], bar, height)
        add_bar(obj, "handle", R @ [*stalk[0], 0], R @ [*stalk[-1], 0], bar * 0.95, height)
        outline = [
            (-0.012, side * -0.3 * blade_w),
            (0, side * -0.62 * blade_w),
            (0.55 * blade_length, side * -0.55 * blade_w),
            (blade_length, side * 0.28 * blade_w),
            (0.5 * blade_length, side * 0.4 * blade_w),
            (-0.012, side * 0.45 * blade_w),
        ]
        blade = turned(polygon(np.array(outline) * (1, -1)), turn)
        z = side * blade_t * 0.52
        obj.add_visual("blade", plate(blade, blade_t, z), steel, "steel")
        R = rot_z(turn)
        add_bar(obj, "blade", R @ [-0.01, 0, z], R @ [0.6 * blade_length, side * 0.0005, z], blade_w * 0.95, blade_t)
        add_bar(
            obj,
            "blade",
            R @ [0.6 * blade_length, 0, z],
            R @ [0.98 * blade_length, -side * 0.1 * blade_w, z],
            blade_w * 0.45,
            blade_t,
        )
    obj.add_visual("blade", cylinder(0.0042, 2 * blade_t + 0.0025, sections=18), shade(steel, 0.7), "steel")
    obj.parameters = {
        "blade_m": blade_length,
        "loop_m": loop,
        "opening_rad": float(opening),
        "uneven": float(uneven),
        "stem_m": stem,
    }
    k = blade_length / 0.09
    return finished(obj, {"handle": 0.035 * k + 0.06 * all_steel, "blade": 0.045 * k})
