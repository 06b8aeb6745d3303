"""One trial of a task, as a row of an evaluation (`evaluations.runner.records`)."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.evaluations.runner.records import RUNS, Row
from affordagent.evaluations.tasks.slide import account_of
from affordagent.evaluations.tasks.stages import TaskRun
from affordagent.evaluations.tasks.table import TASKS, WAYS
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.task_scenes import sample_task_scene

SUITE = "tasks"


@dataclass(frozen=True)
class TaskTrial:
    """task: of TASKS. seed: of the scene and the sentence. setting: of WAYS, for "slide"; else "default"."""

    task: str
    seed: int
    setting: str = "default"
    noise: bool = False

    @property
    def key(self) -> str:
        words = (self.task, str(self.seed), self.setting.replace(", ", "_").replace(" ", "_"))
        return "-".join([*words, *["noise"] * self.noise])


class TaskRow(Row):
    """mode: how a slide failed, of `slide.MODES`. slide: its `SlideAccount`. None for other tasks."""

    mode: str | None
    slide: dict[str, Any] | None


class _NoModels(Tools):
    """A contact task asks no trained model: none is loaded for it."""

    def load(self) -> None:
        """Nothing to load."""


def run_task(trial: TaskTrial, out: Path, tools: Tools) -> TaskRow:
    """Run one trial; its run folder is kept under `out`. tools: with the models, for "pick"."""
    task, scene = TASKS[trial.task], sample_task_scene(trial.task, trial.seed)
    text = task.sentence(scene, np.random.default_rng([trial.seed, 7]))
    cell = SimCell(scene.scene, noise=trial.noise, seed=trial.seed)
    run = TaskRun(trial.task, scene, cell, WAYS[trial.setting])
    thing = scene.scene.object(scene.thing)
    cell.gold = Gold(frozenset({thing.name}))
    settings = Settings(scene="empty", seed=trial.seed, noise=trial.noise)  # the cell is made here
    folder, start_s = out / RUNS / trial.key, time.perf_counter()
    shutil.rmtree(folder, ignore_errors=True)  # of a trial that was cut off
    with Session(settings, tools if trial.task == "pick" else _NoModels(), cell=cell) as session:
        result = session.run(text, folder, swaps=run.swaps())
    judged = result.run_dir / "verdict.json"
    verdict: dict[str, Any] = json.loads(judged.read_text()) if judged.is_file() else {"checks": {}, "measured": {}}
    failure = result.failure or {"stage": None, "code": None, "message": None}
    grounded = [s["evidence"] for s in result.stages if s["stage"] == "ground"]
    row = TaskRow(
        key=trial.key,
        suite=SUITE,
        setting=trial.setting,
        scene=trial.task,
        seed=trial.seed,
        repeat=0,
        noise=trial.noise,
        depth_sigma_m=None,
        thickness_m=None,
        masks="model" if run.way.truth == "none" else "truth",
        command_id=trial.task,
        group=trial.task,
        text=text,
        style="template",
        writer=None,
        language="en",
        distance=None,
        target=thing.name,
        category=thing.category,
        part=None,
        seen=False,
        expected="grasp",
        outcome=result.outcome,
        success=result.outcome == "success",
        sensed_success=None,
        sensed_code=None,
        failure_stage=failure["stage"],
        failure_code=failure["code"],
        failure_message=failure["message"],
        tool=grounded[0].get("tool") if grounded else None,
        confidence=grounded[0].get("confidence") if grounded else None,
        fault=None,
        checks=verdict["checks"],
        measured=verdict["measured"],
        cpu_s={s["stage"]: s["cpu_s"] for s in result.stages},
        wall_s=round(time.perf_counter() - start_s, 2),
        run=f"{RUNS}/{trial.key}",
        attribution=None,
        mode=None,
        slide=None,
    )
    if trial.task == "slide":
        account = account_of(run, row)
        row["mode"], row["slide"] = account.mode, asdict(account)
    return row
