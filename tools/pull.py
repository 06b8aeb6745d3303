"""Has a person taken what is held out to them? By the force on the tcp, or by fingers that find themselves empty."""

from __future__ import annotations

from collections import deque

import numpy as np

from affordagent.core.geometry import Array
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.robot.hand_over import HandOver
from affordagent.robot.interface import Arm, ArmState, MotionResult

LOOK_S = 0.1  # between two looks
_CALM_LOOKS, _PULL_LOOKS, _EMPTY_LOOKS = 5, 3, 2  # in a row: at rest, pulled, empty
_CALM_SHARE = 1 / 3  # of `pull_n`: as far as readings at rest may lie from their mean
_OVERLOADED = (
    "safety.payload"  # what `SafeArm` makes of a person who pulls up or down: no weight, which was seen before
)


def wait_for_pull(arm: Arm, settings: HandOver, phase: str, held_n: Array | None = None) -> MotionResult:
    """Hold still until a person takes what is held, at most `timeout_s`.

    It counts as taken when the force on the tcp, once it has been at rest, changes by `pull_n` for a moment and keeps
    its direction, whichever that is (arms differ in its sign), or when the fingers find themselves empty. held_n: (3,)
    N, base frame, with the thing in the hand before it was presented: the force at rest must be like it, or somebody is
    pulling already, and would be felt to pull when they let go.

    Not taken: reached is False, code execution.not_taken, and it is still held.
    """
    watch = _Watch(settings.pull_n, held_n)
    start_s = arm.read().stamp_s
    while True:
        result = arm.wait(LOOK_S, phase)
        if not result.reached and result.code != _OVERLOADED:
            return result
        state = arm.read()
        taken = watch.see(state)
        if taken is not None:
            return MotionResult(True, state, message=taken)
        if state.stamp_s - start_s > settings.timeout_s:
            return MotionResult(False, state, code="execution.not_taken", message=_not_taken(settings, watch))


class _Watch:
    """Looks at the states one after the other. rest_n: (3,) the force once it was at rest, None before that."""

    def __init__(self, pull_n: float, held_n: Array | None) -> None:
        self._pull_n, self._held_n = pull_n, held_n
        self._last: deque[Array] = deque(maxlen=_CALM_LOOKS)
        self._empty = 0
        self.rest_n: Array | None = None
        self.measures = False

    def see(self, state: ArmState) -> str | None:
        """How it was taken, None when it has not been."""
        is_empty = state.holding is False or state.gripper_width_m < NOTHING_HELD_M  # NaN where it cannot tell
        self._empty = self._empty + 1 if is_empty else 0
        if self._empty >= _EMPTY_LOOKS:
            return "taken out of the closed fingers"
        if state.tcp_force_n is None:
            return None
        self.measures = True
        self._last.append(np.asarray(state.tcp_force_n, float))
        if self.rest_n is None:
            self.rest_n = self._at_rest()
            return None
        changes = np.array(self._last)[-_PULL_LOOKS:] - self.rest_n  # (3, 3)
        weakest_n = float(np.linalg.norm(changes, axis=1).min())
        pull_n = float(np.linalg.norm(changes.mean(0)))  # near 0 for what shakes to and fro
        return f"pulled with {pull_n:.0f} N" if min(weakest_n, pull_n) >= self._pull_n else None

    def _at_rest(self) -> Array | None:
        if len(self._last) < _CALM_LOOKS:
            return None
        forces = np.array(self._last)
        mean_n: Array = forces.mean(0)
        calm = bool((np.linalg.norm(forces - mean_n, axis=1) <= _CALM_SHARE * self._pull_n).all())
        alone = self._held_n is None or bool(np.linalg.norm(mean_n - self._held_n) < self._pull_n)
        return mean_n if calm and alone else None


def _not_taken(settings: HandOver, watch: _Watch) -> str:
    waited = f"held out for {settings.timeout_s:.0f} s"
    if not watch.measures:
        what = "nobody drew it out of the closed fingers, and a pull is not felt: this arm measures no force"
    elif watch.rest_n is None:
        what = (
            f"the force on the tcp was never at rest, and like before, to within {settings.pull_n:.0f} N: somebody "
            "pulls from the start, or something touches it, or raise [hand_over] pull_n"
        )
    else:
        what = f"nobody pulled with {settings.pull_n:.0f} N ([hand_over] timeout_s, pull_n)"
    return f"{waited}, and {what}. It is still held: hold the thing and type `affordagent recover --open`"
