"""Where a person stands, and how they take what is handed to them. Comes from the settings file only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.limits import Corner, MotionLimits

_BOUNDS = {  # lowest and highest value of each number
    "towards_deg": (-360.0, 360.0),
    "timeout_s": (1.0, 600.0),
    "pull_n": (2.0, 60.0),
    "speed_m_s": (0.01, 0.5),
}
_ABOVE_TABLE_M = 0.15  # of the middle of what is presented


@dataclass(frozen=True)
class HandOver:
    """How things are handed to a person.

    position_m: where the middle of the thing is presented, base frame. towards_deg: from there, the direction to the
    person, about the base's z from its x. timeout_s: how long it is held out. pull_n: change of the force on the tcp
    that counts as the person's pull. speed_m_s: of the tcp on the way to the person.

    Raises:
        ValueError: a number out of its range.
    """

    position_m: Corner = (0.55, 0.0, 0.32)
    towards_deg: float = 0.0
    timeout_s: float = 30.0
    pull_n: float = 6.0
    speed_m_s: float = 0.25

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} = {value}, must lie between {low:g} and {high:g}")

    @property
    def towards(self) -> Array:
        """(3,) unit direction to the person, base frame, level."""
        angle = np.deg2rad(self.towards_deg)
        return np.array([np.cos(angle), np.sin(angle), 0.0])

    def check(self, limits: MotionLimits) -> None:
        """Is the place to present things within the limits?

        Raises:
            ValueError: outside the workspace, in a keep-out zone, or near the table; names the mend.
        """
        at = np.array(self.position_m)
        if not ((at > limits.workspace_min_m) & (at < limits.workspace_max_m)).all():
            box = f"{limits.workspace_min_m} to {limits.workspace_max_m}"
            raise ValueError(f"position_m = {self.position_m} is outside the workspace {box}: move it inside")
        for lower, upper in limits.keep_out_m:
            if ((at > lower) & (at < upper)).all():
                raise ValueError(f"position_m = {self.position_m} is in the keep-out zone {lower} to {upper}: move it")
        least_z_m = limits.table_z_m + _ABOVE_TABLE_M
        if at[2] < least_z_m:
            raise ValueError(f"position_m = {self.position_m}: z must be at least {least_z_m:.2f}, above the table")
