"""One robot, one talk, many pages: a thread carries out the commander's turns, everybody reads what happens."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from affordagent.agent.session import Session
from affordagent.agent.talk.conversation import Conversation, Event, read_talk
from affordagent.agent.talk.reading import is_yes
from affordagent.agent.web.seats import Seats
from affordagent.agent.web.text import shown
from affordagent.core.errors import AffordAgentError
from affordagent.core.types import Mask

CONFIRM_WITHIN_S = 120.0  # no answer by then is a no
MARKED = "Take what I marked."
LONGEST_TEXT = 2000  # characters of a turn
LOOK_EVERY_S = 2.0  # pictures of a real camera while nothing is under way and somebody watches
EARLIER = 6  # turns of an earlier talk of the same name that are shown
CLOSE_WITHIN_S = 30.0  # for the turn under way to end after a stop, when the hub is closed

Kind = Literal["person", "say", "ask", "stage", "record", "run", "confirm", "answer", "stop", "command", "end"]
State = Literal["idle", "busy", "ended"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A line of the log. number: 1, 2, 3, ... at_s: time.time(). run: name of the run's folder.

    kind: as of `agent.talk.conversation.Event`, and: "person" what the commander said; "confirm" a question before a
    motion, "answer" what came of it; "stop" somebody pressed it; "command" somebody took command or handed it over;
    "end" the thread has died of a bug and nothing can be done any more.
    """

    number: int
    at_s: float
    kind: Kind
    text: str
    data: dict[str, Any] = field(default_factory=dict)
    run: str | None = None


@dataclass(frozen=True)
class Now:
    """How things stand. number: of the last entry. pictures: counts those of the camera. stage: under way. run: name of
    the latest run's folder. question: the "confirm" that waits for an answer. asked: the "ask" that the next turn may
    answer. stops: how often STOP was pressed. watching: browsers that are there."""

    number: int
    pictures: int
    state: State
    stage: str
    run: str | None
    question: Entry | None
    asked: Entry | None
    commander: str | None
    stops: int
    watching: int


