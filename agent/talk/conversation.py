"""A person and the robot talk: turns over one open session, kept in a SQLite file under the talk's name."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from affordagent.agent.graph_run import open_checkpoints
from affordagent.agent.language.words import MAX_CHARACTERS
from affordagent.agent.results import RunResult
from affordagent.agent.session import Session, run_folder
from affordagent.agent.talk import answers
from affordagent.agent.talk.marking import INSTEAD_OF_WORDS, Marked, acts_of, read_marked
from affordagent.agent.talk.outcomes import question_of, summary, thing_of, went_well
from affordagent.agent.talk.reading import aside, read_turn
from affordagent.agent.talk.replies import after_no, is_no, is_yes, is_yes_but, readable
from affordagent.agent.talk.steps import numbered, said_of
from affordagent.agent.talk.telling import Known, is_out_of_the_way, told
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.journal import MOTIONS_FILE, read_motions
from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, Mask, StageRecord
from affordagent.graphs.dialogue import Act, Question, TalkState, build
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.tools.steps import LET_GO

TALKS_FILE = "talks.sqlite"  # in the folder of the runs
NEXT_LIMIT = 50  # acts of one turn
MOST_ASIDES = 30  # questions of the person's that are answered while a motion waits for a yes
STOPPED = "Stopped. Nothing moves."


@dataclass(frozen=True)
class Event:
    """Something to show while a turn is carried out. kind: "say" the robot speaks; "ask" it asks and waits for the next
    turn (data: kind and choices, as in `graphs.dialogue.Question`); "stage" one begins, the turn's own being "read";
    "record" one has ended; "run" a run has ended. run: its folder."""

    kind: Literal["say", "ask", "stage", "record", "run"]
    text: str
    data: dict[str, Any] = field(default_factory=dict)
    run: Path | None = None


class Conversation:
    """`conversation.say("hand me the mug")`, again and again; one turn at a time.

    root: folder of the runs. thread: the talk's name; an earlier talk of that name goes on. tell: gets the events.
    answer: asked before a motion that must be confirmed; gives the person's own words, of which only a plain yes moves
    anything. finds: things are only looked for; nothing is planned or moved.
    """

    def __init__(
        self,
        session: Session,
        root: Path,
        thread: str = "talk",
        *,
        tell: Callable[[Event], None] = lambda event: None,
        answer: Callable[[dict[str, Any]], str] = lambda question: "no",
        finds: bool = False,
    ) -> None:
        self.session, self.root, self.thread = session, root, thread
        self._tell, self._answer = tell, answer
        self.finds = finds
        self._heard = ""  # the turn under way, word for word
        self._under_way: Path | None = None  # the run
        self._instead = ""  # what the person said instead of yes
        self._stopped = threading.Event()  # the turn under way
        self._marked: Marked | None = None  # the part to hold, where the turn under way marks it
        self._holds_now = False  # what an earlier process left in the hand of a simulated arm is gone with it

    def say(self, text: str) -> TalkState:
        """Carry out a turn: the talk's state after it. Nothing is raised for what goes wrong in a stage."""
        self._stopped.clear()
        self._heard = text
        self._tell(Event("stage", "read"))  # who stops from here on stops this turn
        self.root.mkdir(parents=True, exist_ok=True)
        with open_checkpoints(self.root / TALKS_FILE) as saver:
            graph = build(self, saver)
            config: Any = {"configurable": {"thread_id": self.thread}, "recursion_limit": NEXT_LIMIT}
            kept = as_kept(text)
            state = graph.invoke({"text": kept, "turns": [{"who": "person", "text": kept, "run": None}]}, config)
            return TalkState(**state)  # type: ignore[typeddict-item]

    def say_with_mask(self, run: Path, mask: Mask, text: str = "") -> TalkState:
        """A turn that takes the part which the person marked, (H, W) bool, in the picture of a run of this talk. text:
        what to do with it; empty = what that run was to do.

        Raises:
            AffordAgentError: the run saw nothing, or the mask is empty or of another size.
        """
        self._marked = read_marked(run, mask)
        try:
            return self.say(text.strip() or INSTEAD_OF_WORDS)
        finally:
            self._marked = None

    def stop(self) -> None:
        """From any thread and at any time: nothing moves any more, and the turn under way ends."""
        self._stopped.set()
        self.session.stop()

    # ---- the nodes ------------------------------------------------------------------------------------------------

    def read(self, state: TalkState) -> TalkState:
        """What the turn asks for. Acts that an earlier turn left undone are forgotten, never carried out late."""
        if state.get("held") and not (self._holds_now or self.session.cell.is_hardware):
            state = {**state, "held": None}
        acts = self._read(state, lambda: self._acts(state))
        aside = all(act.get("aside") for act in acts)  # then what was asked before is still to be answered
        return {"acts": acts, "asked": state.get("asked") if aside else None, "held": state.get("held")}

    def _read(self, state: TalkState, read: Callable[[], list[Act]]) -> list[Act]:
        try:
            return read()
        except StageFailure as failure:
            return [Act(do="say", text=failure.message)]

    def _acts(self, state: TalkState) -> list[Act]:
        text, understand = state["text"], self.session.tools.understand
        if self._marked is None:
            return read_turn(self._heard, state, understand)
        return acts_of(self._marked, "" if text == INSTEAD_OF_WORDS else text, state, understand)

    def act(self, state: TalkState) -> TalkState:
        """The first of the acts; the others follow only when it went well."""
        if self._stopped.is_set():
            return self._said(STOPPED, None, [], state)
        act, *later = state["acts"]
        if act["do"] == "say":
            return self._said(act["text"], act.get("ask"), later, state, aside=act.get("aside", False))
        if act["do"] == "tell":
            return self._said(self._answer_to(act, state), None, later, state, aside=True)
        if act["do"] == "plan":
            return self._look_for_steps(act, state)
        query = FunctionalQuery.model_validate(act["query"])
        try:
            result = self._run(act, query, state)
        except StageFailure as failure:
            return self._said(failure.message, None, [], state)
        changes = self._after(result, query, state)
        if self._instead:
            text, self._instead = self._instead, ""
            then: TalkState = {**state, **changes}
            acts = self._read(then, lambda: read_turn(text, then, self.session.tools.understand))
            return {**changes, "acts": acts, "asked": None}
        ask = question_of(result, query)
        if ask is not None and later:
            ask |= {"steps": [act, *later], "at": 0}
        done = went_well(result)
        text = summary(result)
        if later and not done and ask is None:
            text += f" I leave out what was to follow: {said_of_acts(later)}."
        said = self._said(text, ask, later if done else [], state)
        said["turns"][0]["run"] = result.run_dir.name
        return {**said, **changes, "counts": _one_more(said["counts"], "runs")}

    def _look_for_steps(self, act: Act, state: TalkState) -> TalkState:
        """Before the first motion of several: is each step's thing there, and where it is to go? Then they are said in
        order, and follow."""
        steps = act["steps"]
        for number in range(act["at"], len(steps)):
            query = FunctionalQuery.model_validate(steps[number]["query"])
            try:
                result = self._run(steps[number], query, state, finds=True)
            except StageFailure as failure:
                return self._said(failure.message, None, [], state)
            if self._stopped.is_set():
                return self._said(STOPPED, None, [], state)
            ask = question_of(result, query)
            if ask is not None:
                ask |= {"steps": steps, "at": number}
                return self._said(ask["text"], ask, [], state)
            if not went_well(result):
                text = f"Step {number + 1}, to {said_of(query)}: {summary(result)} I leave out all {len(steps)} steps."
                return {**self._said(text, None, [], state), "last": result.run_dir.name}
        queries = [FunctionalQuery.model_validate(step["query"]) for step in steps]
        return self._said(f"This is what I do: {numbered(queries)}.", None, steps, state)

    def _said(
        self, text: str, ask: Question | None, later: list[Act], state: TalkState, aside: bool = False
    ) -> TalkState:
        """aside: the question that is open is asked again."""
        counts = dict(state.get("counts") or {})
        turns: list[dict[str, Any]] = [{"who": "robot", "text": text, "run": None}]
        open_ = state.get("asked") if aside else None
        if ask is None:
            self._tell(Event("say", text))
        else:
            counts = _one_more(counts, "questions")
        if open_ is not None:
            turns.append({"who": "robot", "text": open_["text"], "run": None})
        asked = ask or open_
        if asked is not None:
            self._tell(Event("ask", asked["text"] if ask is None else text, _shown(asked)))
        return {"turns": turns, "asked": asked, "acts": later, "counts": counts}

    def _answer_to(self, act: Act, state: TalkState) -> str:
        return told(Known(self.session, self.root, state, self._under_way), act)

    # ---- runs -----------------------------------------------------------------------------------------------------

    def _run(self, act: Act, query: FunctionalQuery, state: TalkState, finds: bool = False) -> RunResult:
        """finds: the thing is only looked for."""
        folder = run_folder(self.root, query.text)
        held, left = state.get("held"), None
        if act["do"] == "deliver":
            if held is None:
                raise StageFailure("plan", "execution.no_contact", "I hold nothing any more.")
            left = self.root / held["run"]
        elif held is not None:
            raise StageFailure(
                "plan",
                "execution.hand_full",
                f'{answers.about_held(held)} Say "put it back", or where it is to go; then I take something else.',
            )
        else:
            self._out_of_the_way(state)
        marked, self._marked = self._marked, None  # what follows in the turn is by words
        self._under_way = folder
        try:
            result = self.session.run(
                query.text,
                folder,
                on_stage=lambda stage: self._begins(stage, folder),
                on_record=lambda record: self._tell(_recorded(record, folder)),
                ask=lambda question: self._confirmed(question, state),
                query=query,
                held=left,
                mask=None if marked is None else marked.painted,
                finds=finds or self.finds,
            )
        finally:
            self._under_way = None
        self._tell(Event("run", result.outcome, {"failure": result.failure}, result.run_dir))
        return result

    def _begins(self, stage: str, folder: Path) -> None:
        self._tell(Event("stage", stage, run=folder))
        if self._stopped.is_set():  # perhaps before this run could be stopped
            self.session.stop()

    def _confirmed(self, question: dict[str, Any], state: TalkState) -> bool:
        """Only a plain yes. A question of the person's is answered, and the motion is asked about again."""
        for _ in range(MOST_ASIDES):
            text = self._answer(question)
            if self._stopped.is_set():
                return False
            if is_yes(text):
                return True
            about = self._aside(text, state)
            if is_yes_but(text):
                self._tell(Event("say", "Only a plain yes moves me; a plain no leaves it."))
            elif about is not None:
                self._tell(Event("say", about["text"] if about["do"] == "say" else self._answer_to(about, state)))
            else:
                self._instead = text.strip() if after_no(text) or not is_no(text) else ""
                return False
        return False

    def _aside(self, text: str, state: TalkState) -> Act | None:
        try:
            return aside(readable(text), {**state, "asked": None}, self.session.tools.understand)
        except StageFailure:  # refused: it is no answer to anything, and the turn that follows says why
            return None

    def _out_of_the_way(self, state: TalkState) -> None:
        """Before a look: an arm that stands elsewhere would be in the picture.

        Raises:
            StageFailure: ("plan", code): no way, or it was not confirmed.
        """
        from affordagent.tools.motion.plan_home import plan_home, seen_points

        session = self.session
        bench = session.workbench(RunStore(self.root))
        arm, limits = bench.arm, bench.limits
        if arm is None or bench.dry_run:
            return
        now = arm.read()
        if is_out_of_the_way(now):
            return
        points = seen_points(session.cell.look(), limits.table_z_m)
        motions = plan_home(now.positions, points, now.gripper_width_m, limits=limits, arm=bench.arm_model)
        question = f"My arm is in the camera's view. Move it away ({len(motions)} motions)?"
        if bench.ask_before_motion and not self._confirmed({"question": question}, state):
            raise StageFailure("plan", "execution.declined", "I cannot see the table past my arm; nothing moved.")
        arm.make_ready()
        if self._stopped.is_set():  # which making ready forgets
            raise StageFailure("plan", "execution.stopped", STOPPED)
        for number, motion in enumerate(motions, 1):
            done = arm.follow(motion, f"home_{number}")
            if not done.reached:
                raise StageFailure("plan", done.code or "execution.tracking", done.message)

    # ---- what is remembered ---------------------------------------------------------------------------------------

    def _after(self, result: RunResult, query: FunctionalQuery, state: TalkState) -> TalkState:
        """Which thing was meant, and whether the hand holds it now."""
        store, held = RunStore(result.run_dir), state.get("held")
        changes: TalkState = {"last": result.run_dir.name}
        if store.has("part_mask"):
            changes["seen"] = result.run_dir.name
        thing = thing_of(store, result, query, held, self.session.settings.arm_model)
        moved = any(s["stage"] == "execute" for s in result.stages)
        if not moved:
            known = thing["at_m"] is None and state.get("thing") is not None
            return changes if known else {**changes, "thing": thing}
        arm = self.session.cell.arm
        steps = {motion.step for motion in read_motions(result.run_dir / MOTIONS_FILE)}
        closed = "close" in steps or self._holds_now
        width_m = arm.read().gripper_width_m if arm is not None else 0.0
        self._holds_now = closed and not steps & {LET_GO, "release"} and width_m >= NOTHING_HELD_M
        return {**changes, "thing": thing, "held": thing if self._holds_now else None}


