"""Where objects stand: footprints on the table and the gaps between them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from affordagent.core.camera import CameraIntrinsics
from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array, invert, rigid, transform_points
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.shapes import rot_z

PART_AREA_M = ((0.32, 0.62), (-0.32, 0.32))  # x, y of the centre of the part to hold
OBJECT_AREA_M = ((0.2, 0.8), (-0.5, 0.5))  # x, y of the whole object
GRIPPER_ROOM_M = 0.03  # round the part to hold
BETWEEN_M = 0.012  # any two objects
VIEW_MARGIN_PX = 8
ROOM_IN_VIEW_PX = 5  # no object hides another's part to hold
PART_IN_VIEW_PX2 = 450  # of the hull of the part to hold, left in view by the rest of its object
SPAWN_HEIGHT_M = 0.0005
TRIES, ARRANGEMENTS = 150, 40


@dataclass(frozen=True)
class Footprint:
    """Convex hulls, seen from above, of an object's visual meshes. hulls: (N, 2) each; parts: the name of each."""

    parts: tuple[str, ...]
    hulls: tuple[Array, ...]

    def moved(self, yaw_rad: float, xy: Array) -> Footprint:
        c, s = np.cos(yaw_rad), np.sin(yaw_rad)
        R = np.array([[c, -s], [s, c]])
        return Footprint(self.parts, tuple(hull @ R.T + xy for hull in self.hulls))

    def of(self, part: str | None) -> list[Array]:
        """The hulls of a part (None: of all)."""
        return [h for p, h in zip(self.parts, self.hulls, strict=True) if part in (None, p)]

    def centre(self, part: str | None = None) -> Array:
        """(2,) middle of the bounding box of a part (None: of all)."""
        points = np.concatenate(self.of(part))
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
    """Smallest gap of two footprints, metres (or pixels); with a part named, of that part only."""
    return min(hull_gap(one, other) for one in a.of(part_a) for other in b.of(part_b))


def apart(a: Footprint, b: Footprint, limit: float, part_a: str | None = None, part_b: str | None = None) -> bool:
    """Whether `gap` is at least `limit`; quick where bounding boxes already tell."""
    ones, others = a.of(part_a), b.of(part_b)
    if _boxes_apart(np.concatenate(ones), np.concatenate(others), limit):
        return True
    return all(_boxes_apart(p, q, limit) or hull_gap(p, q) >= limit for p in ones for q in others)


def _boxes_apart(a: Array, b: Array, limit: float) -> bool:
    return bool(max((b.min(0) - a.max(0)).max(), (a.min(0) - b.max(0)).max()) >= limit)


def clearance_ok(a: Footprint, b: Footprint, hold_a: str, hold_b: str, room: float, between: float) -> bool:
    """Whether two objects are `between` apart and the part to hold of each has `room` to all of the other."""
    return apart(a, b, between) and apart(a, b, room, part_a=hold_a) and apart(a, b, room, part_b=hold_b)


@dataclass(frozen=True)
class _Spot:
    T_base_object: Array
    there: Footprint
    view: Footprint


def place(
    objects: list[HouseholdObject], rng: np.random.Generator, T_base_camera: Array, camera: CameraIntrinsics
) -> list[Array]:
    """T_base_object of each: apart from each other, in reach, in view, no part to hold hidden or hemmed in.

    Raises:
        AffordAgentError: no such arrangement was found.
    """
    flat = [footprint(o) for o in objects]
    large_first = sorted(range(len(objects)), key=lambda i: -float(np.prod(np.ptp(objects[i].bounds[:, :2], axis=0))))
    for _ in range(ARRANGEMENTS):
        spots: dict[int, _Spot] = {}
        for i in large_first:
            others = [(objects[k], spot) for k, spot in spots.items()]
            found = _find_spot(objects[i], flat[i], others, rng, T_base_camera, camera)
            if found is None:
                break
            spots[i] = found
        if len(spots) == len(objects):
            return [spots[i].T_base_object for i in range(len(objects))]
    names = ", ".join(o.category for o in objects)
    raise AffordAgentError(
        f"no room on the table for {len(objects)} objects ({names}) with {GRIPPER_ROOM_M * 100:.0f} cm round each part "
        f"to hold after {ARRANGEMENTS} arrangements: take fewer or smaller objects, or another seed"
    )


def _find_spot(
    obj: HouseholdObject,
    flat: Footprint,
    others: list[tuple[HouseholdObject, _Spot]],
    rng: np.random.Generator,
    T_base_camera: Array,
    camera: CameraIntrinsics,
) -> _Spot | None:
    for _ in range(TRIES):
        yaw = float(rng.uniform(0, 2 * np.pi))
        turned = flat.moved(yaw, np.zeros(2))
        shift = np.array([rng.uniform(*side) for side in PART_AREA_M]) - turned.centre(obj.part)
        there = turned.moved(0.0, shift)
        points = np.concatenate(there.hulls)
        if not _within(points, np.array(OBJECT_AREA_M).T):
            continue
        if not all(clearance_ok(there, s.there, obj.part, o.part, GRIPPER_ROOM_M, BETWEEN_M) for o, s in others):
            continue
        T = rigid(rot_z(yaw), [*shift, SPAWN_HEIGHT_M])
        T_camera_object = invert(T_base_camera) @ T
        view = image_footprint(obj, T_camera_object, camera)
        frame = np.array([[VIEW_MARGIN_PX] * 2, [camera.width - VIEW_MARGIN_PX, camera.height - VIEW_MARGIN_PX]])
        if not _within(np.concatenate(view.hulls), frame):
            continue
        if _part_in_view(obj, view, T_camera_object) < PART_IN_VIEW_PX2:
            continue
        if all(clearance_ok(view, s.view, obj.part, o.part, ROOM_IN_VIEW_PX, -np.inf) for o, s in others):
            return _Spot(T, there, view)
    return None


def _within(points: Array, corners: Array) -> bool:
    return bool((points >= corners[0]).all() and (points <= corners[1]).all())


def _part_in_view(obj: HouseholdObject, view: Footprint, T_camera_object: Array) -> float:
    """Area of the picture, pixels, where the part to hold is beside or in front of the rest of its object."""
    nearness = {}
    for name in obj.parts:
        points = np.concatenate([v.mesh.vertices for v in obj.visuals if v.part == name])
        nearness[name] = float(transform_points(T_camera_object, points)[:, 2].mean())
    hull = cv2.convexHull(np.concatenate(view.of(obj.part)).astype(np.float32))
    area = cv2.contourArea(hull)
    hidden = 0.0
    for name in obj.parts:
        if name != obj.part and nearness[name] < nearness[obj.part]:
            rest = cv2.convexHull(np.concatenate(view.of(name)).astype(np.float32))
            hidden = max(hidden, cv2.intersectConvexConvex(hull, rest)[0])
    return float(area - hidden)
