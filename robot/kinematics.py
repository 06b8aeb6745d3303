"""Where the tcp is for given joints, and which joints bring it to a given pose.

The inverse takes the arm's closed form (package `ur-analytic-ik`) and finishes with Newton steps on the MuJoCo model,
whose link lengths are rounded.
"""

from __future__ import annotations

from functools import cache

import mujoco
import numpy as np

from affordagent.core.geometry import Array, invert, rigid, with_exact_rotation
from affordagent.robot.arms import ARMS, ArmName
from affordagent.robot.chain import Chain, read_chain, smallest_singular_values
from affordagent.robot.model import (
    GRIPPER_PREFIX,
    JOINT_NAMES,
    PREFIX,
    TCP_SITE,
    VISUAL_GROUP,
    attach_arm,
    openings_of_drivers,
    set_fingers,
)

TABLE = "table"
POSE_TOLERANCE = 1e-5  # metres and radians together
JOINT_LIMIT_RAD = np.array([2, 2, 1, 2, 2, 2]) * np.pi
_ROUNDING_RAD = 1e-9  # a joint so near its limit is at it
TABLE_MARGIN_M = 0.05  # gaps to the table are reported from here on


@cache
def planning_model(arm: ArmName) -> mujoco.MjModel:
    """The arm without visual meshes, above a movable plane: enough for kinematics, self and table collisions."""
    spec = mujoco.MjSpec()
    table = spec.worldbody.add_body(name=TABLE, mocap=True)
    table.add_geom(
        name=TABLE,
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[3, 3, 0.1],
        contype=1,
        conaffinity=3,
        margin=TABLE_MARGIN_M,
    )
    attach_arm(spec, model=arm)
    for geom in list(spec.geoms):
        if geom.group == VISUAL_GROUP:
            spec.delete(geom)
        elif geom.name != TABLE:  # the gripper's own parts touch each other by design
            gripper = geom.parent.name.startswith(PREFIX + GRIPPER_PREFIX)
            geom.contype, geom.conaffinity = (2, 1) if gripper else (1, 3)
    used = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes):
        if mesh.name not in used:
            spec.delete(mesh)
    spec.add_exclude(bodyname1=f"{PREFIX}shoulder_link", bodyname2=TABLE)
    return spec.compile()


@cache
def _drivers_of(arm: ArmName) -> tuple[Array, Array]:
    return openings_of_drivers(planning_model(arm))


@cache
def chain_of(arm: ArmName) -> Chain:
    """The joints of an arm as a chain, shared by all who ask."""
    return read_chain(planning_model(arm))


