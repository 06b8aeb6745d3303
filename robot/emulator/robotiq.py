"""A Robotiq 2F-85 with its URCap's socket on port 63352.

Source: Robotiq, "2F-85 & 2F-140 instruction manual", chapter 4, for the registers. Activation takes a second and,
unlike the real one, does not move the fingers.
"""

from __future__ import annotations

import re
import socket

from affordagent.robot.emulator.connections import LineConnection
from affordagent.robot.emulator.controller import Controller, Mode
from affordagent.robot.emulator.motion_log import MotionRecord
from affordagent.robot.gripper import (
    ROBOTIQ_CLOSED_COUNT,
    ROBOTIQ_FORCE_N,
    ROBOTIQ_OPEN_COUNT,
    ROBOTIQ_SPEED_M_S,
    ROBOTIQ_STROKE_M,
)

ACTIVATION_S = 1.0
_NEAR_M = 0.002  # from the target, to be there: the model's fingers rest up to 1.5 mm beside it
_RESET, _ACTIVATING, _ACTIVE = 0, 1, 3  # STA
_MOVING, _BLOCKED_OPENING, _BLOCKED_CLOSING, _AT_TARGET = 0, 1, 2, 3  # OBJ
_FAULT_ACTIVATING, _FAULT_NOT_ACTIVATED = 5, 7  # FLT
_NUMBER = re.compile(r"-?\d{1,9}(\.\d*)?$")


def width_of(count: float) -> float:
    """Opening in m at a count; what lies beyond the stroke's ends is at them."""
    share = (ROBOTIQ_CLOSED_COUNT - count) / (ROBOTIQ_CLOSED_COUNT - ROBOTIQ_OPEN_COUNT)
    return ROBOTIQ_STROKE_M * min(max(share, 0.0), 1.0)


def count_of(width_m: float) -> int:
    span = ROBOTIQ_CLOSED_COUNT - ROBOTIQ_OPEN_COUNT
    return round(ROBOTIQ_CLOSED_COUNT - span * min(max(width_m / ROBOTIQ_STROKE_M, 0.0), 1.0))


class Robotiq:
    """The registers, and what they make the plant's fingers do. jammed: the drive turns nothing, so the fingers stand
    still for ever on their way."""

    def __init__(self, controller: Controller) -> None:
        self._c = controller
        self._registers = dict.fromkeys(("ACT", "GTO", "ATR", "ARD", "FOR", "STA", "FLT", "MOD", "LBP", "LRS"), 0)
        self._registers |= {"SPE": 255, "PRE": ROBOTIQ_OPEN_COUNT, "NCY": 0, "DST": 0}
        self._jammed = False
        self._motion: MotionRecord | None = None

    @property
    def powered(self) -> bool:
        """By the arm's tool connector."""
        return self._c.mode is not Mode.POWER_OFF

    @property
    def jammed(self) -> bool:
        return self._jammed

    @jammed.setter
    def jammed(self, jammed: bool) -> None:
        if jammed and self._c.plant.fingers.moving:
            self._drive(self._c.plant.fingers.opening_m)
        self._jammed = jammed
        if not jammed and self._registers["GTO"]:
            self._drive(self._target_m)

    @property
    def _target_m(self) -> float:
        return width_of(self._registers["PRE"])

    def read(self, name: str) -> int | None:
        """A register; None when there is none of that name, or no power."""
        if not self.powered:
            return None
        if name == "POS":
            return count_of(self._c.plant.fingers.opening_m)
        if name == "OBJ":
            return self._object()
        return self._registers.get(name)

    def _object(self) -> int:
        fingers, target_m = self._c.plant.fingers, self._target_m
        if self._registers["STA"] != _ACTIVE or not self._registers["GTO"]:
            return _AT_TARGET if self._registers["STA"] == _ACTIVE else _MOVING
        if abs(fingers.opening_m - target_m) <= _NEAR_M:
            return _MOVING if fingers.moving else _AT_TARGET
        if fingers.moving or self._jammed:
            return _MOVING
        return _BLOCKED_CLOSING if target_m < fingers.opening_m else _BLOCKED_OPENING

    def write(self, values: dict[str, int]) -> None:
        """Set registers, all at once. POS is the target, which reads back as PRE."""
        r = self._registers
        if not self.powered:
            return
        if "ACT" in values and values["ACT"] != r["ACT"]:
            self._activate() if values["ACT"] else self._reset()
        went, before = r["GTO"], r["PRE"]
        r.update({("PRE" if name == "POS" else name): min(max(value, 0), 255) for name, value in values.items()})
        if r["STA"] != _ACTIVE:
            if "POS" in values or values.get("GTO"):
                r["FLT"] = _FAULT_ACTIVATING if r["ACT"] else _FAULT_NOT_ACTIVATED
        elif r["GTO"]:
            if not went or r["PRE"] != before:
                self._begin_motion()
            if not self._jammed:
                self._drive(self._target_m)
        elif went:
            self._drive(self._c.plant.fingers.opening_m)

    def _begin_motion(self) -> None:
        fingers = self._c.plant.fingers
        self._motion = self._c.log.begin("gripper", self._c.t, [fingers.opening_m], [self._target_m])

    def _drive(self, opening_m: float) -> None:
        force, speed = self._registers["FOR"] / 255, self._registers["SPE"] / 255
        self._c.plant.drive_fingers(opening_m, _between(ROBOTIQ_FORCE_N, force), _between(ROBOTIQ_SPEED_M_S, speed))

    def _activate(self) -> None:
        self._registers.update(STA=_ACTIVATING, FLT=0)
        self._c.after(ACTIVATION_S, self._finish_activation)

    def _finish_activation(self) -> None:
        if self._registers["ACT"] and self._registers["STA"] == _ACTIVATING:
            self._registers.update(STA=_ACTIVE, FLT=0)

    def _reset(self) -> None:
        self._registers.update(STA=_RESET, GTO=0, FLT=0, ACT=0)
        self._drive(self._c.plant.fingers.opening_m)

    def tick(self) -> None:
        """Once a tick: without power it forgets its activation; the log learns when the fingers rest."""
        if not self.powered and self._registers["ACT"]:
            self._reset()
        if self._motion is not None and not self._c.plant.fingers.moving and not self._jammed:
            self._motion.t1, self._motion = self._c.t, None
            self._c.log.rest(True, [self._c.plant.fingers.opening_m])

    def as_json(self) -> dict[str, float | int | None]:
        """position, target: counts. object: OBJ. width_m, target_m: the same in metres."""
        width_m = self._c.plant.fingers.opening_m
        return {
            "position": count_of(width_m),
            "target": self._registers["PRE"],
            "object": self.read("OBJ"),
            "width_m": width_m,
            "target_m": self._target_m,
        }


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


class RobotiqConnection(LineConnection):
    def __init__(self, sock: socket.socket, gripper: Robotiq) -> None:
        super().__init__(sock)
        self._gripper = gripper

    def answer(self, line: str) -> bytes:
        words = line.split()
        if len(words) == 2 and words[0] == "GET":
            value = self._gripper.read(words[1])
            return f"{words[1]} {'?' if value is None else value}\n".encode()
        if len(words) > 2 and len(words) % 2 and words[0] == "SET" and all(_NUMBER.match(w) for w in words[2::2]):
            self._gripper.write({name: int(float(w)) for name, w in zip(words[1::2], words[2::2], strict=True)})
            return b"ack"  # without a line end
        return b"?\n" if words else b""
