"""Grippers behind one protocol: a Robotiq 2F-85 over the socket of its URCap, and one that a digital output closes.

Sources: Robotiq, "2F-85 & 2F-140 instruction manual", chapter 4 (registers ACT, GTO, POS, SPE, FOR, STA, OBJ, FLT, the
meaning of their values and the ranges of force and speed).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from affordagent.robot.urcap import UrcapLink, gripper_failure

ROBOTIQ_OPEN_COUNT, ROBOTIQ_CLOSED_COUNT = 3, 230  # what POS says at the ends of the stroke
ROBOTIQ_STROKE_M = 0.085
ROBOTIQ_FORCE_N = (20.0, 235.0)  # FOR 0 to 255
ROBOTIQ_SPEED_M_S = (0.020, 0.150)  # SPE 0 to 255
DIGITAL_STROKE_M = ROBOTIQ_STROKE_M  # what the planner takes any hand for
NOTHING_HELD_M = 0.0015  # pads that close further than this hold nothing

_ECHO_S, _RESET_S, _ACTIVATE_S, _STROKE_S = 1.0, 3.0, 12.0, 8.0
_FRESH_S = 0.25  # after a command, until OBJ speaks of it when the fingers do not move
_STILL_S = 1.0  # at its slowest the hand passes 50 counts in this time
_NEAR_M = 0.002
_POLL_S = 0.02


@dataclass(frozen=True)
class GripperState:
    """width_m: opening between the pads; NaN where the gripper cannot tell. holding: its own object detection, None
    where it has none. moving: still on the way. fault: what is wrong and the mend, None when nothing is. active: ready
    to move; otherwise `activate` makes it so."""

    width_m: float
    holding: bool | None
    moving: bool
    fault: str | None = None
    active: bool = True


class Gripper(Protocol):
    """A hand with two fingers. Calls are safe from any thread.

    Raises:
        StageFailure: ("execute", "execution.gripper"): out of reach, without power, or it does not do as told.
    """

    def connect(self) -> None: ...

    def close(self) -> None:
        """Disconnect. The fingers stay as they are."""
        ...

    def activate(self) -> None:
        """Make it ready to move; nothing happens when it is. May open and close the fingers fully."""
        ...

    def move(self, width_m: float, force_n: float) -> None:
        """Start towards an opening (0 = close on what is there) and return at once."""
        ...

    def read(self) -> GripperState: ...

    def stop(self) -> None:
        """Fingers under way stand still; what is held stays held."""
        ...


class Fault(NamedTuple):
    name: str
    mend: str


FAULTS: dict[int, Fault] = {  # of register FLT
    5: Fault("action delayed until the activation is done", "wait for it, or activate the gripper again"),
    7: Fault("not activated", "activate the gripper: `affordagent recover`"),
    8: Fault("too hot", "let it cool below 80 C, then activate it"),
    9: Fault("no communication for 1 s", "check its cable and the URCap"),
    10: Fault("supply voltage too low", "check the 24 V at the tool, then activate it"),
    11: Fault("automatic release under way", "wait until it has ended, then activate it"),
    12: Fault("internal fault", "switch the robot off and on; if it stays, ask Robotiq's support"),
    13: Fault("activation failed", "take away what is between or beside the fingers, then activate it"),
    14: Fault("overcurrent", "free the fingers, then activate it"),
    15: Fault("automatic release ended", "activate it"),
}
_NOT_ACTIVATED = (0, 5, 7)
_RESET, _ACTIVE = 0, 3  # STA
_MOVING, _AT_TARGET = 0, 3  # OBJ; 1 and 2 are an object while opening and closing


class RobotiqGripper:
    """A Robotiq 2F-85 on a UR controller with Robotiq's URCap.

    counts: what POS says of the open and the closed hand; `calibrate_stroke` measures them.

    Raises:
        ValueError: counts out of order or range.
    """

    def __init__(
        self, host: str, port: int = 63352, counts: tuple[int, int] = (ROBOTIQ_OPEN_COUNT, ROBOTIQ_CLOSED_COUNT)
    ) -> None:
        check_counts(counts)
        self.counts = counts
        self._link = UrcapLink(host, port)
        self._moving = False
        self._last_count, self._changed_s, self._moved_s = -1, 0.0, -math.inf

    def connect(self) -> None:
        self._get("STA")

    def close(self) -> None:
        self._link.close()

    def activate(self) -> None:
        """Reset and activate the hand when it is not active or has a fault. It then closes and opens once."""
        if self._get("STA") != _ACTIVE or self._get("FLT"):
            self.reset()

    def reset(self) -> None:
        """Activate the hand anew, whatever its state: it closes and opens once, and what it holds falls."""
        self._moving = False
        self._link.set(ACT=0, ATR=0)
        self._wait("did not reset", _RESET_S, lambda: self._get("ACT") == 0 and self._get("STA") == _RESET)
        self._link.set(ACT=1)
        self._wait("was not active", _ACTIVATE_S, lambda: self._get("STA") == _ACTIVE)
        fault = self._get("FLT")
        if fault:
            raise gripper_failure(f"after its activation the gripper says: {_describe(fault)}")

    def move(self, width_m: float, force_n: float, speed_m_s: float = ROBOTIQ_SPEED_M_S[1]) -> None:
        """Start towards an opening of 0 to 0.085 m, pressing with 20 to 235 N, at 0.02 to 0.15 m/s.

        Raises:
            StageFailure: the hand has a fault, or does not take the command.
            ValueError: a value out of range.
        """
        count = self._count(width_m)
        force, speed = _share(force_n, ROBOTIQ_FORCE_N, "force_n"), _share(speed_m_s, ROBOTIQ_SPEED_M_S, "speed_m_s")
        if self._get("STA") != _ACTIVE:
            raise gripper_failure(f"the gripper is {FAULTS[7].name}: {FAULTS[7].mend}")
        self._moving = True
        self._last_count, self._changed_s = self._get("POS"), time.monotonic()
        self._moved_s = self._changed_s
        self._link.set(POS=count, SPE=speed, FOR=force, GTO=1)
        self._wait("did not take the command", _ECHO_S, lambda: self._get("PRE") == count)

    def read(self) -> GripperState:
        status, fault, goes, contact, count = (self._get(name) for name in ("STA", "FLT", "GTO", "OBJ", "POS"))
        if count != self._last_count:
            self._last_count, self._changed_s = count, time.monotonic()
        state = self._judge(status, fault, goes, contact, count)
        self._moving = state.moving
        return state

    def _judge(self, status: int, fault: int, goes: int, contact: int, count: int) -> GripperState:
        width_m = self._width_m(count)
        if status != _ACTIVE and fault in _NOT_ACTIVATED:
            return GripperState(width_m, None, False, active=False)
        if fault or status != _ACTIVE:
            return GripperState(width_m, None, False, _describe(fault))
        if not goes:  # stopped: OBJ means nothing
            return GripperState(width_m, None, False)
        now_s = time.monotonic()
        if self._changed_s <= self._moved_s and now_s - self._moved_s < _FRESH_S:
            return GripperState(width_m, False, True)
        if contact not in (_MOVING, _AT_TARGET):
            return GripperState(width_m, True, False)
        target = self._get("PRE")
        is_there = abs(width_m - self._width_m(target)) <= _NEAR_M
        if contact == _AT_TARGET and is_there:
            return GripperState(width_m, False, False)
        if now_s - self._changed_s < _STILL_S:
            return GripperState(width_m, False, True)
        if is_there:  # and still: that the hand calls itself moving does not make it jammed
            return GripperState(width_m, False, False)
        where, wanted = (f"{1e3 * self._width_m(c):.0f} mm" for c in (count, target))
        jam = f"jammed at {where} on the way to {wanted}: free the fingers, then command it again"
        return GripperState(width_m, False, False, jam)

    def stop(self) -> None:
        """Fingers under way stand still; fingers at rest go on pressing on what they hold."""
        if self._moving:
            self._moving = False
            self._link.set(GTO=0)

    def calibrate_stroke(self) -> tuple[int, int]:
        """Open, close and open slowly with the least force, and take the counts at both ends from now on. What the
        hand holds falls: nothing may be between the fingers. Returns (open, closed), for the settings file.

        Raises:
            StageFailure: something is in the way, or the ends are far from where they should be.
        """
        slow, gentle = ROBOTIQ_SPEED_M_S[0] + 0.02, ROBOTIQ_FORCE_N[0]
        ends: list[int] = []
        for width_m in (ROBOTIQ_STROKE_M, 0.0, ROBOTIQ_STROKE_M):
            self.move(width_m, gentle, slow)
            self._wait("did not come to rest", _STROKE_S, lambda: not self.read().moving)
            state = self.read()
            if state.fault or state.holding:
                why = state.fault or "something is between the fingers"
                raise gripper_failure(f"cannot calibrate the stroke: {why}")
            ends.append(self._get("POS"))
        counts = (ends[2], ends[1])
        try:
            check_counts(counts)
        except ValueError as error:
            message = f"cannot calibrate the stroke: {error}. Is it a 2F-85, with nothing in the way?"
            raise gripper_failure(message) from error
        self.counts = counts
        return counts

    def _count(self, width_m: float) -> int:
        """At both ends past the end of the stroke, so that the hand presses on what is there."""
        if not (math.isfinite(width_m) and 0 <= width_m <= ROBOTIQ_STROKE_M + 1e-6):
            raise ValueError(f"width_m = {width_m}, must lie between 0 and {ROBOTIQ_STROKE_M}")
        opened, closed = self.counts
        if width_m <= 0 or width_m >= ROBOTIQ_STROKE_M:
            return 255 if width_m <= 0 else 0
        return round(closed - (closed - opened) * width_m / ROBOTIQ_STROKE_M)

    def _width_m(self, count: int) -> float:
        opened, closed = self.counts
        return min(max((closed - count) / (closed - opened), 0.0), 1.0) * ROBOTIQ_STROKE_M

    def _get(self, name: str) -> int:
        text = self._link.get(name)
        if text == "?":
            raise gripper_failure(
                "the gripper has no power or is not connected to the tool (the URCap answers '?'): switch the robot "
                "on (`affordagent recover`), and check the gripper's cable"
            )
        if not (text.isdigit() and int(text) <= 255):
            raise gripper_failure(f"the gripper says {name} = {text!r}, must be 0 to 255: check the URCap's version")
        return int(text)

    def _wait(self, complaint: str, limit_s: float, done: Callable[[], bool]) -> None:
        end_s = time.monotonic() + limit_s
        while not done():
            if time.monotonic() > end_s:
                fault = self._get("FLT")
                what = f": {_describe(fault)}" if fault else "; free the fingers and look at the light on its side"
                raise gripper_failure(f"the gripper {complaint} within {limit_s:.0f} s{what}")
            time.sleep(_POLL_S)


def check_counts(counts: tuple[int, int]) -> None:
    """Raises ValueError when these cannot be the ends of a 2F-85's stroke."""
    opened, closed = counts
    if not (0 <= opened <= 40 and 200 <= closed <= 255):
        raise ValueError(f"gripper counts {counts}: the open one must lie in 0 to 40, the closed one in 200 to 255")


