"""Household objects as MuJoCo bodies. Geoms are named "<object>/<part>/vis<i>" and "<object>/<part>/col<i>", so that
one segmentation render yields instance and part masks and a contact tells the part that was touched."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from affordagent.core.geometry import Array
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.textures import add_material, grain_image, print_image, skin_image

PRINTS = 4
PRINT_SHARE = {"box": 0.9, "bottle": 0.7, "can": 0.9, "mug": 0.4, "cup": 0.4, "bowl": 0.25}  # of the rest: 0.04
GLOSS = {  # specular, shininess
    "wood": (0.1, 0.1),
    "steel": (0.7, 0.6),
    "ceramic": (0.6, 0.7),
    "iron": (0.3, 0.3),
    "plastic": (0.35, 0.4),
    "rubber": (0.08, 0.1),
    "paper": (0.05, 0.1),
    "skin": (0.2, 0.3),
}
_SPRING_DAMPING_N_S_M = 5.0
OBJECT_FRICTION = (0.8, 0.005, 0.001)  # sliding, torsional (m), rolling (m); the pads override it by priority
GEOM_TYPES = {
    "box": mujoco.mjtGeom.mjGEOM_BOX,
    "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
    "capsule": mujoco.mjtGeom.mjGEOM_CAPSULE,
    "sphere": mujoco.mjtGeom.mjGEOM_SPHERE,
    "ellipsoid": mujoco.mjtGeom.mjGEOM_ELLIPSOID,
}
VISUAL_GROUP, COLLIDER_GROUP = 2, 3  # MuJoCo renders groups 0 to 2


def quaternion(R: Array) -> Array:
    """(4,) w, x, y, z of a (3, 3) rotation."""
    q = np.zeros(4)
    mujoco.mju_mat2Quat(q, np.ascontiguousarray(R, np.float64).ravel())
    return q


def add_object_materials(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """The materials `add_visuals` refers to: one for each `Material`, wood grain and skin, and PRINTS labels."""
    for name, (specular, shininess) in GLOSS.items():
        k = rng.uniform(0.5, 1.4)
        image = skin_image(rng) if name == "skin" else None
        add_material(spec, name, image, cube=True, specular=specular * k, shininess=min(1.0, shininess * k))
    add_material(spec, "grain", grain_image(rng), cube=True, specular=0.1, shininess=0.1)
    for i in range(PRINTS):
        add_material(spec, f"print{i}", print_image(rng), cube=True, specular=0.3, shininess=0.4)


def add_visuals(
    spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, obj: HouseholdObject, rng: np.random.Generator
) -> None:
    """The object's labelled meshes on `body`: no contacts, no mass."""
    printed = rng.random() < PRINT_SHARE.get(obj.category, 0.04)
    label, grained = f"print{rng.integers(PRINTS)}", rng.random() < 0.7
    for i, visual in enumerate(obj.visuals):
        mesh_name = f"{name}/{visual.part}/mesh{i}"
        spec.add_mesh(
            name=mesh_name,
            uservert=np.asarray(visual.mesh.vertices, np.float32).ravel(),
            userface=np.asarray(visual.mesh.faces, np.int32).ravel(),
            inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
        )
        material: str = visual.material
        if printed and i == 0 and material in ("paper", "plastic", "ceramic", "steel"):
            material = label
        elif material == "wood" and grained:
            material = "grain"
        body.add_geom(
            name=f"{name}/{visual.part}/vis{i}",
            type=mujoco.mjtGeom.mjGEOM_MESH,
            meshname=mesh_name,
            rgba=visual.rgba,
            material=material,
            contype=0,
            conaffinity=0,
            group=VISUAL_GROUP,
            mass=0,
        )


def add_colliders(body: mujoco.MjsBody, name: str, obj: HouseholdObject) -> None:
    """The object's colliders and mass on `body`, invisible."""
    for i, collider in enumerate(obj.colliders):
        T = collider.T_object_collider
        body.add_geom(
            name=f"{name}/{collider.part}/col{i}",
            type=GEOM_TYPES[collider.kind],
            size=[*collider.size, *[0.0] * (3 - len(collider.size))],
            pos=T[:3, 3],
            quat=quaternion(T[:3, :3]),
            mass=collider.mass_kg,
            condim=6,
            friction=OBJECT_FRICTION,
            group=COLLIDER_GROUP,
        )


def press_joint(name: str, part: str) -> str:
    """The joint of a part that gives way, in metres: 0 at rest, negative when pressed."""
    return f"{name}/{part}/press"


def add_object(
    spec: mujoco.MjSpec, name: str, obj: HouseholdObject, T_base_object: Array, rng: np.random.Generator
) -> None:
    """The object as a body of its own: loose, or standing fast with the parts that can be pressed."""
    body = spec.worldbody.add_body(name=name, pos=T_base_object[:3, 3], quat=quaternion(T_base_object[:3, :3]))
    if not obj.fixed:
        body.add_freejoint(name=f"{name}/free")
    rest = obj.only([part for part in obj.parts if part not in obj.springs]) if obj.springs else obj
    add_visuals(spec, body, name, rest, rng)
    add_colliders(body, name, rest)
    for part, spring in obj.springs.items():
        pressed = body.add_body(name=f"{name}/{part}")
        pressed.add_joint(
            name=press_joint(name, part),
            type=mujoco.mjtJoint.mjJNT_SLIDE,
            axis=[0, 0, 1],
            limited=mujoco.mjtLimited.mjLIMITED_TRUE,
            range=[-spring.travel_m, 0],
            stiffness=[spring.stiffness_n_m, 0, 0],
            damping=[_SPRING_DAMPING_N_S_M, 0, 0],
        )
        add_visuals(spec, pressed, name, obj.only([part]), rng)
        add_colliders(pressed, name, obj.only([part]))


def split_name(geom_name: str) -> tuple[str, str] | None:
    """(object, part) of an object's geom name, None for all other geoms."""
    fields = geom_name.split("/")
    if len(fields) == 3 and fields[2].startswith(("vis", "col")):
        return fields[0], fields[1]
    return None


def geom_parts(model: mujoco.MjModel) -> dict[int, tuple[str, str]]:
    """Geom id -> (object name, part name) for all geoms of household objects."""
    named = {i: split_name(model.geom(i).name) for i in range(model.ngeom)}
    return {i: name for i, name in named.items() if name is not None}


def table_of(model: mujoco.MjModel, values: dict[int, int], default: int, dtype: type = np.uint8) -> NDArray[np.uint8]:
    """(ngeom + 1,) look-up table by geom id; index -1 (no geom) gives `default`."""
    table = np.full(model.ngeom + 1, default, dtype)
    for geom, value in values.items():
        table[geom] = value
    return table
