"""Faults of the grasps, of planning, of the tcp and of execution: wrong poses and paths, an arm that does otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np
from scipy.spatial.transform import Rotation

from affordagent.core.geometry import Array, rigid
from affordagent.core.types import GraspPlan, GraspSet, JointTrajectory
from affordagent.evaluations.causes.injection import Injection, Spoiler, afterwards, noted
from affordagent.graphs.state import Done, GraspState, Stage, Workbench
from affordagent.robot.interface import Arm, ArmState, MotionResult
from affordagent.robot.kinematics import ArmKinematics
from affordagent.robot.model import GRIPPER_ACTUATOR, GRIPPER_PREFIX, MAX_OPENING_M, PREFIX
from affordagent.robot.safety import SafeArm

# ---- grasps ---------------------------------------------------------------------------------------------------------

Regrasp = Callable[[Injection, GraspSet], GraspSet]


def grasping(regrasp: Regrasp) -> Spoiler:
    """The usual stage, and then other grasps."""

    def change(injection: Injection, bench: Workbench) -> dict[str, Any]:
        grasps, T_base_camera = bench.store.get("grasps")
        spoilt = regrasp(injection, grasps)
        bench.store.put("grasps", (spoilt, T_base_camera))
        return {"best_was": float(grasps.score[0]), "best_is": float(spoilt.score[0]), "count": len(spoilt)}

    return afterwards(change)


def badly_ranked(injection: Injection, grasps: GraspSet) -> GraspSet:
    """The worst grasps first, only so many of them kept."""
    return grasps.take(np.argsort(grasps.score, kind="stable")[: int(injection.size)])


def off_mask(injection: Injection, grasps: GraspSet) -> GraspSet:
    """All grasps so many metres beside the part, along the table."""
    angle = injection.rng().uniform(0, 2 * np.pi)
    return moved(grasps, injection.size * np.array([np.cos(angle), np.sin(angle), 0.0]))


def turned(injection: Injection, grasps: GraspSet) -> GraspSet:
    """The hand is turned by so many degrees about the way it approaches."""
    turn = Rotation.from_euler("z", injection.size, degrees=True).as_matrix()
    return replace(grasps, T_base_tcp=grasps.T_base_tcp @ rigid(turn, np.zeros(3)))


def shallow(injection: Injection, grasps: GraspSet) -> GraspSet:
    """The fingers close so many metres before the part."""
    return replace(grasps, T_base_tcp=grasps.T_base_tcp @ rigid(np.eye(3), [0.0, 0.0, -injection.size]))


def moved(grasps: GraspSet, by_m: Array) -> GraspSet:
    """The same grasps elsewhere. by_m: (3,), base frame."""
    return replace(grasps, T_base_tcp=rigid(np.eye(3), by_m) @ grasps.T_base_tcp)


# ---- planning -------------------------------------------------------------------------------------------------------


def wrong_goal(injection: Injection, usual: Stage) -> Stage:
    """The plan leads so many metres beside the grasp that it says it leads to."""

    def stage(bench: Workbench, state: GraspState) -> Done:
        grasps, T_base_camera = bench.store.get("grasps")
        aside = _aside(injection)
        bench.store.put("grasps", (moved(grasps, aside), T_base_camera))
        try:
            done = usual(bench, state)
        finally:
            bench.store.put("grasps", (grasps, T_base_camera))
        plan = bench.store.get("plan")
        bench.store.put("plan", replace(plan, grasp=grasps[plan.grasp_index]))
        return noted(done, injection.record(aside_m=aside))

    return stage


def _aside(injection: Injection) -> Array:
    angle = injection.rng().uniform(0, 2 * np.pi)
    return injection.size * np.array([np.cos(angle), np.sin(angle), 0.2])


Replan = Callable[[Injection, GraspPlan], GraspPlan]


def replanning(replan: Replan) -> Spoiler:
    """The usual stage, and then another plan."""

    def change(injection: Injection, bench: Workbench) -> dict[str, Any]:
        bench.store.put("plan", replan(injection, bench.store.get("plan")))
        return {}

    return afterwards(change)


def short_lift(injection: Injection, plan: GraspPlan) -> GraspPlan:
    """The lift goes up by this share only, in the same time."""
    steps = np.abs(np.diff(plan.lift.positions, axis=0)).sum(axis=1)
    way = np.concatenate([[0.0], np.cumsum(steps)])
    positions = np.stack([np.interp(injection.size * way, way, joint) for joint in plan.lift.positions.T], axis=1)
    return replace(plan, lift=replace(plan.lift, positions=positions))


def start_aside(injection: Injection, plan: GraspPlan) -> GraspPlan:
    """The first motion is planned from so many radians beside where the arm is."""
    positions = plan.to_pregrasp.positions.copy()
    positions[0, 0] += injection.size
    return replace(plan, to_pregrasp=replace(plan.to_pregrasp, positions=positions))


# ---- execution ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FaultyArm:
    """An arm under which a fault lies: its motions and grips are done otherwise, and what it says comes of that."""

    arm: Arm
    follow_instead: Callable[[Arm, JointTrajectory, str], MotionResult] = lambda arm, path, phase: arm.follow(
        path, phase
    )
    grip_instead: Callable[[Arm, float, str], MotionResult] = lambda arm, width_m, phase: arm.grip(width_m, phase)

    def make_ready(self) -> list[str]:
        return self.arm.make_ready()

    def read(self) -> ArmState:
        return self.arm.read()

    def follow(self, trajectory: JointTrajectory, phase: str) -> MotionResult:
        return self.follow_instead(self.arm, trajectory, phase)

    def grip(self, width_m: float, phase: str) -> MotionResult:
        return self.grip_instead(self.arm, width_m, phase)

    def wait(self, duration_s: float, phase: str) -> MotionResult:
        return self.arm.wait(duration_s, phase)

    def stop(self) -> None:
        self.arm.stop()


def by_arm(faulty: Callable[[Injection, Arm], FaultyArm]) -> Spoiler:
    """The usual stage, by an arm with a fault below the safety layer."""

    def spoil(injection: Injection, usual: Stage) -> Stage:
        def stage(bench: Workbench, state: GraspState) -> Done:
            assert bench.arm is not None
            arm = faulty(injection, bench.arm.arm)
            safe = SafeArm(arm, bench.arm.limits, ArmKinematics(bench.arm_model))
            return noted(usual(replace(bench, arm=safe), state), injection.record())

        return stage

    return spoil


def stopping(step: str) -> Callable[[Injection, Arm], FaultyArm]:
    """A protective stop after this share of a motion."""
    return _ending(step, "execution.protective_stop", "the controller stopped the arm")


def losing_link(step: str) -> Callable[[Injection, Arm], FaultyArm]:
    """The link is lost after this share of a motion."""
    return _ending(step, "execution.comms", "the link to the controller is lost")


def _ending(step: str, code: str, message: str) -> Callable[[Injection, Arm], FaultyArm]:

    def faulty(injection: Injection, arm: Arm) -> FaultyArm:
        def follow(arm: Arm, path: JointTrajectory, phase: str) -> MotionResult:
            if phase != step:
                return arm.follow(path, phase)
            done = arm.follow(between(path, 0.0, injection.size), phase)
            error_rad = float(np.abs(done.state.positions - path.positions[-1]).max())
            return MotionResult(False, done.state, error_rad, code, f"{message} during {phase}")

        return FaultyArm(arm, follow_instead=follow)

    return faulty


def dropping(injection: Injection, arm: Arm) -> FaultyArm:
    """The fingers open after this share of the lift."""

    def follow(arm: Arm, path: JointTrajectory, phase: str) -> MotionResult:
        if phase != "lift":
            return arm.follow(path, phase)
        first = arm.follow(between(path, 0.0, injection.size), phase)
        opened = arm.grip(MAX_OPENING_M, phase) if first.reached else first
        return arm.follow(between(path, injection.size, 1.0), phase) if opened.reached else opened

    return FaultyArm(arm, follow_instead=follow)


def half_closed(injection: Injection, arm: Arm) -> FaultyArm:
    """The fingers stop at this opening while they close."""

    def grip(arm: Arm, width_m: float, phase: str) -> MotionResult:
        return arm.grip(injection.size if phase == "close" else width_m, phase)

    return FaultyArm(arm, grip_instead=grip)


def jammed(injection: Injection, arm: Arm) -> FaultyArm:
    """The fingers do not open further than this."""

    def grip(arm: Arm, width_m: float, phase: str) -> MotionResult:
        return arm.grip(min(width_m, injection.size), phase)

    return FaultyArm(arm, grip_instead=grip)


def between(path: JointTrajectory, first: float, last: float) -> JointTrajectory:
    """The piece between two shares of its time."""
    start_s, end_s = first * path.duration_s, last * path.duration_s
    inside = path.times_s[(path.times_s > start_s + 1e-6) & (path.times_s < end_s - 1e-6)]
    times_s = np.concatenate([[start_s], inside, [end_s]])
    positions = np.stack([np.interp(times_s, path.times_s, joint) for joint in path.positions.T], axis=1)
    return JointTrajectory(positions, times_s - start_s)


# ---- another hand ---------------------------------------------------------------------------------------------------

Rebuild = Callable[[Injection, mujoco.MjModel], tuple[Array, Any, Any]]


def rebuilding(rebuild: Rebuild) -> Spoiler:
    """The usual stage in a world where a value of the model is another, and put right afterwards."""

    def spoil(injection: Injection, usual: Stage) -> Stage:
        def stage(bench: Workbench, state: GraspState) -> Done:
            with _set(*rebuild(injection, injection.cell.model)):
                done = usual(bench, state)
            return noted(done, injection.record())

        return stage

    return spoil


@contextmanager
def _set(array: Array, where: Any, value: Any) -> Iterator[None]:
    before = array[where].copy()
    array[where] = value
    try:
        yield
    finally:
        array[where] = before


def slippery(injection: Injection, model: mujoco.MjModel) -> tuple[Array, Any, Any]:
    """The pads' coefficient of friction."""
    pads = [i for i in range(model.ngeom) if _is_pad(model.geom(i).name)]
    return model.geom_friction, (pads, 0), injection.size


def _is_pad(name: str) -> bool:
    return name.startswith(PREFIX + GRIPPER_PREFIX) and name[-4:-1] == "pad"


def weak(injection: Injection, model: mujoco.MjModel) -> tuple[Array, Any, Any]:
    """The fingers close with this share of their force."""
    at = (model.actuator(GRIPPER_ACTUATOR).id, 1)
    return model.actuator_forcerange, at, injection.size * model.actuator_forcerange[at]


def tcp_offset(injection: Injection, model: mujoco.MjModel) -> tuple[Array, Any, Any]:
    """The hand is mounted so many metres beside where the settings say."""
    body = model.body(f"{PREFIX}{GRIPPER_PREFIX}base").id
    aside = injection.rng().normal(size=3)
    return model.body_pos, body, model.body_pos[body] + injection.size * aside / np.linalg.norm(aside)
