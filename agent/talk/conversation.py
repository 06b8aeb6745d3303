"""A person and the robot talk: turns over one open session, kept in a SQLite file under the talk's name."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from affordagent.agent.graph_run import open_checkpoints
from affordagent.agent.results import RunResult
from affordagent.agent.session import Session, run_folder
from affordagent.agent.talk.marking import INSTEAD_OF_WORDS, Marked, acts_of, read_marked
from affordagent.agent.talk.reading import after_no, is_no, is_yes, read_turn
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.geometry import invert, transform_points
from affordagent.core.journal import MOTIONS_FILE, read_motions
from affordagent.core.run_store import RunStore
from affordagent.core.types import Destination, FunctionalQuery, Mask, StageRecord
from affordagent.graphs.dialogue import Act, Question, TalkState, Thing, build
from affordagent.robot.arms import ArmName
from affordagent.robot.gripper import NOTHING_HELD_M
from affordagent.robot.interface import LOOK_Q
from affordagent.robot.motion_rules import GOAL_TOLERANCE_RAD
from affordagent.tools.steps import LET_GO

TALKS_FILE = "talks.sqlite"  # in the folder of the runs
NEXT_LIMIT = 50  # acts of one turn
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
    anything.
    """

    def __init__(
        self,
        session: Session,
        root: Path,
        thread: str = "talk",
        *,
        tell: Callable[[Event], None] = lambda event: None,
        answer: Callable[[dict[str, Any]], str] = lambda question: "no",
    ) -> None:
        self.session, self.root, self.thread = session, root, thread
        self._tell, self._answer = tell, answer
        self._instead = ""  # what the person said instead of yes
        self._stopped = threading.Event()  # the turn under way
        self._marked: Marked | None = None  # the part to hold, where the turn under way marks it
        self._holds_now = False  # what an earlier process left in the hand of a simulated arm is gone with it

    def say(self, text: str) -> TalkState:
        """Carry out a turn: the talk's state after it. Nothing is raised for what goes wrong in a stage."""
        self._stopped.clear()
        self._tell(Event("stage", "read"))  # who stops from here on stops this turn
        self.root.mkdir(parents=True, exist_ok=True)
        with open_checkpoints(self.root / TALKS_FILE) as saver:
            graph = build(self, saver)
            config: Any = {"configurable": {"thread_id": self.thread}, "recursion_limit": NEXT_LIMIT}
            state = graph.invoke({"text": text, "turns": [{"who": "person", "text": text, "run": None}]}, config)
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
        try:
            acts = self._acts(state)
        except StageFailure as failure:
            acts = [Act(do="say", text=failure.message)]
        return {"acts": acts, "asked": None, "held": state.get("held")}

    def _acts(self, state: TalkState) -> list[Act]:
        text, understand = state["text"], self.session.tools.understand
        if self._marked is None:
            return read_turn(text, state, understand)
        return acts_of(self._marked, "" if text == INSTEAD_OF_WORDS else text, state, understand)

    def act(self, state: TalkState) -> TalkState:
        """The first of the acts; the others follow only when it went well."""
        if self._stopped.is_set():
            return self._said(STOPPED, None, [], state)
        act, *later = state["acts"]
        if act["do"] == "say":
            return self._said(act["text"], act.get("ask"), later, state)
        query = FunctionalQuery.model_validate(act["query"])
        try:
            result = self._run(act, query, state.get("held"))
        except StageFailure as failure:
            return self._said(failure.message, None, [], state)
        self._tell(Event("run", result.outcome, {"failure": result.failure}, result.run_dir))
        changes = self._after(result, query, state)
        if self._instead:
            text, self._instead = self._instead, ""
            return {**changes, **self._next_by(text, {**state, **changes})}
        went_well = result.outcome in ("success", "planned")
        said = self._said(_summary(result), _question(result, query), later if went_well else [], state)
        if later and not went_well:
            self._tell(Event("say", f"I leave out what was to follow ({len(later)} more)."))
        counts = {**said.get("counts", {}), "runs": said.get("counts", {}).get("runs", 0) + 1}
        said["turns"][0]["run"] = result.run_dir.name
        return {**said, **changes, "counts": counts}

    def _next_by(self, text: str, state: TalkState) -> TalkState:
        """The plan was declined with words: they are the next turn."""
        try:
            return {"acts": read_turn(text, state, self.session.tools.understand), "asked": None}
        except StageFailure as failure:
            return self._said(failure.message, None, [], state)

    def _said(self, text: str, ask: Question | None, later: list[Act], state: TalkState) -> TalkState:
        asked = {"kind": ask["kind"], "choices": ask["choices"]} if ask else {}
        self._tell(Event("ask" if ask else "say", text, asked))
        counts = dict(state.get("counts") or {})
        if ask is not None:
            counts["questions"] = counts.get("questions", 0) + 1
        turn = {"who": "robot", "text": text, "run": None}
        return {"turns": [turn], "asked": ask, "acts": later, "counts": counts}

    # ---- runs -----------------------------------------------------------------------------------------------------

    def _run(self, act: Act, query: FunctionalQuery, held: Thing | None) -> RunResult:
        folder = run_folder(self.root, query.text)
        left = None
        if act["do"] == "deliver":
            if held is None:
                raise StageFailure("plan", "execution.no_contact", "I hold nothing any more.")
            left = self.root / held["run"]
        else:
            self._out_of_the_way()
        marked, self._marked = self._marked, None  # what follows in the turn is by words
        return self.session.run(
            query.text,
            folder,
            on_stage=lambda stage: self._begins(stage, folder),
            on_record=lambda record: self._tell(_recorded(record, folder)),
            ask=self._confirmed,
            query=query,
            held=left,
            mask=None if marked is None else marked.painted,
        )

    def _begins(self, stage: str, folder: Path) -> None:
        self._tell(Event("stage", stage, run=folder))
        if self._stopped.is_set():  # perhaps before this run could be stopped
            self.session.stop()

    def _confirmed(self, question: dict[str, Any]) -> bool:
        text = self._answer(question)
        if is_yes(text):
            return True
        self._instead = after_no(text) if is_no(text) else text.strip()
        return False

    def _out_of_the_way(self) -> None:
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
        state = arm.read()
        if np.abs(state.positions - LOOK_Q).max() < GOAL_TOLERANCE_RAD:
            return
        points = seen_points(session.cell.look(), limits.table_z_m)
        motions = plan_home(state.positions, points, state.gripper_width_m, limits=limits, arm=bench.arm_model)
        question = f"My arm is in the camera's view. Move it away ({len(motions)} motions)?"
        if bench.ask_before_motion and not self._confirmed({"question": question}):
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
        at_m = _where(store, result, self.session.settings.arm_model)
        wish = query.model_copy(update={"at_m": None}).model_dump(mode="json")
        thing: Thing = {
            "query": wish if held is None else held["query"],  # as it was first wanted: "no, by the rim" asks for that
            "run": result.run_dir.name,
            "at_m": at_m,
            "ruled_out": [list(p) for p in query.not_at_m],
        }
        moved = any(s["stage"] == "execute" for s in result.stages)
        if not moved:
            return {"thing": thing} if at_m or state.get("thing") is None else {}
        arm = self.session.cell.arm
        steps = {motion.step for motion in read_motions(result.run_dir / MOTIONS_FILE)}
        closed = "close" in steps or self._holds_now
        width_m = arm.read().gripper_width_m if arm is not None else 0.0
        self._holds_now = closed and not steps & {LET_GO, "release"} and width_m >= NOTHING_HELD_M
        return {"thing": thing, "held": thing if self._holds_now else None}


