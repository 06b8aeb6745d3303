"""Hammers and power drills, procedurally; lying on their sides."""

from __future__ import annotations

import numpy as np
from manifold3d import CrossSection

from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.shapes import (
    Rgba,
    box,
    cylinder,
    lathe_x,
    moved,
    rot_x,
    rot_y,
    rot_z,
    sample_colour,
    sample_steel,
    sample_wood,
    union,
)
from affordagent.robot.sim.objects.tool_shapes import (
    add_bar,
    add_bars,
    add_grip,
    along_x,
    bezier,
    finished,
    loft,
    plate,
    stroke,
    wood_or_colour,
)
from affordagent.robot.sim.objects.wrenches import sample_metal


def hammer(rng: np.random.Generator) -> HouseholdObject:
    """Claw, ball-peen, mallet or club hammer; a wooden handle, or a shaft with a grip. The head crosses at +x."""
    style = int(rng.choice(4, p=(0.45, 0.2, 0.2, 0.15)))  # claw, ball-peen, mallet, club
    length = rng.uniform(0.17, 0.29)
    head = rng.uniform(0.07, 0.1) if style == 2 else rng.uniform(0.085, 0.125)
    face = rng.uniform(0.018, 0.03) if style == 2 else rng.uniform(0.0115, 0.0165)  # radius of the striking face
    word, rgba, material = wood_or_colour(rng, 0.5)
    obj = HouseholdObject("hammer", "handle", word)
    width, flat = rng.uniform(0.022, 0.033), rng.uniform(0.72, 0.95)
    if material == "wood":
        swell = rng.uniform(0.0, 0.2)
        widths = np.array([0.8, 1 + swell, 1 + 0.5 * swell, 0.95, 0.85, 0.75, 0.75]) * width * 0.9
        add_grip(obj, "handle", along_x(0, length), widths, widths * flat, rgba, "wood", rng.uniform(2, 2.6), pieces=5)
    else:
        grip = length * rng.uniform(0.4, 0.65)
        ripple = (
            np.array([0.85, 1.08, 0.95, 0.9, 1.0, 0.92, 0.8]) if rng.random() < 0.5 else np.array([0.9, 1.0, 1.0, 0.85])
        )
        add_grip(
            obj,
            "handle",
            along_x(0, grip),
            ripple * width,
            ripple * width * flat,
            rgba,
            "rubber",
            rng.uniform(2.1, 3),
            pieces=4,
        )
        shaft = rng.uniform(0.0135, 0.018)
        bright = rng.random() < 0.6
        shaft_rgba: Rgba = sample_steel(rng) if bright else (0.08, 0.08, 0.09, 1.0)
        add_grip(
            obj,
            "handle",
            along_x(grip - 0.003, length),
            shaft,
            shaft * 0.9,
            shaft_rgba,
            "steel" if bright else "plastic",
            2.4,
            pieces=2,
        )

    steel = sample_metal(rng)[1]
    if style == 2:
        mallet_word, steel = ("black", (0.06, 0.06, 0.065, 1.0)) if rng.random() < 0.6 else ("brown", sample_wood(rng))
        material = "rubber" if mallet_word == "black" else "wood"
        profile = (
            np.array([0.93, 1, 0.97, 0.97, 1, 0.93]) if rng.random() < 0.6 else np.array([0.9, 1, 1.05, 1.05, 1, 0.9])
        )
        obj.add_visual(
            "head", moved(lathe_x(profile * face, head, 32), (length, -head / 2, 0), rot_z(np.pi / 2)), steel, material
        )
        obj.add_collider("head", "cylinder", (face, head / 2), (length, 0, 0), rot_x(np.pi / 2))
    elif style == 3:
        bevel = rng.uniform(0.75, 0.9)
        widths = 2 * face * np.array([bevel, 1, 1, 1, 1, bevel])
        path = np.c_[np.full(8, length), np.linspace(-0.4, 0.4, 8) * head, np.zeros(8)]
        obj.add_visual("head", loft(path, widths, widths, 5.0), steel, "steel")
        add_bar(obj, "head", path[0], path[-1], 2 * face, 2 * face)
    else:
        _claw_or_peen_head(obj, rng, style, length, head, face, steel)
    obj.parameters = {"style": float(style), "length_m": length, "head_m": head, "face_m": face, "width_m": width}
    heavy = 7800 * 2.0 * face**2 * head if style != 2 else 1100 * np.pi * face**2 * head + 0.05
    return finished(obj, {"handle": 0.1 * length / 0.24, "head": float(np.clip(heavy, 0.13, 0.5))})


