"""How a cell's arm and gripper are, read without commanding anything: in local control, in a stop and beside a session
that moves the arm, too."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array
from affordagent.robot.arms import flange_pose
from affordagent.robot.gripper import Gripper, GripperState
from affordagent.robot.ur5.config import Ur5Config
from affordagent.robot.ur5.dashboard import Dashboard
from affordagent.robot.ur5.identity import tcp_off
from affordagent.robot.ur5.link import Link, WorkerLost
from affordagent.robot.ur5.recovery import Condition, Diagnosis, diagnose, read_condition
from affordagent.robot.ur5.state import Board, UrState

_FIRST_STATE_S = 3.0
_GRIPPER_RESTS_S = 1.5


@dataclass(frozen=True)
class Status:
    """model, version: what the controller says of itself. condition: by the dashboard server. state: by RTDE, None when
    that is not heard of. age_s: of `state`. gripper: None when it cannot be read or there is none. problems: everything
    that keeps a run from starting, the gravest first."""

    model: str
    version: str
    condition: Condition
    state: UrState | None
    age_s: float
    T_base_tcp: Array | None
    tcp_off_m: float
    tcp_off_rad: float
    gripper: GripperState | None
    problems: tuple[Diagnosis, ...]

    def as_json(self) -> dict[str, Any]:
        """Small JSON-able facts; unknown numbers are None."""
        state, gripper = self.state, self.gripper
        facts: dict[str, Any] = {
            "model": self.model,
            "version": self.version,
            "robot_mode": self.condition.robot_mode,
            "safety_mode": self.condition.safety_mode,
            "program": self.condition.program,
            "remote_control": self.condition.remote,
            "ready": not self.problems,
            "problems": [{"code": p.code, "what": p.what, "steps": list(p.steps)} for p in self.problems],
            "arm": None,
            "gripper": None,
        }
        if state is not None and self.T_base_tcp is not None:
            facts["arm"] = {
                "positions_rad": np.round(state.q, 5).tolist(),
                "age_s": round(self.age_s, 3),
                "speed_scaling": round(state.speed_scaling, 3),
                "tcp_by_controller": np.round(state.tcp_pose, 5).tolist(),
                "tcp_by_us_m": np.round(self.T_base_tcp[:3, 3], 5).tolist(),
                "tcp_off_m": round(self.tcp_off_m, 5),
                "tcp_off_rad": round(self.tcp_off_rad, 5),
                "tcp_force_n": np.round(state.tcp_force[:3], 2).tolist(),
            }
        if gripper is not None:
            width_m = None if math.isnan(gripper.width_m) else round(gripper.width_m, 5)
            facts["gripper"] = {"width_m": width_m, "holding": gripper.holding, "fault": gripper.fault}
            facts["gripper"]["active"] = gripper.active
        return facts


def read_status(host: str, config: Ur5Config, gripper: Gripper, T_flange_tcp: Array) -> Status:
    """Ask the dashboard server, RTDE and the gripper.

    Raises:
        StageFailure: ("execute", "execution.comms"): the controller's dashboard server does not answer.
        AffordAgentError: ur_rtde is not installed.
    """
    with Dashboard(host) as dashboard:
        condition = read_condition(dashboard)
        model, version = dashboard.ask("get robot model"), dashboard.ask("PolyscopeVersion")
    problems = [condition.diagnosis()]
    state, age_s = None, math.nan
    try:
        state, age_s = _read_state(host)
    except WorkerLost as error:
        problems.append(diagnose("execution.comms", str(error)))
    fingers = None
    try:
        fingers = read_at_rest(gripper)
        problems.append(None if fingers.fault is None else diagnose("execution.gripper", fingers.fault))
    except StageFailure as error:
        problems.append(diagnose("execution.gripper", error.message))
    finally:
        gripper.close()
    ours, off_m, off_rad = None, math.nan, math.nan
    if state is not None:
        ours = flange_pose(config.model, state.q) @ T_flange_tcp
        off_m, off_rad = tcp_off(config.model, T_flange_tcp, state)
    found = tuple(problem for problem in problems if problem is not None)
    return Status(model, version, condition, state, age_s, ours, off_m, off_rad, fingers, found)


def read_at_rest(gripper: Gripper) -> GripperState:
    """The gripper's state once its fingers rest: only then does it tell whether they are jammed."""
    gripper.connect()
    end_s = time.monotonic() + _GRIPPER_RESTS_S
    state = gripper.read()
    while state.moving and time.monotonic() < end_s:
        time.sleep(0.05)
        state = gripper.read()
    return state


def _read_state(host: str) -> tuple[UrState, float]:
    """The newest state and its age, by a connection that only listens."""
    board = Board()
    try:
        link = Link(host, board, outputs=False)
        try:
            end_s = time.monotonic() + _FIRST_STATE_S
            while True:
                state = link.state()
                if state is not None and state.stamp_s > 0 and state.seen_s == state.beat_s:
                    return state, state.age_s
                if not link.alive or time.monotonic() > end_s:
                    raise WorkerLost("the controller sends no state")
                time.sleep(0.01)
        finally:
            link.close()
    finally:
        board.close()