class ArmKinematics:
    """Forward and inverse kinematics. Not thread-safe: each instance has its own `data`, the model is shared.

    chain: the same for many postures at once. max_reach_m: of the wrist centre from the shoulder.
    """

    def __init__(self, arm: ArmName = "UR5e") -> None:
        self.arm, self.model = arm, planning_model(arm)
        self._facts = ARMS[arm]
        self.max_reach_m = float(-sum(self._facts.a_m) + self._facts.d_m[4])
        self.data = mujoco.MjData(self.model)
        self._site = self.model.site(TCP_SITE).id
        self._table = self.model.geom(TABLE).id
        self._q = np.array([self.model.joint(name).qposadr[0] for name in JOINT_NAMES])
        self._v = np.array([self.model.joint(name).dofadr[0] for name in JOINT_NAMES])
        self._jacobian = np.zeros((6, self.model.nv))
        self._flange = self.model.site(f"{PREFIX}attachment_site").id
        mujoco.mj_kinematics(self.model, self.data)
        self._T_tcp_flange = invert(self._pose(self._site)) @ self._pose(self._flange)
        self._driver_of_opening = _drivers_of(arm)
        self.chain = chain_of(arm)

    def _pose(self, site: int) -> Array:
        return rigid(self.data.site_xmat[site].reshape(3, 3), self.data.site_xpos[site])

    def set_opening(self, opening_m: float) -> None:
        """Spread the fingers of the model."""
        set_fingers(self.model, self.data, float(np.interp(opening_m, *self._driver_of_opening)))

    def forward(self, q: Array) -> Array:
        """(6,) rad -> T_base_tcp."""
        self.data.qpos[self._q] = q
        mujoco.mj_kinematics(self.model, self.data)
        return self._pose(self._site)

    def tcp_pose(self) -> Array:
        """T_base_tcp of the posture of the last `forward`."""
        return self._pose(self._site)

    def set_table(self, table_z_m: float) -> None:
        """Move the support plane of the model."""
        self.data.mocap_pos[0] = [0, 0, table_z_m]

    def gaps_m(self) -> tuple[float, float]:
        """(to the support plane, between links) of the posture of the last `forward`: the least gap, negative inside,
        infinite where nothing is near."""
        mujoco.mj_collision(self.model, self.data)
        if self.data.ncon == 0:
            return np.inf, np.inf
        distance = self.data.contact.dist
        table = (self.data.contact.geom == self._table).any(axis=1)
        return float(distance[table].min(initial=np.inf)), float(distance[~table].min(initial=np.inf))

    def jacobian(self, q: Array) -> Array:
        """(6, 6) velocity of the tcp (linear m/s, then angular rad/s, base frame) by joint rate."""
        self.forward(q)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_jacSite(self.model, self.data, self._jacobian[:3], self._jacobian[3:], self._site)
        return self._jacobian[:, self._v]

    def manipulability(self, q: Array) -> float:
        """Smallest singular value of the jacobian, linear part in units of 0.5 m: 0 at a singularity, about 0.3 in
        front of the robot."""
        return float(smallest_singular_values(self.jacobian(q)))

    def refine(self, T_base_tcp: Array, q: Array, steps: int = 6) -> Array | None:
        """Newton steps from nearby joints to a pose; None when they do not get there."""
        q = np.array(q, float)
        for _ in range(steps):
            J = self.jacobian(q)
            T = self._pose(self._site)
            dR = T_base_tcp[:3, :3] @ T[:3, :3].T
            turn = np.array([dR[2, 1] - dR[1, 2], dR[0, 2] - dR[2, 0], dR[1, 0] - dR[0, 1]]) / 2
            error = np.r_[T_base_tcp[:3, 3] - T[:3, 3], turn]
            if np.linalg.norm(error) < POSE_TOLERANCE and np.trace(dR) > 1:
                return q
            q = q + J.T @ np.linalg.solve(J @ J.T + 1e-9 * np.eye(6), error)
        return None

    def inverse(self, T_base_tcp: Array, near_q: Array) -> list[Array]:
        """All joint solutions within the limits (each the turn nearest to `near_q`), nearest first; [] out of reach.

        The closed form drops every branch of a rotation that is off by 1e-8, as those of float32 networks are, so it is
        asked for the nearest exact one.
        """
        import ur_analytic_ik

        closed_form = getattr(ur_analytic_ik, self.arm.lower())
        exact = with_exact_rotation(T_base_tcp)
        found: list[Array] = []
        for branch in closed_form.inverse_kinematics(np.ascontiguousarray(exact @ self._T_tcp_flange)):
            q = self.refine(T_base_tcp, unwrap(np.asarray(branch).ravel(), near_q))
            if q is not None and within_limits(q) and not any(np.abs(q - other).max() < 1e-3 for other in found):
                found.append(q)
        return sorted(found, key=lambda q: float(np.linalg.norm(q - near_q)))

    def reach_m(self, T_base_tcp: Array) -> float:
        """Distance of the wrist centre from the shoulder that a pose asks for; the arm has `max_reach_m`."""
        shoulder = self.model.body(f"{PREFIX}shoulder_link").pos
        T_base_flange = T_base_tcp @ self._T_tcp_flange
        return float(np.linalg.norm((T_base_flange @ [0, 0, -self._facts.d_m[5], 1])[:3] - shoulder))


def unwrap(q: Array, near_q: Array) -> Array:
    """The same joint angles, each by whole turns as near to `near_q` as the joint limits allow."""
    q = near_q + (q - near_q + np.pi) % (2 * np.pi) - np.pi
    q = np.where(np.abs(q) > JOINT_LIMIT_RAD + _ROUNDING_RAD, q - 2 * np.pi * np.sign(q), q)
    return np.where(np.abs(np.abs(q) - JOINT_LIMIT_RAD) < _ROUNDING_RAD, JOINT_LIMIT_RAD * np.sign(q), q)


def within_limits(q: Array) -> bool:
    return bool((np.abs(q) <= JOINT_LIMIT_RAD).all())
