"""What the settings file says about a real arm: its `[ur5]` table."""

from __future__ import annotations

from dataclasses import dataclass

from affordagent.robot.arms import ARMS, ArmName
from affordagent.robot.gripper import ROBOTIQ_CLOSED_COUNT, ROBOTIQ_OPEN_COUNT, check_counts


@dataclass(frozen=True)
class Ur5Config:
    """A Universal Robots arm and its gripper.

    model: which arm. gripper: "robotiq" (2F-85 with its URCap, socket on the controller), "digital:PIN" (a gripper
    that closes while a standard digital output is high) or "none". gripper_counts: what the Robotiq calls its open and
    its closed position; `affordagent recover --stroke` measures them. payload_kg, payload_cog_m: of the gripper alone,
    in the flange frame, as given to the controller. stale_after_s: age from which a state is not acted on.
    watchdog_hz: the controller ends our program when it hears less often from us. unlocks: how many protective stops
    one session may unlock by itself.

    Raises:
        ValueError: a value out of range.
    """

    model: ArmName = "UR5e"
    gripper: str = "robotiq"
    gripper_counts: tuple[int, int] = (ROBOTIQ_OPEN_COUNT, ROBOTIQ_CLOSED_COUNT)
    payload_kg: float = 0.95
    payload_cog_m: tuple[float, float, float] = (0.0, 0.0, 0.06)
    stale_after_s: float = 0.5
    watchdog_hz: float = 5.0
    unlocks: int = 2

    def __post_init__(self) -> None:
        kind, _, pin = self.gripper.partition(":")
        if self.gripper not in ("robotiq", "none") and not (kind == "digital" and pin.isdigit() and int(pin) < 8):
            raise ValueError(f"gripper = {self.gripper!r}, must be robotiq, none, or digital:0 to digital:7")
        check_counts(self.gripper_counts)
        most_kg = ARMS[self.model].payload_kg
        for name, low, high in (
            ("payload_kg", 0.0, most_kg),
            ("stale_after_s", 0.05, 1.0),
            ("watchdog_hz", 4.0, 50.0),
            ("unlocks", 0, 3),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} = {getattr(self, name)}, must lie between {low} and {high}")
