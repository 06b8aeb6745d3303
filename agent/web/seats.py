"""Who commands: one browser at a time; the others watch, and may stop the robot."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

GONE_S = 15.0  # a page that has not asked for news for so long is closed, or its network is
SILENT_S = 180.0  # a commander who has not said anything for so long may be relieved


@dataclass
class Seats:
    """The commander's seat. Not safe for threads by itself: the hub's lock is around it.

    A seat is a browser (a name that its cookie carries). Whoever speaks first takes command. Another one can take it
    when the commander has handed it over, has gone (`gone_s` without a sign of the page), or has been silent for
    `silent_s` while nothing is under way.
    """

    gone_s: float = GONE_S
    silent_s: float = SILENT_S
    clock: Callable[[], float] = time.monotonic
    commander: str | None = None
    _seen_s: dict[str, float] = field(default_factory=dict)
    _spoke_s: float = 0.0

    def seen(self, seat: str) -> None:
        """A sign of life of a browser's page."""
        now_s = self.clock()
        self._seen_s = {who: at_s for who, at_s in self._seen_s.items() if now_s - at_s < self.gone_s}
        self._seen_s[seat] = now_s

    @property
    def watching(self) -> int:
        """How many browsers are there."""
        return sum(self.clock() - at_s < self.gone_s for at_s in self._seen_s.values())

    def why_not(self, seat: str, busy: bool) -> str | None:
        """Why this one may not command now; None when it may."""
        if self.commander in (None, seat) or not self._is_there(self.commander):
            return None
        if busy:
            return "Somebody else commands, and the robot is at work. You can stop it."
        left_s = self.silent_s - (self.clock() - self._spoke_s)
        if left_s > 0:
            return (
                "Somebody else commands. You can take command when they hand it over, leave, or say nothing for "
                f"{left_s:.0f} s more."
            )
        return None

    def take(self, seat: str, busy: bool) -> str | None:
        """Make this one the commander; or why not."""
        self.seen(seat)
        why = self.why_not(seat, busy)
        if why is None:
            self.commander = seat
            self.spoke()
        return why

    def speak(self, seat: str, busy: bool) -> str | None:
        """Something that only a commander may do: None when this is the one, or the seat is free; otherwise why not."""
        self.seen(seat)
        if self.commander is None:
            return self.take(seat, busy)
        if self.commander != seat:
            return self.why_not(seat, busy) or "You are watching: take command first."
        self.spoke()
        return None

    def spoke(self) -> None:
        self._spoke_s = self.clock()

    def hand_over(self, seat: str) -> bool:
        """The commander leaves the seat free."""
        if self.commander != seat:
            return False
        self.commander = None
        return True

    def _is_there(self, seat: str | None) -> bool:
        return seat is not None and self.clock() - self._seen_s.get(seat, float("-inf")) < self.gone_s
