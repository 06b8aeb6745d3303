"""What keeps the arm from moving, whether that is safe, what a person does about it, and what is mended without one.

Automatic are only: unlocking a protective stop, a few times a session and never twice at one spot, and uploading our
program again. Nothing is switched on, no brake released and no safety system restarted without a person's yes: that is
for `affordagent recover`.

Sources: Universal Robots, e-Series user manual (safety functions, protective stop) and "Dashboard server" (port 29999).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.failure_guide import guide
from affordagent.core.geometry import Array
from affordagent.robot.ur5.dashboard import Dashboard
from affordagent.robot.ur5.state import PROTECTIVE, UrState, fault_of

SAME_SPOT_RAD = 0.05
UNLOCK_S = 15.0  # the controller refuses for 5 s of its own time after the stop
_CLEARED_S = 5.0
_POLL_S = 0.2
_ROUNDS = 4


@dataclass(frozen=True)
class Diagnosis:
    """code: `execution.*`. what: happened. safe: is it, and what the arm does meanwhile. steps: for a person, in order.
    automatic: `Recovery` may mend it without one."""

    code: str
    what: str
    safe: str
    steps: tuple[str, ...]
    automatic: bool = False

    def as_failure(self, **evidence: Any) -> StageFailure:
        return StageFailure("execute", self.code, f"{self.what}. {self.safe}", steps=list(self.steps), **evidence)


_STANDS = "The arm stands with its motors on; it does not move by itself."
_BRAKED = "The brakes hold the arm; what the gripper held it may still hold."
_WHAT: dict[str, tuple[str, str, bool]] = {  # what happened, is it safe, may it be mended without a person
    "execution.protective_stop": (
        "The arm is in a protective stop: it met something, was pushed, or was asked for more than its joints can do",
        _STANDS,
        True,
    ),
    "execution.emergency_stop": ("An emergency stop is pressed", _BRAKED, False),
    "execution.safeguard_stop": ("A safeguard holds the arm: a gate, a light curtain or a scanner", _STANDS, False),
    "execution.safety_fault": ("The controller reports a safety violation or fault", _BRAKED, False),
    "execution.power_off": ("The arm is off or its brakes are not released", _BRAKED, False),
    "execution.local_control": (
        "The pendant has the arm: it is in local control and takes no program from the network",
        "The arm does what the pendant says.",
        False,
    ),
    "execution.program": ("Our control program does not run on the controller", _STANDS, True),
    "execution.comms": (
        "The controller is not heard of",
        "It stops the arm by itself when our link ends, but nobody here can see that: look at the arm.",
        False,
    ),
    "execution.gripper": ("The gripper has a fault", "The arm stands; what the gripper held may fall.", False),
}
_SAFETY_CODES = {  # the dashboard's `safetymode`
    "PROTECTIVE_STOP": "execution.protective_stop",
    "SAFEGUARD_STOP": "execution.safeguard_stop",
    "SYSTEM_EMERGENCY_STOP": "execution.emergency_stop",
    "ROBOT_EMERGENCY_STOP": "execution.emergency_stop",
    "VIOLATION": "execution.safety_fault",
    "FAULT": "execution.safety_fault",
    "RECOVERY": "execution.safety_fault",
}


def diagnose(code: str, detail: str = "") -> Diagnosis:
    """The guide to one failure code of the arm. detail: what is known besides, e.g. the robot's mode.

    Raises:
        KeyError: no code of the arm's.
    """
    what, safe, automatic = _WHAT[code]
    return Diagnosis(code, f"{what} ({detail})" if detail else what, safe, guide(code).mends, automatic)


def steps_after(code: str) -> tuple[str, ...]:
    """What a person does after a run that ended with this code; () where the arm needs nobody."""
    return guide(code).mends if code in _WHAT else ()


@dataclass(frozen=True)
class Condition:
    """What the dashboard server says. robot_mode, safety_mode: its words, e.g. RUNNING and NORMAL."""

    robot_mode: str
    safety_mode: str
    program: str
    remote: bool

    def diagnosis(self) -> Diagnosis | None:
        """What keeps programs of ours from moving the arm; None when one could start. A program that does not run yet
        is nothing to mend."""
        if self.safety_mode in _SAFETY_CODES:
            return diagnose(_SAFETY_CODES[self.safety_mode], f"safety mode {self.safety_mode}")
        if self.robot_mode != "RUNNING":
            return diagnose("execution.power_off", f"robot mode {self.robot_mode}")
        return None if self.remote else diagnose("execution.local_control")


def read_condition(dashboard: Dashboard) -> Condition:
    """Ask for all that a diagnosis needs."""
    mode, safety = (dashboard.ask(name).rpartition(":")[2].strip() for name in ("robotmode", "safetymode"))
    return Condition(mode, safety, dashboard.ask("programState"), dashboard.is_remote())


@dataclass(frozen=True)
class Remedy:
    """One step towards readiness that a person must agree to. command: for the dashboard server; None = only wait.
    within_s: until `ended`."""

    question: str
    command: str | None
    within_s: float
    ended: Callable[[Condition], bool]


def remedy_for(condition: Condition) -> Remedy | None:
    """What the dashboard server can do about a condition, one step at a time; None when only a person at the robot can.
    A protective stop is unlocked with `unlock_protective_stop` behind it."""
    mode, safety = condition.robot_mode, condition.safety_mode
    if safety == "PROTECTIVE_STOP":
        return Remedy(
            "Does nothing and nobody touch the arm? Unlock the protective stop?",
            "unlock protective stop",
            UNLOCK_S,
            lambda c: c.safety_mode != "PROTECTIVE_STOP",
        )
    if safety in ("VIOLATION", "FAULT"):
        return Remedy(
            "Is the cause mended? Restart the safety system?",
            "restart safety",
            60.0,
            lambda c: c.safety_mode in ("NORMAL", "REDUCED") and c.robot_mode not in ("BOOTING", "DISCONNECTED"),
        )
    if safety not in ("NORMAL", "REDUCED") or not condition.remote:
        return None
    if mode == "POWER_OFF":
        return Remedy(
            "Is everybody clear of the arm? Switch it on?",
            "power on",
            60.0,
            lambda c: c.robot_mode in ("IDLE", "RUNNING"),
        )
    if mode == "IDLE":
        return Remedy(
            "The arm may sink by a few millimetres. Release the brakes?",
            "brake release",
            30.0,
            lambda c: c.robot_mode == "RUNNING",
        )
    if mode in ("BOOTING", "POWER_ON"):
        return Remedy("Wait for the arm?", None, 60.0, lambda c: c.robot_mode not in ("BOOTING", "POWER_ON"))
    return None


def apply(host: str, remedy: Remedy) -> Condition:
    """Do it and wait for its effect. Returns the condition after it.

    Raises:
        StageFailure: ("execute", `execution.*`): it had no effect in time; execution.comms: no answer.
    """
    with Dashboard(host) as dashboard:
        answer = ""
        if remedy.command == "unlock protective stop":
            unlock_protective_stop(dashboard)
        elif remedy.command is not None:
            dashboard.ask("close safety popup")
            answer = dashboard.ask(remedy.command)
        end_s = time.monotonic() + remedy.within_s
        condition = read_condition(dashboard)
        while not remedy.ended(condition):
            if time.monotonic() > end_s:
                diagnosis = condition.diagnosis() or diagnose("execution.power_off")
                what = f"{diagnosis.what}; '{remedy.command}' had no effect in {remedy.within_s:.0f} s ({answer})"
                raise replace(diagnosis, what=what).as_failure()
            time.sleep(_POLL_S)
            condition = read_condition(dashboard)
    return condition


def unlock_protective_stop(dashboard: Dashboard) -> None:
    """Unlock as soon as the controller lets us, and wait until it has.

    Raises:
        StageFailure: ("execute", "execution.protective_stop"): refused to the end.
    """
    dashboard.ask("close safety popup")
    end_s = time.monotonic() + UNLOCK_S
    answer = dashboard.ask("unlock protective stop")
    while answer != "Protective stop releasing":
        if time.monotonic() > end_s:
            raise diagnose("execution.protective_stop", f"it does not unlock: {answer}").as_failure()
        time.sleep(_POLL_S)
        answer = dashboard.ask("unlock protective stop")
    end_s = time.monotonic() + _CLEARED_S
    while read_condition(dashboard).safety_mode == "PROTECTIVE_STOP":
        if time.monotonic() > end_s:
            raise diagnose("execution.protective_stop", "unlocked, but it came back at once").as_failure()
        time.sleep(_POLL_S)


class Recovery:
    """What one session may mend by itself, and what it already has.

    unlocks: how many protective stops it may unlock. The driver calls `succeeded` after each motion that ended as it
    should: only then may a stop at the same spot be unlocked again.
    """

    def __init__(self, host: str, unlocks: int) -> None:
        self.host, self.unlocks_left = host, unlocks
        self._unlocked_at: Array | None = None

    def succeeded(self) -> None:
        self._unlocked_at = None

    def make_ready(self, read: Callable[[], UrState], prepare: Callable[[], None]) -> list[str]:
        """Mend what may be mended until the arm can move. Returns what was done.

        read: the present state; it raises when that is too old. prepare: uploads our program and waits until it runs.

        Raises:
            StageFailure: ("execute", `execution.*`): a person is needed; evidence["steps"] says what to do.
        """
        mended: list[str] = []
        for _ in range(_ROUNDS):
            state = read()
            fault = fault_of(state)
            if fault is None:
                return mended
            diagnosis = diagnose(fault[0], f"robot mode {state.robot_mode}, safety bits {state.safety_bits:#x}")
            if diagnosis.code == "execution.protective_stop":
                self._unlock(state)
                self._wait_for(lambda: not read().safety_bits & PROTECTIVE, diagnosis)
                mended.append("unlocked a protective stop")
            elif diagnosis.code == "execution.program":
                with Dashboard(self.host) as dashboard:
                    if not dashboard.is_remote():
                        raise diagnose("execution.local_control").as_failure()
                prepare()
                mended.append("uploaded our program to the controller")
            else:
                raise diagnosis.as_failure()
        raise diagnosis.as_failure(mended=mended)

    def _unlock(self, state: UrState) -> None:
        spot = self._unlocked_at
        if self.unlocks_left <= 0:
            reason = "not unlocked: this session has used up the `unlocks` of its settings"
            raise diagnose("execution.protective_stop", reason).as_failure()
        if spot is not None and float(np.abs(state.q - spot).max()) < SAME_SPOT_RAD:
            reason = "not unlocked again: it is where the last one was, and no motion has succeeded since"
            raise diagnose("execution.protective_stop", reason).as_failure()
        with Dashboard(self.host) as dashboard:
            if not dashboard.is_remote():
                raise diagnose("execution.local_control").as_failure()
            self.unlocks_left -= 1
            self._unlocked_at = state.q.copy()
            unlock_protective_stop(dashboard)

    @staticmethod
    def _wait_for(cleared: Callable[[], bool], diagnosis: Diagnosis) -> None:
        end_s = time.monotonic() + _CLEARED_S
        while not cleared():
            if time.monotonic() > end_s:
                raise diagnosis.as_failure()
            time.sleep(_POLL_S)
