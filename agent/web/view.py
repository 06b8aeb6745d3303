"""What the page does when something is pressed, and what it shows after that. No layout here, no robot either."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from affordagent.agent.pictures import overlay as drawn
from affordagent.agent.web import words
from affordagent.agent.web.gate import seat_of
from affordagent.agent.web.history import line_of, run_named, runs_of
from affordagent.agent.web.hub import Entry, Hub, Now
from affordagent.agent.web.masks import Click, edited, segmenter_of
from affordagent.agent.web.picture_files import PictureFiles
from affordagent.agent.web.pictures import overlay
from affordagent.agent.web.scene3d import figure
from affordagent.agent.web.text import shown
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore
from affordagent.core.types import Mask, PartMask

MOST_ANSWERS = 4  # buttons
RUNS_LISTED = 200
PLAN, LIVE = "What it means", "Live camera"
ADD, TAKE = "A click adds", "A click takes away"
TAB_PICTURE, TAB_3D = "picture", "3d"
NO_COOKIE = "This page needs its cookie: allow cookies for this address, and reload."
EDIT_HINT = "Click on the picture: what is under the click is added to the mask, or taken away from it."

Handler = Callable[..., list[Any]]


@dataclass(frozen=True)
class Shown:
    """What a browser's page shows, so that only what has changed is sent again. about: number of the question whose
    answers are on the buttons, which say `answers`. The others are keys of what is shown."""

    tab: str = TAB_PICTURE
    about: int | None = None
    answers: tuple[str, ...] = ()
    talk: int = -1
    picture: tuple[Any, ...] = ()
    why: str = ""
    view_3d: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Edit:
    """A mask that a person edits by clicks in the picture of a run."""

    run: str
    mask: Mask
    clicks: tuple[Click, ...] = ()


class View:
    """The page's handlers. All but the first arguments are what Gradio gives: the page's state, and the request."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._files = PictureFiles()
        self._marking = threading.Lock()  # SAM 2 does one thing at a time

    # ---- what everybody sees --------------------------------------------------------------------------------------

    def refresh(self, page: Shown, mode: str, edit: Edit | None, request: gr.Request) -> list[Any]:
        """The page's state, the talk, the status, the answers' buttons, the picture, why it failed, the 3D view, and
        the buttons of command: a skip for what has not changed."""
        seat = seat_of(request.cookies)
        now, entries = self.hub.now(seat), self.hub.entries()
        run = None if now.run is None else self.hub.root / now.run
        about, answers = _answers(now)
        if now.commander not in (None, seat):
            answers = ()
        ended = next((e.number for e in reversed(entries) if e.kind == "run"), 0)
        new = replace(
            page,
            about=about,
            answers=answers,
            talk=len(entries),
            picture=self._picture_key(now, entries, mode, edit),
            why=words.why(run) if run is not None and ended else "",
            view_3d=(now.run, _steps(entries), ended) if page.tab == TAB_3D else page.view_3d,
        )
        return [
            new,
            words.chat(entries) if new.talk != page.talk else gr.skip(),
            words.status(self.hub.session.cell.name, now, seat),
            *[_button(new, index) if new.answers != page.answers else gr.skip() for index in range(MOST_ANSWERS)],
            self._picture(new.picture, edit) if new.picture != page.picture else gr.skip(),
            new.why if new.why != page.why else gr.skip(),
            figure(run) if run is not None and new.view_3d != page.view_3d else gr.skip(),
            gr.update(visible=now.commander != seat),
            gr.update(visible=now.commander == seat),
        ]

    def turning_to(self, tab: str) -> Handler:
        """For when a tab is opened: what `refresh` gives."""

        def turn(page: Shown, mode: str, edit: Edit | None, request: gr.Request) -> list[Any]:
            return self.refresh(replace(page, tab=tab), mode, edit, request)

        return turn

    def _picture_key(self, now: Now, entries: list[Entry], mode: str, edit: Edit | None) -> tuple[Any, ...]:
        """What the picture is of."""
        if mode == LIVE or now.run is None or now.stage == "execute":
            return ("live", now.pictures)
        if edit is not None and edit.run == now.run:
            return ("edit", now.run, edit.clicks)
        return ("run", now.run, _steps(entries))

    def _picture(self, key: tuple[Any, ...], edit: Edit | None) -> str | None:
        if key[0] == "live":
            return self._files.of(key, self.hub.picture)
        folder = self.hub.root / key[1]
        if key[0] == "edit" and edit is not None:
            return self._edited(edit)
        return self._files.of(key, lambda: overlay(folder)) or self._files.of((*key, "live"), self.hub.picture)

    def _edited(self, edit: Edit) -> str | None:
        """The picture of a run with the mask that is being marked."""

        def draw() -> NDArray[np.uint8]:
            frame = RunStore(self.hub.root / edit.run).get("frame")
            return np.asarray(drawn(frame, None, PartMask(edit.mask, edit.mask, 1.0, "person")))

        return self._files.of(("edit", edit.run, edit.clicks), draw)

    # ---- what the commander does ----------------------------------------------------------------------------------

    def say(self, text: str, page: Shown, mode: str, edit: Edit | None, stops: str, request: gr.Request) -> list[Any]:
        """Text box, note, and what `refresh` gives. What was refused stays in the box."""
        waits = self.hub.now().question
        about = page.about if waits is not None else None
        why = self._said(request, text, about, stops)
        return [gr.skip() if why else "", _note(why), *self.refresh(page, mode, edit, request)]

    def choosing(self, index: int) -> Handler:
        """For the answer's button of that index: note, and what `refresh` gives. What the answer means goes by the
        question that the page of the browser shows."""

        def choose(page: Shown, mode: str, edit: Edit | None, stops: str, request: gr.Request) -> list[Any]:
            why: str | None = "The question has changed: look again, then answer."
            if index < len(page.answers):
                answer = page.answers[index]
                text = ("yes", "no")[index] if page.answers[-1] == "No" else f"choice {index + 1}"
                why = self._said(request, text, page.about, stops, answer)
            return [_note(why), *self.refresh(page, mode, edit, request)]

        return choose

    def _said(self, request: gr.Request, text: str, about: int | None, stops: str, button: str = "") -> str | None:
        seat = seat_of(request.cookies)
        return self.hub.say(seat, text, about, stops=_count(stops), button=button) if seat else NO_COOKIE

    def take(self, page: Shown, mode: str, edit: Edit | None, request: gr.Request) -> list[Any]:
        why = self.hub.take(seat_of(request.cookies)) if seat_of(request.cookies) else NO_COOKIE
        return [_note(why), *self.refresh(page, mode, edit, request)]

    def leave(self, page: Shown, mode: str, edit: Edit | None, request: gr.Request) -> list[Any]:
        why = self.hub.hand_over(seat_of(request.cookies))
        return [_note(why), *self.refresh(page, mode, edit, request)]

    # ---- the mask -------------------------------------------------------------------------------------------------

    def click(self, edit: Edit | None, adds: str, at: gr.SelectData) -> list[Any]:
        """The mask of the latest run after a click: edit, picture, hint."""
        run = self.hub.now().run
        if run is None:
            return [edit, gr.skip(), _note("There is no picture of a run yet: say what you want first.")]
        try:
            store = RunStore(self.hub.root / run)
            before = edit if edit is not None and edit.run == run else Edit(run, _mask_of(store))
            click = Click(*_pixel(at.index), adds == ADD)
            table, sam2 = store.readable("table"), segmenter_of(self.hub.session.tools)
            frame, earlier = store.get("frame"), before.clicks
            mask = edited(frame, before.mask, click, table=table, segmenter=sam2, earlier=earlier)
        except AffordAgentError as error:
            return [edit, gr.skip(), _note(str(error))]
        new = Edit(run, mask, (*before.clicks, click))
        return [new, self._edited(new), _note(f"{int(mask.sum())} pixels are marked.")]

    def start_over(self, page: Shown, mode: str, request: gr.Request) -> list[Any]:
        return [None, EDIT_HINT, *self.refresh(page, mode, None, request)]

    def use(self, edit: Edit | None, page: Shown, mode: str, stops: str, request: gr.Request) -> list[Any]:
        """A new run that takes what was marked: edit, hint, and what `refresh` gives."""
        why: str | None = "Nothing is marked yet: click on the picture."
        if edit is not None:
            run = self.hub.root / edit.run
            why = self.hub.use_mask(seat_of(request.cookies), run, edit.mask, stops=_count(stops))
        left = edit if why else None
        return [left, _note(why) if why else EDIT_HINT, *self.refresh(page, mode, left, request)]

    # ---- earlier runs ---------------------------------------------------------------------------------------------

    def list_runs(self) -> Any:
        lines = runs_of(self.hub.root, RUNS_LISTED)
        return gr.update(choices=[(_label(line), line.name) for line in lines], value=lines[0].name if lines else None)

    def open_run(self, name: str | None) -> list[Any]:
        """Picture, words, and no 3D view yet."""
        try:
            folder = run_named(self.hub.root, str(name))
            line = line_of(folder)
        except AffordAgentError as error:
            return [None, _note(str(error) if name else ""), gr.update(visible=False)]
        return [
            self._files.of(("earlier", folder.name, line.outcome), lambda: overlay(folder)),
            words.run(folder, line),
            gr.update(visible=False),
        ]

    def open_3d(self, name: str | None) -> Any:
        try:
            found = figure(run_named(self.hub.root, str(name)))
        except AffordAgentError:
            return gr.skip()
        return gr.update(value=found, visible=found is not None)