class Hub:
    """`with Hub(lambda: Session(settings), root) as hub: hub.say(seat, "hand me the mug")`.

    The session is opened, used and closed in one thread. What pages call gives None, or why it was refused, and never
    waits for the robot. A seat is the name of a browser, see `Seats`.

    root: folder of the runs. thread: the talk's name. confirm_within_s: a question before a motion that nobody answers
    in time is answered with no.
    """

    def __init__(
        self,
        open_session: Callable[[], Session],
        root: Path,
        thread: str = "talk",
        *,
        confirm_within_s: float = CONFIRM_WITHIN_S,
        seats: Seats | None = None,
    ) -> None:
        self.root = root
        self._open_session, self._thread, self._confirm_within_s = open_session, thread, confirm_within_s
        self._seats = seats or Seats()
        self._changed = threading.Condition()  # around everything below
        self._entries: list[Entry] = []
        self._state: State = "idle"
        self._stage = ""
        self._run: str | None = None
        self._question: Entry | None = None
        self._asked: Entry | None = None
        self._answer: str | None = None
        self._next: Callable[[], None] | None = None  # begins the turn that follows the one that is being declined
        self._stops = self._began_at = 0  # how often STOP was pressed: until now, and when the turn was wished for
        self._picture: NDArray[np.uint8] | None = None
        self._pictures, self._looked_s, self._looking = 0, 0.0, False
        self._robot = ThreadPoolExecutor(1, thread_name_prefix="robot")

    def __enter__(self) -> Hub:
        self._robot.submit(self._open).result()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stop, let the turn under way end, and disconnect the cell."""
        self.stop()
        self._robot.submit(self.session.__exit__, None, None, None).result(CLOSE_WITHIN_S)
        self._robot.shutdown(wait=False)

    def _open(self) -> None:
        for turn in read_talk(self.root, self._thread)[-EARLIER:]:
            self._add("person" if turn["who"] == "person" else "say", shown(str(turn["text"])))
        self.session = self._open_session()
        self.session.__enter__()
        self._talk = Conversation(self.session, self.root, self._thread, tell=self._told, answer=self._ask)
        self._look()

    # ---- what everybody may do ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """From any thread and at any time, by anybody: the arm stops, and the turn under way ends. Waits for nothing
        but the arm's own `stop`."""
        self._stops += 1  # first: a turn that is about to begin sees it
        self._talk.stop()
        with self._changed:
            if not self._entries or self._entries[-1].kind != "stop":
                self._add("stop", "STOP was pressed." if self._state == "busy" else "STOP was pressed; nothing moved.")

    @property
    def _stopping(self) -> bool:
        """Was STOP pressed since the turn under way was wished for?"""
        return self._stops != self._began_at

    def entries(self, after: int = 0) -> list[Entry]:
        """The log from the entry after that number on."""
        with self._changed:
            return self._entries[after:]

    def now(self, seat: str | None = None) -> Now:
        """How things stand. seat: of the browser that asks, which is a sign of its life."""
        with self._changed:
            if seat is not None:
                self._seats.seen(seat)
            self._look_soon()
            return Now(
                len(self._entries),
                self._pictures + len(self._frames()),
                self._state,
                self._stage,
                self._run,
                self._question,
                self._asked,
                self._seats.commander,
                self._stops,
                self._seats.watching,
            )

    def wait(self, until: Callable[[Now], bool], within_s: float) -> Now:
        """Wait for the log: how things stand once `until` holds, or when the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: until(self.now()), within_s)
            return self.now()

    def picture(self) -> NDArray[np.uint8] | None:
        """(H, W, 3) RGB: what the camera sees now; of a simulated motion its latest picture, from beside the table."""
        frames = self._frames()
        return frames[-1] if frames else self._picture

    # ---- what the commander may do --------------------------------------------------------------------------------

    def say(
        self, seat: str, text: str, about: int | None = None, *, stops: int | None = None, button: str = ""
    ) -> str | None:
        """A turn, or the answer to the question before a motion.

        Args:
            about: number of the question that the page showed; an answer to another one than that which waits is
                refused.
            stops: `Now.stops` when it was said; what a STOP has overtaken on its way here is not carried out.
            button: what was pressed instead of typing.
        """
        text, before = text.strip(), self._stops
        if not text:
            return "Say what you want, in your own words."
        if len(text) > LONGEST_TEXT:
            return f"The message has {len(text)} characters, at most {LONGEST_TEXT} are read: shorten it."
        with self._changed:
            why = self._why_not(seat, about, before if stops is None else stops)
            if why is not None:
                return why
            if self._question is not None:
                self._answer = text
                self._changed.notify_all()
            else:
                self._begin(button or text, partial(self._talk.say, text), before)
        return None

    def use_mask(self, seat: str, run: Path, mask: Mask, *, stops: int | None = None) -> str | None:
        """A turn that takes the part that was marked, (H, W) bool, in the picture of a run. A motion that waits for an
        answer is answered with no first."""
        before = self._stops
        with self._changed:
            about = None if self._question is None else self._question.number
            why = self._why_not(seat, about, before if stops is None else stops)
            if why is not None:
                return why
            turn = partial(self._begin, MARKED, partial(self._talk.say_with_mask, run, mask), before)
            if self._question is None:
                turn()
            else:
                self._answer, self._next = "no", turn
                self._changed.notify_all()
        return None

    def take(self, seat: str) -> str | None:
        """Take command."""
        with self._changed:
            before = self._seats.commander
            why = self._seats.take(seat, self._state == "busy")
            if why is None and before != seat:
                self._add("command", "Another browser has taken command." if before else "A browser has taken command.")
            return why

    def hand_over(self, seat: str) -> str | None:
        """Leave the command to whoever takes it."""
        with self._changed:
            if not self._seats.hand_over(seat):
                return "You are not in command."
            self._add("command", "Nobody commands now; whoever speaks next does.")
            return None

    def _why_not(self, seat: str, about: int | None, stops: int) -> str | None:
        if self._state == "ended":
            return "The robot's program has ended because of an error: start affordagent web again."
        if stops != self._stops:
            return "STOP was pressed: if you still want it, say it again."
        waits = self._question or (self._asked if about is not None else None)
        if about != (waits and waits.number):
            return "The question has changed: look again, then answer."
        busy = self._state == "busy"
        why = self._seats.speak(seat, busy)
        if why is None and busy and (self._question is None or self._answer is not None):
            return "I am still at work: wait, or press STOP."
        return why

    # ---- the robot's thread ---------------------------------------------------------------------------------------

    def _begin(self, text: str, turn: Callable[[], object], stops: int) -> None:
        self._add("person", shown(text))
        self._state, self._stage, self._asked, self._began_at = "busy", "read", None, stops
        self._robot.submit(self._carry_out, turn).add_done_callback(self._ended)

    def _carry_out(self, turn: Callable[[], object]) -> None:
        try:
            turn()
        except AffordAgentError as error:
            self._told(Event("say", str(error)))
        self._forget_frames()
        self._look()

    def _ended(self, turn: Future[None]) -> None:
        error = turn.exception()
        with self._changed:
            self._state, self._stage = "idle" if error is None else "ended", ""
            turn_next, self._next = self._next, None
            if error is not None:
                log.error("the turn broke off", exc_info=error)
                self._talk.stop()
                self._add("end", f"{type(error).__name__}: this is a bug; the server's log has the traceback.")
            elif turn_next is not None and not self._stopping:
                turn_next()
            self._changed.notify_all()

    def _told(self, event: Event) -> None:
        if self._stopping:  # perhaps before the talk could be stopped
            self._talk.stop()
        with self._changed:
            if event.kind == "stage":
                self._stage = event.text
            if event.run is not None:
                self._run = event.run.name
            entry = self._add(event.kind, shown(event.text), event.data, event.run)
            if event.kind == "ask":
                self._asked = entry

    def _ask(self, question: dict[str, Any]) -> str:
        """The commander's answer to the question before a motion: a stop, or no answer in time, is a no."""
        with self._changed:
            self._answer = None
            self._question = self._add("confirm", shown(question["question"]))
            self._changed.wait_for(lambda: self._answer is not None or self._stopping, self._confirm_within_s)
            answer, self._question = self._answer, None
            if self._stopping or answer is None:
                why = "stopped" if self._stopping else f"nobody answered within {self._confirm_within_s:.0f} s"
                self._add("answer", f"No: {why}.", {"yes": False})
                return "no"
            self._add("answer", shown(answer), {"yes": is_yes(answer)})
            return answer

    def _add(self, kind: Kind, text: str, data: dict[str, Any] | None = None, run: Path | None = None) -> Entry:
        entry = Entry(len(self._entries) + 1, time.time(), kind, text, data or {}, None if run is None else run.name)
        self._entries.append(entry)
        self._changed.notify_all()
        return entry

    # ---- the camera -----------------------------------------------------------------------------------------------

    def _look_soon(self) -> None:
        """A real camera's picture grows old while nothing is under way; a simulated table stays as it is."""
        due = time.monotonic() - self._looked_s > LOOK_EVERY_S
        if self.session.cell.is_hardware and self._state == "idle" and due and not self._looking:
            self._looking = True
            self._robot.submit(self._look)

    def _look(self) -> None:
        try:
            picture = self.session.cell.look_again().color
        except AffordAgentError as error:
            log.warning("no live picture: %s", error)
            picture = None
        with self._changed:
            self._picture, self._pictures = picture, self._pictures + 1
            self._looked_s, self._looking = time.monotonic(), False
            self._changed.notify_all()

    def _frames(self) -> list[NDArray[np.uint8]]:
        """Pictures of the motion under way, where a simulated cell keeps them."""
        return getattr(self.session.cell, "frames", [])

    def _forget_frames(self) -> None:
        with self._changed:
            self._pictures += len(self._frames())
            self._frames().clear()