def said_of_acts(acts: list[Act]) -> str:
    """ "hand you the spoon, put the mug in the box"."""
    steps = [step for act in acts for step in (act["steps"] if act["do"] == "plan" else [act])]
    return ", ".join(said_of(FunctionalQuery.model_validate(step["query"])) for step in steps if step.get("query"))


def _shown(asked: Question) -> dict[str, Any]:
    return {"kind": asked["kind"], "choices": asked["choices"]}


def _one_more(counts: dict[str, int], what: str) -> dict[str, int]:
    return {**counts, what: counts.get(what, 0) + 1}


def _recorded(record: StageRecord, folder: Path) -> Event:
    return Event(
        "record", record.message, {"stage": record.stage, "status": record.status, "code": record.code}, folder
    )


def as_kept(text: str) -> str:
    """A turn as it is written down: at most as long as is read of it, and without half characters, which no file can
    hold."""
    return text[:MAX_CHARACTERS].encode("utf-8", "replace").decode()


def read_talk(root: Path, thread: str) -> list[dict[str, Any]]:
    """The turns of a talk, oldest first; none for a name that nobody used.

    Raises:
        AffordAgentError: the file is no talks file.
    """
    file = root / TALKS_FILE
    if not file.is_file():
        return []
    try:
        with open_checkpoints(file) as saver:
            found = saver.get_tuple({"configurable": {"thread_id": thread}})
    except sqlite3.DatabaseError as error:
        raise AffordAgentError(f"{file} holds no talks ({error}): move it away") from error
    return [] if found is None else list(found.checkpoint["channel_values"].get("turns", []))
