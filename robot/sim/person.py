"""A person, as far as a hand-over needs one: takes hold of what is held out, pulls, and keeps it when it is let go."""

from __future__ import annotations

from collections.abc import Mapping

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from affordagent.core.geometry import Array
from affordagent.robot.sim.contacts import PhaseLog

REACTION_S = 1.0  # from when it is held out until the pull begins
PULL_N, PULL_RATE_N_S = 12.0, 15.0
STIFFNESS_1_S = 18.0  # of the person's own grip: the frequency of a critically damped spring
GRAVITY_M_S2 = 9.81
OFFERS = "offer"  # phases of this name, or with a number after it, hold something out
FLOOR_M = np.array([-3.0, -2.0, -0.6])  # where it lies that they have taken away
AFTER = ("let_go", "back_off", "rest")


class Person:
    """Acts on a running model by outside forces on the object. towards: (3,) unit, base frame, the way they pull."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, towards: Array) -> None:
        self._model, self._data, self._towards = model, data, towards
        self._body: int | None = None
        self._since_s = 0.0
        self._at: tuple[Array, Array] | None = None  # where they hold it: position, rotation (3, 3)

    def leave(self) -> None:
        """Let go of everything."""
        if self._body is not None:
            self._data.xfrc_applied[self._body] = 0.0
        self._body, self._at = None, None

    def take_away(self) -> None:
        """What they have taken leaves the table: it lies on the floor, out of everybody's view."""
        if self._body is None or self._at is None:
            return
        model, data, joint = self._model, self._data, self._model.body_jntadr[self._body]
        at, speed = model.jnt_qposadr[joint], model.jnt_dofadr[joint]
        data.qpos[at : at + 3] = FLOOR_M + 0.3 * self._body * np.array([0.0, 1.0, 0.0])
        data.qvel[speed : speed + 6] = 0.0
        self.leave()
        mujoco.mj_forward(model, data)

    def act(self, phase: str, log: Mapping[str, PhaseLog]) -> None:
        """Before a physics step of `phase`."""
        if phase.startswith(OFFERS):
            self._pull(log)
        elif phase in AFTER and self._body is not None:
            self._keep(self._body)

    def _pull(self, log: Mapping[str, PhaseLog]) -> None:
        if self._body is None:
            held = _held(log)
            if held is None:
                return
            self._body, self._since_s = self._model.body(held).id, float(self._data.time)
        pulled_s = float(self._data.time) - self._since_s - REACTION_S
        force_n = float(np.clip(PULL_RATE_N_S * pulled_s, 0.0, PULL_N))
        self._data.xfrc_applied[self._body, :3] = force_n * self._towards

    def _keep(self, body: int) -> None:
        """A stiff, critically damped spring to where it was when it was let go, and its weight."""
        data, model = self._data, self._model
        position, R = data.xipos[body], data.xmat[body].reshape(3, 3)
        if self._at is None:
            self._at = position.copy(), R.copy()
        velocity = np.zeros(6)
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_BODY, body, velocity, 0)  # angular, then linear
        axes = data.ximat[body].reshape(3, 3)
        inertia = axes @ np.diag(model.body_inertia[body]) @ axes.T
        turn = Rotation.from_matrix(self._at[1] @ R.T).as_rotvec()
        w = STIFFNESS_1_S
        spring = w * w * (self._at[0] - position) - 2 * w * velocity[3:]
        data.xfrc_applied[body, :3] = float(model.body_mass[body]) * (spring + [0.0, 0.0, GRAVITY_M_S2])
        data.xfrc_applied[body, 3:] = inertia @ (w * w * turn - 2 * w * velocity[:3])


def _held(log: Mapping[str, PhaseLog]) -> str | None:
    """The object that the pads touched last."""
    for phase in ("carry", "hold", "close"):
        if phase in log and log[phase].pads_n:
            return max(log[phase].pads_n, key=lambda part: log[phase].pads_n[part])[0]
    return None