def _claw_or_peen_head(
    obj: HouseholdObject, rng: np.random.Generator, style: int, x: float, head: float, face: float, steel: Rgba
) -> None:
    """Striking face at +y; at -y a split claw curved back towards the handle, or a ball."""
    R = rot_x(np.pi / 2)
    block = face * rng.uniform(1.5, 1.9)
    reach = 0.55 * head
    pieces = [
        box((block, block * 1.3, block * 0.95), (x, 0, 0)),
        cylinder(face * 0.78, reach, (x, reach / 2, 0), R),
        cylinder(face, 0.014, (x, reach, 0), R),
    ]
    obj.add_collider("head", "box", (block / 2, block * 0.65, block * 0.475), (x, 0, 0))
    obj.add_collider("head", "cylinder", (face * 0.78, reach / 2), (x, reach / 2, 0), R)
    obj.add_collider("head", "cylinder", (face, 0.007), (x, reach, 0), R)
    if style == 1:
        ball = face * rng.uniform(0.75, 0.95)
        pieces.append(cylinder(face * 0.6, 0.4 * head, (x, -0.2 * head, 0), R))
        pieces.append(
            moved(
                lathe_x(ball * np.sin(np.linspace(0.15, np.pi - 0.15, 11)), 2 * ball, 24),
                (x, -0.4 * head - ball, 0),
                rot_z(np.pi / 2),
            )
        )
        obj.add_collider("head", "cylinder", (face * 0.6, 0.2 * head), (x, -0.2 * head, 0), R)
        obj.add_collider("head", "sphere", (ball,), (x, -0.4 * head, 0))
    else:
        curl = rng.uniform(0.08, 0.4) * head  # how far the claw bends towards the handle
        for side in (1, -1):
            path = bezier(
                [
                    (x, -0.3 * block, 0),
                    (x, -0.35 * head, side * 0.1 * face),
                    (x - curl, -0.62 * head, side * 0.5 * face),
                ],
                8,
            )
            pieces.append(loft(path, (block * 0.8, block * 0.5, 0.004), (0.9 * face, 0.7 * face, 0.6 * face), 3.5, 14))
            add_bar(obj, "head", path[0], path[4], block * 0.6, 0.8 * face)
            add_bar(obj, "head", path[4], path[-1], block * 0.28, 0.65 * face)
    obj.add_visual("head", union(pieces), steel, "steel")


