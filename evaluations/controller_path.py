"""Does a grasp end the same way through the whole controller as with the simulated arm alone?

In each scene one grasp is planned, with the query and the mask from the simulator's truth, and executed

- `direct`: by the simulated arm, set-points straight into MuJoCo's servos;
- `nudged`: the same, with everything on the table moved by up to 0.2 mm and each motion shifted by up to 1 ms: what
  differs here is the noise of the simulation itself;
- `controller`: by the driver (ur_rtde, the URCap's socket) on the emulated controller, MuJoCo behind it.

All are judged by the simulator's strict judge. Trials are appended to a file as they end; a restart goes on after them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from affordagent.core.errors import StageFailure
from affordagent.core.types import FunctionalQuery, GraspPlan, JointTrajectory, Mask, PartMask, Verdict
from affordagent.evaluations.statistics import mcnemar, rate
from affordagent.robot.cameras.config import CameraConfig
from affordagent.robot.cameras.emulated import EmulatedCamera
from affordagent.robot.emulator.client import EmulatorClient
from affordagent.robot.emulator.truth import judge
from affordagent.robot.interface import Arm, ArmState, MotionResult
from affordagent.robot.limits import MotionLimits
from affordagent.robot.sim.cell import SimCell
from affordagent.robot.sim.judge import Gold
from affordagent.robot.sim.scene import sample_scene
from affordagent.robot.ur5.config import Ur5Config
from affordagent.tools.depth_projection import lift
from affordagent.tools.execution import ExecutionReport, execute
from affordagent.tools.grasping.propose import propose
from affordagent.tools.motion.plan_grasp import plan_grasp
from affordagent.tools.table import find_objects

NUDGE_M, NUDGE_S = 0.0002, 0.001
MEASURES = {"slip_m": 1e3, "lift_m": 1e3, "rotation_rad": np.rad2deg(1.0)}  # shown in mm and degrees
Row = dict[str, Any]


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


def plan_with_truth(cell: SimCell, limits: MotionLimits | None = None) -> Task:
    """Look, and plan a grasp of the scene's `seed`-th object by its part.

    Raises:
        StageFailure: no plan.
    """
    scene = cell.scene
    target = scene.objects[scene.seed % len(scene.objects)]
    frame = cell.look()
    (thing,) = (t for t in cell.truth() if t.name == target.name)
    cloud = lift(frame, find_objects(frame), PartMask(thing.part_mask, thing.mask, 1.0, "truth"))
    plan = plan_grasp(propose(cloud), cloud, cell.arm.read().positions, limits=limits or MotionLimits())
    part = None if target.obj.part == "body" else target.obj.part
    query = FunctionalQuery(text=f"the {target.category}", intent="pick", category=target.category, part=part)
    return Task(scene.name, scene.seed, target.name, plan, thing.mask, query, Gold(frozenset({target.name}), part))


def run_direct(cell: SimCell, task: Task) -> Row:
    """From the cell's present state."""
    return _run(cell.arm, task, lambda: cell.judge(task.plan, task.mask, task.query))


def run_nudged(cell: SimCell, task: Task, rng: np.random.Generator) -> Row:
    """From the cell's present state, nudged."""
    import mujoco

    free = cell.model.jnt_qposadr[cell.model.jnt_type == mujoco.mjtJoint.mjJNT_FREE]
    for start in free:
        cell.data.qpos[start : start + 2] += rng.uniform(-NUDGE_M, NUDGE_M, 2)
    shift_s = rng.uniform(-NUDGE_S, NUDGE_S)
    plan = replace(
        task.plan, **{n: _shifted(getattr(task.plan, n), shift_s) for n in ("to_pregrasp", "approach", "lift")}
    )
    return run_direct(cell, replace(task, plan=plan))


def _shifted(trajectory: JointTrajectory, shift_s: float) -> JointTrajectory:
    """The same times, later on the same path."""
    times = trajectory.times_s
    shifted = [np.interp(times + shift_s, times, joint) for joint in trajectory.positions.T]
    return JointTrajectory(np.stack(shifted, axis=1), times)


def run_controller(host: str, task: Task, limits: MotionLimits | None = None) -> Row:
    """On the emulator that listens on `host`. The driver connects after the scene is built."""
    from affordagent.robot.ur5.cell import Ur5Cell

    with ExitStack() as stack:
        client = stack.enter_context(EmulatorClient(host))
        client.scene(task.scene, task.seed)
        camera = stack.enter_context(EmulatedCamera(host))
        camera.look()
        config = CameraConfig(source="emulator")
        cell = stack.enter_context(Ur5Cell(host, Ur5Config(), config, limits or MotionLimits()))
        assert cell.arm is not None
        arm = PhaseMarkedArm(cell.arm, client)
        arm.make_ready()
        row = _run(arm, task, lambda: judge(client, camera.view, task.mask, task.query, task.gold))
        state = client.state()
        return row | {"controller": {key: state[key] for key in ("late", "warnings", "safety")}}


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
        "checks": verdict.checks,
        "measured": verdict.measured,
        "final_q": np.round(end.positions, 5).tolist(),
        "duration_s": round(end.stamp_s - start_s, 3),
        "closed_m": round(report.closed_width_m, 5) if report else None,
        "max_error_rad": round(report.max_error_rad, 5) if report else None,
    }


