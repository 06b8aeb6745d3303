"""Ctrl-C during a run: first the arm stops, then the run ends and says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While open, SIGINT and SIGTERM call `stop` before anything else, as often as they come.

    Then the run is ended: outside of a motion by a KeyboardInterrupt; during one the motion itself comes back as
    stopped, and only a second signal raises. Once `closing` is set nothing is raised any more: the run is being
    written down. Handlers can be set from the main thread only; in another one nothing happens here.

    stop: `Arm.stop`, or something like it that may be called at any moment. stage: the one under way.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._before: dict[signal.Signals, Any] = {}
        self.stage = "understand"
        self.fired = False
        self.closing = False

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._stop()
        again, self.fired = self.fired, True
        if not self.closing and (again or self.stage != "execute"):
            raise KeyboardInterrupt
