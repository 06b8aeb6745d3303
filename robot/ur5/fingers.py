"""One move of the fingers, in a thread of its own, so that whoever asked for it can watch the arm meanwhile."""

from __future__ import annotations

import contextlib
import threading
import time

from affordagent.core.errors import StageFailure
from affordagent.robot.gripper import Gripper, GripperState

MOST_S = 15.0  # of one stroke; at its slowest the hand takes 4 s
_POLL_S = 0.02


class FingerMove(threading.Thread):
    """Activate the gripper where it is not, move, and wait for rest. Give the thread time with `join`.

    state: the last one read. failure: why it did not end as it should; a jam is one. `cancel` stops the fingers.
    """

    def __init__(self, gripper: Gripper, width_m: float, force_n: float) -> None:
        super().__init__(name="fingers", daemon=True)
        self._gripper, self._width_m, self._force_n = gripper, width_m, force_n
        self._cancelled = threading.Event()
        self.state: GripperState | None = None
        self.failure: StageFailure | None = None

    def cancel(self) -> None:
        self._cancelled.set()

    def run(self) -> None:
        try:
            self._move()
        except StageFailure as error:
            self.failure = error
        except ValueError as error:
            self.failure = StageFailure("execute", "safety.malformed", str(error))
        if self._cancelled.is_set():
            with contextlib.suppress(StageFailure):
                self._gripper.stop()

    def _move(self) -> None:
        self._gripper.activate()
        if self._cancelled.is_set():
            return
        self._gripper.move(self._width_m, self._force_n)
        end_s = time.monotonic() + MOST_S
        while not self._cancelled.is_set():
            self.state = self._gripper.read()
            if self.state.fault is not None:
                raise StageFailure("execute", "execution.gripper", self.state.fault)
            if not self.state.moving:
                return
            if time.monotonic() > end_s:
                self.cancel()
                raise StageFailure("execute", "execution.timeout", f"the fingers do not rest after {MOST_S:.0f} s")
            self._cancelled.wait(_POLL_S)
