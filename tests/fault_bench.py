"""A bench for faults: the real chain (`execute`, journal, safety layer, driver, gripper) against the emulated
controller in its own process, and a watch that sees from outside what the arm does, by the controller's own clock."""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.core.journal import MotionJournal
from affordagent.core.types import Grasp, GraspPlan, JointTrajectory
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.gripper import RobotiqGripper
from affordagent.robot.interface import READY_Q
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.safety import SafeArm
from affordagent.robot.ur5.arm import UrArm
from affordagent.robot.ur5.cell import T_FLANGE_TCP
from affordagent.robot.ur5.config import Ur5Config
from affordagent.tools.execution import execute
from affordagent.tools.motion.trajectory import joint_motion

AT_REST_RAD_S, SAME_M = 1e-3, 1e-3
OPENING_M, OBJECT_M, HOLD_S = 0.06, 0.03, 0.6
FINGER_SPEED_M_S = 0.15
START_Q = READY_Q - np.array([0.45, 0, 0, 0, 0, 0])
PAN_RAD = {"to_pregrasp": 0.2, "approach": 0.12, "lift": 0.12}  # all one way, so that nothing done twice goes unseen
_SAMPLE_S = 0.01


def wait_until(admin: EmulatorClient, t: float) -> None:
    """By the controller's clock."""
    while admin.state()["t"] < t:
        time.sleep(0.003)


