"""Wrenches and ratchets, procedurally: handles along -x, heads at +x, flat on the table."""

from __future__ import annotations

import numpy as np
from manifold3d import CrossSection

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.shapes import (
    Rgba,
    box,
    cylinder,
    rot_x,
    rot_z,
    sample_colour,
    sample_steel,
    union,
)
from affordagent.robot.sim.objects.tool_shapes import (
    add_bar,
    add_bars,
    add_grip,
    at_height,
    disc,
    finished,
    plate,
    polygon,
    stroke,
)


def turned(section: CrossSection, angle_rad: float, centre: tuple[float, float] = (0.0, 0.0)) -> CrossSection:
    return section.rotate(float(np.degrees(angle_rad))).translate(centre)


def sample_metal(rng: np.random.Generator) -> tuple[str, Rgba]:
    """Bare steel (a person says grey), or blackened."""
    if rng.random() < 0.2:
        return "black", (*(np.full(3, rng.uniform(0.05, 0.12))), 1.0)
    return "grey", sample_steel(rng)


def _flat_handle(
    obj: HouseholdObject,
    rng: np.random.Generator,
    path: Array,
    widths: tuple[float, ...],
    thickness: float,
    steel: Rgba,
) -> str | None:
    """A flat shank, plain, with sunk panels or with a plastic sleeve; the sleeve's colour word if there is one."""
    shank = stroke(path, widths)
    style = rng.choice(3, p=(0.4, 0.38, 0.22))
    if style == 1:  # I-beam: a thinner web between two ribs
        web = stroke(path[1:-1], np.array(widths) * rng.uniform(0.4, 0.55))
        obj.add_visual("handle", plate(shank - web, thickness, bevel=0.0006), steel, "steel")
        obj.add_visual("handle", plate(web, thickness * 0.72), tuple(0.75 * np.array(steel[:3])) + (1.0,), "steel")
    else:
        obj.add_visual("handle", plate(shank, thickness, bevel=rng.uniform(0.0006, 0.0015)), steel, "steel")
    back = path[-1] - path[-2]  # the round end reaches half a width past the path
    whole = np.r_[path, [path[-1] + back / np.linalg.norm(back) * 0.35 * widths[-1]]]
    add_bars(obj, "handle", at_height(whole), widths, thickness, pieces=3)
    if style != 2:
        return None
    word, rgba = sample_colour(rng)
    n = len(path)
    start = rng.integers(1, 3)
    sleeve = at_height(path[start:])
    w = np.interp(np.linspace(start / n, 1, 4), np.linspace(0, 1, len(widths)), widths) + 0.005
    add_grip(obj, "handle", sleeve, w, thickness + 0.005, rgba, "rubber", exponent=rng.uniform(2.5, 4), pieces=3)
    return word


def _shank_path(rng: np.random.Generator, start_x: float, end_x: float, count: int = 9) -> Array:
    """(count, 2) from the head backwards, straight or slightly bowed."""
    t = np.linspace(0, 1, count)
    bow = rng.choice([0.0, 0.0, rng.uniform(-0.035, 0.035)]) * (start_x - end_x)
    return np.c_[start_x + t * (end_x - start_x), bow * np.sin(np.pi * t)]


