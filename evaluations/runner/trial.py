"""One trial of an evaluation: what is said, in which scene, with which settings; and what came of it as a row.

A trial says all that decides it, so that it can be run again from `trial.json` of its run folder:

    trial = read_trial(folder)
    staged = stage(trial)
    with open_cell(trial, staged) as cell: ...
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import trimesh
from pydantic import BaseModel, ConfigDict

from affordagent.agent.results import RunResult
from affordagent.agent.session import Session, Tools
from affordagent.agent.settings import Settings
from affordagent.core.errors import AffordAgentError
from affordagent.core.run_store import RunStore, write_json
from affordagent.core.types import PartMask
from affordagent.evaluations.commands.command import CommandGold
from affordagent.evaluations.instances import scene_around
from affordagent.evaluations.runner.records import RUNS, FaultRecord, Row
from affordagent.evaluations.runner.truth import TrueTools
from affordagent.finetune.phrases import Split, functional_phrases, sample_text
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.objects import library
from affordagent.robot.sim.objects.model import HouseholdObject
from affordagent.robot.sim.scene import PlacedObject, Scene, sample_scene
from affordagent.robot.sim.sensor import NO_NOISE, SensorNoise

TRIAL_FILE = "trial.json"
REPORTS_FROM = 1000  # scenes below are for development: their texts come from the phrases that may be looked at
CAMERA_M = 0.85  # from the camera to the middle of the table
AROUND = "around"
REPEAT_STRIDE = 1_000_003  # apart from the seeds of other scenes


class Trial(BaseModel):
    """scene: of `affordagent scenes`, or "around:CATEGORY:INSTANCE", a thing among five others. seed: of the scene.
    repeat: the same trial with other random numbers of sensor and sampling.

    Either the text is given, with what is right (gold None = nothing is to be grasped; absent_is_right: saying that the
    thing is not there is right as well), or it is drawn in `style` for the scene's `target`-th thing that can be asked
    for. masks: "truth" = words and mask from the simulator. noise: that of a RealSense. depth_sigma_m: noise of the
    depth alone, at the middle of the table, growing with the square of the distance; instead of `noise`. changes: of
    the default settings. fault: injected, see `evaluations.causes.faults`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    suite: str
    setting: str = "default"
    changes: dict[str, Any] = {}
    scene: str
    seed: int
    repeat: int = 0
    noise: bool = False
    depth_sigma_m: float | None = None
    masks: Literal["model", "truth"] = "model"
    target: int | None = None
    style: Literal["template", "easy", "hard", "natural"] = "template"
    text: str | None = None
    gold: CommandGold | None = None
    expected: Literal["grasp", "ask", "refuse"] = "grasp"
    absent_is_right: bool = False
    command_id: str
    group: str
    writer: str | None = None
    language: str = "en"
    distance: float | None = None
    fault: FaultRecord | None = None

    @property
    def key(self) -> str:
        """Readable, good as a file's name, and another one for every other trial."""
        where = () if self.text is None else (self.scene, str(self.seed))  # else the command's id says it
        words = (self.command_id, *where, self.setting, *([f"r{self.repeat}"] * bool(self.repeat)))
        readable = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "_", word) for word in words)
        digest = hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:10]
        return f"{readable[:100]}-{digest}".lstrip(".-")  # no hidden file, and no option of a command

    @property
    def run_settings(self) -> Settings:
        """The settings of the run.

        Raises:
            AffordAgentError: a change that no settings can have.
        """
        own = {"scene": self.scene, "seed": self.seed + self.repeat * REPEAT_STRIDE, "noise": self.noise}
        return Settings.of({**own, **self.changes})


