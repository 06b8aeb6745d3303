"""Rows of the benchmark for what is around the work: graph, store and events, the talk, the report, the recording.

Each command is carried out once, and its CPU time is divided: what the stages' functions took is the work, as calling
them directly would cost; all else is the agent's. Both sides of a share come from the same run, so that a busy machine
weighs on both alike. The journal of motions is counted as work: it is there so that no motion is sent twice.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.agent import rerun_trace
from affordagent.agent.report import write_report
from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.agent.talk.conversation import Conversation
from affordagent.core.run_store import RunStore
from affordagent.core.types import StageRecord
from affordagent.evaluations.figures import Bench, Figure

COMMANDS = (
    ("kitchen", 2, "pick up the mug by its handle"),
    ("kitchen", 5, "hand me something to flip pancakes with"),
    ("bench", 0, "I need something to drive a nail into the wall"),
    ("packing", 4, "put the screwdriver in the box"),
    ("serving", 3, "pick up the knife"),
    ("mixed", 1, "pick up the nearest thing with a handle"),
)
MOST_SHARE = 0.05  # of a command's CPU time
FIRST_SHOWN_S = 0.3
SIMULATED = ("look", "execute", "verify")  # stages whose time is mostly the simulator's


@dataclass(frozen=True)
class Command:
    """CPU seconds of one command. stages: in the stages' functions, without `put`; real: of these, all but the
    simulator's; put: writing artefacts; around: graph, checkpoints, events, result. talk: around the same run in a
    talk. shown_s: from the turn to the run's first stage, wall clock; shown: the same in CPU seconds."""

    text: str
    outcome: str
    stages: float
    real: float
    put: float
    around: float
    report: float
    trace: float | None
    talk: float
    shown_s: float
    shown: float

    @property
    def whole(self) -> float:
        return self.stages + self.put + self.around

    def as_json(self) -> dict[str, Any]:
        return {name: round(v, 4) if isinstance(v, float) else v for name, v in vars(self).items()}


def overhead(bench: Bench) -> list[Figure]:
    """The agent's share of a command's time, part by part."""
    tools = Tools()
    measured = [measure(bench.scratch / f"overhead-{i}", tools, *one) for i, one in enumerate((COMMANDS[0], *COMMANDS))]
    commands = measured[1:]  # the first one loads what is loaded once
    parts = {"commands": [c.as_json() for c in commands], "warm_up": measured[0].as_json()}
    whole, real = sum(c.whole for c in commands), sum(c.real for c in commands)

    def share(seconds: Callable[[Command], float]) -> float:
        return sum(seconds(c) for c in commands) / whole

    agent, talk = share(lambda c: c.put + c.around), share(lambda c: c.talk)
    shown_s = [c.shown_s for c in commands]
    traced = share(lambda c: c.trace or 0.0)
    beside = agent * whole / (agent * whole + real)
    figures = [
        Figure("a command, without the report", float(np.median([c.whole for c in commands])), "CPU-s", parts=parts),
        Figure("graph, checkpoints, events: share of it", share(lambda c: c.around), ""),
        Figure("artefacts of the run folder: share of it", share(lambda c: c.put), ""),
        Figure("the talk around it: share of it", talk, ""),
        Figure("the agent in all: share of it", agent + talk, "", most=MOST_SHARE),
        Figure("the same beside the work without a simulator", beside, ""),
        Figure("report.html: share of it", share(lambda c: c.report), ""),
        Figure("first stage shown after a turn", float(np.median(shown_s)), "s", most=FIRST_SHOWN_S),
        Figure("first stage shown after a turn, slowest", max(shown_s), "s"),
    ]
    if commands[0].trace is None:
        print("no Rerun (pip install 'affordagent[rerun]'): the recording is left out")
        return figures
    return [
        *figures,
        Figure("trace.rrd: share of it", traced, ""),
        Figure("agent and recording: share of it", agent + talk + traced, "", most=MOST_SHARE),
    ]


def measure(folder: Path, tools: Tools, scene: str, seed: int, text: str) -> Command:
    """One command in a session, then the same one in a talk over the same scene anew."""
    records: list[StageRecord] = []
    traced = importlib.util.find_spec("rerun") is not None
    settings = Settings(scene=scene, seed=seed, rerun=traced)
    with (
        Session(settings, tools) as session,
        timed(RunStore, "put") as puts,
        timed(rerun_trace, "write_trace") as traces,
    ):
        started = time.process_time()
        result = session.run(text, folder / "run", on_record=records.append)
        total = time.process_time() - started - sum(traces)
    put, worked = sum(puts), sum(record.cpu_s for record in records)
    simulated = sum(record.cpu_s for record in records if record.stage in SIMULATED)
    report = _cpu_s(lambda: write_report(result.run_dir))
    trace = sum(traces) if traced else None
    talk, shown_s, shown = _talked(Settings(scene=scene, seed=seed), tools, folder, text)
    real = worked - simulated
    return Command(text, result.outcome, worked - put, real, put, total - worked, report, trace, talk, shown_s, shown)


def _talked(settings: Settings, tools: Tools, folder: Path, text: str) -> tuple[float, float, float]:
    """CPU seconds of a turn around its run; wall and CPU seconds until the run's first stage is told."""
    first: list[tuple[float, float]] = []

    def tell(event: Any) -> None:
        if event.kind == "stage" and event.run is not None and not first:
            first.append((time.perf_counter(), time.process_time()))

    session = Session(settings, tools)
    with session, timed(session, "run") as inside, timed(Tools, "understand") as understood:
        talk = Conversation(session, folder / "talk", tell=tell)
        wall, cpu = time.perf_counter(), time.process_time()
        talk.say(text)
        total = time.process_time() - cpu
    return total - sum(inside) - sum(understood), first[0][0] - wall, first[0][1] - cpu


@contextmanager
def timed(owner: Any, name: str) -> Iterator[list[float]]:
    """CPU seconds of each call of the function `name` of a class, an object or a module meanwhile."""
    seconds: list[float] = []
    work = getattr(owner, name)

    def measured(*args: Any, **more: Any) -> Any:
        started = time.process_time()
        try:
            return work(*args, **more)
        finally:
            seconds.append(time.process_time() - started)

    setattr(owner, name, measured)
    try:
        yield seconds
    finally:
        setattr(owner, name, work)


def _cpu_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
