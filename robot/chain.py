"""The six joints as a chain of transforms, for many postures at once. Pure numpy, safe in any thread."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from affordagent.core.geometry import Array, invert, rigid
from affordagent.robot.model import JOINT_NAMES, TCP_SITE


@dataclass(frozen=True)
class Chain:
    """T_parent_link: (6, 4, 4) of each link at joint angle 0, the first in the base frame. axis: (6, 3) of each joint
    in its link's frame. T_wrist_tcp: (4, 4). joint_bodies: (6,) their ids in the MuJoCo model."""

    T_parent_link: Array
    axis: Array
    T_wrist_tcp: Array
    joint_bodies: tuple[int, ...]

    def links(self, q: Array) -> Array:
        """(K, 6) rad -> (K, 6, 4, 4) T_base_link."""
        T = np.broadcast_to(np.eye(4), (len(q), 4, 4))
        found = np.empty((len(q), 6, 4, 4))
        for j in range(6):
            T = T @ self.T_parent_link[j] @ _turned(self.axis[j], q[:, j])
            found[:, j] = T
        return found

    def tcp(self, T_base_link: Array) -> Array:
        """(K, 6, 4, 4) of `links` -> (K, 4, 4) T_base_tcp."""
        return T_base_link[:, 5] @ self.T_wrist_tcp

    def jacobians(self, T_base_link: Array) -> Array:
        """(K, 6, 4, 4) of `links` -> (K, 6, 6) velocity of the tcp (linear, then angular, base frame) by joint
        rate."""
        axes = np.einsum("kjab,jb->kja", T_base_link[:, :, :3, :3], self.axis)
        arms = self.tcp(T_base_link)[:, None, :3, 3] - T_base_link[:, :, :3, 3]
        return np.concatenate([np.cross(axes, arms), axes], axis=2).transpose(0, 2, 1)


def read_chain(model: mujoco.MjModel) -> Chain:
    """The chain of the arm that `robot.model.attach_arm` put into a MuJoCo model at the world's origin."""
    data = mujoco.MjData(model)
    joints = [model.joint(name) for name in JOINT_NAMES]
    bodies = tuple(int(joint.bodyid[0]) for joint in joints)
    mujoco.mj_kinematics(model, data)
    poses = [rigid(data.xmat[b].reshape(3, 3), data.xpos[b]) for b in bodies]
    parents = [np.eye(4), *poses[:-1]]
    site = data.site(TCP_SITE)
    T_base_tcp = rigid(site.xmat.reshape(3, 3), site.xpos)
    return Chain(
        T_parent_link=np.stack([invert(parent) @ pose for parent, pose in zip(parents, poses, strict=True)]),
        axis=np.stack([joint.axis for joint in joints]),
        T_wrist_tcp=invert(poses[-1]) @ T_base_tcp,
        joint_bodies=bodies,
    )


def smallest_singular_values(jacobians: Array) -> Array:
    """(..., 6, 6) -> (...,) manipulability: smallest singular value, the linear part in units of 0.5 m."""
    scale = np.array([2, 2, 2, 1, 1, 1.0])
    return np.linalg.svd(jacobians * scale[:, None], compute_uv=False)[..., -1]


def _turned(axis: Array, angles: Array) -> Array:
    """(3,) unit, (K,) rad -> (K, 4, 4) rotations (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    T = np.zeros((len(angles), 4, 4))
    s, c = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    T[:, :3, :3] = np.eye(3) + s * cross + (1 - c) * (cross @ cross)
    T[:, 3, 3] = 1
    return T