@dataclass(frozen=True)
class Study:
    """seeds of `scene`; repeats: nudged trials a scene. host: for the emulator, on loopback."""

    scene: str
    seeds: range
    repeats: int = 2
    host: str = "127.0.0.1"

    def ways(self) -> list[str]:
        return ["direct", *(f"nudged-{i}" for i in range(self.repeats)), "controller"]


def trials(study: Study, done: set[str]) -> Iterator[Row]:
    """One row for each scene and way whose key is not in `done`; where there is no plan, one row that says so."""
    with _emulator(study.host) as host:
        for seed in study.seeds:
            name = f"{study.scene}-{seed}"
            ways = [way for way in study.ways() if f"{name}-{way}" not in done]
            if ways and f"{name}-plan" not in done:
                for way, row in _scene_trials(study.scene, seed, ways, host):
                    yield {"key": f"{name}-{way}", "scene": study.scene, "seed": seed, "way": way, **row}


@contextmanager
def _emulator(host: str) -> Iterator[str]:
    from affordagent.robot.emulator.process import start_emulator

    with start_emulator(host):
        yield host


def _scene_trials(scene: str, seed: int, ways: list[str], host: str) -> Iterator[tuple[str, Row]]:
    with SimCell(sample_scene(scene, seed)) as cell:
        try:
            task = plan_with_truth(cell)
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
                row = run_controller(host, task)
            yield way, {"target": task.target, **row}


def run(study: Study, file: Path, on_row: Callable[[Row], None] = lambda row: None) -> list[Row]:
    """All rows of the study, those that `file` already holds among them; new ones are appended as they end."""
    known = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    rows = {row["key"]: row for row in known}
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as out:
        for row in trials(study, set(rows)):
            out.write(json.dumps(row) + "\n")
            out.flush()
            rows[row["key"]] = row
            on_row(row)
    wanted = [f"{study.scene}-{seed}-{way}" for seed in study.seeds for way in ("plan", *study.ways())]
    return [rows[key] for key in wanted if key in rows]


def summarise(rows: list[Row]) -> dict[str, Any]:
    """Success of each way with Wilson intervals, outcomes against `direct` (McNemar), differences of what was measured
    (median and largest, mm, degrees, mrad, s)."""
    by_way: dict[str, dict[int, Row]] = {}
    for row in rows:
        by_way.setdefault(row["way"].partition("-")[0] if row["way"] != "plan" else "plan", {})
    scenes = {way: {r["seed"]: r for r in rows if r["way"] == way} for way in {r["way"] for r in rows}}
    direct = scenes.get("direct", {})
    summary: dict[str, Any] = {"scenes": len({r["seed"] for r in rows}), "no_plan": len(scenes.get("plan", {}))}
    for kind in ("direct", "nudged", "controller"):
        found = [r for r in rows if r["way"].partition("-")[0] == kind]
        summary[kind] = {"success": rate(sum(r["success"] for r in found), len(found))}
        if kind != "direct":
            summary[kind]["against_direct"] = _against([(direct[r["seed"]], r) for r in found if r["seed"] in direct])
    return summary


def _against(pairs: list[tuple[Row, Row]]) -> dict[str, Any]:
    lost = sum(a["success"] and not b["success"] for a, b in pairs)
    won = sum(b["success"] and not a["success"] for a, b in pairs)
    differences: dict[str, list[float]] = {name: [] for name in (*MEASURES, "final_q_rad", "duration_s")}
    for a, b in pairs:
        for name in MEASURES:
            if name in a["measured"] and name in b["measured"]:
                differences[name].append(abs(a["measured"][name] - b["measured"][name]))
        differences["final_q_rad"].append(float(np.abs(np.subtract(a["final_q"], b["final_q"])).max()))
        differences["duration_s"].append(abs(a["duration_s"] - b["duration_s"]))
    return {
        "pairs": len(pairs),
        "only_direct_succeeded": lost,
        "only_this_succeeded": won,
        "mcnemar_p": mcnemar(lost, won),
        "differing_seeds": sorted({a["seed"] for a, b in pairs if a["success"] != b["success"]}),
        "differences": {
            name: {"median": round(float(np.median(v)), 6), "max": round(max(v), 6)}
            for name, v in differences.items()
            if v
        },
    }
