"""Where objects stand: footprints on the table and the gaps between them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.geometry import Array, transform_points
from affordagent.robot.sim.objects.model import HouseholdObject


@dataclass(frozen=True)
class Footprint:
    """Convex hulls, seen from above, of an object's visual meshes. hulls: (N, 2) each; parts: the name of each."""

    parts: tuple[str, ...]
    hulls: tuple[Array, ...]

    def moved(self, yaw_rad: float, xy: Array) -> Footprint:
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        R = np.array([[c, -s], [s, c]])
        return Footprint(self.parts, tuple(hull @ R.T + xy for hull in self.hulls))

    def centre(self, part: str | None = None) -> Array:
        """(2,) middle of the bounding box of a part (None: of all)."""
        points = np.concatenate([h for p, h in zip(self.parts, self.hulls, strict=True) if part in (None, p)])
        return (points.min(0) + points.max(0)) / 2


def footprint(obj: HouseholdObject, T_base_object: Array | None = None) -> Footprint:
    T = np.eye(4) if T_base_object is None else T_base_object
    hulls = []
    for visual in obj.visuals:
        xy = transform_points(T, visual.mesh.vertices)[:, :2]
        hull = cv2.convexHull(np.ascontiguousarray(xy, np.float32))
        hulls.append(cv2.approxPolyDP(hull, 0.0005, True)[:, 0].astype(float))
    return Footprint(tuple(v.part for v in obj.visuals), tuple(hulls))


def image_footprint(obj: HouseholdObject, T_camera_object: Array, camera: CameraIntrinsics) -> Footprint:
    """The same in the picture: convex hulls of the projected meshes, pixels."""
    hulls = []
    for visual in obj.visuals:
        pixels = camera.project(transform_points(T_camera_object, visual.mesh.vertices))
        hulls.append(cv2.convexHull(np.ascontiguousarray(pixels, np.float32))[:, 0].astype(float))
    return Footprint(tuple(v.part for v in obj.visuals), tuple(hulls))


def hull_gap(a: Array, b: Array) -> float:
    """Separation of two convex polygons by their edge normals: negative = overlap depth, and never more than the
    true distance."""
    best = -np.inf
    for one, other in ((a, b), (b, a)):
        edge = np.roll(one, -1, 0) - one
        edge = edge[np.linalg.norm(edge, axis=1) > 1e-9]
        normal = np.stack([edge[:, 1], -edge[:, 0]], 1) / np.linalg.norm(edge, axis=1, keepdims=True)
        inner, outer = normal @ one.T, normal @ other.T
        forward = outer.min(1) - inner.max(1)
        backward = inner.min(1) - outer.max(1)
        best = max(best, float(np.max(np.maximum(forward, backward), initial=-np.inf)))
    return best


def gap(a: Footprint, b: Footprint, part_a: str | None = None, part_b: str | None = None) -> float:
    """Smallest gap of two footprints, metres; with a part named, of that part only."""
    return min(
        hull_gap(one, other)
        for name_a, one in zip(a.parts, a.hulls, strict=True)
        if part_a in (None, name_a)
        for name_b, other in zip(b.parts, b.hulls, strict=True)
        if part_b in (None, name_b)
    )


def clearance_ok(a: Footprint, b: Footprint, hold_a: str, hold_b: str, room_m: float, apart_m: float) -> bool:
    """Whether two objects are `apart_m` apart and the part to hold of each has `room_m` to all of the other."""
    if gap(a, b) < apart_m:
        return False
    return gap(a, b, part_a=hold_a) >= room_m and gap(a, b, part_b=hold_b) >= room_m
