"""The simulated cell behind the emulated controller: an arm with a 2F-85 in MuJoCo, and the objects of a scene.

Physics, servos and friction are those of `robot.sim`: the same motion through the controller should end as the
simulated arm's does. Nothing is drawn here, since drawing would hold up the controller's tick: `snapshot` gives the
state to whoever wants a picture of it (`robot.cameras.emulated`).
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from affordagent.core.errors import AffordAgentError
from affordagent.core.geometry import Array
from affordagent.robot.arms import ArmName
from affordagent.robot.emulator.plant_interface import Fingers
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.model import GRIPPER_PREFIX, PREFIX, TIMESTEP_S
from affordagent.robot.sim.contacts import ContactLog
from affordagent.robot.sim.joints import RobotJoints, settle
from affordagent.robot.sim.scene import Scene, build_spec, sample_scene

FULL_GRIP_N = 44.0  # a pad presses so hard when the model's fingers close with all they have
FORCE_FILTER_HZ = 10.0
_SAME_M = 0.0005
_REST_S = 0.1  # fingers that have stayed within _TREMBLE_M for so long have arrived
_TREMBLE_M = 0.0002
OPS = ("scene", "snapshot", "phase", "log", "pull")


class ScenePlant:
    """`robot.emulator.plant_interface.Plant` on a simulated scene. The base frame is MuJoCo's world.

    Raises:
        AffordAgentError: no such scene.
    """

    def __init__(self, scene: str = "empty", seed: int = 0, arm: ArmName = "UR5e") -> None:
        self._arm = arm
        self._load(sample_scene(scene, seed))

    def _load(self, scene: Scene) -> None:
        self._scene = scene
        self._model = build_spec(scene, arm=self._arm).compile()
        self._data = mujoco.MjData(self._model)
        self._joints = RobotJoints(self._model, self._data)
        self._contacts = ContactLog(self._model, self._data)
        prefix = PREFIX + GRIPPER_PREFIX
        bodies = [self._model.body(body).name for body in self._model.geom_bodyid]
        self._of_gripper = np.array([name.startswith(prefix) for name in bodies])
        self._begin()

    def _begin(self) -> None:
        """The objects rest on the table, the arm waits at LOOK_Q with open fingers, nothing is logged yet."""
        settle(self._model, self._data, LOOK_Q)
        self._joints.limit_grip(1.0)
        self._contacts.clear()
        self._phase: str | None = None
        self._opening_set_m = self._opening_goal_m = self._rested_at_m = self._joints.opening_m
        self._finger_speed_m_s = 0.0
        self._resting_s, self._moving = 0.0, False
        self._force_n = np.zeros(3)

    @property
    def q(self) -> Array:
        return self._joints.q

    @property
    def qd(self) -> Array:
        return self._joints.qd

    @property
    def fingers(self) -> Fingers:
        return Fingers(self._joints.opening_m, self._moving)

    @property
    def tcp_force_n(self) -> Array:
        """(3,) N, base frame: an estimate, as the controller's own is. All contact forces on the gripper, the weight of
        what it holds among them, without its own weight, low-passed at FORCE_FILTER_HZ (our guess: Universal Robots
        publishes no filter)."""
        return self._force_n.copy()

    @property
    def scene(self) -> dict[str, Any] | None:
        return {"name": self._scene.name, "seed": self._scene.seed}

    def step(self, q_cmd: Array, qd_cmd: Array, dt_s: float) -> None:
        self._joints.servo(q_cmd, qd_cmd)
        for _ in range(round(dt_s / TIMESTEP_S)):
            self._move_fingers()
            mujoco.mj_step(self._model, self._data)
            if self._phase is not None:
                self._contacts.log(self._phase)
            self._watch_fingers()
        share = 1.0 - np.exp(-2 * np.pi * FORCE_FILTER_HZ * dt_s)
        self._force_n += share * (self._gripper_force_n() - self._force_n)

    def _move_fingers(self) -> None:
        """The set-point runs to the goal at the commanded speed."""
        left_m = self._opening_goal_m - self._opening_set_m
        if left_m:
            most_m = self._finger_speed_m_s * TIMESTEP_S
            self._opening_set_m += float(np.clip(left_m, -most_m, most_m))
            self._joints.set_fingers(self._opening_set_m)

    def _watch_fingers(self) -> None:
        """By their place, as a real gripper's encoder does: on a springy object they tremble at rest."""
        opening_m = self._joints.opening_m
        if abs(opening_m - self._rested_at_m) > _TREMBLE_M:
            self._rested_at_m, self._resting_s = opening_m, 0.0
        else:
            self._resting_s += TIMESTEP_S
            self._moving = self._moving and self._resting_s < _REST_S

    def _gripper_force_n(self) -> Array:
        """(3,) sum of the contact forces on the gripper."""
        total, count = np.zeros(3), self._data.ncon
        if not count:
            return total
        on_gripper = self._of_gripper[self._data.contact.geom[:count]]
        for i in np.flatnonzero(on_gripper[:, 0] != on_gripper[:, 1]):
            force = np.zeros(6)
            mujoco.mj_contactForce(self._model, self._data, i, force)
            # rows of the frame: the normal from the first geom to the second, and two tangents
            on_second = force[:3] @ self._data.contact.frame[i].reshape(3, 3)
            total += on_second if on_gripper[i, 1] else -on_second
        return total

    def drive_fingers(self, opening_m: float, force_n: float, speed_m_s: float) -> None:
        actual_m = self._joints.opening_m
        presses = self._opening_set_m < actual_m - _SAME_M and not self._moving
        if abs(opening_m - actual_m) < _SAME_M and presses:
            return  # told to stay: the drive locks itself, what is held stays held
        self._opening_goal_m, self._finger_speed_m_s = max(opening_m, 0.0), speed_m_s
        opens = self._opening_goal_m > actual_m
        self._opening_set_m = actual_m if opens else min(self._opening_set_m, actual_m)  # a grip is not loosened
        self._joints.limit_grip(min(force_n / FULL_GRIP_N, 1.0))
        self._rested_at_m, self._resting_s, self._moving = actual_m, 0.0, True

    def place(self, q: Array) -> None:
        self._joints.put(q)
        mujoco.mj_forward(self._model, self._data)

    def answer(self, op: str, request: dict[str, Any]) -> dict[str, Any]:
        """scene {name, seed}: build it (seconds, the controller stands still), or begin again when it is the one there
        is. snapshot: the state. phase {name}: contacts are logged under that name from now on. log: by phase.
        """
        match op:
            case "scene":
                return self._change(str(request.get("name", "")), request.get("seed", 0))
            case "snapshot":
                return {"scene": self.scene, "arm": self._arm, "qpos": self._data.qpos.tolist()}
            case "phase":
                return self._enter(request.get("name"))
            case "log":
                self._end_phase()
                return {"log": {name: log.as_json() for name, log in self._contacts.phases.items()}}
            case "pull":
                return self._pull(request.get("object"), request.get("force_n"))
        raise ValueError(f"the simulated plant does not know {op!r}, it knows {', '.join(OPS)}")

    def _change(self, name: str, seed: object) -> dict[str, Any]:
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed = {seed!r}, must be a whole number from 0")
        if (name, seed) == (self._scene.name, self._scene.seed):
            self._begin()
        else:
            try:
                self._load(sample_scene(name, seed))
            except AffordAgentError as error:
                raise ValueError(str(error)) from error
        return {"scene": self.scene}

    def _pull(self, name: object, force_n: object) -> dict[str, Any]:
        if name not in [thing.name for thing in self._scene.objects]:
            raise ValueError(f"object = {name!r}, the scene {self._scene.name} has no such thing")
        body = self._model.body(str(name)).id
        self._data.xfrc_applied[body, :3] = np.array(force_n, float).reshape(3)
        return {"object": name}

    def _enter(self, name: object) -> dict[str, Any]:
        if not isinstance(name, str) or not name:
            raise ValueError(f"name = {name!r}, must be a phase's name")
        self._end_phase()
        self._phase = name
        return {"phase": name}

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._contacts.mark(self._phase)
