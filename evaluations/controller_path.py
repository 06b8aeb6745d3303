"""Does a grasp end the same way through the whole controller as with the simulated arm alone?

In each scene one grasp is planned, with the query and the mask from the simulator's truth, and executed

- `direct`: by the simulated arm, set-points straight into MuJoCo's servos;
- `nudged`: the same, with everything on the table moved by up to 0.2 mm and each motion shifted by up to 1 ms: what
  differs here is the noise of the simulation itself;
- `controller`: as a real cell does it: the safety layer, the driver (ur_rtde, the URCap's socket), and the emulated
  controller with MuJoCo behind it.

All are judged by the simulator's strict judge. Trials are appended to a file as they end; a restart goes on after them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mujoco
import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.types import FunctionalQuery, GraspPlan, JointTrajectory, Mask, PartMask, Verdict
from affordagent.evaluations.statistics import mcnemar, rate
from affordagent.robot.cameras.config import CameraConfig
from affordagent.robot.cameras.emulated import EmulatedCamera
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.emulator.process import start_emulator
from affordagent.robot.emulator.truth import judge
from affordagent.robot.interface import Arm, ArmState, MotionResult
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.limits import MotionLimits
from affordagent.robot.safety import SafeArm
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.scene import sample_scene
from affordagent.robot.ur5.cell import Ur5Cell
from affordagent.robot.ur5.config import Ur5Config
from affordagent.tools.depth_projection import lift
from affordagent.tools.execution import ExecutionReport, execute
from affordagent.tools.grasping.propose import propose
from affordagent.tools.motion.plan_grasp import plan_grasp
from affordagent.tools.table import find_objects

NUDGE_M, NUDGE_S = 0.0002, 0.001
MEASURES = ("slip_m", "lift_m", "rotation_rad")
Row = dict[str, Any]
Grasps = Literal["best", "worst"]


@dataclass(frozen=True)
class Task:
    """One grasp to execute. mask: (H, W) of the object."""

    scene: str
    seed: int
    target: str
    plan: GraspPlan
    mask: Mask
    query: FunctionalQuery
    gold: Gold


@dataclass(frozen=True)
class PhaseMarkedArm:
    """`robot.interface.Arm` that tells the emulator each phase's name before its command, for the log of contacts."""

    arm: Arm
    client: EmulatorClient

    def make_ready(self) -> list[str]:
        return self.arm.make_ready()

    def read(self) -> ArmState:
        return self.arm.read()

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        self.client.phase(phase)
        return self.arm.follow(trajectory, phase)

    def grip(self, width_m: float, phase: str) -> MotionResult:
        self.client.phase(phase)
        return self.arm.grip(width_m, phase)

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        self.client.phase(phase)
        return self.arm.wait(duration_s, phase)

    def stop(self) -> None:
        self.arm.stop()


def plan_with_truth(cell: SimCell, grasps: Grasps = "best") -> Task:
    """Look, and plan a grasp of the scene's `seed`-th object by its part: the best that can be planned, or the worst,
    of which many fail.

    Raises:
        StageFailure: no plan.
    """
    scene = cell.scene
    target = scene.objects[scene.seed % len(scene.objects)]
    frame = cell.look()
    (thing,) = (t for t in cell.truth() if t.name == target.name)
    cloud = lift(frame, find_objects(frame), PartMask(thing.part_mask, thing.mask, 1.0, "truth"))
    proposed = propose(cloud)[:: 1 if grasps == "best" else -1]
    plan = plan_grasp(proposed, cloud, cell.arm.read().positions, limits=MotionLimits())
    part = None if target.obj.part == "body" else target.obj.part
    query = FunctionalQuery(text=f"the {target.category}", intent="pick", category=target.category, part=part)
    return Task(scene.name, scene.seed, target.name, plan, thing.mask, query, Gold(frozenset({target.name}), part))