class Bench:
    """An emulated controller in its own process and the arm that is driven on it: a new one whenever `renew` was
    called, otherwise the same one, fault after fault."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.limits = MotionLimits()
        self._stack = ExitStack()
        self._arm: UrArm | None = None
        self._safe: SafeArm | None = None
        self._is_clear = False

    def __enter__(self) -> Bench:
        self.restart_controller()
        return self

    def __exit__(self, *exc: object) -> None:
        self.renew()
        self._stack.close()

    @property
    def arm(self) -> SafeArm:
        """What `execute` gets."""
        if self._safe is None:
            gripper = RobotiqGripper(self.host)
            self._arm = UrArm(self.host, Ur5Config(), gripper, T_FLANGE_TCP)
            self._arm.__enter__()
            self._safe = SafeArm(self._arm, self.limits, ArmKinematics())
        return self._safe

    def renew(self) -> None:
        """The next command gets a new arm, and a controller without faults."""
        if self._arm is not None:
            self._arm.__exit__(None, None, None)
        self._arm = self._safe = None
        self._is_clear = False

    @property
    def worker_pid(self) -> int:
        assert self._arm is not None
        assert self._arm._link is not None
        return self._arm._link.pid

    def restart_controller(self) -> None:
        """Switch it off, if it was on, and on again."""
        self._stack.close()
        emulator = self._stack.enter_context(start_emulator(self.host))
        with suppress(PermissionError):  # a controller has a computer of its own; the driver runs in real time too
            os.sched_setscheduler(emulator.pid, os.SCHED_RR, os.sched_param(2))
        self.admin = emulator.admin

    def clear(self) -> None:
        """As a person at the pendant does it, who takes longer than the news of it."""
        wait_until(self.admin, self.admin.clear() + 0.1)
        self._is_clear = True

    def set_up(self) -> None:
        """No fault, the arm at START_Q, the fingers closed, and something to close on once they are open."""
        if not self._is_clear:
            self.clear()
        self.admin.object(None)
        self.arm.make_ready()
        wait_until(self.admin, self.admin.place(START_Q.tolist()) + 0.1)
        if self.admin.state()["gripper"]["width_m"] > SAME_M:
            assert self.arm.grip(0.0, "set_up").reached
        self.admin.object(OBJECT_M)
        self._is_clear = False

    def set_right(self) -> None:
        """Whatever was wrong has ended: the next `set_up` need not clear it."""
        self._is_clear = True


def small_plan(limits: MotionLimits) -> GraspPlan:
    """A grasp with short motions of 0.6 to 0.8 s."""
    q, motions = START_Q, []
    for pan_rad in PAN_RAD.values():
        goal = q + np.array([pan_rad, 0, 0, 0, 0, 0])
        motions.append(joint_motion(np.stack([q, goal]), limits))
        q = goal
    return GraspPlan(Grasp(np.eye(4), OBJECT_M, 0.9), 0, OPENING_M, *motions)


def stage_s(plan: GraspPlan, stage: str) -> float:
    """About how long a stage lasts, controller time."""
    match stage:
        case "idle":
            return 0.2
        case "open":
            return OPENING_M / FINGER_SPEED_M_S
        case "close":
            return (OPENING_M - OBJECT_M) / FINGER_SPEED_M_S
        case "hold":
            return HOLD_S
    motion: JointTrajectory = getattr(plan, stage)
    return motion.duration_s


@dataclass(frozen=True)
class Sample:
    t: float
    q: Array
    speed_rad_s: float
    opening_m: float


class Watch:
    """`with Watch(host) as watch:` a thread asks the controller where its arm is, over and over."""

    def __init__(self, host: str) -> None:
        self.samples: list[Sample] = []
        self._host, self._done = host, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        self._thread.join(10)

    def _run(self) -> None:
        with EmulatorClient(self._host) as admin:
            while not self._done.wait(_SAMPLE_S):
                state = admin.state()
                speed = float(np.abs(state["qd"]).max())
                self.samples.append(Sample(state["t"], np.array(state["q"]), speed, state["gripper"]["width_m"]))

    def wait_until(self, t: float) -> None:
        """Until there is a sample from after `t`."""
        while not (self.samples and self.samples[-1].t > t):
            assert self._thread.is_alive(), "the controller does not answer"
            time.sleep(0.003)

    def moved_until_s(self, fault_t: float) -> float:
        """From the fault to the last time the arm was seen to move, controller seconds; 0 when it was not."""
        return max((s.t - fault_t for s in self.samples if s.t > fault_t and s.speed_rad_s > AT_REST_RAD_S), default=0)

    def stood_after_s(self, fault_t: float) -> float:
        """From the fault to the first time the arm was seen to be at rest for good; 0 when it rested all the time."""
        moving = [s.t for s in self.samples if s.speed_rad_s > AT_REST_RAD_S]
        last_t = max(moving, default=-1.0)
        gap = [s.t for s in self.samples if s.t <= fault_t]
        if last_t < (gap[-1] if gap else fault_t):
            return 0.0
        return min((s.t for s in self.samples if s.t > max(last_t, fault_t)), default=np.inf) - fault_t

    def fingers_stood_after_s(self, fault_t: float) -> float:
        after = [s for s in self.samples if s.t > fault_t]
        moves = [b.t - fault_t for a, b in zip(after, after[1:], strict=False) if abs(a.opening_m - b.opening_m) > 1e-6]
        return max(moves, default=0.0)

    def turned_back_rad(self) -> float:
        """How far the arm ever went against the way of the plan."""
        pan = np.array([s.q[0] for s in self.samples])
        return float((np.maximum.accumulate(pan) - pan).max())


class WatchedJournal(MotionJournal):
    """A journal that tells when the step `stage` has begun."""

    def __init__(self, file: Path, stage: str, began: threading.Event) -> None:
        super().__init__(file)
        self._stage, self._began = stage, began

    def begin(self, step: str, goal: dict[str, Any], start: dict[str, Any]) -> None:
        super().begin(step, goal, start)
        if step == self._stage:
            self._began.set()


def run_grasp(arm: SafeArm, plan: GraspPlan, file: Path, stage: str, began: threading.Event) -> StageFailure | None:
    """Carry the plan out; `began` is set when `stage` has begun. Returns the failure."""
    with WatchedJournal(file, stage, began) as journal:
        try:
            execute(arm, plan, journal, hold_s=HOLD_S)
        except StageFailure as failure:
            return failure
    return None