def adjustable_wrench(rng: np.random.Generator) -> HouseholdObject:
    """A crescent wrench: a fixed jaw, a sliding jaw and the knurled worm screw that moves it."""
    length, head = rng.uniform(0.13, 0.25), rng.uniform(0.022, 0.031)  # handle length; half width of the head
    thickness = rng.uniform(0.009, 0.0125)
    angle, opening = np.radians(rng.uniform(10, 25)), rng.uniform(0.006, 0.022)
    mouth = rng.uniform(0.85, 1.2) * head
    colour, steel = sample_metal(rng)
    obj = HouseholdObject("adjustable wrench", "handle", colour)
    path = _shank_path(rng, -0.6 * head, -length)
    near, far = rng.uniform(0.013, 0.018), rng.uniform(0.017, 0.027)
    sleeve = _flat_handle(obj, rng, path, (near * 1.15, near, (near + far) / 2, far), thickness, steel)
    obj.colour = sleeve or colour

    head_thickness = thickness + rng.uniform(0.003, 0.006)
    body = CrossSection.batch_hull([disc(head * 0.75, (0, 0)), disc(0.3 * head, (-0.8 * head, 0))])
    fixed = polygon(
        [
            (-0.2 * head, 0.98 * head),
            (0.3 * head, 1.0 * head),
            (0.5 * head + mouth, 0.62 * head),
            (0.5 * head + mouth, 0.3 * head),
            (0.35 * head, 0.28 * head),
            (0, 0.0),
        ]
    )
    lower = CrossSection.batch_hull(
        [disc(0.2 * head, (0.25 * head, -0.75 * head)), disc(0.4 * head, (-0.3 * head, -0.4 * head))]
    )
    window = CrossSection.square((0.55 * head, 0.5 * head), True).translate((-0.1 * head, -0.42 * head))
    mouth_room = CrossSection.square((2 * head, 2.28 * head)).translate((0.45 * head, -2 * head))
    section = turned(body + fixed + lower - window - mouth_room, angle)
    obj.add_visual("head", plate(section, head_thickness, bevel=0.001), steel, "steel")

    top = 0.28 * head - opening  # the inner face of the sliding jaw
    jaw = polygon(
        [
            (0.5 * head, top),
            (0.47 * head + mouth, top),
            (0.45 * head + mouth, top - 0.25 * head),
            (0.85 * head, top - 0.75 * head),
            (0.5 * head, top - 0.95 * head),
        ]
    )
    slide = polygon(
        [
            (0.2 * head, top - 0.1 * head),
            (0.6 * head, top - 0.1 * head),
            (0.6 * head, top - 0.9 * head),
            (0.2 * head, top - 0.9 * head),
        ]
    )
    obj.add_visual(
        "jaw",
        plate(turned(jaw + slide, angle), head_thickness * 0.92, bevel=0.0006),
        tuple(0.88 * np.array(steel[:3])) + (1.0,),
        "steel",
    )
    R = rot_z(angle)
    screw_r = min(0.22 * head, head_thickness * 0.62)
    worm = [
        cylinder(screw_r * (1 if i % 2 else 0.8), 0.085 * head, (0, 0, (i - 2.5) * 0.08 * head), sections=14)
        for i in range(6)
    ]
    screw = union(worm)
    screw.apply_transform(
        np.block([[R @ rot_x(np.pi / 2), (R @ [-0.1 * head, -0.42 * head, 0])[:, None]], [np.zeros(3), 1]])
    )
    obj.add_visual("screw", screw, tuple(0.6 * np.array(steel[:3])) + (1.0,), "steel")

    for part, a, b, width in (
        ("head", (-0.9, 0, 0), (0.55, 0, 0), 1.4 * head),
        ("head", (-0.1, 0.72, 0), (0.4, 0.72, 0), 0.5 * head),
        ("head", (0.4, 0.6, 0), (0.5 + mouth / head, 0.45, 0), 0.42 * head),
        ("jaw", (0.5, top / head - 0.28, 0), (0.45 + mouth / head, top / head - 0.15, 0), 0.35 * head),
    ):
        add_bar(obj, part, R @ np.array(a) * head, R @ np.array(b) * head, width, head_thickness)
    obj.parameters = {
        "length_m": length,
        "head_m": head,
        "thickness_m": thickness,
        "angle_rad": angle,
        "opening_m": opening,
    }
    size = (length / 0.2) * (head / 0.027)
    return finished(obj, {"handle": 0.11 * size * (thickness / 0.011), "head": 0.11 * size, "jaw": 0.02 * size})


def _open_end(radius: float, gap: float, angle_rad: float) -> CrossSection:
    """A round head at the origin with a parallel slot open towards `angle_rad`."""
    slot = disc(gap / 2, (-0.05 * radius, 0)) + CrossSection.square((2 * radius, gap), True).translate(
        (0.95 * radius, 0)
    )
    tips = CrossSection.square((radius, 3 * radius), True).translate((1.25 * radius, 0))
    ears = CrossSection.batch_hull([disc(radius), disc(radius * 0.85, (0.25 * radius, 0))])
    return turned(ears - slot - tips, angle_rad)


