"""One run of the grasp graph: its checkpoints on disk, and Ctrl-C."""

from __future__ import annotations

import sqlite3
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.agent.results import fields_of
from affordagent.agent.stopping import StopSignals
from affordagent.core.errors import StageFailure
from affordagent.graphs.stages import stopped
from affordagent.graphs.state import GraspState, Workbench

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph.state import CompiledStateGraph

CHECKPOINTS_FILE = "checkpoints.sqlite"  # in the run folder

Ask = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class GraphRun:
    """A compiled graph, the place of one run in its checkpoints, and the signals that stop it."""

    bench: Workbench
    graph: CompiledStateGraph
    config: RunnableConfig
    signals: StopSignals

    @property
    def values(self) -> dict[str, Any]:
        """The state at the last checkpoint; empty when there is none."""
        return self.graph.get_state(self.config).values

    @property
    def following(self) -> tuple[str, ...]:
        """What runs next; nothing at the end, or when there is no checkpoint."""
        return self.graph.get_state(self.config).next

    def go_back_to_after(self, node: str) -> None:
        """Go on as if `node` had just ended."""
        self.graph.update_state(self.config, {}, as_node=node)

    def carry_on(self, first: GraspState | None, ask: Ask, before: str | None = None) -> dict[str, Any]:
        """Run to the end and return the state; nothing is raised.

        Args:
            first: the state to begin with, None = go on at the last checkpoint.
            ask: answers the question before a motion.
            before: the node to leave the run at, without an outcome; None = none.
        """
        from langgraph.types import Command

        try:
            state: dict[str, Any] = self.graph.invoke(
                first, self.config, durability="sync", interrupt_before=[before] if before else None
            )
            while "__interrupt__" in state:
                answer: Command[Any] = Command(resume=ask(state["__interrupt__"][0].value))
                state = self.graph.invoke(answer, self.config, durability="sync")
        except KeyboardInterrupt:
            state = {**self.values, **_ended(stopped(self.signals.stage))}
        except Exception as error:  # noqa: BLE001  a bug must not lose the run: it is recorded with its traceback
            if self.signals.fired:  # a library made something else of the interrupt
                return {**self.values, **_ended(stopped(self.signals.stage))}
            (self.bench.store.folder / "traceback.txt").write_text(traceback.format_exc())
            message = f"{type(error).__name__}: {error}. This is a bug; traceback.txt in the run folder shows where."
            state = {**self.values, **_ended(StageFailure("internal", "internal.error", message))}
        finally:
            self.signals.closing = True
        return state


@contextmanager
def open_checkpoints(file: Path) -> Iterator[SqliteSaver]:
    """LangGraph's checkpoints in a SQLite file. Only JSON's own types and LangGraph's are read back: no pickles, and no
    class that a changed file may name."""
    from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
    from langgraph.checkpoint.sqlite import SqliteSaver

    with closing(sqlite3.connect(file, check_same_thread=False)) as database:
        yield SqliteSaver(database, serde=JsonPlusSerializer(pickle_fallback=False, allowed_msgpack_modules=None))


@contextmanager
def open_graph(bench: Workbench, thread: str) -> Iterator[GraphRun]:
    """The graph over `bench`, its checkpoints in the run folder under the name `thread`.

    A checkpoint is on the disk before the next stage begins.
    """
    from affordagent.graphs.grasp import build

    arm = bench.arm
    with StopSignals(lambda: None if arm is None else arm.stop()) as signals:

        def on_stage(stage: str) -> None:
            signals.stage = stage
            bench.on_stage(stage)

        watched = replace(bench, on_stage=on_stage, stopped=lambda: signals.fired)
        bench.store.folder.mkdir(parents=True, exist_ok=True)
        with open_checkpoints(bench.store.folder / CHECKPOINTS_FILE) as saver:
            graph = build(watched, saver)
            yield GraphRun(watched, graph, {"configurable": {"thread_id": thread}}, signals)


def _ended(failure: StageFailure) -> GraspState:
    return {"outcome": "failure", "failure": fields_of(failure)}