def read_trial(run: Path) -> Trial:
    """The trial that a run folder is of.

    Raises:
        AffordAgentError: it is of none.
    """
    try:
        return Trial.model_validate_json((run / TRIAL_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise AffordAgentError(f"{run} holds no trial of an evaluation: {error}") from error


@dataclass(frozen=True)
class Staged:
    """A trial on the table. gold: what the judge goes by; target: the thing that is meant. None where nothing is to be
    grasped."""

    scene: Scene
    text: str
    gold: Gold | None
    target: PlacedObject | None


def stage(trial: Trial) -> Staged:
    """The same trial always gives the same scene and text.

    Raises:
        AffordAgentError: no such scene, or the scene does not hold what the trial is about.
    """
    scene = _scene(trial)
    if trial.text is None:
        return _with_text(trial, scene)
    if trial.gold is None:
        return Staged(scene, trial.text, None, None)
    names = trial.gold.names_in(scene)
    if not names:
        raise AffordAgentError(
            f"{trial.key}: the scene {trial.scene}:{trial.seed} holds nothing that fits {trial.gold}"
        )
    labelled = {part for name in names for part in scene.object(name).obj.parts}
    part = trial.gold.part if trial.gold.part in labelled else None  # a mug's rim has no label to be judged by
    return Staged(scene, trial.text, Gold(names, part), scene.object(min(names)))


def _scene(trial: Trial) -> Scene:
    kind, *of = trial.scene.split(":")
    if kind != AROUND:
        return sample_scene(trial.scene, trial.seed)
    category, instance = of
    return scene_around(category, int(instance), trial.seed, trial.scene)


def _with_text(trial: Trial, scene: Scene) -> Staged:
    split: Split = "test" if trial.seed >= REPORTS_FROM else "dev"
    askable = [thing for thing in scene.objects if _can_be_asked_for(thing, scene, split)]
    if trial.target is None or not askable:
        raise AffordAgentError(
            f"{trial.key}: no text is given, and nothing in {trial.scene}:{trial.seed} has {split} phrases"
        )
    assert trial.style != "natural"
    target = scene.objects[0] if trial.scene.startswith(AROUND) else askable[trial.target % len(askable)]
    part = None if target.obj.part == "body" else target.obj.part
    others = {thing.category for thing in scene.objects}
    twins = sum(thing.category == target.category for thing in scene.objects) > 1
    rng = np.random.default_rng([trial.seed, trial.target])
    text = sample_text(rng, target.category, target.obj.colour, part, twins, split, trial.style, others)
    return Staged(scene, text, Gold(frozenset({target.name}), part), target)


def _can_be_asked_for(thing: PlacedObject, scene: Scene, split: Split) -> bool:
    """Is there a phrase without its name that fits nothing else of the scene?"""
    try:
        return bool(functional_phrases(thing.category, split, {o.category for o in scene.objects}))
    except (KeyError, ValueError):
        return False


def open_cell(trial: Trial, staged: Staged) -> SimCell:
    """The cell of a trial, with its gold and its sensor's noise; not entered yet."""
    settings = trial.run_settings
    noise: bool | SensorNoise = settings.noise
    if trial.depth_sigma_m is not None:
        noise = replace(NO_NOISE, axial_per_m=trial.depth_sigma_m / CAMERA_M**2)
    cell = SimCell(staged.scene, noise=noise, seed=settings.seed, hand_over=settings.hand_over)
    cell.gold = staged.gold
    return cell


def run_trial(trial: Trial, out: Path, tools: Tools) -> Row:
    """Run one trial and return its row. The run folder is OUT/runs/KEY; what was there before, of a process that was
    killed, goes."""
    folder = out / RUNS / trial.key
    shutil.rmtree(folder, ignore_errors=True)
    start, cpu_start_s = time.perf_counter(), time.process_time()
    staged = stage(trial)
    cell = open_cell(trial, staged)
    if trial.masks == "truth" and staged.target is not None:
        tools = TrueTools(cell=cell, target=staged.target.name)
    folder.mkdir(parents=True)
    write_json(folder / TRIAL_FILE, trial.model_dump(mode="json"))
    with Session(trial.run_settings, tools, cell=cell) as session:
        opened_cpu_s = time.process_time() - cpu_start_s
        result = session.run(staged.text, folder, swaps=_faulty(trial, cell))
    return _row(trial, staged, result, opened_cpu_s, time.perf_counter() - start)


def _faulty(trial: Trial, cell: SimCell) -> dict[str, Any]:
    if trial.fault is None:
        return {}
    from affordagent.evaluations.causes.faults import Fault, swaps_of

    return swaps_of(Fault(**trial.fault), cell, trial.seed)


def _row(trial: Trial, staged: Staged, result: RunResult, opened_cpu_s: float, wall_s: float) -> Row:
    store, target = RunStore(result.run_dir), staged.target
    verdict = store.get("verdict") if store.has("verdict") else None
    sensed = store.get("sensed_verdict") if store.has("sensed_verdict") else None
    part: PartMask | None = store.get("part_mask") if store.has("part_mask") else None
    success, failure = judged(trial, result)
    cpu_s: dict[str, float] = defaultdict(float, {"open": round(opened_cpu_s, 3)})
    for record in result.stages:
        cpu_s[record["stage"]] += record["cpu_s"]
    return {
        "key": trial.key,
        "suite": trial.suite,
        "setting": trial.setting,
        "scene": trial.scene,
        "seed": trial.seed,
        "repeat": trial.repeat,
        "noise": trial.run_settings.noise,
        "depth_sigma_m": trial.depth_sigma_m,
        "masks": trial.masks,
        "command_id": trial.command_id,
        "group": trial.group,
        "text": staged.text,
        "style": trial.style,
        "writer": trial.writer,
        "language": trial.language,
        "distance": _distance(staged.text) if trial.distance is None else trial.distance,
        "target": None if target is None else target.name,
        "category": None if target is None else target.category,
        "part": None if staged.gold is None else staged.gold.part,
        "seen": target is None or target.category in library.CATEGORIES,
        "thickness_m": None if target is None else round(thickness_m(target.obj), 4),
        "expected": trial.expected,
        "outcome": result.outcome,
        "success": success,
        "sensed_success": None if sensed is None else sensed.success,
        "sensed_code": None if sensed is None else sensed.code,
        "failure_stage": None if failure is None else failure["stage"],
        "failure_code": None if failure is None else failure["code"],
        "failure_message": None if failure is None else failure["message"],
        "tool": None if part is None else part.tool,
        "confidence": None if part is None else round(float(part.confidence), 4),
        "fault": trial.fault,
        "checks": {} if verdict is None else verdict.checks,
        "measured": {} if verdict is None else verdict.measured,
        "cpu_s": {name: round(seconds, 3) for name, seconds in cpu_s.items()},
        "wall_s": round(wall_s, 2),
        "run": f"{RUNS}/{trial.key}",
        "attribution": None,
    }


def _distance(text: str) -> float:
    from affordagent.evaluations.commands.distance import style_distances

    return round(style_distances([text])[0].combined, 4)


def judged(trial: Trial, result: RunResult) -> tuple[bool, dict[str, Any] | None]:
    """Was it right, of what was expected; and if not, stage, code and message of what went wrong."""
    failure = result.failure
    if trial.expected == "grasp":
        return result.outcome == "success", failure
    if trial.expected == "ask":
        right = result.outcome == "needs_clarification"
        code, wanted = "language.ambiguous_unasked", "a question back"
    else:
        absent = failure is not None and failure["code"] == "grounding.not_found"
        right = result.outcome == "refused" or (trial.absent_is_right and absent)
        code, wanted = "language.not_refused", "no motion"
    if right:
        return True, None
    acted = result.outcome in ("success", "planned")
    unasked = {"stage": "understand", "code": code, "message": f"{wanted} was expected, and it grasped"}
    return False, unasked if acted else failure


def thickness_m(thing: HouseholdObject) -> float:
    """The least extent of the part to hold, in its closest box."""
    points = np.vstack([visual.mesh.vertices for visual in thing.visuals if visual.part == thing.part])
    return float(min(trimesh.bounds.oriented_bounds(points)[1]))