def power_drill(rng: np.random.Generator) -> HouseholdObject:
    """A drill lying on its side: body along x, grip towards -y at its rear (pistol) or its middle (T shape)."""
    t_shaped = rng.random() < 0.5
    foot = int(rng.choice([0, 1, 1, 2]))  # none (with a stub of cord), block battery, slanted battery
    radius, length = rng.uniform(0.025, 0.033), rng.uniform(0.115, 0.16)
    word, rgba = sample_colour(rng, ("red", "orange", "yellow", "green", "blue", "black", "grey"))
    dark: Rgba = (*(np.full(3, rng.uniform(0.05, 0.12))), 1.0)
    obj = HouseholdObject("power drill", "handle", word)
    nose = rng.uniform(0.7, 0.85)
    profile = radius * np.array([rng.uniform(0.6, 0.85), 0.97, 1.0, 1.0, 1.0, 0.97, 0.88, nose])
    obj.add_visual("body", moved(lathe_x(profile, length, 28), (-length / 2, 0, 0)), rgba, "plastic")
    obj.add_collider("body", "cylinder", (radius, length * 0.41), (-length * 0.03, 0, 0), rot_y(np.pi / 2))
    if rng.random() < 0.7:  # a dark band: torque ring or vents
        at = rng.choice([-0.3, 0.35])
        obj.add_visual("body", cylinder(radius * 1.015, 0.014, (at * length, 0, 0), rot_y(np.pi / 2)), dark, "rubber")
    chuck = rng.uniform(0.03, 0.045)
    chuck_r = radius * rng.uniform(0.5, 0.62)
    obj.add_visual(
        "chuck",
        moved(lathe_x(chuck_r * np.array([1, 1, 1, 0.95, 0.6]), chuck), (length / 2, 0, 0)),
        dark if rng.random() < 0.6 else sample_steel(rng),
        "plastic",
    )
    obj.add_collider("chuck", "cylinder", (chuck_r, chuck / 2), (length / 2 + chuck / 2, 0, 0), rot_y(np.pi / 2))
    if rng.random() < 0.75:
        bit, bit_r = rng.uniform(0.025, 0.06), rng.uniform(0.002, 0.0038)
        x = length / 2 + chuck
        obj.add_visual(
            "bit",
            moved(lathe_x([bit_r, bit_r, bit_r, bit_r, 0.0008], bit + 0.004, 12), (x - 0.004, 0, 0)),
            sample_steel(rng),
            "steel",
        )
        obj.add_collider("bit", "cylinder", (bit_r, bit / 2), (x + bit / 2, 0, 0), rot_y(np.pi / 2))

    grip_length, slant = (
        rng.uniform(0.085, 0.11),
        rng.uniform(0.0, 0.3),
    )  # slant: how far the foot lies back, per length
    top_x = -0.05 * length if t_shaped else -0.33 * length
    deep, thick = rng.uniform(0.032, 0.04), rng.uniform(0.03, 0.037)
    path = np.linspace((top_x, -0.45 * radius, 0), (top_x - slant * grip_length, -0.8 * radius - grip_length, 0), 10)
    swell = np.array([1.05, 0.97, 1.0, 1.0, 0.95, 1.0])
    two_tone = rng.random() < 0.5
    add_grip(
        obj,
        "handle",
        path,
        deep * swell,
        thick * swell,
        dark if two_tone else rgba,
        "rubber" if two_tone else "plastic",
        rng.uniform(2.1, 2.8),
        pieces=3,
        sections=24,
    )
    trigger = plate(
        stroke(
            [
                (top_x + deep * 0.45, -1.05 * radius),
                (top_x + deep * 0.42 - 0.2 * slant * grip_length, -1.05 * radius - 0.022),
            ],
            0.012,
        ),
        thick * 0.5,
        bevel=0.001,
    )
    obj.add_visual("trigger", trigger, dark if not two_tone else (0.6, 0.1, 0.08, 1.0), "plastic")
    end = path[-1]
    masses = {"handle": 0.1, "body": rng.uniform(0.27, 0.36), "chuck": 0.06, "bit": 0.012}
    if foot:
        size = np.array([rng.uniform(0.068, 0.095), rng.uniform(0.022, 0.038), rng.uniform(0.048, 0.06)])
        R = rot_z(rng.uniform(-0.25, 0.0) if foot == 2 else 0.0)
        centre = end + R @ np.array([rng.uniform(0.0, 0.014), size[1] * 0.2, 0])
        half = plate(
            CrossSection.square((size[0], size[1]), True).offset(-0.004).offset(0.004, circular_segments=16),
            size[2],
            bevel=0.003,
        )
        obj.add_visual("battery", moved(half, centre, R), dark if rng.random() < 0.7 else rgba, "plastic")
        obj.add_collider("battery", "box", tuple(size / 2), centre, R)
        masses["battery"] = rng.uniform(0.12, 0.18)
    else:
        cord = bezier([end, end + [-0.01, -0.025, 0], end + [-0.03, -0.045, -0.5 * thick + 0.006]], 9)
        obj.add_visual("cord", loft(cord, (0.012, 0.009, 0.008), (0.012, 0.009, 0.008), 2.0, 12), dark, "rubber")
        add_bars(obj, "cord", cord, (0.011, 0.009, 0.008), (0.011, 0.009, 0.008), pieces=3)
        masses["cord"] = 0.01
    obj.parameters = {
        "t_shaped": float(t_shaped),
        "foot": float(foot),
        "radius_m": radius,
        "length_m": length,
        "grip_m": grip_length,
        "deep_m": deep,
        "thick_m": thick,
    }
    return finished(obj, masses)
