"""How long a person waits for a sign of life after a turn of a talk, on a session that is open."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

from affordagent.agent.session import Session
from affordagent.agent.talk.conversation import Conversation, Event

WITHIN_S = 0.3  # the first stage is shown
TURNS = ("pick up the mug", "what are you holding?", "hand me the mug and the spoon", "why did that fail?", "hello")


def first_signs(session: Session, root: Path, turns: tuple[str, ...] = TURNS) -> dict[str, float]:
    """CPU seconds from `say` to the first event ("first"), and to the first that tells more than that the turn is read
    ("told": a stage of a run, or an answer): the median and the largest of the turns, in the order they are said.
    Nothing is moved. root: a folder of its own.
    """
    first, told = [], []
    for number, text in enumerate(turns):
        events: list[tuple[float, Event]] = []

        def tell(event: Event, kept: list[tuple[float, Event]] = events) -> None:
            kept.append((time.process_time(), event))

        talk = Conversation(session, root, f"talk {number}", tell=tell, finds=True)
        started = time.process_time()
        talk.say(text)
        first.append(events[0][0] - started)
        told.append(next(at for at, event in events if event.text != "read") - started)
    return {
        "first_cpu_s": median(first),
        "first_most_cpu_s": max(first),
        "told_cpu_s": median(told),
        "told_most_cpu_s": max(told),
    }
