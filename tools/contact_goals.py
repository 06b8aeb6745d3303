"""Where to touch a thing, from its cloud: the middle of a ball, the cap of a button, the side of a block to push it.

The hand points down. Nothing here comes from language but what the thing is.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.geometry import Array, rigid
from affordagent.core.types import PartCloud
from affordagent.robot.model import MAX_OPENING_M
from affordagent.tools.motion.contact import ContactGoal

TIP_PAST_TCP_M = 0.0097  # of the closed fingers, along the approach
FRONT_M = 0.012  # from the tcp to the side of the fingers that pushes, across the closing direction
ABOVE_M = 0.1
TURNS_RAD = np.deg2rad([0.0, 45, -45, 90, -90, 135, -135, 180])
BUTTON_TRAVEL_M, BUTTON_STOP_N = 0.02, 12.0
PUSH_STOP_N, REACH_STOP_N = 25.0, 15.0
TIP_OFF_TABLE_M = 0.008
GAP_M = 0.02  # between fingers and block before a push
_TOP_M = 0.006  # of what is highest: the top of a block or of a cap
_LEAST_POINTS = 12


@dataclass(frozen=True)
class Footprint:
    """A rectangle on the table, base frame. centre: (2,). axes: (2, 2) rows, unit. half_m: (2,) along them."""

    centre: Array
    axes: Array
    half_m: Array

    @property
    def corners(self) -> Array:
        """(4, 2) in order."""
        signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
        return self.centre + (signs * self.half_m) @ self.axes

    def support_m(self, direction: Array) -> float:
        """How far it reaches from its centre along a unit direction (2,)."""
        return float(np.abs(self.axes @ direction) @ self.half_m)

    def half_along_m(self, direction: Array) -> float:
        """Half its side along the axis that is nearest to a direction (2,)."""
        return float(self.half_m[int(np.argmax(np.abs(self.axes @ direction)))])


def footprint_of(points: Array) -> Footprint:
    """The smallest rectangle round points (N, 3) or (N, 2), seen from above."""
    centre, sides, angle_deg = cv2.minAreaRect(np.ascontiguousarray(points[:, :2], np.float32))
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    return Footprint(np.array(centre), np.array([[c, s], [-s, c]]), np.array(sides) / 2)


def block_of(cloud: PartCloud) -> Footprint:
    """The footprint of a block by its top, which is seen whole."""
    return footprint_of(_top(cloud.object))


def reach_goal(cloud: PartCloud) -> ContactGoal:
    """The open hand comes down round a ball until the tcp is at its middle.

    Raises:
        StageFailure: ("propose", "grasp.none"): too few points for a sphere.
    """
    _check(cloud.part, "a sphere")
    A = np.column_stack([2 * cloud.part, np.ones(len(cloud.part))])
    centre = np.linalg.lstsq(A, (cloud.part**2).sum(1), rcond=None)[0][:3]
    last_m = 0.03
    return ContactGoal(
        _hands(centre + [0, 0, last_m]), np.array([0, 0, -last_m]), ABOVE_M, MAX_OPENING_M, 0.01, 15.0, _NONE
    )


def press_goal(cloud: PartCloud) -> ContactGoal:
    """The closed fingers come down on the middle of a cap until it resists.

    Raises:
        StageFailure: ("propose", "grasp.none"): too few points of the cap.
    """
    _check(cloud.part, "a cap")
    top = _top(cloud.part)
    (x, y), _ = cv2.minEnclosingCircle(np.ascontiguousarray(top[:, :2], np.float32))
    before_m = 0.015
    start = np.array([x, y, float(np.median(top[:, 2])) + TIP_PAST_TCP_M + before_m])
    stroke = np.array([0, 0, -(before_m + BUTTON_TRAVEL_M)])
    return ContactGoal(_hands(start), stroke, ABOVE_M, 0.0, 0.003, BUTTON_STOP_N, _NONE, must_touch=True)


def push_goal(cloud: PartCloud, block: Footprint, target: Array, opening_m: float = 0.0) -> ContactGoal:
    """The fingers push a block along the line from its middle to `target` (2,), base frame, low on its side.

    The stroke ends where the block, its side flat on the fingers, has its middle over the target. opening_m: of the
    fingers: apart, they push at two places.
    """
    way = target - block.centre
    length_m = float(np.linalg.norm(way))
    d = way / max(length_m, 1e-9)
    z = cloud.table_z_m + TIP_OFF_TABLE_M + TIP_PAST_TCP_M
    start = np.append(block.centre - d * (block.support_m(d) + FRONT_M + GAP_M), z)
    end = np.append(target - d * (block.half_along_m(d) + FRONT_M), z)
    along = float(np.arctan2(d[1], d[0]))
    hands = np.stack([_hand(start, along), _hand(start, along + np.pi)])
    return ContactGoal(hands, end - start, ABOVE_M, opening_m, 0.03, PUSH_STOP_N, cloud.object, free_m=GAP_M)


_NONE = np.empty((0, 3))


def _top(points: Array) -> Array:
    return points[points[:, 2] > np.percentile(points[:, 2], 97) - _TOP_M]


def _hands(position: Array) -> Array:
    return np.stack([_hand(position, float(turn)) for turn in TURNS_RAD])


def _hand(position: Array, turn_rad: float) -> Array:
    """(4, 4) a hand that points down, its x axis turned about the vertical by `turn_rad` from the base's."""
    c, s = np.cos(turn_rad), np.sin(turn_rad)
    return rigid(np.array([[c, s, 0], [s, -c, 0], [0, 0, -1.0]]), position)


def _check(points: Array, what: str) -> None:
    if len(points) < _LEAST_POINTS:
        message = f"{len(points)} points are too few for {what}, at least {_LEAST_POINTS} are needed: bring it nearer"
        raise StageFailure("propose", "grasp.none", message, points=len(points))
