"""The plain plant: joints that are where they are told, fingers with a speed, perhaps something between them."""

from __future__ import annotations

from typing import Any

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.emulator.plant_interface import Fingers
from affordagent.robot.gripper import ROBOTIQ_STROKE_M


class PlainPlant:
    """`plant_interface.Plant` without physics: exact, fast, for faults and protocols."""

    scene: dict[str, Any] | None = None

    def __init__(self, q: Array) -> None:
        self.q, self.qd = np.array(q, float), np.zeros(6)
        self.tcp_force_n = np.zeros(3)
        self._opening_m = self._target_m = ROBOTIQ_STROKE_M
        self._speed_m_s = 0.0
        self._object_width_m: float | None = None

    @property
    def fingers(self) -> Fingers:
        return Fingers(self._opening_m, self._opening_m != self._goal_m)

    @property
    def _goal_m(self) -> float:
        """Where the fingers come to rest: an object that they are around stops them when they close."""
        width = self._object_width_m
        blocked = width is not None and self._opening_m >= width > self._target_m
        return width if blocked and width is not None else self._target_m

    def step(self, q_cmd: Array, qd_cmd: Array, dt_s: float) -> None:
        self.qd = (q_cmd - self.q) / dt_s
        self.q = np.array(q_cmd)
        goal_m, most_m = self._goal_m, self._speed_m_s * dt_s
        self._opening_m += min(max(goal_m - self._opening_m, -most_m), most_m)

    def drive_fingers(self, opening_m: float, force_n: float, speed_m_s: float) -> None:
        self._target_m, self._speed_m_s = opening_m, speed_m_s

    def place(self, q: Array) -> None:
        self.q, self.qd = np.array(q, float), np.zeros(6)

    def answer(self, op: str, request: dict[str, Any]) -> dict[str, Any]:
        """`object` {width_m|null}: something of that width between the fingers. `force` {force_n: [x, y, z]}: on the
        tcp, base frame."""
        if op == "object":
            width = request["width_m"]
            self._object_width_m = None if width is None else float(width)
        elif op == "force":
            self.tcp_force_n = np.array(request["force_n"], float).reshape(3)
        else:
            raise ValueError(f"{op!r} is not for the plain plant, which knows `object` and `force`: leave out --plain")
        return {}