def _where(store: RunStore, result: RunResult, arm: ArmName) -> list[float] | None:
    """(3,) a point of the thing, base frame: where it was seen, or where it has been put."""
    from affordagent.robot.kinematics import ArmKinematics

    if not store.has("cloud"):
        return None
    at = np.median(store.get("cloud").object, axis=0)
    plan = store.get("plan") if store.has("plan") else None
    if plan is not None and plan.delivery is not None and result.outcome == "success":
        T_base_tcp = ArmKinematics(arm).forward(plan.approach.positions[-1])
        at = transform_points(plan.delivery.T_base_tcp @ invert(T_base_tcp), at[None])[0]
    return [float(x) for x in at]


def _recorded(record: StageRecord, folder: Path) -> Event:
    return Event(
        "record", record.message, {"stage": record.stage, "status": record.status, "code": record.code}, folder
    )


def _question(result: RunResult, query: FunctionalQuery) -> Question | None:
    """What a run that needs an answer asks."""
    if result.outcome != "needs_clarification":
        return None
    evidence: dict[str, Any] = result.stages[-1]["evidence"]
    choices = list(evidence.get("choices", []))
    text = str(evidence.get("question") or (result.failure or {}).get("message", ""))
    plain = query.model_dump(mode="json")
    return {"kind": "which" if choices else "what", "text": text, "query": plain, "choices": choices, "acts": []}


def _summary(result: RunResult) -> str:
    """What came of a run, in a sentence or two."""
    query = result.query or {}
    name = query.get("object_words") or query.get("category") or "thing"
    if result.outcome == "success":
        if query.get("intent") == "hand_over":
            return f"You have the {name}."
        if query.get("destination"):
            place = Destination.model_validate(query["destination"]).place
            return f"Done: the {name} is {place}."
        return f"I hold the {name}" + (f" by its {query['part']}." if query.get("part") else ".")
    failure = result.failure or {}
    last = result.stages[-1] if result.stages else {"message": ""}
    return str(failure.get("message") or last["message"])


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
