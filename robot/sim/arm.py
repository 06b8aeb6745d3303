"""The simulated arm: follows trajectories step by step, logs contacts, and stops when told."""

from __future__ import annotations

import threading
from collections.abc import Callable

import mujoco
import numpy as np

from affordagent.core.geometry import Array
from affordagent.core.types import JointTrajectory
from affordagent.robot.interface import ArmState, MotionResult
from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD, START_TOLERANCE_RAD
from affordagent.robot.sim.contacts import ContactLog, PhaseLog
from affordagent.robot.sim.joints import RobotJoints
from affordagent.robot.sim.person import Person

CONTROL_STEPS = 4  # physics steps between two set-points: 8 ms, as on the robot
DWELL_S = 0.15
_GRIP_LEAST_S, _GRIP_MOST_S = 0.3, 2.0


class SimArm:
    """`robot.interface.Arm` on a MuJoCo model. The arm stays stopped after `stop` until `make_ready`.

    on_step: called after every physics step. person: who takes what is held out.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        on_step: Callable[[], None] | None = None,
        person: Person | None = None,
    ) -> None:
        self.model, self.data, self.contacts = model, data, ContactLog(model, data)
        self._on_step, self._person = on_step, person
        self._stop = threading.Event()
        self._joints = RobotJoints(model, data)

    @property
    def log(self) -> dict[str, PhaseLog]:
        """Contacts since the cell was last looked at, by phase."""
        return self.contacts.phases

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    def make_ready(self) -> list[str]:
        """Forget a stop; nothing in the simulator needs mending."""
        self._stop.clear()
        if self._person is not None:
            self._person.leave()
        return []

    def resume(self) -> None:
        """Forget stops and logs, keep the state."""
        self.make_ready()
        self.contacts.clear()

    def read(self) -> ArmState:
        force_n = self.contacts.force_n.copy()
        return ArmState(self._joints.q, self._joints.opening_m, float(self.data.time), tcp_force_n=force_n)

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        """Track the trajectory, feeding the servos' lag forward, and dwell until the arm has caught up."""
        if self.stopped:
            return self._result(trajectory.positions[-1])
        off = float(np.abs(self._joints.q - trajectory.positions[0]).max())
        if off > START_TOLERANCE_RAD:
            message = f"the motion starts {off:.3f} rad from the arm, limit {START_TOLERANCE_RAD}: plan from there"
            return MotionResult(False, self.read(), off, "execution.start_mismatch", message)
        dt = CONTROL_STEPS * self.model.opt.timestep
        times = np.append(np.arange(0.0, trajectory.duration_s, dt)[1:], trajectory.duration_s)
        q = np.stack([np.interp(times, trajectory.times_s, joint) for joint in trajectory.positions.T], axis=1)
        rates = np.gradient(q, times, axis=0) if len(times) > 1 else np.zeros_like(q)
        rates[-1] = 0.0
        for position, rate in zip(q, rates, strict=True):
            self._joints.servo(position, rate)
            self._step(CONTROL_STEPS, phase)
            if self.stopped:
                break
        else:
            self._step(round(DWELL_S / self.model.opt.timestep), phase)
        self.contacts.mark(phase)
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
        self._joints.set_fingers(width_m)
        start, chunk = self.data.time, 0.1
        while not self.stopped and self.data.time - start < _GRIP_MOST_S:
            self._step(round(chunk / self.model.opt.timestep), phase)
            if self._joints.fingers_rest and self.data.time - start >= _GRIP_LEAST_S:
                break
        self.contacts.mark(phase)
        return self._stopped(self.read()) if self.stopped else MotionResult(True, self.read())

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        self._step(round(duration_s / self.model.opt.timestep), phase)
        self.contacts.mark(phase)
        return self._stopped(self.read()) if self.stopped else MotionResult(True, self.read())

    def stop(self) -> None:
        """From any thread: the motion under way ends within the next step and the arm holds its place."""
        self._stop.set()

    def _step(self, count: int, phase: str) -> None:
        for _ in range(count):
            if self.stopped:
                self._joints.hold()
                return
            if self._person is not None:
                self._person.act(phase, self.contacts.phases)
            mujoco.mj_step(self.model, self.data)
            self.contacts.log(phase)
            if self._on_step is not None:
                self._on_step()
