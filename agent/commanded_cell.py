"""One open session for a program that commands it: plans wait for their word, and each is carried out once.

The session lives on a thread of its own. A plan is a run that has come to the question before its motion; the question
is answered with yes by `grasp` of that plan and by nothing else. One command is under way at a time; `stop` waits for
nothing.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from affordagent.agent.graph_run import GraphRun, open_graph
from affordagent.agent.plan_words import in_words, steps_of
from affordagent.agent.plans import (
    Ended,
    Found,
    OpenPlan,
    Seen,
    Turn,
    check_clear,
    check_unchanged,
    is_in_view,
    positions_of,
    stale,
)
from affordagent.agent.results import RESULT_FILE, versions
from affordagent.agent.session import Session, Tools, run_folder
from affordagent.agent.settings import ASK_WHICH, Settings
from affordagent.agent.talk.conversation import Conversation, Event
from affordagent.core.errors import AffordAgentError, StageFailure
from affordagent.core.run_store import RunStore
from affordagent.graphs.state import GraspState
from affordagent.robot.interface import Cell

VALID_S = 120.0  # a plan that is not carried out by then is planned anew
LONGEST_TEXT = 2000  # characters, as of a command
CLOSE_WITHIN_S = 60.0
YES, NO = "yes", "no"

Activity = Literal["idle", "looking", "finding", "planning", "moving"]


def _nothing(stage: str) -> None:
    """Nobody wants to know which stage begins."""


@dataclass
class _Job:
    """work: what is done in the session's thread; a turn of the talk when it is a text."""

    activity: Activity
    work: Callable[[Session], Any] | str
    done: Future[Any] = field(default_factory=Future)
    on_stage: Callable[[str], None] = _nothing


@dataclass
class _Word:
    """To the plan that waits: go. A check comes before; what it raises is the answer, and the plan is dropped."""

    check: Callable[[Session], None]
    job: _Job