def _answers(now: Now) -> tuple[int | None, tuple[str, ...]]:
    """Number of the question that is open, and what the buttons say."""
    if now.question is not None:
        return now.question.number, ("Yes, move the robot", "No")
    if now.asked is None or now.state != "idle":
        return None, ()
    if now.asked.data.get("kind") == "whether":
        return now.asked.number, ("Yes", "No")
    labels = [shown(str(choice["label"]), 60) for choice in now.asked.data.get("choices", [])]
    return now.asked.number, tuple(f"{i}. {label}" for i, label in enumerate(labels[:MOST_ANSWERS], 1))


def _button(page: Shown, index: int) -> Any:
    there = index < len(page.answers)
    variant = "primary" if there and page.answers[index].startswith("Yes") else "secondary"
    return gr.update(visible=there, value=page.answers[index] if there else "", variant=variant)


def _steps(entries: list[Entry]) -> int:
    """Number of the last entry that may have changed what a run's folder shows."""
    return next((e.number for e in reversed(entries) if e.kind in ("record", "run", "confirm")), 0)


def _mask_of(store: RunStore) -> Mask:
    """The mask of a run; blank where it found none.

    Raises:
        AffordAgentError: it saw nothing.
    """
    part = store.readable("part_mask")
    mask: Mask = np.zeros(store.get("frame").depth_m.shape, bool) if part is None else part.mask
    return mask


def _pixel(index: Any) -> tuple[int, int]:
    """Column and row of a click, as the browser says: whatever it sends.

    Raises:
        AffordAgentError: it is no pair of numbers.
    """
    if not (isinstance(index, list | tuple) and len(index) == 2 and all(isinstance(v, int | float) for v in index)):
        raise AffordAgentError("the click has no place in the picture: click again")
    return int(index[0]), int(index[1])


def _label(line: Any) -> str:
    when = line.when.astimezone().strftime("%m-%d %H:%M")
    return f"{when} · {line.outcome.replace('_', ' ')} · {shown(line.command, 60)}"


def _count(stops: str | None) -> int:
    """What the page's script sends along; no number of stops where it is none."""
    return int(stops) if stops and stops.isascii() and stops.isdigit() and len(stops) < 10 else -1


def _note(text: str | None) -> str:
    return f"<p>{words.escaped(text)}</p>" if text else ""