def _share(value: float, ends: tuple[float, float], name: str) -> int:
    """A physical value as the 0 to 255 of a register."""
    low, high = ends
    if not low <= value <= high:
        raise ValueError(f"{name} = {value}, must lie between {low} and {high}")
    return round(255 * (value - low) / (high - low))


def _describe(fault: int) -> str:
    name, mend = FAULTS.get(fault, Fault("unknown fault", "see the manual's table of faults, then activate it"))
    return f"{name} (FLT {fault}): {mend}"


class DigitalGripper:
    """A hand that closes while a standard digital output of the controller is high. It opens fully or not at all, and
    says nothing: its width is that of the open hand, or NaN.

    set_output: sets an output of the controller. settle_s: how long a move takes.
    """

    def __init__(self, pin: int, set_output: Callable[[int, bool], None], settle_s: float = 1.0) -> None:
        if not 0 <= pin <= 7:
            raise ValueError(f"pin = {pin}, must be 0 to 7")
        self.pin, self._set_output, self._settle_s = pin, set_output, settle_s
        self._closed: bool | None = None
        self._moved_s = -math.inf

    def connect(self) -> None:
        """The outputs belong to the arm's link."""

    def close(self) -> None:
        """The output stays as it is: what is held stays held."""

    def activate(self) -> None:
        """Always ready."""

    def move(self, width_m: float, force_n: float) -> None:
        closed = width_m <= 0
        self._set_output(self.pin, closed)
        if closed != self._closed:
            self._moved_s = time.monotonic()
        self._closed = closed

    def read(self) -> GripperState:
        moving = time.monotonic() - self._moved_s < self._settle_s
        return GripperState(DIGITAL_STROKE_M if self._closed is False else math.nan, None, moving)

    def stop(self) -> None:
        """Nothing can stop it half-way, and opening it would drop what it holds."""