class CommandedCell:
    """`with CommandedCell(settings, root) as cell: cell.plan("hand me the mug").result()`.

    The session opens in the background: the first command waits for it. Methods may be called from any thread; they
    raise StageFailure where a command cannot be taken, and their futures hold what it comes to.

    settings: as for a `Session`; what they say of `confirm` is whether a person is to confirm simulated motions too.
    root: folder of the runs. valid_s: how long a plan may wait. talk: name of the talk that the commands are turns of.
    """

    def __init__(
        self,
        settings: Settings,
        root: Path,
        tools: Tools | None = None,
        cell: Cell | None = None,
        valid_s: float = VALID_S,
        talk: str = "talk",
    ) -> None:
        asking = settings.model_copy(update={"confirm": True, "ask_which": settings.ask_which or ASK_WHICH})
        self.settings, self.root, self.valid_s, self._thread = settings, root, valid_s, talk
        self._make = lambda: Session(asking, tools, cell=cell)
        self._jobs: queue.SimpleQueue[_Job | _Word | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._under_way: Activity = "idle"
        self._plan: OpenPlan | None = None
        self._spent: dict[str, str] = {}  # ids of plans that wait no more, and why
        self._stopped = threading.Event()  # since the last command was taken
        self._ended: AffordAgentError | None = None  # why no command is taken any more
        self._talk: Conversation | None = None
        self._finding: GraphRun | None = None
        self._worker = threading.Thread(target=self._work, name="robot", daemon=True)
        # of the session's thread alone:
        self._next: list[_Job | None] = []  # what a waiting plan made room for
        self._job: _Job | None = None  # the command that the turn is at
        self._events: list[Event] = []  # since it was taken

    def __enter__(self) -> CommandedCell:
        self._worker.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Stops what is under way, then lets go of the cell."""
        self.stop()
        self._jobs.put(None)
        self._worker.join(CLOSE_WITHIN_S)

    # ---- commands, from any thread --------------------------------------------------------------------------------

    def look(self) -> Future[Seen]:
        return self._take(_Job("looking", _look))

    def find(self, text: str, on_stage: Callable[[str], None] = _nothing) -> Future[Found]:
        """What `text` would take. Nothing is planned, nothing moves."""
        words = checked(text)
        return self._take(_Job("finding", lambda session: self._find(session, words, on_stage)))

    def plan(self, text: str, on_stage: Callable[[str], None] = _nothing) -> Future[Turn]:
        """A turn of the talk, up to the question before a motion. A plan that waits makes room."""
        return self._take(_Job("planning", checked(text), on_stage=on_stage))

    def waiting(self, plan_id: str) -> OpenPlan:
        """The plan of that id, if it may still be carried out as far as is known without looking.

        Raises:
            StageFailure: ("execute", "planning.unknown_plan" or "planning.stale").
        """
        with self._lock:
            return self._waiting(plan_id)

    def grasp(self, plan_id: str, on_stage: Callable[[str], None] = _nothing) -> Future[Turn]:
        """Carry out that plan, once, if arm and table are as they were when it was made; then on to the next of its
        turn's motions, which waits for a word of its own."""
        job = _Job("moving", "", on_stage=on_stage)
        with self._lock:
            plan = self._waiting(plan_id)
            self._begin(job)
            self._drop("was carried out already, or tried")
            self._jobs.put(_Word(lambda session: check_unchanged(session, plan), job))
        return job.done

    def stop(self) -> Activity:
        """At any time: the arm stops, what is under way ends, a plan that waits is dropped. Says what was under way."""
        self._stopped.set()
        with self._lock:
            was, talk, finding = self._under_way, self._talk, self._finding
            waited = self._drop("was dropped by a stop")
        if talk is not None:
            talk.stop()
        if finding is not None:
            finding.signals.stop_now()
        if waited:
            self._jobs.put(_Job("idle", _look))  # never done: the turn makes room for it, and ends
        return was

    # ---- under the lock -------------------------------------------------------------------------------------------

    def _take(self, job: _Job) -> Future[Any]:
        with self._lock:
            self._begin(job)
            if job.activity == "planning":
                self._drop("made room for a later one")
            self._jobs.put(job)
        return job.done

    def _begin(self, job: _Job) -> None:
        if self._ended is not None:
            raise StageFailure("look", "tool.unavailable", f"the cell is closed: {self._ended}")
        if self._under_way != "idle":
            raise StageFailure(
                "understand",
                "execution.busy",
                f"the cell is {self._under_way}: one command at a time. Wait for its answer, or stop it",
                under_way=self._under_way,
            )
        self._under_way = job.activity
        self._stopped.clear()
        job.done.set_running_or_notify_cancel()  # who waits for it may go away, and cannot take the answer along

    def _waiting(self, plan_id: str) -> OpenPlan:
        plan = self._plan
        if plan is None or plan.id != plan_id:
            why = self._spent.get(plan_id)
            said = f"that plan {why}" if why else "there is no plan of that id"
            raise StageFailure("execute", "planning.unknown_plan", f"{said}: plan again", spent=why)
        age_s = time.monotonic() - plan.made_s
        if age_s > self.valid_s:
            why = f"it was made {age_s:.0f} s ago, limit {self.valid_s:.0f} s"
            raise stale(why, age_s=round(age_s, 1), limit_s=self.valid_s)
        return plan

    def _drop(self, why: str) -> bool:
        plan, self._plan = self._plan, None
        if plan is not None:
            self._spent[plan.id] = why
        return plan is not None

    # ---- in the session's thread ----------------------------------------------------------------------------------

    def _work(self) -> None:
        end = StageFailure("internal", "internal.error", "the robot's thread ended; its traceback is in the log")
        try:
            with self._make() as session:
                talk = Conversation(
                    session, self.root, self._thread, tell=self._tell, answer=partial(self._answer, session)
                )
                with self._lock:
                    self._talk = talk
                while (job := self._next.pop() if self._next else self._jobs.get()) is not None:
                    if isinstance(job, _Word):  # the run of its plan ended meanwhile
                        self._settle(job.job, stale("its run has ended"))
                    elif job.activity == "planning":
                        self._turn(talk, job)
                    elif job.activity != "idle":
                        self._do(session, job)
            end = StageFailure("look", "tool.unavailable", "the session has ended")
        except AffordAgentError as error:
            end = StageFailure("look", "tool.unavailable", str(error))
        finally:
            self._close(end)

    def _close(self, why: StageFailure) -> None:
        with self._lock:
            self._ended = why
        left = [self._job] if self._job is not None else []
        while not self._jobs.empty():
            job = self._jobs.get()
            left += [job.job if isinstance(job, _Word) else job] if job is not None else []
        for job in left:
            self._settle(job, why)

    def _settle(self, job: _Job, result: Any) -> None:
        """Answer a command: the next one may come."""
        with self._lock:
            self._under_way = "idle"
        if isinstance(result, AffordAgentError):
            job.done.set_exception(result)
        else:
            job.done.set_result(result)

    def _do(self, session: Session, job: _Job) -> None:
        """A look or a find, between turns or while a plan waits."""
        assert not isinstance(job.work, str)
        try:
            self._unless_stopped()
            result = job.work(session)
        except AffordAgentError as error:
            result = error
        self._settle(job, result)

    def _unless_stopped(self) -> None:
        if self._stopped.is_set():
            raise StageFailure("execute", "execution.stopped", "stopped on request")

    def _turn(self, talk: Conversation, job: _Job) -> None:
        assert isinstance(job.work, str)
        self._job, self._events = job, []
        try:
            self._unless_stopped()
            talk.say(job.work)
            result: Any = self._so_far(None)
            if not result.ended:
                self._unless_stopped()
        except AffordAgentError as error:
            result = error
        if self._job is not None:  # else the turn's plan made room: nobody waits for it
            job, self._job = self._job, None
            self._settle(job, result)

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        if event.kind == "stage":
            if self._stopped.is_set() and self._talk is not None:
                self._talk.stop()
            if self._job is not None:
                self._job.on_stage(event.text)

    def _answer(self, session: Session, question: dict[str, Any]) -> str:
        """The talk asks before a motion: the plan waits here for its word, while looks and finds go on, or for
        something that it must make room for."""
        job, plan = self._job, self._opened(session, question["question"])
        assert job is not None  # that asked for it, and has had no answer
        with self._lock:
            if self._stopped.is_set():
                return NO
            self._plan = plan
        self._job = None
        self._settle(job, self._so_far(plan))
        while True:
            coming = self._jobs.get()
            if isinstance(coming, _Word):
                return self._word(session, coming)
            if coming is None or coming.activity in ("planning", "idle"):
                self._next.append(coming)
                return NO
            self._do(session, coming)

    def _word(self, session: Session, word: _Word) -> str:
        self._job, self._events = word.job, []  # first: whatever becomes of the check, the turn's end answers it
        try:
            word.check(session)
            self._unless_stopped()
        except AffordAgentError as error:
            self._job = None
            self._settle(word.job, error)
            return NO
        return YES

    def _so_far(self, plan: OpenPlan | None) -> Turn:
        """What has happened since the command was taken."""
        events = self._events
        asked = next((e for e in reversed(events) if e.kind == "ask"), None)
        question = None if asked is None else {"text": asked.text, "choices": list(asked.data.get("choices", []))}
        ended = tuple(Ended.of(e.run, e.text, e.data["failure"]) for e in events if e.kind == "run" and e.run)
        said = tuple(e.text for e in events if e.kind == "say")
        return Turn(said, plan, question, ended, next((e.run for e in reversed(events) if e.run), None))

    def _opened(self, session: Session, says: str) -> OpenPlan:
        run = next((e.run for e in reversed(self._events) if e.run is not None), None)
        if run is not None and (run / RESULT_FILE).is_file():
            run = None  # the question is of no run: the arm is to leave the camera's view
        steps = () if run is None else steps_of(RunStore(run), session.settings.hand_over)
        return OpenPlan(
            id=secrets.token_urlsafe(9),
            says=says,
            steps=tuple(in_words(step) for step in steps) or ("move the arm out of the camera's view",),
            motion_s=sum(float(step.goal.get("duration_s", 0.0)) for step in steps),
            run=run,
            made_s=time.monotonic(),
            positions=positions_of(session),
            needs_person=self.settings.confirm or session.cell.is_hardware,
        )

    def _find(self, session: Session, text: str, on_stage: Callable[[str], None]) -> Found:
        check_clear(session)
        folder = run_folder(self.root, f"find {text}")
        store = RunStore(folder)
        settings = session.settings.model_dump(mode="json")
        store.event("start", run=folder.name, command=text, settings=settings, versions=versions())
        with open_graph(session.workbench(store, on_stage), folder.name) as run:
            with self._lock:
                self._finding = run
            try:
                self._unless_stopped()
                state = run.carry_on(GraspState(command=text), lambda question: False, before="lift")
            finally:
                with self._lock:
                    self._finding = None
        if (failure := state.get("failure")) is not None:
            raise Ended.of(folder, state["outcome"], failure).as_failure()
        query = store.get("query")
        return Found(query.object_words or query.category or "thing", query.part, store.get("part_mask"), folder)


def checked(text: str) -> str:
    """Raises:
    StageFailure: ("understand", code): no text, or one that is too long.
    """
    if not text.strip():
        raise StageFailure("understand", "language.empty", "the text is empty: say what is wanted")
    if len(text) > LONGEST_TEXT:
        message = f"the text has {len(text)} characters, at most {LONGEST_TEXT} are read"
        raise StageFailure("understand", "language.too_long", message, characters=len(text), limit=LONGEST_TEXT)
    return text


def _look(session: Session) -> Seen:
    from affordagent.tools.table import find_objects

    frame = session.cell.look()
    return Seen(frame, find_objects(frame), is_in_view(session))
