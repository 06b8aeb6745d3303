"""What hand tools are made of beyond `shapes`: flat plates with bevels, lofts, and grips with their colliders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import trimesh
from manifold3d import CrossSection, JoinType, Manifold, OpType
from numpy.typing import ArrayLike

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.model import Collider, HouseholdObject, Material
from affordagent.robot.sim.objects.rest import place
from affordagent.robot.sim.objects.shapes import Rgba, rot_x, sample_colour, sample_wood

SLIM_M = 0.0165  # a bar thinner than this is touched as a box, a thicker one as capsules


def bezier(controls: ArrayLike, count: int = 12) -> Array:
    """(count, D) points at equal parameter steps on the Bezier curve of (N, D) controls (de Casteljau)."""
    points = np.repeat(np.asarray(controls, float)[:, None], count, axis=1)  # (N, count, D)
    t = np.linspace(0, 1, count)[:, None]
    while len(points) > 1:
        points = (1 - t) * points[:-1] + t * points[1:]
    return points[0]


def at_height(path_xy: ArrayLike, z: float = 0.0) -> Array:
    """(N, 2) -> (N, 3) at constant height."""
    path = np.asarray(path_xy, float)
    return np.c_[path, np.full(len(path), z)]


def along_x(start: float, end: float, count: int = 12, z: float = 0.0) -> Array:
    """(count, 3) points from x = start to x = end at height z."""
    x = np.linspace(start, end, count)
    return np.c_[x, 0 * x, np.full(count, z)]


def spread(values: ArrayLike, count: int) -> Array:
    """`values`, given at equal steps, interpolated linearly to `count` equal steps."""
    v = np.atleast_1d(np.asarray(values, float))
    return np.interp(np.linspace(0, 1, count), np.linspace(0, 1, len(v)), v) if len(v) > 1 else np.full(count, v[0])


def loft(
    path: ArrayLike, widths: ArrayLike, heights: ArrayLike, exponent: float = 2.0, sections: int = 20
) -> trimesh.Trimesh:
    """Sweep a superellipse along an (N, 3) polyline that is never vertical, with flat caps.

    widths (sideways) and heights (upwards): full sizes at equal steps along the path, any number of them.
    exponent: 2 is an ellipse, 4 nearly a rectangle.
    """
    points = np.asarray(path, float)
    n = len(points)
    tangent = np.gradient(points, axis=0)
    side = np.cross([0, 0, 1.0], tangent)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(tangent, side)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    angle = np.linspace(0, 2 * np.pi, sections, endpoint=False) + np.pi / sections
    c, s = (np.sign(f) * np.abs(f) ** (2 / exponent) for f in (np.cos(angle), np.sin(angle)))
    half_w, half_h = spread(widths, n)[:, None, None] / 2, spread(heights, n)[:, None, None] / 2
    rings = points[:, None] + half_w * c[:, None] * side[:, None] + half_h * s[:, None] * up[:, None]
    vertices = np.concatenate([rings.reshape(-1, 3), points[:1], points[-1:]])
    j = np.arange(sections)
    k = (j + 1) % sections
    base = (np.arange(n - 1) * sections)[:, None]
    quads = [
        np.stack([base + j, base + k, base + k + sections], -1),
        np.stack([base + j, base + k + sections, base + j + sections], -1),
    ]
    last = (n - 1) * sections
    caps = [
        np.c_[np.full(sections, n * sections), k, j],
        np.c_[np.full(sections, n * sections + 1), last + j, last + k],
    ]
    mesh = trimesh.Trimesh(vertices, np.concatenate([q.reshape(-1, 3) for q in quads] + caps), process=True)
    mesh.fix_normals()
    return mesh


def disc(radius: float, centre: ArrayLike = (0.0, 0.0), segments: int = 28) -> CrossSection:
    x, y = np.asarray(centre, float)
    return CrossSection.circle(radius, segments).translate((x, y))


def polygon(outline_xy: ArrayLike) -> CrossSection:
    """A simple polygon (N, 2), in either direction of turning."""
    outline = np.asarray(outline_xy, float)
    x, y = outline.T
    turning = np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)
    return CrossSection([outline if turning > 0 else outline[::-1]])


def stroke(path_xy: ArrayLike, widths: ArrayLike, segments: int = 16) -> CrossSection:
    """A line of round joints along an (N, 2) polyline; widths: full widths at equal steps along it."""
    points = np.asarray(path_xy, float)
    discs = [disc(w / 2, p, segments) for p, w in zip(points, spread(widths, len(points)), strict=True)]
    pairs = [CrossSection.batch_hull([a, b]) for a, b in zip(discs, discs[1:], strict=False)]
    return CrossSection.batch_boolean(pairs, OpType.Add)


def plate(section: CrossSection, thickness: float, z: float = 0.0, bevel: float = 0.0) -> trimesh.Trimesh:
    """A section extruded symmetrically about height `z`; its edges are stepped back by `bevel` (at most one step)."""
    solid = Manifold.extrude(section, thickness - 2 * bevel).translate((0, 0, z - thickness / 2 + bevel))
    if bevel > 0:
        inner = Manifold.extrude(section.offset(-bevel, JoinType.Round, 2.0, 12), thickness)
        solid += inner.translate((0, 0, z - thickness / 2))
    return solid_mesh(solid)


def solid_mesh(solid: Manifold) -> trimesh.Trimesh:
    data = solid.to_mesh()
    return trimesh.Trimesh(np.asarray(data.vert_properties)[:, :3], np.asarray(data.tri_verts), process=False)


def add_bar(obj: HouseholdObject, part: str, start: ArrayLike, end: ArrayLike, width: float, height: float) -> None:
    """A box collider along the segment from `start` to `end`, `height` upwards."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    length = float(np.linalg.norm(b - a))
    x = (b - a) / length
    y = np.cross([0, 0, 1.0], x)
    y /= np.linalg.norm(y)
    R = np.stack([x, y, np.cross(x, y)], 1)
    obj.add_collider(part, "box", (length / 2, width / 2, height / 2), (a + b) / 2, R)


