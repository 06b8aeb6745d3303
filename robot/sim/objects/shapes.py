"""Mesh primitives and colours the objects are made of. Metres; meshes are watertight unless said otherwise."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
import trimesh
from numpy.typing import ArrayLike
from trimesh.creation import box as box_mesh
from trimesh.creation import cylinder as cylinder_mesh
from trimesh.creation import revolve as revolve_mesh

from affordagent.core.geometry import Array, rigid

Rgba = tuple[float, float, float, float]

# hue, saturation, value of the colour words people use
NAMED_COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.0, 0.85, 0.75),
    "orange": (0.07, 0.9, 0.9),
    "yellow": (0.14, 0.85, 0.9),
    "green": (0.36, 0.7, 0.5),
    "blue": (0.6, 0.8, 0.6),
    "purple": (0.77, 0.55, 0.5),
    "pink": (0.93, 0.45, 0.9),
    "black": (0.0, 0.0, 0.09),
    "white": (0.0, 0.0, 0.92),
    "grey": (0.0, 0.0, 0.5),
    "brown": (0.07, 0.6, 0.4),
}


def sample_colour(rng: np.random.Generator, names: Sequence[str] | None = None) -> tuple[str, Rgba]:
    """A colour word (one of `names`, else any) and a shade of it."""
    name = str(rng.choice(list(names or NAMED_COLOURS)))
    hue, saturation, value = NAMED_COLOURS[name]
    hue = (hue + rng.normal(0, 0.012)) % 1
    spread = rng.normal(0, 0.1) if saturation > 0 else abs(rng.normal(0, 0.03))
    saturation = float(np.clip(saturation + spread, 0, 1))
    value = float(np.clip(value * rng.uniform(0.75, 1.15) + rng.uniform(0, 0.05), 0, 1))
    return name, (*colorsys.hsv_to_rgb(hue, saturation, value), 1.0)


def sample_steel(rng: np.random.Generator) -> Rgba:
    v = rng.uniform(0.3, 0.8)
    return (v, v, min(1.0, v * rng.uniform(0.97, 1.06)), 1.0)


def sample_wood(rng: np.random.Generator) -> Rgba:
    k = rng.uniform(0.7, 1.2)
    return (0.62 * k, 0.42 * k, 0.22 * k, 1.0)


def rot_x(angle_rad: float) -> Array:
    return trimesh.transformations.rotation_matrix(angle_rad, [1, 0, 0])[:3, :3]


def rot_y(angle_rad: float) -> Array:
    return trimesh.transformations.rotation_matrix(angle_rad, [0, 1, 0])[:3, :3]


def rot_z(angle_rad: float) -> Array:
    return trimesh.transformations.rotation_matrix(angle_rad, [0, 0, 1])[:3, :3]


def moved(mesh: trimesh.Trimesh, position: ArrayLike = (0, 0, 0), rotation: ArrayLike | None = None) -> trimesh.Trimesh:
    """The same mesh, rotated, then shifted (in place; returned for chaining)."""
    mesh.apply_transform(rigid(np.eye(3) if rotation is None else rotation, position))
    return mesh


def box(size: ArrayLike, position: ArrayLike = (0, 0, 0), rotation: ArrayLike | None = None) -> trimesh.Trimesh:
    """Box of full edge lengths `size`, centred at `position`."""
    return moved(box_mesh(np.asarray(size, float)), position, rotation)


def cylinder(
    radius: float, height: float, position: ArrayLike = (0, 0, 0), rotation: ArrayLike | None = None, sections: int = 28
) -> trimesh.Trimesh:
    """Cylinder along z, centred at `position`."""
    return moved(cylinder_mesh(radius, height, sections=sections), position, rotation)


def revolve(profile_rz: ArrayLike, sections: int = 48) -> trimesh.Trimesh:
    """Solid of revolution about z of an (N, 2) profile (radius, z) that starts and ends on the axis or is closed."""
    return revolve_mesh(np.asarray(profile_rz, float), sections=sections)


def lathe_x(radii: ArrayLike, length: float, sections: int = 24) -> trimesh.Trimesh:
    """Turned handle along +x from 0 to `length`; radii: (N,) at equal steps."""
    r = np.asarray(radii, float)
    z = np.linspace(0, length, len(r))
    mesh = revolve(np.c_[np.r_[0, r, 0], np.r_[0, z, length]], sections)
    return moved(mesh, rotation=rot_y(np.pi / 2))


def tube(path: ArrayLike, radius: float, radius_b: float | None = None, sections: int = 16) -> trimesh.Trimesh:
    """Sweep an ellipse (radius sideways, `radius_b` upwards) along an (N, 3) polyline, with flat caps."""
    points = np.asarray(path, float)
    radius_b = radius if radius_b is None else radius_b
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent[0], [0, 0, 1.0])
    if np.linalg.norm(side) < 1e-6:
        side = np.cross(tangent[0], [0, 1.0, 0])
    angle = np.linspace(0, 2 * np.pi, sections, endpoint=False)[:, None]
    rings = []
    for point, t in zip(points, tangent, strict=True):  # parallel transport of the cross-section
        side = side - t * (side @ t)
        side /= np.linalg.norm(side)
        up = np.cross(side, t)
        rings.append(point + radius * np.cos(angle) * side + radius_b * np.sin(angle) * up)
    vertices = np.concatenate([*rings, points[:1], points[-1:]])
    n, last = sections, (len(points) - 1) * sections
    first_cap, last_cap = len(vertices) - 2, len(vertices) - 1
    faces = []
    for j in range(n):
        k = (j + 1) % n
        for base in range(0, last, n):
            faces += [[base + j, base + k, base + k + n], [base + j, base + k + n, base + j + n]]
        faces += [[first_cap, k, j], [last_cap, last + j, last + k]]
    mesh = trimesh.Trimesh(vertices, faces, process=True)
    mesh.fix_normals()
    return mesh


def extrude(outline_xy: ArrayLike, thickness: float, z: float = 0.0) -> trimesh.Trimesh:
    """A convex or concave simple polygon (N, 2) extruded from `z` upwards by `thickness`."""
    import manifold3d

    solid = manifold3d.Manifold.extrude(manifold3d.CrossSection([np.asarray(outline_xy, float)]), thickness)
    data = solid.to_mesh()
    mesh = trimesh.Trimesh(np.asarray(data.vert_properties)[:, :3], np.asarray(data.tri_verts), process=True)
    return moved(mesh, (0, 0, z))


def union(meshes: Sequence[trimesh.Trimesh]) -> trimesh.Trimesh:
    return trimesh.boolean.union(list(meshes), engine="manifold")


def difference(a: trimesh.Trimesh, b: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.boolean.difference([a, b], engine="manifold")


def sweep(
    path: ArrayLike, half_widths: ArrayLike, half_heights: ArrayLike, power: float = 2.0, sections: int = 16
) -> trimesh.Trimesh:
    """Sweep a superellipse of varying size along an (N, 3) polyline, with flat caps.

    half_widths (sideways) and half_heights (upwards) broadcast to (N,); power 2 is an ellipse, 5 nearly a rectangle.
    """
    points = np.asarray(path, float)
    w, h = (np.broadcast_to(np.asarray(x, float), len(points)) for x in (half_widths, half_heights))
    tangents = np.gradient(points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    side = np.cross([0, 0, 1.0], tangents[0])
    side = side if np.linalg.norm(side) > 1e-6 else np.array([0, 1.0, 0])
    angle = np.linspace(0, 2 * np.pi, sections, endpoint=False) + np.pi / sections
    c, s = (np.sign(f) * np.abs(f) ** (2 / power) for f in (np.cos(angle), np.sin(angle)))
    rings = []
    for i, t in enumerate(tangents):
        side = side - t * (side @ t)
        side = side / np.linalg.norm(side)
        rings.append(points[i] + w[i] * c[:, None] * side + h[i] * s[:, None] * np.cross(t, side))
    n, m = sections, len(points)
    j = np.arange(n)
    k = (j + 1) % n
    last, centre = (m - 1) * n, np.full(n, m * n)
    faces = [np.c_[k, j, centre], np.c_[j + last, k + last, centre + 1]]
    for base in range(0, (m - 1) * n, n):
        faces += [np.c_[j + base, k + base, k + base + n], np.c_[j + base, k + base + n, j + base + n]]
    return trimesh.Trimesh(np.concatenate([*rings, points[:1], points[-1:]]), np.concatenate(faces), process=False)


def torus(radius: float, tube_radius: float, position: ArrayLike = (0, 0, 0), sections: int = 40) -> trimesh.Trimesh:
    """Ring about z of `radius` to the middle of the tube."""
    mesh = trimesh.creation.torus(radius, tube_radius, major_sections=sections, minor_sections=8)
    return moved(mesh, position)


def shell(profile_rz: ArrayLike, thickness: float, sections: int = 40) -> trimesh.Trimesh:
    """Vessel of revolution from its (N, 2) outer profile (radius, z), from the axis at the bottom up to the rim."""
    outer = np.asarray(profile_rz, float)
    tangents = np.gradient(outer, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    inner = outer + thickness * np.c_[-tangents[:, 1], tangents[:, 0]]
    inner[:, 0] = np.maximum(inner[:, 0], 0)
    inner[-1] = [outer[-1, 0] - thickness, outer[-1, 1]]
    inner[0] = [0, outer[0, 1] + thickness]
    return revolve(np.concatenate([outer, inner[::-1]]), sections)


def band(profile_rz: ArrayLike, proud: float = 3e-4, sections: int = 40) -> trimesh.Trimesh:
    """Thin sleeve (a label, a stripe) over an (N, 2) outer profile (radius, z) that stays off the axis."""
    profile = np.asarray(profile_rz, float)
    loop = np.concatenate([profile + [proud, 0], profile[::-1] - [proud, 0]])
    return revolve(np.concatenate([loop, loop[:1]]), sections)
