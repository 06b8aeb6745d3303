"""Colliders of shells and bars, and the pose in which an object comes to rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import trimesh
from numpy.typing import ArrayLike
from scipy.spatial import ConvexHull

from affordagent.core.geometry import Array, rigid, transform_points
from affordagent.robot.sim.objects.model import Collider, HouseholdObject
from affordagent.robot.sim.objects.shapes import rot_z


def add_chain(
    obj: HouseholdObject, part: str, path: ArrayLike, half_width: float, half_height: float, mass_kg: float
) -> None:
    """Colliders along an (N, 3) path in a plane of constant y: capsules where the section is round, else boxes."""
    points = np.asarray(path, float)
    share = mass_kg / (len(points) - 1)
    round_section = max(half_width, half_height) < 1.25 * min(half_width, half_height)
    for a, b in zip(points[:-1], points[1:], strict=True):
        if round_section:
            obj.add_rod(part, a, b, (half_width + half_height) / 2, share)
            continue
        length = float(np.linalg.norm(b - a))
        d = (b - a) / length
        R = np.stack([d, [0, 1, 0], np.cross(d, [0, 1, 0])], axis=1)
        obj.add_collider(part, "box", (length / 2, half_width, half_height), (a + b) / 2, R, share)


def add_shell(
    obj: HouseholdObject, part: str, profile_rz: ArrayLike, thickness: float, count: int, mass_kg: float
) -> None:
    """Ring of `count` boxes per chord of an (N, 2) outer profile (radius, z), and a disc at its first point."""
    profile = np.asarray(profile_rz, float)
    r0, z0 = profile[0]
    obj.add_collider(part, "cylinder", (r0, thickness / 2), (0, 0, z0 + thickness / 2), mass_kg=0.3 * mass_kg)
    share = 0.7 * mass_kg / (count * (len(profile) - 1))
    for a, b in zip(profile[:-1], profile[1:], strict=True):
        length = float(np.linalg.norm(b - a))
        dr, dz = (b - a) / length
        upright = np.array([[dz, 0, dr], [0, 1, 0], [-dr, 0, dz]])
        r, z = (a + b) / 2 + thickness / 2 * np.array([-dz, dr])
        half = (thickness / 2, float((a[0] + b[0]) / 2 * np.tan(np.pi / count)), length / 2)
        for angle in 2 * np.pi * (np.arange(count) + 0.5) / count:
            R = rot_z(angle)
            obj.add_collider(part, "box", half, R @ [r, 0, z], R @ upright, share)


def place(obj: HouseholdObject) -> HouseholdObject:
    """Lay the object down in the stable pose nearest to how it was built, and centre it.

    An object rests on the face of the convex hull of its colliders that lies under the centre of mass. Afterwards
    the lowest visual vertex is at z = 0 and the middle of the bounding box at x = y = 0.
    """
    R = _resting_rotation(np.concatenate([_surface(c) for c in obj.colliders]), _centre_of_mass(obj))
    transform(obj, rigid(R, (0, 0, 0)))
    low, high = obj.bounds
    transform(obj, rigid(np.eye(3), (-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2])))
    return obj


def transform(obj: HouseholdObject, T: Array) -> None:
    """Move meshes and colliders by the (4, 4) T, in place."""
    for visual in obj.visuals:
        visual.mesh.apply_transform(T)
    obj.colliders = [replace(c, T_object_collider=T @ c.T_object_collider) for c in obj.colliders]


def _centre_of_mass(obj: HouseholdObject) -> Array:
    masses = np.array([c.mass_kg for c in obj.colliders])
    centres = np.array([c.T_object_collider[:3, 3] for c in obj.colliders])
    return masses @ centres / masses.sum()


def _resting_rotation(points: Array, centre: Array, tolerance_m: float = 3e-5, sure_m: float = 1.2e-3) -> Array:
    """Rotation onto the hull face nearest to facing down that holds the centre of mass with a margin of `sure_m`.

    Without such a face within 40 degrees, the one there with the largest margin; failing that, any stable face.
    """
    hull = ConvexHull(points)
    normals, offsets = hull.equations[:, :3], hull.equations[:, 3]
    corners = points[hull.vertices]
    best_margin, best = 0.0, None
    for i in np.argsort(normals[:, 2]):  # downward faces first
        if best is not None and normals[i, 2] > -np.cos(np.deg2rad(40)):
            break
        to_ground = trimesh.geometry.align_vectors(normals[i], [0, 0, -1])[:3, :3]
        touching = corners[np.abs(corners @ normals[i] + offsets[i]) < tolerance_m]
        margin = _inside_by((touching @ to_ground.T)[:, :2], (to_ground @ centre)[:2])
        if margin > best_margin:
            best_margin, best = margin, to_ground
        if margin > sure_m:
            break
    if best is None:
        raise ValueError("no face of the object's hull holds its centre of mass")
    return _without_spin(best)


def _inside_by(support_xy: Array, point_xy: Array) -> float:
    """Distance of a point to the border of the support polygon, positive inside; -inf for a degenerate polygon."""
    if len(support_xy) < 3 or np.linalg.svd(support_xy - support_xy.mean(0), compute_uv=False)[1] < 1e-4:
        return -np.inf
    lines = ConvexHull(support_xy, qhull_options="QJ").equations
    return float(-(lines[:, :2] @ point_xy + lines[:, 2]).max())


def _without_spin(R: Array) -> Array:
    """Turn about the vertical so that the built x axis keeps its heading."""
    return rot_z(-float(np.arctan2(R[1, 0], R[0, 0]))) @ R


def _surface(collider: Collider) -> Array:
    """Points whose convex hull is the collider's, within a fraction of a millimetre, in the object frame."""
    size, kind = collider.size, collider.kind
    if kind == "box":
        local = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T * size
    elif kind == "cylinder":
        angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        ring = np.c_[size[0] * np.cos(angle), size[0] * np.sin(angle)]
        local = np.concatenate([np.c_[ring, np.full(32, z)] for z in (-size[1], size[1])])
    else:
        ball = trimesh.creation.icosphere(subdivisions=3).vertices
        if kind == "capsule":
            local = np.concatenate([ball * size[0] + [0, 0, z] for z in (-size[1], size[1])])
        else:
            local = ball * size
    return transform_points(collider.T_object_collider, local)
