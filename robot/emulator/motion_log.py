"""What moved, as the controller saw it: the proof of what was done, and that nothing was done twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

EPISODE_GAP_S = 0.25  # set-points further apart belong to two motions


@dataclass
class MotionRecord:
    """kind: "movej", "movel", "servo", "speed" or "gripper". t0, t1: controller seconds of its first and last command
    (servo, speed) or of its begin and end; t1 is None while it goes on. start, end: joints (6,) in rad, or the opening
    (1,) in m, when it began and where it came to rest (or is now). target: asked for, None for servo and speed."""

    kind: str
    t0: float
    t1: float | None
    start: list[float]
    end: list[float] | None = None
    target: list[float] | None = None

    def as_json(self, now: list[float]) -> dict[str, Any]:
        return {**vars(self), "end": now if self.end is None else self.end}


class MotionLog:
    """The arm's and the gripper's motions in the order they began."""

    def __init__(self) -> None:
        self._motions: list[MotionRecord] = []
        self._last: dict[bool, MotionRecord] = {}  # is it the gripper's?
        self._streamed: MotionRecord | None = None  # the servo or speed motion that goes on

    def begin(self, kind: str, t: float, start: list[float], target: list[float] | None = None) -> MotionRecord:
        """`start` is also where the motion before came to rest."""
        self.rest(kind == "gripper", start)
        if kind != "gripper":
            self.cut()
        motion = MotionRecord(kind, t, None, start, target=target)
        self._motions.append(motion)
        self._last[kind == "gripper"] = motion
        return motion

    def stream(self, kind: str, t: float, arrived_s: float, now: list[float]) -> None:
        """A set-point of a servo or speed motion that arrived at `arrived_s` is acted on: it goes on, or a new one
        begins."""
        last = self._streamed
        if last is None or last.kind != kind or arrived_s - (last.t1 or last.t0) > EPISODE_GAP_S:
            last = self.begin(kind, t, now)
        last.t1 = max(arrived_s, last.t0)
        self._streamed = last

    def cut(self) -> None:
        """What is streamed next is another motion."""
        self._streamed = None

    def rest(self, gripper: bool, now: list[float]) -> None:
        """The last motion is over for good, and ended here."""
        last = self._last.get(gripper)
        if last is not None and last.end is None:
            last.end = now

    def as_json(self, q: list[float], opening_m: float) -> list[dict[str, Any]]:
        return [m.as_json([opening_m] if m.kind == "gripper" else q) for m in self._motions]
