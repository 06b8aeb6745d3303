"""The robot in a running MuJoCo model: its servos and fingers, for the simulated arm and the emulated controller."""

from __future__ import annotations

import mujoco
import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.model import (
    ACTUATOR_NAMES,
    DRIVER_CLOSED_RAD,
    DRIVER_JOINTS,
    GRIPPER_ACTUATOR,
    GRIPPER_CLOSED_CTRL,
    JOINT_NAMES,
    SERVO_LAG_S,
    opening_m,
    openings_of_drivers,
)

SETTLE_S = 0.6
_SETTLE_MOST_S = 3.0
_AT_REST_M_S = 0.01
_FINGERS_AT_REST_RAD_S = 0.02


class Fingers:
    """Reads and drives the 2F-85 of a model, with an arm or without; steps nothing."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        self._model, self._data = model, data
        self._fingers = model.actuator(GRIPPER_ACTUATOR).id
        self._drivers = np.array([model.joint(name).dofadr[0] for name in DRIVER_JOINTS])
        self._openings = openings_of_drivers(model)
        self._full_force = float(model.actuator_forcerange[self._fingers, 1])

    @property
    def opening_m(self) -> float:
        return opening_m(self._model, self._data)

    @property
    def fingers_rest(self) -> bool:
        return bool(np.abs(self._data.qvel[self._drivers]).max() < _FINGERS_AT_REST_RAD_S)

    def set_fingers(self, width_m: float) -> None:
        """Set-point of the fingers; 0 = close on whatever is there."""
        driver_rad = self.driver_rad(width_m) if width_m > 0 else DRIVER_CLOSED_RAD
        self._data.ctrl[self._fingers] = GRIPPER_CLOSED_CTRL * driver_rad / DRIVER_CLOSED_RAD

    def driver_rad(self, width_m: float) -> float:
        """The drivers' angle at an opening."""
        return float(np.interp(width_m, *self._openings))

    def limit_grip(self, share: float) -> None:
        """Close with this share (0 to 1) of the fingers' full force from now on."""
        self._model.actuator_forcerange[self._fingers, 1] = share * self._full_force


class RobotJoints(Fingers):
    """Reads and drives the robot of a model that `robot.model.attach_arm` put there; steps nothing."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        super().__init__(model, data)
        self._q = np.array([model.joint(name).qposadr[0] for name in JOINT_NAMES])
        self._qd = np.array([model.joint(name).dofadr[0] for name in JOINT_NAMES])
        self._servos = np.array([model.actuator(name).id for name in ACTUATOR_NAMES])

    @property
    def q(self) -> Array:
        """(6,) rad."""
        return self._data.qpos[self._q].copy()

    @property
    def qd(self) -> Array:
        """(6,) rad/s."""
        return self._data.qvel[self._qd].copy()

    def put(self, q: Array) -> None:
        """The arm is at (6,) `q`, at rest. Poses are stale until `mj_forward`."""
        self._data.qpos[self._q] = q
        self._data.qvel[self._qd] = 0.0
        self._data.ctrl[self._servos] = q

    def servo(self, q: Array, qd: Array) -> None:
        """Set-points (6,) rad and (6,) rad/s; the rate makes up for the servos' lag."""
        self._data.ctrl[self._servos] = q + SERVO_LAG_S * qd

    def hold(self) -> None:
        """The servos hold the arm where it is."""
        self._data.ctrl[self._servos] = self._data.qpos[self._q]


def settle(model: mujoco.MjModel, data: mujoco.MjData, q: Array) -> None:
    """From the model's first state: the arm holds (6,) `q` with open fingers while the objects fall onto the table and
    come to rest."""
    mujoco.mj_resetData(model, data)
    RobotJoints(model, data).put(q)
    let_fall(model, data)


def let_fall(model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Step until the loose objects lie still."""
    mujoco.mj_forward(model, data)
    while data.time < SETTLE_S or (_fastest_m_s(model, data) > _AT_REST_M_S and data.time < _SETTLE_MOST_S):
        mujoco.mj_step(model, data, nstep=25)


def _fastest_m_s(model: mujoco.MjModel, data: mujoco.MjData) -> float:
    """Speed of the fastest loose object."""
    starts = model.jnt_dofadr[model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
    return float(max((np.linalg.norm(data.qvel[s : s + 3]) for s in starts), default=0.0))
