"""A session opens a cell once and runs commands in it; each command leaves a run folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from affordagent.agent.graph_run import Ask, GraphRun, open_graph
from affordagent.agent.results import RunResult, fields_of, result_of, versions, write_result
from affordagent.agent.resume import abandon, read_run, refuse_after_a_crash, way_on
from affordagent.agent.settings import Settings
from affordagent.agent.tracing import check_tracing, trace
from affordagent.core.errors import AffordAgentError, Refused, StageFailure
from affordagent.core.run_store import RunStore
from affordagent.core.types import FunctionalQuery, PaintedMask, StageRecord
from affordagent.graphs.held import take_over
from affordagent.graphs.state import GraspState, Grounder, Stage, Workbench
from affordagent.robot.interface import Cell
from affordagent.robot.ur5.commander import Commander
from affordagent.robot.ur5.dashboard import Dashboard
from affordagent.tools.grasping.backends import Backend

if TYPE_CHECKING:
    from affordagent.agent.language.llm import Reader
    from affordagent.tools.affordance_vlm import AffordanceTool


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
        return SimCell(scene, noise=settings.noise, seed=settings.seed, record=record, hand_over=settings.hand_over)
    if kind == "frame" and where:
        from affordagent.robot.frame_cell import FrameCell

        return FrameCell(Path(where))
    if kind == "ur5" and where:
        from affordagent.robot.ur5.cell import Ur5Cell

        return Ur5Cell(where, settings.ur5, settings.camera, settings.limits, read_only=settings.dry_run)
    raise AffordAgentError(
        f"unknown cell '{settings.cell}'; use sim, ur5:HOST, or frame:PREFIX (PREFIX_color.png, ...)"
    )


@dataclass(frozen=True)
class Tools:
    """The language and the grounding tools, loaded on first use and shared by all commands of a process."""

    vlm: str = "mini"
    vision_tower: Path | None = None
    second_opinion: str = "tabletop"
    grasps: str = "antipodal"
    language: str = "offline"
    language_within_s: float = 20.0

    def understand(self, text: str, see: Callable[[], NDArray[np.uint8]] | None = None) -> FunctionalQuery:
        """see: the camera's (H, W, 3) RGB picture of now, where the language model is to have it."""
        return self.reader(text, see)

    @cached_property
    def reader(self) -> Reader:
        from affordagent.agent.language.llm import open_reader

        return open_reader(self.language, self.language_within_s)

    def load(self) -> None:
        """Load all models now, so that the first command is as quick as the next."""
        self.grounder.load()  # first: it may be a server that is out of reach
        self.load_language()
        self.fallback.load()
        self.grasp_backend.load()

    def load_language(self) -> None:
        """The offline rules, which stand in for a model that does not answer; the model itself is not asked."""
        from affordagent.agent.language.understand import understand

        _ = self.reader
        understand("hand me the hammer")

    @cached_property
    def grounder(self) -> Grounder:
        from affordagent.tools.vlm import open_grounder

        return open_grounder(self.vlm, self.vision_tower)

    @cached_property
    def fallback(self) -> Grounder:
        from affordagent.tools.fallback import open_fallback

        return open_fallback(self.second_opinion)

    @cached_property
    def namer(self) -> AffordanceTool:
        """The shipped model, which knows the names of things; the grounder itself where it is that."""
        from affordagent.tools.affordance_vlm import AffordanceTool

        return self.grounder if isinstance(self.grounder, AffordanceTool) else AffordanceTool()

    @cached_property
    def grasp_backend(self) -> Backend:
        from affordagent.tools.grasping.backends import open_backend

        return open_backend(self.grasps)


def tools_of(settings: Settings) -> Tools:
    """The tools that settings name, not loaded yet; equal for settings that name the same."""
    eyes_and_hands = (settings.vlm, settings.vision_tower, settings.fallback, settings.grasps)
    return Tools(*eyes_and_hands, settings.language, settings.language_within_s)


