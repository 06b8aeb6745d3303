"""A trajectory as a stream of set-points for `servoj`, on the controller's clock, and what it watches on the way."""

from __future__ import annotations

from collections import deque

import numpy as np

from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD, START_TOLERANCE_RAD
from affordagent.robot.ur5.state import UrState

PERIOD_S = 0.008  # 125 Hz, which both series keep
BLEND_S = 0.5  # in which the distance from the first point fades, however short the motion: the arm does not jump to it
LAG_S = 0.4  # of the arm behind the set-points: 0.1 s look-ahead and the servos, with room
TRACKING_TOLERANCE_RAD = 0.05
SETTLE_S = 2.0  # most time from the last set-point to rest
SLOWEST, SLOW_WINDOW_S = 0.05, 3.0  # a slider below 5 % over this long ends the motion

Ending = tuple[str, str]  # code, message


class Stream:
    """Set-points of one trajectory. Call `step` once for each new state and send what it returns.

    The trajectory's time runs with the controller's clock times its speed scaling, so that a slider below 100 % makes
    the motion slow instead of making the arm lag. A state that comes late makes it slow too: no set-point jumps.

    times_s: (N,). positions: (N, 6) rad. force_limit_n: of the force on the tcp, None = not watched.
    """

    def __init__(
        self, times_s: np.ndarray, positions: np.ndarray, start: UrState, force_limit_n: float | None = None
    ) -> None:
        self._times_s, self._positions, self._force_limit_n = times_s, positions, force_limit_n
        self.goal = positions[-1]
        self._end_s = max(float(times_s[-1]), BLEND_S)
        self._offset = start.q - positions[0]
        self.time_s = 0.0  # along the trajectory
        self._stamp_s = start.stamp_s
        self._settled_from_s: float | None = None
        self._sent: deque[tuple[float, np.ndarray]] = deque([(start.stamp_s, start.q)])
        self._progress: deque[tuple[float, float]] = deque([(start.stamp_s, 0.0)])

    def mismatch(self, state: UrState) -> Ending | None:
        off = float(np.abs(state.q - self._positions[0]).max())
        if off <= START_TOLERANCE_RAD:
            return None
        what = f"the motion starts {off:.3f} rad from the arm, limit {START_TOLERANCE_RAD}: plan from there"
        return "execution.start_mismatch", what

    def step(self, state: UrState) -> np.ndarray:
        """(6,) rad, the next set-point."""
        passed_s = min(max(state.stamp_s - self._stamp_s, 0.0), 2 * PERIOD_S)
        self._stamp_s = state.stamp_s
        scaling = min(1.0, max(0.0, state.speed_scaling))  # in this order NaN is 0
        self.time_s = min(self.time_s + passed_s * scaling, self._end_s)
        if self._settled_from_s is None and self.time_s >= self._end_s:
            self._settled_from_s = state.stamp_s
        target = np.array([np.interp(self.time_s, self._times_s, joint) for joint in self._positions.T])
        fade = min(self.time_s / BLEND_S, 1.0)
        target += self._offset * (1 - fade * fade * (3 - 2 * fade))
        self._sent.append((state.stamp_s, target))
        while len(self._sent) > 2 and self._sent[1][0] < state.stamp_s - LAG_S:
            self._sent.popleft()
        return target

    def error_rad(self, state: UrState) -> float:
        return float(np.abs(state.q - self.goal).max())

    def arrived(self, state: UrState) -> bool:
        done = self._settled_from_s is not None
        return done and state.at_rest and self.error_rad(state) <= GOAL_TOLERANCE_RAD

    def ending(self, state: UrState) -> Ending | None:
        """Why the motion must end here, or None."""
        return self._force(state) or self._tracking(state) or self._settling(state) or self._pace(state)

    def _force(self, state: UrState) -> Ending | None:
        force_n = float(np.linalg.norm(state.tcp_force[:3]))
        if self._force_limit_n is None or force_n <= self._force_limit_n:
            return None
        what = f"{force_n:.0f} N pushed on the tcp, limit {self._force_limit_n:.0f} N: see what the arm has met"
        return "execution.force", what

    def _tracking(self, state: UrState) -> Ending | None:
        """The arm must be where it was told to be at some time of the last LAG_S."""
        recent = np.array([target for _, target in self._sent])
        off = np.maximum(recent.min(0) - state.q, state.q - recent.max(0))
        if off.max() <= TRACKING_TOLERANCE_RAD:
            return None
        what = (
            f"joint {int(off.argmax()) + 1} is {off.max():.3f} rad off its path, limit {TRACKING_TOLERANCE_RAD}: "
            "something holds the arm"
        )
        return "execution.tracking", what

    def _settling(self, state: UrState) -> Ending | None:
        if self._settled_from_s is None or state.stamp_s - self._settled_from_s <= SETTLE_S:
            return None
        error_rad = self.error_rad(state)
        if error_rad > GOAL_TOLERANCE_RAD:
            what = f"ended {error_rad:.3f} rad from the goal, limit {GOAL_TOLERANCE_RAD}: something holds the arm"
            return "execution.tracking", what
        return "execution.timeout", f"the arm did not come to rest within {SETTLE_S:.0f} s: see whether it shakes"

    def _pace(self, state: UrState) -> Ending | None:
        if self._settled_from_s is not None:
            return None
        self._progress.append((state.stamp_s, self.time_s))
        while len(self._progress) > 2 and self._progress[1][0] <= state.stamp_s - SLOW_WINDOW_S:
            self._progress.popleft()
        (from_s, then_s), (to_s, now_s) = self._progress[0], self._progress[-1]
        if to_s - from_s < SLOW_WINDOW_S or now_s - then_s >= SLOWEST * (to_s - from_s):
            return None
        what = (
            f"the arm moves at {100 * (now_s - then_s) / (to_s - from_s):.0f} % of its speed, at least "
            f"{100 * SLOWEST:.0f} % are needed: raise the pendant's speed slider, or see what keeps this computer busy"
        )
        return "execution.timeout", what