def add_bars(
    obj: HouseholdObject, part: str, path: ArrayLike, widths: ArrayLike, heights: ArrayLike, pieces: int = 4
) -> None:
    """Box or capsule colliders along an (N, 3) path that is never vertical, in `pieces` straight pieces."""
    points = np.asarray(path, float)
    steps = np.linspace(0, len(points) - 1, pieces + 1)
    knots = np.stack([np.interp(steps, np.arange(len(points)), points[:, i]) for i in range(3)], 1)
    w, h = spread(widths, 4 * pieces + 1), spread(heights, 4 * pieces + 1)
    for i in range(pieces):
        # the largest size near the middle of the piece: the collider reaches the surface the fingers touch
        width, height = float(w[4 * i + 1 : 4 * i + 4].mean()), float(h[4 * i + 1 : 4 * i + 4].mean())
        if min(width, height) < SLIM_M:
            add_bar(obj, part, knots[i], knots[i + 1], width, height)
        else:
            _add_round_bar(obj, part, knots[i], knots[i + 1], width, height, first=i == 0, last=i == pieces - 1)


def _add_round_bar(
    obj: HouseholdObject, part: str, a: Array, b: Array, width: float, height: float, first: bool, last: bool
) -> None:
    """An oval bar as one capsule, or two side by side; round caps stay inside the free ends."""
    radius = min(width, height) / 2
    x = (b - a) / np.linalg.norm(b - a)
    a, b = a + x * radius * 0.7 * first, b - x * radius * 0.7 * last
    y = np.cross([0, 0, 1.0], x)
    y /= np.linalg.norm(y)
    across = y if width > height else np.cross(x, y)
    offset = (max(width, height) / 2 - radius) * across
    for shift in [offset, -offset] if np.linalg.norm(offset) > 0.001 else [0 * offset]:
        obj.add_rod(part, a + shift, b + shift, radius, 0.01)


def add_octagonal_bars(obj: HouseholdObject, part: str, length: float, widths: ArrayLike, pieces: int = 3) -> None:
    """Colliders of a turned handle along +x from 0 that, like the real ones, does not roll away.

    Each piece is an octagonal prism: four boxes crossing on the axis, flat below and towards the fingers.
    """
    w = spread(widths, 4 * pieces + 1)
    for i in range(pieces):
        half = 0.485 * float(w[4 * i + 1 : 4 * i + 4].mean())
        for turn in range(4):
            size = (length / pieces / 2, half, half * np.tan(np.pi / 8))
            obj.add_collider(part, "box", size, ((i + 0.5) * length / pieces, 0, 0), rot_x(turn * np.pi / 4))


def add_grip(
    obj: HouseholdObject,
    part: str,
    path: ArrayLike,
    widths: ArrayLike,
    heights: ArrayLike,
    rgba: ArrayLike,
    material: Material,
    exponent: float = 2.0,
    pieces: int = 4,
    sections: int = 20,
) -> None:
    """A lofted bar and its colliders."""
    obj.add_visual(part, loft(path, widths, heights, exponent, sections), rgba, material)
    add_bars(obj, part, path, widths, heights, pieces)


def collider_volume(c: Collider) -> float:
    """Cubic metres."""
    s = c.size
    match c.kind:
        case "box":
            return 8 * s[0] * s[1] * s[2]
        case "cylinder":
            return 2 * np.pi * s[0] ** 2 * s[1]
        case "capsule":
            return np.pi * s[0] ** 2 * (2 * s[1] + 4 / 3 * s[0])
        case "sphere":
            return 4 / 3 * np.pi * s[0] ** 3
        case "ellipsoid":
            return 4 / 3 * np.pi * s[0] * s[1] * s[2]


def finished(obj: HouseholdObject, masses_kg: Mapping[str, float]) -> HouseholdObject:
    """The object with its parts' masses spread over their colliders by volume, laid to rest on z = 0."""
    weighed = []
    for part in dict.fromkeys(c.part for c in obj.colliders):
        own = [c for c in obj.colliders if c.part == part]
        density = masses_kg[part] / sum(collider_volume(c) for c in own)
        weighed += [replace(c, mass_kg=float(density * collider_volume(c))) for c in own]
    obj.colliders = weighed
    return place(obj)


def wood_or_colour(rng: np.random.Generator, wood_chance: float) -> tuple[str, Rgba, Material]:
    """Colour word, shade and material of a handle."""
    if rng.random() < wood_chance:
        return "brown", sample_wood(rng), "wood"
    word, rgba = sample_colour(rng)
    return word, rgba, "rubber"
