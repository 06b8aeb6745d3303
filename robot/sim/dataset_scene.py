"""One shard's world for the training pictures: a pool of objects and clutter, parked or moved, everything else random.

Compiling a model costs more than a picture, so some twenty pictures share one. There is no arm and no physics.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mujoco
import numpy as np
import trimesh

from affordagent.core.geometry import Array, look_at, rigid
from affordagent.robot.sim.bodies import add_object_materials, add_visuals, geom_parts, quaternion, table_of
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.objects.shapes import rot_z, sample_colour
from affordagent.robot.sim.placement import Footprint, apart, footprint, hull_gap
from affordagent.robot.sim.scene import LOOK_CAMERA, set_visual
from affordagent.robot.sim.textures import TABLE_KINDS, add_material, print_image, table_image

WIDTH, HEIGHT = 640, 480
CLUTTER_LABEL = 255
SURFACES, CLUTTER, WALLS, LIGHTS = 5, 7, 3, 3
TIPPED_SHARE = 0.12
LEAST_FACE_M2 = 3e-5
TOUCHING_SHARE = 0.15
LEAST_PX_PER_M = 430
PARKED_M = (0.0, 0.0, -50.0)


@dataclass
class Item:
    """An object of the pool. slot: from 1, its label is slot * 8 + part index (from 1). rests: stable rotations, the
    upright one first; shadows: the footprint of each; heights_m: origin above the table in each."""

    slot: int
    instance: int
    obj: HouseholdObject
    rests: list[Array] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    heights_m: list[float] = field(default_factory=list)

    @property
    def category(self) -> str:
        return self.obj.category

    def label(self, part: str) -> int:
        return self.slot * 8 + self.obj.parts.index(part) + 1


def make_item(slot: int, instance: int, obj: HouseholdObject) -> Item:
    """Raises ValueError when the object has more parts than a label byte holds."""
    if len(obj.parts) > 7:
        raise ValueError(f"{obj.category} has {len(obj.parts)} parts, a label holds at most 7")
    item = Item(slot, instance, obj, [np.eye(3)])
    points = np.concatenate([v.mesh.vertices for v in obj.visuals])
    item.rests += _stable_rotations(points)
    for R in item.rests:
        T = rigid(R, (0, 0, -float((points @ R.T)[:, 2].min())))
        item.footprints.append(footprint(obj, T))
        item.heights_m.append(float(T[2, 3]))
    return item


def _stable_rotations(points: Array, grid: int = 16, most: int = 4) -> list[Array]:
    """Rotations, other than upright, in which the (N, 3) points' hull rests on a face below its centre of mass; the
    lowest first. The hull is coarse: its few faces stand for the many lines a round thing can lie on."""
    cell = np.maximum(np.ptp(points, axis=0) / grid, 1e-4)
    hull = trimesh.convex.convex_hull(np.unique(np.round(points / cell), axis=0) * cell)
    corners, normals, centre = hull.triangles, hull.face_normals, hull.center_mass
    height = np.einsum("ij,ij->i", normals, corners[:, 0] - centre)
    foot = centre + normals * height[:, None]
    inside = trimesh.triangles.points_to_barycentric(corners, foot).min(axis=1)
    stable = np.flatnonzero((inside > -1e-6) & (hull.area_faces > LEAST_FACE_M2))
    chosen = [np.array([0.0, 0.0, -1.0])]
    for i in stable[np.argsort(height[stable])]:
        if all(normals[i] @ n < np.cos(np.deg2rad(30)) for n in chosen):
            chosen.append(normals[i])
    return [trimesh.geometry.align_vectors(n, [0, 0, -1])[:3, :3] for n in chosen[1 : most + 1]]


@dataclass(frozen=True)
class View:
    """The state of one picture. poses: T_base_object of the items shown."""

    poses: dict[int, Array]
    shadows: bool
    fovy_deg: float
    T_base_camera: Array


class Pool:
    """The compiled model of one shard and its items."""

    def __init__(self, items: list[Item], rng: np.random.Generator) -> None:
        self.items = items
        self.shadowed = bool(rng.random() < 0.5)
        spec = mujoco.MjSpec()
        set_visual(spec, WIDTH, HEIGHT, samples=0, shadow_size=1024 if self.shadowed else 0)
        self._add_room(spec, rng)
        self.clutter_radius = self._add_clutter(spec, rng)
        for item in items:
            body = spec.worldbody.add_body(name=str(item.slot), mocap=True)
            add_visuals(spec, body, str(item.slot), item.obj, rng)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self.labels = self._label_table()

    def _add_room(self, spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
        world, box = spec.worldbody, mujoco.mjtGeom.mjGEOM_BOX
        spec.add_texture(
            name="sky",
            type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
            builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
            rgb1=rng.uniform(0.2, 0.9, 3),
            rgb2=rng.uniform(0.2, 0.9, 3),
            width=64,
            height=384,
        )
        kinds = [TABLE_KINDS[int(i)] for i in rng.choice(len(TABLE_KINDS), SURFACES, p=(0.35, 0.2, 0.2, 0.15, 0.1))]
        for i, kind in enumerate(kinds):
            image = table_image(rng, kind)
            repeat, gloss = float(rng.uniform(0.7, 4)), (float(rng.uniform(0, 0.4)), float(rng.uniform(0, 0.6)))
            add_material(spec, f"surface{i}", image, repeat=repeat, specular=gloss[0], shininess=gloss[1])
        add_object_materials(spec, rng)
        world.add_geom(name="table", type=box, size=[0.7, 0.7, 0.02], pos=[0, 0, -0.02], material="surface0")
        floor = mujoco.mjtGeom.mjGEOM_PLANE
        world.add_geom(name="floor", type=floor, size=[6, 6, 0.1], pos=[0, 0, -0.75], material="surface1")
        for i in range(WALLS):
            angle = 2 * np.pi * i / WALLS
            at = [1.6 * np.cos(angle), 1.6 * np.sin(angle), 0.6]
            rgba = [*rng.uniform(0.2, 0.95, 3), 1]
            world.add_geom(
                name=f"wall{i}", type=box, size=[0.02, 4, 2], pos=at, quat=quaternion(rot_z(angle)), rgba=rgba
            )
        for i in range(LIGHTS):
            kind = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
            world.add_light(name=f"light{i}", type=kind, pos=[0, 0, 2], dir=[0, 0, -1], castshadow=i == 0)
        world.add_camera(name=LOOK_CAMERA, pos=[0, -0.8, 0.6], fovy=45)

    def _add_clutter(self, spec: mujoco.MjSpec, rng: np.random.Generator) -> list[float]:
        """Unlabelled boxes, cylinders and ellipsoids; the radius of each on the table."""
        kinds = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_ELLIPSOID)
        radii = []
        for i in range(CLUTTER):
            kind = kinds[int(rng.integers(len(kinds)))]
            size = rng.uniform(0.008, 0.05, 3)
            if rng.random() < 0.3:  # long and thin, like a pen or a cable end
                size = np.array([rng.uniform(0.06, 0.12), rng.uniform(0.004, 0.01), rng.uniform(0.003, 0.01)])
                kind = mujoco.mjtGeom.mjGEOM_BOX
            material = None
            if rng.random() < 0.4 and kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:  # a printed box would be a "box"
                material = f"clutter{i}"
                add_material(spec, material, print_image(rng), cube=True, specular=0.3, shininess=0.4)
            body = spec.worldbody.add_body(name=f"clutter{i}", mocap=True)
            geom = body.add_geom(name=f"clutter{i}", type=kind, size=size, rgba=sample_colour(rng)[1])
            if material:
                geom.material = material
            flat = size[:1] if kind == mujoco.mjtGeom.mjGEOM_CYLINDER else size[:2]
            radii.append(float(np.linalg.norm(flat)))
        return radii

    def _label_table(self) -> np.ndarray:
        by_slot = {str(item.slot): item for item in self.items}
        values = {g: by_slot[slot].label(part) for g, (slot, part) in geom_parts(self.model).items()}
        values |= {self.model.geom(f"clutter{i}").id: CLUTTER_LABEL for i in range(CLUTTER)}
        return table_of(self.model, values, default=0)

    def _move(self, body: str, T: Array) -> None:
        mocap = self.model.body(body).mocapid[0]
        self.data.mocap_pos[mocap], self.data.mocap_quat[mocap] = T[:3, 3], quaternion(T[:3, :3])

    def randomise(self, rng: np.random.Generator, order: list[Item], count: int) -> View:
        """Arrange up to `count` items, the first of `order` first, and draw surfaces, lights and the camera."""
        self.data.mocap_pos[:] = PARKED_M
        poses, prints = self._arrange(rng, order, count)
        self._strew_clutter(rng, prints)
        surfaces = rng.choice(SURFACES, 2)
        for name, k in zip(("table", "floor"), surfaces, strict=True):
            self.model.geom_matid[self.model.geom(name).id] = self.model.material(f"surface{k}").id
        self._draw_lights(rng)
        fovy, T_base_camera = self._draw_camera(rng, list(poses.values()))
        mujoco.mj_forward(self.model, self.data)
        return View(poses, self.shadowed and bool(rng.random() < 0.7), fovy, T_base_camera)

    def _arrange(
        self, rng: np.random.Generator, order: list[Item], count: int
    ) -> tuple[dict[int, Array], list[Footprint]]:
        spread = rng.uniform(0.12, 0.26) * np.array([1.2, 1.0])
        between = 0.0 if rng.random() < TOUCHING_SHARE else rng.uniform(0.004, 0.03)
        poses: dict[int, Array] = {}
        prints: list[Footprint] = []
        for item in order:
            if len(poses) == count:
                break
            rest = int(rng.integers(1, len(item.rests))) if len(item.rests) > 1 and rng.random() < TIPPED_SHARE else 0
            for _ in range(15):
                yaw, target = float(rng.uniform(0, 2 * np.pi)), rng.uniform(-spread, spread)
                turned = item.footprints[rest].moved(yaw, np.zeros(2))
                shift = target - turned.centre()
                there = turned.moved(0.0, shift)
                if all(apart(there, other, between) for other in prints):
                    prints.append(there)
                    z = item.heights_m[rest] + 0.0003
                    poses[item.slot] = rigid(rot_z(yaw) @ item.rests[rest], [*shift, z])
                    self._move(str(item.slot), poses[item.slot])
                    break
        return poses, prints

    def _strew_clutter(self, rng: np.random.Generator, prints: list[Footprint]) -> None:
        shown = int(rng.integers(0, CLUTTER + 1)) if rng.random() < 0.65 else 0
        for i in range(shown):
            geom, at = self.model.geom(f"clutter{i}"), rng.uniform(-0.5, 0.5, 2)
            around = at + self.clutter_radius[i] * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
            if any(hull_gap(around, hull) < 0.004 for there in prints for hull in there.hulls):
                continue
            half_height = geom.size[1] if geom.type == mujoco.mjtGeom.mjGEOM_CYLINDER else geom.size[2]
            self._move(f"clutter{i}", rigid(rot_z(rng.uniform(0, 2 * np.pi)), [*at, half_height]))

    def _draw_lights(self, rng: np.random.Generator) -> None:
        model, lit = self.model, int(rng.integers(1, LIGHTS + 1))
        model.vis.headlight.ambient[:] = rng.uniform(0.2, 0.45)
        model.vis.headlight.diffuse[:] = rng.uniform(0, 0.4)
        for i in range(LIGHTS):
            azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.5)
            model.light_dir[i] = -_direction(azimuth, elevation)
            model.light_pos[i] = -model.light_dir[i] * 2
            tint = 1 + rng.normal(0, 0.06, 3)
            model.light_diffuse[i] = rng.uniform(0.25, 0.8) * tint * (i < lit) / np.sqrt(lit)
            model.light_specular[i] = rng.uniform(0, 0.5) * (i < lit)

    def _draw_camera(self, rng: np.random.Generator, poses: list[Array]) -> tuple[float, Array]:
        tops = np.array([T[:3, 3] for T in poses]).reshape(-1, 3)
        while True:
            fovy = float(rng.uniform(36, 60))
            target = np.array([*rng.uniform(-0.1, 0.1, 2), 0.03])
            elevation, distance = np.deg2rad(rng.uniform(25, 85)), rng.uniform(0.45, 1.15)
            eye = target + distance * _direction(rng.uniform(0, 2 * np.pi), elevation)
            if HEIGHT / 2 / np.tan(np.deg2rad(fovy) / 2) / distance < LEAST_PX_PER_M:
                continue
            if len(tops) == 0 or np.linalg.norm(tops - eye, axis=1).min() > 0.28:  # not inside an object
                break
        T = look_at(eye, target)
        T[:3, :3] = T[:3, :3] @ rot_z(rng.normal(0, 0.08))
        self.model.cam_pos[0], self.model.cam_fovy[0] = eye, fovy
        self.model.cam_quat[0] = quaternion(T[:3, :3] @ np.diag([1.0, -1.0, -1.0]))
        return fovy, T


def _direction(azimuth_rad: float, elevation_rad: float) -> Array:
    flat = np.cos(elevation_rad)
    return np.array([np.cos(azimuth_rad) * flat, np.sin(azimuth_rad) * flat, np.sin(elevation_rad)])


def plane_camera(T_base_camera: Array) -> Array:
    """(4,) n, d of the table z = 0 in the camera frame: n . p + d = height above the table."""
    return np.array([*T_base_camera[2, :3], T_base_camera[2, 3]])
