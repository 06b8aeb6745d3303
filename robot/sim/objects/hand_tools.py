"""Hand tools with exact part labels, procedurally: every call of a category's function samples another instance.

Shapes, styles, proportions and colours vary with the generator given; nothing else does. Objects rest on z = 0 in a
stable pose, flat on the table, their bounding box centred on the origin.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from affordagent.robot.sim.objects.heavy_tools import hammer, power_drill
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.pliers import (
    fixed_joint_pliers,
    locking_pliers,
    scissors,
    shade,
    slip_joint_pliers,
)
from affordagent.robot.sim.objects.shapes import (
    box,
    lathe_x,
    moved,
    rot_x,
    sample_colour,
    sample_steel,
)
from affordagent.robot.sim.objects.tool_shapes import (
    add_bars,
    add_grip,
    add_octagonal_bars,
    along_x,
    bezier,
    finished,
    loft,
    plate,
    polygon,
    wood_or_colour,
)
from affordagent.robot.sim.objects.wrenches import adjustable_wrench, combination_wrench, ratchet, sample_metal


def screwdriver(rng: np.random.Generator) -> HouseholdObject:
    """Handles: bulb with a neck, straight fluted prism, waisted, or tapering wood; flat, cross or square shaft tips."""
    style = int(rng.choice(4, p=(0.3, 0.3, 0.27, 0.13)))
    stubby = rng.random() < 0.15
    length = rng.uniform(0.065, 0.08) if stubby else rng.uniform(0.085, 0.12)
    shaft = rng.uniform(0.03, 0.045) if stubby else rng.uniform(0.06, 0.17)
    radius, shaft_r = rng.uniform(0.0115, 0.0175), rng.uniform(0.0022, 0.0042)
    word, rgba, material = wood_or_colour(rng, 1.0 if style == 3 else 0.0)
    obj = HouseholdObject("screwdriver", "handle", word)
    profiles = [
        [0.6, 0.92, 1.0, 1.0, 0.98, 0.95, 0.9, 0.75, 0.62, 0.7, 0.68],
        [0.75, 0.95, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.97, 0.75, 0.5],
        [0.65, 0.95, 1.0, 0.93, 0.85, 0.84, 0.88, 0.95, 0.95, 0.8, 0.55],
        [0.7, 0.98, 1.0, 0.96, 0.9, 0.83, 0.76, 0.68, 0.6, 0.6, 0.55],
    ]
    widths = 2 * radius * np.array(profiles[style])
    if style != 3 and rng.random() < 0.35:  # a cap of another colour at the end
        cap = sample_colour(rng)[1]
        obj.add_visual(
            "handle", moved(lathe_x(radius * np.array([0.45, 0.75, 0.8]), 0.012), (-0.005, 0, 0)), cap, "plastic"
        )
    sections = int(rng.choice([6, 8, 10])) if style in (1, 2) else 24
    handle = loft(along_x(0, length, 22), widths, widths, sections=sections)
    obj.add_visual("handle", handle, rgba, material)
    add_octagonal_bars(obj, "handle", length, widths)
    if style in (0, 1) and rng.random() < 0.6:  # soft dark ribs along the grip
        for a in np.arange(6) * np.pi / 3 + 0.3:
            rib = box((length * 0.5, radius * 0.35, radius * 0.3), (length * 0.4, 0, 0))
            obj.add_visual(
                "handle", moved(moved(rib, (0, 0, radius * 0.86)), rotation=rot_x(a)), (0.07, 0.07, 0.07, 1), "rubber"
            )
    steel = sample_steel(rng)
    tip = int(rng.integers(3))
    end = length + shaft
    taper = [1, 1, 1, 1] if tip != 1 else [1, 1, 1, 0.9]
    obj.add_visual(
        "shaft",
        loft(
            along_x(length - 0.012, end - 0.008, 4),
            2 * shaft_r * np.array(taper),
            2 * shaft_r * np.array(taper),
            5.0 if tip == 2 else 2.0,
            16,
        ),
        steel,
        "steel",
    )
    if tip == 1:
        obj.add_visual(
            "shaft",
            loft(along_x(end - 0.009, end, 4), (2 * shaft_r, 0.4 * shaft_r), (2 * shaft_r, 0.4 * shaft_r), 1.2, 16),
            shade(steel, 0.4),
            "steel",
        )
    else:
        flare = rng.uniform(1.0, 1.5)
        obj.add_visual(
            "shaft",
            loft(along_x(end - 0.009, end, 5), (2 * shaft_r, 2 * shaft_r * flare), (2 * shaft_r, 0.0012), 3.0, 16),
            shade(steel, 0.6),
            "steel",
        )
    obj.add_rod("shaft", (length - 0.01, 0, 0), (end - shaft_r, 0, 0), shaft_r, 0.01)
    obj.parameters = {
        "style": float(style),
        "tip": float(tip),
        "length_m": length,
        "shaft_m": shaft,
        "radius_m": radius,
        "shaft_radius_m": shaft_r,
    }
    return finished(
        obj, {"handle": 1100 * 2.6 * radius**2 * length + 0.015, "shaft": 7800 * np.pi * shaft_r**2 * shaft + 0.005}
    )


def paint_brush(rng: np.random.Generator) -> HouseholdObject:
    """Flat or round brush: wooden or plastic handle, metal ferrule, bristles."""
    round_one = rng.random() < 0.3
    length = rng.uniform(0.1, 0.16)
    width = rng.uniform(0.018, 0.026) if round_one else rng.uniform(0.028, 0.065)  # across the ferrule
    thick = width * rng.uniform(0.85, 1.0) if round_one else rng.uniform(0.012, 0.018)
    word, rgba, material = wood_or_colour(rng, 0.5)
    obj = HouseholdObject("paint brush", "handle", word)
    neck, belly = rng.uniform(0.011, 0.015), rng.uniform(0.018, 0.027)
    shoulder = min(width, 0.04)
    widths = np.array(
        [0.6 * belly, 0.95 * belly, belly, 0.85 * belly, neck, neck * 1.1, 0.6 * shoulder, 0.95 * shoulder]
    )
    heights = np.array([0.0095, 0.012, 0.0125, 0.012, 0.0115, 0.012, 0.9 * thick, 0.95 * thick])
    if round_one:
        heights = np.minimum(widths, thick)
    add_grip(obj, "handle", along_x(0, length, 24), widths, heights, rgba, material, rng.uniform(2, 2.8), pieces=5)
    ferrule, bristle = rng.uniform(0.02, 0.035), rng.uniform(0.035, 0.06)
    exponent = 2.0 if round_one else 5.0
    metal = sample_steel(rng) if rng.random() < 0.7 else (0.72, 0.5, 0.25, 1.0)
    obj.add_visual(
        "ferrule", loft(along_x(length - 0.004, length + ferrule, 6), width, thick, exponent), metal, "steel"
    )
    obj.add_collider("ferrule", "box", (ferrule / 2, width / 2, thick / 2), (length + ferrule / 2, 0, 0))
    hair = [(0.08, 0.07, 0.06, 1), (0.85, 0.78, 0.6, 1), (0.35, 0.22, 0.12, 1), (0.9, 0.9, 0.87, 1)][rng.integers(4)]
    x0 = length + ferrule
    slant = rng.choice([0.0, rng.uniform(0.1, 0.3)]) * width
    bristles = loft(
        along_x(x0 - 0.003, x0 + bristle, 8),
        (0.94 * width, 1.04 * width, (0.5 if round_one else 0.98) * width),
        (0.92 * thick, 0.9 * thick, 0.35 * thick),
        exponent,
    )
    v = bristles.vertices.copy()
    v[:, 0] += slant * v[:, 1] / width * np.clip((v[:, 0] - x0) / bristle, 0, 1)
    bristles.vertices = v
    obj.add_visual("bristles", bristles, hair, "paper")
    obj.add_collider("bristles", "box", (bristle * 0.3, width * 0.48, thick * 0.42), (x0 + bristle * 0.3, 0, 0))
    obj.parameters = {
        "round": float(round_one),
        "length_m": length,
        "width_m": width,
        "thick_m": thick,
        "bristle_m": bristle,
    }
    return finished(obj, {"handle": 0.035 + 0.2 * length, "ferrule": 0.02, "bristles": 0.015})


def trowel(rng: np.random.Generator) -> HouseholdObject:
    """Garden trowel (a scoop), or bricklayer's trowel (a flat point on a cranked neck)."""
    garden = rng.random() < 0.5
    length, radius = rng.uniform(0.1, 0.135), rng.uniform(0.0125, 0.0165)
    word, rgba, material = wood_or_colour(rng, 0.5)
    obj = HouseholdObject("trowel", "handle", word)
    lift = rng.uniform(0.008, 0.02) if garden else rng.uniform(0.025, 0.04)  # of the handle above the blade
    profile = (
        np.array([0.75, 1.0, 0.95, 0.86, 0.9, 1.0, 0.8])
        if rng.random() < 0.5
        else np.array([0.8, 1.02, 1.0, 0.95, 0.85, 0.72])
    )
    blade_l, blade_w = rng.uniform(0.11, 0.16), rng.uniform(0.065, 0.085) if garden else rng.uniform(0.08, 0.12)
    steel = sample_metal(rng)[1]
    neck = rng.uniform(0.03, 0.06)
    handle_path = along_x(-length, 0, 16, lift)
    add_grip(obj, "handle", handle_path, 2 * radius * profile, 2 * radius * profile, rgba, material, 2.0, pieces=3)
    neck_r = rng.uniform(0.0038, 0.0052)
    rod = bezier([(-0.01, 0, lift), (0.6 * neck, 0, lift), (0.5 * neck, 0, 0.004), (neck + 0.025, 0, 0.002)], 9)
    obj.add_visual("neck", loft(rod, 2 * neck_r, 2 * neck_r, 2.0, 12), steel, "steel")
    add_bars(obj, "neck", rod, 2 * neck_r, 2 * neck_r, pieces=3)
    if garden:
        t = np.linspace(0, 1, 12)
        half = 0.5 * blade_w * np.array([0.7, 0.86, 0.95, 1.0, 1.0, 1.0, 0.98, 0.94, 0.86, 0.72, 0.5, 0.08])
        outline = np.r_[np.c_[neck + t * blade_l, half], np.c_[neck + t[::-1] * blade_l, -half[::-1]]]
    else:
        point = rng.uniform(0.12, 0.35)
        outline = np.array(
            [
                (neck, 0.25 * blade_w),
                (neck + point * blade_l, 0.5 * blade_w),
                (neck + blade_l, 0.0),
                (neck + point * blade_l, -0.5 * blade_w),
                (neck, -0.25 * blade_w),
            ]
        )
    blade = plate(polygon(outline), 0.0022)
    sag = 0.0
    if garden:
        for _ in range(2):
            blade = blade.subdivide()
        sag = rng.uniform(0.010, 0.017)
        v = blade.vertices.copy()
        v[:, 2] += sag * (2 * v[:, 1] / blade_w) ** 2
        blade.vertices = v
    obj.add_visual("blade", blade, steel, "steel")
    strips = np.linspace(-0.5, 0.5, 6)
    for a, b in zip(strips[:-1], strips[1:], strict=True):
        ends = np.array([[neck + 0.5 * blade_l, s * blade_w, sag * (2 * s) ** 2] for s in (a, b)])
        reach = blade_l * (0.95 - 0.5 * abs(a + b)) if not garden else blade_l * (0.95 - 0.25 * abs(a + b))
        middle = 0.5 * ends.sum(0) - [0.48 * blade_l - 0.5 * reach, 0, 0]
        half_width = float(np.linalg.norm(ends[1] - ends[0])) / 2
        tilt = np.arctan2(ends[1, 2] - ends[0, 2], ends[1, 1] - ends[0, 1])
        obj.add_collider("blade", "box", (reach / 2, half_width, 0.0011), middle, rot_x(tilt))
    obj.parameters = {
        "garden": float(garden),
        "length_m": length,
        "radius_m": radius,
        "lift_m": lift,
        "blade_m": blade_l,
        "blade_width_m": blade_w,
    }
    return finished(obj, {"handle": 0.07, "neck": 0.03, "blade": rng.uniform(0.08, 0.12)})


HAND_TOOLS: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {
    "fixed joint pliers": fixed_joint_pliers,
    "slip joint pliers": slip_joint_pliers,
    "locking pliers": locking_pliers,
    "hammer": hammer,
    "power drill": power_drill,
    "adjustable wrench": adjustable_wrench,
    "combination wrench": combination_wrench,
    "ratchet": ratchet,
    "screwdriver": screwdriver,
    "scissors": scissors,
}

# never trained on: kept to measure how the detectors do on categories they have not seen
HELD_OUT_TOOLS: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {
    "paint brush": paint_brush,
    "trowel": trowel,
}