class NoGripper:
    """An arm without a hand: it can look and move, not grip."""

    def connect(self) -> None:
        """There is nothing to connect to."""

    def close(self) -> None:
        """There is nothing to disconnect from."""

    def activate(self) -> None:
        """There is nothing to activate."""

    def move(self, width_m: float, force_n: float) -> None:
        raise gripper_failure('the settings say gripper = "none": nothing can be gripped. Set [ur5] gripper')

    def read(self) -> GripperState:
        return GripperState(math.nan, None, False)

    def stop(self) -> None:
        """Nothing moves."""


def open_gripper(
    text: str,
    host: str,
    set_output: Callable[[int, bool], None],
    counts: tuple[int, int] = (ROBOTIQ_OPEN_COUNT, ROBOTIQ_CLOSED_COUNT),
) -> Gripper:
    """The gripper that the settings name: "robotiq", "digital:PIN" or "none". It is not connected yet.

    host: of the controller. counts: of the Robotiq's stroke.

    Raises:
        ValueError: another text.
    """
    kind, _, pin = text.partition(":")
    if text == "robotiq":
        return RobotiqGripper(host, counts=counts)
    if kind == "digital" and pin.isdigit():
        return DigitalGripper(int(pin), set_output)
    if text == "none":
        return NoGripper()
    raise ValueError(f"gripper = {text!r}, must be robotiq, digital:PIN or none")