def run_folder(root: Path, command: str) -> Path:
    """A new folder name under `root`: time, then the first words of the command."""
    words = "-".join(re.findall(r"[a-z0-9]+", command.lower())[:6]) or "empty"
    return root / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{words[:40]}"


class Session:
    """`with Session(settings) as session: session.run("...")`. The cell is always disconnected at the end. Where `with`
    does not fit, as across the cells of a notebook: `session = Session(settings).open()`, and `session.close()`.

    A session that may move a real arm is the only one on this computer: entering it takes the arm's lock.
    cell: to work in, where it is not the one that the settings name.
    """

    def __init__(
        self, settings: Settings, tools: Tools | None = None, record: bool = False, cell: Cell | None = None
    ) -> None:
        self.settings = settings
        self.tools = tools or tools_of(settings)
        self.cell = cell or open_cell(settings, record)
        self._commander: Commander | None = None
        self._running: GraphRun | None = None

    def __enter__(self) -> Session:
        kind, _, host = self.settings.cell.partition(":")
        check_tracing(self.settings)
        with ExitStack() as opening:
            if kind == "ur5" and not self.settings.dry_run:
                if self.settings.ur5.gripper == "none":
                    raise AffordAgentError(
                        'the settings say [ur5] gripper = "none": nothing can be gripped. Name the gripper, or add '
                        "--dry-run to see what would be planned"
                    )
                self._commander = opening.enter_context(Commander(host))
            if kind == "ur5":
                with Dashboard(host):  # does it answer at all? said before models are loaded
                    pass
            self.tools.load()
            opening.enter_context(self.cell)
            self._opened = opening.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()

    def open(self) -> Session:
        """As `with` does at its beginning: load the tools, connect the cell."""
        return self.__enter__()

    def close(self) -> None:
        """As `with` does at its end."""
        self.__exit__()

    def run(
        self,
        command: str,
        folder: Path,
        *,
        on_stage: Callable[[str], None] = lambda stage: None,
        on_record: Callable[[StageRecord], None] = lambda record: None,
        ask: Ask = lambda question: False,
        swaps: Mapping[str, Stage] | None = None,
        query: FunctionalQuery | None = None,
        held: Path | None = None,
        mask: PaintedMask | None = None,
        finds: bool = False,
    ) -> RunResult:
        """Carry one command through the graph. Nothing is raised for what goes wrong in a stage: the result says it.

        Args:
            on_stage, on_record: called when a stage starts and when it ends.
            ask: answers the question before a motion; the default declines.
            swaps: nodes of the graph that do something else than usual; only in a simulated cell.
            query: what the command means, where a talk has found that out; otherwise its words are read.
            held: folder of the run that left something in the hand: it is delivered, as the query says; nothing is
                looked at or grasped.
            mask: the part to hold, as a person marked it in a picture of this cell: it says which thing and part are
                meant, whatever the words name. The cell is looked at anew, and the run ends with grounding.mask_stale
                where that is not what was marked.
            finds: the thing, and where it is to go, are only looked for: "planned" where they are found; nothing is
                planned or moved.

        Raises:
            AffordAgentError: both `held` and `mask`: what is in the hand cannot be taken by another part.
            StageFailure: ("execute", "execution.interrupted"): a run of this arm was cut off in motion, and has been
                neither resumed nor abandoned.
        """
        if held is not None and mask is not None:
            raise AffordAgentError("the hand holds something: have it put down before a part is marked")
        if self._commander is not None:
            refuse_after_a_crash(self._commander, folder.parent, self.settings.cell)
            if not finds:
                self._commander.remember(folder)
        store = RunStore(folder)
        settings = self.settings.model_dump(mode="json")
        store.event("start", run=folder.name, command=command, settings=settings, versions=versions())
        first, bench = GraspState(command=command), self.workbench(store, on_stage, on_record, swaps)
        if query is not None:
            bench = replace(bench, understand=lambda text: query)
        if mask is not None:
            store.put("painted", mask)
        if held is not None:
            assert query is not None
            take_over(store, RunStore(held))
            store.put("query", query)
            first |= {"held": True, "places": query.destination is not None}
        with open_graph(bench, folder.name) as run:
            self._running = run
            try:
                if finds:
                    state = run.carry_on(first, ask, before="lift" if held is None else "plan_held")
                    return self._ended(store, command, {"outcome": "planned", **state})
                return self._ended(store, command, run.carry_on(first, ask))
            finally:
                self._running = None

    def stop(self) -> None:
        """From any thread and at any time: the arm stops, and the run under way ends before its next stage."""
        running, arm = self._running, self.cell.arm
        if running is not None:
            running.signals.stop_now()
        elif arm is not None:
            arm.stop()

    def resume(
        self,
        folder: Path,
        *,
        on_stage: Callable[[str], None] = lambda stage: None,
        on_record: Callable[[StageRecord], None] = lambda record: None,
        ask: Ask = lambda question: False,
        say: Callable[[str], None] = lambda line: None,
    ) -> RunResult:
        """Go on with a run whose process died, or abandon it; a motion that has begun is never sent again.

        The session must be of the run's cell: `resume.settings_to_resume`. A run that has ended is left as it is; one
        whose next motion is declined too, and can be resumed again.

        Args:
            on_stage, on_record, ask: as for `run`. say: told what was found and what is done about it.

        Raises:
            AffordAgentError: there is no run in `folder`.
            StageFailure: ("execute", code): the arm cannot be read or made ready; the run can be resumed after that.
        """
        left = read_run(folder)
        if left.ended is not None:
            say(f"this run has ended: {left.ended.outcome}")
            return left.ended
        say(left.summary)
        store = RunStore(folder)
        with open_graph(self.workbench(store, on_stage, on_record), left.thread) as run:
            try:
                first = way_on(left, run, ask, say)
            except Refused as refusal:
                return result_of(store, {"outcome": "refused", "failure": fields_of(refusal), "stages": left.stages})
            except StageFailure as failure:
                if failure.code != "execution.interrupted":
                    raise
                return abandon(left, failure, self.settings)
            store.event("resume", found=left.summary)
            return self._ended(store, left.command, run.carry_on(first, ask))

    def _ended(self, store: RunStore, command: str, state: Mapping[str, Any]) -> RunResult:
        result = write_result(store, command, self.settings, state)
        trace(store, self.settings)
        return result

    def _picture(self) -> NDArray[np.uint8]:
        return self.cell.look().color

    def workbench(
        self,
        store: RunStore,
        on_stage: Callable[[str], None] = lambda stage: None,
        on_record: Callable[[StageRecord], None] = lambda record: None,
        swaps: Mapping[str, Stage] | None = None,
    ) -> Workbench:
        """The tools, the cell and the settings as the graph's nodes want them."""
        if swaps and self.cell.is_hardware:
            raise AffordAgentError("faults and repairs are for simulated cells: this one is real")
        from affordagent.robot.kinematics import ArmKinematics
        from affordagent.robot.safety import SafeArm

        settings, arm = self.settings, self.cell.arm
        limits = settings.limits.at_speed(settings.speed)
        return Workbench(
            cell=self.cell,
            arm=None if arm is None else SafeArm(arm, limits, ArmKinematics(settings.arm_model)),
            arm_model=settings.arm_model,
            store=store,
            understand=partial(self.tools.understand, see=self._picture)
            if settings.language_sees
            else self.tools.understand,
            grounder=self.tools.grounder,
            fallback=self.tools.fallback,
            grasp_backend=self.tools.grasp_backend,
            limits=limits,
            hand_over=settings.hand_over,
            sure_above=settings.sure_above,
            present_above=settings.present_above,
            ask_before_motion=settings.confirm or self.cell.is_hardware,
            dry_run=settings.dry_run,
            seed=settings.seed,
            on_stage=on_stage,
            on_record=on_record,
            swaps=swaps or {},
            rival_share=settings.ask_which,
        )