def _ring(radius: float, hole: float, points: int) -> CrossSection:
    """A ring with a star-shaped (bi-hexagonal) or hexagonal hole."""
    angle = np.linspace(0, 2 * np.pi, 2 * points, endpoint=False)
    r = np.where(np.arange(2 * points) % 2, hole * np.cos(np.pi / points) * (0.96 if points > 6 else 1.0), hole)
    return disc(radius) - polygon(np.c_[r * np.cos(angle), r * np.sin(angle)])


def combination_wrench(rng: np.random.Generator) -> HouseholdObject:
    """An open jaw at one end and a ring at the other, of the same size."""
    size = rng.uniform(0.010, 0.024)  # across flats
    length = size * rng.uniform(6.5, 10) + 0.045
    thickness = rng.uniform(0.0085, 0.011)
    width = rng.uniform(0.0095, 0.013) + 0.2 * size
    ring_r, jaw_r = size * rng.uniform(0.78, 0.88) + 0.0015, size * rng.uniform(1.0, 1.2) + 0.0015
    angle = np.radians(rng.choice([0, 15, 15, 30])) * rng.choice([-1, 1])
    colour, steel = sample_metal(rng)
    obj = HouseholdObject("combination wrench", "handle", colour)
    path = _shank_path(rng, -0.8 * jaw_r, -length + 0.8 * ring_r)
    waist = rng.uniform(0.8, 1.0)
    obj.colour = (
        _flat_handle(obj, rng, path, (width * 1.1, width * waist, width * waist, width), thickness, steel) or colour
    )
    jaw_t, ring_t = thickness * rng.uniform(0.75, 1.15), thickness * rng.uniform(1.0, 1.4)
    obj.add_visual("jaw", plate(_open_end(jaw_r, size, angle), jaw_t, bevel=0.0008), steel, "steel")
    ring = _ring(ring_r, size / np.sqrt(3) * 1.01, int(rng.choice([6, 12])))
    obj.add_visual("ring", plate(ring.translate((-length, 0)), ring_t, bevel=0.001), steel, "steel")
    R = rot_z(angle)
    wall = jaw_r - size / 2
    add_bar(obj, "jaw", R @ [-jaw_r, 0, 0], R @ [-0.3 * size, 0, 0], 1.5 * jaw_r, jaw_t)
    for s in (-1, 1):
        y = s * (size + wall) / 2
        add_bar(obj, "jaw", R @ [-0.4 * size, y, 0], R @ [0.7 * jaw_r, y, 0], wall * 0.9, jaw_t)
    edge = ring_r - size / 2
    for i in range(8):
        a = (i + 0.5) * np.pi / 4
        middle = np.array([-length, 0, 0]) + (ring_r - edge / 2) * np.array([np.cos(a), np.sin(a), 0])
        obj.add_collider("ring", "box", (edge / 2, ring_r * np.tan(np.pi / 8), ring_t / 2), middle, rot_z(a))
    obj.parameters = {"size_m": size, "length_m": length, "thickness_m": thickness, "angle_rad": float(angle)}
    k = length * width * thickness * 7800
    return finished(
        obj, {"handle": 0.75 * k + 0.02, "jaw": 7800 * 1.6 * jaw_r**2 * jaw_t, "ring": 7800 * 1.8 * ring_r**2 * ring_t}
    )


