"""Things from the desk, the bathroom and the tool drawer for the training pictures only, like `extra_kitchen`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from affordagent.core.geometry import rigid
from affordagent.robot.sim.objects.extra_kitchen import flipped, many
from affordagent.robot.sim.objects.handles import add_handle, add_hang_ring, add_neck, sample_handle_material
from affordagent.robot.sim.objects.model import HouseholdObject, Material
from affordagent.robot.sim.objects.rest import place, transform
from affordagent.robot.sim.objects.shapes import (
    NAMED_COLOURS,
    band,
    box,
    cylinder,
    lathe_x,
    moved,
    revolve,
    rot_x,
    rot_y,
    sample_colour,
    sample_steel,
    sample_wood,
    sweep,
    torus,
)
from affordagent.robot.sim.objects.tool_shapes import (
    along_x,
    bezier,
    disc,
    finished,
    loft,
    plate,
    polygon,
    stroke,
    wood_or_colour,
)


def tape_roll(rng: np.random.Generator) -> HouseholdObject:
    """Packing, masking, insulating or office tape on a core, lying flat, at times with a loose end."""
    name, rgba = sample_colour(rng, [*NAMED_COLOURS, "brown", "yellow", "grey", "white"])
    obj = HouseholdObject("tape roll", "body", name)
    inner = rng.uniform(0.012, 0.038)
    outer, width = inner + rng.uniform(0.006, 0.024), rng.uniform(0.012, 0.052)
    core = inner - rng.uniform(0.0015, 0.003)
    body = revolve([[inner, 0], [outer, 0], [outer, width], [inner, width], [inner, 0]], 48)
    obj.add_visual("body", body, rgba, str(rng.choice(["plastic", "paper", "rubber"])))
    _, core_rgba = sample_colour(rng, ["brown", "brown", "white", "grey", "blue", "red"])
    proud = rng.uniform(0, 0.0012)
    loop = [[core, -proud], [inner, -proud], [inner, width + proud], [core, width + proud], [core, -proud]]
    obj.add_visual("core", revolve(loop, 40), core_rgba, "paper")
    for f in rng.uniform(0.15, 0.9, int(rng.integers(0, 4))):  # layers seen on the flat side
        r = inner + f * (outer - inner)
        layer = revolve([[r, 0], [r + 5e-4, 0], [r + 5e-4, width + 3e-4], [r, width + 3e-4], [r, 0]], 40)
        obj.add_visual("body", layer, (*(0.7 * np.array(rgba[:3])), 1.0), "plastic")
    if rng.random() < 0.5:
        out = rng.uniform(0.008, 0.04)
        path = bezier(
            [(0, outer, width / 2), (out, outer, width / 2), (out, outer + rng.uniform(0, 0.3) * out, width / 2)]
        )
        obj.add_visual("body", loft(path, 5e-4, width, 6.0), rgba, "paper")
    mass = rng.uniform(0.04, 0.15)
    obj.add_collider("body", "cylinder", (outer, width / 2), (0, 0, width / 2), mass_kg=mass)
    obj.parameters |= {"inner": inner, "outer": outer, "width": width}
    return place(obj)


def tape_measure(rng: np.random.Generator) -> HouseholdObject:
    """A case with a round back and a flat bottom, its blade drawn out a little or a lot; standing or on its side."""
    name, rgba = sample_colour(rng, [*NAMED_COLOURS, "yellow", "yellow", "black", "orange"])
    obj = HouseholdObject("tape measure", "body", name)
    size, thick = rng.uniform(0.048, 0.08), rng.uniform(0.022, 0.042)
    back, front = rng.uniform(0.3, 0.5) * size, rng.uniform(0.08, 0.3) * size
    half, tall = size / 2, size * rng.uniform(0.85, 1.0)
    corners = [(-half, 0.004, 0.004), (half, 0.004, 0.004), (half, tall, front), (-half, tall, back)]
    hull = [disc(r, (x + np.sign(-x) * r, z - r if z > 0.01 else r)) for x, z, r in corners]
    outline = hull[0].batch_hull(hull)
    trim = sample_colour(rng, ["black", "black", "grey", "yellow", "white"])[1]
    upright = rot_x(np.pi / 2)
    obj.add_visual("body", moved(plate(outline, thick, 0, 0.0025), rotation=upright), rgba, "plastic")
    if rng.random() < 0.6:  # a rubber belt around the case
        grip = outline.offset(0.0012) - disc(size * 0.36, (0, tall * 0.5))
        obj.add_visual("body", moved(plate(grip, thick * rng.uniform(0.45, 1.04)), rotation=upright), trim, "rubber")
    sticker = cylinder(size * rng.uniform(0.2, 0.34), thick + 0.001, (0, 0, tall * 0.5), upright)
    obj.add_visual("body", sticker, sample_colour(rng)[1], "paper")
    if rng.random() < 0.6:  # the lock
        lock = box((0.012, thick * 0.5, 0.014), (half - 0.003, 0, tall * 0.7), rot_y(-0.3))
        obj.add_visual("body", lock, sample_colour(rng, ["red", "black", "grey", "yellow"])[1], "plastic")
    out = rng.uniform(0.003, 0.012) if rng.random() < 0.6 else rng.uniform(0.03, 0.16)
    wide = thick * rng.uniform(0.5, 0.75)
    _, blade = sample_colour(rng, ["yellow", "yellow", "white", "green"])
    obj.add_visual("tape", box((out + 0.01, wide, 0.0006), (half + out / 2, 0, 0.003)), blade, "steel")
    for k in range(int(out / 0.008)):
        mark = box((0.0008, wide * (0.9 if k % 5 == 0 else 0.45), 0.0008), (half + 0.006 + 0.008 * k, 0, 0.003))
        obj.add_visual("tape", mark, (0.05, 0.05, 0.05, 1), "steel")
    obj.add_visual("tape", box((0.0012, wide, 0.01), (half + out + 0.005, 0, -0.0005)), sample_steel(rng), "steel")
    obj.add_collider("body", "box", (half, thick / 2, tall / 2), (0, 0, tall / 2), mass_kg=rng.uniform(0.15, 0.3))
    obj.add_collider("tape", "box", (out / 2 + 0.003, wide / 2, 0.0005), (half + out / 2, 0, 0.003), mass_kg=0.005)
    if rng.random() < 0.45:  # on its side
        transform(obj, rigid(rot_x(np.pi / 2), (0, 0, 0)))
    obj.parameters |= {"size": size, "out": out}
    return place(obj)


def spray_bottle(rng: np.random.Generator) -> HouseholdObject:
    """A round, waisted or flattened bottle with a trigger head, standing."""
    name, rgba = sample_colour(rng)
    obj = HouseholdObject("spray bottle", "body", name)
    radius, height = rng.uniform(0.029, 0.042), rng.uniform(0.12, 0.19)
    f = np.linspace(0, 1, 10)
    k = rng.uniform(0.08, 0.3)
    shape = {
        "straight": np.ones_like(f),
        "cone": 1 - 1.2 * k * f,
        "waisted": 1 - k * np.exp(-(((f - 0.72) / 0.22) ** 2)),
    }[str(rng.choice(["straight", "cone", "waisted"]))]
    neck = rng.uniform(0.011, 0.015)
    side = np.c_[radius * shape, np.maximum(0.004, height * f)]
    top = height + rng.uniform(0.015, 0.035)
    g = np.linspace(0, 1, 6)
    slope = np.c_[neck + (side[-1, 0] - neck) * (1 + np.cos(np.pi * g)) / 2, height + (top - height) * g]
    body = revolve(np.concatenate([[[0, 0], [side[0, 0] - 0.003, 0]], side, slope[1:], [[0, top]]]), 40)
    squash = rng.uniform(0.62, 0.9) if rng.random() < 0.4 else 1.0
    pieces = [(body, rgba)]
    if rng.random() < 0.7:
        low = int(rng.integers(1, 4))
        pieces.append((band(side[low : low + int(rng.integers(3, 6))]), sample_colour(rng)[1]))
    for mesh, colour in pieces:
        mesh.vertices[:, 1] *= squash
        obj.add_visual("body", mesh, colour, "plastic")
    _, head = sample_colour(rng, ["white", "white", "black", "red", "blue", "green", "grey"])
    trigger = head if rng.random() < 0.5 else sample_colour(rng)[1]
    obj.add_visual("head", cylinder(neck * 1.2, 0.016, (0, 0, top + 0.004), sections=18), head, "plastic")
    reach, tall, wide = rng.uniform(0.035, 0.055), rng.uniform(0.016, 0.026), rng.uniform(0.014, 0.022)
    z = top + 0.012 + tall / 2
    droop = rng.uniform(-0.006, 0.006)
    path = bezier([(-0.6 * reach, 0, z - droop), (0, 0, z + 0.004), (reach, 0, z)], 9)
    obj.add_visual(
        "head",
        loft(path, [0.6 * wide, wide, wide, 0.7 * wide], [0.5 * tall, tall, tall, 0.6 * tall], 4.0),
        head,
        "plastic",
    )
    nozzle = cylinder(wide * 0.4, 0.014, (reach + 0.005, 0, z), rot_y(np.pi / 2), sections=int(rng.choice([4, 6, 16])))
    obj.add_visual("head", nozzle, trigger, "plastic")
    drop = rng.uniform(0.03, 0.05)
    lever = bezier([(reach * 0.55, 0, z), (reach * 0.5, 0, z - 0.6 * drop), (reach * 1.05, 0, z - drop)], 9)
    obj.add_visual("trigger", sweep(lever, 0.3 * wide, 0.0028, 3.0), trigger, "plastic")
    obj.add_collider(
        "body", "cylinder", (radius * squash, height / 2), (0, 0, height / 2), mass_kg=rng.uniform(0.12, 0.35)
    )
    obj.add_collider("head", "box", (reach * 0.8, wide / 2, tall / 2), (reach * 0.2, 0, z), mass_kg=0.02)
    obj.add_collider("trigger", "box", (0.004, 0.3 * wide, drop / 2), (reach * 0.6, 0, z - drop / 2), mass_kg=0.003)
    obj.parameters |= {"radius": radius, "height": top + tall}
    return place(obj)


def chisel(rng: np.random.Generator) -> HouseholdObject:
    """Bevelled steel blade in a turned or moulded handle, with or without ferrule and striking cap."""
    word, rgba, material = wood_or_colour(rng, 0.5)
    obj = HouseholdObject("chisel", "handle", word)
    length, radius = rng.uniform(0.09, 0.13), rng.uniform(0.0125, 0.0175)
    profiles = [
        [0.75, 1.0, 1.0, 0.92, 0.85, 0.9, 1.0, 0.95, 0.7],
        [0.8, 0.9, 0.98, 1.0, 0.98, 0.9, 0.78, 0.66, 0.6],
        [0.95, 1.0, 0.9, 0.88, 0.9, 0.95, 0.98, 0.85, 0.75],
    ]
    widths = 2 * radius * np.array(profiles[int(rng.integers(3))])
    flat = 1.0 if material == "wood" else rng.uniform(0.75, 1.0)
    sections = int(rng.choice([6, 8, 24, 24]))
    obj.add_visual("handle", loft(along_x(0, length, 24), widths, flat * widths, 2.5, sections), rgba, material)
    steel = sample_steel(rng)
    if rng.random() < 0.5:
        cap = lathe_x(radius * flat * np.array([0.75, 0.85, 0.85]), 0.01)
        obj.add_visual("handle", moved(cap, (-0.008, 0, 0)), steel, "steel")
    if rng.random() < 0.6:
        ferrule = lathe_x(np.array([widths[-1] * 0.55, widths[-1] * 0.5]), 0.014)
        obj.add_visual(
            "ferrule",
            moved(ferrule, (length - 0.007, 0, 0)),
            sample_steel(rng) if rng.random() < 0.6 else (0.72, 0.5, 0.25, 1),
            "steel",
        )
        obj.add_collider("ferrule", "box", (0.007, 0.004, 0.004), (length, 0, 0))
    blade, half = rng.uniform(0.07, 0.14), rng.uniform(0.003, 0.018)
    thick, shank = rng.uniform(0.003, 0.005), rng.uniform(0.02, 0.04)
    x = length + shank
    obj.add_visual(
        "blade",
        loft(along_x(length - 0.004, x + 0.006, 6), [0.009, 0.0075, min(2 * half, 0.012)], [0.008, thick], 2.6),
        steel,
        "steel",
    )
    outline = np.array([[x - 0.004, 0.6 * half], [x + 0.008, half], [x + blade, half * rng.uniform(0.95, 1.1)]])
    metal = plate(polygon(np.concatenate([outline, outline[::-1] * [1, -1]])), thick)
    v = metal.vertices.copy()
    v[:, 2] = np.where((v[:, 0] > x + 0.9 * blade) & (v[:, 2] > 0), -thick / 2 + 0.0005, v[:, 2])
    metal.vertices = v
    obj.add_visual("blade", metal, steel, "steel")
    obj.add_collider("blade", "box", (blade / 2, half, thick / 2), (x + blade / 2, 0, 0))
    obj.add_collider("handle", "box", (length / 2, 0.85 * radius, 0.85 * flat * radius), (length / 2, 0, 0))
    obj.parameters = {"length_m": length, "blade_m": blade, "blade_width_m": 2 * half}
    masses = {"handle": 0.06, "blade": 0.09, "ferrule": 0.01}
    return finished(obj, {part: masses[part] for part in obj.parts})


def hairbrush(rng: np.random.Generator) -> HouseholdObject:
    """Paddle or oval brush with a cushion of pins, a round brush, or a wide-toothed rake; pins up or down."""
    name, rgba, material = sample_handle_material(rng, wood=0.3)
    obj = HouseholdObject("hairbrush", "handle", name)
    half_height = rng.uniform(0.0055, 0.009)
    half_width = half_height * rng.uniform(1.1, 1.7)
    length = rng.uniform(0.085, 0.125)
    add_handle(obj, rng, (0, 0, 0), (length, 0, 0), half_width, half_height, rgba, material, 0.05)
    pins_rgba = sample_colour(rng, ["black", "black", "white", "brown", "grey", "pink"])[1]
    head = rng.uniform(0.07, 0.12)
    pins = []
    if rng.random() < 0.3:  # round
        radius, reach = rng.uniform(0.009, 0.02), rng.uniform(0.008, 0.013)
        barrel = sample_colour(rng)[1] if rng.random() < 0.4 else rgba
        obj.add_visual(
            "head", moved(lathe_x(radius * np.array([0.6, 1, 1, 1, 1, 0.8]), head), (-head, 0, 0)), barrel, material
        )
        for i, x in enumerate(np.linspace(-0.92 * head, -0.1 * head, 13)):
            for angle in np.arange(12) * np.pi / 6 + (i % 2) * np.pi / 12:
                d = np.array([0, np.cos(angle), np.sin(angle)])
                foot = np.array([x, 0, 0])
                pins.append(sweep([foot + d * radius * 0.9, foot + d * (radius + reach)], 0.0009, 0.0009, sections=4))
        half, below = radius + reach, radius + reach
        obj.add_collider("head", "cylinder", (radius + reach, head / 2), (-head / 2, 0, 0), rot_y(np.pi / 2), 0.04)
    else:
        half, power = rng.uniform(0.021, 0.042), float(rng.choice([2.0, 2.6, 5.0]))
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        corner = (np.abs(np.cos(angle)) ** power + np.abs(np.sin(angle)) ** power) ** (-1 / power)
        outline = np.c_[np.cos(angle) * head / 2, np.sin(angle) * half] * corner[:, None]
        middle = np.array([-head / 2 + 0.006, 0, 0])
        back = plate(polygon(outline), 1.6 * half_height, 0, 0.0015)
        obj.add_visual("head", moved(back, middle), rgba, material)
        cushion = plate(polygon(outline * rng.uniform(0.78, 0.92)), 0.004, -0.8 * half_height - 0.0005, 0.001)
        cushion_rgba = sample_colour(rng, ["black", "red", "pink", "grey", "white"])[1]
        obj.add_visual("head", moved(cushion, middle), cushion_rgba, "rubber")
        tall, step = rng.uniform(0.012, 0.019), rng.uniform(0.0075, 0.0105)
        top = -0.8 * half_height - 0.002
        for i, x in enumerate(np.arange(-head / 2, head / 2, step)):
            for y in np.arange(-half + 0.5 * step * (i % 2), half, step):
                if (abs(2 * x / head) ** power + abs(y / half) ** power) < 0.58:
                    foot = middle + [x, y, top]
                    pins.append(sweep([foot, foot - [0, 0, tall]], [0.0008, 0.0012], [0.0008, 0.0012], sections=5))
        below = tall - top
        obj.add_collider("head", "box", (head / 2, half * 0.9, 0.8 * half_height), middle, mass_kg=0.05)
        obj.add_collider(
            "bristles", "box", (head * 0.36, half * 0.7, tall / 2), middle + [0, 0, top - tall / 2], mass_kg=0.01
        )
    obj.add_visual("bristles", many(pins), pins_rgba, "plastic")
    obj.parameters |= {"head": head, "width": 2 * half, "below": below}
    return flipped(obj, rng, 0.5)


def magnifying_glass(rng: np.random.Generator) -> HouseholdObject:
    """A round or square lens in a frame with a straight handle."""
    name, rgba, material = sample_handle_material(rng, wood=0.3)
    steel = sample_steel(rng)
    obj = HouseholdObject("magnifying glass", "handle", name)
    radius, rim = rng.uniform(0.024, 0.05), rng.uniform(0.0025, 0.005)
    frame = (
        rgba if material == "plastic" and rng.random() < 0.5 else steel if rng.random() < 0.7 else (0.72, 0.5, 0.25, 1)
    )
    gap = rng.uniform(0.005, 0.025)
    centre = np.array([-radius - gap, 0, 0])
    shade = rng.uniform(0.65, 0.95)
    glass = (shade * 0.95, shade, min(1.0, shade * rng.uniform(1.0, 1.1)), 1.0)
    a = np.linspace(-1, 1, 9)
    if rng.random() < 0.8:
        ring = torus(radius, rim, centre)
        ring.vertices *= [1, 1, rng.uniform(0.9, 1.6)]
        obj.add_visual("rim", ring, frame, "steel")
        lens = revolve(np.c_[np.sqrt(1 - a**2) * radius, 0.0035 * a], 40)
        obj.add_visual("lens", moved(lens, centre), glass, "ceramic")
    else:
        ends = [(-radius, 0), (radius, 0)]
        outer, inner = stroke(ends, 1.6 * radius), stroke(ends, 1.6 * radius - 2 * rim)
        centre = centre - [0.8 * radius, 0, 0]
        obj.add_visual("rim", moved(plate(outer - inner, 2.2 * rim), centre), frame, "plastic")
        obj.add_visual("lens", moved(plate(inner, 0.004), centre), glass, "ceramic")
    obj.add_collider("rim", "cylinder", (radius, rim), centre, mass_kg=0.02)
    obj.add_collider("lens", "cylinder", (radius, 0.003), centre, mass_kg=0.04)
    add_neck(obj, "neck", [(-gap - 0.002, 0, 0), (0.004, 0, 0)], rng.uniform(0.0028, 0.0045), 0.0028, steel, 0.01)
    half_height = rng.uniform(0.005, 0.0095)
    end = (rng.uniform(0.07, 0.12), 0, 0)
    add_handle(obj, rng, (0, 0, 0), end, half_height * rng.uniform(1.0, 1.6), half_height, rgba, material, 0.04)
    obj.parameters |= {"radius": radius}
    return place(obj)


def table_tennis_racket(rng: np.random.Generator) -> HouseholdObject:
    """A wooden blade with a rubber on either side and a short flared or straight handle."""
    obj = HouseholdObject("table tennis racket", "handle", "")
    names = ["red", "red", "black", "black", "blue", "green", "pink", "purple"]
    sides = [sample_colour(rng, names) for _ in range(2)]
    obj.colour = sides[0][0]
    half, length = rng.uniform(0.066, 0.08), rng.uniform(0.09, 0.108)
    tall = half * rng.uniform(1.0, 1.1)
    wood = sample_wood(rng)
    angle = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    face = np.c_[-tall * (0.92 + np.cos(angle)), half * np.sin(angle) * (1 + 0.06 * np.cos(angle))]
    neck = [[0.012, 0.013], [-0.03, half * 0.62], [-0.03, -half * 0.62], [0.012, -0.013]]
    section = polygon(face) + polygon(neck)
    obj.add_visual("blade", plate(section, 0.0062), wood, "wood")
    cut = rng.uniform(-0.04, -0.018)
    pad = section ^ polygon(np.array([[-1, -1], [cut, -1], [cut, 1], [-1, 1]]))
    for (_, rgba), z in zip(sides, (0.0042, -0.0042), strict=True):
        obj.add_visual("blade", plate(pad.offset(-0.0015), 0.002, z), rgba, "rubber")
    _, trim = sample_colour(rng)
    grip_rgba, kind = (wood, "wood") if rng.random() < 0.6 else (sample_colour(rng)[1], "rubber")
    wide, thick = rng.uniform(0.025, 0.03), rng.uniform(0.02, 0.024)
    flare = rng.uniform(1.0, 1.3)
    widths = wide * np.array([0.92, 0.98, 1.0, 0.5 + flare / 2, flare])
    obj.add_visual("handle", loft(along_x(-0.006, length, 12), widths, thick, 3.0), grip_rgba, kind)
    if rng.random() < 0.6:  # a stripe along the handle
        obj.add_visual("handle", box((length * 0.9, wide * 0.3, thick + 0.0006), (length * 0.5, 0, 0)), trim, "plastic")
    centre = (-0.92 * tall, 0, 0)
    obj.add_collider("blade", "cylinder", (half, 0.005), centre, mass_kg=0.11)
    obj.add_collider("handle", "box", (length / 2, wide / 2, thick / 2), (length / 2, 0, 0), mass_kg=0.06)
    obj.parameters |= {"half_width": half, "length": length, "handle_width": wide}
    return place(obj)


def flashlight(rng: np.random.Generator) -> HouseholdObject:
    """A barrel with ribs or rings, a wider head with a lens and a button; from pocket to duty size."""
    name, rgba = sample_colour(rng, ["black"] * 5 + ["grey", "grey", "red", "blue", "yellow", "green", "orange"])
    material: Material = "steel" if rng.random() < 0.5 else "plastic"
    obj = HouseholdObject("flashlight", "handle", name)
    radius = rng.uniform(0.011, 0.0185)
    length, head = radius * rng.uniform(5, 9.5), radius * rng.uniform(1.8, 3.4)
    wide = radius * (rng.uniform(1.05, 1.25) if rng.random() < 0.3 else rng.uniform(1.35, 1.95))
    obj.add_visual("handle", lathe_x(radius * np.array([0.9, 1, 1, 0.97, 0.97, 1, 1, 1, 0.96]), length), rgba, material)
    for x in np.arange(0.25, 0.75, rng.uniform(0.05, 0.14)) * length:
        rib = lathe_x(radius * np.array([1.0, 1.04, 1.04, 1.0]), min(0.02 * length, 0.004))
        obj.add_visual(
            "handle", moved(rib, (x, 0, 0)), tuple(np.clip(0.75 * np.array(rgba[:3]), 0, 1)) + (1.0,), material
        )
    shape = [1.0, 1.02, 1.0 + wide / radius * 0.3, wide / radius, wide / radius, wide / radius * 0.98]
    head_rgba = rgba if rng.random() < 0.7 else sample_colour(rng)[1]
    start = length - 0.002
    obj.add_visual("head", moved(lathe_x(radius * np.array(shape), head), (start, 0, 0)), head_rgba, material)
    if rng.random() < 0.4:
        ring = moved(lathe_x(wide * np.array([1.03, 1.05, 1.03]), head * 0.2), (start + head * 0.75, 0, 0))
        obj.add_visual("head", ring, sample_colour(rng, ["black", "grey", "yellow", "red"])[1], "rubber")
    glow = rng.uniform(0.7, 1.0)
    lens = moved(cylinder(wide * 0.85, 0.001, rotation=rot_y(np.pi / 2)), (start + head + 2e-4, 0, 0))
    obj.add_visual("lens", lens, (glow, glow, glow * rng.uniform(0.75, 1.0), 1.0), "ceramic")
    button = sample_colour(rng, ["red", "black", "grey", "green", "yellow"])[1]
    at = length * rng.uniform(0.6, 0.85)
    mesh = box((rng.uniform(0.012, 0.024), radius * 0.7, 0.004), (at, 0, radius))
    obj.add_visual("handle", moved(mesh, rotation=rot_x(rng.uniform(-1.2, 1.2))), button, "rubber")
    if rng.random() < 0.35:
        add_hang_ring(obj, rng, (-0.014, 0, 0), 0.007, sample_steel(rng))
    for x, half, r in ((length / 2, length / 2, radius), (start + head * 0.7, head * 0.3, wide)):
        part = "handle" if r == radius else "head"
        obj.add_collider(part, "box", (half, r, r * 0.4), (x, 0, 0), mass_kg=0.08)
        obj.add_collider(part, "box", (half, r * 0.4, r), (x, 0, 0), mass_kg=0.04)
    obj.parameters |= {"radius": radius, "length": length + head}
    return place(obj)


EXTRA_THINGS: dict[str, Callable[[np.random.Generator], HouseholdObject]] = {
    "tape roll": tape_roll,
    "tape measure": tape_measure,
    "spray bottle": spray_bottle,
    "chisel": chisel,
    "hairbrush": hairbrush,
    "magnifying glass": magnifying_glass,
    "table tennis racket": table_tennis_racket,
    "flashlight": flashlight,
}