def run_direct(cell: SimCell, task: Task) -> Row:
    """From the cell's present state."""
    arm = SafeArm(cell.arm, MotionLimits(), ArmKinematics())
    return _run(arm, task, lambda: cell.judge(task.plan, task.mask, task.query))


def run_nudged(cell: SimCell, task: Task, rng: np.random.Generator) -> Row:
    """From the cell's present state, nudged."""
    free = cell.model.jnt_qposadr[cell.model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
    for start in free:
        cell.data.qpos[start : start + 2] += rng.uniform(-NUDGE_M, NUDGE_M, 2)
    shift_s = rng.uniform(-NUDGE_S, NUDGE_S)
    plan = replace(
        task.plan,
        to_pregrasp=_shifted(task.plan.to_pregrasp, shift_s),
        approach=_shifted(task.plan.approach, shift_s),
        lift=_shifted(task.plan.lift, shift_s),
    )
    return run_direct(cell, replace(task, plan=plan))


def _shifted(trajectory: JointTrajectory, shift_s: float) -> JointTrajectory:
    """The same times, later on the same path."""
    times = trajectory.times_s
    shifted = [np.interp(times + shift_s, times, joint) for joint in trajectory.positions.T]
    return JointTrajectory(np.stack(shifted, axis=1), times)


def run_controller(host: str, task: Task) -> Row:
    """On the emulator that listens on `host`. The driver connects after the scene is built."""
    with ExitStack() as stack:
        client = stack.enter_context(EmulatorClient(host))
        client.clear()
        client.scene(task.scene, task.seed)
        camera = stack.enter_context(EmulatedCamera(host))
        camera.look()
        late = client.state()["late"]
        try:
            limits = MotionLimits()
            cell = stack.enter_context(Ur5Cell(host, Ur5Config(), CameraConfig(source="emulator"), limits))
            arm = PhaseMarkedArm(SafeArm(cell.arm, limits, ArmKinematics()), client)
            arm.make_ready()
            row = _run(arm, task, lambda: judge(client, camera.view, task.mask, task.query, task.gold))
        except StageFailure as error:
            row = {"success": False, "code": error.code, "failure": {"code": error.code, "message": error.message}}
        state = client.state()
        return row | {"controller": {"late_ticks": state["late"] - late, "warnings": state["warnings"]}}


def _run(arm: Arm, task: Task, verdict_of: Callable[[], Verdict]) -> Row:
    report: ExecutionReport | None = None
    failure: dict[str, str] | None = None
    start_s = arm.read().stamp_s
    try:
        report = execute(arm, task.plan)
    except StageFailure as error:
        failure = {"code": error.code, "message": error.message}
    end = arm.read()
    verdict = verdict_of()
    return {
        "success": verdict.success and failure is None,
        "code": failure["code"] if failure else verdict.code,
        "failure": failure,
        "checks": {name: bool(passed) for name, passed in verdict.checks.items()},
        "measured": verdict.measured,
        "final_q": np.round(end.positions, 5).tolist(),
        "duration_s": round(end.stamp_s - start_s, 3),
        "closed_m": round(report.closed_width_m, 5) if report else None,
        "max_error_rad": round(report.max_error_rad, 5) if report else None,
    }


@dataclass(frozen=True)
class Study:
    """seeds of `scene`; grasps: which to plan; repeats: nudged trials a scene. host: for the emulator, on loopback."""

    scene: str
    seeds: range
    grasps: Grasps = "best"
    repeats: int = 2
    host: str = "127.0.0.1"

    @property
    def ways(self) -> list[str]:
        return ["direct", *(f"nudged-{i}" for i in range(self.repeats)), "controller"]

    def key(self, seed: int, way: str) -> str:
        return f"{self.scene}-{seed}-{self.grasps}-{way}"


def run(study: Study, file: Path, on_row: Callable[[Row], None] = lambda row: None) -> list[Row]:
    """All rows of the study, those that `file` already holds among them; new ones are appended as they end."""
    known = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    rows = {row["key"]: row for row in known}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        for row in _trials(study, set(rows)):
            out.write(json.dumps(row) + "\n")
            out.flush()
            rows[row["key"]] = row
            on_row(row)
    wanted = [study.key(seed, way) for seed in study.seeds for way in ("plan", *study.ways)]
    return [rows[key] for key in wanted if key in rows]


def _trials(study: Study, done: set[str]) -> Iterator[Row]:
    """A row for each scene and way that is not done; where there is no plan, one row (way `plan`) that says so."""
    waiting = {seed: [way for way in study.ways if study.key(seed, way) not in done] for seed in study.seeds}
    waiting = {seed: ways for seed, ways in waiting.items() if ways and study.key(seed, "plan") not in done}
    if waiting:
        with start_emulator(study.host, scene="empty"):
            for seed, ways in waiting.items():
                for way, row in _scene_trials(study, seed, ways):
                    key = {"key": study.key(seed, way), "scene": study.scene, "seed": seed, "grasps": study.grasps}
                    yield {**key, "way": way, **row}


def _scene_trials(study: Study, seed: int, ways: list[str]) -> Iterator[tuple[str, Row]]:
    with SimCell(sample_scene(study.scene, seed)) as cell:
        try:
            task = plan_with_truth(cell, study.grasps)
        except StageFailure as error:
            yield "plan", {"success": False, "code": error.code}
            return
        cell.gold = task.gold
        start = cell.state_snapshot()
        for way in ways:
            cell.restore(start)
            kind, _, repeat = way.partition("-")
            if kind == "direct":
                row = run_direct(cell, task)
            elif kind == "nudged":
                row = run_nudged(cell, task, np.random.default_rng([seed, int(repeat)]))
            else:
                row = run_controller(study.host, task)
            yield way, {"target": task.target, **row}


def summarise(rows: list[Row]) -> dict[str, Any]:
    """Success of each kind of way with Wilson intervals; outcomes (McNemar) and measures against `direct`."""
    direct = {row["seed"]: row for row in rows if row["way"] == "direct"}
    summary: dict[str, Any] = {
        "scenes": len({row["seed"] for row in rows}),
        "no_plan": sum(row["way"] == "plan" for row in rows),
    }
    for kind in ("direct", "nudged", "controller"):
        found = [row for row in rows if row["way"].partition("-")[0] == kind]
        summary[kind] = {"success": rate(sum(row["success"] for row in found), len(found))}
        if kind != "direct":
            summary[kind] |= _against([(direct[row["seed"]], row) for row in found if row["seed"] in direct])
    return summary


def _against(pairs: list[tuple[Row, Row]]) -> dict[str, Any]:
    """differences: median and largest of what both measured, in the rows' own units."""
    lost = sum(a["success"] and not b["success"] for a, b in pairs)
    won = sum(b["success"] and not a["success"] for a, b in pairs)
    differences: dict[str, list[float]] = {}
    for a, b in pairs:
        for name, value in _differences(a, b).items():
            differences.setdefault(name, []).append(value)
    return {
        "pairs": len(pairs),
        "only_direct_succeeded": lost,
        "only_this_succeeded": won,
        "mcnemar_p": mcnemar(lost, won),
        "other_outcome": sorted({a["seed"] for a, b in pairs if a["code"] != b["code"]}),
        "differences": {
            name: {"median": round(float(np.median(v)), 6), "max": round(max(v), 6)} for name, v in differences.items()
        },
    }


def _differences(a: Row, b: Row) -> dict[str, float]:
    """By what two trials of a scene differ, where both got so far."""
    if "measured" not in a or "measured" not in b:
        return {}
    both = a["measured"].keys() & b["measured"].keys()
    found = {name: abs(a["measured"][name] - b["measured"][name]) for name in MEASURES if name in both}
    found["final_q_rad"] = float(np.abs(np.subtract(a["final_q"], b["final_q"])).max())
    found["duration_s"] = abs(a["duration_s"] - b["duration_s"])
    return found