def ratchet(rng: np.random.Generator) -> HouseholdObject:
    """A socket ratchet lying on the back of its head, the square drive (or a socket on it) upwards."""
    drive = float(rng.choice([0.00635, 0.009525, 0.0127]))
    length, radius = rng.uniform(0.11, 0.22), drive * rng.uniform(1.1, 1.35) + 0.0055
    height = rng.uniform(0.014, 0.02) + 0.3 * drive  # of the head
    colour, steel = sample_metal(rng)
    obj = HouseholdObject("ratchet", "handle", colour)
    style = int(rng.integers(4))  # head: round, pear-shaped, oval, round with a swivelling neck
    neck_x = radius * rng.uniform(1.5, 2.2)
    shape = [
        disc(radius),
        CrossSection.batch_hull([disc(radius), disc(0.45 * radius, (-neck_x, 0))]),
        CrossSection.batch_hull([disc(0.8 * radius, (0.35 * radius, 0)), disc(radius)]),
        disc(radius) + CrossSection.square((1.2 * neck_x, 0.9 * radius), True).translate((-0.7 * neck_x, 0)),
    ][style]
    obj.add_visual("head", plate(shape, height, bevel=0.0012), steel, "steel")
    obj.add_visual(
        "head",
        cylinder(radius * 0.72, 0.001, (0, 0, height / 2 + 0.0004)),
        tuple(0.7 * np.array(steel[:3])) + (1.0,),
        "steel",
    )
    if rng.random() < 0.7:  # the lever that turns its direction round
        lever = plate(
            stroke([(0, 0), (-radius * 0.9, radius * 0.3)], (radius * 0.6, radius * 0.3)), 0.0035, height / 2 + 0.002
        )
        obj.add_visual("head", lever, (0.08, 0.08, 0.08, 1), "plastic")
    obj.add_collider("head", "cylinder", (radius, height / 2))
    if rng.random() < 0.4:
        socket_r, socket_h = drive * rng.uniform(0.85, 1.3), rng.uniform(0.022, 0.035)
        socket = plate(_ring(socket_r, socket_r * 0.72, 6), socket_h, (height + socket_h) / 2)
        base = cylinder(socket_r * 0.9, socket_h * 0.5, (0, 0, height / 2 + socket_h * 0.26))
        obj.add_visual("socket", union([socket, base]), sample_steel(rng), "steel")
        obj.add_collider("socket", "cylinder", (socket_r, socket_h / 2), (0, 0, (height + socket_h) / 2))
    else:
        obj.add_visual("drive", box((drive, drive, drive * 1.2), (0, 0, height / 2 + drive * 0.6)), steel, "steel")
        obj.add_collider("drive", "box", (drive / 2, drive / 2, drive * 0.6), (0, 0, height / 2 + drive * 0.6))

    neck_w = rng.uniform(0.0095, 0.013)
    grip_start = -neck_x - (length * rng.uniform(0.15, 0.45))
    bend = -rng.uniform(0, 0.03) * length  # seen from the side
    x = np.linspace(-0.7 * radius, grip_start, 4)
    add_grip(
        obj,
        "handle",
        np.c_[x, 0 * x, np.interp(x, [grip_start, 0], [bend, 0])],
        (neck_w * 1.15, neck_w),
        neck_w * 0.95,
        steel,
        "steel",
        2.6,
        pieces=1,
        sections=14,
    )
    x = np.linspace(grip_start + 0.004, -neck_x - length, 14)
    w = rng.uniform(0.015, 0.026)
    grip_style = int(rng.integers(3))
    if grip_style == 0:  # a straight knurled steel bar
        widths: tuple[float, ...] = (w * 0.75, w * 0.8, w * 0.8, w * 0.8, w * 0.75)
        rgba, material = tuple(0.82 * np.array(steel[:3])) + (1.0,), "steel"
    else:
        obj.colour, rgba = sample_colour(rng)
        material = "rubber"
        widths = (
            (w * 0.75, w, w * 0.95, w * 0.85, w, w * 1.08, w * 0.8)
            if grip_style == 1
            else (w * 0.7, w * 0.8, w * 0.95, w * 1.05, w * 0.85)
        )
    flat = rng.uniform(0.75, 1.0)
    path = np.c_[x, 0 * x, np.full(14, bend)]
    add_grip(obj, "handle", path, widths, np.array(widths) * flat, rgba, material, rng.uniform(2, 3.2), pieces=3)
    obj.parameters = {
        "drive_m": drive,
        "length_m": length,
        "radius_m": radius,
        "head_style": float(style),
        "grip_style": float(grip_style),
    }
    k = drive / 0.009525
    masses = {"handle": 0.9 * length * k**0.5, "head": 0.11 * k, "socket": 0.04 * k, "drive": 0.01 * k}
    return finished(obj, masses)
