"""Ctrl-C during a run: first the arm stops, then the run ends and says so."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """While open, SIGINT, SIGTERM and SIGHUP call `stop` before anything else, as often as they come. SIGHUP, of a
    closed terminal, is left alone where it is ignored (nohup).

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
            for number in SIGNALS:
                if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue  # nohup: the run is to go on
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop_now(self) -> None:
        """From any thread: the arm stops, and nothing new begins."""
        self.fired = True  # first: whatever becomes of the stop
        self._stop()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.fired
        self.stop_now()
        if not self.closing and (again or self.stage != "execute"):
            raise KeyboardInterrupt
