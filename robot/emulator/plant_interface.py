"""What the emulated controller drives: an arm with fingers, kinematic (`plain_plant`) or simulated (`plant`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from affordagent.core.geometry import Array


@dataclass(frozen=True)
class Fingers:
    """The gripper as it is. opening_m: gap between the pads. moving: the fingers have not come to rest since the last
    command, at its opening or on what is in their way."""

    opening_m: float
    moving: bool


class Plant(Protocol):
    """An arm and its gripper, stepped by the controller. Everything happens in the controller's only thread.

    Frames: the base frame of Universal Robots' DH parameters (`robot.arms`).
    """

    @property
    def q(self) -> Array:
        """(6,) joint positions, rad."""
        ...

    @property
    def qd(self) -> Array:
        """(6,) joint velocities, rad/s."""
        ...

    @property
    def fingers(self) -> Fingers: ...

    @property
    def tcp_force_n(self) -> Array:
        """(3,) force on the tcp, base frame, N."""
        ...

    @property
    def scene(self) -> dict[str, Any] | None:
        """{"name": str, "seed": int} of the loaded scene; None where there are no objects."""
        ...

    def step(self, q_cmd: Array, qd_cmd: Array, dt_s: float) -> None:
        """Pass `dt_s` (0.002 e-Series, 0.008 CB3) with set-points (6,) rad and (6,) rad/s; the brakes are a set-point
        that does not change. The fingers go on with their last command."""
        ...

    def drive_fingers(self, opening_m: float, force_n: float, speed_m_s: float) -> None:
        """Command the fingers: the opening to reach, how hard to press on what is in the way, how fast to move (both
        fingers together, m/s of the opening). Returns at once; the command lasts until the next."""
        ...

    def place(self, q: Array) -> None:
        """The arm is at (6,) `q`, at rest, as if it had always been there."""
        ...

    def answer(self, op: str, request: dict[str, Any]) -> dict[str, Any]:
        """Admin requests that only this plant knows (`object` for the plain one; `scene`, `snapshot`, `phase`, `log`
        for the simulated one). After `scene` the controller holds the arm where `q` then is.

        Raises:
            ValueError: unknown to this plant, or a bad request; says what it does know.
        """
        ...
