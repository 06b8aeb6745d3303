"""The simulated arm: follows trajectories step by step, logs contacts, and stops when told."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import mujoco
import numpy as np

from affordagent.core.geometry import Array, rigid
from affordagent.core.types import JointTrajectory
from affordagent.robot.interface import ArmState, MotionResult
from affordagent.robot.model import (
    ACTUATOR_NAMES,
    DRIVER_CLOSED_RAD,
    DRIVER_JOINTS,
    GRIPPER_ACTUATOR,
    GRIPPER_CLOSED_CTRL,
    JOINT_NAMES,
    PREFIX,
    SERVO_LAG_S,
    TCP_SITE,
    opening_m,
    openings_of_drivers,
)
from affordagent.robot.sim.bodies import geom_parts

CONTROL_STEPS = 4  # physics steps between two set-points: 8 ms, as on the robot
LOG_STEPS = 5
DWELL_S = 0.15
START_TOLERANCE_RAD = 0.05
GOAL_TOLERANCE_RAD = 0.02
_GRIP_LEAST_S, _GRIP_MOST_S = 0.3, 2.0
_FINGERS_AT_REST_RAD_S = 0.02

Part = tuple[str, str]  # object, part


@dataclass
class PhaseLog:
    """Contacts during one phase, sampled every LOG_STEPS steps. pads_n: summed normal forces of the fingertip pads, by
    part; arm: contacts with any other robot part, by object; table_force_n: the strongest push against table or floor;
    T_base_body: poses of all loose bodies and of the tcp ("tcp") at its end."""

    pads_n: dict[Part, float] = field(default_factory=dict)
    arm: Counter[str] = field(default_factory=Counter)
    samples: int = 0
    samples_with_pads: int = 0
    table_force_n: float = 0.0
    T_base_body: dict[str, Array] = field(default_factory=dict)


class SimArm:
    """`robot.interface.Arm` on a MuJoCo model. The arm stays stopped after `stop` until `reset`.

    on_step: called after every physics step.
    """

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, on_step: Callable[[], None] | None = None) -> None:
        self.model, self.data, self.log = model, data, dict[str, PhaseLog]()
        self._on_step = on_step
        self._stop = threading.Event()
        self._q = np.array([model.joint(name).qposadr[0] for name in JOINT_NAMES])
        self._actuators = np.array([model.actuator(name).id for name in ACTUATOR_NAMES])
        self._gripper = model.actuator(GRIPPER_ACTUATOR).id
        self._drivers = np.array([model.joint(name).dofadr[0] for name in DRIVER_JOINTS])
        self._openings = openings_of_drivers(model)
        self._parts = geom_parts(model)
        bodies = [model.body(body).name for body in model.geom_bodyid]
        self._is_robot = np.array([name.startswith(PREFIX) for name in bodies])
        self._is_pad = np.array([r and model.geom(i).name[-4:-1] == "pad" for i, r in enumerate(self._is_robot)])
        self._free_bodies = [
            model.body(model.jnt_bodyid[j]).name
            for j in range(model.njnt)
            if model.jnt_type[j] == mujoco.mjtJoint.mjJNT_FREE
        ]

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def make_ready(self) -> list[str]:
        """Forget a stop and the logs; nothing in the simulator needs mending."""
        self.resume()
        return []

    def reset(self, q: Array) -> None:
        """Put the arm at `q` with open fingers, forget stops and logs. Poses are stale until `mj_forward`."""
        self.resume()
        self.data.qpos[self._q] = q
        self.data.ctrl[self._actuators] = q
        self.data.ctrl[self._gripper] = 0.0

    def resume(self) -> None:
        """Forget stops and logs, keep the state."""
        self._stop.clear()
        self.log.clear()

    def read(self) -> ArmState:
        return ArmState(self.data.qpos[self._q].copy(), opening_m(self.model, self.data), float(self.data.time))

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        """Track the trajectory, feeding the servos' lag forward, and dwell until the arm has caught up."""
        if self.stopped:
            return self._result(trajectory.positions[-1])
        off = float(np.abs(self.data.qpos[self._q] - trajectory.positions[0]).max())
        if off > START_TOLERANCE_RAD:
            message = f"the motion starts {off:.3f} rad from the arm, limit {START_TOLERANCE_RAD}: plan from there"
            return MotionResult(False, self.read(), off, "execution.start_mismatch", message)
        dt = CONTROL_STEPS * self.model.opt.timestep
        times = np.append(np.arange(0.0, trajectory.duration_s, dt)[1:], trajectory.duration_s)
        q = np.stack([np.interp(times, trajectory.times_s, joint) for joint in trajectory.positions.T], axis=1)
        rates = np.gradient(q, times, axis=0) if len(times) > 1 else np.zeros_like(q)
        rates[-1] = 0.0
        for position, rate in zip(q, rates, strict=True):
            self.data.ctrl[self._actuators] = position + SERVO_LAG_S * rate
            self._step(CONTROL_STEPS, phase)
            if self.stopped:
                break
        else:
            self._step(round(DWELL_S / self.model.opt.timestep), phase)
        self._mark(phase)
        return self._result(trajectory.positions[-1])

    def _result(self, goal: Array) -> MotionResult:
        state = self.read()
        error = float(np.abs(state.positions - goal).max())
        if self.stopped:
            return self._stopped(state, error)
        if error > GOAL_TOLERANCE_RAD:
            message = f"ended {error:.3f} rad from the goal, limit {GOAL_TOLERANCE_RAD}: something holds the arm"
            return MotionResult(False, state, error, "execution.tracking", message)
        return MotionResult(True, state, error)

    @staticmethod
    def _stopped(state: ArmState, error_rad: float = 0.0) -> MotionResult:
        return MotionResult(False, state, error_rad, "execution.stopped", "stopped on request")

    def grip(self, width_m: float, phase: str) -> MotionResult:
        """Drive the fingers until they rest: at `width_m`, or on what is between them; 0 = close with full force."""
        if self.stopped:
            return self._stopped(self.read())
        driver_rad = float(np.interp(width_m, *self._openings)) if width_m > 0 else DRIVER_CLOSED_RAD
        self.data.ctrl[self._gripper] = GRIPPER_CLOSED_CTRL * driver_rad / DRIVER_CLOSED_RAD
        start, chunk = self.data.time, 0.1
        while not self.stopped and self.data.time - start < _GRIP_MOST_S:
            self._step(round(chunk / self.model.opt.timestep), phase)
            resting = np.abs(self.data.qvel[self._drivers]).max() < _FINGERS_AT_REST_RAD_S
            if resting and self.data.time - start >= _GRIP_LEAST_S:
                break
        self._mark(phase)
        return self._stopped(self.read()) if self.stopped else MotionResult(True, self.read())

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        self._step(round(duration_s / self.model.opt.timestep), phase)
        self._mark(phase)
        return self._stopped(self.read()) if self.stopped else MotionResult(True, self.read())

    def stop(self) -> None:
        """From any thread: the motion under way ends within the next step and the arm holds its place."""
        self._stop.set()

    def _step(self, count: int, phase: str) -> None:
        log = self.log.setdefault(phase, PhaseLog())
        for k in range(count):
            if self.stopped:
                self.data.ctrl[self._actuators] = self.data.qpos[self._q]
                return
            mujoco.mj_step(self.model, self.data)
            if k % LOG_STEPS == 0:
                self._log_contacts(log)
            if self._on_step is not None:
                self._on_step()

    def _log_contacts(self, log: PhaseLog) -> None:
        log.samples += 1
        count, held = self.data.ncon, False
        if not count:
            return
        geoms = self.data.contact.geom[:count]
        first, second = self._is_robot[geoms[:, 0]], self._is_robot[geoms[:, 1]]
        for i in np.flatnonzero(first != second):
            robot, other = geoms[i] if first[i] else geoms[i][::-1]
            part = self._parts.get(int(other))
            force = np.zeros(6)
            mujoco.mj_contactForce(self.model, self.data, i, force)
            if part is None:
                log.table_force_n = max(log.table_force_n, float(force[0]))
            elif self._is_pad[robot]:
                log.pads_n[part] = log.pads_n.get(part, 0.0) + float(force[0])
                held = True
            else:
                log.arm[part[0]] += 1
        log.samples_with_pads += held

    def poses(self) -> dict[str, Array]:
        """T_base_body of every loose body, and of the tcp as "tcp"."""
        mujoco.mj_kinematics(self.model, self.data)
        found = {}
        for name in self._free_bodies:
            body = self.data.body(name)
            found[name] = rigid(body.xmat.reshape(3, 3), body.xpos)
        site = self.data.site(TCP_SITE)
        return {**found, "tcp": rigid(site.xmat.reshape(3, 3), site.xpos)}

    def _mark(self, phase: str) -> None:
        self.log.setdefault(phase, PhaseLog()).T_base_body = self.poses()
