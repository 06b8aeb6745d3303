"""A session opens a cell once and runs commands in it; each command leaves a run folder."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore, write_json
from affordagent.core.types import FunctionalQuery, OutcomeName, StageRecord
from affordagent.graphs.state import GraspState, Grounder, Workbench
from affordagent.robot.interface import Cell

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

EXIT_CODES: dict[OutcomeName, int] = {
    "success": 0,
    "planned": 0,
    "failure": 1,
    "refused": 3,
    "needs_clarification": 4,
}  # 2 is bad usage
PACKAGES = ("affordagent", "mujoco", "torch", "transformers", "langgraph", "numpy")


@dataclass(frozen=True)
class RunResult:
    """What came of one command."""

    outcome: OutcomeName
    query: dict[str, Any] | None
    stages: list[dict[str, Any]]
    failure: dict[str, Any] | None
    run_dir: Path

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]

    def as_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        keys = ("stage", "status", "code", "duration_s", "message")
        return {
            "outcome": self.outcome,
            "query": self.query,
            "stages": [{k: s[k] for k in keys} for s in self.stages],
            "failure": self.failure,
            "run_dir": str(self.run_dir),
        }


def open_cell(settings: Settings, record: bool = False) -> Cell:
    """The cell that `settings.cell` names. record: keep pictures of simulated motions for a video.

    Raises:
        AffordAgentError: no such kind of cell, or no such scene.
    """
    kind, _, where = settings.cell.partition(":")
    if kind == "sim" and not where:
        from affordagent.robot.sim.cell import SimCell
        from affordagent.robot.sim.scene import sample_scene

        scene = sample_scene(settings.scene, settings.seed)
        return SimCell(scene, noise=settings.noise, seed=settings.seed, record=record)
    if kind == "frame" and where:
        from affordagent.robot.frame_cell import FrameCell

        return FrameCell(Path(where))
    raise AffordAgentError(f"unknown cell '{settings.cell}'; use sim or frame:PREFIX (PREFIX_color.png, ...)")


@dataclass(frozen=True)
class Tools:
    """The language and the grounding tools, loaded on first use and shared by all commands of a process."""

    vlm: str = "mini"
    vision_tower: Path | None = None

    def understand(self, text: str) -> FunctionalQuery:
        from affordagent.agent.language.understand import understand

        return understand(text)

    def load(self) -> None:
        """Load all models now, so that the first command is as quick as the next."""
        self.grounder.load()  # first: it may be a server that is out of reach
        self.understand("hand me the hammer")
        self.fallback.load()

    @cached_property
    def grounder(self) -> Grounder:
        from affordagent.tools.vlm import open_grounder

        return open_grounder(self.vlm, self.vision_tower)

    @cached_property
    def fallback(self) -> Grounder:
        from affordagent.tools.tabletop import TabletopTool

        return TabletopTool()


def run_folder(root: Path, command: str) -> Path:
    """A new folder name under `root`: time, then the first words of the command."""
    words = "-".join(re.findall(r"[a-z0-9]+", command.lower())[:6]) or "empty"
    return root / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{words[:40]}"


class Session:
    """`with Session(settings) as session: session.run("...")`. The cell is always disconnected at the end."""

    def __init__(self, settings: Settings, tools: Tools | None = None, record: bool = False) -> None:
        self.settings = settings
        self.tools = tools or Tools(settings.vlm, settings.vision_tower)
        self.cell = open_cell(settings, record)

    def __enter__(self) -> Session:
        self.tools.load()
        self.cell.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cell.__exit__(*exc)

    def run(
        self,
        command: str,
        folder: Path,
        *,
        on_stage: Callable[[str], None] = lambda stage: None,
        on_record: Callable[[StageRecord], None] = lambda record: None,
        ask: Callable[[dict[str, Any]], bool] = lambda question: False,
    ) -> RunResult:
        """Carry one command through the graph. Nothing is raised for what goes wrong in a stage: the result says it.

        Args:
            on_stage, on_record: called when a stage starts and when it ends.
            ask: answers the question before a motion; the default declines.
        """
        from langgraph.checkpoint.memory import InMemorySaver
        from langgraph.types import Command

        from affordagent.graphs.grasp import build

        store = RunStore(folder)
        settings = self.settings.model_dump(mode="json")
        store.event("start", command=command, settings=settings, versions=versions())
        graph = build(self.workbench(store, on_stage, on_record), checkpointer=InMemorySaver())
        config: RunnableConfig = {"configurable": {"thread_id": folder.name}}
        try:
            state: dict[str, Any] = graph.invoke({"command": command}, config)
            while "__interrupt__" in state:
                answer = ask(state["__interrupt__"][0].value)
                state = graph.invoke(Command(resume=answer), config)
        except Exception as error:  # noqa: BLE001  a bug must not lose the run: it is recorded with its traceback
            (folder / "traceback.txt").write_text(traceback.format_exc())
            state = {**graph.get_state(config).values, **_internal_failure(error)}
        return self._finish(store, command, state)

    def workbench(
        self,
        store: RunStore,
        on_stage: Callable[[str], None] = lambda stage: None,
        on_record: Callable[[StageRecord], None] = lambda record: None,
    ) -> Workbench:
        """The tools, the cell and the settings as the graph's nodes want them."""
        settings = self.settings
        return Workbench(
            cell=self.cell,
            store=store,
            understand=self.tools.understand,
            grounder=self.tools.grounder,
            fallback=self.tools.fallback,
            limits=settings.limits,
            sure_above=settings.sure_above,
            present_above=settings.present_above,
            ask_before_motion=settings.confirm or self.cell.is_hardware,
            seed=settings.seed,
            on_stage=on_stage,
            on_record=on_record,
        )

    def _finish(self, store: RunStore, command: str, state: dict[str, Any]) -> RunResult:
        query = store.get("query").model_dump() if store.has("query") else None
        result = RunResult(
            state["outcome"], query, state.get("stages", []), state.get("failure"), store.folder.resolve()
        )
        store.event("end", outcome=result.outcome, failure=result.failure)
        record = {
            "command": command,
            **result.as_json(),
            "run_dir": None,  # a folder may be moved
            "settings": self.settings.model_dump(mode="json"),
            "versions": versions(),
        }
        write_json(store.folder / "run.json", {k: v for k, v in record.items() if k != "run_dir"})
        return result


def _internal_failure(error: Exception) -> GraspState:
    message = f"{type(error).__name__}: {error}. This is a bug; traceback.txt in the run folder shows where."
    return {"outcome": "failure", "failure": {"stage": "internal", "code": "internal.error", "message": message}}


def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
